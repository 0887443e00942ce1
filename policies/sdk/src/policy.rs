//! What a policy is: the trait, and how one is started.

use serde::de::DeserializeOwned;

use crate::{
    Description, HostInfo, Outcome, RequestFacts, RoundContext, RoundDecision, RoundFacts, Verdict,
    parse_config,
};

/// What a policy is started with, besides its configuration.
#[derive(Debug)]
pub struct Start<'a> {
    /// The tiers and the host's bounds; the same for the policy's whole life.
    pub host: &'a HostInfo,
    /// What [`Policy::snapshot`] last returned, perhaps in an earlier version of
    /// this policy; `None` at the first start.
    pub carried: Option<Vec<u8>>,
}

/// A policy. The host calls its methods one at a time.
pub trait Policy: Sized + 'static {
    /// Read from the operator's JSON; its default is used when there is none.
    type Config: DeserializeOwned + Default;

    /// What this policy is.
    fn describe() -> Description;

    /// Starts the policy.
    ///
    /// # Errors
    /// The text is shown to the operator and the policy is not used; say which
    /// field is wrong and what is allowed.
    fn new(config: Self::Config, start: Start<'_>) -> Result<Self, String>;

    /// How to answer a request, or a probe to run first; then this is called
    /// again with the probe's result among the facts.
    fn plan(&mut self, facts: &RequestFacts, host: &HostInfo) -> Verdict;

    /// Asked once per scheduler round for the requests whose plans want it
    /// (`ask_every`). Requests without a decision keep their setting.
    fn rounds(&mut self, context: &RoundContext, requests: &[RoundFacts]) -> Vec<RoundDecision> {
        let _ = (context, requests);
        Vec::new()
    }

    /// What became of requests, to learn from.
    fn finished(&mut self, outcomes: &[Outcome]) {
        let _ = outcomes;
    }

    /// Learned state, to be carried over a reload; empty when there is none.
    fn snapshot(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// Starts a policy as the host does: from a configuration text, which may be
/// empty. Use it in tests.
///
/// # Errors
/// One sentence on what is wrong with the configuration.
pub fn start<P: Policy>(config: &str, start: Start<'_>) -> Result<P, String> {
    P::new(parse_config(config)?, start)
}
