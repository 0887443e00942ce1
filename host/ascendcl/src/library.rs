//! The vendor's library: found, opened, initialised once for the process, and finalised.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, meaning};
use crate::sys::{self, Functions, Status};

/// The files that hold the functions. The first must be there; of the others, operators
/// moved between files from release to release.
const FILES: [&str; 6] = [
    "libascendcl.so",
    "libnnopbase.so",
    "libopapi.so",
    "libopapi_math.so",
    "libopapi_nn.so",
    "libopapi_transformer.so",
];

/// The library that is open in this process. It may be initialised only once in a
/// process's life by older versions of CANN, so all devices share it.
static OPEN: Mutex<Option<Arc<Library>>> = Mutex::new(None);

/// The vendor's library, opened and initialised.
pub struct Library {
    functions: Functions,
    /// What was asked for; `None` is the usual places.
    asked: Option<PathBuf>,
    /// Whether we initialised it: else somebody else in this process did, and finalises.
    ours: bool,
    /// Sessions by chip. The vendor resets a chip for the whole process.
    chips: Mutex<BTreeMap<i32, usize>>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Library {
    /// The process's library, opened and initialised by the first who asks. `path` is a
    /// file with all functions or a folder with the vendor's files; without it the
    /// environment tells (`AIO_ASCEND_LIBRARY`, `ASCEND_HOME_PATH`,
    /// `ASCEND_TOOLKIT_HOME`), else the system's loader.
    ///
    /// # Errors
    /// When it is not there, lacks a function or cannot be initialised, or when the
    /// process has opened another one.
    pub fn open(path: Option<&Path>) -> Result<Arc<Self>, Error> {
        let mut open = lock(&OPEN);
        let asked = path.map(Path::to_owned).or_else(|| variable("AIO_ASCEND_LIBRARY"));
        if let Some(library) = &*open {
            if library.asked != asked {
                return Err(Error::Library {
                    reason: "this process has opened it from another place already".into(),
                });
            }
            return Ok(Arc::clone(library));
        }
        let mut library = Self {
            functions: find_functions(asked.as_deref())?,
            asked,
            ours: true,
            chips: Mutex::default(),
        };
        // SAFETY: the argument may be null: no configuration.
        let code = unsafe { (library.functions.aclInit)(std::ptr::null()) };
        if code == sys::REPEAT_INITIALIZE {
            library.ours = false;
        } else {
            library.check("aclInit", code)?;
        }
        let library = Arc::new(library);
        *open = Some(Arc::clone(&library));
        Ok(library)
    }

    /// Finalises the library if it is open and nobody uses it any more: to be called once,
    /// at the end of the process.
    ///
    /// # Errors
    /// When it is still in use, or the call fails; either way it is not called again.
    pub fn finalise() -> Result<(), Error> {
        let mut open = lock(&OPEN);
        let Some(library) = open.take() else { return Ok(()) };
        if Arc::strong_count(&library) > 1 {
            *open = Some(library);
            return Err(Error::Misuse("AscendCL is still in use".into()));
        }
        if !library.ours {
            return Ok(());
        }
        // SAFETY: it is initialised, and no handle is left: each keeps the library.
        let code = unsafe { (library.functions.aclFinalize)() };
        library.check("aclFinalize", code)
    }

    /// How many chips there are.
    ///
    /// # Errors
    /// When the driver does not answer.
    pub fn chips(&self) -> Result<u32, Error> {
        let mut count = 0;
        // SAFETY: the pointer is to a u32 that outlives the call.
        let code = unsafe { (self.functions.aclrtGetDeviceCount)(&mut count) };
        self.check("aclrtGetDeviceCount", code)?;
        Ok(count)
    }

    /// The chip's name, for example "Ascend910B2"; empty where none is known.
    pub fn chip_name(&self) -> String {
        // SAFETY: no argument; the result is checked.
        let name = unsafe { (self.functions.aclrtGetSocName)() };
        // SAFETY: the library gives a string that it keeps, or null.
        unsafe { text(name) }
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// A call's status as a result.
    pub(crate) fn check(&self, call: &'static str, code: Status) -> Result<(), Error> {
        if code == 0 {
            return Ok(());
        }
        Err(Error::Call { call, code, meaning: meaning(code), details: self.details() })
    }

    /// That a call returned nothing.
    pub(crate) fn null(&self, call: &'static str) -> Error {
        Error::Null { call, details: self.details() }
    }

    /// Notes that giving something back failed. There is nobody to tell but the log.
    pub(crate) fn released(&self, call: &'static str, code: Status) {
        if let Err(error) = self.check(call, code) {
            tracing::warn!("{error}");
        }
    }

    /// Takes a chip for one more session.
    pub(crate) fn take_chip(&self, chip: i32) -> Result<(), Error> {
        let mut chips = lock(&self.chips);
        let sessions = chips.entry(chip).or_default();
        if *sessions == 0 {
            // SAFETY: any number may be asked for; those that are no chip are refused.
            let code = unsafe { (self.functions.aclrtSetDevice)(chip) };
            self.check("aclrtSetDevice", code)?;
        }
        *sessions += 1;
        Ok(())
    }

    /// Gives it back, after the session's context is gone.
    pub(crate) fn give_chip(&self, chip: i32) {
        let mut chips = lock(&self.chips);
        let sessions = chips.entry(chip).or_default();
        *sessions = sessions.saturating_sub(1);
        if *sessions == 0 {
            // SAFETY: the chip was set by `take_chip`, and no session is left on it.
            let code = unsafe { (self.functions.aclrtResetDevice)(chip) };
            self.released("aclrtResetDevice", code);
        }
    }

    fn details(&self) -> String {
        // SAFETY: no argument; the result is checked.
        let message = unsafe { (self.functions.aclGetRecentErrMsg)() };
        // SAFETY: the library gives a string of the calling thread's, or null.
        let message = unsafe { text(message) };
        // Of what may be a page, the first line that says something.
        let line = message.lines().map(str::trim).find(|line| !line.is_empty());
        line.map(|line| format!(": {line}")).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// # Safety
/// `string` must be null or end with a zero and stay valid during the call.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// Where the vendor's files may be, each with what to open.
fn places(asked: Option<&Path>) -> Vec<PathBuf> {
    let in_folder = |folder: &Path| FILES.map(|file| folder.join(file)).to_vec();
    if let Some(path) = asked {
        return if path.is_dir() { in_folder(path) } else { vec![path.to_owned()] };
    }
    let home = ["ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"].into_iter().find_map(variable);
    match home {
        Some(home) => in_folder(&home.join("lib64")),
        None => FILES.map(PathBuf::from).to_vec(),
    }
}

fn find_functions(asked: Option<&Path>) -> Result<Functions, Error> {
    let places = places(asked);
    let mut opened = Vec::new();
    for (i, place) in places.iter().enumerate() {
        // SAFETY: opening runs the library's initialisers. It is the vendor's, by its
        // name, or what the operator named.
        match unsafe { libloading::Library::new(place) } {
            // Never closed: its threads and thread-local values outlive our handles.
            Ok(library) => opened.push(std::mem::ManuallyDrop::new(library)),
            Err(error) if i == 0 => {
                let reason = format!("{}: {}", place.display(), with_causes(&error));
                return Err(Error::Library { reason });
            }
            Err(error) => tracing::debug!(place = %place.display(), %error, "not opened"),
        }
    }
    let find = |name: &'static str| {
        // SAFETY: only the address is taken here; `Functions` says what is there.
        let found = opened.iter().find_map(|library| unsafe {
            library.get::<*mut std::ffi::c_void>(name).ok().map(|symbol| *symbol)
        });
        found.filter(|address| !address.is_null()).ok_or_else(|| Error::Function {
            library: places[0].display().to_string(),
            function: name.to_owned(),
        })
    };
    // SAFETY: the addresses are of the vendor's library's functions of these names, which
    // its headers declare as `Functions` has them, and the library is never closed.
    unsafe { Functions::load(find) }
}

/// An error and what caused it, in one line: libloading keeps the loader's own words there.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
