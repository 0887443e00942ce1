//! What an operator grants beyond facts: the prompt and the client's metadata.
//!
//! A component imports only what its code calls, and the host refuses one that
//! imports what was not granted (`--grant prompt-text`, `prompt-tokens`,
//! `metadata`). So call these only if the policy cannot do without. All answer
//! `None` in every hook but `plan`.
//!
//! In native tests they answer what [`grant`] was last told on the same thread.

#[cfg(target_arch = "wasm32")]
mod granted {
    use crate::bindings::aio::policy::{metadata, prompt_text, prompt_tokens};

    pub(super) fn text() -> Option<String> {
        prompt_text::get()
    }

    pub(super) fn tokens(tier: u32) -> Option<Vec<u32>> {
        prompt_tokens::get(tier)
    }

    pub(super) fn value(key: &str) -> Option<String> {
        metadata::get(key)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod granted {
    use std::cell::RefCell;

    thread_local! {
        pub(super) static GRANTED: RefCell<super::Granted> = RefCell::default();
    }

    pub(super) fn text() -> Option<String> {
        GRANTED.with_borrow(|granted| granted.prompt_text.clone())
    }

    pub(super) fn tokens(tier: u32) -> Option<Vec<u32>> {
        GRANTED.with_borrow(|granted| granted.prompt_tokens.get(tier as usize).cloned())
    }

    pub(super) fn value(key: &str) -> Option<String> {
        GRANTED.with_borrow(|granted| {
            granted.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
        })
    }
}

/// The prompt as text: a conversation's messages with an empty line between
/// them, cut to 64 KiB. Grant: `prompt-text`.
pub fn prompt_text() -> Option<String> {
    granted::text()
}

/// The prompt by a tier's tokenizer, cut to 32,768 tokens; `None` where there is
/// no such tier. Grant: `prompt-tokens`.
pub fn prompt_tokens(tier: u32) -> Option<Vec<u32>> {
    granted::tokens(tier)
}

/// What the client said of its request under a key. Grant: `metadata`.
pub fn metadata(key: &str) -> Option<String> {
    granted::value(key)
}

/// What a native test grants.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// The prompt as text.
    pub prompt_text: Option<String>,
    /// The prompt as tokens, in the order of the tiers.
    pub prompt_tokens: Vec<Vec<u32>>,
    /// Keys and values.
    pub metadata: Vec<(String, String)>,
}

/// Grants this to the policy under test, on this thread, until granted anew.
#[cfg(not(target_arch = "wasm32"))]
pub fn grant(granted: Granted) {
    granted::GRANTED.set(granted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_until_it_is() {
        assert_eq!((prompt_text(), prompt_tokens(0), metadata("kind")), (None, None, None));
        grant(Granted {
            prompt_text: Some("Hello".into()),
            prompt_tokens: vec![vec![1, 2]],
            metadata: vec![("kind".into(), "code".into())],
        });
        assert_eq!(prompt_text().as_deref(), Some("Hello"));
        assert_eq!((prompt_tokens(0), prompt_tokens(1)), (Some(vec![1, 2]), None));
        assert_eq!((metadata("kind").as_deref(), metadata("other")), (Some("code"), None));
        grant(Granted::default());
        assert_eq!(prompt_text(), None);
    }
}
