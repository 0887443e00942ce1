//! What became of a policy that was asked beside the serving one and never obeyed.

use serde::{Deserialize, Serialize};

use crate::PolicyIdentity;

/// How often two policies said the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Answers that were compared.
    pub compared: u64,
    /// Answers that come to the same: tier and draft setting are equal, whatever
    /// the label and the reason.
    pub equal: u64,
}

/// What a shadow was asked, and how its answers compare with those that were
/// carried out. Counted since it was started, over all requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// The shadow.
    pub policy: PolicyIdentity,
    /// Calls that it was asked.
    pub calls: u64,
    /// Calls that it was not asked, because it was not done with those before:
    /// a shadow never keeps anybody waiting.
    pub dropped: u64,
    /// Calls that failed, or were not made because it was set aside. Their safe
    /// answers are not compared.
    pub failures: u64,
    /// Its plans beside the plans carried out.
    pub plans: Agreement,
    /// Its round decisions beside those carried out: for each request that its own
    /// plan wants to be asked about, the setting that would hold after the round.
    pub rounds: Agreement,
    /// Requests for which it has no plan because it asked for a probe that the
    /// serving policy did not.
    pub probes_not_run: u64,
    /// Fuel that it used.
    pub fuel: u64,
    /// Time that its calls took, on a thread of its own.
    pub seconds: f64,
    /// Seconds for which it stays set aside; `None` when it is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside_seconds: Option<f64>,
    /// Its last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The last plan in which it differed, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_difference: Option<String>,
}

impl std::fmt::Display for ShadowReport {
    /// One sentence for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { policy, calls, dropped, failures, plans, rounds, .. } = self;
        write!(
            f,
            "{} {} was asked {calls} times ({failures} failed, {dropped} more dropped): its plan \
             was that carried out in {} of {}, its round decision in {} of {}",
            policy.name, policy.version, plans.equal, plans.compared, rounds.equal, rounds.compared
        )?;
        if self.probes_not_run > 0 {
            write!(f, "; {} plans wait for a probe that was not run", self.probes_not_run)?;
        }
        if let Some(difference) = &self.last_difference {
            write!(f, "; {difference}")?;
        }
        if let Some(failure) = &self.last_failure {
            write!(f, "; its last failure: {failure}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_sentence_and_its_json_is_whole() {
        let policy = PolicyIdentity {
            name: "next".into(),
            version: "2.0".into(),
            digest: "d".into(),
            generation: 2,
        };
        let report = ShadowReport {
            policy,
            calls: 12,
            dropped: 3,
            failures: 1,
            plans: Agreement { compared: 2, equal: 1 },
            rounds: Agreement { compared: 9, equal: 9 },
            probes_not_run: 0,
            fuel: 5,
            seconds: 0.5,
            aside_seconds: None,
            last_failure: None,
            last_difference: Some("request 7: small, not large".into()),
        };
        assert_eq!(
            report.to_string(),
            "next 2.0 was asked 12 times (1 failed, 3 more dropped): its plan was that carried \
             out in 1 of 2, its round decision in 9 of 9; request 7: small, not large"
        );
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ShadowReport>(&json).unwrap(), report);
    }
}
