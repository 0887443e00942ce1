//! Server-sent events, as the WHATWG HTML standard (section 9.2.6) has them, out
//! of bytes that may be cut anywhere. Only `data` is kept: chat completions use
//! nothing else.

/// Bytes of an event, from which on a stream is not believed any more.
const MOST_BYTES: usize = 16 << 20;

/// What makes a stream unreadable: an event or a line that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an event has more than {} MiB", MOST_BYTES >> 20)
    }
}

/// Reads events from bytes as they come in. It works on bytes: a letter may be
/// cut in two between reads, never between events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    begun: bool,
}

impl Parser {
    /// Takes the bytes that came next, and gives the data of each event that ends
    /// in them to `event`, which may stop the reading.
    ///
    /// # Errors
    /// What `event` says, or [`TooLong`].
    pub fn feed<E: From<TooLong>>(
        &mut self,
        bytes: &[u8],
        mut event: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    if let Some(data) = self.end_line() {
                        event(&data)?;
                    }
                }
                byte => self.line.push(byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, Vec::len) > MOST_BYTES {
                return Err(TooLong.into());
            }
        }
        Ok(())
    }

    /// The data of an event that the stream's end cut off before its blank line.
    /// The standard drops it; servers exist that end with `data: [DONE]` and no more.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.end_line();
        self.data.take()
    }

    /// Ends a line; returns an event's data where the line is the blank one after it.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(&line);
        if line.is_empty() {
            return self.data.take();
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        // A comment is a line whose field has no name.
        if field == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                none => *none = Some(value.to_vec()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a stream that comes in such pieces, and what is left at its end.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
        let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        for piece in pieces {
            let take = |data: &[u8]| {
                found.push(text(data));
                Ok::<(), TooLong>(())
            };
            parser.feed(piece, take).unwrap();
        }
        (found, parser.finish().map(|data| text(&data)))
    }

    const STREAM: &str = "\u{feff}: hello\r\n\r\ndata: {\"a\":\r\ndata:  \"é漢\"}\r\n\r\n\
                          event: x\nid: 7\ndata\n\nretry: 1\n\ndata:y\r\rdata: [DONE]\n\n";

    #[test]
    fn all_line_ends_comments_and_lines_of_data_are_understood() {
        let (found, left) = events([STREAM.as_bytes()]);
        assert_eq!(found, ["{\"a\":\n \"é漢\"}", "", "y", "[DONE]"]);
        assert_eq!(left, None);
    }

    #[test]
    fn it_does_not_matter_where_bytes_are_cut() {
        let whole = events([STREAM.as_bytes()]);
        for cut in 0..=STREAM.len() {
            let (head, tail) = STREAM.as_bytes().split_at(cut);
            assert_eq!(events([head, tail]), whole, "cut at {cut}");
        }
        assert_eq!(events(STREAM.as_bytes().chunks(1)), whole);
    }

    #[test]
    fn an_event_without_its_blank_line_is_left_at_the_end() {
        let (found, left) = events([&b"data: a\n\ndata: [DONE]"[..]]);
        assert_eq!((found, left.as_deref()), (vec!["a".to_owned()], Some("[DONE]")));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; MOST_BYTES / 4 + 1];
        let mut feed = || parser.feed(&piece, |_| Ok::<(), TooLong>(()));
        assert!((0..3).all(|_| feed().is_ok()));
        assert_eq!(feed(), Err(TooLong));
    }
}
