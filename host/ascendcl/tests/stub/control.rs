//! What tests tell the library and ask of it.

use crate::Status;
use crate::books::{Books, with_books};

/// Lets the n-th call from now on fail with `status`; none where n is 0. Counts anew.
#[unsafe(no_mangle)]
pub extern "C" fn aio_stub_fail_at(n: u64, status: Status) {
    with_books(|books| {
        books.calls = 0;
        books.names.clear();
        books.fail_at = n;
        books.fail_with = status;
        books.failed = None;
    });
}

/// The names of the calls since the last [`aio_stub_fail_at`], a line each; their length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_stub_calls(text: *mut u8, room: usize) -> usize {
    let names = with_books(|books| books.names.join("\n"));
    // SAFETY: the caller has `room` bytes at `text`.
    unsafe { give(&names, text, room) }
}

/// The name of the call that was failed; its length, 0 where none was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_stub_failed(text: *mut u8, room: usize) -> usize {
    let name = with_books(|books| books.failed.unwrap_or_default());
    // SAFETY: the caller has `room` bytes at `text`.
    unsafe { give(name, text, room) }
}

/// What was wrong so far, a line each, and then no more; its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_stub_violations(text: *mut u8, room: usize) -> usize {
    let violations = with_books(|books| std::mem::take(&mut books.violations));
    // SAFETY: the caller has `room` bytes at `text`.
    unsafe { give(&violations.join("\n"), text, room) }
}

/// What has not been given back; its length, 0 where there is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aio_stub_left(text: *mut u8, room: usize) -> usize {
    let left = with_books(|books| books.left());
    // SAFETY: the caller has `room` bytes at `text`.
    unsafe { give(&left.join(", "), text, room) }
}

/// Forgets everything, as a new process does.
#[unsafe(no_mangle)]
pub extern "C" fn aio_stub_new_process() {
    with_books(|books| *books = Books::default());
}

unsafe fn give(from: &str, text: *mut u8, room: usize) -> usize {
    let bytes = from.len().min(room);
    // SAFETY: the caller has `room` bytes there, and no more are copied.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), text, bytes) };
    bytes
}
