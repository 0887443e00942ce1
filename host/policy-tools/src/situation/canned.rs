//! Situations that every host meets, from one request on an idle machine to 64
//! at once.

use aio_core::{Draft, Drafter, HostInfo, Load, RequestFacts, RoundContext, RoundFacts};

use super::{Call, Situation};
use crate::facts;

/// The situations that a policy is tried out in.
pub fn canned() -> Vec<Situation> {
    let two = facts::two_tiers;
    let lookup = Draft { drafter: Drafter::Lookup, length: 7, ngram_max: 4, ..Draft::NONE };
    let model = Draft { drafter: Drafter::Model, length: 4, draft_tier: Some(0), ..Draft::NONE };
    let mut situations = vec![
        Flow::new("one tier", facts::host(&[0])).situation(),
        Flow::new("two tiers that share a tokenizer", two()).situation(),
        Flow::new("two tiers with a tokenizer each", facts::host(&[0, 1])).situation(),
        Flow::new("three tiers, two of which share a tokenizer", facts::host(&[0, 1, 1]))
            .situation(),
        Flow::new("no gear measured yet", two()).unmeasured().situation(),
        Flow::new("a prompt of one token", two()).prompt(1).situation(),
        Flow::new("a prompt of 8,000 tokens", two()).prompt(8000).situation(),
        Flow::new("a prompt that nearly fills the context", two()).prompt(32_700).situation(),
        Flow { max_tokens: 1, ..Flow::new("one token to generate", two()) }.situation(),
        Flow { max_tokens: 30_000, ..Flow::new("30,000 tokens to generate", two()) }.situation(),
        Flow { temperature: 0.8, chat: false, ..Flow::new("sampled, no conversation", two()) }
            .situation(),
        Flow::new("8 requests at once", two()).requests(8).situation(),
        Flow::new("64 requests at once and 20 that wait", two()).requests(64).situation(),
        Flow::new("lookup matches and is accepted", two()).drafting(lookup, 1.0, 8).situation(),
        Flow::new("lookup matches and is not accepted", two()).drafting(lookup, 0.0, 8).situation(),
        Flow::new("lookup is accepted half the time", two()).drafting(lookup, 0.5, 4).situation(),
        Flow::new("the draft model is accepted", two()).drafting(model, 1.0, 0).situation(),
        Flow::new("the draft model is not accepted", two()).drafting(model, 0.0, 0).situation(),
    ];
    let unsure = Flow::new("a probe that is not sure", two()).situation();
    situations.push(Situation { probes_are_sure: false, ..unsure });
    situations.push(unknown_requests());
    situations
}

/// What a new generation meets first: requests that another one planned.
fn unknown_requests() -> Situation {
    let host = facts::two_tiers();
    let requests = (900..904).map(|request| facts::round(&host, request)).collect();
    let calls = vec![
        Call::Snapshot,
        Call::Finished(vec![facts::outcome(&host, 899)]),
        Call::Rounds { context: facts::context(&host), requests },
    ];
    let name = "requests that it did not plan".into();
    Situation { name, host, calls, probes_are_sure: true }
}

/// A flow of requests through a host: planned, asked about for some rounds, ended.
struct Flow {
    name: &'static str,
    host: HostInfo,
    requests: u64,
    is_measured: bool,
    prompt_tokens: u32,
    max_tokens: u32,
    temperature: f32,
    chat: bool,
    draft: Draft,
    /// Share of each draft that is accepted.
    accepted: f32,
    lookup_match: u32,
}

/// Rounds that a flow lasts: enough for a policy to change its mind.
const ROUNDS: u32 = 12;

impl Flow {
    fn new(name: &'static str, host: HostInfo) -> Self {
        Self {
            name,
            host,
            requests: 1,
            is_measured: true,
            prompt_tokens: 200,
            max_tokens: 256,
            temperature: 0.0,
            chat: true,
            draft: Draft::NONE,
            accepted: 0.0,
            lookup_match: 0,
        }
    }

    fn unmeasured(self) -> Self {
        Self { is_measured: false, ..self }
    }

    fn prompt(self, prompt_tokens: u32) -> Self {
        Self { prompt_tokens, ..self }
    }

    fn requests(self, requests: u64) -> Self {
        Self { requests, lookup_match: 3, ..self }
    }

    fn drafting(self, draft: Draft, accepted: f32, lookup_match: u32) -> Self {
        Self { draft, accepted, lookup_match, ..self }
    }

    fn situation(self) -> Situation {
        let mut calls: Vec<Call> = (1..=self.requests).map(|request| self.plan(request)).collect();
        calls.extend((1..=ROUNDS).map(|round| self.rounds(round)));
        let outcomes = (1..=self.requests).map(|id| facts::outcome(&self.host, id)).collect();
        calls.extend([Call::Finished(outcomes), Call::Snapshot]);
        Situation { name: self.name.into(), host: self.host, calls, probes_are_sure: true }
    }

    fn load(&self) -> Load {
        let running = u32::try_from(self.requests).unwrap_or(u32::MAX);
        Load { running, queued: if running == 64 { 20 } else { 0 } }
    }

    fn plan(&self, request: u64) -> Call {
        let mut facts = RequestFacts {
            prompt_tokens: vec![self.prompt_tokens; self.host.tiers.len()],
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            chat: self.chat,
            load: self.load(),
            ..facts::request(&self.host, request)
        };
        self.forget(&mut facts.tiers);
        Call::Plan { facts: Box::new(facts), granted: facts::granted(&self.host) }
    }

    fn rounds(&self, round: u32) -> Call {
        let mut context = RoundContext { load: self.load(), ..facts::context(&self.host) };
        self.forget(&mut context.tiers);
        if self.is_measured && self.draft != Draft::NONE {
            for acceptance in &mut context.acceptance {
                acceptance.drafter = self.draft.drafter;
                acceptance.by_position = vec![self.accepted; self.draft.length as usize];
            }
        } else {
            context.acceptance.clear();
        }
        let requests = (1..=self.requests).map(|request| self.request(request, round)).collect();
        Call::Rounds { context, requests }
    }

    fn request(&self, request: u64, round: u32) -> RoundFacts {
        let accepted = (self.draft.length as f32 * self.accepted) as u32;
        // The first token is committed by the prompt's pass.
        let committed = (1 + round * (accepted + 1)).min(self.max_tokens);
        RoundFacts {
            round,
            prompt_tokens: self.prompt_tokens,
            committed,
            remaining: self.max_tokens - committed,
            draft: self.draft,
            recent_drafted: self.draft.length,
            recent_accepted: accepted,
            lookup_match: self.lookup_match,
            ..facts::round(&self.host, request)
        }
    }

    fn forget(&self, tiers: &mut [aio_core::TierFacts]) {
        if !self.is_measured {
            let unmeasured = |(i, tier): (usize, &mut _)| *tier = facts::tier_facts(i, false);
            tiers.iter_mut().enumerate().for_each(unmeasured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn situations_are_told_apart_and_ask_every_hook() {
        let situations = canned();
        let mut names: Vec<_> = situations.iter().map(|situation| &situation.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), situations.len());
        for hook in ["plan", "rounds", "finished", "snapshot"] {
            let asks = |situation: &&Situation| {
                situation.calls.iter().any(|call| call.hook().to_string() == hook)
            };
            assert!(situations.iter().filter(asks).count() > 10, "{hook}");
        }
    }

    #[test]
    fn counts_of_a_round_fit_each_other() {
        for situation in canned() {
            for call in &situation.calls {
                let Call::Rounds { requests, .. } = call else { continue };
                for facts in requests {
                    assert!(facts.recent_accepted <= facts.recent_drafted, "{facts:?}");
                    assert!((facts.tier as usize) < situation.host.tiers.len(), "{facts:?}");
                }
            }
        }
    }
}
