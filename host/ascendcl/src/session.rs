//! A context and a stream on one chip, and graphs captured on it.

use std::sync::Arc;

use crate::error::Error;
use crate::library::Library;
use crate::memory::Buffer;
use crate::sys::{self, Functions, Handle};

/// A context with one stream on a chip. All that is made of it keeps it alive.
///
/// Whatever is launched runs in order on the stream, some time before
/// [`Session::synchronise`] returns. A session may go from thread to thread: each call
/// makes its context the thread's current one first. Two threads must not launch on the
/// same session at once; a capture would hold what the other launches.
pub struct Session {
    library: Arc<Library>,
    chip: i32,
    context: Handle,
    stream: Handle,
}

// SAFETY: the handles are the vendor's, which may be used from any thread that has made
// the context its current one; every call here does that first.
unsafe impl Send for Session {}
// SAFETY: as above; AscendCL's runtime locks within.
unsafe impl Sync for Session {}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("chip", &self.chip).finish_non_exhaustive()
    }
}

impl Session {
    /// A new context with a stream on the chip of that number.
    ///
    /// # Errors
    /// When there is no such chip, or a call fails; what was made until then is given
    /// back.
    pub fn open(library: &Arc<Library>, chip: i32) -> Result<Arc<Self>, Error> {
        let there = library.chips()?;
        if u32::try_from(chip).map_or(true, |chip| chip >= there) {
            let problem =
                format!("there is no Ascend chip {chip}: the driver knows {there}, counted from 0");
            return Err(Error::Misuse(problem));
        }
        library.take_chip(chip)?;
        // From here on, dropping it gives back what there is.
        let mut session = Self {
            library: Arc::clone(library),
            chip,
            context: std::ptr::null_mut(),
            stream: std::ptr::null_mut(),
        };
        // SAFETY: the pointer is to a handle that outlives the call.
        let code = unsafe { (library.functions().aclrtCreateContext)(&mut session.context, chip) };
        library.check("aclrtCreateContext", code)?;
        session.bind()?;
        // SAFETY: as above; the context is current.
        let code = unsafe { (library.functions().aclrtCreateStream)(&mut session.stream) };
        library.check("aclrtCreateStream", code)?;
        Ok(Arc::new(session))
    }

    /// The library that it is of.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Free and all bytes of the chip's memory.
    ///
    /// # Errors
    /// When the call fails.
    pub fn memory(&self) -> Result<(usize, usize), Error> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are to numbers that outlive the call.
        let code =
            unsafe { (self.functions().aclrtGetMemInfo)(sys::HBM_MEMORY, &mut free, &mut total) };
        self.check("aclrtGetMemInfo", code)?;
        Ok((free, total))
    }

    /// Waits until all that was launched has run.
    ///
    /// # Errors
    /// When something of it failed.
    pub fn synchronise(&self) -> Result<(), Error> {
        let bound = self.bind();
        // Waited for in any case: buffers are given back after this, whatever it says.
        // Where something was launched on this thread, the context is current already.
        // SAFETY: the stream is ours and open.
        let code = unsafe { (self.functions().aclrtSynchronizeStream)(self.stream) };
        bound?;
        self.check("aclrtSynchronizeStream", code)
    }

    /// Holds what `launch` launches instead of running it. `buffers` are those that it
    /// reads and writes: they stay as long as the graph.
    ///
    /// # Errors
    /// When `launch` or a call fails; the stream is then as before.
    pub fn capture<E: From<Error>>(
        self: &Arc<Self>,
        buffers: Vec<Arc<Buffer>>,
        launch: impl FnOnce() -> Result<(), E>,
    ) -> Result<Captured, E> {
        self.bind()?;
        // SAFETY: the stream is ours and not being captured.
        let code = unsafe {
            (self.functions().aclmdlRICaptureBegin)(self.stream, sys::CAPTURE_THREAD_LOCAL)
        };
        self.check("aclmdlRICaptureBegin", code)?;
        let launched = launch();
        let mut model = std::ptr::null_mut();
        // SAFETY: the capture was begun on this thread and stream; the pointer is to a
        // handle that outlives the call.
        let code = unsafe { (self.functions().aclmdlRICaptureEnd)(self.stream, &mut model) };
        // A graph that is not whole is given back like a whole one.
        let captured = (!model.is_null()).then(|| Captured {
            session: Arc::clone(self),
            model,
            _buffers: buffers,
        });
        launched?;
        self.check("aclmdlRICaptureEnd", code)?;
        Ok(captured.ok_or_else(|| self.library.null("aclmdlRICaptureEnd"))?)
    }

    /// Makes the context the thread's current one.
    pub(crate) fn bind(&self) -> Result<(), Error> {
        // SAFETY: the context is ours and open.
        let code = unsafe { (self.functions().aclrtSetCurrentContext)(self.context) };
        self.check("aclrtSetCurrentContext", code)
    }

    /// The same where something is given back, which goes on whatever happens.
    pub(crate) fn bind_to_release(&self) {
        if let Err(error) = self.bind() {
            tracing::warn!("{error}");
        }
    }

    pub(crate) fn functions(&self) -> &Functions {
        self.library.functions()
    }

    pub(crate) fn check(&self, call: &'static str, code: sys::Status) -> Result<(), Error> {
        self.library.check(call, code)
    }

    pub(crate) fn stream(&self) -> Handle {
        self.stream
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.context.is_null() {
            self.bind_to_release();
            if !self.stream.is_null() {
                // SAFETY: the stream is ours; nothing that is made of the session is left.
                let code = unsafe { (self.functions().aclrtDestroyStream)(self.stream) };
                self.library.released("aclrtDestroyStream", code);
            }
            // SAFETY: the context is ours, and its stream is gone.
            let code = unsafe { (self.functions().aclrtDestroyContext)(self.context) };
            self.library.released("aclrtDestroyContext", code);
        }
        self.library.give_chip(self.chip);
    }
}

/// What was launched during a capture, to be run again and again: an `aclmdlRI`.
pub struct Captured {
    session: Arc<Session>,
    model: Handle,
    /// Its tasks hold these buffers' addresses.
    _buffers: Vec<Arc<Buffer>>,
}

// SAFETY: as for the session.
unsafe impl Send for Captured {}
// SAFETY: as for the session.
unsafe impl Sync for Captured {}

impl Captured {
    /// Launches it on its session's stream.
    ///
    /// # Errors
    /// When the call fails.
    pub fn launch(&self) -> Result<(), Error> {
        self.session.bind()?;
        // SAFETY: the graph and the stream are open and of one context.
        let code = unsafe {
            (self.session.functions().aclmdlRIExecuteAsync)(self.model, self.session.stream)
        };
        self.session.check("aclmdlRIExecuteAsync", code)
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.session.bind_to_release();
        // SAFETY: the graph is ours; its session and buffers are still there.
        let code = unsafe { (self.session.functions().aclmdlRIDestroy)(self.model) };
        self.session.library().released("aclmdlRIDestroy", code);
    }
}
