//! SentencePiece's BPE, the tokenizer of Llama 2 and Gemma: the characters of a whole
//! text are merged, best score first, and what has no token of its own becomes bytes.
//!
//! There are no merge rules: two neighbours may be merged if what they spell together is
//! a token, and that token's score says how soon.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use sha2::{Digest, Sha256};

use super::metadata::{self, Metadata};
use super::vocabulary::{SPACE, Spelling, Vocabulary};
use super::{Fingerprint, TokenizerError, hash_strings};

const SCORES: &str = "tokenizer.ggml.scores";

pub(super) struct SentencePiece {
    /// Tokens as the file spells them.
    ids: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    /// Whether a space is put before a text that stands at the beginning or after a
    /// special token.
    add_space_prefix: bool,
}

impl SentencePiece {
    pub(super) fn from_gguf(
        metadata: &Metadata,
        tokens: &[&str],
    ) -> Result<(SentencePiece, Vocabulary, Fingerprint), TokenizerError> {
        let scores = metadata::floats(metadata, SCORES)?;
        if scores.len() != tokens.len() {
            let (tokens, entries) = (tokens.len(), scores.len());
            return Err(TokenizerError::LengthMismatch { tokens, entries, what: "scores" });
        }
        // As llama.cpp has it where the file says nothing.
        let add_space_prefix =
            metadata::boolean(metadata, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        // A vocabulary of this kind may have a quarter of a million tokens: two threads.
        let (ids, rest) = std::thread::scope(|scope| {
            let rest = scope.spawn(|| {
                let vocabulary = Vocabulary::from_gguf(metadata, tokens, Spelling::SentencePiece)?;
                let unpadded = vocabulary.size_without_padding();
                let fingerprint =
                    fingerprint(add_space_prefix, &tokens[..unpadded], &scores[..unpadded]);
                Ok::<_, TokenizerError>((vocabulary, fingerprint))
            });
            (ids_by_text(tokens), rest.join())
        });
        let (vocabulary, fingerprint) = match rest {
            Ok(built) => built?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((SentencePiece { ids: ids?, scores, add_space_prefix }, vocabulary, fingerprint))
    }

    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Encodes text that stands at the beginning or after a special token, and in which
    /// none is to be recognised.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return; // Not even the space before it.
        }
        let mut spelled = String::with_capacity(text.len() + text.len() / 2);
        if self.add_space_prefix && !text.is_empty() {
            spelled.push(SPACE);
        }
        spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        let token = |text: &str| self.id_of(text).filter(|&id| vocabulary.is_text(id));
        for symbol in Merging::run(&spelled, |text| token(text).map(|id| self.scores[id as usize]))
        {
            match token(symbol) {
                Some(id) => ids.push(id),
                None => ids.extend(symbol.bytes().filter_map(|byte| vocabulary.byte_id(byte))),
            }
        }
    }
}

fn ids_by_text(tokens: &[&str]) -> Result<HashMap<Box<str>, u32>, TokenizerError> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, text) in (0u32..).zip(tokens) {
        if ids.insert(Box::from(*text), id).is_some() {
            return Err(TokenizerError::DuplicateToken { text: (*text).to_owned() });
        }
    }
    Ok(ids)
}

fn fingerprint(add_space_prefix: bool, tokens: &[&str], scores: &[f32]) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(format!("SentencePiece {add_space_prefix} "));
    hash_strings(&mut hash, tokens);
    scores.iter().for_each(|score| hash.update(score.to_le_bytes()));
    Fingerprint(hash.finalize().into())
}

/// A run of characters that stands as one, a link in a chain over the text.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    /// Bytes; 0 once it has become part of the symbol before it.
    length: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that may be merged.
#[derive(Debug)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both when they were found: a pair whose parts have grown is stale.
    length: usize,
}

impl Ord for Pair {
    /// The best score is greatest, the leftmost among equals.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

struct Merging<'t, S> {
    text: &'t str,
    /// The score of a text that is a token.
    score: S,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

impl<'t, S: Fn(&str) -> Option<f32>> Merging<'t, S> {
    /// Merges the characters of `text` until nothing more can be; what is left, in order.
    fn run(text: &'t str, score: S) -> impl Iterator<Item = &'t str> {
        let mut merging = Self { text, score, symbols: Vec::new(), queue: BinaryHeap::new() };
        for (index, (start, c)) in text.char_indices().enumerate() {
            let previous = index.checked_sub(1);
            if let Some(previous) = previous {
                merging.symbols[previous].next = Some(index);
            }
            let length = c.len_utf8();
            merging.symbols.push(Symbol { start, length, previous, next: None });
            merging.consider(previous, Some(index));
        }
        while let Some(pair) = merging.queue.pop() {
            merging.merge(&pair);
        }
        let left = merging.symbols.into_iter().filter(|symbol| symbol.length > 0);
        left.map(move |symbol| &text[symbol.start..symbol.start + symbol.length])
    }

    /// Queues the two symbols if they make a token.
    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (start, length) =
            (self.symbols[left].start, self.symbols[left].length + self.symbols[right].length);
        if let Some(score) = (self.score)(&self.text[start..start + length]) {
            self.queue.push(Pair { score, left, right, length });
        }
    }

    fn merge(&mut self, pair: &Pair) {
        let (left, right) = (self.symbols[pair.left], self.symbols[pair.right]);
        let gone = left.length == 0 || right.length == 0;
        if gone || left.length + right.length != pair.length {
            return;
        }
        self.symbols[pair.right].length = 0;
        self.symbols[pair.left].length = pair.length;
        self.symbols[pair.left].next = right.next;
        if let Some(next) = right.next {
            self.symbols[next].previous = Some(pair.left);
        }
        self.consider(left.previous, Some(pair.left));
        self.consider(Some(pair.left), right.next);
    }
}

#[cfg(test)]
#[path = "sentencepiece_tests.rs"]
mod tests;
