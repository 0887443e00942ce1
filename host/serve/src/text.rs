//! From committed tokens to text that may be shown: whole characters, and
//! nothing that may turn out to be the beginning of a stop string.

use aio_engine::tokenizer::{StreamDecoder, Tokenizer};

/// The answer's text as it grows.
pub(crate) struct AnswerText {
    decoder: StreamDecoder,
    text: StopText,
}

impl AnswerText {
    pub(crate) fn new(tokenizer: &Tokenizer, stop: &[String]) -> Self {
        Self { decoder: tokenizer.stream_decoder(), text: StopText::new(stop) }
    }

    /// Adds a token; true when a stop string ended the answer.
    pub(crate) fn push(&mut self, token: u32) -> bool {
        let more = self.decoder.push(token);
        self.text.append(&more)
    }

    /// Adds what the decoder still held back.
    pub(crate) fn finish(&mut self) {
        let rest = self.decoder.finish();
        self.text.append(&rest);
    }

    /// Text that was not shown yet and is safe to show; all of it when `ended`.
    pub(crate) fn take(&mut self, ended: bool) -> &str {
        self.text.take(ended)
    }

    /// All of it so far, what is held back included.
    pub(crate) fn whole(&self) -> &str {
        &self.text.text
    }

    /// Whether no character is unfinished.
    pub(crate) fn is_between_characters(&self) -> bool {
        self.decoder.is_between_characters()
    }

    /// Goes on with tokens of another tokenizer.
    pub(crate) fn go_on_with(&mut self, tokenizer: &Tokenizer) {
        self.decoder = tokenizer.stream_decoder();
    }

    pub(crate) fn into_text(self) -> String {
        self.text.text
    }
}

/// Text that ends at a stop string.
#[derive(Default)]
struct StopText {
    stop: Vec<String>,
    text: String,
    shown: usize,
    stopped: bool,
}

impl StopText {
    fn new(stop: &[String]) -> Self {
        let stop = stop.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { stop, ..Self::default() }
    }

    /// Adds text; true when a stop string is met, now or before.
    fn append(&mut self, more: &str) -> bool {
        if self.stopped {
            return true;
        }
        // A stop string may begin in what was there and end in what is new.
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        let mut from = self.text.len().saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        self.text.push_str(more);
        let found = self.stop.iter().filter_map(|s| self.text[from..].find(s.as_str())).min();
        if let Some(at) = found {
            self.text.truncate(from + at);
        }
        self.stopped = found.is_some();
        self.stopped
    }

    fn take(&mut self, ended: bool) -> &str {
        let start = self.shown;
        self.shown = if ended { self.text.len() } else { self.text.len() - self.held_back() };
        self.shown = self.shown.max(start);
        &self.text[start..self.shown]
    }

    /// Bytes at the end that are the beginning of a stop string.
    fn held_back(&self) -> usize {
        let beginning = |s: &String| {
            let ends = s.char_indices().map(|(i, _)| i).rev();
            ends.into_iter().find(|&n| n > 0 && self.text.ends_with(&s[..n])).unwrap_or(0)
        };
        self.stop.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(stop: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let stop: Vec<String> = stop.iter().map(|s| s.to_string()).collect();
        let mut answer = StopText::new(&stop);
        let mut shown = Vec::new();
        for part in parts {
            let ended = answer.append(part);
            shown.push(answer.take(ended).to_owned());
            if ended {
                return (shown, true);
            }
        }
        shown.push(answer.take(true).to_owned());
        (shown, false)
    }

    #[test]
    fn the_beginning_of_a_stop_string_is_held_back() {
        assert_eq!(
            feed(&["END"], &["aE", "N", "x"]),
            (vec!["a".into(), "".into(), "ENx".into(), "".into()], false)
        );
        assert_eq!(feed(&["END"], &["aE", "ND!"]), (vec!["a".into(), "".into()], true));
    }

    #[test]
    fn the_earliest_stop_string_ends_the_text() {
        assert_eq!(feed(&["cd", "b"], &["abcd"]), (vec!["a".into()], true));
        assert_eq!(feed(&["é\n"], &["caf", "é", "\n"]).0.concat(), "caf");
        assert_eq!(feed(&[""], &["all"]).0.concat(), "all");
    }
}
