//! A library that exports the functions of AscendCL that `aio-ascendcl` calls. Tests build
//! it with `rustc --crate-type cdylib` and open it in place of the vendor's.
//!
//! It computes: operators run on the CPU in f32 on buffers of the types that they are given.
//! What is launched waits on its stream until somebody synchronises, so what is read too
//! early is not there yet, and what is freed too early is missed.
//! It keeps books (`books.rs`): order of calls, lifetimes, sizes, types and shapes, leaks.
//! It fails on demand: the n-th call from [`aio_stub_fail_at`] on, with any code. A call
//! that gives something back gives it back also where it fails.
//!
//! Addresses on the "chip" are none of this process: who follows one crashes. What the
//! functions ask of their callers is what the vendor's do: pointers to arguments and to
//! results are good for what the vendor's documents say of them.

// Names are the vendor's.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]

mod attention;
mod books;
mod control;
mod numbers;
mod operators;
mod tensors;

use std::ffi::{c_char, c_void};

use books::{Books, Kind, Task, call, check};

pub type Status = i32;
pub type Handle = *mut c_void;

/// Wrong argument; wrong handle; no context; not initialised; not while captured.
const PARAMETER: Status = 107_000;
const NO_CONTEXT: Status = 107_002;
const HANDLE: Status = 107_017;
const UNINITIALISED: Status = 100_001;
const REPEATED: Status = 100_002;
const CAPTURING: Status = 107_030;
const MEMORY: Status = 207_001;

/// Bytes of a chip's memory.
const TOTAL: usize = 4 << 30;

#[unsafe(no_mangle)]
pub extern "C" fn aclInit(_config: *const c_char) -> Status {
    call("aclInit", Kind::Plain, |books, _| {
        if books.initialised {
            return books.wrong(REPEATED, "it is initialised already");
        }
        if books.finalised {
            return books.wrong(REPEATED, "it was finalised before in this process");
        }
        books.initialised = true;
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclFinalize() -> Status {
    call("aclFinalize", Kind::Release, |books, _| {
        let left = books.left();
        if !left.is_empty() {
            books.wrong(0, &format!("left over: {}", left.join(", ")));
        }
        books.initialised = false;
        books.finalised = true;
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclGetRecentErrMsg() -> *const c_char {
    books::recent_message()
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtGetSocName() -> *const c_char {
    c"AscendStub".as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceCount(count: *mut u32) -> Status {
    call("aclrtGetDeviceCount", Kind::Plain, |_, _| {
        // SAFETY: the caller has a place for what is given back.
        unsafe { *count = books::CHIPS };
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtSetDevice(chip: i32) -> Status {
    call("aclrtSetDevice", Kind::Plain, |books, _| {
        if !(0..books::CHIPS as i32).contains(&chip) {
            return books.wrong(107_001, "there is no such chip");
        }
        if !books.chips.insert(chip) {
            return books.wrong(PARAMETER, "the chip is set already");
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtResetDevice(chip: i32) -> Status {
    call("aclrtResetDevice", Kind::Release, |books, _| {
        if !books.chips.remove(&chip) {
            return books.wrong(PARAMETER, "the chip is not set");
        }
        if books.contexts.values().any(|of| *of == chip) {
            return books.wrong(PARAMETER, "a context is left on the chip");
        }
        if books.memory.values().any(|memory| memory.chip == chip) {
            return books.wrong(PARAMETER, "memory of the chip is left");
        }
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateContext(context: *mut Handle, chip: i32) -> Status {
    call("aclrtCreateContext", Kind::Plain, |books, _| {
        if !books.chips.contains(&chip) {
            return books.wrong(PARAMETER, "the chip is not set");
        }
        let handle = books.handle();
        books.contexts.insert(handle, chip);
        // SAFETY: the caller has a place for what is given back.
        unsafe { *context = handle as Handle };
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtDestroyContext(context: Handle) -> Status {
    call("aclrtDestroyContext", Kind::Release, |books, _| {
        let context = context as u64;
        if books.contexts.remove(&context).is_none() {
            return books.wrong(HANDLE, "there is no such context");
        }
        if books.streams.values().any(|stream| stream.context == context) {
            return books.wrong(HANDLE, "a stream of the context is left");
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtSetCurrentContext(context: Handle) -> Status {
    call("aclrtSetCurrentContext", Kind::Plain, |books, _| {
        if !books.contexts.contains_key(&(context as u64)) {
            return books.wrong(HANDLE, "there is no such context");
        }
        books::set_current(context as u64);
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCreateStream(stream: *mut Handle) -> Status {
    call("aclrtCreateStream", Kind::Plain, |books, _| {
        let context = check!(books.current());
        let handle = books.handle();
        books.streams.insert(handle, books::Stream::of(context));
        // SAFETY: the caller has a place for what is given back.
        unsafe { *stream = handle as Handle };
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtDestroyStream(stream: Handle) -> Status {
    call("aclrtDestroyStream", Kind::Release, |books, _| {
        let id = check!(books.stream(stream));
        let gone = books.streams.remove(&id);
        if gone.is_some_and(|stream| !stream.queue.is_empty() || stream.captured.is_some()) {
            return books.wrong(HANDLE, "something launched on the stream has not run");
        }
        if books.graphs.values().any(|graph| graph.stream == id) {
            return books.wrong(HANDLE, "a graph captured on the stream is left");
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtSynchronizeStream(stream: Handle) -> Status {
    call("aclrtSynchronizeStream", Kind::Release, |books, failing| {
        let id = check!(books.stream(stream));
        check!(books.not_capturing());
        let queue = books.streams.get_mut(&id).map(|stream| std::mem::take(&mut stream.queue));
        // A stream that fails gives up its tasks.
        if !failing {
            queue.unwrap_or_default().iter().for_each(|task| books.run(task));
        }
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMalloc(start: *mut Handle, bytes: usize, policy: i32) -> Status {
    call("aclrtMalloc", Kind::Plain, |books, _| {
        let context = check!(books.current());
        check!(books.not_capturing());
        if bytes == 0 || policy != 0 {
            return books.wrong(PARAMETER, "0 bytes, or another policy");
        }
        let used: usize = books.memory.values().map(|memory| memory.bytes.len()).sum();
        if used + bytes > TOTAL {
            return MEMORY;
        }
        let address = books.allocate(context, bytes);
        // SAFETY: the caller has a place for what is given back.
        unsafe { *start = address as Handle };
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtFree(start: Handle) -> Status {
    call("aclrtFree", Kind::Release, |books, _| {
        check!(books.current());
        check!(books.not_capturing());
        let Some(memory) = books.memory.remove(&(start as u64)) else {
            return books.wrong(PARAMETER, "that is no allocation, or it was freed before");
        };
        let freed = start as u64..start as u64 + memory.bytes.len() as u64;
        let waits = |task: &Task| task.uses.iter().any(|(at, _)| freed.contains(at));
        if books.streams.values().any(|stream| stream.queue.iter().any(waits)) {
            return books.wrong(PARAMETER, "something launched and not yet run uses it");
        }
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpy(
    to: Handle,
    most: usize,
    from: *const c_void,
    bytes: usize,
    kind: i32,
) -> Status {
    call("aclrtMemcpy", Kind::Plain, |books, _| {
        check!(books.current());
        check!(books.not_capturing());
        if bytes > most {
            return books.wrong(PARAMETER, "more is copied than there is room for");
        }
        match kind {
            1 => {
                // SAFETY: the caller has `bytes` bytes at `from`.
                let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
                if !books.room(to as u64, most) {
                    return PARAMETER;
                }
                books.write(to as u64, from)
            }
            2 => match books.bytes(from as u64, bytes) {
                Some(found) => {
                    // SAFETY: the caller has `most` bytes at `to`, and `bytes` are no more.
                    unsafe { std::ptr::copy_nonoverlapping(found.as_ptr(), to.cast(), bytes) };
                    0
                }
                None => PARAMETER,
            },
            _ => books.wrong(PARAMETER, "neither to the chip nor from it"),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclrtMemcpyAsync(
    to: Handle,
    most: usize,
    from: *const c_void,
    bytes: usize,
    kind: i32,
    stream: Handle,
) -> Status {
    call("aclrtMemcpyAsync", Kind::Plain, |books, _| {
        let id = check!(books.stream(stream));
        let (to, from) = (to as u64, from as u64);
        if kind != 3 || bytes > most || !books.room(to, most) || !books.room(from, bytes) {
            return books.wrong(PARAMETER, "not within two buffers of a chip");
        }
        let copy = move |books: &mut Books| {
            if let Some(bytes) = books.bytes(from, bytes) {
                books.write(to, &bytes);
            }
        };
        let uses = vec![(to, bytes), (from, bytes)];
        books.launch(id, Task::new("aclrtMemcpyAsync", uses, copy));
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetMemInfo(kind: i32, free: *mut usize, total: *mut usize) -> Status {
    call("aclrtGetMemInfo", Kind::Plain, |books, _| {
        check!(books.current());
        if kind != 1 {
            return books.wrong(PARAMETER, "another memory than the chip's");
        }
        let used: usize = books.memory.values().map(|memory| memory.bytes.len()).sum();
        // SAFETY: the caller has a place for what is given back.
        unsafe {
            *free = TOTAL - used;
            *total = TOTAL;
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclmdlRICaptureBegin(stream: Handle, mode: i32) -> Status {
    call("aclmdlRICaptureBegin", Kind::Plain, |books, _| {
        let id = check!(books.stream(stream));
        check!(books.not_capturing());
        if !(0..3).contains(&mode) {
            return books.wrong(PARAMETER, "there is no such mode");
        }
        if let Some(stream) = books.streams.get_mut(&id) {
            stream.captured = Some(Vec::new());
        }
        books::set_capturing(true);
        0
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclmdlRICaptureEnd(stream: Handle, graph: *mut Handle) -> Status {
    call("aclmdlRICaptureEnd", Kind::Release, |books, failing| {
        let id = check!(books.stream(stream));
        let Some(tasks) = books.streams.get_mut(&id).and_then(|stream| stream.captured.take())
        else {
            return books.wrong(107_029, "the stream is not captured");
        };
        books::set_capturing(false);
        if !failing {
            let handle = books.handle();
            books.graphs.insert(handle, books::Graph { stream: id, tasks });
            // SAFETY: the caller has a place for what is given back.
            unsafe { *graph = handle as Handle };
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclmdlRIExecuteAsync(graph: Handle, stream: Handle) -> Status {
    call("aclmdlRIExecuteAsync", Kind::Plain, |books, _| {
        let id = check!(books.stream(stream));
        check!(books.not_capturing());
        let tasks = books.graphs.get(&(graph as u64)).map(|graph| graph.tasks.clone());
        match tasks {
            None => return books.wrong(HANDLE, "there is no such graph"),
            Some(tasks) if tasks.is_empty() => {
                return books.wrong(507_011, "nothing was captured");
            }
            Some(tasks) => tasks.into_iter().for_each(|task| books.launch(id, task)),
        }
        0
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn aclmdlRIDestroy(graph: Handle) -> Status {
    call("aclmdlRIDestroy", Kind::Release, |books, _| {
        check!(books.current());
        match books.graphs.remove(&(graph as u64)) {
            Some(_) => 0,
            None => books.wrong(HANDLE, "there is no such graph, or it was destroyed before"),
        }
    })
}
