//! Descriptions: tensors, lists of them, scalars, and executors that are not launched.

use crate::books::{Books, Kind, Tensor, call};
use crate::numbers::{F32, size};
use crate::operators::{INVALID, Pointer};
use crate::{HANDLE, Handle, Status};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateTensor(
    shape: *const i64,
    axes: u64,
    dtype: i32,
    strides: *const i64,
    offset: i64,
    format: i32,
    storage: *const i64,
    storage_axes: u64,
    address: Handle,
) -> Pointer {
    create("aclCreateTensor", |books| {
        let list = |at: *const i64, n: u64| -> Vec<usize> {
            // SAFETY: the caller has `n` numbers at `at`.
            unsafe { std::slice::from_raw_parts(at, n as usize) }
                .iter()
                .map(|&n| n as usize)
                .collect()
        };
        let (shape, strides) = (list(shape, axes), list(strides, axes));
        let stored: usize = list(storage, storage_axes).iter().product();
        let tensor = Tensor { dtype, shape, strides, address: address as u64 };
        if size(dtype) == 0 || offset != 0 || format != 2 || tensor.elements() == 0 {
            books.wrong(INVALID, "a type, offset or format that is not known here, or no elements");
            return 0;
        }
        if stored * size(dtype) < tensor.span() || !books.room(tensor.address, stored * size(dtype))
        {
            books.wrong(INVALID, "the tensor is beyond its storage, or that beyond its buffer");
            return 0;
        }
        if !tensor.address.is_multiple_of(32) {
            books.wrong(INVALID, "the tensor does not begin at a multiple of 32 bytes");
        }
        let handle = books.handle();
        books.tensors.insert(handle, tensor);
        handle
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclDestroyTensor(tensor: Pointer) -> Status {
    call("aclDestroyTensor", Kind::Release, |books, _| {
        match books.tensors.remove(&(tensor as u64)) {
            Some(_) => 0,
            None => books.wrong(HANDLE, "there is no such tensor, or it was destroyed before"),
        }
    })
}

/// The list takes the tensors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateTensorList(tensors: *const Pointer, count: u64) -> Pointer {
    create("aclCreateTensorList", |books| {
        // SAFETY: the caller has `count` tensors there.
        let tensors = unsafe { std::slice::from_raw_parts(tensors, count as usize) };
        let taken = tensors.iter().map(|&tensor| books.tensors.remove(&(tensor as u64)));
        let Some(taken) = taken.collect::<Option<Vec<_>>>() else {
            books.wrong(HANDLE, "a tensor of the list is not there");
            return 0;
        };
        let handle = books.handle();
        books.lists.insert(handle, taken);
        handle
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclDestroyTensorList(list: Pointer) -> Status {
    call("aclDestroyTensorList", Kind::Release, |books, _| {
        match books.lists.remove(&(list as u64)) {
            Some(_) => 0,
            None => books.wrong(HANDLE, "there is no such list, or it was destroyed before"),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclCreateScalar(value: Handle, dtype: i32) -> Pointer {
    create("aclCreateScalar", |books| {
        if dtype != F32 {
            books.wrong(INVALID, "a scalar of another type than f32");
            return 0;
        }
        let handle = books.handle();
        // SAFETY: the caller's value is of the type that it names, an f32.
        books.scalars.insert(handle, unsafe { *value.cast::<f32>() });
        handle
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclDestroyScalar(scalar: Pointer) -> Status {
    call("aclDestroyScalar", Kind::Release, |books, _| {
        match books.scalars.remove(&(scalar as u64)) {
            Some(_) => 0,
            None => books.wrong(HANDLE, "there is no such scalar, or it was destroyed before"),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclDestroyAclOpExecutor(executor: Handle) -> Status {
    call("aclDestroyAclOpExecutor", Kind::Release, |books, _| {
        match books.executors.remove(&(executor as u64)) {
            Some(_) => 0,
            None => books.wrong(HANDLE, "there is no such executor, or it was launched"),
        }
    })
}

/// A call that gives a handle; 0 is none.
fn create(name: &'static str, f: impl FnOnce(&mut Books) -> u64) -> Pointer {
    let mut handle = 0;
    call(name, Kind::Plain, |books, _| {
        handle = f(books);
        0
    });
    handle as Pointer
}
