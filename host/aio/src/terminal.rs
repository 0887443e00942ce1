//! Talking to people: logging, complaints and interrupts. Everything here goes
//! to stderr; stdout belongs to answers and to JSON.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Exit code of a command that SIGTERM ended.
const TERMINATED: u8 = 143;

/// Logs to stderr what `AIO_LOG` asks for; warnings if it asks for nothing.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("AIO_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
}

/// One sentence on what went wrong, its causes joined into it.
pub fn complain(error: &anyhow::Error) {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Many errors quote their source already.
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    eprintln!("error: {}", parts.join(": "));
}

/// A remark that does not end the command.
pub fn warn(text: &str) {
    eprintln!("warning: {text}");
}

static ANSWERING: AtomicBool = AtomicBool::new(false);
static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// SIGTERM came: the program is to end when the answer does.
static ENDING: AtomicBool = AtomicBool::new(false);

type Farewell = Box<dyn FnOnce() + Send>;
static AT_EXIT: Mutex<Option<Farewell>> = Mutex::new(None);

/// How long what is to be done at exit may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Makes Ctrl-C and SIGTERM stop the answer in progress, so that its record is still
/// written; a second one, or one while nothing is being answered, ends the program
/// as soon as what was handed to [`at_exit`] is done.
///
/// # Errors
/// When the system refuses the handlers.
pub fn handle_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(interrupt)?;
    #[cfg(unix)]
    on_signals([signal_hook::consts::SIGTERM], "terminate", || {
        ENDING.store(true, Ordering::SeqCst);
        interrupt();
    })?;
    Ok(())
}

/// What is to be done when a signal ends the program. A command that comes to its
/// own end does it itself.
pub fn at_exit(call: impl FnOnce() + Send + 'static) {
    if let Ok(mut farewell) = AT_EXIT.lock() {
        *farewell = Some(Box::new(call));
    }
}

fn interrupt() {
    let first = !INTERRUPT.swap(true, Ordering::SeqCst);
    if first && ANSWERING.load(Ordering::SeqCst) {
        return;
    }
    let farewell = AT_EXIT.lock().ok().and_then(|mut farewell| farewell.take());
    if let Some(farewell) = farewell {
        // On a thread of its own, so that whatever holds it up does not keep the
        // program from ending.
        let (done, is_done) = channel();
        std::thread::spawn(move || {
            farewell();
            // Nobody listens any more if this took too long.
            let _ = done.send(());
        });
        // Done, or too late: the program ends.
        let _ = is_done.recv_timeout(FAREWELL);
    }
    std::process::exit(code().into());
}

fn code() -> u8 {
    if is_ending() { TERMINATED } else { INTERRUPTED }
}

/// The exit code of a command that a signal ended.
pub fn interrupted_code() -> ExitCode {
    ExitCode::from(code())
}

/// Whether the program was told to end when the answer does.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Calls back on SIGHUP, on a thread of its own, for the rest of the program's
/// life. Does nothing where there is no such signal.
///
/// # Errors
/// When the system refuses the handler.
#[cfg(unix)]
pub fn on_hangup(call: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    on_signals([signal_hook::consts::SIGHUP], "hangup", call)
}

/// Calls back on Ctrl-C and SIGTERM, on a thread of its own, for the rest of the
/// program's life: for commands that end in their own way.
///
/// # Errors
/// When the system refuses the handler.
#[cfg(unix)]
pub fn on_termination(call: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    on_signals([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM], "terminate", call)
}

/// See above: here there is Ctrl-C alone.
#[cfg(not(unix))]
pub fn on_termination(call: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(call).map_err(std::io::Error::other)
}

#[cfg(unix)]
fn on_signals<const N: usize>(
    signals: [std::ffi::c_int; N],
    thread: &str,
    mut call: impl FnMut() + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    std::thread::Builder::new().name(thread.into()).spawn(move || {
        for _ in signals.forever() {
            call();
        }
    })?;
    Ok(())
}

/// See above: here there is no such signal.
#[cfg(not(unix))]
pub fn on_hangup(_: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    Ok(())
}

/// While this lives, the first Ctrl-C only sets [`interrupted`].
pub struct Answering;

impl Answering {
    /// Begins an answer.
    pub fn start() -> Self {
        INTERRUPT.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Self
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
        INTERRUPT.store(false, Ordering::SeqCst);
    }
}

/// Whether Ctrl-C was pressed during this answer.
pub fn interrupted() -> bool {
    INTERRUPT.load(Ordering::SeqCst)
}
