//! The policies of `examples/policies`: each is built by its own `build.sh`,
//! loaded by the runtime, and asked. Where a tool is absent (exit code 3) its
//! tests say so and skip, unless `AIO_EXAMPLES_REQUIRED` names the example.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use aio_core::{
    Action, Draft, Drafter, FinishReason, Granted, Outcome, Plan, RequestFacts, RoundContext,
    RoundDecision, Verdict,
};
use aio_policy::{Limits, LoadedPolicy, PolicyRuntime, PolicySource, Prepared, Setup};
use common::{facts, host, round};

/// Exit code of a `build.sh` that lacks a tool.
const TOOL_ABSENT: i32 = 3;

/// An example, compiled once for all of its tests.
struct Example {
    runtime: PolicyRuntime,
    prepared: Prepared,
    setup: Setup,
}

impl Example {
    /// Builds and compiles it; `None` where a tool is absent.
    fn build(name: &str, setup: Setup) -> Option<Self> {
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/policies").join(name);
        let built = Command::new(folder.join("build.sh")).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        let required = std::env::var("AIO_EXAMPLES_REQUIRED").unwrap_or_default();
        let skips = !required.split(' ').any(|required| required == name);
        if built.status.code() == Some(TOOL_ABSENT) && skips {
            eprintln!("skipped: {}", said.lines().last().unwrap_or("a tool is absent"));
            return None;
        }
        assert!(built.status.success(), "{name}/build.sh failed: {said}");
        let runtime = PolicyRuntime::new().unwrap();
        let source = PolicySource::File(folder.join("build").join(name).with_extension("wasm"));
        let prepared = Prepared::new(&runtime, &source, &setup.limits, &setup.grants).unwrap();
        Some(Self { runtime, prepared, setup })
    }

    fn try_start(&self, config: &str, carried: Option<Vec<u8>>) -> Result<LoadedPolicy, String> {
        let config = (!config.is_empty()).then(|| config.to_owned());
        let mut setup = Setup { config, ..self.setup.clone() };
        if let Some(state) = carried {
            setup = setup.carried(state);
        }
        LoadedPolicy::start(&self.runtime, &self.prepared, setup).map_err(|error| error.to_string())
    }

    fn start(&self, config: &str) -> LoadedPolicy {
        self.try_start(config, None).unwrap()
    }
}

fn script() -> Setup {
    Setup::new(host()).limits(Limits::for_script_engine())
}

#[track_caller]
fn plan(policy: &mut LoadedPolicy, facts: &RequestFacts, granted: &Granted) -> Plan {
    let asked = policy.plan_granted(facts, granted);
    assert_eq!(asked.failures, []);
    match asked.answer {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

/// `committed` tokens on a tier, at so many milliseconds a token.
fn outcome(request: u64, tier: u32, committed: u32, milliseconds: f32) -> Outcome {
    Outcome {
        request,
        tier,
        label: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: 100,
        committed,
        rounds: committed,
        drafted: 0,
        accepted: 0,
        prefill_milliseconds: 10.0,
        decode_milliseconds: milliseconds * committed as f32,
    }
}

mod latency_guard {
    use super::*;

    static EXAMPLE: LazyLock<Option<Example>> =
        LazyLock::new(|| Example::build("latency-guard", script()));

    /// Facts in which a pass of n rows of a tier takes n times so long.
    fn facts_of(milliseconds_a_row: [f32; 2]) -> RequestFacts {
        let mut facts = facts(vec![]);
        for (tier, milliseconds) in facts.tiers.iter_mut().zip(milliseconds_a_row) {
            for gear in &mut tier.gears {
                gear.milliseconds = Some(gear.rows as f32 * milliseconds);
            }
        }
        facts
    }

    fn decision(policy: &mut LoadedPolicy, facts: &RequestFacts) -> (u32, Drafter, u32) {
        let Plan { tier, draft, .. } = plan(policy, facts, &Granted::default());
        (tier, draft.drafter, draft.length)
    }

    #[test]
    fn drafts_are_as_long_as_the_budget_has_time_for() {
        let Some(example) = &*EXAMPLE else { return };
        // Passes of 1, 2, 4 and 8 rows take 10, 20, 40 and 80 ms on the large tier.
        let facts = facts_of([1.0, 10.0]);
        for (budget, expected) in [
            (80, (1, Drafter::Lookup, 7)),
            (79, (1, Drafter::Lookup, 3)),
            (10, (1, Drafter::None, 0)),
            (9, (0, Drafter::Lookup, 7)),
            (4, (0, Drafter::Lookup, 3)),
        ] {
            let mut policy = example.start(&format!(r#"{{"budgetMilliseconds": {budget}}}"#));
            assert_eq!(decision(&mut policy, &facts), expected, "budget {budget}");
        }
    }

    #[test]
    fn what_answers_took_counts_more_than_what_passes_cost() {
        let Some(example) = &*EXAMPLE else { return };
        let facts = facts_of([1.0, 10.0]);
        let mut policy = example.start(r#"{"budgetMilliseconds": 40}"#);
        assert_eq!(decision(&mut policy, &facts), (1, Drafter::Lookup, 3));
        // The estimate starts at the first outcome, and is within the budget again
        // after 0.7 x 60 + 0.3 x 10 = 45 and 0.7 x 45 + 0.3 x 10 = 34.5.
        policy.finished(&[outcome(1, 1, 20, 60.0)]);
        assert_eq!(decision(&mut policy, &facts), (0, Drafter::Lookup, 7));
        policy.finished(&[outcome(2, 1, 20, 10.0)]);
        assert_eq!(decision(&mut policy, &facts), (0, Drafter::Lookup, 7));
        policy.finished(&[outcome(3, 1, 20, 10.0)]);
        let plan = plan(&mut policy, &facts, &Granted::default());
        assert_eq!((plan.tier, plan.label.as_str()), (1, "in-budget"));
        assert_eq!(plan.reason, "large: 34.5 ms a token, budget 40 ms, drafts up to 3");
    }

    #[test]
    fn what_is_not_measured_stops_nothing() {
        let Some(example) = &*EXAMPLE else { return };
        let mut facts = facts(vec![]);
        facts.tiers.iter_mut().flat_map(|t| &mut t.gears).for_each(|g| g.milliseconds = None);
        assert_eq!(decision(&mut example.start(""), &facts), (1, Drafter::Lookup, 8));
    }

    #[test]
    fn a_mistaken_configuration_is_refused() {
        let Some(example) = &*EXAMPLE else { return };
        let refusal = |config| example.try_start(config, None).unwrap_err();
        assert_eq!(
            refusal(r#"{"budget": 1}"#),
            "policy \"latency-guard\" refuses to start: unknown field `budget`, expected one of budgetMilliseconds, draftLength"
        );
        assert_eq!(
            refusal(r#"{"draftLength": -1}"#),
            "policy \"latency-guard\" refuses to start: `draftLength` must be a number that is not negative"
        );
    }
}

mod lookup_only {
    use super::*;

    static EXAMPLE: LazyLock<Option<Example>> =
        LazyLock::new(|| Example::build("lookup-only", Setup::new(host())));

    fn lookup(length: u32) -> Draft {
        Draft { drafter: Drafter::Lookup, length, ngram_min: 2, ngram_max: 8, ..Draft::NONE }
    }

    #[test]
    fn the_largest_tier_drafts_by_lookup() {
        let Some(example) = &*EXAMPLE else { return };
        let plan = plan(&mut example.start(""), &facts(vec![]), &Granted::default());
        let expected = Plan {
            tier: 1,
            draft: lookup(4),
            ask_every: 1,
            label: "lookup".into(),
            reason: "lookup alone, as long as the match is good for".into(),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn drafts_grow_with_the_match() {
        let Some(example) = &*EXAMPLE else { return };
        let mut policy = example.start("");
        let mut length = |lookup_match, remaining| {
            let facts = aio_core::RoundFacts { lookup_match, remaining, ..round(7) };
            let asked = policy.rounds(&RoundContext::default(), &[facts]);
            assert_eq!(asked.failures, []);
            match asked.answer[..] {
                [] => None,
                [RoundDecision { request: 7, action: Action::Draft(draft), .. }] => {
                    assert_eq!(draft, lookup(draft.length));
                    Some(draft.length)
                }
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(length(1, 59), None, "too short a match");
        assert_eq!(length(2, 59), Some(4));
        assert_eq!(length(5, 59), Some(10));
        assert_eq!(length(12, 59), Some(16));
        assert_eq!(length(12, 6), Some(5), "one token is the round's own");
    }

    #[test]
    fn many_requests_are_answered_in_one_call_again_and_again() {
        let Some(example) = &*EXAMPLE else { return };
        let mut policy = example.start("");
        let requests: Vec<_> = (0..200)
            .map(|request| aio_core::RoundFacts {
                lookup_match: 3,
                draft: lookup(if request % 2 == 0 { 6 } else { 4 }),
                ..round(request)
            })
            .collect();
        // Memory is taken back after each call: else this would run out of it.
        for _ in 0..2000 {
            let asked = policy.rounds(&RoundContext::default(), &requests);
            assert_eq!(asked.failures, []);
            assert_eq!(asked.answer.len(), 100, "those that draft 6 already are left alone");
            assert!(asked.answer.iter().all(|d| d.request % 2 == 1));
        }
    }
}

mod granted {
    use aio_core::Grant;

    use super::*;

    mod keyword_router {
        use super::*;

        static EXAMPLE: LazyLock<Option<Example>> = LazyLock::new(|| {
            Example::build("keyword-router", Setup::new(host()).grants([Grant::PromptText]))
        });

        fn decision(policy: &mut LoadedPolicy, prompt: &str) -> (u32, String, String) {
            let granted = Granted { prompt_text: Some(prompt.into()), ..Granted::default() };
            let plan = plan(policy, &facts(vec![]), &granted);
            (plan.tier, plan.label, plan.reason)
        }

        #[test]
        fn a_word_of_the_prompt_names_the_tier() {
            let Some(example) = &*EXAMPLE else { return };
            let mut policy = example.start("");
            assert_eq!(
                decision(&mut policy, "Translate: guten Tag"),
                (0, "simple".into(), "the prompt says \"translate\"".into())
            );
            let other = (1, "other".into(), "no rule's word is there".into());
            assert_eq!(decision(&mut policy, "Why is the sky blue?"), other);
        }

        #[test]
        fn the_operator_writes_the_rules() {
            let Some(example) = &*EXAMPLE else { return };
            let config = r#"{"rules": {"maths": {"words": ["prove"], "tier": 1},
                "talk": {"words": ["hello"], "tier": 0}}}"#;
            let mut policy = example.start(config);
            assert_eq!(decision(&mut policy, "Hello! Prove it.").1, "maths");
            assert_eq!(decision(&mut policy, "Hello!").1, "talk");
            let error = example
                .try_start(r#"{"rules": {"x": {"words": ["y"], "tier": 9}}}"#, None)
                .unwrap_err();
            assert!(error.ends_with("rule `x` names tier 9, but the largest is 1"), "{error}");
        }

        #[test]
        fn without_the_grant_it_is_refused() {
            let Some(example) = &*EXAMPLE else { return };
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../examples/policies/keyword-router/build/keyword-router.wasm"
            );
            let source = PolicySource::File(path.into());
            let error =
                LoadedPolicy::load(&example.runtime, &source, Setup::new(host())).unwrap_err();
            assert!(error.to_string().contains("prompt-text"), "{error}");
        }
    }

    mod budget {
        use super::*;

        static EXAMPLE: LazyLock<Option<Example>> =
            LazyLock::new(|| Example::build("budget", script().grants([Grant::Metadata])));

        /// Asks for a client's request; the tier and the label.
        fn ask(policy: &mut LoadedPolicy, request: u64, client: Option<&str>) -> (u32, String) {
            let metadata = client.map(|client| ("client".into(), client.into()));
            let granted =
                Granted { metadata: metadata.into_iter().collect(), ..Granted::default() };
            let plan = plan(policy, &RequestFacts { request, ..facts(vec![]) }, &granted);
            (plan.tier, plan.label)
        }

        fn within() -> (u32, String) {
            (1, "within-budget".into())
        }

        fn over() -> (u32, String) {
            (0, "over-budget".into())
        }

        #[test]
        fn each_client_has_a_budget_of_its_own() {
            let Some(example) = &*EXAMPLE else { return };
            let mut policy = example.start(r#"{"tokens": 50}"#);
            assert_eq!(ask(&mut policy, 1, Some("ada")), within());
            policy.finished(&[outcome(1, 1, 49, 10.0)]);
            assert_eq!(ask(&mut policy, 2, Some("ada")), within());
            policy.finished(&[outcome(2, 1, 1, 10.0)]);
            assert_eq!(ask(&mut policy, 3, Some("ada")), over());
            assert_eq!(ask(&mut policy, 4, Some("bob")), within());
            assert_eq!(ask(&mut policy, 5, None), within());
            // What the small tier says costs nothing of the budget.
            policy.finished(&[outcome(4, 0, 1000, 10.0), outcome(5, 1, 1000, 10.0)]);
            assert_eq!(ask(&mut policy, 6, Some("bob")), within());
            assert_eq!(ask(&mut policy, 7, None), over());
        }

        #[test]
        fn what_was_used_survives_a_reload() {
            let Some(example) = &*EXAMPLE else { return };
            let mut policy = example.start(r#"{"tokens": 50}"#);
            ask(&mut policy, 1, Some("ada"));
            policy.finished(&[outcome(1, 1, 50, 10.0)]);
            let state = policy.snapshot().answer.unwrap();
            assert_eq!(String::from_utf8(state.clone()).unwrap(), r#"{"ada": 50}"#);
            let mut next = example.try_start(r#"{"tokens": 50}"#, Some(state)).unwrap();
            assert_eq!(ask(&mut next, 2, Some("ada")), over());
            assert_eq!(ask(&mut next, 3, Some("bob")), within());
        }

        #[test]
        fn a_mistaken_configuration_is_refused() {
            let Some(example) = &*EXAMPLE else { return };
            let refusal = |config| example.try_start(config, None).unwrap_err();
            assert!(
                refusal(r#"{"token": 1}"#).ends_with("unknown field `token`, expected `tokens`")
            );
            assert!(
                refusal(r#"{"tokens": true}"#)
                    .ends_with("`tokens` must be a whole number that is not negative")
            );
        }
    }
}
