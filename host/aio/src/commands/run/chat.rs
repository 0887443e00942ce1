//! `aio run --chat`: a conversation in the terminal. What was said before stays
//! in the KV cache, so that only the new turn is computed.

use std::process::ExitCode;

use aio_core::{FinishReason, RequestRecord};
use aio_engine::chat::Message;
use aio_engine::sampling::Sampling;
use aio_serve::{Prompt, Runner};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::{RunArgs, Stream, explain, run_request, shadows};
use crate::terminal;

const HELP: &str = "\
/explain  what was decided about the last answer, and why
/reset    begin anew
/exit     leave (or Ctrl-D)";

/// Holds the conversation until the user leaves it.
pub(super) fn converse(
    args: &RunArgs,
    runner: &mut Runner,
    sampling: &Sampling,
) -> anyhow::Result<ExitCode> {
    let mut editor = DefaultEditor::new()?;
    let opening: Vec<Message> = args.system.iter().map(Message::system).collect();
    let mut messages = opening.clone();
    let mut last: Option<RequestRecord> = None;
    let mut given = args.prompt.clone();
    eprintln!("Ask away; /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.");
    loop {
        let line = match given.take() {
            Some(prompt) => prompt,
            None => match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => break,
                Err(error) => return Err(error.into()),
            },
        };
        match line.trim() {
            "" => {}
            "/exit" => break,
            "/help" => eprintln!("{HELP}"),
            "/reset" => messages.clone_from(&opening),
            "/explain" => match &mut last {
                Some(record) => {
                    record.shadows = shadows(runner);
                    explain::explain(record, runner.tiers());
                }
                None => eprintln!("nothing has been answered yet"),
            },
            command if command.starts_with('/') && !command.contains(' ') => {
                eprintln!("there is no command {command}\n{HELP}");
            }
            text => {
                // History is a convenience; without it the line is simply not recalled.
                let _ = editor.add_history_entry(text);
                messages.push(Message::user(text));
                let request = args.request(Prompt::Chat(messages.clone()), sampling.clone());
                let mut stream = Stream::default();
                match run_request(runner, &request, &mut stream) {
                    Ok(record) => {
                        stream.end()?;
                        explain::footer(&record);
                        explain::failures(&record);
                        if record.finish_reason == FinishReason::Cancelled {
                            terminal::warn(
                                "the answer was stopped; the conversation keeps what there is of it",
                            );
                        }
                        messages.push(Message::assistant(&record.text));
                        last = Some(record);
                        if terminal::is_ending() {
                            return Ok(terminal::interrupted_code());
                        }
                    }
                    Err(error) => {
                        // The turn is taken back, so that the conversation can go on.
                        messages.pop();
                        terminal::complain(&error);
                    }
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
