//! Test cases as files: facts in, answer expected. No model is needed, and no
//! program: a case is JSON that an author writes by hand.
//!
//! A file holds one case, or a list of them. This one has two calls:
//!
//! ```
//! # let text = r#"
//! {
//!   "name": "code goes to the small tier",
//!   "config": {"entropy_threshold": 0.5},
//!   "calls": [
//!     {"plan": {"prompt_tokens": [120, 120]},
//!      "expect": {"probe": {"tier": 0}}},
//!     {"plan": {"probes": [{"probabilities": [0.97, 0.02, 0.01], "entropy": 0.15}]},
//!      "expect": {"decided": {"tier": 0, "label": "code"}}}
//!   ]
//! }
//! # "#;
//! # let cases = aio_policy_tools::read_cases(text).unwrap();
//! # assert_eq!((cases.len(), cases[0].calls.len()), (1, 2));
//! ```
//!
//! **A case** has a `name`; a `config` (the policy's configuration as JSON; none
//! where it is left out); a `host` (by default two tiers, qwen2.5-coder-0.5b and
//! qwen2.5-coder-1.5b, that share a tokenizer); what it is started with as
//! `carried` state (a text, or `{"hex": "00ff"}`); and its `calls`, which one
//! instance gets in order.
//!
//! **A call** has one of
//! - `plan`: request facts, and beside it what is lent of the request as
//!   `granted` (`prompt_text`, `prompt_tokens`, `metadata`);
//! - `rounds`: `context` and `requests`;
//! - `finished`: a list of outcomes;
//! - `snapshot`: `{}`;
//! - `reload`: `{}`, which is no hook: the state is taken and handed to a new
//!   instance, which gets the calls that follow.
//!
//! **Facts** have the names of the contract's fields with underscores, and every
//! field may be left out; `aio policy test --defaults` prints what it is then. The
//! length of a prompt is a number for all tiers, or a list of one for each. A field
//! that does not exist is refused with its line.
//!
//! **What is expected** (`expect`; a call without it only has to succeed) is
//! compared with the answer as JSON: of an object the named fields, of a list
//! every element, numbers and texts exactly. In their places may stand
//! - `{"at-least": 1, "at-most": 4}` (or one of the two) for a number,
//! - `{"contains": "entropy"}` for a text.
//!
//! Answers look so: `{"decided": {"tier", "draft": {"drafter", "length",
//! "ngram_min", "ngram_max", "draft_tier", "min_confidence"}, "ask_every", "label",
//! "reason"}}` or `{"probe": {"tier", "question", "answers"}}` to `plan`; a list of
//! `{"request", "action", "reason"}` to `rounds`, where `action` is `"keep"`,
//! `{"draft": {..}}` or `{"move-to": 0}`; `{"bytes", "text"}` to `snapshot` and
//! `reload`, where `text` is null unless the state is text.
//!
//! **A failure** of a hook fails the case. One that is meant is named beside the
//! call: `"fails": "clamped"` (or `trap`, `timeout`, `memory`, `nonsense`,
//! `set-aside`).

mod expect;
mod facts;
mod run;

use aio_core::{FailureKind, Granted};
use serde::Deserialize;
use serde_json::Value;

pub use facts::{Facts, HostFacts, OutcomeFacts, RoundsFacts, defaults};
pub use run::{CaseReport, TEST_SCHEMA, Tested, run_cases};

/// One test case.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it holds, in a few words.
    pub name: String,
    /// The policy's configuration; it gets none where this is absent.
    #[serde(default)]
    pub config: Option<Value>,
    /// The host that it is started on.
    #[serde(default)]
    pub host: HostFacts,
    /// The state that it is started with.
    #[serde(default)]
    pub carried: Option<State>,
    /// What it is asked, in order.
    pub calls: Vec<CaseCall>,
}

/// Learned state, as a policy's `snapshot` returns it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "state is a text, or {\"hex\": \"00ff\"}")]
pub enum State {
    /// The bytes of a text.
    Text(String),
    /// Any bytes.
    Hex {
        /// Two digits a byte.
        hex: String,
    },
}

/// One call, and what must come of it. Exactly one hook is named; that is looked
/// at when the file is read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseCall {
    /// How to answer a request.
    #[serde(default)]
    pub plan: Option<Facts>,
    /// What is lent of the request, beside `plan`.
    #[serde(default)]
    pub granted: Option<Granted>,
    /// How running requests go on.
    #[serde(default)]
    pub rounds: Option<RoundsFacts>,
    /// What became of requests.
    #[serde(default)]
    pub finished: Option<Vec<OutcomeFacts>>,
    /// Learned state.
    #[serde(default)]
    pub snapshot: Option<Nothing>,
    /// Carries the state over to a new instance.
    #[serde(default)]
    pub reload: Option<Nothing>,
    /// What the answer must have in it.
    #[serde(default)]
    pub expect: Option<Value>,
    /// The kind of failure that must come of it.
    #[serde(default)]
    pub fails: Option<FailureKind>,
}

/// An object without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Why a file of cases cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CaseError {
    /// It is not JSON, or a field is misspelt or of another type.
    #[error("it is no test case: {0}")]
    Form(String),
    /// A list without cases.
    #[error("it holds no case")]
    Empty,
    /// A case without calls.
    #[error("the case \"{case}\" has no calls: nothing would be tested")]
    NoCalls {
        /// The case.
        case: String,
    },
    /// A call of no hook, or of several.
    #[error(
        "call {call} of the case \"{case}\" names {hooks} hooks: name one of plan, rounds, \
         finished, snapshot, reload"
    )]
    Hooks {
        /// The case.
        case: String,
        /// Which call, from 1.
        call: usize,
        /// Hooks named.
        hooks: usize,
    },
    /// Something lent to another hook than `plan`.
    #[error("call {call} of the case \"{case}\" has `granted` without `plan`")]
    Granted {
        /// The case.
        case: String,
        /// Which call, from 1.
        call: usize,
    },
    /// State that is no hexadecimal text.
    #[error("the carried state of the case \"{case}\" is not hexadecimal, two digits a byte")]
    Hex {
        /// The case.
        case: String,
    },
}

/// Reads the cases of a file.
///
/// # Errors
/// What is wrong, and where.
pub fn read_cases(text: &str) -> Result<Vec<Case>, CaseError> {
    // A type that takes both would not tell the line of what is wrong.
    let form = |error: serde_json::Error| CaseError::Form(error.to_string());
    let cases: Vec<Case> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(form)?
    } else {
        vec![serde_json::from_str(text).map_err(form)?]
    };
    if cases.is_empty() {
        return Err(CaseError::Empty);
    }
    cases.iter().try_for_each(check)?;
    Ok(cases)
}

fn check(case: &Case) -> Result<(), CaseError> {
    let name = || case.name.clone();
    if case.calls.is_empty() {
        return Err(CaseError::NoCalls { case: name() });
    }
    if let Some(State::Hex { hex }) = &case.carried
        && aio_policy::from_hex(hex).is_none()
    {
        return Err(CaseError::Hex { case: name() });
    }
    for (i, call) in case.calls.iter().enumerate() {
        let CaseCall { plan, rounds, finished, snapshot, reload, .. } = call;
        let named = [
            plan.is_some(),
            rounds.is_some(),
            finished.is_some(),
            snapshot.is_some(),
            reload.is_some(),
        ];
        let hooks = named.into_iter().filter(|is_named| *is_named).count();
        if hooks != 1 {
            return Err(CaseError::Hooks { case: name(), call: i + 1, hooks });
        }
        if call.granted.is_some() && plan.is_none() {
            return Err(CaseError::Granted { case: name(), call: i + 1 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_case_or_a_list_of_them() {
        let one = r#"{"name": "a", "calls": [{"plan": {}}]}"#;
        assert_eq!(read_cases(one).unwrap().len(), 1);
        assert_eq!(read_cases(&format!(" [{one}, {one}]")).unwrap().len(), 2);
        assert_eq!(read_cases("[]"), Err(CaseError::Empty));
    }

    #[test]
    fn what_is_misspelt_is_named_with_its_line() {
        for (text, says) in [
            ("{\"name\": \"a\",\n\"call\": []}", "unknown field `call`, expected one of `name`"),
            (
                "{\"name\": \"a\", \"calls\": [\n{\"plan\": {\n\"prompt_token\": 1}}]}",
                "unknown field `prompt_token`, expected one of `request`, `prompt_tokens`",
            ),
            (
                "{\"name\": \"a\", \"calls\": [{\"rounds\": {\"requests\": [{\"tear\": 1}]}}]}",
                "unknown field `tear`",
            ),
            ("{\"name\": \"a\", \"calls\": [{\"plan\": {}, \"fails\": \"boom\"}]}", "`boom`"),
            ("{\"name\": \"a\", \"carried\": 5, \"calls\": []}", "state is a text, or {\"hex\""),
            ("{\"name\": \"a\", ", "EOF"),
            ("", "EOF"),
        ] {
            let error = read_cases(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(" line "), "{text}: {error}");
        }
    }

    #[test]
    fn what_would_test_nothing_is_refused() {
        for (call, says) in [
            ("{}", "names 0 hooks"),
            (r#"{"plan": {}, "rounds": {}}"#, "names 2 hooks"),
            (r#"{"finished": [], "granted": {}}"#, "`granted` without `plan`"),
        ] {
            let text = format!(r#"{{"name": "a", "calls": [{{"plan": {{}}}}, {call}]}}"#);
            let error = read_cases(&text).unwrap_err().to_string();
            assert!(error.starts_with("call 2 of the case \"a\""), "{error}");
            assert!(error.contains(says), "{error}");
        }
        let none = read_cases(r#"{"name": "a", "calls": []}"#).unwrap_err();
        assert!(none.to_string().contains("has no calls"), "{none}");
        let hex = r#"{"name": "a", "carried": {"hex": "0g"}, "calls": [{"plan": {}}]}"#;
        assert_eq!(read_cases(hex), Err(CaseError::Hex { case: "a".into() }));
    }
}
