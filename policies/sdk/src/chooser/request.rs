//! What is known of one running request: how its acceptance differs from that of
//! all, what the draft model has read, and what was asked of the round that is
//! being run.

use crate::acceptance::{CLASSES, Factor, adjusted};
use crate::cost::CostTable;
use crate::hysteresis::Held;
use crate::{Drafter, RoundFacts};

use super::learned::{Learned, MATCHES};

/// Foreseen failures that the belief about a request is worth before it is seen
/// to differ. Low: requests differ much, and a wrong draft is cheaper than a
/// missed one. This and what follows was chosen on recorded answers
/// ([`crate::testing::Answer::recorded`]) and on others than those.
const STRENGTH: f32 = 2.0;

/// Rounds of a request after which its further rounds count half for all
/// requests, as many more for a third, and so on: no request alone may set the belief.
const FAMILIAR: f32 = 8.0;

/// What an earlier round still counts for in the request's pace of late: about
/// the last three do, so that it is the pace of the place in the text.
const FADE: f32 = 0.7;

/// What an earlier round still counts for in what the draft model would save.
const SAVING_FADE: f32 = 0.95;

/// Tokens without saving that a request begins with: the draft model has to show
/// at some of them that it would save something.
const SAVING_PRIOR: f32 = 5.0;

/// One running request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Call in which it was last heard of.
    pub(super) heard: u64,
    pub(super) tier: u32,
    /// Tokens generated when last asked.
    committed: u32,
    lookup_first: Factor,
    lookup_first_by_match: [Factor; MATCHES],
    lookup_later: Factor,
    model: Factor,
    lookup_rounds: f32,
    model_rounds: f32,
    /// Round in which a draft by model was last learned from.
    model_round: u32,
    /// Tokens and plain rounds' time of the last rounds, fading.
    lately: Pace,
    /// Plain rounds' time that the draft model would have saved, fading, and the tokens
    /// at which it would have.
    saved: f32,
    saved_tokens: f32,
    /// Tokens of prompt and answer that the draft tier has read.
    pub(super) draft_read: u32,
    /// What is done where lookup is not: none or model. `None` before the first choice.
    pub(super) fallback: Option<Held<Drafter>>,
    pub(super) asked: Option<Asked>,
}

/// Tokens in a plain round's time, over the last rounds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    tokens: f32,
    plain_rounds: f32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { tokens: 1.0, plain_rounds: 1.0 }
    }
}

impl Pace {
    fn note(&mut self, tokens: f32, plain_rounds: f32) {
        self.tokens = self.tokens * FADE + tokens;
        self.plain_rounds = self.plain_rounds * FADE + plain_rounds;
    }

    /// At least the one token that a plain round makes.
    fn value(&self) -> f32 {
        (self.tokens / self.plain_rounds).max(1.0)
    }
}

/// What a round was asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) drafter: Drafter,
    /// Tokens that the round can draft at most.
    pub(super) length: u32,
    pub(super) match_class: usize,
    /// Number of the round.
    pub(super) round: u32,
    pub(super) plain_milliseconds: f32,
    pub(super) trial: Option<Trial>,
}

/// A round that tries out what does not seem best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) arm: usize,
    /// What the best choice was worth, in tokens.
    pub(super) instead: f32,
    /// What time was worth, in tokens per millisecond.
    pub(super) pace: f32,
    /// Milliseconds in which the draft model has to read the prompt.
    pub(super) to_read: f32,
}

/// What a round did, as far as the facts tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) tokens: u32,
    pub(super) milliseconds: f32,
    pub(super) trial: Option<Trial>,
}

impl Request {
    pub(super) fn new(tier: u32) -> Self {
        Self {
            heard: 0,
            tier,
            committed: 0,
            lookup_first: Factor::default(),
            lookup_first_by_match: [Factor::default(); MATCHES],
            lookup_later: Factor::default(),
            model: Factor::default(),
            lookup_rounds: 0.0,
            model_rounds: 0.0,
            model_round: 0,
            lately: Pace::default(),
            saved: 0.0,
            saved_tokens: SAVING_PRIOR,
            draft_read: 0,
            fallback: None,
            asked: None,
        }
    }

    /// Whether anything was learned of lookup in this request.
    pub(super) fn has_looked_up(&self) -> bool {
        self.lookup_rounds > 0.0
    }

    /// Whether anything was learned of the draft model in this request.
    pub(super) fn has_used_model(&self) -> bool {
        self.model_rounds > 0.0
    }

    /// Tokens that the request makes in a plain round's time these days; at least
    /// the one that a plain round makes.
    pub(super) fn pace(&self) -> f32 {
        self.lately.value()
    }

    /// Notes what the draft model would save of the next tokens' time, in plain rounds'
    /// time a token, and how many tokens those are.
    pub(super) fn would_save(&mut self, a_token: f32, tokens: f32) {
        self.saved = self.saved * SAVING_FADE + a_token.max(0.0) * tokens;
        self.saved_tokens = self.saved_tokens * SAVING_FADE + tokens;
    }

    /// Plain rounds' time a token that it would have saved on average.
    pub(super) fn saving(&self) -> f32 {
        self.saved / self.saved_tokens
    }

    /// Acceptance of lookup by class of position, after a match of this class.
    pub(super) fn lookup_acceptance(&self, learned: &Learned, class: usize) -> [f32; CLASSES] {
        let mut shares = *learned.lookup[class].shares();
        let overall = self.lookup_first.value(1.0, STRENGTH);
        let first = self.lookup_first_by_match[class].value(overall, STRENGTH);
        let later = self.lookup_later.value(1.0, STRENGTH);
        shares[0] = adjusted(shares[0], first);
        shares[1..].iter_mut().for_each(|share| *share = adjusted(*share, later));
        shares
    }

    /// Acceptance of the draft model by class of position.
    pub(super) fn model_acceptance(&self, learned: &Learned) -> [f32; CLASSES] {
        let factor = self.model.value(1.0, STRENGTH);
        learned.model.shares().map(|share| adjusted(share, factor))
    }

    /// Whether too little was seen of lookup after such matches to call it bad.
    pub(super) fn lookup_is_uncertain(&self, class: usize) -> bool {
        self.lookup_first_by_match[class].evidence() < 1.0
    }

    /// Whether too little was seen of the draft model, or long ago.
    pub(super) fn model_is_uncertain(&self, round: u32) -> bool {
        self.model.evidence() < 1.0 || round.saturating_sub(self.model_round) > 64
    }

    /// Learns from the round that was asked for. `None` when the facts are not
    /// about exactly that one.
    pub(super) fn settle(
        &mut self,
        facts: &RoundFacts,
        learned: &mut Learned,
        target: &CostTable,
        draft: Option<&CostTable>,
    ) -> Option<Done> {
        let tokens = facts.committed.saturating_sub(self.committed);
        let known = facts.prompt_tokens.saturating_add(self.committed);
        self.committed = facts.committed;
        let asked = self.asked.take()?;
        let drafted = facts.recent_drafted.min(asked.length);
        let accepted = facts.recent_accepted.min(drafted);
        let same = facts.recent_rounds == 1
            && facts.round == asked.round.wrapping_add(1)
            && (asked.drafter == facts.draft.drafter || asked.drafter == Drafter::None);
        if !same {
            return None;
        }
        let mut milliseconds = asked.plain_milliseconds;
        if drafted > 0 {
            milliseconds += target.milliseconds(drafted + 1) - target.milliseconds(1);
        }
        match asked.drafter {
            Drafter::Lookup if drafted > 0 => {
                self.learn_lookup(learned, asked.match_class, drafted, accepted);
            }
            Drafter::Model => {
                let stopped = drafted < asked.length;
                self.learn_model(learned, stopped, drafted, accepted);
                self.model_round = facts.round;
                let read = if stopped { drafted } else { drafted.saturating_sub(1) };
                self.draft_read = known.saturating_add(accepted.min(read));
                if let Some(draft) = draft {
                    milliseconds += (drafted + u32::from(stopped)) as f32 * draft.milliseconds(1);
                    milliseconds += asked.trial.map_or(0.0, |trial| trial.to_read);
                }
            }
            _ => {}
        }
        let milliseconds = milliseconds.max(1e-4);
        let plain_rounds = milliseconds / asked.plain_milliseconds.max(1e-4);
        self.lately.note(tokens as f32, plain_rounds);
        Some(Done { tokens, milliseconds, trial: asked.trial })
    }

    fn learn_lookup(&mut self, learned: &mut Learned, class: usize, drafted: u32, accepted: u32) {
        let curve = &mut learned.lookup[class];
        for position in 0..drafted.min(accepted + 1) {
            let (failed, foreseen) = (position == accepted, 1.0 - curve.share(position));
            if position == 0 {
                self.lookup_first.note(failed, foreseen);
                self.lookup_first_by_match[class].note(failed, foreseen);
            } else {
                self.lookup_later.note(failed, foreseen);
            }
        }
        curve.observe(drafted, accepted, FAMILIAR / (FAMILIAR + self.lookup_rounds));
        self.lookup_rounds += 1.0;
    }

    /// Where the draft model stopped although it might have gone on, it failed
    /// at that position, as far as the worth of a length is concerned.
    fn learn_model(&mut self, learned: &mut Learned, stopped: bool, drafted: u32, accepted: u32) {
        let tested = if stopped { drafted + 1 } else { drafted };
        let curve = &mut learned.model;
        for position in 0..tested.min(accepted + 1) {
            self.model.note(position == accepted, 1.0 - curve.share(position));
        }
        let weight = FAMILIAR / (FAMILIAR + self.model_rounds);
        curve.observe(tested, accepted, weight);
        if accepted < tested {
            let stop = if stopped && accepted == drafted { 1.0 } else { 0.0 };
            learned.stops += 0.05 * weight * (stop - learned.stops);
        }
        self.model_rounds += 1.0;
    }
}
