//! Law 1 over HTTP: two hundred requests, eight at a time in random order, some of whose
//! clients hang up, with too little memory for all that run and under a policy that is
//! replaced meanwhile. Each answer has the tokens of the request alone.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::client;
use support::load::{Random, requests, said_alone};
use support::server::Server;

const MODEL: &str = "smollm2-135m";
const REQUESTS: usize = 200;
const CLIENTS: usize = 8;

#[test]
fn load_never_changes_the_tokens() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let requests = requests(REQUESTS, 12);
    let expected = said_alone(tiers, &requests);
    // Four cache blocks of 128 positions.
    let server = Server::start(MODEL, &["--policy", "goodput", "--kv-budget", "12000000"]);
    let coming = Mutex::new(Random(99).order(REQUESTS).into_iter());
    let (hung_up, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        loop {
            let Some(i) = coming.lock().unwrap().next() else { return };
            let (form, expected) = (client::form(&requests[i]), &expected[i]);
            let mut random = Random(i as u64);
            let (text, number) = match random.below(3) {
                0 => {
                    let answer = client::whole(&server.address, &form);
                    (answer.text().to_owned(), client::number(&answer.headers))
                }
                1 => {
                    let mut answer = client::stream(&server.address, &form);
                    let text = answer.text();
                    assert!(answer.done, "request {i} broke off after {text:?}");
                    (text, client::number(&answer.headers))
                }
                _ => {
                    // Some hang up before the first word.
                    let events = random.below(8) as usize;
                    let mut answer = client::stream(&server.address, &form);
                    let text: String =
                        answer.by_ref().take(events).map(|e| client::delta(&e)).collect();
                    assert!(expected.text.starts_with(&text), "{text:?} of {:?}", expected.text);
                    hung_up.fetch_add(usize::from(!answer.done), Ordering::Relaxed);
                    continue;
                }
            };
            let record = server.record(number);
            assert_eq!(text, expected.text, "request {i}");
            assert_eq!(record.token_ids, expected.token_ids, "request {i}");
            assert_eq!(record.finish_reason, expected.finish_reason, "request {i}");
            assert!(record.failures.is_empty(), "{:?}", record.failures);
            // Another generation now and then, while the others run.
            if whole.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
                server.signal("HUP");
            }
        }
    };
    std::thread::scope(|scope| (0..CLIENTS).for_each(|_| drop(scope.spawn(work))));
    server.becomes_idle(Duration::from_secs(10));
    let (hung_up, whole) = (hung_up.into_inner(), whole.into_inner());
    let counted = server.metric("aio_requests_unfinished_total{reason=\"client_gone\"}");
    let preempted = server.metric("aio_preemptions_total");
    eprintln!("{whole} whole, {hung_up} hung up ({counted} noticed), {preempted} preemptions");
    // Else the test would show nothing.
    assert!(hung_up > REQUESTS / 8 && whole > REQUESTS / 2 && counted > 0.0 && preempted > 0.0);
    assert!(server.metric("aio_kv_cache_bytes") <= 12e6);
}
