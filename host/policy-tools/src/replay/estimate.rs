//! What a request would have cost under other decisions, from what was measured
//! while it ran: what passes cost by their rows, and how often drafts were
//! accepted by drafter and position.
//!
//! A round that drafts n tokens costs a pass of n + 1 rows (and n passes of one
//! row of the draft model) and is expected to commit 1 + p₁ + p₁p₂ + … tokens.
//! The request's tokens are those recorded; each recorded round's share of them is
//! priced by the setting that the candidate would have had in force then. The
//! recorded policy is priced in the same way, so that an estimate is compared with
//! an estimate, and its own measured time shows how far to trust either.

use std::collections::BTreeMap;

use aio_core::{
    Acceptance, Action, Draft, Drafter, RequestRecord, RoundContext, RoundFacts, TierFacts,
};
use serde::Serialize;

use super::Answers;
use super::log::{HostRun, Recorded, RecordedCall};

/// What no estimate from a record can know.
pub const LIMITS_OF_ESTIMATES: [&str; 6] = [
    "the same number of tokens is assumed whichever tier answers; another tier would have said something else",
    "acceptance is the mean over what was drafted then, by drafter and position; a drafter that the record never used has none, and requests that would use it are left out",
    "where the recorded policy was not asked and did not look up, lookup is taken to find nothing",
    "a draft model that stops early, and its reading of the prompt, are not priced",
    "what the candidate would have learnt from its own drafts is not in the facts it is shown",
    "a candidate is asked at the rounds at which the recorded policy was asked",
];

/// Estimated times of requests, of those that can be estimated under both policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Requests in it.
    pub requests: u32,
    /// Requests that cannot be estimated.
    pub left_out: u32,
    /// Seconds that they took.
    pub measured_seconds: f64,
    /// Seconds by the estimate for the recorded decisions.
    pub recorded_seconds: f64,
    /// Seconds by the estimate for the candidate's.
    pub replayed_seconds: f64,
}

impl Estimate {
    /// Adds a request, if both can be priced.
    pub(super) fn add(
        &mut self,
        record: Option<&RequestRecord>,
        seen: &Seen,
        recorded: &Answers,
        replayed: &Answers,
    ) {
        let both = record.and_then(|record| {
            let recorded = milliseconds(record, seen, recorded)?;
            Some((record, recorded, milliseconds(record, seen, replayed)?))
        });
        let Some((record, recorded, replayed)) = both else {
            self.left_out += 1;
            return;
        };
        self.requests += 1;
        self.measured_seconds += record.totals.prefill_seconds + record.totals.decode_seconds;
        self.recorded_seconds += f64::from(recorded) / 1e3;
        self.replayed_seconds += f64::from(replayed) / 1e3;
    }
}

/// What was measured by the end of a generation, and where its requests stood.
#[derive(Debug, Default)]
pub(super) struct Seen {
    tiers: Vec<TierFacts>,
    acceptance: Vec<Acceptance>,
    /// Facts of rounds, by request and rounds done.
    rounds: BTreeMap<(u64, u32), RoundFacts>,
}

impl Seen {
    pub(super) fn of(run: &HostRun, generation: &Recorded) -> Self {
        let mut seen = Self::default();
        for (_, call) in &generation.calls {
            match call {
                RecordedCall::Plan { facts, .. } => seen.tiers.clone_from(&facts.tiers),
                RecordedCall::Rounds { context, requests, .. } => seen.note(context, requests),
                _ => {}
            }
        }
        // A policy that is asked about no rounds is told no acceptance: the requests'
        // own records tell it.
        for drafter in [Drafter::Lookup, Drafter::Model] {
            for tier in 0..seen.tiers.len() as u32 {
                if !seen.acceptance.iter().any(|a| a.tier == tier && a.drafter == drafter) {
                    seen.acceptance.extend(counted(run, tier, drafter));
                }
            }
        }
        seen
    }

    fn note(&mut self, context: &RoundContext, requests: &[RoundFacts]) {
        self.tiers.clone_from(&context.tiers);
        self.acceptance.clone_from(&context.acceptance);
        for facts in requests {
            self.rounds.insert((facts.request, facts.round), facts.clone());
        }
    }

    /// Milliseconds of a pass, by the narrowest measured gear that holds it, or by
    /// the widest where none does.
    fn pass(&self, tier: u32, rows: u32) -> Option<f32> {
        let gears = &self.tiers.get(tier as usize)?.gears;
        let measured = || gears.iter().filter_map(|g| Some((g.rows, g.milliseconds?)));
        if let Some((_, milliseconds)) = measured().find(|&(holds, _)| holds >= rows) {
            return Some(milliseconds);
        }
        let (widest, milliseconds) = measured().next_back()?;
        Some(milliseconds * rows as f32 / widest as f32)
    }

    /// Milliseconds for one token; `None` where nothing was measured that tells.
    fn token(&self, tier: u32, draft: &Draft, matches: bool) -> Option<f32> {
        let plain = self.pass(tier, 1)?;
        let drafter = match (draft.drafter, matches) {
            _ if draft.length == 0 => Drafter::None,
            (Drafter::LookupThenModel, true) => Drafter::Lookup,
            (Drafter::LookupThenModel, false) => Drafter::Model,
            (Drafter::Lookup, false) => Drafter::None,
            (drafter, _) => drafter,
        };
        if drafter == Drafter::None {
            return Some(plain);
        }
        let accepted = self.acceptance.iter().find(|a| a.tier == tier && a.drafter == drafter)?;
        let (mut tokens, mut reaches) = (1.0, 1.0);
        for position in 0..draft.length as usize {
            let shares = &accepted.by_position;
            reaches *= shares.get(position).or(shares.last())?;
            tokens += reaches;
        }
        let mut milliseconds = self.pass(tier, draft.length + 1)?;
        if drafter == Drafter::Model {
            milliseconds += draft.length as f32 * self.pass(draft.draft_tier?, 1)?;
        }
        Some(milliseconds / tokens)
    }
}

/// Acceptance on a tier, counted from the rounds of all requests: the share of
/// drafts that got as far as a position whose token there was accepted.
fn counted(run: &HostRun, tier: u32, drafter: Drafter) -> Option<Acceptance> {
    let (mut reached, mut held) = (Vec::<f32>::new(), Vec::<f32>::new());
    let mut rounds = 0;
    let all = run.requests.values().flat_map(|record| &record.rounds);
    for round in all.filter(|r| r.tier == tier && r.drafter == drafter && r.drafted > 0) {
        rounds += 1;
        let (drafted, accepted) = (round.drafted as usize, round.accepted as usize);
        let longest = reached.len().max(drafted);
        reached.resize(longest, 0.0);
        held.resize(longest, 0.0);
        reached[..drafted.min(accepted + 1)].iter_mut().for_each(|n| *n += 1.0);
        held[..accepted.min(drafted)].iter_mut().for_each(|n| *n += 1.0);
    }
    let seen = reached.iter().zip(&held).take_while(|(reached, _)| **reached > 0.0);
    let by_position: Vec<f32> = seen.map(|(reached, held)| held / reached).collect();
    (rounds > 0).then_some(Acceptance { tier, drafter, by_position, rounds })
}

/// Milliseconds of a request under a policy's answers.
fn milliseconds(record: &RequestRecord, seen: &Seen, answers: &Answers) -> Option<f32> {
    let plan = answers.plan.as_ref()?;
    let (mut tier, mut draft) = (plan.tier, plan.draft);
    let prompt = |tier: u32| {
        let tokens = *record.facts.prompt_tokens.get(tier as usize)?;
        seen.pass(tier, tokens)
    };
    let mut sum = prompt(tier)?;
    for (number, round) in (0..).zip(&record.rounds) {
        match answers.rounds.get(&number).map(|decision| decision.action) {
            Some(Action::Draft(setting)) => draft = setting,
            Some(Action::MoveTo(other)) if other != tier => {
                tier = other;
                sum += prompt(tier)?;
            }
            _ => {}
        }
        // Whether lookup would have found something: told, or seen in what it did.
        let told = seen.rounds.get(&(record.request, number)).map(|f| f.lookup_match > 0);
        let matches = told.unwrap_or(round.drafter == Drafter::Lookup);
        sum += round.committed as f32 * seen.token(tier, &draft, matches)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_core::Gear;

    fn seen() -> Seen {
        let gear = |rows, milliseconds| Gear {
            rows,
            compiled: true,
            milliseconds,
            compile_milliseconds: None,
        };
        let tier = |ms: f32| TierFacts {
            gears: vec![gear(1, Some(ms)), gear(4, None), gear(8, Some(1.5 * ms))],
        };
        let acceptance = |drafter, by_position: &[f32]| Acceptance {
            tier: 1,
            drafter,
            by_position: by_position.to_vec(),
            rounds: 9,
        };
        Seen {
            tiers: vec![tier(2.0), tier(10.0)],
            acceptance: vec![
                acceptance(Drafter::Lookup, &[0.5, 1.0]),
                acceptance(Drafter::Model, &[1.0]),
            ],
            rounds: BTreeMap::new(),
        }
    }

    fn draft(drafter: Drafter, length: u32) -> Draft {
        Draft { drafter, length, draft_tier: Some(0), ..Draft::NONE }
    }

    #[test]
    fn a_pass_costs_what_the_gear_that_holds_it_does() {
        let seen = seen();
        assert_eq!(seen.pass(1, 1), Some(10.0));
        assert_eq!(seen.pass(1, 3), Some(15.0), "4 rows were never measured");
        assert_eq!(seen.pass(1, 16), Some(30.0), "two of the widest");
        assert_eq!(seen.pass(2, 1), None);
    }

    #[test]
    fn a_token_costs_its_share_of_a_round() {
        let seen = seen();
        let token = |drafter, length, matches| seen.token(1, &draft(drafter, length), matches);
        assert_eq!(token(Drafter::None, 0, false), Some(10.0));
        // 1 + 0.5 + 0.5 tokens for a pass of three rows.
        assert_eq!(token(Drafter::Lookup, 2, true), Some(7.5));
        assert_eq!(token(Drafter::Lookup, 2, false), Some(10.0));
        // 1 + 1 + 1 + 1 tokens for four rows and three passes of the draft model.
        assert_eq!(token(Drafter::Model, 3, false), Some((15.0 + 3.0 * 2.0) / 4.0));
        assert_eq!(token(Drafter::LookupThenModel, 3, false), token(Drafter::Model, 3, false));
        assert_eq!(seen.token(0, &draft(Drafter::Lookup, 2), true), None, "never used there");
    }
}
