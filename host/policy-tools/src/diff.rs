//! What differs between two components: what they are, what they want, and what
//! they answer in the same situations.

use std::collections::BTreeMap;

use aio_core::{Grant, Hook};
use aio_policy::{Limits, LoadError, PolicyRuntime, PolicySource, Prepared};
use serde::Serialize;
use serde_json::{Value, json};

use crate::inspect::{Inspection, inspect};
use crate::schema;
use crate::situation::{Answer, Given, Situation, Subject, canned};

/// The form of [`Differences`] as JSON.
pub const DIFF_SCHEMA: &str = "aio-policy-diff/1";

/// Two policies side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differences {
    /// [`DIFF_SCHEMA`].
    pub schema: &'static str,
    /// Whether nothing below differs, fuel apart.
    pub same: bool,
    /// What they are and want.
    pub component: Vec<Change>,
    /// Fields of their configurations' schemas.
    pub config: Vec<Change>,
    /// What they answer in the same situations.
    pub answers: Vec<AnswerChange>,
    /// What the calls took.
    pub fuel: Vec<FuelOfHook>,
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// As it is with the first policy; null where it has none.
    pub a: Value,
    /// As it is with the second one.
    pub b: Value,
}

/// A field of answers that differs in a situation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerChange {
    /// The situation.
    pub situation: String,
    /// The hook; `init` where one does not start.
    pub hook: Hook,
    /// The field, for example `decided.draft.length`.
    pub field: String,
    /// Its value in the first answer where it differs.
    pub a: Value,
    /// The other policy's.
    pub b: Value,
    /// How often it differs in this situation.
    pub times: usize,
}

/// Fuel of a hook, on average over the calls of all situations in which both
/// started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FuelOfHook {
    /// The hook.
    pub hook: Hook,
    /// The first policy's calls. With probes there may be more of one policy's.
    pub calls_a: usize,
    /// The second one's.
    pub calls_b: usize,
    /// Units a call of the first policy; `None` when it was not called.
    pub a: Option<f64>,
    /// Of the second one.
    pub b: Option<f64>,
}

/// A policy to compare, and its configuration as JSON text.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// Where it comes from.
    pub source: PolicySource,
    /// `None` for its own default.
    pub config: Option<String>,
}

/// Compares two policies. Both may import whatever can be granted: nothing real
/// is lent to them.
///
/// # Errors
/// When one of them is no component of the contract.
pub fn diff(
    runtime: &PolicyRuntime,
    a: &Side,
    b: &Side,
    limits: &Limits,
) -> Result<Differences, LoadError> {
    let grants = Grant::ALL.into();
    let look = |side: &Side| {
        let inspection = inspect(runtime, &side.source, limits)?;
        let prepared = Prepared::new(runtime, &side.source, limits, &grants)?;
        Ok::<_, LoadError>((inspection, prepared))
    };
    let ((is_a, prepared_a), (is_b, prepared_b)) = (look(a)?, look(b)?);
    let [subject_a, subject_b] = [(a, &prepared_a), (b, &prepared_b)].map(|(side, prepared)| {
        let config = side.config.as_deref();
        Subject { runtime, prepared, config, limits, grants: &grants }
    });
    let mut fuel = BTreeMap::new();
    let mut answers = Vec::new();
    for situation in &canned() {
        match (situation.play(&subject_a), situation.play(&subject_b)) {
            (Ok(a), Ok(b)) => {
                add_fuel(&mut fuel, &a, &b);
                answers.extend(answer_changes(situation, &a, &b));
            }
            (a, b) => answers.extend(start_change(situation, a.err(), b.err())),
        }
    }
    let component = component_changes(&is_a, &is_b);
    let config = config_changes(&is_a, &is_b);
    let same = component.is_empty() && config.is_empty() && answers.is_empty();
    let fuel = fuel.into_values().collect();
    Ok(Differences { schema: DIFF_SCHEMA, same, component, config, answers, fuel })
}

fn component_changes(a: &Inspection, b: &Inspection) -> Vec<Change> {
    let rows = [
        ("name", json!(a.name), json!(b.name)),
        ("version", json!(a.version), json!(b.version)),
        ("summary", json!(a.summary), json!(b.summary)),
        ("digest", json!(a.digest), json!(b.digest)),
        ("bytes", json!(a.bytes), json!(b.bytes)),
        ("contract", json!(a.contract), json!(b.contract)),
        ("imports", json!(a.imports), json!(b.imports)),
        ("must be granted", json!(a.grants), json!(b.grants)),
        ("hooks", json!(a.hooks), json!(b.hooks)),
        ("other exports", json!(a.other_exports), json!(b.other_exports)),
    ];
    let differing = rows.into_iter().filter(|(_, a, b)| a != b);
    differing.map(|(what, a, b)| Change { what: what.into(), a, b }).collect()
}

fn config_changes(a: &Inspection, b: &Inspection) -> Vec<Change> {
    let fields =
        |of: &Inspection| of.config_schema.as_ref().map(schema::fields).unwrap_or_default();
    let (fields_a, mut fields_b) = (fields(a), fields(b));
    let mut changes = Vec::new();
    for (what, a) in fields_a {
        let b = fields_b.remove(&what).unwrap_or_default();
        if a != b {
            changes.push(Change { what, a, b });
        }
    }
    changes.extend(fields_b.into_iter().map(|(what, b)| Change { what, a: Value::Null, b }));
    let others = |of: &Inspection| match &of.config_schema {
        Some(Value::Object(schema)) => {
            let mut schema = schema.clone();
            schema.remove("properties");
            Value::Object(schema)
        }
        other => json!(other),
    };
    let (a, b) = (others(a), others(b));
    if a != b {
        changes.push(Change { what: "(the schema itself)".into(), a, b });
    }
    changes
}

fn start_change(
    situation: &Situation,
    a: Option<LoadError>,
    b: Option<LoadError>,
) -> Option<AnswerChange> {
    let said = |error: Option<LoadError>| {
        error.map_or_else(|| json!("starts"), |error| json!(error.to_string()))
    };
    let both_fail = a.is_some() && b.is_some();
    let change = AnswerChange {
        situation: situation.name.clone(),
        hook: Hook::Init,
        field: "start".into(),
        a: said(a),
        b: said(b),
        times: 1,
    };
    // The sentences name the policies, so two that fail alike would differ.
    (!both_fail).then_some(change)
}

fn answer_changes(situation: &Situation, a: &[Given], b: &[Given]) -> Vec<AnswerChange> {
    let mut changes: Vec<AnswerChange> = Vec::new();
    for (a, b) in by_call(a).into_iter().zip(by_call(b)) {
        // Probes may make one policy's plan take more calls; what it is in the end
        // is compared, and that it probed.
        let (Some(last_a), Some(last_b)) = (a.last(), b.last()) else { continue };
        let mut leaves = Vec::new();
        if a.len() != b.len() {
            leaves.push(("(probes)".to_owned(), json!(a.len() - 1), json!(b.len() - 1)));
        }
        differing(&as_json(last_a), &as_json(last_b), String::new(), &mut leaves);
        let failures = |given: &[Given]| -> Vec<String> {
            given.iter().flat_map(|given| &given.failures).map(ToString::to_string).collect()
        };
        let (failed_a, failed_b) = (failures(a), failures(b));
        if failed_a != failed_b {
            leaves.push(("(failures)".to_owned(), json!(failed_a), json!(failed_b)));
        }
        for (field, a, b) in leaves {
            let hook = last_a.hook;
            match changes.iter_mut().find(|c| c.hook == hook && c.field == field) {
                Some(change) => change.times += 1,
                None => {
                    let situation = situation.name.clone();
                    changes.push(AnswerChange { situation, hook, field, a, b, times: 1 });
                }
            }
        }
    }
    changes
}

/// What was given, by the situation's calls: a `plan` and what followed its probes
/// are one.
fn by_call(given: &[Given]) -> Vec<&[Given]> {
    given.chunk_by(|_, next| next.probes > 0).collect()
}

fn as_json(given: &Given) -> Value {
    match &given.answer {
        Answer::State(Some(state)) => match serde_json::from_slice(state) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
            _ => json!(String::from_utf8_lossy(state)),
        },
        // By request, so that another order is no difference.
        Answer::Decisions(decisions) => {
            let of = |d: &aio_core::RoundDecision| {
                (d.request.to_string(), json!({"action": d.action, "reason": d.reason}))
            };
            Value::Object(decisions.iter().map(of).collect())
        }
        answer => serde_json::to_value(answer).unwrap_or_default(),
    }
}

/// The fields in which two answers differ. Requests and places in lists are left
/// out of a field's name.
fn differing(a: &Value, b: &Value, field: String, found: &mut Vec<(String, Value, Value)>) {
    match (a, b) {
        _ if a == b => {}
        (Value::Object(fields_a), Value::Object(fields_b)) => {
            let names =
                fields_a.keys().chain(fields_b.keys().filter(|n| !fields_a.contains_key(*n)));
            for name in names {
                let side = |of: &serde_json::Map<String, Value>| of.get(name).cloned();
                let inner = match (field.is_empty(), name.parse::<u64>()) {
                    (_, Ok(_)) => field.clone(),
                    (true, Err(_)) => name.clone(),
                    (false, Err(_)) => format!("{field}.{name}"),
                };
                let (a, b) = (side(fields_a), side(fields_b));
                differing(&a.unwrap_or_default(), &b.unwrap_or_default(), inner, found);
            }
        }
        (Value::Array(elements_a), Value::Array(elements_b))
            if elements_a.len() == elements_b.len() =>
        {
            for (a, b) in elements_a.iter().zip(elements_b) {
                differing(a, b, field.clone(), found);
            }
        }
        _ => {
            let field = if field.is_empty() { "answer".into() } else { field };
            found.push((field, a.clone(), b.clone()));
        }
    }
}

fn add_fuel(fuel: &mut BTreeMap<String, FuelOfHook>, a: &[Given], b: &[Given]) {
    for hook in [Hook::Plan, Hook::Rounds, Hook::Finished, Hook::Snapshot] {
        let of = fuel.entry(hook.to_string()).or_insert(FuelOfHook {
            hook,
            calls_a: 0,
            calls_b: 0,
            a: None,
            b: None,
        });
        add(&mut of.calls_a, &mut of.a, a, hook);
        add(&mut of.calls_b, &mut of.b, b, hook);
    }
}

/// Takes calls into a mean.
fn add(calls: &mut usize, mean: &mut Option<f64>, given: &[Given], hook: Hook) {
    for given in given.iter().filter(|given| given.hook == hook) {
        *calls += 1;
        let before = mean.unwrap_or(0.0);
        *mean = Some(before + (given.fuel as f64 - before) / *calls as f64);
    }
}
