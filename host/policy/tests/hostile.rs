//! Policies that mean harm, or are broken: each is refused at load with one
//! sentence, or answered for by the host. That a call returns at all is the
//! assertion on time: fuel bounds it, not the clock.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use aio_core::{
    Action, Draft, Drafter, Failure, FailureKind, Hook, MAX_PROBES, Plan, RoundContext, Verdict,
};
use aio_policy::{Asked, Limits, LoadedPolicy, PolicySource, Setup};
use common::{facts, host, hostile, load, probe_result, round};

/// The default limits with all the time in the world, so that a slow machine
/// changes nothing.
fn unhurried() -> Setup {
    let hour = Duration::from_secs(3600);
    let limits = Limits { deadline: hour, init_deadline: hour, ..Limits::default() };
    Setup::new(host()).limits(limits)
}

fn loaded(name: &str) -> LoadedPolicy {
    load(&hostile(name), unhurried()).unwrap()
}

#[track_caller]
fn refusal(source: &PolicySource) -> String {
    let error = load(source, unhurried()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error
}

fn plan_of(name: &str) -> Asked<Verdict> {
    loaded(name).plan(&facts(vec![]))
}

/// Asserts that the safe plan is used, after one failure of this kind.
#[track_caller]
fn assert_safe(asked: &Asked<Verdict>, kind: FailureKind, message: &str) {
    assert_eq!(asked.answer, Verdict::Decided(Plan::safe(&host())));
    let failure = Failure { hook: Hook::Plan, kind, message: message.into() };
    assert_eq!(asked.failures, [failure]);
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let asked = plan_of("loops");
    assert_safe(
        &asked,
        FailureKind::Timeout,
        "the policy's plan used up its 10000000 units of fuel",
    );
    assert_eq!(asked.fuel, Limits::default().fuel);
}

#[test]
fn an_endless_loop_with_fuel_to_spare_meets_its_deadline() {
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    let mut policy = load(&hostile("loops"), Setup::new(host()).limits(limits)).unwrap();
    assert_safe(
        &policy.plan(&facts(vec![])),
        FailureKind::Timeout,
        "the policy's plan ran longer than 200 ms",
    );
}

#[test]
fn endless_allocation_meets_the_memory_limit() {
    assert_safe(
        &plan_of("allocates"),
        FailureKind::Memory,
        "the policy's plan asked for more than its 16777216 bytes of memory",
    );
}

#[test]
fn a_trap_is_a_failure() {
    assert_safe(
        &plan_of("traps"),
        FailureKind::Trap,
        "the policy's plan gave up (a panic, an abort or an unreachable instruction)",
    );
}

#[test]
fn endless_recursion_runs_out_of_stack() {
    assert_safe(&plan_of("recurses"), FailureKind::Trap, "the policy's plan ran out of stack");
}

#[test]
fn an_answer_out_of_bounds_is_brought_in() {
    let asked = plan_of("out-of-bounds");
    let draft =
        Draft { drafter: Drafter::Lookup, length: 48, ngram_min: 1, ngram_max: 12, ..Draft::NONE };
    let plan = Plan { tier: 1, draft, reason: String::new(), ..Plan::safe(&host()) };
    assert_eq!(asked.answer, Verdict::Decided(plan));
    let said: Vec<_> = asked.failures.iter().map(|f| (f.kind, f.message.as_str())).collect();
    let prefix = "the policy's plan answer was brought into bounds: ";
    assert_eq!(
        said,
        [
            "the plan's tier 99 does not exist, used 1 (of 0 to 1)",
            "draft length 10000 cut to 48",
            "n-gram bounds 0 to 999 brought to 1 to 12",
        ]
        .map(|change| (FailureKind::Clamped, format!("{prefix}{change}")))
        .iter()
        .map(|(kind, message)| (*kind, message.as_str()))
        .collect::<Vec<_>>()
    );
}

#[test]
fn an_answer_that_cannot_be_read_is_nonsense() {
    let asked = plan_of("nonsense");
    assert_eq!(asked.answer, Verdict::Decided(Plan::safe(&host())));
    assert_eq!(asked.failures[0].kind, FailureKind::Nonsense);
    assert!(asked.failures[0].message.starts_with("the policy's plan gave an unreadable answer"));
}

#[test]
fn a_huge_answer_is_not_copied() {
    assert_safe(
        &plan_of("huge-answer"),
        FailureKind::Nonsense,
        "the policy's plan handed the host more than 1048576 bytes at once",
    );
}

#[test]
fn a_policy_that_only_probes_is_answered_for() {
    let mut policy = loaded("probes-for-ever");
    for probes in 0..MAX_PROBES {
        let asked = policy.plan(&facts(vec![probe_result([1.0, 0.0, 0.0], 0.0); probes]));
        assert!(matches!(asked.answer, Verdict::Probe(_)), "{asked:?}");
    }
    assert_safe(
        &policy.plan(&facts(vec![probe_result([1.0, 0.0, 0.0], 0.0); MAX_PROBES])),
        FailureKind::Nonsense,
        "the policy asked for more than 4 probes for one request",
    );
}

#[test]
fn without_a_plan_hook_the_safe_plan_is_no_failure() {
    let mut policy = loaded("rounds-only");
    assert!(policy.wants_rounds());
    assert_eq!(
        (policy.identity().name.as_str(), policy.identity().version.as_str()),
        ("rounds-only", "unknown")
    );
    let asked = policy.plan(&facts(vec![]));
    assert_eq!(asked.failures, []);
    let Verdict::Decided(plan) = asked.answer else { panic!("{:?}", asked.answer) };
    assert_eq!((plan.tier, plan.draft, plan.ask_every), (1, Draft::NONE, 1));
}

#[test]
fn decisions_that_nobody_asked_for_are_dropped() {
    let asked = loaded("rounds-only").rounds(&RoundContext::default(), &[round(1), round(2)]);
    let actions: Vec<_> = asked.answer.iter().map(|d| (d.request, d.action)).collect();
    let draft =
        Draft { drafter: Drafter::Lookup, length: 48, ngram_min: 2, ngram_max: 4, ..Draft::NONE };
    assert_eq!(actions, [(1, Action::Draft(draft)), (2, Action::Keep)]);
    assert!(
        asked.failures.iter().all(|f| (f.hook, f.kind) == (Hook::Rounds, FailureKind::Clamped))
    );
    let said: Vec<_> =
        asked.failures.iter().map(|f| f.message.rsplit(": ").next().unwrap()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(asked.failures[2].message.contains("2 decisions dropped"), "{said:?}");
}

#[test]
fn three_failures_set_the_policy_aside() {
    let mut policy = loaded("traps");
    let kinds = |asked: &Asked<Verdict>| asked.failures.iter().map(|f| f.kind).collect::<Vec<_>>();
    for _ in 0..2 {
        assert_eq!(kinds(&policy.plan(&facts(vec![]))), [FailureKind::Trap]);
    }
    assert_eq!(kinds(&policy.plan(&facts(vec![]))), [FailureKind::Trap, FailureKind::SetAside]);
    let asked = policy.plan(&facts(vec![]));
    assert_eq!(asked.fuel, 0);
    let message =
        "the policy is set aside after repeated failures and is tried again in 10 s".to_owned();
    let reason = format!("safe plan: {message}");
    assert_eq!(asked.answer, Verdict::Decided(Plan { reason, ..Plan::safe(&host()) }));
    assert_eq!(
        asked.failures,
        [Failure { hook: Hook::Plan, kind: FailureKind::SetAside, message }]
    );
}

#[test]
fn mere_clamping_sets_nothing_aside() {
    let mut policy = loaded("out-of-bounds");
    for _ in 0..10 {
        let asked = policy.plan(&facts(vec![]));
        assert!(asked.failures.iter().all(|f| f.kind == FailureKind::Clamped));
    }
}

#[test]
fn what_cannot_be_loaded_is_refused_in_one_sentence() {
    for (name, sentence) in [
        (
            "imports-wasi",
            "policy \"imports-wasi\" imports wasi:cli/environment@0.2.0, but a policy gets no WASI: build it for wasm32-unknown-unknown without WASI",
        ),
        (
            "imports-unknown",
            "policy \"imports-unknown\" was built against aio:policy@9.0.0, but this host speaks aio:policy@0.1.0: build it against that, or take an aio that speaks the other",
        ),
        (
            "core-module",
            "policy \"core-module\" is a core WebAssembly module, not a component: wrap it with `wasm-tools component new`",
        ),
        ("init-refuses", "policy \"init-refuses\" refuses to start: the moon is full"),
        (
            "no-hooks",
            "policy \"no-hooks\" exports none of the hooks of aio:policy@0.1.0, so there is nothing to ask it: export at least `plan` or `rounds`",
        ),
        (
            "start-loops",
            "policy \"start-loops\" failed while it was loaded, correct it or choose another: the policy's start used up its 200000000 units of fuel",
        ),
        (
            "init-allocates",
            "policy \"init-allocates\" failed while it was loaded, correct it or choose another: the policy's init asked for more than its 16777216 bytes of memory",
        ),
    ] {
        assert_eq!(refusal(&hostile(name)), sentence);
    }
    assert!(refusal(&hostile("wrong-type")).starts_with(
        "policy \"wrong-type\" exports `plan` with another type than the contract aio:policy@0.1.0 gives it"
    ));
}

#[test]
fn bytes_that_are_not_webassembly_are_refused() {
    for bytes in [&b""[..], b"\0asm", b"(component)", &[0x7f; 1000]] {
        let source = PolicySource::Bytes { name: "p".into(), bytes: bytes.into() };
        assert_eq!(
            refusal(&source),
            "policy \"p\" is not WebAssembly: give a component (.wasm) built for the contract aio:policy@0.1.0"
        );
    }
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend([1, 200, 3]);
    let broken = PolicySource::Bytes { name: "p".into(), bytes };
    assert!(refusal(&broken).starts_with("policy \"p\" is not a valid component"));
}

#[test]
fn a_component_beyond_the_size_limit_is_not_compiled() {
    let limits = Limits { component_bytes: 100, ..Limits::default() };
    let error = load(&hostile("loops"), Setup::new(host()).limits(limits)).unwrap_err();
    assert!(error.to_string().contains("but at most 100 are allowed"), "{error}");
}

#[test]
fn a_configuration_must_be_json_and_have_a_taker() {
    let source = hostile("traps");
    let with =
        |config: &str| load(&source, Setup::new(host()).config(config)).unwrap_err().to_string();
    assert!(with("{").starts_with("the configuration of policy \"traps\" is not JSON"));
    assert_eq!(
        with("{}"),
        "policy \"traps\" refuses to start: it takes no configuration (it exports no `init`); leave it out"
    );
}
