//! A recorded run on simulated hardware, without weights: records say which passes a
//! request took, a cost model says what each of them costs, and a clock adds up. The
//! result is what the whole simulation would have measured, to the nanosecond, at a
//! thousand times its speed; so a run that was recorded once can be put on any hardware,
//! with any arrivals, thousands of times.
//!
//! Requests are answered one at a time, as [`aio_serve::Runner`] does. What was decided is
//! what the records say: a policy that decides by costs might have decided otherwise.

mod records;
mod report;
mod spent;
mod sweep;

use std::collections::VecDeque;

use aio_core::{ProbeRecord, RequestRecord, RoundRecord};
use aio_engine::clock::Clock;
use aio_engine::device::cpu;
use aio_engine::device::npu_sim::{CostModel, Pricing, Sequence, Simulation};
use aio_engine::model::ModelDescription;

pub use records::read as read_records;
pub use report::{AnalyticReport, Distribution};
pub use spent::{Spent, SpentBy};
pub use sweep::{SweepOptions, sweep};

/// Why a record cannot be put on hardware.
#[derive(Debug, thiserror::Error)]
#[error("request {request} {reason}")]
pub struct NoReplay {
    /// Its number.
    request: u64,
    /// The sentence's end.
    reason: String,
}

/// What a request's passes came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Replayed {
    /// When it came, in seconds by the simulated clock.
    pub arrived: f64,
    /// When its first pass began.
    pub began: f64,
    /// When its first token was there.
    pub first_token: f64,
    /// When its last one was.
    pub ended: f64,
    /// Tokens of the answer, the one that ends it not counted.
    pub tokens: u32,
    /// Seconds of drafting and verifying, compilations included.
    pub decode_seconds: f64,
    /// Where its time went.
    pub spent: SpentBy,
}

/// Models on simulated hardware, without weights.
pub struct Analytic {
    clock: Clock,
    tiers: Vec<Pricing>,
}

impl Analytic {
    /// The hardware, and the models by their shapes, small to large: those that acted in
    /// the recorded run. Where the simulation names models to be costed, their shapes
    /// count instead.
    ///
    /// # Errors
    /// When fewer are named than acted.
    pub fn new(simulation: &Simulation, acting: &[ModelDescription]) -> Result<Self, String> {
        let costed: Vec<&ModelDescription> = match simulation.costed.as_slice() {
            [] => acting.iter().collect(),
            costed => costed.iter().map(|model| &model.description).collect(),
        };
        if costed.is_empty() || costed.len() < acting.len() {
            return Err(format!(
                "{} costs {} models, and {} are needed",
                simulation.name(),
                costed.len(),
                acting.len().max(1)
            ));
        }
        let clock = Clock::standing();
        let pricing = |model: &&ModelDescription| {
            let costs = CostModel::new(simulation.profile.clone(), model);
            Pricing::new(costs, simulation.document, cpu::GEARS, clock.clone())
        };
        Ok(Self { tiers: costed.iter().map(pricing).collect(), clock })
    }

    /// The clock, which nothing but passes, compilations and waiting for arrivals moves.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Answers what arrives, in order; `at` is when each record's request comes, in
    /// seconds from now.
    ///
    /// # Errors
    /// When a record is not one of a run with one request at a time.
    pub fn answer_all<'a>(
        &mut self,
        arrivals: impl IntoIterator<Item = (f64, &'a RequestRecord)>,
    ) -> Result<Vec<Replayed>, NoReplay> {
        let start = self.seconds();
        let mut waiting: VecDeque<_> = arrivals.into_iter().collect();
        let mut answered = Vec::with_capacity(waiting.len());
        while let Some((at, record)) = waiting.pop_front() {
            let arrived = start + at;
            self.clock.advance((arrived - self.seconds()).max(0.0));
            answered.push(Replayed { arrived, ..self.answer(record)? });
        }
        Ok(answered)
    }

    /// Answers one request, which comes now.
    ///
    /// # Errors
    /// As [`Analytic::answer_all`].
    pub fn answer(&mut self, record: &RequestRecord) -> Result<Replayed, NoReplay> {
        self.check(record)?;
        let began = self.seconds();
        let mut replayed = Replayed {
            arrived: began,
            began,
            tokens: record.totals.committed,
            ..Replayed::default()
        };
        for probe in &record.probes {
            self.probe(probe, &mut replayed.spent.probe);
        }
        let mut known = record.prompt_tokens as usize;
        let tier = record.plan.tier as usize;
        let spent = &mut replayed.spent.prefill;
        self.catch_up(tier, record.prefill_rows as usize, known, spent);
        replayed.first_token = self.seconds();
        // The prompt's last row gave the first token.
        known += 1;
        for round in &record.rounds {
            self.draft(round, known, &mut replayed.spent.draft);
            self.verify(round, known, &mut replayed.spent.verify);
            known += round.committed as usize;
        }
        replayed.ended = self.seconds();
        replayed.decode_seconds = replayed.ended - replayed.first_token;
        Ok(replayed)
    }

    fn check(&self, record: &RequestRecord) -> Result<(), NoReplay> {
        let no = |reason: String| NoReplay { request: record.request, reason };
        let asked = record.rounds.iter().flat_map(|r| [Some(r.tier), r.draft_tier]);
        let probed = record.probes.iter().map(|p| Some(p.result.tier));
        let named = asked.chain(probed).chain([Some(record.plan.tier)]).flatten();
        if let Some(tier) = named.max().filter(|&tier| tier as usize >= self.tiers.len()) {
            let count = self.tiers.len();
            return Err(no(format!("ran on tier {tier}, but only {count} are costed")));
        }
        if record.preemptions > 0 {
            return Err(no("was preempted by others, so its passes are not its own".into()));
        }
        if record.prefill_rows == 0 && record.totals.committed > 0 {
            let what = "does not say how many rows its prompt took: it was recorded by an older \
                        version, or cancelled";
            return Err(no(what.into()));
        }
        let drafted = |round: &RoundRecord| {
            let draft = round.draft_rows >= round.draft_passes;
            let caught_up = round.rows == round.drafted + 1;
            draft && (caught_up || (round.drafted == 0 && round.rows > 0))
        };
        match record.rounds.iter().position(|round| !drafted(round)) {
            Some(i) => Err(no(format!("has a round {i} whose rows do not add up"))),
            None => Ok(()),
        }
    }

    fn probe(&mut self, probe: &ProbeRecord, spent: &mut Spent) {
        let (rows, tokens) = (probe.rows as usize, probe.tokens as usize);
        self.catch_up(probe.result.tier as usize, rows, tokens, spent);
    }

    /// The draft model's passes: it catches up on what is known, then goes on from its own
    /// tokens, a row each.
    fn draft(&mut self, round: &RoundRecord, known: usize, spent: &mut Spent) {
        let Some(tier) = round.draft_tier else { return };
        let tier = tier as usize;
        let (passes, rows) = (round.draft_passes as usize, round.draft_rows as usize);
        let widest = self.widest(tier);
        // So many passes to catch up leave one row for each of the others.
        let fits = |&catching: &usize| {
            let caught_up = (rows + catching).saturating_sub(passes);
            caught_up.div_ceil(widest) <= catching
        };
        let Some(catching) = (1..=passes).find(fits) else { return };
        self.catch_up(tier, rows + catching - passes, known, spent);
        for further in 1..=passes - catching {
            self.run(tier, 1, known + further, 1, spent);
        }
    }

    fn verify(&mut self, round: &RoundRecord, known: usize, spent: &mut Spent) {
        let (tier, rows) = (round.tier as usize, round.rows as usize);
        if round.rows == round.drafted + 1 {
            self.run(tier, rows, known + round.drafted as usize, rows, spent);
        } else {
            // It went on from another tier.
            self.catch_up(tier, rows, known, spent);
        }
    }

    /// Runs the last `rows` of so many tokens in as few passes as there can be, for the
    /// last one's logits.
    fn catch_up(&mut self, tier: usize, rows: usize, tokens: usize, spent: &mut Spent) {
        let widest = self.widest(tier);
        let mut left = rows;
        while left > 0 {
            let now = left.min(widest);
            left -= now;
            self.run(tier, now, tokens - left, usize::from(left == 0), spent);
        }
    }

    /// One pass, whose last row is that of the last of so many tokens. The order in which
    /// the clock moves is the device's.
    fn run(&mut self, tier: usize, rows: usize, tokens: usize, logits: usize, spent: &mut Spent) {
        let pricing = &mut self.tiers[tier];
        let Some(gear) = pricing.gear(rows) else { return };
        if !pricing.is_compiled(gear) {
            spent.compile_seconds += pricing.compile(gear);
        }
        spent.document_seconds += pricing.lead_in(usize::from(rows == tokens));
        let cost = pricing.pass(gear, &mut [Sequence { rows, context: tokens }], logits);
        spent.note(&cost, rows);
    }

    fn widest(&self, tier: usize) -> usize {
        self.tiers[tier].gears().last().copied().unwrap_or(1)
    }

    fn seconds(&self) -> f64 {
        self.clock.now().as_secs_f64()
    }
}
