//! What policies decided and what came of it, by tier, drafter and generation.
//!
//! Generations are counted for as long as the process lives, and a policy may be replaced
//! thousands of times: only the last few have counts of their own.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use aio_core::{Drafter, FailureKind, PolicyIdentity, RequestRecord, TierInfo};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};

/// Generations that have counts: more than may live at once.
const GENERATIONS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Policy {
    policy: String,
    generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rounds {
    tier: String,
    drafter: String,
    policy: String,
    generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    policy: String,
    generation: u64,
    hook: String,
    kind: String,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    rounds: Family<Rounds, Counter>,
    drafted: Family<Rounds, Counter>,
    accepted: Family<Rounds, Counter>,
    committed: Family<Rounds, Counter>,
    seconds: Family<Policy, Counter<f64, AtomicU64>>,
    failures: Family<Failed, Counter>,
    counted: Mutex<BTreeMap<u64, Labels>>,
}

/// The labels of one generation's counts.
#[derive(Debug, Default)]
struct Labels {
    rounds: HashSet<Rounds>,
    policies: HashSet<Policy>,
    failures: HashSet<Failed>,
}

impl Decisions {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("rounds", "Rounds of decoding", self.rounds.clone());
        registry.register("drafted_tokens", "Tokens drafted", self.drafted.clone());
        let help = "Drafted tokens that were accepted";
        registry.register("accepted_tokens", help, self.accepted.clone());
        let help = "Tokens committed by rounds";
        registry.register("committed_tokens", help, self.committed.clone());
        let help = "Time spent in the policy";
        registry.register_with_unit("policy", help, Unit::Seconds, self.seconds.clone());
        registry.register("policy_failures", "What policies did wrong", self.failures.clone());
    }

    /// Counts an answer's.
    pub(super) fn count(&self, record: &RequestRecord, tiers: &[TierInfo]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = counted.entry(record.policy.generation).or_default();
        self.count_rounds(record, tiers, labels);
        self.count_policy(record, labels);
        self.bound(&mut counted);
    }

    /// Forgets the oldest generation, if there are too many.
    fn bound(&self, counted: &mut BTreeMap<u64, Labels>) {
        if counted.len() > GENERATIONS
            && let Some((_, oldest)) = counted.pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn count_rounds(&self, record: &RequestRecord, tiers: &[TierInfo], known: &mut Labels) {
        for round in &record.rounds {
            let tier = tiers.get(round.tier as usize).map_or("unknown", |tier| &tier.name);
            let labels = rounds(tier, round.drafter, &record.policy);
            self.rounds.get_or_create(&labels).inc();
            self.drafted.get_or_create(&labels).inc_by(round.drafted.into());
            self.accepted.get_or_create(&labels).inc_by(round.accepted.into());
            self.committed.get_or_create(&labels).inc_by(round.committed.into());
            known.rounds.insert(labels);
        }
    }

    fn count_policy(&self, record: &RequestRecord, known: &mut Labels) {
        let PolicyIdentity { name, generation, .. } = &record.policy;
        let policy = Policy { policy: name.clone(), generation: *generation };
        self.seconds.get_or_create(&policy).inc_by(record.totals.policy_seconds.max(0.0));
        known.policies.insert(policy);
        for failure in &record.failures {
            let labels = Failed {
                policy: name.clone(),
                generation: *generation,
                hook: failure.hook.to_string(),
                kind: kind(failure.kind).to_owned(),
            };
            self.failures.get_or_create(&labels).inc();
            known.failures.insert(labels);
        }
    }

    fn forget(&self, labels: &Labels) {
        for rounds in &labels.rounds {
            for family in [&self.rounds, &self.drafted, &self.accepted, &self.committed] {
                family.remove(rounds);
            }
        }
        for policy in &labels.policies {
            self.seconds.remove(policy);
        }
        for failed in &labels.failures {
            self.failures.remove(failed);
        }
    }
}

fn rounds(tier: &str, drafter: Drafter, policy: &PolicyIdentity) -> Rounds {
    Rounds {
        tier: tier.to_owned(),
        drafter: drafter.to_string(),
        policy: policy.name.clone(),
        generation: policy.generation,
    }
}

/// A kind of failure as JSON has it.
fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Trap => "trap",
        FailureKind::Timeout => "timeout",
        FailureKind::Memory => "memory",
        FailureKind::Clamped => "clamped",
        FailureKind::Nonsense => "nonsense",
        FailureKind::SetAside => "set-aside",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_generations_have_counts() {
        let decisions = Decisions::default();
        let labels = |generation| Policy { policy: "p".into(), generation };
        for generation in 0..GENERATIONS as u64 + 3 {
            let policy = labels(generation);
            decisions.seconds.get_or_create(&policy).inc_by(1.0);
            let mut counted = decisions.counted.lock().unwrap();
            counted.entry(generation).or_default().policies.insert(policy);
            decisions.bound(&mut counted);
        }
        assert!(decisions.seconds.get(&labels(2)).is_none());
        assert!(decisions.seconds.get(&labels(3)).is_some());
    }
}
