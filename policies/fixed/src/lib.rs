//! A constant plan from the configuration: every static setting as a policy.
//!
//! The configuration is one [`Setting`]: `tier`, `drafter`, `draft_length`,
//! `ngram_min`, `ngram_max`, `draft_tier`, `min_confidence`. Without one it is
//! the largest tier, no drafts: the baseline that others are measured against.
//! It must not look at the facts.

use aio_policy_sdk::prelude::*;
use aio_policy_sdk::{Setting, Settled};

struct Fixed {
    setting: Settled,
    reason: String,
}

impl Policy for Fixed {
    type Config = Setting;

    fn describe() -> Description {
        let summary = "The same tier and the same drafts for every request, as configured.";
        Description::new("fixed", env!("CARGO_PKG_VERSION"), summary).schema(Setting::SCHEMA)
    }

    fn new(config: Setting, start: Start<'_>) -> Result<Self, String> {
        let setting = config.settle(start.host, "")?;
        let tier = start.host.tier_name(setting.tier);
        let drafts = match setting.draft.drafter {
            Drafter::None => "without drafts".into(),
            Drafter::Lookup => format!("drafting up to {} by lookup", setting.draft.length),
            Drafter::Model => format!("drafting up to {} by model", setting.draft.length),
            Drafter::LookupThenModel => {
                format!("drafting up to {} by lookup, then by model", setting.draft.length)
            }
        };
        Ok(Self { setting, reason: format!("configured: {tier} {drafts}") })
    }

    fn plan(&mut self, _: &RequestFacts, _: &HostInfo) -> Verdict {
        self.setting.plan().label("fixed").reason(self.reason.as_str()).into()
    }
}

export_policy!(Fixed);

#[cfg(test)]
mod tests {
    use super::*;
    use aio_policy_sdk::{start, testing};

    fn host() -> HostInfo {
        testing::host(&["small", "large"])
    }

    fn plan(config: &str) -> Plan {
        let host = host();
        let mut policy: Fixed = start(config, Start { host: &host, carried: None }).unwrap();
        let facts = testing::request_facts(2, 10);
        match policy.plan(&facts, &host) {
            Verdict::Decided(plan) => plan,
            Verdict::Probe(_) => panic!("a fixed policy probed"),
        }
    }

    #[test]
    fn without_configuration_the_largest_tier_decodes_plainly() {
        let plan = plan("");
        assert_eq!((plan.tier, plan.draft, plan.ask_every), (1, Draft::NONE, 0));
        assert_eq!(plan.reason, "configured: large without drafts");
    }

    #[test]
    fn every_field_reaches_the_plan() {
        let plan = plan(
            r#"{"tier": "large", "drafter": "lookup-then-model", "draft_length": 5,
                "ngram_min": 3, "ngram_max": 7, "draft_tier": "small", "min_confidence": 0.25}"#,
        );
        let draft = Draft {
            drafter: Drafter::LookupThenModel,
            length: 5,
            ngram_min: 3,
            ngram_max: 7,
            draft_tier: Some(0),
            min_confidence: 0.25,
        };
        assert_eq!((plan.tier, plan.draft), (1, draft));
        assert_eq!(plan.reason, "configured: large drafting up to 5 by lookup, then by model");
    }

    #[test]
    fn a_mistake_is_refused_at_the_start() {
        let host = host();
        let refused = |config| {
            start::<Fixed>(config, Start { host: &host, carried: None }).err().unwrap_or_default()
        };
        assert!(refused(r#"{"tier": 5}"#).starts_with("`tier` is 5, but the tiers are"));
        assert!(refused(r#"{"draft": 5}"#).contains("unknown field `draft`, expected one of"));
    }
}
