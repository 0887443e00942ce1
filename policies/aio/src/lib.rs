//! The default policy: the A-IO paper's. One token of the smallest tier tells
//! what kind of request it is; the kind tells which tier answers and how it
//! drafts. The tier is chosen once per request, because each finer decision costs
//! a pass; how its rounds draft is chosen round by round, unless it is configured.
//!
//! 1. A prompt over `long_prompt_tokens` is not probed and goes to the largest
//!    tier.
//! 2. Else the probe asks the small tier for the class. When the entropy over
//!    the answers reaches `entropy_threshold`, the probe is not sure and the
//!    request is answered as `unsure` says.
//! 3. Else as its class says.
//!
//! Where there is nothing to choose (one tier, or all classes answered alike)
//! nothing is probed. Everything is configuration (`config`), with the paper's
//! own rules as `{"preset": "paper"}`. Routing does not learn: the same facts go to
//! the same tier for ever. What drafts pay is learned by the SDK's [`Chooser`], and
//! only for requests whose drafting the configuration leaves open.

use aio_policy_sdk::ProbeResult;
use aio_policy_sdk::chooser::{Chooser, Learned, Options};
use aio_policy_sdk::prelude::*;

mod config;
#[cfg(test)]
mod tests;

use config::{Config, Rules, Way};

/// State of the chooser's learning; raised when what it holds changes.
type Carried = State<1>;

struct Aio {
    rules: Rules,
    chooser: Chooser,
}

impl Policy for Aio {
    type Config = Config;

    fn describe() -> Description {
        let summary = "Asks the small tier for the kind of request, and answers each kind on its \
                       own tier with its own drafts.";
        Description::new("aio", env!("CARGO_PKG_VERSION"), summary).schema(&Config::schema())
    }

    fn new(config: Config, start: Start<'_>) -> Result<Self, String> {
        let rules = config.rules(start.host)?;
        let carried = Carried::load::<Vec<Learned>>(start.carried.as_deref());
        Ok(Self { rules, chooser: Chooser::new(start.host, Options::default(), carried) })
    }

    fn plan(&mut self, facts: &RequestFacts, host: &HostInfo) -> Verdict {
        let plan = match facts.probes.first() {
            Some(probe) => self.rules.after_probe(probe, host),
            None => match self.rules.without_probe(facts, host) {
                Some(plan) => plan,
                None => return self.rules.probe().into(),
            },
        };
        if plan.ask_every > 0 {
            self.chooser.admit(plan.tier, facts);
        }
        plan.into()
    }

    /// Requests that were not admitted are not looked at: their setting may be
    /// one that the operator wrote.
    fn rounds(&mut self, context: &RoundContext, requests: &[RoundFacts]) -> Vec<RoundDecision> {
        self.chooser.rounds_of_admitted(context, requests)
    }

    fn finished(&mut self, outcomes: &[Outcome]) {
        self.chooser.finished(outcomes);
    }

    fn snapshot(&mut self) -> Vec<u8> {
        if self.chooser.has_learned() { Carried::save(&self.chooser.learned()) } else { Vec::new() }
    }
}

impl Rules {
    /// The plan, where the facts at hand are enough for one.
    fn without_probe(&self, facts: &RequestFacts, host: &HostInfo) -> Option<Plan> {
        let tier_of = |way: Way| host.tier_name(way.setting.tier);
        if host.tiers.len() < 2 {
            let reason = format!("one tier, so no probe: {} answers", tier_of(self.unsure));
            return Some(self.unsure.plan().reason(reason));
        }
        let tokens = facts.prompt_tokens.get(self.probe_tier as usize).copied().unwrap_or(0);
        let most = self.long_prompt_tokens.min(context(host, self.probe_tier));
        if tokens > most {
            let reason = format!(
                "prompt of {tokens} tokens, over {most}, so no probe: it goes to {}",
                tier_of(self.long)
            );
            return Some(self.long.plan().label("long").reason(reason));
        }
        if self.classes.iter().all(|class| class.way == self.unsure) {
            let reason =
                format!("all classes are answered alike, so no probe: {}", tier_of(self.unsure));
            return Some(self.unsure.plan().reason(reason));
        }
        None
    }

    fn probe(&self) -> Probe {
        Probe {
            tier: self.probe_tier,
            question: self.question.clone(),
            answers: self.classes.iter().map(|class| class.answer.clone()).collect(),
        }
    }

    fn after_probe(&self, probe: &ProbeResult, host: &HostInfo) -> Plan {
        let best =
            self.classes.iter().zip(&probe.probabilities).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (entropy, threshold) = (probe.entropy, self.entropy_threshold);
        match best {
            Some((class, share)) if entropy < threshold => {
                let label = &class.label;
                let tier = host.tier_name(class.way.setting.tier);
                class.way.plan().label(label.as_str()).reason(format!(
                    "probe: {label} {share:.2}, entropy {entropy:.2} below {threshold:.2}; {label} goes to {tier}"
                ))
            }
            Some((class, share)) => {
                let tier = host.tier_name(self.unsure.setting.tier);
                self.unsure.plan().label("unsure").reason(format!(
                    "probe: {} {share:.2}, entropy {entropy:.2} not below {threshold:.2}, so not sure; it goes to {tier}",
                    class.label
                ))
            }
            None => {
                let tier = host.tier_name(self.unsure.setting.tier);
                self.unsure
                    .plan()
                    .label("unsure")
                    .reason(format!("the probe brought no answer; it goes to {tier}"))
            }
        }
    }
}

fn context(host: &HostInfo, tier: u32) -> u32 {
    host.tiers.get(tier as usize).map_or(0, |info| info.context)
}

export_policy!(Aio);
