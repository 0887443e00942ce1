//! Descriptions of tensors in a chip's memory, as operators take them.

use crate::error::Error;
use crate::memory::Buffer;
use crate::session::Session;
use crate::sys::{self, DataType, ListHandle, ScalarHandle, TensorHandle};

/// A view of a buffer: type, shape and strides. It need not outlive what is launched with
/// it.
pub struct Tensor<'a> {
    buffer: &'a Buffer,
    handle: TensorHandle,
}

impl<'a> Tensor<'a> {
    /// Elements of `shape`, one after the other, from byte `at` of the buffer on.
    ///
    /// # Errors
    /// When it goes beyond the buffer's end, or the call fails.
    pub fn new(
        buffer: &'a Buffer,
        at: usize,
        dtype: DataType,
        shape: &[usize],
    ) -> Result<Self, Error> {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        Self::with_strides(buffer, at, dtype, shape, &strides)
    }

    /// A matrix that stands there row by row, seen with its axes exchanged: `columns x
    /// rows` of `rows x columns` elements.
    ///
    /// # Errors
    /// As for [`Tensor::new`].
    pub fn transposed(
        buffer: &'a Buffer,
        at: usize,
        dtype: DataType,
        rows: usize,
        columns: usize,
    ) -> Result<Self, Error> {
        Self::with_strides(buffer, at, dtype, &[columns, rows], &[1, columns])
    }

    fn with_strides(
        buffer: &'a Buffer,
        at: usize,
        dtype: DataType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self, Error> {
        let elements: usize = shape.iter().product();
        let address = buffer.address(at, elements * dtype.bytes())?;
        let session = buffer.session();
        session.bind()?;
        let wide = |numbers: &[usize]| numbers.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let (shape, strides) = (wide(shape), wide(strides));
        // What lies there, as one row.
        let storage = [elements as i64];
        // SAFETY: the arrays outlive the call, which copies them; the address is of as
        // many bytes on the chip.
        let handle = unsafe {
            (session.functions().aclCreateTensor)(
                shape.as_ptr(),
                shape.len() as u64,
                dtype as i32,
                strides.as_ptr(),
                0,
                sys::FORMAT_ND,
                storage.as_ptr(),
                1,
                address,
            )
        };
        if handle.is_null() {
            return Err(session.library().null("aclCreateTensor"));
        }
        Ok(Self { buffer, handle })
    }

    pub(crate) fn handle(&self) -> TensorHandle {
        self.handle
    }
}

impl Drop for Tensor<'_> {
    fn drop(&mut self) {
        // Nothing is left of one that a list took.
        if self.handle.is_null() {
            return;
        }
        let session = self.buffer.session();
        // SAFETY: the tensor is ours and open.
        let code = unsafe { (session.functions().aclDestroyTensor)(self.handle) };
        session.library().released("aclDestroyTensor", code);
    }
}

/// A list of one tensor: what attention takes keys and values in. The list owns it.
pub(crate) struct TensorList<'a> {
    tensor: Tensor<'a>,
    handle: ListHandle,
}

impl<'a> TensorList<'a> {
    pub(crate) fn new(mut tensor: Tensor<'a>) -> Result<Self, Error> {
        let session = tensor.buffer.session();
        // SAFETY: the pointer is to one handle, which is open.
        let handle = unsafe { (session.functions().aclCreateTensorList)(&tensor.handle, 1) };
        if handle.is_null() {
            return Err(session.library().null("aclCreateTensorList"));
        }
        tensor.handle = std::ptr::null();
        Ok(Self { tensor, handle })
    }

    pub(crate) fn handle(&self) -> ListHandle {
        self.handle
    }
}

impl Drop for TensorList<'_> {
    fn drop(&mut self) {
        let session = self.tensor.buffer.session();
        // SAFETY: the list is ours and open; its tensor goes with it.
        let code = unsafe { (session.functions().aclDestroyTensorList)(self.handle) };
        session.library().released("aclDestroyTensorList", code);
    }
}

/// A number that an operator takes.
pub(crate) struct Scalar<'a> {
    session: &'a Session,
    handle: ScalarHandle,
}

impl<'a> Scalar<'a> {
    pub(crate) fn new(session: &'a Session, mut value: f32) -> Result<Self, Error> {
        let pointer = (&raw mut value).cast();
        // SAFETY: the pointer is to a float that outlives the call, which copies it.
        let handle =
            unsafe { (session.functions().aclCreateScalar)(pointer, DataType::F32 as i32) };
        if handle.is_null() {
            return Err(session.library().null("aclCreateScalar"));
        }
        Ok(Self { session, handle })
    }

    pub(crate) fn handle(&self) -> ScalarHandle {
        self.handle
    }
}

impl Drop for Scalar<'_> {
    fn drop(&mut self) {
        // SAFETY: the scalar is ours and open.
        let code = unsafe { (self.session.functions().aclDestroyScalar)(self.handle) };
        self.session.library().released("aclDestroyScalar", code);
    }
}
