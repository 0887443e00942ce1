//! Choosing drafter and length each round: what the pieces of this crate come to
//! when they are put together. The `goodput` policy is this with a configuration,
//! and the `aio` policy uses it within the requests that it routes.
//!
//! Plan with [`Chooser::plan_draft`] and `ask_every(1)`, then hand the hooks on:
//! [`Chooser::rounds`], [`Chooser::finished`]. It learns from what it asked for
//! only, so the host must carry it out: a round that was not as asked teaches
//! nothing.
//!
//! Each round it weighs plain decoding, lookup (by how long a suffix matches
//! now) and the draft model by [`crate::goodput`], with what was measured
//! ([`crate::cost`]) and learned ([`crate::acceptance`]: over all requests, and
//! how this one differs). Lookup costs nothing to begin or to leave, so it is
//! taken in any round where it is worth most. The draft model must first read
//! what it has not seen, so whether it is used elsewhere changes only for a lead
//! that lasts ([`crate::hysteresis`]). Now and then something that seems to lose
//! is tried, at a price ([`crate::explore`]).
//!
//! It must not choose tiers, and knows of no kinds of requests.

mod learned;
mod options;
mod reasons;
mod remembered;
mod request;
mod situation;
mod strangers;
#[cfg(test)]
mod tests;
mod tier;

pub use learned::{Learned, MATCHES, match_class};
pub use options::Options;
pub use remembered::MOST_REQUESTS;

use crate::explore::Explorer;
use crate::goodput::{Pass, Reading, Round, Weighed};
use crate::hysteresis::{Held, Hysteresis};
use crate::{
    Acceptance, Action, Draft, Drafter, FinishReason, HostInfo, Outcome, RequestFacts,
    RoundContext, RoundDecision, RoundFacts, TierFacts,
};
use remembered::Remembered;
use request::{Asked, Request, Trial};
use situation::Situation;
use tier::Tier;

/// The arms of the explorer.
const TRY_LOOKUP: usize = 0;
const TRY_MODEL: usize = 1;
const TRY_WIDTH: usize = 2;

/// Rounds in a row for which the draft model must lead, or fall behind: one is enough,
/// since whether its reading pays goes by many.
const LASTING: u32 = 1;

/// Plain rounds whose time may be lost to trials before any was earned: without
/// a few passes of several rows nothing is known of what drafts cost.
const HEAD_START: f32 = 3.0;

/// Rounds after which it is looked again for something to try, where there was
/// nothing. No power of two: with so many requests at once it would look at the
/// same ones each time.
const LOOK_AGAIN: u32 = 5;

/// Bytes a millisecond that a device is taken to read weights at before anything
/// is measured. Only ratios matter then.
const BYTES_PER_MILLISECOND: f32 = 4e7;

/// Chooses drafters and lengths, and learns.
#[derive(Debug)]
pub struct Chooser {
    options: Options,
    max_ngram: u32,
    tiers: Vec<Tier>,
    explorer: Explorer,
    /// Whether the explorer got its head start.
    started: bool,
    has_learned: bool,
    calls: u64,
    requests: Remembered,
}

/// What one round is decided to do.
#[derive(Debug, Clone, Copy)]
struct Choice {
    drafter: Drafter,
    weighed: Weighed,
    plain: Weighed,
    trial: Option<Trial>,
}

impl Chooser {
    /// A chooser for a host's tiers, with what an earlier one learned, if
    /// anything; what was learned of tiers that are not there is dropped.
    pub fn new(host: &HostInfo, options: Options, carried: Option<Vec<Learned>>) -> Self {
        let mut carried = carried.unwrap_or_default();
        carried.retain(Learned::is_sane);
        let tier = |(index, info): (u32, &crate::TierInfo)| {
            let carried = carried.iter().find(|learned| learned.tier == info.name).cloned();
            let draft_tier =
                (0..index).find(|&draft| options.model && host.can_draft(draft, index));
            Tier::new(
                carried.unwrap_or_else(|| Learned::prior(&info.name)),
                draft_tier.map(|draft| draft as usize),
                info.weight_bytes.max(1) as f32 / BYTES_PER_MILLISECOND,
            )
        };
        Self {
            options: Options {
                max_length: options.max_length.min(host.max_draft_length),
                ..options
            },
            max_ngram: host.max_ngram.max(1),
            tiers: (0..).zip(&host.tiers).map(tier).collect(),
            explorer: Explorer::new(options.exploration, 3),
            started: false,
            has_learned: !carried.is_empty(),
            calls: 0,
            requests: Remembered::default(),
        }
    }

    /// Notes a request that is about to be answered on a tier, and whether a probe
    /// has made the draft tier read its prompt. [`Chooser::plan_draft`] does so too.
    pub fn admit(&mut self, tier: u32, facts: &RequestFacts) {
        self.update_costs(&facts.tiers);
        if let Some(of_tier) = self.tiers.get_mut(tier as usize) {
            let to_come = of_tier.learned.to_come(0, facts.max_tokens);
            of_tier.costs.expect_passes(to_come);
        }
        let Some(of_tier) = self.tiers.get(tier as usize) else { return };
        let mut request = Request::new(tier);
        let draft_tier = of_tier.draft_tier.map(|draft| draft as u32);
        if facts.probes.iter().any(|probe| Some(probe.tier) == draft_tier) {
            request.draft_read = facts.prompt_tokens.get(tier as usize).copied().unwrap_or(0);
        }
        request.heard = self.calls;
        self.requests.put(facts.request, request);
    }

    /// How the first round of a request is to draft, which nobody is asked about.
    /// What will match then is not known, so it drafts as after the weakest match.
    pub fn plan_draft(&mut self, tier: u32, facts: &RequestFacts) -> Draft {
        self.admit(tier, facts);
        let Some(of_tier) = self.tiers.get(tier as usize) else { return Draft::NONE };
        let round = Round {
            pass: Pass::new(&of_tier.costs, facts.load.running.saturating_sub(1)),
            pace: 0.0,
            most: self.options.max_length.min(facts.max_tokens.saturating_sub(2)),
            held: None,
        };
        let round = Round { pace: round.plain_milliseconds().recip(), ..round };
        let plain = round.plain();
        let acceptance = Request::new(tier).lookup_acceptance(&of_tier.learned, match_class(1));
        let lookup = round.lookup(&acceptance, Reading::Expected);
        match lookup.filter(|best| self.options.lookup && best.value > plain.value) {
            Some(best) => self.draft(Drafter::Lookup, best.length, None),
            None => Draft::NONE,
        }
    }

    /// What each request is to do next. Requests that go on as they are get no
    /// decision.
    pub fn rounds(
        &mut self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Vec<RoundDecision> {
        self.decide(context, requests, false)
    }

    /// The same for those of the requests that were admitted; the others are left
    /// as they are.
    pub fn rounds_of_admitted(
        &mut self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Vec<RoundDecision> {
        self.decide(context, requests, true)
    }

    fn decide(
        &mut self,
        context: &RoundContext,
        requests: &[RoundFacts],
        only_admitted: bool,
    ) -> Vec<RoundDecision> {
        self.calls += 1;
        self.update_costs(&context.tiers);
        self.expect_passes(requests);
        self.adopt(&context.acceptance);
        self.tiers.iter_mut().for_each(Tier::forget);
        let mut next = 0;
        let running = context.load.running.max(requests.len() as u32).clamp(1, 1 << 16);
        let mut decisions = Vec::new();
        for facts in requests {
            let place = self.requests.find(facts.request, &mut next);
            if only_admitted && place.is_none() {
                continue;
            }
            let Some(place) = self.known(facts, place) else { continue };
            if let Some(decision) = self.round(facts, place, running) {
                decisions.push(decision);
            }
        }
        decisions
    }

    /// What became of requests: the length of their answers is learned, and
    /// they are forgotten.
    pub fn finished(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if !self.requests.remove(outcome.request) {
                continue;
            }
            let whole = matches!(outcome.finish, FinishReason::Stop | FinishReason::Length);
            if let Some(tier) = self.tiers.get_mut(outcome.tier as usize).filter(|_| whole) {
                tier.learned.answered(outcome.committed);
                self.has_learned = true;
            }
        }
    }

    /// Whether anything was learned, here or in what was carried over.
    pub fn has_learned(&self) -> bool {
        self.has_learned
    }

    /// What was learned, tier by tier, to be carried over a reload.
    pub fn learned(&self) -> Vec<&Learned> {
        self.tiers.iter().map(|tier| &tier.learned).collect()
    }

    /// The share of time lost to trying things out so far, 0 to 1.
    pub fn explored(&self) -> f32 {
        self.explorer.spent()
    }

    /// Requests that are remembered.
    pub fn remembered(&self) -> usize {
        self.requests.len()
    }

    /// Tells each tier how many passes its longest answer has before it: so many may win
    /// back what a graph costs that is not compiled yet. A draft model has no fewer.
    fn expect_passes(&mut self, requests: &[RoundFacts]) {
        for (index, tier) in (0u32..).zip(&mut self.tiers).filter(|(_, tier)| tier.costs.compiles())
        {
            let to_come = |facts: &RoundFacts| {
                let tokens = tier.learned.to_come(facts.committed, facts.remaining);
                tokens / tokens_a_round(facts).max(1.0)
            };
            let of_tier = requests.iter().filter(|facts| facts.tier == index);
            let passes = of_tier.map(to_come).fold(0.0, f32::max);
            if passes > 0.0 {
                tier.costs.expect_passes(passes);
            }
        }
    }

    /// Takes in what passes cost. A tier of which nothing is measured is judged by
    /// its size and by one of which something is.
    fn update_costs(&mut self, facts: &[TierFacts]) {
        let measured =
            |facts: &TierFacts| facts.gears.iter().any(|gear| gear.milliseconds.is_some());
        let mut all_are = true;
        for (tier, facts) in self.tiers.iter_mut().zip(facts) {
            if measured(facts) {
                tier.costs.update(&facts.gears, tier.by_size);
            } else {
                all_are = false;
            }
        }
        if all_are {
            return;
        }
        let known = self.tiers.iter().rev().find(|tier| tier.costs.is_measured());
        let slowness = known.map_or(1.0, |tier| tier.costs.milliseconds(1) / tier.by_size);
        for (tier, facts) in self.tiers.iter_mut().zip(facts).filter(|(_, f)| !measured(f)) {
            tier.costs.update(&facts.gears, tier.by_size * slowness);
        }
    }

    /// Takes over what the host has measured of a draft model before this policy
    /// came. Of lookup it tells too little: how long the matches were.
    fn adopt(&mut self, acceptance: &[Acceptance]) {
        for measured in acceptance {
            if let Some(tier) = self.tiers.get_mut(measured.tier as usize)
                && measured.drafter == Drafter::Model
                && !tier.adopted
            {
                let rounds = (measured.rounds as f32).min(20.0);
                tier.learned.model.adopt(&measured.by_position, rounds);
                tier.adopted = true;
            }
        }
    }

    /// Where a request that is asked about is; it is remembered from now on if it
    /// was not. `None` for one on a tier that is not there, and where all that can
    /// be remembered are asked about.
    fn known(&mut self, facts: &RoundFacts, place: Option<usize>) -> Option<usize> {
        self.tiers.get(facts.tier as usize)?;
        match place {
            Some(place) if self.requests[place].tier == facts.tier => Some(place),
            None if self.requests.is_full_of(self.calls) => None,
            _ => Some(self.requests.put(facts.request, Request::new(facts.tier))),
        }
    }

    fn round(&mut self, facts: &RoundFacts, index: usize, running: u32) -> Option<RoundDecision> {
        self.requests[index].heard = self.calls;
        self.settle(facts, index);
        let choice = self.choose(facts, index, running)?;
        if let Some(trial) = choice.trial {
            self.explorer.begin(trial.arm);
        }
        let length = choice.weighed.length;
        self.requests[index].asked = Some(Asked {
            drafter: choice.drafter,
            length: length.min(facts.remaining.saturating_sub(1)),
            match_class: match_class(facts.lookup_match),
            round: facts.round,
            plain_milliseconds: choice.plain.milliseconds,
            trial: choice.trial,
        });
        let draft_tier = self.tiers[facts.tier as usize].draft_tier;
        let draft = self.draft(choice.drafter, length, draft_tier);
        if goes_on(&facts.draft, &draft, facts.lookup_match) {
            return None;
        }
        let reason = reasons::of(&choice, facts);
        Some(RoundDecision { request: facts.request, action: Action::Draft(draft), reason })
    }

    /// Learns from the last round.
    fn settle(&mut self, facts: &RoundFacts, index: usize) {
        let draft_tier = self.tiers[facts.tier as usize].draft_tier;
        let (below, from) = self.tiers.split_at_mut(facts.tier as usize);
        let Some(tier) = from.first_mut() else { return };
        let draft = draft_tier.and_then(|draft| below.get(draft)).map(|draft| &draft.costs);
        let request = &mut self.requests[index];
        let Some(done) = request.settle(facts, &mut tier.learned, &tier.costs, draft) else {
            return;
        };
        self.explorer.round(done.milliseconds);
        if !self.started && tier.costs.is_measured() {
            self.started = true;
            self.explorer.credit(HEAD_START * tier.costs.milliseconds(1));
        }
        if let Some(Trial { arm, instead, pace, .. }) = done.trial {
            let value = done.tokens as f32 - pace * done.milliseconds;
            self.explorer.settle(arm, (instead - value) / pace);
        }
    }

    /// The best that the next round can do, or what it is to try.
    fn choose(&mut self, facts: &RoundFacts, index: usize, running: u32) -> Option<Choice> {
        let request = &self.requests[index];
        let situation = Situation::new(&self.tiers, request, &self.options, facts, running)?;
        let (plain, lookup) = (situation.plain(), situation.lookup(request));
        let once_read = situation.model(request);

        // While the prompt is unread, what the draft model would save is noted each round.
        let quicker = lookup.filter(|lookup| lookup.rate() > plain.rate());
        let other = quicker.unwrap_or(plain);
        let saving = once_read.map_or(0.0, |model| situation.saving(&model, &other));
        self.requests[index].would_save(saving, other.tokens);
        let request = &self.requests[index];
        // It is not asked whether reading pays for a model that is neither used nor better.
        let uses_model = request.fallback.is_some_and(|held| held.current() == Drafter::Model);
        let model = once_read
            .filter(|model| uses_model || model.value > plain.value)
            .filter(|_| situation.pays_reading(|| request.saving(), facts));

        // What is done where lookup is not.
        let lead = model.map_or(0.0, |model| model.value - plain.value);
        let better = if lead > 0.0 { Drafter::Model } else { Drafter::None };
        let mut fallback = request.fallback.unwrap_or_else(|| Held::new(better));
        let hysteresis = Hysteresis { margin: self.options.margin, times: LASTING };
        let drafter = hysteresis.settle(&mut fallback, better, lead.abs());
        let mut best = match model {
            Some(model) if drafter == Drafter::Model => (Drafter::Model, model),
            _ => (Drafter::None, plain),
        };
        // A plain round brings the next copy no nearer than one that looks up.
        let instead = match best.0 {
            Drafter::Model => lookup.filter(|lookup| lookup.value > best.1.value),
            _ => quicker,
        };
        if let Some(lookup) = instead {
            best = (Drafter::Lookup, lookup);
        }

        let looks = self.explorer.is_ready();
        let tried = if looks {
            self.to_try(facts, request, &situation, best, [lookup, once_read])
        } else {
            None
        };
        let (drafter, weighed) = tried.map_or(best, |(choice, _)| choice);
        let trial = tried.map(|(_, trial)| trial);
        self.requests[index].fallback = Some(fallback);
        if looks && trial.is_none() {
            self.explorer.postpone(LOOK_AGAIN);
        }
        Some(Choice { drafter, weighed, plain, trial })
    }

    /// What to try instead of the best, if something is uncertain and affordable.
    fn to_try(
        &self,
        facts: &RoundFacts,
        request: &Request,
        situation: &Situation<'_>,
        (chosen, best): (Drafter, Weighed),
        [lookup, model]: [Option<Weighed>; 2],
    ) -> Option<((Drafter, Weighed), Trial)> {
        let class = match_class(facts.lookup_match);
        let lookup = lookup
            .filter(|_| chosen != Drafter::Lookup && request.lookup_is_uncertain(class))
            .map(|lookup| (Drafter::Lookup, lookup));
        let model = model
            .filter(|_| chosen != Drafter::Model && request.model_is_uncertain(facts.round))
            .filter(|_| {
                let saving = situation.hoped_saving(request, &best);
                saving > 0.0 && situation.pays_reading(|| saving, facts)
            })
            .map(|model| (Drafter::Model, model));
        let wider = situation.worth_measuring(request, &best);
        let candidates = [(TRY_WIDTH, wider), (TRY_LOOKUP, lookup), (TRY_MODEL, model)];
        candidates.into_iter().find_map(|(arm, candidate)| {
            let (drafter, weighed) = candidate?;
            let to_read = if drafter == Drafter::Model { situation.to_read() } else { 0.0 };
            let pace = situation.pace();
            let loss = (best.value - weighed.value) / pace;
            let affordable = self.explorer.may_try(arm, loss + to_read);
            let trial = Trial { arm, instead: best.value, pace, to_read };
            affordable.then_some(((drafter, weighed), trial))
        })
    }

    fn draft(&self, drafter: Drafter, length: u32, draft_tier: Option<usize>) -> Draft {
        match drafter {
            Drafter::Lookup => Draft { drafter, length, ngram_max: self.max_ngram, ..Draft::NONE },
            Drafter::Model => Draft {
                drafter,
                length,
                draft_tier: draft_tier.map(|tier| tier as u32),
                min_confidence: self.options.min_confidence,
                ..Draft::NONE
            },
            _ => Draft::NONE,
        }
    }
}

/// Tokens that a round commits on average in a request.
fn tokens_a_round(facts: &RoundFacts) -> f32 {
    facts.committed as f32 / facts.round.max(1) as f32
}

/// Whether the setting in force does the next round as the wanted one would.
fn goes_on(in_force: &Draft, wanted: &Draft, lookup_match: u32) -> bool {
    match wanted.drafter {
        // Where nothing matches, lookup drafts nothing.
        Drafter::None => {
            in_force.drafter == Drafter::None
                || (in_force.drafter == Drafter::Lookup && lookup_match == 0)
        }
        Drafter::Lookup => {
            in_force.drafter == Drafter::Lookup
                && in_force.length == wanted.length
                && (in_force.ngram_min, in_force.ngram_max) == (wanted.ngram_min, wanted.ngram_max)
        }
        _ => {
            in_force.drafter == wanted.drafter
                && in_force.length == wanted.length
                && in_force.draft_tier == wanted.draft_tier
                && in_force.min_confidence == wanted.min_confidence
        }
    }
}
