//! Text from tokens as they come, without ever showing half a character.
//!
//! A token of byte-level BPE is a run of bytes that may begin or end inside a UTF-8
//! character. [`Utf8Assembler`] holds back at most three bytes until they are decided;
//! [`StreamDecoder`] feeds it the bytes of tokens. Put together, what they emit is
//! exactly `String::from_utf8_lossy` of all the bytes.

use std::sync::Arc;

use super::vocabulary::Vocabulary;

/// Turns token ids into text, one at a time, in constant time for each.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    vocabulary: Arc<Vocabulary>,
    assembler: Utf8Assembler,
}

impl StreamDecoder {
    pub(super) fn new(vocabulary: Arc<Vocabulary>) -> StreamDecoder {
        StreamDecoder { vocabulary, assembler: Utf8Assembler::default() }
    }

    /// Takes the next token and returns the text that is complete with it, often empty.
    ///
    /// Control tokens, padding and ids outside the vocabulary yield nothing; bytes that
    /// can no longer become a character yield U+FFFD.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.assembler.push(self.vocabulary.visible_bytes(id), &mut text);
        text
    }

    /// Whether no character is unfinished.
    pub fn is_between_characters(&self) -> bool {
        self.assembler.pending.is_empty()
    }

    /// Ends the stream: an unfinished character comes out as one U+FFFD. The decoder is
    /// then as new.
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        self.assembler.finish(&mut text);
        text
    }
}

/// Decodes UTF-8 that arrives in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Utf8Assembler {
    /// The beginning of a character, never more than three bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Assembler {
    /// Appends to `out` the text that `bytes` completes.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.pending.is_empty() {
            let held = decode(bytes, out);
            self.pending.extend_from_slice(held);
        } else {
            self.pending.extend_from_slice(bytes);
            let held = decode(&self.pending, out).len();
            self.pending.drain(..self.pending.len() - held);
        }
    }

    /// Appends to `out` a replacement character for what was never completed.
    pub(super) fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            // What is held back is the valid beginning of one character: one replacement.
            out.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

/// Appends the decided part of `bytes` to `out` and returns the undecided rest.
fn decode<'b>(mut bytes: &'b [u8], out: &mut String) -> &'b [u8] {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return &[];
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                // Valid by the error's own account, so nothing is replaced here.
                out.push_str(&String::from_utf8_lossy(valid));
                let Some(bad) = error.error_len() else { return rest };
                out.push(char::REPLACEMENT_CHARACTER);
                bytes = &rest[bad..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assemble(pieces: &[&[u8]]) -> (Vec<String>, String) {
        let mut assembler = Utf8Assembler::default();
        let mut emitted: Vec<String> = Vec::new();
        for piece in pieces {
            let mut out = String::new();
            assembler.push(piece, &mut out);
            assert!(assembler.pending.len() <= 3);
            emitted.push(out);
        }
        let mut out = String::new();
        assembler.finish(&mut out);
        emitted.push(out);
        let whole = emitted.concat();
        (emitted, whole)
    }

    #[test]
    fn a_character_comes_out_with_its_last_byte() {
        let bytes = "a😀b".as_bytes();
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        let (emitted, whole) = assemble(&pieces);
        assert_eq!(emitted, ["a", "", "", "", "😀", "b", ""]);
        assert_eq!(whole, "a😀b");
    }

    #[test]
    fn bytes_that_cannot_become_a_character_are_replaced_at_once() {
        let (emitted, _) = assemble(&[b"\xff", b"\xe4\xb8", b"x", b"\xf0\x9f"]);
        assert_eq!(emitted, ["\u{fffd}", "", "\u{fffd}x", "", "\u{fffd}"]);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        // Whole characters, and stray bytes that are likely to fall inside them.
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            prop::sample::select(vec![0x80u8, 0xbf, 0xc3, 0xe4, 0xed, 0xf0, 0x9f, 0xff, b'a'])
                .prop_map(|b| vec![b]),
            any::<u8>().prop_map(|b| vec![b]),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_split_reads_as_the_whole(bytes in bytes(), cuts in prop::collection::vec(0usize..80, 0..12)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            let (_, whole) = assemble(&pieces);
            prop_assert_eq!(whole, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn valid_text_never_shows_a_replacement(text in "\\PC{0,20}") {
            prop_assume!(!text.contains(char::REPLACEMENT_CHARACTER));
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            let (emitted, whole) = assemble(&pieces);
            prop_assert!(emitted.iter().all(|part| !part.contains(char::REPLACEMENT_CHARACTER)));
            prop_assert_eq!(whole, text);
        }
    }
}
