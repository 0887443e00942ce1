//! One request before one round: what it could do next and what that is worth.

use super::Options;
use super::learned::match_class;
use super::request::Request;
use super::tier::Tier;
use crate::cost::CostTable;
use crate::goodput::{CATCH_UP, DraftModel, Reading, Round, Weighed};
use crate::{Drafter, RoundFacts};

/// How many times as wide as the widest measured pass one may be that is tried
/// in order to measure it: its cost is a guess, and a far one a wild guess.
const FARTHER: u32 = 4;

/// The share of the time of reading a prompt that must be foreseen to be brought in before
/// it is spent. Less than all of it: what the draft model saves is learned by using it, and
/// until then it is believed to save less than it mostly does.
const READING_SHARE: f32 = 0.6;

/// What a round may do, with all that is needed to weigh it.
pub(super) struct Situation<'a> {
    tier: &'a Tier,
    round: Round<'a>,
    /// The class of what matches now, if anything does that may be looked up.
    match_class: Option<usize>,
    drafting: Option<Drafting<'a>>,
    /// The draft model's length in force.
    held: Option<u32>,
    /// Whether any draft could pay: next to many requests none does, if wider passes
    /// cost what they are expected to, and then drafts are not weighed at all.
    may_pay: bool,
}

/// The draft model for this request.
struct Drafting<'a> {
    model: DraftModel<'a>,
    /// Tokens of the prompt, if they have not been read.
    to_read: u32,
}

impl Drafting<'_> {
    /// Milliseconds of reading the prompt.
    fn reading(&self) -> f32 {
        match self.to_read {
            0 => 0.0,
            tokens => catch_up(self.model.costs, tokens),
        }
    }
}

/// Milliseconds by which a pass over so many tokens takes longer than one of one.
fn catch_up(costs: &CostTable, tokens: u32) -> f32 {
    (costs.milliseconds(tokens) - costs.milliseconds(1)).max(0.0)
}

impl<'a> Situation<'a> {
    pub(super) fn new(
        tiers: &'a [Tier],
        request: &Request,
        options: &Options,
        facts: &RoundFacts,
        running: u32,
    ) -> Option<Self> {
        let tier = tiers.get(facts.tier as usize)?;
        let held = |drafter| (facts.draft.drafter == drafter).then_some(facts.draft.length);
        let (pass, may_pay) = tier.pass(running, options.max_length);
        let mut round = Round {
            pass,
            pace: 0.0,
            most: options.max_length.min(facts.remaining.saturating_sub(1)),
            held: held(Drafter::Lookup),
        };
        round.pace = request.pace() / round.plain_milliseconds();
        let matches = options.lookup && facts.lookup_match > 0;
        let drafting = tier.draft_tier.and_then(|draft| tiers.get(draft)).map(|draft| {
            let has_read = request.draft_read > 0;
            // Of what it missed of the answer it reads the end, of the prompt everything.
            let answered = request.draft_read.saturating_sub(facts.prompt_tokens);
            let missed = facts.committed.saturating_sub(answered).min(CATCH_UP);
            let prompt = facts.prompt_tokens.saturating_sub(request.draft_read);
            let unread = prompt.saturating_add(missed).max(1);
            let behind = if has_read { catch_up(&draft.costs, unread) } else { 0.0 };
            Drafting {
                model: DraftModel {
                    costs: &draft.costs,
                    first_pass: draft.costs.milliseconds(1) + behind,
                    stops: if options.min_confidence > 0.0 { tier.learned.stops } else { 0.0 },
                },
                to_read: if has_read { 0 } else { unread },
            }
        });
        Some(Self {
            tier,
            round,
            match_class: matches.then(|| match_class(facts.lookup_match)),
            drafting,
            held: held(Drafter::Model),
            may_pay,
        })
    }

    /// What time is worth to the request, in tokens per millisecond.
    pub(super) fn pace(&self) -> f32 {
        self.round.pace
    }

    pub(super) fn plain(&self) -> Weighed {
        self.round.plain()
    }

    /// The best draft by lookup, where one could pay.
    pub(super) fn lookup(&self, request: &Request) -> Option<Weighed> {
        let class = self.match_class.filter(|_| self.may_pay)?;
        let weigh = || self.lookup_in(request, self.round, Reading::Expected);
        if !request.has_looked_up() {
            let key = (self.round.most, self.round.held, 0);
            return self.round.again(self.tier.strangers.lookup(class, key, weigh));
        }
        weigh()
    }

    fn lookup_in(&self, request: &Request, round: Round<'_>, reading: Reading) -> Option<Weighed> {
        let acceptance = request.lookup_acceptance(&self.tier.learned, self.match_class?);
        round.lookup(&acceptance, reading)
    }

    /// The draft model's best draft, once it has read the prompt, where one could pay.
    pub(super) fn model(&self, request: &Request) -> Option<Weighed> {
        let drafting = self.drafting.as_ref().filter(|_| self.may_pay)?;
        let round = Round { held: self.held, ..self.round };
        let weigh = || self.model_in(request, round, Reading::Expected);
        if !request.has_used_model() {
            let key = (round.most, round.held, drafting.model.first_pass.to_bits());
            return round.again(self.tier.strangers.model(key, weigh));
        }
        weigh()
    }

    fn model_in(&self, request: &Request, round: Round<'_>, reading: Reading) -> Option<Weighed> {
        let drafting = self.drafting.as_ref()?;
        let acceptance = request.model_acceptance(&self.tier.learned);
        round.model(&drafting.model, &acceptance, reading)
    }

    /// Plain rounds' time a token that a choice saves over another; less than 0 where it
    /// takes longer.
    pub(super) fn saving(&self, choice: &Weighed, other: &Weighed) -> f32 {
        (other.rate().recip() - choice.rate().recip()) / self.round.plain_milliseconds()
    }

    /// What the draft model would save over another choice, if half of its failures were
    /// bad luck.
    pub(super) fn hoped_saving(&self, request: &Request, other: &Weighed) -> f32 {
        let Some(drafting) = &self.drafting else { return 0.0 };
        let acceptance = request.model_acceptance(&self.tier.learned);
        let hoped = acceptance.map(|share| 0.5 + share / 2.0);
        let model = self.round.model(&drafting.model, &hoped, Reading::Expected);
        model.map_or(0.0, |model| self.saving(&model, other))
    }

    /// Whether reading the prompt is worth it, when the draft model saves so much of a
    /// plain round's time a token over what else there is: the tokens to come must bring
    /// in the time that it takes.
    pub(super) fn pays_reading(&self, saving: impl FnOnce() -> f32, facts: &RoundFacts) -> bool {
        self.drafting.as_ref().is_some_and(|drafting| {
            let reading = drafting.reading();
            if reading <= 0.0 {
                return true;
            }
            let to_come = self.tier.learned.to_come(facts.committed, facts.remaining);
            saving() * to_come * self.round.plain_milliseconds() > reading * READING_SHARE
        })
    }

    /// Milliseconds of reading the prompt.
    pub(super) fn to_read(&self) -> f32 {
        self.drafting.as_ref().map_or(0.0, Drafting::reading)
    }

    /// What would beat `best` if passes wider than those measured were as cheap
    /// as can be hoped; weighed with what they are expected to cost.
    pub(super) fn worth_measuring(
        &self,
        request: &Request,
        best: &Weighed,
    ) -> Option<(Drafter, Weighed)> {
        let (costs, rows) = (self.round.pass.costs, self.round.pass.rows);
        let unmeasured = |gear: &&crate::cost::GearCost| gear.rows > rows && !gear.measured;
        let first = costs.gears().iter().find(unmeasured)?;
        let measured = costs.gears().iter().take_while(|gear| gear.rows < first.rows);
        let widest = measured.filter(|gear| gear.measured).last().map(|gear| gear.rows)?;
        let most = widest.max(rows).saturating_mul(FARTHER) - rows;
        let round = Round { most: most.min(self.round.most), held: None, ..self.round };
        let lookup = self.lookup_in(request, round, Reading::AtBest);
        let model = self.model_in(request, round, Reading::AtBest);
        let hopeful = [(Drafter::Lookup, lookup), (Drafter::Model, model)];
        hopeful.into_iter().find_map(|(drafter, weighed)| {
            let mut weighed = weighed.filter(|w| !w.measured && w.value > best.value)?;
            let gear = costs.gear(rows.saturating_add(weighed.length))?;
            let dearer = gear.milliseconds - gear.at_best;
            weighed.milliseconds += dearer;
            weighed.value -= round.pace * dearer;
            Some((drafter, weighed))
        })
    }
}
