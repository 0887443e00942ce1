//! The paper's table from one command, on few and short answers: that it is whole, that
//! its figures follow from each other, and that no answer depends on how it was drafted.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use aio_bench::Silent;
use aio_bench::paper::remembering::RememberingDevice;
use aio_bench::paper::{self, CONTEXTS, PROFILES, PaperOptions};
use aio_engine::device::{self, Device, DeviceOptions};
use aio_engine::sampling::Sampling;
use aio_serve::{Runner, TierSource, Tiers};

const TIERS: [&str; 2] = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"];

fn sources() -> Option<[TierSource; 2]> {
    let source =
        |name: &str| Some(TierSource { name: name.to_owned(), path: support::model_path(name)? });
    Some([source(TIERS[0])?, source(TIERS[1])?])
}

fn cpu() -> Box<dyn Device> {
    device::by_name("cpu", DeviceOptions::default()).unwrap()
}

#[test]
fn the_table_is_whole_and_its_figures_follow_from_each_other() {
    let Some(models) = sources() else { return };
    let options = PaperOptions {
        // Not there: the program's own prompts.
        data: PathBuf::from("absent"),
        contexts: CONTEXTS[..1].to_vec(),
        count: 1,
        max_tokens: 12,
    };
    let report = paper::run(&models, cpu(), &options, &mut Silent).unwrap();
    assert_eq!(report.mismatches, 0);
    assert!(report.prompts.contains("part of this program"));
    assert_eq!((report.cells.len(), report.sweep.len()), (9 * 4, 13 * 4));
    let near = CONTEXTS[0];
    let cell = |profile: &str, name: &str| report.cell(profile, near, name).unwrap();
    for (i, profile) in PROFILES.into_iter().enumerate() {
        let [small, large] = ["static 1B", "static 7B"].map(|name| cell(profile, name));
        // Plain decoding is the step that the cost model says.
        let step = &report.paradox[i];
        let speeds = [small, large].map(|cell| 1e3 / cell.tokens_per_second);
        for (speed, step) in speeds.iter().zip(step.milliseconds) {
            assert!((speed / step - 1.0).abs() < 0.02, "{profile}: {speed} and {step} ms");
        }
        // It reads a sixth of the bytes, and is not six times as fast.
        assert!(step.time_ratio < 0.5 * step.bytes_ratio, "{step:?}");
        for cell in report.cells.iter().filter(|cell| cell.profile == profile) {
            let parts = cell.spent.decode().seconds() - cell.spent.decode().compile_seconds;
            let tokens = (cell.tokens - cell.requests as u64) as f64;
            assert!((tokens / parts / cell.tokens_per_second - 1.0).abs() < 1e-9, "{cell:?}");
            assert_eq!(cell.spent.all().compile_seconds > 0.0, i >= 2, "{cell:?}");
        }
    }
    // The loss on record: launches make a small model's step nearly as dear as a large one's.
    let eager = PROFILES[1];
    let drafted = cell(eager, "static 7B, draft model").tokens_per_second;
    assert!(drafted < cell(eager, "static 7B").tokens_per_second);
    // Published figures stand beside those of the hardware and context that they are of.
    let published = report.cells.iter().filter(|cell| cell.published.is_some());
    assert_eq!(published.map(|cell| &*cell.profile).collect::<Vec<_>>(), [PROFILES[0]; 5]);

    let text = report.text();
    assert!(text.starts_with("simulated: "), "{text}");
    let page = report.page().unwrap();
    for name in ["static 1B, lookup", "goodput on the 7B", "A-IO, the paper&#x27;s rules"] {
        assert!(page.contains(name), "the page has no {name}");
    }
    // It stands alone.
    assert!(page.matches("<svg").count() >= 3 && !page.contains("src=") && !page.contains("href="));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "aio-bench-paper/1");
}

#[test]
fn what_is_remembered_is_what_would_have_been_computed() {
    let Some([small, _]) = sources() else { return };
    let prompts = ["Repeat: a b c a b c a b c", "What is 2 + 2?"];
    let answers = |tiers: Tiers, config: &str| {
        let policy = support::load("fixed", config, &tiers);
        let mut runner = Runner::new(tiers, policy);
        prompts.map(|prompt| {
            let sampling = Sampling { temperature: 0.7, ..Sampling::default() };
            let record = support::answer(&mut runner, &support::chat(prompt, 10, sampling));
            let accepted: Vec<_> = record.rounds.iter().map(|r| (r.drafted, r.accepted)).collect();
            (record.token_ids, accepted)
        })
    };
    let real = Tiers::open(&[small], &*cpu(), None).unwrap();
    // Room for all, for a few rows, and for none.
    let devices = [1 << 30, 5_000_000, 0].map(|budget| RememberingDevice::new(cpu(), budget));
    for config in ["", r#"{"drafter": "lookup", "draft_length": 5}"#] {
        let expected = answers(real.again(&*cpu()).unwrap(), config);
        for device in devices.iter().chain(&devices) {
            assert_eq!(answers(real.again(device).unwrap(), config), expected, "{config}");
        }
    }
}
