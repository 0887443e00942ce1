//! One round of one request: ask the policy if it is due, draft, verify in one
//! pass, commit what the target itself would have said, roll the rest back.

use aio_core::{
    Action, Draft, Drafter, Failure, FailureKind, FinishReason, Hook, Load, Plan, RoundContext,
    RoundFacts, RoundRecord,
};
use aio_engine::drafter::{lookup, model};
use aio_engine::sampling::Sampler;
use aio_policy::Decider;

use crate::request::Sink;
use crate::runner::{Runner, ServeError};
use crate::text::AnswerText;

/// A request that is being answered.
pub(crate) struct Running {
    /// The policy that planned it, to the end, and its shadows.
    pub(crate) policy: Decider,
    pub(crate) request: u64,
    pub(crate) tier: usize,
    pub(crate) draft: Draft,
    pub(crate) ask_every: u32,
    /// Prompt, then what is committed.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    pub(crate) max_tokens: usize,
    pub(crate) sampler: Sampler,
    pub(crate) text: AnswerText,
    pub(crate) rounds: Vec<RoundRecord>,
    /// How many of `rounds` the policy was last told of.
    pub(crate) told: usize,
    pub(crate) failures: Vec<Failure>,
    pub(crate) policy_seconds: f64,
    pub(crate) policy_fuel: u64,
    pub(crate) finish: Option<FinishReason>,
}

impl Running {
    /// Tokens generated.
    pub(crate) fn committed(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// Tokens of the answer.
    pub(crate) fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..]
    }
}

/// What was drafted in a round.
struct Drafted {
    drafter: Drafter,
    tokens: usize,
    seconds: f64,
}

impl Runner {
    /// Does one round and shows its text.
    pub(crate) fn round(
        &mut self,
        running: &mut Running,
        sink: &mut dyn Sink,
    ) -> Result<(), ServeError> {
        let (action, reason) = self.consult(running);
        let known = running.tokens.len();
        let drafted = self.draft(running)?;
        let rows = drafted.tokens + 1;
        let pass = self.tiers.tiers[running.tier].extend(
            &mut self.sequences[running.tier],
            &running.tokens,
            rows,
            &mut self.logits,
        )?;
        let accepted = self.commit(running, known, drafted.tokens);
        self.tiers.tiers[running.tier]
            .roll_back(&mut self.sequences[running.tier], running.tokens.len() - 1);
        let (tier, drafter) = (running.tier as u32, drafted.drafter);
        self.acceptance.note(tier, drafter, drafted.tokens as u32, accepted as u32);
        running.rounds.push(RoundRecord {
            tier,
            drafter,
            drafted: drafted.tokens as u32,
            accepted: accepted as u32,
            committed: (running.tokens.len() - known) as u32,
            rows: pass.rows as u32,
            draft_milliseconds: (drafted.seconds * 1e3) as f32,
            verify_milliseconds: (pass.seconds * 1e3) as f32,
            action,
            reason,
        });
        sink.text(running.text.take(running.finish.is_some()));
        Ok(())
    }

    /// Appends this round's draft to the tokens.
    fn draft(&mut self, running: &mut Running) -> Result<Drafted, ServeError> {
        let Draft { drafter, length, ngram_min, ngram_max, .. } = running.draft;
        let known = running.tokens.len();
        // The round commits a token beyond the draft, which must fit as well.
        let room = (running.max_tokens - running.committed())
            .min(self.tiers.tiers[running.tier].context() - known)
            .saturating_sub(1);
        let length = (length as usize).min(room);
        let none = Drafted { drafter: Drafter::None, tokens: 0, seconds: 0.0 };
        if length == 0 {
            return Ok(none);
        }
        if drafter.uses_lookup()
            && let Some(found) =
                lookup::find(&running.tokens, ngram_min as usize, ngram_max as usize)
        {
            lookup::draft(&mut running.tokens, found, length);
            return Ok(Drafted { drafter: Drafter::Lookup, tokens: length, ..none });
        }
        let draft_tier = running.draft.draft_tier.filter(|_| drafter.uses_model());
        let Some(draft_tier) = draft_tier else { return Ok(none) };
        let position = running.committed();
        let pass = model::draft(
            &mut self.tiers.tiers[draft_tier as usize],
            &mut self.sequences[draft_tier as usize],
            &mut running.tokens,
            model::DraftRequest {
                length,
                min_confidence: running.draft.min_confidence,
                sampler: &mut running.sampler,
                position,
                logits: &mut self.logits,
            },
        )?;
        let tokens = running.tokens.len() - known;
        let drafter = if tokens == 0 { Drafter::None } else { Drafter::Model };
        Ok(Drafted { drafter, tokens, seconds: pass.seconds })
    }

    /// Chooses the target's own token at each verified position and keeps the
    /// draft as long as it says the same; returns how many drafted tokens were
    /// accepted. The first `known` tokens are committed already.
    pub(crate) fn commit(&mut self, running: &mut Running, known: usize, drafted: usize) -> usize {
        let tokenizer = self.tiers.tiers[running.tier].tokenizer();
        let context = self.tiers.tiers[running.tier].context();
        let mut accepted = 0;
        for i in 0..=drafted {
            let (before, position) = (known + i, known + i - running.prompt_tokens);
            let token =
                running.sampler.choose(self.logits.row(i), &running.tokens[..before], position);
            let confirmed = i < drafted && running.tokens[before] == token;
            accepted += usize::from(confirmed);
            if tokenizer.is_end_of_generation(token) {
                running.tokens.truncate(before);
                running.finish = Some(FinishReason::Stop);
                break;
            }
            if !confirmed {
                running.tokens.truncate(before);
                running.tokens.push(token);
            }
            let stopped = running.text.push(token);
            let generated = before + 1 - running.prompt_tokens;
            let full = generated >= running.max_tokens || before + 1 >= context;
            if stopped || full {
                running.tokens.truncate(before + 1);
                let finish = if stopped { FinishReason::Stop } else { FinishReason::Length };
                running.finish = Some(finish);
                break;
            }
            if !confirmed {
                break;
            }
        }
        if running.finish.is_some() {
            running.text.finish();
        }
        accepted
    }

    /// Asks the policy about the request if its plan wants that now, and
    /// carries out the answer. Shadows hear of every round: their plans want what
    /// they want.
    fn consult(&mut self, running: &mut Running) -> (Option<Action>, String) {
        let recent = running.rounds.len() - running.told;
        let due = running.ask_every > 0 && recent >= running.ask_every as usize;
        let asks = due && running.policy.wants_rounds();
        if !asks && !running.policy.shadows_rounds() {
            return (None, String::new());
        }
        let mut facts = self.round_facts(running, running.told);
        let context = RoundContext {
            tiers: self.tiers.facts(),
            acceptance: self.acceptance.facts().to_vec(),
            load: Load { running: 1, queued: 0 },
        };
        let mut served = Vec::new();
        if asks {
            let asked = running.policy.rounds(&context, std::slice::from_ref(&facts));
            running.told = running.rounds.len();
            running.policy_seconds += asked.seconds;
            running.policy_fuel += asked.fuel;
            running.failures.extend(asked.failures);
            served = asked.answer;
        }
        if running.policy.shadows_rounds() {
            count_from(&mut facts, &running.rounds);
            running.policy.round_begins(&context, std::slice::from_ref(&facts), &served);
        }
        match served.into_iter().next() {
            Some(decision) => self.carry_out(running, decision.action, decision.reason),
            None => (None, String::new()),
        }
    }

    fn carry_out(
        &self,
        running: &mut Running,
        action: Action,
        reason: String,
    ) -> (Option<Action>, String) {
        match action {
            Action::Keep => return (None, reason),
            Action::Draft(draft) => running.draft = draft,
            Action::MoveTo(to) => {
                if let Err(why) = self.may_move(running, to as usize) {
                    let message =
                        format!("the policy moved the request to tier {to}: ignored, {why}");
                    running.failures.push(Failure {
                        hook: Hook::Rounds,
                        kind: FailureKind::Clamped,
                        message,
                    });
                    return (None, reason);
                }
                running.tier = to as usize;
                // Another target may need another draft model, or have none.
                let plan = Plan { tier: to, draft: running.draft, ..Plan::safe(self.tiers.info()) };
                running.draft = plan.clamped(self.tiers.info()).value.draft;
            }
        }
        (Some(action), reason)
    }

    /// A request moves with its tokens, so the tiers must share token ids.
    fn may_move(&self, running: &Running, to: usize) -> Result<(), &'static str> {
        let tiers = &self.tiers.info().tiers;
        if tiers[to].tokenizer != tiers[running.tier].tokenizer {
            return Err("it has another tokenizer");
        }
        if running.tokens.len() >= self.tiers.tiers[to].context() {
            return Err("its context is too short");
        }
        Ok(())
    }

    /// Where the request stands; what is recent is what came after round `told`.
    fn round_facts(&self, running: &Running, told: usize) -> RoundFacts {
        let info = self.tiers.info();
        let found = lookup::find(&running.tokens, 1, info.max_ngram as usize);
        let mut facts = RoundFacts {
            request: running.request,
            tier: running.tier as u32,
            round: running.rounds.len() as u32,
            prompt_tokens: running.prompt_tokens as u32,
            committed: running.committed() as u32,
            remaining: (running.max_tokens - running.committed()) as u32,
            draft: running.draft,
            recent_rounds: 0,
            recent_drafted: 0,
            recent_accepted: 0,
            lookup_match: found.map_or(0, |m| m.length as u32),
        };
        count_from(&mut facts, &running.rounds[told..]);
        facts
    }
}

/// These rounds are what is recent.
fn count_from(facts: &mut RoundFacts, rounds: &[RoundRecord]) {
    facts.recent_rounds = rounds.len() as u32;
    facts.recent_drafted = rounds.iter().map(|r| r.drafted).sum();
    facts.recent_accepted = rounds.iter().map(|r| r.accepted).sum();
}
