//! Administration, with real policies behind it.

use std::sync::Arc;

use aio_http::{AdminOptions, Ended, Secret};
use aio_policy::{Options, PolicyHost, PolicyRuntime, PolicySource, Setup};
use serde_json::{Value, json};

use crate::client::{Host, hello, options};
use crate::script::{self, Script};

/// A server whose policy in place is `fixed`.
fn start() -> Host {
    Host::with(options(), with_policies())
}

fn with_policies() -> Script {
    let runtime = PolicyRuntime::new().unwrap();
    let source = PolicySource::from_argument("fixed").unwrap();
    let setup = Setup::new(script::host());
    let policies = PolicyHost::load(&runtime, &source, setup, Options::default()).unwrap();
    Script::with_policies([], Some(Arc::new(policies)))
}

fn generation(host: &Host) -> Value {
    host.admin("GET", "/admin/policies", &Value::Null).ok()["generation"].clone()
}

#[test]
fn policies_are_listed_loaded_and_gone_back_from() {
    let host = start();
    let listed = host.admin("GET", "/admin/policies", &Value::Null).ok();
    assert_eq!(listed["policies"][0]["policy"]["name"], "fixed");
    assert_eq!((&listed["generation"], &listed["canary"]), (&json!(1), &json!(null)));

    let wanted = json!({"name": "fixed", "config": {"drafter": "lookup"}});
    let loaded = host.admin("POST", "/admin/policies", &wanted).ok();
    assert_eq!(
        (&loaded["policy"]["generation"], &loaded["replaced"]["generation"]),
        (&json!(2), &json!(1))
    );
    let steps: Vec<_> =
        loaded["steps"].as_array().unwrap().iter().map(|s| s["step"].clone()).collect();
    assert_eq!(steps, ["compile", "init", "canary", "swap"]);

    let back = host.admin("POST", "/admin/policies/rollback", &Value::Null).ok();
    assert_eq!(back["replaced"]["generation"], 2);
    let error = host.admin("POST", "/admin/policies/rollback", &Value::Null).error(422);
    assert_eq!(error["step"], "swap");
}

#[test]
fn what_does_not_load_changes_nothing_and_says_where() {
    let host = start();
    for (wanted, step) in [
        (json!({"path": "nowhere.wasm"}), "read"),
        (json!({"name": "fixed", "config": {"tier": "huge"}}), "init"),
        (json!({"name": "fixed", "config": "{"}), "init"),
    ] {
        let error = host.admin("POST", "/admin/policies", &wanted).error(422);
        assert_eq!((&error["step"], &error["code"]), (&json!(step), &json!("policy_not_loaded")));
    }
    host.admin("POST", "/admin/policies", &json!({"name": "fixd"})).error(400);
    host.admin("POST", "/admin/policies", &json!({})).error(400);
    host.admin("POST", "/admin/policies", &json!({"name": "fixed", "speed": 1})).error(400);
    assert_eq!(generation(&host), 1);
}

#[test]
fn a_component_can_be_sent() {
    let host = start();
    let bytes =
        PolicySource::from_argument("goodput").unwrap().read(u64::MAX).unwrap().into_owned();
    let send = |path: &str, bytes: &[u8]| {
        let headers = [("content-type", "application/wasm")];
        host.send("POST", host.admin_address(), path, &headers, bytes)
    };
    assert_eq!(send("/admin/policies?name=sent", &bytes).ok()["policy"]["name"], "goodput");
    assert_eq!(send("/admin/policies", b"no wasm").error(422)["step"], "compile");
    send("/admin/policies?speed=1", &bytes).error(400);
}

#[test]
fn a_canary_is_placed_promoted_and_withdrawn() {
    let host = start();
    let wanted = json!({"name": "goodput", "percent": 25});
    let placed = host.admin("POST", "/admin/canary", &wanted).ok();
    assert_eq!(placed["policy"]["name"], "goodput");
    let listed = host.admin("GET", "/admin/policies", &Value::Null).ok();
    assert_eq!((&listed["canary"]["percent"], &listed["generation"]), (&json!(25.0), &json!(1)));
    assert_eq!(
        host.admin("DELETE", "/admin/canary", &Value::Null).ok()["policy"]["name"],
        "goodput"
    );
    host.admin("DELETE", "/admin/canary", &Value::Null).error(404);
    host.admin("POST", "/admin/canary/promote", &Value::Null).error(422);
    host.admin("POST", "/admin/canary", &wanted).ok();
    host.admin("POST", "/admin/canary/promote", &Value::Null).ok();
    assert_eq!(generation(&host), 3);
    for percent in [json!(101), json!("10%"), Value::Null] {
        let wanted = json!({"name": "goodput", "percent": percent});
        assert_eq!(host.admin("POST", "/admin/canary", &wanted).error(400)["param"], "percent");
    }
}

#[test]
fn shadows_are_added_and_removed() {
    let host = start();
    host.admin("POST", "/admin/shadows", &json!({"name": "goodput"})).ok();
    let listed = host.admin("GET", "/admin/policies", &Value::Null).ok();
    assert_eq!(listed["shadows"][0]["policy"]["name"], "goodput");
    let removed = host.admin("DELETE", "/admin/shadows", &Value::Null).ok();
    assert_eq!(removed["removed"].as_array().unwrap().len(), 1);
    let listed = host.admin("GET", "/admin/policies", &Value::Null).ok();
    assert_eq!(listed["shadows"], json!([]));
}

#[test]
fn the_last_records_are_kept() {
    let options = aio_http::ServerOptions { records_kept: 2, ..options() };
    let host = Host::with(options, Script::new([]));
    for _ in 0..3 {
        host.chat(&hello()).ok();
    }
    let numbers = |path: &str| -> Vec<Value> {
        let list = host.admin("GET", path, &Value::Null).ok();
        list["requests"].as_array().unwrap().iter().map(|r| r["request"].clone()).collect()
    };
    assert_eq!(numbers("/admin/requests"), [3, 2]);
    assert_eq!(numbers("/admin/requests?limit=1"), [3]);
    assert_eq!(host.admin("GET", "/admin/requests/2", &Value::Null).ok()["text"], "Hello world");
    host.admin("GET", "/admin/requests/1", &Value::Null).error(404);
    host.admin("GET", "/admin/requests/x", &Value::Null).error(400);
    host.admin("GET", "/admin/requests?limit=x", &Value::Null).error(400);
    // Here there are no policies.
    host.admin("GET", "/admin/policies", &Value::Null).error(404);
}

#[test]
fn draining_ends_the_server() {
    let mut host = start();
    let reply = host.admin("POST", "/admin/drain", &Value::Null);
    assert_eq!((reply.status, reply.json()), (202, json!({"running": 3, "waiting": 2})));
    assert_eq!(host.ended(), Ended::Drained);
}

#[test]
fn the_token_lets_in() {
    let token = Some(Secret::new("operator"));
    let admin = AdminOptions { listen: options().listen, token, ..AdminOptions::default() };
    let host = Host::loading(options(), admin, Script::new([]));
    host.handle.ready(host.script.clone());
    host.admin("GET", "/admin/requests", &Value::Null).error(401);
    let headers = [("authorization", "Bearer operator")];
    host.send("GET", host.admin_address(), "/admin/requests", &headers, "").ok();
    host.admin("GET", "/healthz", &Value::Null).ok();
}
