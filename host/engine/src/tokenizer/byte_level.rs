//! Byte-level BPE, the tokenizer of GPT-2 and its heirs: text is cut into words, and
//! the bytes of each word are merged by rules in order of rank.
//!
//! Merging is done by the tokenizers crate.

use sha2::{Digest, Sha256};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::metadata::{self, Metadata};
use super::split::PreTokenizer;
use super::vocabulary::{Spelling, Vocabulary};
use super::{Fingerprint, TokenizerError, bytes, hash_strings};

pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";

pub(super) struct ByteLevel {
    pub(super) pre: PreTokenizer,
    bpe: BPE,
}

impl ByteLevel {
    pub(super) fn from_gguf(
        metadata: &Metadata,
        tokens: &[&str],
    ) -> Result<(ByteLevel, Vocabulary, Fingerprint), TokenizerError> {
        let pre = pre_tokenizer(metadata)?;
        let merges = metadata::strings(metadata, MERGES)?;
        // Half of the time goes into the library's maps; what does not need them is done
        // meanwhile.
        let (bpe, rest) = std::thread::scope(|scope| {
            let rest = scope.spawn(|| {
                let vocabulary = Vocabulary::from_gguf(metadata, tokens, Spelling::ByteLevel)?;
                let unpadded = &tokens[..vocabulary.size_without_padding()];
                let fingerprint = fingerprint(pre, unpadded, &merges);
                Ok::<_, TokenizerError>((vocabulary, fingerprint))
            });
            let bpe = build_bpe(tokens, &merges, pre.ignore_merges);
            (bpe, rest.join())
        });
        let (vocabulary, fingerprint) = match rest {
            Ok(built) => built?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((ByteLevel { pre, bpe: bpe? }, vocabulary, fingerprint))
    }

    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    /// Encodes text in which no special token is to be recognised.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let mut symbols = String::new();
        let mut result = Ok(());
        self.pre.split(text, &mut |word| {
            // A byte without a token ends the run of symbols that may be merged.
            for run in word.as_bytes().split(|&byte| vocabulary.byte_id(byte).is_none()) {
                symbols.clear();
                symbols.extend(run.iter().map(|&byte| bytes::to_char(byte)));
                if result.is_ok() {
                    result = self.merge(vocabulary, &symbols, ids);
                }
            }
        });
        result
    }

    /// Merges one word, given in the byte-level alphabet.
    fn merge(
        &self,
        vocabulary: &Vocabulary,
        symbols: &str,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let tokens = self
            .bpe
            .tokenize(symbols)
            .map_err(|error| TokenizerError::Encode { reason: error.to_string() })?;
        for token in tokens {
            if vocabulary.is_control(token.id) {
                // Some vocabularies spell a control token with merges of ordinary text;
                // text is never to become one, so it stays unmerged.
                let bytes = token.value.chars().filter_map(bytes::from_char);
                ids.extend(bytes.filter_map(|byte| vocabulary.byte_id(byte)));
            } else {
                ids.push(token.id);
            }
        }
        Ok(())
    }
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
    hash_strings(&mut hash, tokens);
    hash_strings(&mut hash, merges);
    Fingerprint(hash.finalize().into())
}
