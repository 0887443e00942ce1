//! Law 1 with real models: whatever the drafter and the draft length, the
//! answer's tokens are the same, greedy and sampled.

#![allow(clippy::unwrap_used)]

mod support;

use aio_core::{CATCH_UP, Drafter, RequestRecord};
use aio_engine::sampling::Sampling;
use aio_serve::{Recent, Request, Runner};

/// The settings that must agree, as configurations of the `fixed` policy; the
/// first is plain decoding.
const SETTINGS: [(&str, &str); 6] = [
    ("none", r#"{"drafter":"none"}"#),
    ("lookup 4", r#"{"drafter":"lookup","draft_length":4,"ngram_min":1,"ngram_max":4}"#),
    ("lookup 8", r#"{"drafter":"lookup","draft_length":8,"ngram_min":2,"ngram_max":6}"#),
    ("model 2", r#"{"drafter":"model","draft_length":2}"#),
    ("model 4", r#"{"drafter":"model","draft_length":4,"min_confidence":0.3}"#),
    (
        "lookup then model",
        r#"{"drafter":"lookup-then-model","draft_length":4,"ngram_min":2,"ngram_max":6}"#,
    ),
];

const MODELS: [&str; 2] = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"];
const TOKENS: usize = 20;

#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    prompt: String,
}

/// Every setting's record for one request.
fn answers(runner: &mut Runner, request: &Request) -> Vec<RequestRecord> {
    let mut answer = |config: &str| {
        let policy = support::load("fixed", config, runner.tiers());
        runner.replace_policies(policy);
        support::answer(runner, request)
    };
    SETTINGS.iter().map(|(_, config)| answer(config)).collect()
}

#[test]
fn drafting_never_changes_the_tokens() {
    let Some(mut runner) = support::runner(&MODELS, "fixed", "") else { return };
    // Else each setting would be drafted what the one before it said.
    runner.replace_recent(Recent::default());
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("fixtures/law1_prompts.json")).unwrap();
    let kinds: std::collections::BTreeSet<_> = cases.iter().map(|c| c.kind.as_str()).collect();
    assert!(cases.len() >= 12 && kinds.len() >= 4, "{} cases of {kinds:?}", cases.len());
    let sampled = Sampling { temperature: 0.8, seed: 42, ..Sampling::default() };
    let mut accepted = [0; SETTINGS.len()];
    for sampling in [Sampling::default(), sampled] {
        for case in &cases {
            let request = support::chat(&case.prompt, TOKENS, sampling.clone());
            let records = answers(&mut runner, &request);
            for (i, record) in records.iter().enumerate() {
                assert_eq!(
                    record.token_ids, records[0].token_ids,
                    "{} at temperature {} changes the answer to {:?}",
                    SETTINGS[i].0, sampling.temperature, case.prompt
                );
                assert_eq!(record.text, records[0].text);
                assert_eq!(record.finish_reason, records[0].finish_reason);
                assert!(record.failures.is_empty(), "{:?}", record.failures);
                accepted[i] += record.totals.accepted;
            }
            assert!(records[0].rounds.iter().all(|r| r.drafter == Drafter::None));
        }
    }
    // Equality would prove nothing if no draft had ever been accepted.
    for (i, (setting, _)) in SETTINGS.iter().enumerate().skip(1) {
        assert!(accepted[i] > 0, "{setting} had nothing accepted: the test tests nothing");
    }
    eprintln!("accepted by setting: {accepted:?}");
}

/// A prompt whose answer begins and ends with new text, and is a copy in between.
const EDIT: &str = r#"Fix the bug in this function. Return the whole
corrected code in a code block, then explain what was wrong.

```
def largest_divisor(n: int) -> int:
    """ For a given number n, find the largest number that divides n evenly, smaller than n
    >>> largest_divisor(15)
    5
    """
    for i in reversed(range(n)):
        if n - i == 0:
            return i
```"#;

#[test]
fn a_draft_model_that_fell_behind_reads_the_end_of_what_it_missed() {
    let Some(mut runner) = support::runner(&MODELS, "fixed", SETTINGS[5].1) else { return };
    let record = support::answer(&mut runner, &support::chat(EDIT, 200, Sampling::default()));
    // What was committed since the draft model was last asked, once it was.
    let mut missed: Option<u32> = None;
    let mut longest = 0;
    for round in &record.rounds {
        if round.draft_passes == 0 {
            missed = missed.map(|missed| missed + round.committed);
            continue;
        }
        if let Some(missed) = missed.replace(0) {
            // Each pass but the first has one row; the last token of the draft before may
            // have been right and not been read either.
            let read = round.draft_rows - (round.draft_passes - 1);
            assert!(read <= CATCH_UP + 1, "{read} rows after {missed} tokens");
            longest = longest.max(missed);
        }
    }
    assert!(longest > 2 * CATCH_UP, "the draft model missed {longest} tokens at most");
}

#[test]
fn stop_strings_and_limits_cut_at_the_same_token() {
    let Some(mut runner) = support::runner(&MODELS, "fixed", "") else { return };
    let prompt = "Repeat exactly: alpha beta gamma alpha beta gamma alpha beta gamma";
    for (max_tokens, stop) in [(1, vec![]), (7, vec![]), (40, vec!["gamma al".to_owned()])] {
        let mut request = support::chat(prompt, max_tokens, Sampling::default());
        request.stop = stop;
        let records = answers(&mut runner, &request);
        for (record, (setting, _)) in records.iter().zip(SETTINGS) {
            let same = (&record.token_ids, &record.text, record.finish_reason)
                == (&records[0].token_ids, &records[0].text, records[0].finish_reason);
            assert!(same, "{setting} cuts elsewhere at {max_tokens} tokens: {:?}", record.text);
            assert!(record.token_ids.len() <= max_tokens);
            let cut = request.stop.iter().all(|stop| !record.text.contains(stop.as_str()));
            assert!(cut, "the answer goes on past a stop string: {:?}", record.text);
        }
    }
}
