//! Requests on a simulated host of two tiers with ten gears each: lengths, costs
//! and acceptance vary, decisions are carried out, and those that end make place
//! for new ones. The same in every run.

use std::time::Instant;

use aio_core::{
    Acceptance, Action, Draft, Drafter, FinishReason, Granted, HostInfo, Load, MAX_PROBES,
    MIX_STEP, Outcome, Plan, RequestFacts, RoundContext, RoundFacts, TierFacts, Verdict, mix,
};
use aio_policy::LoadedPolicy;

use super::Samples;
use crate::facts;

/// Random numbers that are the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(MIX_STEP);
        number
    }

    /// From 0 to 1.
    fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// From `least` to `most`, small ones more often.
    fn length(&mut self, least: u32, most: u32) -> u32 {
        let share = self.share();
        least + ((most - least) as f32 * share * share * share) as u32
    }
}

/// A request that runs.
struct Running {
    facts: RoundFacts,
    label: String,
    /// How likely each drafted token is to be accepted.
    likely: f32,
    drafted: u32,
    accepted: u32,
}

/// All requests, and what was measured of the host.
pub(super) struct Fleet {
    host: HostInfo,
    chance: Chance,
    next: u64,
    running: Vec<Running>,
    tiers: Vec<TierFacts>,
    acceptance: Vec<Acceptance>,
    granted: Granted,
}

impl Fleet {
    pub(super) fn new() -> Self {
        let host = facts::two_tiers();
        let tier = host.largest_tier();
        let measured = |drafter| Acceptance {
            tier,
            drafter,
            by_position: vec![0.7, 0.7, 0.6, 0.6, 0.6, 0.5, 0.5],
            rounds: 100,
        };
        Self {
            chance: Chance(1),
            next: 1,
            running: Vec::new(),
            tiers: facts::measured(&host),
            acceptance: [Drafter::Lookup, Drafter::Model].map(measured).into(),
            granted: facts::granted(&host),
            host,
        }
    }

    /// Has a new request planned, and ends it at once: a policy that remembers its
    /// requests does not pile them up.
    pub(super) fn plan_and_end(&mut self, policy: &mut LoadedPolicy, samples: &mut Samples) {
        let (facts, plan) = self.plan(policy, samples);
        let outcome = Outcome {
            tier: plan.tier,
            label: plan.label,
            finish: FinishReason::Cancelled,
            ..facts::outcome(&self.host, facts.request)
        };
        policy.finished(&[outcome]);
    }

    /// Has a new request planned; each call is a sample, those after probes too.
    fn plan(&mut self, policy: &mut LoadedPolicy, samples: &mut Samples) -> (RequestFacts, Plan) {
        let mut facts = self.request();
        loop {
            let start = Instant::now();
            let asked = policy.plan_granted(&facts, &self.granted);
            samples.add(start, asked.fuel, asked.failures);
            match asked.answer {
                Verdict::Decided(plan) => return (facts, plan),
                // The host gives a safe plan in place of one probe too many.
                Verdict::Probe(probe) => {
                    let sure = self.chance.share() < 0.7;
                    let answers = probe.answers.len();
                    facts.probes.push(facts::probe_result(probe.tier, answers, sure));
                    debug_assert!(facts.probes.len() <= MAX_PROBES);
                }
            }
        }
    }

    fn request(&mut self) -> RequestFacts {
        self.waver();
        let tokens = self.chance.length(20, 8000);
        let request = self.next;
        self.next += 1;
        RequestFacts {
            prompt_tokens: vec![tokens; self.host.tiers.len()],
            max_tokens: self.chance.length(32, 1024),
            tiers: self.tiers.clone(),
            load: self.load(),
            ..facts::request(&self.host, request)
        }
    }

    fn load(&self) -> Load {
        Load { running: u32::try_from(self.running.len()).unwrap_or(u32::MAX), queued: 0 }
    }

    /// What was measured changes a little with each pass.
    fn waver(&mut self) {
        for gear in self.tiers.iter_mut().flat_map(|tier| &mut tier.gears).take(6) {
            if let Some(milliseconds) = &mut gear.milliseconds {
                *milliseconds *= 0.99 + 0.02 * self.chance.share();
            }
        }
    }

    /// Brings the requests that run to so many.
    pub(super) fn fill(&mut self, policy: &mut LoadedPolicy, requests: usize) {
        while self.running.len() < requests {
            let (facts, plan) = self.plan(policy, &mut Samples::default());
            let tier = plan.tier as usize;
            let running = Running {
                likely: self.chance.share(),
                label: plan.label,
                drafted: 0,
                accepted: 0,
                facts: RoundFacts {
                    tier: plan.tier,
                    round: 0,
                    prompt_tokens: facts.prompt_tokens.get(tier).copied().unwrap_or(1),
                    committed: 1,
                    remaining: facts.max_tokens - 1,
                    draft: plan.draft,
                    recent_rounds: 0,
                    ..facts::round(&self.host, facts.request)
                },
            };
            self.running.push(running);
            self.decode(self.running.len() - 1);
        }
    }

    /// Asks about all that run, carries out what is decided, and decodes a round.
    pub(super) fn round(&mut self, policy: &mut LoadedPolicy, samples: &mut Samples) {
        self.waver();
        let context = RoundContext {
            tiers: self.tiers.clone(),
            acceptance: self.acceptance.clone(),
            load: self.load(),
        };
        let requests: Vec<RoundFacts> = self.running.iter().map(|r| r.facts.clone()).collect();
        let start = Instant::now();
        let asked = policy.rounds(&context, &requests);
        samples.add(start, asked.fuel, asked.failures);
        for decision in asked.answer {
            let of = |running: &&mut Running| running.facts.request == decision.request;
            let Some(running) = self.running.iter_mut().find(of) else { continue };
            match decision.action {
                Action::Keep => {}
                Action::Draft(draft) => running.facts.draft = draft,
                Action::MoveTo(tier) => running.facts.tier = tier,
            }
        }
        (0..self.running.len()).for_each(|i| self.decode(i));
    }

    /// One round of one request, and what can be looked up before the next one.
    fn decode(&mut self, i: usize) {
        let Some(Running { facts, likely, drafted, accepted, .. }) = self.running.get_mut(i) else {
            return;
        };
        let Draft { drafter, length, ngram_min, .. } = facts.draft;
        let drafts = drafter.uses_model()
            || (drafter.uses_lookup() && facts.lookup_match >= ngram_min.max(1));
        let length = if drafts { length.min(facts.remaining.saturating_sub(1)) } else { 0 };
        let right = (0..length).take_while(|_| self.chance.share() < *likely).count();
        let right = u32::try_from(right).unwrap_or(length);
        (facts.recent_drafted, facts.recent_accepted, facts.recent_rounds) = (length, right, 1);
        let tokens = (right + 1).min(facts.remaining);
        facts.round += 1;
        facts.committed += tokens;
        facts.remaining -= tokens;
        (*drafted, *accepted) = (*drafted + length, *accepted + right);
        let matches = self.chance.share() < *likely;
        facts.lookup_match = if matches { 1 + (self.chance.next() % 12) as u32 } else { 0 };
    }

    /// Tells what became of those that ended, and fills their places.
    pub(super) fn replace_ended(&mut self, policy: &mut LoadedPolicy) {
        let count = self.running.len();
        let (ended, running) =
            std::mem::take(&mut self.running).into_iter().partition(|r| r.facts.remaining == 0);
        self.running = running;
        let ended: Vec<Running> = ended;
        if !ended.is_empty() {
            let outcomes: Vec<Outcome> = ended.into_iter().map(outcome).collect();
            policy.finished(&outcomes);
            self.fill(policy, count);
        }
    }

    /// Runs one request for some rounds and tells of its end; that is the sample.
    pub(super) fn finish_one(&mut self, policy: &mut LoadedPolicy, samples: &mut Samples) {
        self.fill(policy, 1);
        for _ in 0..3 {
            self.round(policy, &mut Samples::default());
        }
        let outcomes: Vec<Outcome> = self.running.drain(..).map(outcome).collect();
        let start = Instant::now();
        let asked = policy.finished(&outcomes);
        samples.add(start, asked.fuel, asked.failures);
    }
}

fn outcome(ended: Running) -> Outcome {
    let Running { facts, label, drafted, accepted, .. } = ended;
    Outcome {
        request: facts.request,
        tier: facts.tier,
        label,
        finish: FinishReason::Length,
        prompt_tokens: facts.prompt_tokens,
        committed: facts.committed,
        rounds: facts.round,
        drafted,
        accepted,
        prefill_milliseconds: facts.prompt_tokens as f32 * 2.0,
        decode_milliseconds: facts.round as f32 * 25.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_lie_within_their_bounds() {
        let mut chance = Chance(7);
        let lengths: Vec<u32> = (0..1000).map(|_| chance.length(20, 8000)).collect();
        assert!(lengths.iter().all(|length| (20..=8000).contains(length)));
        let short = lengths.iter().filter(|length| **length < 1000).count();
        assert!((300..700).contains(&short), "{short}");
    }
}
