//! The scheduler with a real model: whoever runs beside a request, whatever it loses
//! its memory to and whoever gives up meanwhile, its tokens are those of the request
//! alone (law 1); and memory stays within its budget.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use aio_core::{FinishReason, RequestRecord};
use aio_engine::sampling::Sampling;
use aio_serve::{Event, Prompt, Request, Scheduler, SchedulerOptions};
use support::load::{Random, requests, said_alone};

const MODEL: &str = "smollm2-135m";

fn scheduler(policy: &str, config: &str, options: SchedulerOptions) -> Option<Scheduler> {
    let tiers = support::tiers(&[MODEL])?;
    let policies = support::load(policy, config, &tiers);
    Some(Scheduler::new(tiers, policies, options))
}

/// Steps until everything has ended; `each` is called before every step. Returns the
/// records, and the text as it came, by number.
fn run(
    scheduler: &mut Scheduler,
    mut each: impl FnMut(&mut Scheduler),
) -> BTreeMap<u64, (RequestRecord, String)> {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    let mut steps = 0;
    loop {
        for (number, event) in scheduler.take_events() {
            match event {
                Event::Planned(_) => {}
                Event::Text(more) => texts.entry(number).or_default().push_str(&more.text),
                Event::Ended(record) => {
                    let text = texts.remove(&number).unwrap_or_default();
                    assert!(
                        ended.insert(number, (*record, text)).is_none(),
                        "{number} ended twice"
                    );
                }
                Event::Failed(error) => panic!("request {number}: {error}"),
            }
        }
        each(scheduler);
        if scheduler.is_idle() {
            return ended;
        }
        scheduler.step();
        steps += 1;
        assert!(steps < 20_000, "it does not come to an end: {:?}", scheduler.status());
    }
}

const BUDGET: u64 = 12_000_000;

/// Law 1 under load: eight at a time in random order, some given up at some time, with
/// too little memory for all of them.
#[test]
fn company_never_changes_the_tokens() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let requests = requests(40, 3);
    let expected = said_alone(tiers, &requests);
    for (policy, config) in [
        ("fixed", r#"{"drafter":"lookup","draft_length":6,"ngram_min":1,"ngram_max":4}"#),
        ("goodput", ""),
    ] {
        let options = SchedulerOptions {
            max_running: 8,
            prefill_chunk: 13,
            // Four blocks of 128 positions.
            kv_budget: Some(BUDGET),
            kept_prefixes: 4,
            recent_tokens: 512,
        };
        let mut scheduler = scheduler(policy, config, options).unwrap();
        let mut random = Random(99);
        let mut coming = random.order(requests.len()).into_iter();
        let records = run(&mut scheduler, |scheduler| {
            let open = scheduler.status().running + scheduler.status().waiting;
            if open < 12
                && let Some(i) = coming.next()
            {
                scheduler.submit(i as u64, requests[i].clone());
            }
            if random.below(12) == 0 {
                scheduler.cancel(random.below(requests.len() as u64));
            }
            let status = scheduler.status();
            assert!(status.kv_bytes <= BUDGET, "over its budget: {status:?}");
        });
        assert_eq!(records.len(), requests.len(), "each request ends once");
        let mut whole = 0;
        for (number, (record, text)) in &records {
            let alone = &expected[*number as usize];
            assert_eq!(&record.text, text, "what came and what is recorded differ");
            if record.finish_reason == FinishReason::Cancelled {
                assert!(alone.token_ids.starts_with(&record.token_ids), "request {number}");
            } else {
                assert_eq!(record.token_ids, alone.token_ids, "request {number} under {policy}");
                assert_eq!(record.text, alone.text);
                assert_eq!(record.finish_reason, alone.finish_reason);
                whole += 1;
            }
            assert!(record.failures.is_empty(), "{:?}", record.failures);
        }
        let cancelled = records.len() - whole;
        let accepted: u32 = records.values().map(|(r, _)| r.totals.accepted).sum();
        let status = scheduler.status();
        eprintln!("{policy}: {cancelled} given up, {accepted} accepted, {status:?}");
        // Else the test would show nothing.
        assert!(cancelled > 0 && whole > records.len() / 2);
        assert!(accepted > 0 && status.preemptions > 0 && status.reused_prefix_tokens > 0);
        assert!(status.rows > status.passes, "nothing ever shared a pass");
    }
}

#[test]
fn with_memory_for_two_all_come_to_their_end() {
    let options = SchedulerOptions {
        kv_budget: Some(12_000_000),
        max_running: 6,
        kept_prefixes: 2,
        ..SchedulerOptions::default()
    };
    let Some(mut scheduler) = scheduler("fixed", "", options) else { return };
    for number in 0..6 {
        // Each grows into its second block.
        let prompt = format!("{number} is a number. {}", "All work and no play. ".repeat(14));
        let mut request = support::chat(&prompt, 70, Sampling::default());
        request.priority = i32::from(number == 5);
        scheduler.submit(number, request);
    }
    let records = run(&mut scheduler, |scheduler| {
        assert!(scheduler.status().kv_bytes <= 12_000_000);
    });
    assert_eq!(records.len(), 6);
    assert_eq!(records[&5].0.preemptions, 0, "the highest rank loses nothing");
    let preempted: u32 = records.values().map(|(record, _)| record.preemptions).sum();
    assert!(preempted > 0 && u64::from(preempted) == scheduler.status().preemptions);
    let waited = |number| records[&number].0.totals.waiting_seconds;
    assert!(waited(4) > waited(5), "who ranks higher waits less");
}

#[test]
fn what_can_never_fit_is_refused_in_a_sentence() {
    let options = SchedulerOptions { kv_budget: Some(8_000_000), ..Default::default() };
    let Some(mut scheduler) = scheduler("fixed", "", options) else { return };
    scheduler.submit(1, support::chat("Hello", 400, Sampling::default()));
    scheduler.submit(2, support::chat("Hello", 5, Sampling::default()));
    while !scheduler.is_idle() {
        scheduler.step();
    }
    let mut events = scheduler.take_events().into_iter();
    let refused = events.find_map(|(number, event)| match event {
        Event::Failed(error) => Some((number, error.to_string())),
        _ => None,
    });
    let (number, why) = refused.unwrap();
    assert!(number == 1 && why.contains("KV budget"), "{number}: {why}");
    let ended = events.any(|(number, event)| number == 2 && matches!(event, Event::Ended(_)));
    assert!(ended, "the other one is answered");
}

#[test]
fn prompts_that_begin_alike_are_computed_once() {
    let Some(mut scheduler) = scheduler("fixed", "", SchedulerOptions::default()) else { return };
    let beginning = "Some rules come first. ".repeat(40);
    let prompt = |end: &str| support::chat(&format!("{beginning}{end}"), 6, Sampling::default());
    scheduler.submit(1, prompt("Say yes."));
    let first = run(&mut scheduler, |_| {});
    let before = scheduler.status();
    scheduler.submit(2, prompt("Say no."));
    scheduler.submit(3, prompt("Say yes."));
    let then = run(&mut scheduler, |_| {});
    let after = scheduler.status();
    assert_eq!(first[&1].0.token_ids, then[&3].0.token_ids);
    let cached = |record: &RequestRecord| (record.cached_tokens, record.prompt_tokens);
    let (none, (most, all)) = (cached(&first[&1].0).0, cached(&then[&3].0));
    assert!(none == 0 && most * 10 > all * 9 && most < all, "{none}, then {most} of {all}");
    let prompts = after.prompt_tokens - before.prompt_tokens;
    let reused = after.reused_prefix_tokens - before.reused_prefix_tokens;
    assert!(reused * 10 > prompts * 9, "{reused} of {prompts} tokens reused");
    // Three sequences of 200 tokens and more, most of it shared.
    assert!(after.kv_bytes < 3 * before.kv_bytes, "{} of {}", after.kv_bytes, before.kv_bytes);
}

/// The two tiers have tokenizers of their own: the second goes on with the text of the
/// first, as if it stood in its prompt.
#[test]
fn a_request_that_moves_goes_on_with_the_text() {
    const LARGE: &str = "qwen2.5-coder-0.5b";
    let Some(tiers) = support::tiers(&[MODEL, LARGE]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let policy = support::hostile("moves", folder.path());
    let policies = support::load(policy.to_str().unwrap(), "", &tiers);
    let mut scheduler = Scheduler::new(tiers, policies, SchedulerOptions::default());
    let prompt = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,";
    let raw = |text: String, tokens| Request::new(Prompt::Raw(text), tokens, Sampling::default());
    scheduler.submit(1, raw(prompt.to_owned(), 40));
    let (record, text) = run(&mut scheduler, |_| {}).remove(&1).unwrap();
    assert_eq!((record.tier.index, &record.text), (1, &text));
    assert!(record.failures.is_empty(), "{:?}", record.failures);
    let tiers: Vec<u32> = record.rounds.iter().map(|round| round.tier).collect();
    assert!(tiers[..5] == [0; 5] && tiers[5..].iter().all(|&tier| tier == 1), "{tiers:?}");
    assert!(record.rounds[5].action.is_some(), "the move is in the record");

    let alone = |model: &str, request| {
        said_alone(support::tiers(&[model]).unwrap(), &[request]).remove(0).text
    };
    let begun = alone(MODEL, raw(prompt.to_owned(), 5));
    let rest = text.strip_prefix(&begun).unwrap();
    let expected = alone(LARGE, raw(format!("{prompt}{begun}"), 40));
    assert!(rest.len() > 20 && expected.starts_with(rest), "{rest:?} instead of {expected:?}");
}

#[test]
fn who_gives_up_frees_its_place_with_the_next_step() {
    let options = SchedulerOptions { max_running: 1, ..SchedulerOptions::default() };
    let Some(mut scheduler) = scheduler("fixed", "", options) else { return };
    for number in 1..=3 {
        scheduler.submit(number, support::chat("Count to a hundred.", 200, Sampling::default()));
    }
    (0..3).for_each(|_| scheduler.step());
    assert_eq!((scheduler.status().running, scheduler.status().waiting), (1, 2));
    scheduler.cancel(1);
    scheduler.cancel(3);
    scheduler.step();
    assert_eq!((scheduler.status().running, scheduler.status().waiting), (1, 0));
    let ended: Vec<u64> = scheduler
        .take_events()
        .into_iter()
        .filter(|(_, event)| matches!(event, Event::Ended(_)))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(ended, [1, 3]);
}

#[test]
fn probabilities_are_told_where_they_are_asked_for() {
    let Some(mut scheduler) = scheduler("fixed", "", SchedulerOptions::default()) else { return };
    let mut request = support::chat("Name a colour.", 8, Sampling::default());
    request.logprobs = Some(3);
    scheduler.submit(1, request);
    let mut choices = Vec::new();
    while !scheduler.is_idle() {
        scheduler.step();
        for (_, event) in scheduler.take_events() {
            match event {
                Event::Text(more) => choices.extend(more.tokens),
                Event::Ended(record) => {
                    let tokens: Vec<u32> = choices.iter().map(|c| c.chosen.token).collect();
                    assert_eq!(tokens, record.token_ids);
                }
                _ => {}
            }
        }
    }
    assert!(!choices.is_empty());
    for choice in choices {
        assert_eq!(choice.top.len(), 3);
        assert_eq!(choice.top[0].token, choice.chosen.token, "greedy takes the likeliest");
        assert!(choice.top.windows(2).all(|two| two[0].logprob >= two[1].logprob));
        let mass: f32 = choice.top.iter().map(|likely| likely.logprob.exp()).sum();
        assert!(mass <= 1.0001, "{mass}");
    }
}
