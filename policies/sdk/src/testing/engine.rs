//! The simulated decode loop: passes that cost what they are said to, facts
//! measured as the host measures them, and rounds as the contract has them.

use super::answer::Answer;
use crate::goodput::CATCH_UP;
use crate::{
    Acceptance, Action, Draft, Drafter, FinishReason, Gear, HostInfo, Load, Outcome, Policy,
    RequestFacts, RoundContext, RoundFacts, TierFacts, Verdict,
};

/// Random numbers that are the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to 1.
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(super) fn happens(&mut self, probability: f32) -> bool {
        self.next() < probability
    }
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ran {
    /// Milliseconds of decoding: drafts, the draft model's reading of the prompt,
    /// and verify passes. Not the target's reading of the prompt.
    pub milliseconds: f64,
    /// Of these, the draft model's reading of the prompt.
    pub reading: f64,
    /// Tokens committed.
    pub tokens: u32,
    /// Rounds.
    pub rounds: u32,
    /// Tokens drafted.
    pub drafted: u32,
    /// Tokens drafted and accepted.
    pub accepted: u32,
    /// Decisions that a policy made in `rounds`.
    pub decisions: u32,
    /// The longest draft.
    pub longest: u32,
}

impl Ran {
    /// Committed tokens per second.
    pub fn tokens_per_second(&self) -> f64 {
        f64::from(self.tokens) / self.milliseconds * 1e3
    }
}

impl std::ops::AddAssign for Ran {
    fn add_assign(&mut self, other: Self) {
        self.milliseconds += other.milliseconds;
        self.reading += other.reading;
        self.tokens += other.tokens;
        self.rounds += other.rounds;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.decisions += other.decisions;
        self.longest = self.longest.max(other.longest);
    }
}

/// Two tiers, the smaller of which can draft, and what was measured of them. It
/// outlives requests, as the host does.
#[derive(Debug, Clone)]
pub struct Engine {
    host: HostInfo,
    costs: [Vec<(u32, f32)>; 2],
    facts: Vec<TierFacts>,
    acceptance: Vec<Acceptance>,
    chance: Chance,
    requests: u64,
}

/// A round in the making.
struct Progress {
    draft: Draft,
    ask_every: u32,
    told: u32,
    draft_read: u32,
    recent: (u32, u32, u32),
    ran: Ran,
}

type Ask<'a> = dyn FnMut(&RoundContext, &[RoundFacts]) -> Vec<crate::RoundDecision> + 'a;

impl Engine {
    /// Milliseconds by rows for the draft tier (index 0) and the target (1): a
    /// gear for each. Nothing is measured yet.
    pub fn new(draft: &[(u32, f32)], target: &[(u32, f32)], seed: u64) -> Self {
        let unmeasured = |costs: &[(u32, f32)]| TierFacts {
            gears: costs
                .iter()
                .map(|&(rows, _)| Gear {
                    rows,
                    compiled: false,
                    milliseconds: None,
                    compile_milliseconds: Some(0.1),
                })
                .collect(),
        };
        Self {
            host: super::host(&["small", "large"]),
            costs: [draft.to_vec(), target.to_vec()],
            facts: vec![unmeasured(draft), unmeasured(target)],
            acceptance: Vec::new(),
            chance: Chance::new(seed),
            requests: 0,
        }
    }

    /// The host that a policy is to be started with.
    pub fn host(&self) -> &HostInfo {
        &self.host
    }

    /// Runs an answer on the large tier under a policy; probes that it asks for
    /// find all answers equally likely.
    pub fn run(&mut self, policy: &mut impl Policy, answer: &Answer) -> Ran {
        let mut facts = self.request_facts(answer);
        let host = self.host.clone();
        let plan = loop {
            match policy.plan(&facts, &host) {
                Verdict::Decided(plan) => break plan,
                Verdict::Probe(probe) => facts.probes.push(crate::ProbeResult {
                    tier: probe.tier,
                    probabilities: vec![1.0 / probe.answers.len() as f32; probe.answers.len()],
                    other: 0.0,
                    entropy: (probe.answers.len() as f32).ln(),
                    milliseconds: 9.0,
                }),
            }
        };
        let read = if facts.probes.iter().any(|p| p.tier == 0) { answer.prompt_tokens } else { 0 };
        let mut ask = |context: &RoundContext, facts: &[RoundFacts]| policy.rounds(context, facts);
        let ran = self.decode(answer, (plan.draft, plan.ask_every, read), &mut ask);
        policy.finished(&[Outcome {
            request: facts.request,
            tier: 1,
            label: plan.label,
            finish: FinishReason::Stop,
            prompt_tokens: answer.prompt_tokens,
            committed: ran.tokens,
            rounds: ran.rounds,
            drafted: ran.drafted,
            accepted: ran.accepted,
            prefill_milliseconds: 0.0,
            decode_milliseconds: ran.milliseconds as f32,
        }]);
        ran
    }

    /// Runs an answer on the large tier with one setting throughout.
    pub fn run_fixed(&mut self, draft: Draft, answer: &Answer) -> Ran {
        self.requests += 1;
        self.decode(answer, (draft, 0, 0), &mut |_, _| Vec::new())
    }

    fn request_facts(&mut self, answer: &Answer) -> RequestFacts {
        self.requests += 1;
        RequestFacts {
            request: self.requests,
            max_tokens: answer.tokens.len() as u32,
            tiers: self.facts.clone(),
            ..super::request_facts(2, answer.prompt_tokens)
        }
    }

    fn decode(&mut self, answer: &Answer, plan: (Draft, u32, u32), ask: &mut Ask<'_>) -> Ran {
        let (draft, ask_every, draft_read) = plan;
        let length = answer.tokens.len() as u32;
        let mut progress = Progress {
            draft,
            ask_every,
            told: 0,
            draft_read,
            recent: (0, 0, 0),
            // The prompt's pass commits the first token.
            ran: Ran { tokens: 1.min(length), ..Ran::default() },
        };
        while progress.ran.tokens < length {
            self.consult(answer, &mut progress, ask);
            self.round(answer, &mut progress);
        }
        progress.ran
    }

    fn consult(&mut self, answer: &Answer, progress: &mut Progress, ask: &mut Ask<'_>) {
        let recent = progress.ran.rounds - progress.told;
        if progress.ask_every == 0 || recent < progress.ask_every {
            return;
        }
        let context = RoundContext {
            tiers: self.facts.clone(),
            acceptance: self.acceptance.clone(),
            load: Load { running: 1, queued: 0 },
        };
        let committed = progress.ran.tokens;
        let facts = RoundFacts {
            request: self.requests,
            tier: 1,
            round: progress.ran.rounds,
            prompt_tokens: answer.prompt_tokens,
            committed,
            remaining: answer.tokens.len() as u32 - committed,
            draft: progress.draft,
            recent_rounds: recent,
            recent_drafted: progress.recent.1,
            recent_accepted: progress.recent.2,
            lookup_match: answer.tokens[committed as usize].lookup_match,
        };
        progress.told = progress.ran.rounds;
        progress.recent = (0, 0, 0);
        for decision in ask(&context, &[facts]) {
            assert_eq!(decision.request, self.requests, "a decision about another request");
            progress.ran.decisions += 1;
            if let Action::Draft(draft) = decision.action {
                progress.draft = draft;
            }
        }
    }

    fn round(&mut self, answer: &Answer, progress: &mut Progress) {
        let next = &answer.tokens[progress.ran.tokens as usize..];
        let Draft { drafter, length, ngram_min, .. } = progress.draft;
        let length = (length.min(self.host.max_draft_length) as usize).min(next.len() - 1);
        let looks_up = matches!(drafter, Drafter::Lookup | Drafter::LookupThenModel);
        let (mut drafted, mut accepted, mut milliseconds, mut used) = (0, 0, 0.0, Drafter::None);
        let mut reading = 0.0;
        if looks_up && next[0].lookup_match >= ngram_min.max(1) {
            drafted = length.min(next[0].lookup_most as usize);
            accepted = drafted.min(next[0].lookup_right as usize);
            used = Drafter::Lookup;
        } else if matches!(drafter, Drafter::Model | Drafter::LookupThenModel) && length > 0 {
            let known = answer.prompt_tokens + progress.ran.tokens;
            let answered = progress.draft_read.saturating_sub(answer.prompt_tokens);
            let prompt = answer.prompt_tokens.saturating_sub(progress.draft_read);
            let mut unread = prompt + (progress.ran.tokens - answered).min(CATCH_UP);
            if progress.draft_read == 0 {
                reading = self.pass(0, unread - 1);
                milliseconds += reading;
                unread = 1;
            }
            let mut right = true;
            for token in &next[..length] {
                milliseconds += self.pass(0, unread);
                unread = 1;
                // Once wrong, it writes another text: as sure of it as of any.
                if token.confidence < progress.draft.min_confidence {
                    break;
                }
                drafted += 1;
                right &= token.model_is_right;
                accepted += usize::from(right);
                used = Drafter::Model;
            }
            let read = if drafted < length { drafted } else { drafted.saturating_sub(1) };
            progress.draft_read = known + accepted.min(read) as u32;
        }
        milliseconds += self.pass(1, drafted as u32 + 1);
        self.note(used, drafted as u32, accepted as u32);
        progress.recent.1 += drafted as u32;
        progress.recent.2 += accepted as u32;
        progress.ran += Ran {
            milliseconds,
            reading,
            tokens: accepted as u32 + 1,
            rounds: 1,
            drafted: drafted as u32,
            accepted: accepted as u32,
            decisions: 0,
            longest: drafted as u32,
        };
    }

    /// Runs so many rows and measures it, as the host does: by gear, weighted
    /// exponentially. Passes waver by 4 %.
    fn pass(&mut self, tier: usize, rows: u32) -> f64 {
        let widest = self.costs[tier].last().map_or(1, |&(rows, _)| rows);
        let (mut left, mut total) = (rows, 0.0);
        while left > 0 {
            let now = left.min(widest);
            left -= now;
            let gears = &mut self.facts[tier].gears;
            let fits = gears.iter_mut().zip(&self.costs[tier]).find(|(gear, _)| gear.rows >= now);
            let Some((gear, &(_, cost))) = fits else { break };
            let milliseconds = cost * (0.96 + 0.08 * self.chance.next());
            let average = gear.milliseconds.map_or(milliseconds, |a| a + 0.2 * (milliseconds - a));
            gear.milliseconds = Some(average);
            gear.compiled = true;
            total += f64::from(milliseconds);
        }
        total
    }

    fn note(&mut self, drafter: Drafter, drafted: u32, accepted: u32) {
        if drafted == 0 {
            return;
        }
        let at = self.acceptance.iter().position(|a| a.drafter == drafter).unwrap_or_else(|| {
            self.acceptance.push(Acceptance { tier: 1, drafter, by_position: vec![], rounds: 0 });
            self.acceptance.len() - 1
        });
        let entry = &mut self.acceptance[at];
        entry.rounds += 1;
        for position in 0..drafted.min(accepted + 1) {
            let hit = if position < accepted { 1.0 } else { 0.0 };
            match entry.by_position.get_mut(position as usize) {
                Some(share) => *share += 0.05 * (hit - *share),
                None => entry.by_position.push(hit),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FLAT, FLAT_DRAFT, Kind};
    use super::*;

    fn engine() -> Engine {
        Engine::new(FLAT_DRAFT, FLAT, 1)
    }

    #[test]
    fn plain_decoding_takes_a_pass_a_token() {
        let ran = engine().run_fixed(Draft::NONE, &Answer::of(Kind::Prose, 101, 1));
        assert_eq!((ran.tokens, ran.rounds, ran.drafted), (101, 100, 0));
        assert!((ran.milliseconds / 100.0 - 22.3).abs() < 0.3, "{ran:?}");
    }

    #[test]
    fn a_right_draft_is_committed_whole_and_one_token_more() {
        let answer = Answer::uniform(101, 12, true, true);
        let lookup = engine().run_fixed(Draft::lookup(9), &answer);
        assert_eq!((lookup.rounds, lookup.accepted, lookup.tokens), (10, 90, 101));
        let model = engine().run_fixed(Draft::model(4), &answer);
        assert_eq!((model.rounds, model.accepted), (20, 80));
        let expected = 330.0 - 8.7 + 20.0 * 24.0 + 80.0 * 8.7;
        assert!((model.milliseconds / expected - 1.0).abs() < 0.05, "{model:?}");
    }

    #[test]
    fn a_wrong_draft_costs_time_and_no_tokens() {
        let answer = Answer::uniform(101, 12, false, false);
        let ran = engine().run_fixed(Draft::lookup(15), &answer);
        assert_eq!((ran.tokens, ran.accepted), (101, 0));
        assert!(ran.milliseconds > 3800.0, "{ran:?}");
    }

    #[test]
    fn the_same_seed_takes_the_same_time() {
        let run = || engine().run_fixed(Draft::model(4), &Answer::of(Kind::Edit, 200, 3));
        assert_eq!(run(), run());
    }
}
