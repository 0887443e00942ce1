//! What is counted.

use aio_serve::Refused;
use serde_json::json;

use crate::client::{Host, hello, with};
use crate::script::Fate;

#[test]
fn requests_answers_and_decisions_are_counted() {
    let host = Host::start([
        Fate::Says(&["a", "b", "c"]),
        Fate::Refused(Refused::QueueFull { waiting: 1 }),
        Fate::Vanishes,
    ]);
    host.chat(&hello()).ok();
    host.chat(&hello()).error(429);
    host.chat(&hello()).error(500);
    host.get("/nowhere/1").error(404);
    host.chat(&with(json!({"n": 0}))).error(400);
    let metrics = host.get("/metrics");
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let rounds = r#"tier="large",drafter="lookup",policy="script",generation="4""#;
    let tier = r#"tier="large""#;
    for line in [
        r#"aio_http_requests_total{endpoint="/v1/chat/completions",status="200"} 1"#,
        r#"aio_http_requests_total{endpoint="/v1/chat/completions",status="429"} 1"#,
        r#"aio_http_requests_total{endpoint="other",status="404"} 1"#,
        r#"aio_requests_refused_total{reason="queue_full"} 1"#,
        r#"aio_requests_unfinished_total{reason="failed"} 1"#,
        &format!("aio_prompt_tokens_total{{{tier}}} 7"),
        &format!("aio_generated_tokens_total{{{tier}}} 3"),
        &format!("aio_time_to_first_token_seconds_count{{{tier}}} 1"),
        &format!("aio_time_per_output_token_seconds_count{{{tier}}} 1"),
        &format!("aio_request_duration_seconds_count{{{tier}}} 1"),
        &format!("aio_rounds_total{{{rounds}}} 1"),
        &format!("aio_drafted_tokens_total{{{rounds}}} 4"),
        &format!("aio_accepted_tokens_total{{{rounds}}} 1"),
        &format!("aio_committed_tokens_total{{{rounds}}} 2"),
        r#"aio_policy_seconds_total{policy="script",generation="4"} 0.0"#,
        "aio_requests_running 3",
        "aio_requests_waiting 2",
        "aio_kv_cache_bytes 4096",
        "aio_kv_budget_bytes 8192",
        "aio_prefix_tokens_reused_total 17",
        "aio_preemptions_total 5",
    ] {
        assert!(metrics.text.lines().any(|l| l == line), "{line} is not in\n{}", metrics.text);
    }
    assert!(metrics.text.contains("aio_process_resident_memory_bytes "));
    assert!(metrics.text.ends_with("# EOF\n"));
}
