//! Both benchmarks on a real model, as small as they go, with a peer that only
//! repeats what llama-bench once printed. What is tested is the reports' form;
//! times are whatever they are.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/models.rs"]
mod models;

use std::path::{Path, PathBuf};

use aio_bench::Silent;
use aio_bench::engine::{self, EngineOptions};
use aio_bench::speculate::{self, SpeculateOptions};
use aio_engine::device::{self, Device, DeviceOptions};
use aio_serve::TierSource;

const MODEL: &str = "smollm2-135m";

fn source() -> Option<TierSource> {
    Some(TierSource { name: MODEL.into(), path: models::model_path(MODEL)? })
}

fn default_device() -> Box<dyn Device> {
    device::by_name(device::DEFAULT, DeviceOptions::default()).unwrap()
}

/// A shell script that answers as llama-bench does.
fn fake_peer(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let printed = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/llama-bench.json");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in --help) echo '--n-depth --repack';; *) cat '{printed}';; esac\n"
    );
    let path = folder.join("llama-bench");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[cfg(unix)]
fn the_engine_is_measured_beside_a_peer() {
    let Some(source) = source() else { return };
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        threads: None,
        peer: Some(fake_peer(folder.path())),
        rounds: 2,
        contexts: vec![64, 1_000_000],
        rows: vec![1, 8],
        prefill: 32,
        decode: 4,
    };
    let report = engine::run(&[source], &*default_device(), options, &mut Silent).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "aio-bench-engine/1");
    assert_eq!(json["peer_version"], "b11434");
    let tier = &json["tiers"][0];
    assert_eq!(tier["curves"].as_array().unwrap().len(), 1, "the long context was not left out");
    let point = &tier["curves"][0]["points"][1];
    assert_eq!(point["rows"], 8);
    assert_eq!(point["milliseconds"]["samples"].as_array().unwrap().len(), 2);
    // It printed the same for both modes; rows 8 took it a tenth of a second.
    let theirs = point["milliseconds"]["peers"][1]["summary"]["median"].as_f64().unwrap();
    assert!((90.0..110.0).contains(&theirs), "{theirs}");
    assert!(point["milliseconds"]["speedup"]["median"].as_f64().unwrap() > 0.0);
    assert!(tier["decode"][0]["reads_file"]["share_of_bandwidth"].as_f64().unwrap() > 0.0);
    // It printed no prefill: that is a gap and no figure.
    assert!(tier["prefill"]["speedup"].is_null());
    assert!(json["notes"].to_string().contains("left out contexts 1000000"));
    assert!(report.text().contains("decode 4 at 64"));
    let (name, svg) = report.plots().remove(0);
    assert_eq!(name, MODEL);
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
}

#[test]
fn drafting_is_measured_and_changes_nothing() {
    let Some(source) = source() else { return };
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    let rows = "{\"id\":\"a\",\"question\":\"Say one two one two one two.\"}\n\
                {\"id\":\"b\",\"question\":\"Name three colours.\"}\n";
    std::fs::write(&prompts, rows).unwrap();
    let options = SpeculateOptions {
        prompts: vec![prompts],
        policies: vec![speculate::Setting::policy("goodput").unwrap()],
        count: 2,
        max_tokens: 12,
        recent_tokens: 256,
        block: 1,
        peer: None,
        threads: None,
    };
    let report = speculate::run(&source, None, &*default_device(), &options, &mut Silent).unwrap();
    assert_eq!((report.mismatches, report.prompts.len(), report.groups.len()), (0, 2, 1));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "aio-bench-speculate/3");
    // Settings take turns; the report has all of them in their order.
    for (i, setting) in report.settings.iter().enumerate() {
        assert_eq!(json["groups"][0]["ours"][i]["name"], setting.name);
        assert_eq!(json["prompts"][1]["ours"][i]["setting"], setting.name);
    }
    assert!(!json.to_string().contains("colours"), "a prompt's text is in the report");
    assert!(report.text().contains("Every setting gave the tokens of plain decoding"));
    assert!(report.plot().contains("aio, lookup 3/8"));
    assert!(report.plot().contains("aio, goodput"));
}
