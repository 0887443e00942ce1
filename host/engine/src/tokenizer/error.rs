//! What can go wrong with a tokenizer, each as one sentence that says what to do.

/// Why a tokenizer could not be built or could not encode a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file's metadata lacks a key that every tokenizer needs.
    #[error("the model file has no `{key}`: it carries no tokenizer, so use a complete GGUF file")]
    MissingKey {
        /// The metadata key.
        key: &'static str,
    },
    /// A metadata key holds a value of another type than the format prescribes.
    #[error(
        "`{key}` in the model file is not {expected}: the file is damaged or was converted wrongly, so fetch it again"
    )]
    WrongType {
        /// The metadata key.
        key: &'static str,
        /// What should stand there, with its article: "a string".
        expected: &'static str,
    },
    /// The tokenizer is neither byte-level BPE nor SentencePiece.
    #[error(
        "the model's tokenizer is of type `{model}`, and only byte-level BPE (`gpt2`) and SentencePiece (`llama`) can be read: choose a model with such a tokenizer"
    )]
    UnsupportedModel {
        /// The value of `tokenizer.ggml.model`.
        model: String,
    },
    /// How the text is to be split before BPE is not known by this name.
    #[error(
        "the model's pre-tokenizer `{pre}` is not known (known: {known}): choose another model"
    )]
    UnsupportedPreTokenizer {
        /// The value of `tokenizer.ggml.pre`.
        pre: String,
        /// The names that are known, separated by commas.
        known: String,
    },
    /// Two arrays that describe the same tokens differ in length.
    #[error(
        "the model file lists {tokens} tokens but {entries} {what}: the file is damaged, so fetch it again"
    )]
    LengthMismatch {
        /// Entries of `tokenizer.ggml.tokens`.
        tokens: usize,
        /// Entries of the other array.
        entries: usize,
        /// What those are, such as "token types".
        what: &'static str,
    },
    /// The same text stands for two token ids.
    #[error(
        "the model file lists the token `{text}` twice: the file is damaged, so fetch it again"
    )]
    DuplicateToken {
        /// The token's text as the file spells it.
        text: String,
    },
    /// A merge rule is not two symbols separated by a space.
    #[error(
        "merge rule {index} of the model file, `{rule}`, is not a pair of symbols: the file is damaged, so fetch it again"
    )]
    BadMerge {
        /// Position in `tokenizer.ggml.merges`, from 0.
        index: usize,
        /// The rule as the file spells it.
        rule: String,
    },
    /// The merge rules and the vocabulary do not belong together.
    #[error("the model file's merge rules do not fit its vocabulary, so fetch it again: {reason}")]
    Inconsistent {
        /// What the tokenizers library found.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("the text could not be tokenised, which is a bug worth reporting: {reason}")]
    Encode {
        /// What the tokenizers library found.
        reason: String,
    },
}
