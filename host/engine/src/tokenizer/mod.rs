//! Text to token ids and back, from what a GGUF file carries.
//!
//! The reference is llama.cpp: with the vocabularies of the catalogue, every family of
//! pre-tokenizers in the table gives the same ids as its own, but for characters newer
//! than its Unicode tables, and so does SentencePiece. Merging byte-level BPE is done by
//! the tokenizers crate; recognising special tokens, cutting text into words, SentencePiece
//! and decoding are done here, because the reference and that crate differ in them.
//!
//! This module must not know models, chat templates or sampling. What it guarantees to
//! the rest of the host: text encoded with [`SpecialTokens::AsText`] never yields a
//! control token, whatever stands in it.

mod byte_level;
mod bytes;
mod error;
mod metadata;
mod sentencepiece;
mod split;
mod stream;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use error::TokenizerError;
pub use metadata::Metadata;
pub use stream::StreamDecoder;

use byte_level::ByteLevel;
pub(crate) use metadata::string as metadata_string;
use sentencepiece::SentencePiece;
use stream::Utf8Assembler;
use vocabulary::Vocabulary;

const MODEL: &str = "tokenizer.ggml.model";

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
/// It covers the tokens and what decides how text is cut into them: the merge rules and
/// the pre-tokenizer, or the scores. Padding tokens (type
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

fn hash_strings(hash: &mut Sha256, texts: &[&str]) {
    // Lengths keep ["ab"] and ["a", "b"] apart.
    hash.update((texts.len() as u64).to_le_bytes());
    for text in texts {
        hash.update((text.len() as u32).to_le_bytes());
        hash.update(text);
    }
}

/// How text in which no special token is to be recognised becomes ids.
enum Algorithm {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(SentencePiece),
}

/// The tokenizer of one model.
pub struct Tokenizer {
    vocabulary: Arc<Vocabulary>,
    algorithm: Algorithm,
    add_bos: bool,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("algorithm", &self.algorithm_name())
            .field("vocab_size", &self.vocab_size())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// When keys are missing or of the wrong type, when the tokenizer is neither
    /// byte-level BPE nor SentencePiece, when its pre-tokenizer is unknown, and when
    /// vocabulary and merge rules do not fit together.
    pub fn from_gguf(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
        let model =
            metadata::string(metadata, MODEL)?.ok_or(TokenizerError::MissingKey { key: MODEL })?;
        let tokens = metadata::strings(metadata, vocabulary::TOKENS);
        let add_bos = metadata::boolean(metadata, "tokenizer.ggml.add_bos_token")?;
        match model {
            "gpt2" => {
                let (bpe, vocabulary, fingerprint) = ByteLevel::from_gguf(metadata, &tokens?)?;
                let add_bos = add_bos.unwrap_or(bpe.pre.add_bos);
                let algorithm = Algorithm::ByteLevel(Box::new(bpe));
                Ok(Tokenizer::new(algorithm, vocabulary, add_bos, fingerprint))
            }
            "llama" => {
                let (spm, vocabulary, fingerprint) = SentencePiece::from_gguf(metadata, &tokens?)?;
                // As llama.cpp has it where the file says nothing.
                let add_bos = add_bos.unwrap_or(true);
                Ok(Tokenizer::new(Algorithm::SentencePiece(spm), vocabulary, add_bos, fingerprint))
            }
            _ => Err(TokenizerError::UnsupportedModel { model: model.to_owned() }),
        }
    }

    fn new(
        algorithm: Algorithm,
        vocabulary: Vocabulary,
        add_bos: bool,
        fingerprint: Fingerprint,
    ) -> Tokenizer {
        Tokenizer { vocabulary: Arc::new(vocabulary), algorithm, add_bos, fingerprint }
    }

    /// Encodes `text`. No BOS is put in front: see [`Tokenizer::adds_bos`].
    ///
    /// Bytes for which the vocabulary has no token are left out, as in llama.cpp; only
    /// small vocabularies lack any, and only rare control characters and scripts. To
    /// SentencePiece U+2581 is a space, and some files ask it to put one in front.
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
            Fragment::Text(text) => match &self.algorithm {
                Algorithm::ByteLevel(bpe) => bpe.encode(&self.vocabulary, text, &mut ids),
                Algorithm::SentencePiece(spm) => {
                    spm.encode(&self.vocabulary, text, &mut ids);
                    Ok(())
                }
            },
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

    fn algorithm_name(&self) -> String {
        match &self.algorithm {
            Algorithm::ByteLevel(bpe) => format!("byte-level BPE, {:?}", bpe.pre),
            Algorithm::SentencePiece(_) => "SentencePiece".to_owned(),
        }
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
    /// others in the byte-level alphabet (`Ġthe`) or with U+2581 for spaces (`▁the`).
    pub fn id_of(&self, token: &str) -> Option<u32> {
        match &self.algorithm {
            Algorithm::ByteLevel(bpe) => bpe.id_of(token),
            Algorithm::SentencePiece(spm) => spm.id_of(token),
        }
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
        let mut present = [false; 256];
        text.bytes().for_each(|byte| present[usize::from(byte)] = true);
        for special in self.vocabulary.specials().iter().filter(|special| wanted(special.control)) {
            // A vocabulary may have thousands of them: most cannot be in a text at all.
            let mut bytes = special.text.bytes();
            if !bytes.all(|byte| present[usize::from(byte)]) || !text.contains(&special.text) {
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
}

/// A piece of a text once special tokens have been recognised.
#[derive(Debug, Clone, Copy)]
enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

#[cfg(test)]
pub(crate) mod tests;
