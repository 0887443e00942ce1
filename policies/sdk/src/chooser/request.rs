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
/// missed one.
const STRENGTH: f32 = 1.2;

/// Rounds of a request after which its further rounds count half for all
/// requests, 16 more for a third, and so on: no request alone may set the belief.
const FAMILIAR: f32 = 12.0;

/// What an earlier round still counts for in the request's pace of late: about
/// the last three do, so that it is the pace of the place in the text.
const FADE: f32 = 0.7;

/// The same for its pace overall: about the last twenty.
const SLOW_FADE: f32 = 0.95;

/// What an earlier round still counts for in what the draft model would gain.
const GAIN_FADE: f32 = 0.95;

/// Rounds without gain that a request begins with: the draft model has to show
/// in some rounds that it would gain something.
const GAIN_PRIOR: f32 = 3.0;

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
    /// The same of many rounds.
    overall: Pace,
    /// Tokens a round that the draft model would gain, fading, and the rounds.
    gain: f32,
    gain_rounds: f32,
    /// Tokens of prompt and answer that the draft tier has read.
    pub(super) draft_read: u32,
    /// What is done where lookup is not: none or model. `None` before the first choice.
    pub(super) fallback: Option<Held<Drafter>>,
    pub(super) asked: Option<Asked>,
}

/// Tokens in a plain round's time, over the last rounds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    fade: f32,
    tokens: f32,
    plain_rounds: f32,
}

impl Pace {
    fn new(fade: f32) -> Self {
        Self { fade, tokens: 1.0, plain_rounds: 1.0 }
    }

    fn note(&mut self, tokens: f32, plain_rounds: f32) {
        self.tokens = self.tokens * self.fade + tokens;
        self.plain_rounds = self.plain_rounds * self.fade + plain_rounds;
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
            lately: Pace::new(FADE),
            overall: Pace::new(SLOW_FADE),
            gain: 0.0,
            gain_rounds: GAIN_PRIOR,
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

    /// The same over many rounds: what reading a prompt has to be paid from.
    pub(super) fn overall_pace(&self) -> f32 {
        self.overall.value()
    }

    /// Notes by how many tokens the draft model would have led the next round.
    pub(super) fn would_gain(&mut self, tokens: f32) {
        self.gain = self.gain * GAIN_FADE + tokens.max(0.0);
        self.gain_rounds = self.gain_rounds * GAIN_FADE + 1.0;
    }

    /// Tokens a round by which it would have led on average.
    pub(super) fn gain(&self) -> f32 {
        self.gain / self.gain_rounds
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
        self.overall.note(tokens as f32, plain_rounds);
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
