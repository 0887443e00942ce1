//! Talking to people: logging, complaints and interrupts. Everything here goes
//! to stderr; stdout belongs to answers and to JSON.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

/// Exit code of a command that Ctrl-C ended: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

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

/// Makes Ctrl-C stop the answer in progress, so that its record is still
/// written; pressed again, or while nothing is being answered, it ends the
/// program at once.
///
/// # Errors
/// When the system refuses the handler.
pub fn handle_interrupts() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        let first = !INTERRUPT.swap(true, Ordering::SeqCst);
        if !(first && ANSWERING.load(Ordering::SeqCst)) {
            std::process::exit(INTERRUPTED.into());
        }
    })
}

/// Calls back on SIGHUP, on a thread of its own, for the rest of the program's
/// life. Does nothing where there is no such signal.
///
/// # Errors
/// When the system refuses the handler.
#[cfg(unix)]
pub fn on_hangup(mut call: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::{consts::SIGHUP, iterator::Signals};
    let mut signals = Signals::new([SIGHUP])?;
    std::thread::Builder::new().name("hangup".into()).spawn(move || {
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
