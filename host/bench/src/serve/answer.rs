//! An answer as it streams in: when its pieces came, how many tokens they hold,
//! and whether it came to its end.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::failure::{Failure, FailureKind};
use super::sse::{Parser, TooLong};

/// Bytes of a read, at most. A read gives what is there and waits for no more.
const READ: usize = 16 << 10;

/// An answer that came to its end. Times are since its request was due.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    /// When the first text came; absent where there was none.
    pub first: Option<Duration>,
    /// When the last text came.
    pub last: Option<Duration>,
    /// When it ended.
    pub total: Duration,
    /// Between pieces of text.
    pub gaps: Vec<Duration>,
    /// Pieces of text.
    pub pieces: u32,
    /// Tokens of the answer, by the server's count.
    pub counted: Option<u32>,
    /// Tokens of the prompt, by the server's count.
    pub prompt_tokens: Option<u32>,
    /// It said that it was done.
    done: bool,
    /// It said why it ended.
    finished: bool,
    /// Events, of whatever kind.
    events: usize,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

/// Models that think aloud do so in a field of its own, whose name differs.
#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

impl From<TooLong> for Failure {
    fn from(error: TooLong) -> Self {
        Self::new(FailureKind::Broken, error.to_string())
    }
}

impl Answer {
    /// Reads an answer to its end; `now` tells the time since its request was due.
    pub fn read(body: &mut dyn Read, now: impl Fn() -> Duration) -> Result<Self, Failure> {
        let (mut answer, mut parser) = (Self::default(), Parser::default());
        let mut buffer = [0; READ];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                // It has all been said; how the connection ends is the server's affair.
                Err(_) if answer.done => break,
                Err(error) => return Err(Failure::of_stream(error)),
            };
            let at = now();
            parser.feed(&buffer[..read], |event| answer.take(event, at))?;
        }
        if let Some(event) = parser.finish() {
            answer.take(&event, now())?;
        }
        answer.ended(now())
    }

    /// Takes an event's data, which came at the time `at`.
    fn take(&mut self, event: &[u8], at: Duration) -> Result<(), Failure> {
        if event.is_empty() || self.done {
            return Ok(());
        }
        self.events += 1;
        if event == b"[DONE]" {
            self.done = true;
            self.total = at;
            return Ok(());
        }
        let broken = |what: String| Failure::new(FailureKind::Broken, what);
        let chunk: Chunk = serde_json::from_slice(event)
            .map_err(|e| broken(format!("an event is not understood: {e}")))?;
        if let Some(error) = chunk.error {
            return Err(broken(message(&error)));
        }
        // Some servers tell the usage with every piece; the last one counts.
        if let Some(usage) = chunk.usage {
            self.counted = Some(usage.completion_tokens);
            self.prompt_tokens = Some(usage.prompt_tokens);
        }
        for choice in chunk.choices {
            self.finished |= choice.finish_reason.is_some();
            if choice.delta.is_some_and(|delta| delta.has_text()) {
                self.piece(at);
            }
        }
        Ok(())
    }

    fn piece(&mut self, at: Duration) {
        self.pieces += 1;
        self.first.get_or_insert(at);
        if let Some(last) = self.last.replace(at) {
            self.gaps.push(at.saturating_sub(last));
        }
    }

    /// An answer is whole if it said so, in either way.
    fn ended(mut self, at: Duration) -> Result<Self, Failure> {
        if !self.done {
            self.total = at;
        }
        if self.done || self.finished {
            return Ok(self);
        }
        let what = match self.events {
            0 => "the answer is no stream of events",
            _ => "the stream ended before the answer did",
        };
        Err(Failure::new(FailureKind::Broken, what.into()))
    }

    /// Tokens of the answer: by the server's count, else its pieces of text.
    pub fn tokens(&self) -> u32 {
        self.counted.unwrap_or(self.pieces)
    }

    /// Time per output token: from the first text to the last, over the tokens after
    /// the first. Absent where all text came at once, or there is one token.
    pub fn per_token(&self) -> Option<Duration> {
        let (first, last) = self.first.zip(self.last)?;
        let after_first = self.tokens().checked_sub(1).filter(|&n| n > 0)?;
        (self.pieces > 1).then(|| last.saturating_sub(first) / after_first)
    }
}

impl Delta {
    fn has_text(&self) -> bool {
        let texts = [&self.content, &self.reasoning_content, &self.reasoning];
        texts.into_iter().flatten().any(|text| !text.is_empty())
    }
}

/// What an error object says, for people.
pub(super) fn message(error: &Value) -> String {
    let text = error.get("message").unwrap_or(error);
    text.as_str().map_or_else(|| text.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Gives its pieces read by read.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    /// Reads pieces by a clock that says 1 ms at the first, 2 ms at the second ...
    fn read(pieces: &[&[u8]]) -> Result<Answer, Failure> {
        let clock = Cell::new(0);
        let now = || {
            clock.set(clock.get() + 1);
            Duration::from_millis(clock.get())
        };
        Answer::read(&mut Pieces(pieces.to_vec()), now)
    }

    fn text(text: &str) -> String {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    }

    const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn times_are_of_text_and_tokens_of_the_usage() {
        let (a, b) = (text("é漢"), text("b"));
        let pieces = [ROLE, &a, &b, ": ping\n\n", &b, STOP, USAGE, DONE].map(str::as_bytes);
        let answer = read(&pieces).unwrap();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!((answer.first, answer.last, Some(answer.total)), (ms(2), ms(5), ms(8)));
        assert_eq!(answer.gaps, [Duration::from_millis(1), Duration::from_millis(2)]);
        assert_eq!((answer.tokens(), answer.prompt_tokens, answer.pieces), (5, Some(9), 3));
        assert_eq!(answer.per_token(), Some(Duration::from_micros(750)));
    }

    #[test]
    fn cuts_within_letters_change_nothing_but_times() {
        let stream = [ROLE, &text("é漢字"), &text("ü"), STOP, DONE].concat();
        let bytes = stream.as_bytes();
        for cut in 1..bytes.len() {
            let answer = read(&[&bytes[..cut], &bytes[cut..]]).unwrap();
            assert_eq!((answer.pieces, answer.tokens()), (2, 2), "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_that_does_not_end_is_broken() {
        let broken = |stream: &str| read(&[stream.as_bytes()]).unwrap_err();
        let failure = broken(&text("a"));
        assert_eq!(failure.kind, FailureKind::Broken);
        assert_eq!(failure.what, "the stream ended before the answer did");
        assert_eq!(broken("{\"choices\":[]}").what, "the answer is no stream of events");
        assert_eq!(broken("data: {\"error\":{\"message\":\"no room\"}}\n\n").what, "no room");
        assert!(broken("data: {oops\n\n").what.contains("not understood"));
        assert!(broken("data: \"\u{1}\"\n\n").what.contains("not understood"));
    }

    #[test]
    fn either_end_is_an_end() {
        for stream in
            [text("a") + STOP, text("a") + "data: [DONE]", text("a") + DONE + "data: x\n\n"]
        {
            assert_eq!(read(&[stream.as_bytes()]).unwrap().tokens(), 1, "{stream}");
        }
    }

    #[test]
    fn one_piece_has_no_time_per_token() {
        let stream = text("a") + USAGE + DONE;
        assert_eq!(read(&[stream.as_bytes()]).unwrap().per_token(), None);
        let thinking = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
        let answer = read(&[thinking.as_bytes(), DONE.as_bytes()]).unwrap();
        assert_eq!((answer.first, answer.pieces), (Some(Duration::from_millis(1)), 1));
    }
}
