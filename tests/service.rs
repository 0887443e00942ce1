//! The service: the scheduler on its thread, shared by clients on theirs.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use aio_core::FinishReason;
use aio_engine::sampling::Sampling;
use aio_serve::{Answer, Event, Refused, Scheduler, SchedulerOptions, Service};

fn service(waiting: usize) -> Option<Service> {
    let tiers = support::tiers(&["smollm2-135m"])?;
    let policies = support::load("fixed", "", &tiers);
    let options = SchedulerOptions { max_running: 2, ..SchedulerOptions::default() };
    Some(Service::start(Scheduler::new(tiers, policies, options), waiting).unwrap())
}

/// All events of an answer; the last one is its end.
fn end(mut answer: Answer) -> Event {
    let mut last = None;
    while let Some(event) = answer.blocking_next() {
        last = Some(event);
    }
    last.unwrap()
}

#[test]
fn many_clients_are_answered_and_too_many_refused() {
    let Some(service) = service(3) else { return };
    let request = || support::chat("Count to a hundred.", 24, Sampling::default());
    let taken: Vec<_> = (0..16).map(|_| service.submit(request())).collect();
    let refused = taken.iter().filter(|taken| taken.is_err()).count();
    assert!(refused > 0, "sixteen at once are more than two and three");
    for answer in taken {
        match answer {
            Ok(answer) => assert!(matches!(end(answer), Event::Ended(_))),
            Err(refused) => assert!(matches!(refused, Refused::QueueFull { .. }), "{refused}"),
        }
    }
    // There is room again.
    let Event::Ended(record) = end(service.submit(request()).unwrap()) else { panic!() };
    assert_eq!(record.finish_reason, FinishReason::Length);
    service.stop();
}

#[test]
fn a_dropped_answer_frees_its_place() {
    let Some(service) = service(8) else { return };
    let long = || support::chat("Count to a thousand.", 100_000, Sampling::default());
    let answers: Vec<Answer> = (0..2).map(|_| service.submit(long()).unwrap()).collect();
    drop(answers);
    // Both places were taken for a long time, had nobody noticed.
    let short = service.submit(support::chat("Hi", 2, Sampling::default())).unwrap();
    assert!(matches!(end(short), Event::Ended(_)));
    service.stop();
}

#[test]
fn a_service_that_is_stopped_ends_what_it_has_taken() {
    let Some(service) = service(8) else { return };
    let request = || support::chat("Count to ten.", 16, Sampling::default());
    let answers: Vec<Answer> = (0..5).map(|_| service.submit(request()).unwrap()).collect();
    service.drain();
    assert_eq!(service.submit(request()).unwrap_err(), Refused::Draining);
    let begun = Instant::now();
    service.stop();
    assert!(begun.elapsed() < Duration::from_secs(300));
    for answer in answers {
        assert!(matches!(end(answer), Event::Ended(_)), "an answer was lost");
    }
    assert_eq!(service.submit(request()).unwrap_err(), Refused::Draining);
}
