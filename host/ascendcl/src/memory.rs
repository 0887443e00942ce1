//! Memory on a chip.

use std::ffi::c_void;
use std::sync::Arc;

use crate::error::Error;
use crate::session::Session;
use crate::sys;

/// A piece of a chip's memory. It must not be dropped while something that was launched
/// still uses it: synchronise first.
pub struct Buffer {
    session: Arc<Session>,
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: the address is the chip's and never followed here; calls with it are the
// session's, which may go from thread to thread.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `bytes` of memory, with anything in it.
    ///
    /// # Errors
    /// When there is not enough ([`Error::is_memory`]), or `bytes` is 0.
    pub fn new(session: &Arc<Session>, bytes: usize) -> Result<Arc<Self>, Error> {
        if bytes == 0 {
            return Err(Error::Misuse("a buffer of 0 bytes was asked for".into()));
        }
        session.bind()?;
        let mut start = std::ptr::null_mut();
        // SAFETY: the pointer is to an address that outlives the call.
        let code =
            unsafe { (session.functions().aclrtMalloc)(&mut start, bytes, sys::MALLOC_HUGE_FIRST) };
        session.check("aclrtMalloc", code)?;
        if start.is_null() {
            return Err(session.library().null("aclrtMalloc"));
        }
        Ok(Arc::new(Self { session: Arc::clone(session), start, bytes }))
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `data` to the bytes from `at` on, at once; what was launched before need
    /// not have run.
    ///
    /// # Errors
    /// When it goes beyond the end, or the call fails.
    pub fn write(&self, at: usize, data: &[u8]) -> Result<(), Error> {
        let to = self.address(at, data.len())?;
        self.session.bind()?;
        // SAFETY: both ranges hold that many bytes: `data` is a slice, the other was
        // checked.
        let code = unsafe {
            (self.session.functions().aclrtMemcpy)(
                to,
                self.bytes - at,
                data.as_ptr().cast(),
                data.len(),
                sys::HOST_TO_DEVICE,
            )
        };
        self.session.check("aclrtMemcpy", code)
    }

    /// Copies the bytes from `at` on into `data`, at once: what is to be read must have
    /// been waited for.
    ///
    /// # Errors
    /// When it goes beyond the end, or the call fails.
    pub fn read(&self, at: usize, data: &mut [u8]) -> Result<(), Error> {
        let from = self.address(at, data.len())?;
        self.session.bind()?;
        // SAFETY: both ranges hold that many bytes, and `data` is ours to write.
        let code = unsafe {
            (self.session.functions().aclrtMemcpy)(
                data.as_mut_ptr().cast(),
                data.len(),
                from,
                data.len(),
                sys::DEVICE_TO_HOST,
            )
        };
        self.session.check("aclrtMemcpy", code)
    }

    /// Launches a copy of `bytes` from another buffer of the session.
    ///
    /// # Errors
    /// When it goes beyond an end, or the call fails.
    pub fn copy_from(
        &self,
        at: usize,
        from: &Self,
        from_at: usize,
        bytes: usize,
    ) -> Result<(), Error> {
        let (to, source) = (self.address(at, bytes)?, from.address(from_at, bytes)?);
        self.session.bind()?;
        // SAFETY: both ranges were checked; buffers outlive what was launched, which is
        // this type's contract.
        let code = unsafe {
            (self.session.functions().aclrtMemcpyAsync)(
                to,
                self.bytes - at,
                source,
                bytes,
                sys::DEVICE_TO_DEVICE,
                self.session.stream(),
            )
        };
        self.session.check("aclrtMemcpyAsync", code)
    }

    /// The address of the `bytes` from `at` on.
    pub(crate) fn address(&self, at: usize, bytes: usize) -> Result<*mut c_void, Error> {
        if at.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            let problem =
                format!("{bytes} bytes at {at} are beyond a buffer of {} bytes", self.bytes);
            return Err(Error::Misuse(problem));
        }
        Ok(self.start.wrapping_byte_add(at))
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.session.bind_to_release();
        // SAFETY: the memory is ours, and by this type's contract nothing uses it.
        let code = unsafe { (self.session.functions().aclrtFree)(self.start) };
        self.session.library().released("aclrtFree", code);
    }
}
