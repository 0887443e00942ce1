//! The goodput policy: one tier answers, and each round drafts what commits the
//! most tokens per second, by what passes were measured to cost and drafts to be
//! accepted. Where nothing is worth its time, nothing is drafted.
//!
//! All deciding is the SDK's [`Chooser`]; here are the configuration, the plan
//! and the carried state. This crate must not look at what a request is about.

use aio_policy_sdk::chooser::{Chooser, Learned};
use aio_policy_sdk::prelude::*;

mod config;
#[cfg(test)]
mod tests;

use config::Config;

/// State of the chooser's learning; raised when what it holds changes.
type Carried = State<1>;

struct Goodput {
    tier: u32,
    reason: String,
    chooser: Chooser,
}

impl Policy for Goodput {
    type Config = Config;

    fn describe() -> Description {
        let summary = "Each round drafts what commits the most tokens per second, by measured \
                       costs and acceptance.";
        Description::new("goodput", env!("CARGO_PKG_VERSION"), summary).schema(Config::SCHEMA)
    }

    fn new(config: Config, start: Start<'_>) -> Result<Self, String> {
        let (tier, options) = config.settle(start.host)?;
        let carried = Carried::load::<Vec<Learned>>(start.carried.as_deref());
        let name = start.host.tier_name(tier);
        let reason = format!("configured: {name}; each round drafts what pays most");
        Ok(Self { tier, reason, chooser: Chooser::new(start.host, options, carried) })
    }

    fn plan(&mut self, facts: &RequestFacts, _: &HostInfo) -> Verdict {
        let draft = self.chooser.plan_draft(self.tier, facts);
        let plan = Plan::on(self.tier).draft(draft).ask_every(1);
        plan.label("goodput").reason(self.reason.as_str()).into()
    }

    fn rounds(&mut self, context: &RoundContext, requests: &[RoundFacts]) -> Vec<RoundDecision> {
        self.chooser.rounds(context, requests)
    }

    fn finished(&mut self, outcomes: &[Outcome]) {
        self.chooser.finished(outcomes);
    }

    fn snapshot(&mut self) -> Vec<u8> {
        Carried::save(&self.chooser.learned())
    }
}

export_policy!(Goodput);
