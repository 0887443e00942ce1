//! Why a request gets no answer.

use std::sync::Arc;

use aio_engine::chat::ChatError;
use aio_engine::device::DeviceError;
use aio_engine::tokenizer::TokenizerError;

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The prompt fits no tier.
    #[error(
        "the prompt has {tokens} tokens, but the context holds {context}, one of them for the answer; shorten the prompt or raise --context if the model allows it"
    )]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// The longest context among the tiers.
        context: usize,
    },
    /// There is nothing to answer.
    #[error("the prompt is empty; give some text")]
    EmptyPrompt,
    /// No tokens were asked for.
    #[error("max_tokens is 0; ask for at least one token")]
    NoTokens,
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
    /// A conversation was put to a model without a template.
    #[error(
        "tier {tier} has no chat template, so it cannot take a conversation; give the prompt as plain text with --raw"
    )]
    NoTemplate {
        /// The tier.
        tier: String,
    },
    /// The chat template failed.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The device failed. Requests that stood in the same pass share the error.
    #[error(transparent)]
    Device(Arc<DeviceError>),
    /// It can never have the memory that it needs.
    #[error(
        "prompt and answer may need {needed} MB of KV cache, and all requests together may have {budget} MB; ask for fewer tokens, or raise the KV budget"
    )]
    KvBudget {
        /// Megabytes that it may need.
        needed: u64,
        /// Megabytes that there may be.
        budget: u64,
    },
    /// The policy's generation that was asked for is gone.
    #[error("the policy's generation {asked} is not in place; in place is {current}")]
    Generation {
        /// The generation that was asked for.
        asked: u64,
        /// The one in place.
        current: u64,
    },
}

impl ServeError {
    /// So many bytes of KV cache may be needed, and there may be so many.
    pub(crate) fn kv_budget(needed: u64, budget: u64) -> Self {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        Self::KvBudget { needed: megabytes(needed), budget: megabytes(budget) }
    }
}

impl From<DeviceError> for ServeError {
    fn from(error: DeviceError) -> Self {
        Self::Device(Arc::new(error))
    }
}
