//! Watching a policy's file: says when it has been written anew. Knows nothing
//! of policies; the caller does what is to be done.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// How long a file must be left alone where the system does not say that a
/// writer has closed it.
const QUIET: Duration = Duration::from_millis(100);
/// The same for a file that is being written, where the system says when the writer
/// closes it: that is to be waited for, however slowly it writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls back when a file has changed, until it is dropped.
pub struct FileWatch {
    watcher: Option<RecommendedWatcher>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

/// What an event means for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is whole: a writer closed it, or it was moved here.
    Whole,
    /// It is there, or being written, perhaps.
    Touched,
    /// It is being written, and its closing will be told.
    Written,
}

impl FileWatch {
    /// Watches the file at `path` and calls `changed` on a thread of its own:
    /// at once when a writer has closed it or another file was moved to its
    /// name (as most editors and compilers do), else when nothing has touched
    /// it for a tenth of a second; where closing is told (Linux), for five seconds
    /// once something was written. The folder is what is watched, so that the
    /// file may vanish and come back.
    ///
    /// # Errors
    /// One sentence when the folder cannot be watched.
    pub fn start(path: &Path, changed: impl FnMut() + Send + 'static) -> Result<Self, String> {
        let cannot =
            |error: &dyn std::fmt::Display| format!("cannot watch {}: {error}", path.display());
        let path = std::path::absolute(path).map_err(|error| cannot(&error))?;
        let Some(folder) = path.parent().map(Path::to_owned) else {
            return Err(cannot(&"it is no file"));
        };
        let (sender, events) = channel();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens once the watch is being dropped.
            let _ = sender.send(event);
        })
        .map_err(|error| cannot(&error))?;
        watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|error| cannot(&error))?;
        let thread = std::thread::Builder::new()
            .name("policy-watch".into())
            .spawn(move || watch(&path, &events, changed))
            .map_err(|error| error.to_string())?;
        Ok(Self { watcher: Some(watcher), thread: Some(thread) })
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        // The thread ends when the watcher, and with it the sender, is gone.
        self.watcher = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(path: &PathBuf, events: &Receiver<notify::Result<Event>>, mut changed: impl FnMut()) {
    // How long nothing may happen before the file counts as whole.
    let mut quiet: Option<Duration> = None;
    loop {
        let event = match quiet {
            Some(quiet) => events.recv_timeout(quiet),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Ok(event)) if event.paths.contains(path) => match change(event.kind) {
                Some(Change::Whole) => {
                    quiet = None;
                    changed();
                }
                Some(Change::Touched) => quiet = quiet.or(Some(QUIET)),
                Some(Change::Written) => quiet = Some(PATIENCE),
                None => {}
            },
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("watching {}: {error}", path.display()),
            Err(RecvTimeoutError::Timeout) => {
                quiet = None;
                changed();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn change(kind: EventKind) -> Option<Change> {
    match kind {
        // A file that is moved away is as one that is removed; and what is moved within
        // the folder is told of twice, as where it went to and as both.
        EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Both)) => None,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_)) => Some(Change::Whole),
        EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => {
            Some(Change::Written)
        }
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
            Some(Change::Touched)
        }
        EventKind::Access(_) | EventKind::Remove(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Sender;

    fn next(receiver: &Receiver<String>) -> Option<String> {
        receiver.recv_timeout(Duration::from_secs(20)).ok()
    }

    /// Reports the file's text at each change.
    fn report(path: PathBuf, to: Sender<String>) -> impl FnMut() + Send {
        move || {
            // A file that is gone is no change to report.
            if let Ok(text) = std::fs::read_to_string(&path) {
                let _ = to.send(text);
            }
        }
    }

    /// Waits for a text: some systems tell of a change more than once.
    #[track_caller]
    fn wait_for(receiver: &Receiver<String>, text: &str) {
        while let Some(seen) = next(receiver) {
            if seen == text {
                return;
            }
        }
        panic!("{text:?} was not seen");
    }

    #[test]
    fn a_file_written_in_place_replaced_and_made_anew_is_seen_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.wasm");
        std::fs::write(&path, "1").unwrap();
        let (sender, seen) = channel();
        let _watch = FileWatch::start(&path, report(path.clone(), sender)).unwrap();
        std::fs::write(&path, "2").unwrap();
        wait_for(&seen, "2");
        let other = folder.path().join("policy.wasm~");
        std::fs::write(&other, "3").unwrap();
        std::fs::rename(&other, &path).unwrap();
        wait_for(&seen, "3");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "4").unwrap();
        wait_for(&seen, "4");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_put_in_its_place_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.wasm");
        let (sender, seen) = channel();
        let _watch = FileWatch::start(&path, report(path.clone(), sender)).unwrap();
        for text in ["1", "2", "3"] {
            let other = folder.path().join("policy.wasm~");
            std::fs::write(&other, text).unwrap();
            std::fs::rename(&other, &path).unwrap();
            assert_eq!(next(&seen).as_deref(), Some(text));
        }
        // What there is beyond that would have come by now.
        assert_eq!(seen.recv_timeout(4 * QUIET).ok(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_slow_writer_is_waited_for() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.wasm");
        let (sender, seen) = channel();
        let _watch = FileWatch::start(&path, report(path.clone(), sender)).unwrap();
        let mut file = std::fs::File::create(&path).unwrap();
        for part in ["one ", "two ", "three"] {
            file.write_all(part.as_bytes()).unwrap();
            std::thread::sleep(2 * QUIET);
        }
        drop(file);
        assert_eq!(next(&seen).as_deref(), Some("one two three"), "not a part of it");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_link_made_to_the_name_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, built) = (folder.path().join("policy.wasm"), folder.path().join("built.wasm"));
        std::fs::write(&built, "built").unwrap();
        let (sender, seen) = channel();
        let _watch = FileWatch::start(&path, report(path.clone(), sender)).unwrap();
        std::fs::hard_link(&built, &path).unwrap();
        wait_for(&seen, "built");
    }

    #[test]
    fn a_folder_that_is_not_there_is_refused_by_name() {
        let error = FileWatch::start(Path::new("/nowhere/at/all.wasm"), || {}).unwrap_err();
        assert!(error.starts_with("cannot watch /nowhere/at/all.wasm: "), "{error}");
    }
}
