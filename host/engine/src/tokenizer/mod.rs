//! Text to token ids and back, from what a GGUF file carries.
//!
//! The reference is llama.cpp: with the vocabularies of the catalogue, every family of
//! pre-tokenizers in the table gives the same ids as its own, but for characters newer
//! than its Unicode tables. Merging is done by the tokenizers crate; recognising special
//! tokens, cutting text into words and decoding are done here, because the reference and
//! that crate differ in them.
//!
//! This module must not know models, chat templates or sampling. What it guarantees to
//! the rest of the host: text encoded with [`SpecialTokens::AsText`] never yields a
//! control token, whatever stands in it.

mod bytes;
mod error;
mod metadata;
mod split;
mod stream;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

pub use error::TokenizerError;
pub use metadata::Metadata;
pub use stream::StreamDecoder;

pub(crate) use metadata::string as metadata_string;
use split::PreTokenizer;
use stream::Utf8Assembler;
use vocabulary::Vocabulary;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

/// What to do with the text of control tokens, such as `<|im_start|>`, inside a text.
///
/// Tokens that a model's makers added as whole strings without making them control
/// tokens (type "user defined", such as `<tool_call>`) are recognised either way, as in
/// llama.cpp: they carry no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Turn them into control tokens: for text that the host itself composed.
    Parse,
    /// Treat them as any other characters: for text from outside.
    AsText,
}

/// A digest of what ids mean. Models with equal fingerprints share token ids, so that
/// one can draft for the other.
///
/// It covers the tokens, the merge rules and the pre-tokenizer. Padding tokens (type
/// "unused") at the end of the vocabulary are left out, because models of one family
/// pad to different sizes; such ids are never in a text, but a model can in principle
/// propose one, so whoever compares fingerprints still checks ids against
/// [`Tokenizer::vocab_size`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The tokenizer of one model.
pub struct Tokenizer {
    vocabulary: Arc<Vocabulary>,
    pre: PreTokenizer,
    bpe: BPE,
    add_bos: bool,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("pre", &self.pre)
            .field("vocab_size", &self.vocab_size())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// When keys are missing or of the wrong type, when the tokenizer is not byte-level
    /// BPE, when its pre-tokenizer is unknown, and when vocabulary and merge rules do
    /// not fit together.
    pub fn from_gguf(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
        let model =
            metadata::string(metadata, MODEL)?.ok_or(TokenizerError::MissingKey { key: MODEL })?;
        if model != "gpt2" {
            return Err(TokenizerError::UnsupportedModel { model: model.to_owned() });
        }
        let pre = pre_tokenizer(metadata)?;
        let tokens = metadata::strings(metadata, vocabulary::TOKENS)?;
        let merges = metadata::strings(metadata, MERGES)?;
        let add_bos =
            metadata::boolean(metadata, "tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos);

        // Half of the time goes into the library's maps; what does not need them is done
        // meanwhile.
        let (bpe, rest) = std::thread::scope(|scope| {
            let rest = scope.spawn(|| {
                let vocabulary = Vocabulary::from_gguf(metadata, &tokens)?;
                let unpadded = &tokens[..vocabulary.size_without_padding()];
                let fingerprint = fingerprint(pre, unpadded, &merges);
                Ok::<_, TokenizerError>((vocabulary, fingerprint))
            });
            let bpe = build_bpe(&tokens, &merges, pre.ignore_merges);
            (bpe, rest.join())
        });
        let (vocabulary, fingerprint) = match rest {
            Ok(built) => built?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Tokenizer { vocabulary: Arc::new(vocabulary), pre, bpe: bpe?, add_bos, fingerprint })
    }

    /// Encodes `text`. No BOS is put in front: see [`Tokenizer::adds_bos`].
    ///
    /// Bytes for which the vocabulary has no token are left out, as in llama.cpp; only
    /// small vocabularies lack any, and only rare control characters and scripts.
    ///
    /// # Errors
    /// Only if the tokenizers library fails, which would be a bug.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        let wanted = |control: bool| !control || special == SpecialTokens::Parse;
        self.each_fragment(text, wanted, &mut |fragment| match fragment {
            Fragment::Token(id) => {
                ids.push(id);
                Ok(())
            }
            Fragment::Text(text) => self.encode_plain(text, &mut ids),
        })?;
        Ok(ids)
    }

    /// Encodes a text that the host composed from its own and foreign parts. The control
    /// tokens of the foreign parts are broken up by the character `mark`, which occurs
    /// nowhere else in `text`; it is taken out once control tokens have been recognised,
    /// so the result is that of [`Tokenizer::encode`] but for those tokens.
    pub(crate) fn encode_marked(&self, text: &str, mark: char) -> Result<Vec<u32>, TokenizerError> {
        if !text.contains(mark) {
            return self.encode(text, SpecialTokens::Parse);
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        self.each_fragment(text, |control| control, &mut |fragment| match fragment {
            Fragment::Token(id) => {
                ids.push(id);
                Ok(())
            }
            Fragment::Text(text) => {
                ids.extend(self.encode(&text.replace(mark, ""), SpecialTokens::AsText)?);
                Ok(())
            }
        })?;
        Ok(ids)
    }

    /// Turns ids into text; bytes that are not UTF-8 become U+FFFD.
    ///
    /// With `keep_special`, control tokens come out as their own text; without, they
    /// yield nothing. Padding and ids outside the vocabulary never yield anything.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> String {
        let mut text = String::new();
        let mut assembler = Utf8Assembler::default();
        for &id in ids {
            let bytes = if keep_special {
                self.vocabulary.bytes(id)
            } else {
                self.vocabulary.visible_bytes(id)
            };
            assembler.push(bytes, &mut text);
        }
        assembler.finish(&mut text);
        text
    }

    /// A decoder for ids that come one at a time; it omits control tokens.
    pub fn stream_decoder(&self) -> StreamDecoder {
        StreamDecoder::new(Arc::clone(&self.vocabulary))
    }

    /// The token that begins a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.bos()
    }

    /// Whether the model expects [`Tokenizer::bos`] in front of every prompt.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos().is_some()
    }

    /// The token that ends a text, if the file names one; see
    /// [`Tokenizer::end_of_generation`] for all that end a generation.
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.eos()
    }

    /// The tokens after which generation ends, ascending: EOS, the end of a chat turn and
    /// their like. Empty if the file names none.
    pub fn end_of_generation(&self) -> &[u32] {
        self.vocabulary.end_of_generation()
    }

    /// Whether `id` ends a generation.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation().binary_search(&id).is_ok()
    }

    /// Whether `id` steers the model and is not part of its answer's text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.is_control(id)
    }

    /// The number of token ids, padding included.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.size()
    }

    /// The bytes that `id` stands for: for special tokens their own text, for padding and
    /// ids outside the vocabulary nothing.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// The id of the token spelled `token` in the file: special tokens as they are,
    /// others in the byte-level alphabet (`Ġthe`).
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    /// The texts of all control tokens, longest first.
    pub fn control_tokens(&self) -> impl Iterator<Item = &str> {
        let specials = self.vocabulary.specials().iter();
        specials.filter(|special| special.control).map(|special| special.text.as_str())
    }

    /// What tells whether two models share token ids.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Cuts `text` at the special tokens for which `wanted(is control)` holds.
    ///
    /// Each special token, longest first, cuts what the longer ones have left over: not
    /// the same as scanning from the left where two of them overlap, and the reference's
    /// way.
    fn each_fragment<'t>(
        &self,
        text: &'t str,
        wanted: impl Fn(bool) -> bool,
        visit: &mut dyn FnMut(Fragment<'t>) -> Result<(), TokenizerError>,
    ) -> Result<(), TokenizerError> {
        let mut fragments = vec![Fragment::Text(text)];
        for special in self.vocabulary.specials().iter().filter(|special| wanted(special.control)) {
            if !text.contains(&special.text) {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                let Fragment::Text(text) = fragment else {
                    cut.push(fragment);
                    continue;
                };
                for (index, part) in text.split(&special.text).enumerate() {
                    if index > 0 {
                        cut.push(Fragment::Token(special.id));
                    }
                    if !part.is_empty() {
                        cut.push(Fragment::Text(part));
                    }
                }
            }
            fragments = cut;
        }
        fragments.into_iter().try_for_each(visit)
    }

    /// Encodes text in which no special token is to be recognised.
    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut symbols = String::new();
        let mut result = Ok(());
        self.pre.split(text, &mut |word| {
            // A byte without a token ends the run of symbols that may be merged.
            for run in word.as_bytes().split(|&byte| self.vocabulary.byte_id(byte).is_none()) {
                symbols.clear();
                symbols.extend(run.iter().map(|&byte| bytes::to_char(byte)));
                if result.is_ok() {
                    result = self.merge(&symbols, ids);
                }
            }
        });
        result
    }

    /// Merges one word, given in the byte-level alphabet.
    fn merge(&self, symbols: &str, ids: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let tokens = self
            .bpe
            .tokenize(symbols)
            .map_err(|error| TokenizerError::Encode { reason: error.to_string() })?;
        for token in tokens {
            if self.vocabulary.is_control(token.id) {
                // Some vocabularies spell a control token with merges of ordinary text;
                // text is never to become one, so it stays unmerged.
                let bytes = token.value.chars().filter_map(bytes::from_char);
                ids.extend(bytes.filter_map(|byte| self.vocabulary.byte_id(byte)));
            } else {
                ids.push(token.id);
            }
        }
        Ok(())
    }
}

/// A piece of a text once special tokens have been recognised.
#[derive(Debug, Clone, Copy)]
enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

fn pre_tokenizer(metadata: &Metadata) -> Result<PreTokenizer, TokenizerError> {
    let name = metadata::string(metadata, PRE)?.unwrap_or_else(|| {
        tracing::warn!("the model file names no pre-tokenizer: using the default one");
        "default"
    });
    PreTokenizer::by_name(name).ok_or_else(|| TokenizerError::UnsupportedPreTokenizer {
        pre: name.to_owned(),
        known: PreTokenizer::known_names().collect::<Vec<_>>().join(", "),
    })
}

fn build_bpe(tokens: &[&str], merges: &[&str], ignore_merges: bool) -> Result<BPE, TokenizerError> {
    let mut vocab = Vocab::with_capacity(tokens.len());
    for (id, text) in (0u32..).zip(tokens) {
        if vocab.insert((*text).to_owned(), id).is_some() {
            return Err(TokenizerError::DuplicateToken { text: (*text).to_owned() });
        }
    }
    let merges = merges
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            // A space is never part of a symbol, for the alphabet writes it as `Ġ`.
            rule.split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| TokenizerError::BadMerge { index, rule: (*rule).to_owned() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|error| TokenizerError::Inconsistent { reason: error.to_string() })
}

fn fingerprint(pre: PreTokenizer, tokens: &[&str], merges: &[&str]) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {} ", pre.family, pre.ignore_merges));
    for list in [tokens, merges] {
        // Lengths keep ["ab"] and ["a", "b"] apart.
        hash.update((list.len() as u64).to_le_bytes());
        for text in list {
            hash.update((text.len() as u32).to_le_bytes());
            hash.update(text);
        }
    }
    Fingerprint(hash.finalize().into())
}

#[cfg(test)]
pub(crate) mod tests;
