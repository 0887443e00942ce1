//! What there is to see of a policy that fails: its status, the log, and the plan
//! that takes the place of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod zoo;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aio_core::{Failure, FailureKind, Granted, Hook, RequestFacts, Verdict};
use aio_policy::{
    Limits, Options, PolicyHost, PolicyRuntime, PolicySource, PolicyStatus, Role, Setup,
};
use common::{facts, host};
use tracing::field::{Field, Visit};
use zoo::build::Builder;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message<'a>(&'a mut String);
        impl Visit for Message<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    *self.0 = format!("{value:?}");
                }
            }
        }
        let mut line = String::new();
        event.record(&mut Message(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// A policy that traps for request 1.
fn policies(limits: Limits) -> PolicyHost {
    let bytes = Builder::plan("(unreachable)").bytes();
    let source = PolicySource::Bytes { name: "traps".into(), bytes };
    let setup = Setup::new(host()).limits(limits);
    PolicyHost::load(&PolicyRuntime::new().unwrap(), &source, setup, Options::default()).unwrap()
}

fn ask(policies: &PolicyHost, request: u64) -> (Verdict, Vec<Failure>) {
    let facts = RequestFacts { request, ..facts(vec![]) };
    let asked = policies.for_request(request).plan(&facts, &Granted::default());
    (asked.answer, asked.failures)
}

#[track_caller]
fn status(policies: &PolicyHost) -> PolicyStatus {
    let [status] = policies.status().try_into().unwrap();
    status
}

#[test]
fn a_policy_that_is_set_aside_says_so_everywhere() {
    let lines = Lines::default();
    let _logging = tracing::subscriber::set_default(lines.clone());
    let policies = policies(Limits::default());
    ask(&policies, 2);
    let before = status(&policies);
    assert_eq!((before.policy.name.as_str(), before.role), ("traps", Role::Serving));
    assert_eq!((before.recent_failures, before.aside_seconds, before.instances), (0, None, 1));
    for _ in 0..2 {
        ask(&policies, 1);
    }
    let struck = status(&policies);
    assert_eq!((struck.recent_failures, struck.aside_seconds), (2, None));
    assert_eq!(
        struck.last_failure.as_deref(),
        Some("the policy's plan gave up (a panic, an abort or an unreachable instruction)")
    );

    ask(&policies, 1);
    let (answer, failures) = ask(&policies, 2);
    let [Failure { hook: Hook::Plan, kind: FailureKind::SetAside, message }] = &failures[..] else {
        panic!("{failures:?}")
    };
    assert!(message.starts_with("the policy is set aside after repeated failures"), "{message}");
    let Verdict::Decided(plan) = answer else { panic!("{answer:?}") };
    assert_eq!(plan.reason, format!("safe plan: {message}"));

    let aside = status(&policies);
    let left = aside.aside_seconds.unwrap();
    assert!(left > 0.0 && left <= 10.0, "{left}");
    assert_eq!((aside.retries, aside.next_aside_seconds, aside.times_aside), (1, 20.0, 1));
    let plans = aside.hook(Hook::Plan).unwrap();
    assert_eq!((plans.calls, plans.failures, plans.clamped, plans.skipped), (4, 3, 0, 1));
    assert!(plans.fuel > 0 && plans.seconds >= plans.longest_seconds, "{plans:?}");
    assert!(plans.longest_seconds > 0.0, "{plans:?}");
    assert!(aside.hook(Hook::Rounds).is_none(), "it exports none");
    let lines = lines.0.lock().unwrap();
    assert!(lines.iter().any(|l| l.starts_with("the policy is set aside for 10 s")), "{lines:?}");
    let json = serde_json::to_string(&aside).unwrap();
    assert_eq!(serde_json::from_str::<PolicyStatus>(&json).unwrap(), aside);
}

#[test]
fn a_policy_that_was_set_aside_comes_back_on_probation() {
    let lines = Lines::default();
    let _logging = tracing::subscriber::set_default(lines.clone());
    let pause = Duration::from_millis(5);
    let policies = policies(Limits { strikes: 1, aside: pause, ..Limits::default() });
    ask(&policies, 1);
    std::thread::sleep(2 * pause);
    assert_eq!(ask(&policies, 2).1, [], "it is asked again");
    let back = status(&policies);
    assert_eq!((back.aside_seconds, back.retries, back.times_aside), (None, 1, 1));
    ask(&policies, 1);
    let again = status(&policies);
    assert_eq!((again.retries, again.times_aside, again.instances), (2, 2, 2));
    assert_eq!(again.next_aside_seconds, 0.02);
    let again = "the policy is asked again; if it fails it is set aside for 0.01 s";
    assert_eq!(lines.0.lock().unwrap().iter().filter(|line| *line == again).count(), 1);
}
