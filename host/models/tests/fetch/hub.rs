//! The hub as a source, with a server of the test's own in its place.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::common::{World, contents, model};
use aio_models::{Cache, Error, Model, Silent, Source, SourceError};

/// Serves one file, keeping the ranges that were asked for.
struct Hub {
    endpoint: String,
    ranges: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves `contents`; a download stops after `cut` bytes, once, and the
    /// file has the tag `tag`.
    fn start(contents: Vec<u8>, cut: Option<usize>, tag: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&ranges);
        // Ends with the process of the test.
        std::thread::spawn(move || {
            let mut cut = cut;
            for stream in listener.incoming() {
                let range = serve(stream.unwrap(), &contents, &mut cut, &tag);
                asked.lock().unwrap().push(range);
            }
        });
        Self { endpoint, ranges }
    }

    fn cache(&self, world: &World) -> Cache {
        world.cache.clone().with_hub_endpoint(&self.endpoint)
    }
}

fn serve(mut stream: TcpStream, contents: &[u8], cut: &mut Option<usize>, tag: &str) -> String {
    let mut range = String::new();
    let mut request = String::new();
    for line in BufReader::new(&stream).lines() {
        let line = line.unwrap();
        if request.is_empty() {
            request.clone_from(&line);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            value.clone_into(&mut range);
        }
        if line.is_empty() {
            break;
        }
    }
    if !request.starts_with("GET /owner/tiny/resolve/main/tiny.gguf ") {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return request;
    }
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(contents.len(), |end: usize| end + 1);
    let mut body = &contents[start..end];
    let _ = write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\
         \r\nETag: \"{tag}\"\r\nX-Repo-Commit: abcdef\r\nConnection: close\r\n\r\n",
        body.len(),
        end - 1,
        contents.len()
    );
    if body.len() > 1 {
        body = &body[..cut.take().unwrap_or(body.len())];
    }
    let _ = stream.write_all(body);
    range
}

fn hub_model() -> Model {
    Model {
        sources: vec![Source::HuggingFace {
            repo: "owner/tiny".into(),
            file: "tiny.gguf".into(),
            revision: None,
        }],
        ..model()
    }
}

fn only_failure(error: &Error) -> &SourceError {
    let Error::Fetch { failures, .. } = error else { panic!("{error}") };
    &failures.0[0].error
}

#[test]
fn a_broken_download_is_resumed_and_checked() {
    let world = World::new();
    let hub = Hub::start(contents(), Some(1000), model().file.sha256);
    let path = hub.cache(&world).ensure(&hub_model(), &mut Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(world.model_files(), ["tiny/tiny.gguf"]);
    let ranges = hub.ranges.lock().unwrap();
    assert!(ranges.contains(&"1000-".to_owned()), "{ranges:?}");
}

#[test]
fn another_file_is_refused_before_it_is_fetched() {
    let world = World::new();
    let hub = Hub::start(contents(), None, "0".repeat(64));
    let error = hub.cache(&world).ensure(&hub_model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::WrongChecksum { .. }), "{error}");
    let hub = Hub::start(b"other".to_vec(), None, "tag".into());
    let error = hub.cache(&world).ensure(&hub_model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::WrongSize { found: 5, .. }), "{error}");
    assert!(world.model_files().is_empty());
}

#[test]
fn a_file_with_the_wrong_contents_is_deleted() {
    let world = World::new();
    let mut other = contents();
    other[0] = b'x';
    let hub = Hub::start(other, None, "tag".into());
    let error = hub.cache(&world).ensure(&hub_model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::WrongChecksum { .. }), "{error}");
    assert!(world.model_files().is_empty(), "{:?}", world.model_files());
}

#[test]
fn a_missing_file_and_a_missing_hub_are_told_apart() {
    let world = World::new();
    let hub = Hub::start(contents(), None, "tag".into());
    let mut missing = hub_model();
    missing.sources = vec![Source::HuggingFace {
        repo: "owner/gone".into(),
        file: "tiny.gguf".into(),
        revision: Some("v1".into()),
    }];
    let error = hub.cache(&world).ensure(&missing, &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::NotFound { .. }), "{error}");

    // A port that was just free: nobody answers there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = world.cache.clone().with_hub_endpoint(format!("http://{address}"));
    let error = nobody.ensure(&hub_model(), &mut Silent).unwrap_err();
    assert!(matches!(only_failure(&error), SourceError::NoNetwork { .. }), "{error}");
    assert!(world.model_files().is_empty());
}
