//! The tokens themselves: their bytes, their kinds, and which of them are special.
//!
//! This module reads the vocabulary out of the metadata; it does not know how text is
//! cut or merged.

use super::{TokenizerError, bytes, metadata, metadata::Metadata};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const EOS: &str = "tokenizer.ggml.eos_token_id";

/// What a token is for, as `tokenizer.ggml.token_type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ordinary text.
    Normal,
    /// Stands for text that the vocabulary lacks.
    Unknown,
    /// Steers the model; never shown, and never made from a user's text.
    Control,
    /// A whole string added to the vocabulary; recognised in any text and shown as is.
    UserDefined,
    /// Fills the vocabulary up to a round size.
    Unused,
    /// One byte, spelled `<0x0A>`.
    Byte,
}

impl Kind {
    fn from_gguf(number: i64) -> Kind {
        match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            6 => Kind::Byte,
            // 5 is "unused"; 0 and numbers yet to be assigned say as little.
            _ => Kind::Unused,
        }
    }

    /// Whether text turns into such a token only where the caller vouches for the text.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Kind::Control | Kind::Unknown)
    }
}

/// How ordinary tokens are spelled in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In the alphabet of `bytes`.
    ByteLevel,
    /// As text, with [`SPACE`] for spaces; bytes have tokens of their own.
    SentencePiece,
}

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '\u{2581}';

/// A token that is recognised as a whole, before any splitting or merging.
#[derive(Debug, Clone)]
pub(super) struct Special {
    pub id: u32,
    pub text: String,
    pub control: bool,
}

/// All tokens by id.
#[derive(Debug)]
pub(super) struct Vocabulary {
    kinds: Vec<Kind>,
    /// The bytes of all tokens, one after the other; `ends[id]` is where those of `id` end.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Longest first, which is the order in which they are looked for.
    specials: Vec<Special>,
    /// The token for each byte; a vocabulary may lack some that its training never met.
    byte_ids: [Option<u32>; 256],
    bos: Option<u32>,
    eos: Option<u32>,
    /// Ascending.
    end_of_generation: Vec<u32>,
}

impl Vocabulary {
    /// Reads tokens, kinds and special ids. `tokens` is what stands under [`TOKENS`].
    pub(super) fn from_gguf(
        metadata: &Metadata,
        tokens: &[&str],
        spelling: Spelling,
    ) -> Result<Vocabulary, TokenizerError> {
        let mut kinds = match metadata::integers(metadata, TOKEN_TYPE)? {
            Some(types) if types.len() != tokens.len() => {
                let (tokens, entries) = (tokens.len(), types.len());
                let what = "token types";
                return Err(TokenizerError::LengthMismatch { tokens, entries, what });
            }
            Some(types) => types.into_iter().map(Kind::from_gguf).collect(),
            None => vec![Kind::Normal; tokens.len()],
        };
        let bos = metadata::token_id(metadata, "tokenizer.ggml.bos_token_id", tokens.len())?;
        let eos = metadata::token_id(metadata, EOS, tokens.len())?;
        let end_of_generation = end_of_generation(metadata, tokens, &mut kinds)?;

        let mut vocabulary = Vocabulary {
            bytes: Vec::with_capacity(tokens.len() * 8),
            ends: Vec::with_capacity(tokens.len()),
            specials: Vec::new(),
            byte_ids: [None; 256],
            bos,
            eos,
            end_of_generation,
            kinds: Vec::new(),
        };
        for (id, (text, kind)) in (0u32..).zip(tokens.iter().zip(&kinds)) {
            vocabulary.add(id, text, *kind, spelling);
        }
        vocabulary.kinds = kinds;
        vocabulary.specials.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        Ok(vocabulary)
    }

    fn add(&mut self, id: u32, text: &str, kind: Kind, spelling: Spelling) {
        match kind {
            Kind::Normal if spelling == Spelling::SentencePiece => {
                for (index, part) in text.split(SPACE).enumerate() {
                    self.bytes.extend((index > 0).then_some(b' '));
                    self.bytes.extend_from_slice(part.as_bytes());
                }
            }
            Kind::Normal => {
                let from = self.bytes.len();
                for symbol in text.chars() {
                    match bytes::from_char(symbol) {
                        Some(byte) => self.bytes.push(byte),
                        // Outside the alphabet: the converter left it as it was.
                        None => {
                            self.bytes.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes())
                        }
                    }
                }
                if let [byte] = self.bytes[from..] {
                    self.byte_ids[usize::from(byte)] = Some(id);
                }
            }
            Kind::Byte => {
                let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    self.bytes.push(byte);
                    if spelling == Spelling::SentencePiece {
                        self.byte_ids[usize::from(byte)] = Some(id);
                    }
                }
            }
            Kind::Control | Kind::Unknown | Kind::UserDefined => {
                self.bytes.extend_from_slice(text.as_bytes());
                if !text.is_empty() {
                    let (text, control) = (text.to_owned(), kind.is_control());
                    self.specials.push(Special { id, text, control });
                }
            }
            Kind::Unused => {}
        }
        self.ends.push(self.bytes.len());
    }

    pub(super) fn size(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes of a token, special or not; empty for padding and for ids outside.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start..end]
    }

    /// As [`Vocabulary::bytes`], but nothing for control tokens.
    pub(super) fn visible_bytes(&self, id: u32) -> &[u8] {
        if self.is_control(id) { &[] } else { self.bytes(id) }
    }

    pub(super) fn is_control(&self, id: u32) -> bool {
        self.kinds.get(id as usize).is_some_and(|kind| kind.is_control())
    }

    /// Whether merging the characters of a text may yield this token: not if it steers
    /// the model, and not if it stands for a byte, for then it would decode to something
    /// else than that text.
    pub(super) fn is_text(&self, id: u32) -> bool {
        let kind = self.kinds.get(id as usize);
        kind.is_some_and(|kind| matches!(kind, Kind::Normal | Kind::UserDefined))
    }

    pub(super) fn byte_id(&self, byte: u8) -> Option<u32> {
        self.byte_ids[usize::from(byte)]
    }

    pub(super) fn specials(&self) -> &[Special] {
        &self.specials
    }

    pub(super) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(super) fn eos(&self) -> Option<u32> {
        self.eos
    }

    pub(super) fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// How many tokens there are before the padding at the end.
    pub(super) fn size_without_padding(&self) -> usize {
        self.kinds.iter().rposition(|&kind| kind != Kind::Unused).map_or(0, |last| last + 1)
    }
}

/// Metadata keys whose token ends a generation.
const END_KEYS: [&str; 6] = [
    EOS,
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// Texts that end a generation wherever a vocabulary has them. No ordinary text looks
/// like these, so a file that types them otherwise is corrected.
const END_TEXTS: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts that end a generation only where the file types them as control tokens. For
/// `</s>` this departs from llama.cpp on purpose: in Qwen's vocabulary it is an ordinary
/// token, the closing tag of HTML's `<s>`, and a model that writes code must be able to
/// write it.
const END_TEXTS_IF_CONTROL: [&str; 17] = [
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// The tokens after which nothing more is to be generated, as llama.cpp collects them;
/// retypes as control tokens those that must be.
fn end_of_generation(
    metadata: &Metadata,
    tokens: &[&str],
    kinds: &mut [Kind],
) -> Result<Vec<u32>, TokenizerError> {
    let mut ids = Vec::new();
    for key in END_KEYS {
        ids.extend(metadata::token_id(metadata, key, tokens.len())?);
    }
    for (id, text) in (0u32..).zip(tokens) {
        // Nearly all tokens are ordinary text: look at the first byte before comparing.
        if !matches!(text.as_bytes().first(), Some(b'<' | b'[' | b'_')) {
            continue;
        }
        let kind = &mut kinds[id as usize];
        if END_TEXTS.contains(text) {
            *kind = Kind::Control;
            ids.push(id);
        } else if *kind == Kind::Control && END_TEXTS_IF_CONTROL.contains(text) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
