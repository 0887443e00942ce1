//! What there is, what has been called, and what was wrong about it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError};

use crate::operators::Executor;
use crate::{CAPTURING, HANDLE, Handle, NO_CONTEXT, PARAMETER, Status, UNINITIALISED};

pub const CHIPS: u32 = 2;

/// How a call fails on demand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Without doing anything.
    Plain,
    /// After it has given back what it is to give back.
    Release,
}

/// Something on a stream: what it reads and writes, and what it does.
#[derive(Clone)]
pub struct Task {
    pub name: &'static str,
    /// Addresses and bytes.
    pub uses: Vec<(u64, usize)>,
    does: Arc<dyn Fn(&mut Books) + Send + Sync>,
}

impl Task {
    pub fn new(
        name: &'static str,
        uses: Vec<(u64, usize)>,
        does: impl Fn(&mut Books) + Send + Sync + 'static,
    ) -> Self {
        Self { name, uses, does: Arc::new(does) }
    }
}

pub struct Stream {
    pub context: u64,
    pub queue: VecDeque<Task>,
    /// What was launched since a capture began.
    pub captured: Option<Vec<Task>>,
}

impl Stream {
    pub fn of(context: u64) -> Self {
        Self { context, queue: VecDeque::new(), captured: None }
    }
}

pub struct Graph {
    pub stream: u64,
    pub tasks: Vec<Task>,
}

pub struct Memory {
    pub chip: i32,
    pub bytes: Vec<u8>,
}

/// A tensor's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// `aclDataType`.
    pub dtype: i32,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
    pub address: u64,
}

#[derive(Default)]
pub struct Books {
    pub initialised: bool,
    pub finalised: bool,
    pub chips: BTreeSet<i32>,
    pub contexts: BTreeMap<u64, i32>,
    pub streams: BTreeMap<u64, Stream>,
    pub memory: BTreeMap<u64, Memory>,
    pub graphs: BTreeMap<u64, Graph>,
    pub tensors: BTreeMap<u64, Tensor>,
    /// The tensors of each.
    pub lists: BTreeMap<u64, Vec<Tensor>>,
    pub scalars: BTreeMap<u64, f32>,
    pub executors: BTreeMap<u64, Executor>,
    /// Handles given out.
    handles: u64,
    /// Bytes of addresses given out.
    addresses: u64,
    pub violations: Vec<String>,
    /// Calls since the last order to fail, and their names.
    pub calls: u64,
    pub names: Vec<&'static str>,
    /// Which of them fails, 0 for none, and with what.
    pub fail_at: u64,
    pub fail_with: Status,
    /// The one that did.
    pub failed: Option<&'static str>,
    /// The call at hand.
    name: &'static str,
}

static BOOKS: Mutex<Option<Books>> = Mutex::new(None);

thread_local! {
    static CONTEXT: Cell<u64> = const { Cell::new(0) };
    static CAPTURES: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<CString> = RefCell::default();
}

pub fn set_current(context: u64) {
    CONTEXT.set(context);
}

pub fn set_capturing(captures: bool) {
    CAPTURES.set(captures);
}

fn say(text: &str) {
    MESSAGE.set(CString::new(text.replace('\0', " ")).unwrap_or_default());
}

/// What went wrong on this thread since somebody asked last.
pub fn recent_message() -> *const c_char {
    thread_local!(static KEPT: RefCell<CString> = RefCell::default());
    KEPT.set(MESSAGE.take());
    KEPT.with_borrow(|kept| if kept.is_empty() { std::ptr::null() } else { kept.as_ptr() })
}

pub fn with_books<R>(f: impl FnOnce(&mut Books) -> R) -> R {
    let mut books = BOOKS.lock().unwrap_or_else(PoisonError::into_inner);
    f(books.get_or_insert_default())
}

/// A call of that name: counted, failed if it is its turn, else done. `f` is told whether
/// it fails.
pub fn call(name: &'static str, kind: Kind, f: impl FnOnce(&mut Books, bool) -> Status) -> Status {
    with_books(|books| {
        books.name = name;
        books.calls += 1;
        books.names.push(name);
        let failing = books.calls == books.fail_at;
        if failing {
            books.failed = Some(name);
        }
        if !books.initialised && name != "aclInit" {
            return books.wrong(UNINITIALISED, "it is not initialised");
        }
        let status = if failing && kind == Kind::Plain { 0 } else { f(books, failing) };
        if !failing {
            return status;
        }
        say(&format!("{name} was told to fail\nand this line is of no interest"));
        books.fail_with
    })
}

/// The value, or the status that is returned at once.
macro_rules! check {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(status) => return status,
        }
    };
}
pub(crate) use check;

impl Books {
    /// Notes that the call at hand is wrong.
    pub fn wrong(&mut self, status: Status, why: &str) -> Status {
        let name = self.name;
        say(&format!("{name}: {why}"));
        // What is wrong in a loop need not be said a thousand times.
        if self.violations.len() < 20 {
            self.violations.push(format!("{name}: {why}"));
        }
        status
    }

    pub fn handle(&mut self) -> u64 {
        self.handles += 1;
        0x10_0000 + self.handles * 16
    }

    /// The thread's context.
    pub fn current(&mut self) -> Result<u64, Status> {
        let context = CONTEXT.get();
        if self.contexts.contains_key(&context) {
            return Ok(context);
        }
        Err(self.wrong(NO_CONTEXT, "the thread has no context"))
    }

    /// A stream, which must be of the thread's context.
    pub fn stream(&mut self, stream: Handle) -> Result<u64, Status> {
        let (id, current) = (stream as u64, self.current()?);
        match self.streams.get(&id).map(|stream| stream.context == current) {
            Some(true) => Ok(id),
            Some(false) => Err(self.wrong(107_003, "the stream is of another context")),
            None => Err(self.wrong(HANDLE, "there is no such stream")),
        }
    }

    pub fn not_capturing(&mut self) -> Result<(), Status> {
        if CAPTURES.get() {
            return Err(self.wrong(CAPTURING, "a capture cannot hold that"));
        }
        Ok(())
    }

    pub fn allocate(&mut self, context: u64, bytes: usize) -> u64 {
        let chip = self.contexts.get(&context).copied().unwrap_or_default();
        let address = 0x6000_0000_0000 + self.addresses;
        // A gap after each, so that what goes beyond an end hits nothing else.
        self.addresses += (bytes as u64).next_multiple_of(512) + 4096;
        // Something that is neither a small index nor a sensible float; of large buffers at
        // their beginning, for time.
        let mut memory = vec![0; bytes];
        memory[..bytes.min(1 << 16)].fill(0xC7);
        self.memory.insert(address, Memory { chip, bytes: memory });
        address
    }

    /// Puts a task onto a stream, or into what is captured of it.
    pub fn launch(&mut self, stream: u64, task: Task) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            match &mut stream.captured {
                Some(captured) => captured.push(task),
                None => stream.queue.push_back(task),
            }
        }
    }

    /// Runs a task whose memory is still there.
    pub fn run(&mut self, task: &Task) {
        let synchronising = std::mem::replace(&mut self.name, task.name);
        if task.uses.iter().all(|&(at, bytes)| self.room(at, bytes)) {
            (task.does)(self);
        }
        self.name = synchronising;
    }

    /// Whether the bytes from `at` on are within one allocation; wrong if not.
    pub fn room(&mut self, at: u64, bytes: usize) -> bool {
        let within = self.place(at, bytes).is_some();
        if !within {
            self.wrong(PARAMETER, &format!("{bytes} bytes at {at:#x} are not within a buffer"));
        }
        within
    }

    fn place(&self, at: u64, bytes: usize) -> Option<(u64, usize)> {
        let (start, memory) = self.memory.range(..=at).next_back()?;
        let offset = (at - start) as usize;
        (offset + bytes <= memory.bytes.len()).then_some((*start, offset))
    }

    pub fn bytes(&mut self, at: u64, bytes: usize) -> Option<Vec<u8>> {
        if !self.room(at, bytes) {
            return None;
        }
        let (start, offset) = self.place(at, bytes)?;
        Some(self.memory[&start].bytes[offset..offset + bytes].to_vec())
    }

    pub fn write(&mut self, at: u64, data: &[u8]) -> Status {
        match self.place(at, data.len()) {
            Some((start, offset)) => {
                if let Some(memory) = self.memory.get_mut(&start) {
                    memory.bytes[offset..offset + data.len()].copy_from_slice(data);
                }
                0
            }
            None => self.wrong(PARAMETER, "the end is beyond the buffer"),
        }
    }

    /// What has not been given back.
    pub fn left(&self) -> Vec<String> {
        let counts = [
            ("chips", self.chips.len()),
            ("contexts", self.contexts.len()),
            ("streams", self.streams.len()),
            ("buffers", self.memory.len()),
            ("captured graphs", self.graphs.len()),
            ("tensors", self.tensors.len()),
            ("tensor lists", self.lists.len()),
            ("scalars", self.scalars.len()),
            ("executors", self.executors.len()),
        ];
        let left = counts.iter().filter(|(_, count)| *count > 0);
        left.map(|(what, count)| format!("{count} {what}")).collect()
    }
}
