//! Trying a policy out before it serves: an instance of its own is asked about
//! facts of earlier requests, or made-up ones.

use std::collections::VecDeque;

use aio_core::{
    Acceptance, Draft, Drafter, FailureKind, HostInfo, MAX_PROBES, RequestFacts, RoundContext,
    RoundFacts,
};

use crate::error::LoadError;
use crate::loaded::LoadedPolicy;

/// Asks a policy that is not to serve about facts of earlier requests (made-up
/// ones where there are none) and about a round. Returns what was brought into
/// bounds.
pub(crate) fn try_out(
    policy: &mut LoadedPolicy,
    facts: &VecDeque<RequestFacts>,
) -> Result<Vec<String>, LoadError> {
    let made_up = [made_up_request(policy.host())];
    let facts: Vec<&RequestFacts> =
        if facts.is_empty() { made_up.iter().collect() } else { facts.iter().collect() };
    let mut failures = Vec::new();
    for facts in facts {
        // With room for a probe more: that a policy asks for one is no fault, and
        // results of another policy's probes are no answer to it.
        let mut facts = facts.clone();
        facts.probes.truncate(MAX_PROBES - 1);
        failures.extend(policy.plan(&facts).failures);
        let (context, round) = made_up_round(&facts, policy.host());
        failures.extend(policy.rounds(&context, &[round]).failures);
    }
    failures.extend(policy.snapshot().failures);
    let mut changes = Vec::new();
    for failure in failures {
        if failure.kind != FailureKind::Clamped {
            return Err(LoadError::Canary { policy: policy.identity().name.clone(), failure });
        }
        changes.push(failure.message);
    }
    Ok(changes)
}

fn made_up_request(host: &HostInfo) -> RequestFacts {
    RequestFacts {
        request: 0,
        prompt_tokens: vec![100; host.tiers.len()],
        max_tokens: 256,
        temperature: 0.0,
        chat: true,
        tiers: vec![aio_core::TierFacts::default(); host.tiers.len()],
        load: aio_core::Load { running: 1, queued: 0 },
        probes: Vec::new(),
    }
}

fn made_up_round(facts: &RequestFacts, host: &HostInfo) -> (RoundContext, RoundFacts) {
    let tier = host.largest_tier();
    let acceptance =
        Acceptance { tier, drafter: Drafter::Lookup, by_position: vec![0.8, 0.7, 0.5], rounds: 20 };
    let context =
        RoundContext { tiers: facts.tiers.clone(), acceptance: vec![acceptance], load: facts.load };
    let round = RoundFacts {
        request: facts.request,
        tier,
        round: 1,
        prompt_tokens: facts.prompt_tokens.last().copied().unwrap_or(1),
        committed: 2,
        remaining: facts.max_tokens,
        draft: Draft::NONE,
        recent_rounds: 1,
        recent_drafted: 0,
        recent_accepted: 0,
        lookup_match: 3,
    };
    (context, round)
}
