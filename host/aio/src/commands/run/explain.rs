//! A request's record for people, on stderr.

use aio_core::{Drafter, FinishReason, HostInfo, RequestRecord};
use aio_engine::Tier;
use aio_serve::Tiers;

use crate::terminal;

/// One line on what answered and how fast.
pub(super) fn footer(record: &RequestRecord) {
    let totals = &record.totals;
    let mut parts = vec![format!("tier {}", record.tier.name)];
    parts.push(match record.plan.draft.drafter {
        Drafter::None => "no drafts".into(),
        drafter => format!("{drafter} up to {}", record.plan.draft.length),
    });
    let decoded = f64::from(totals.committed.saturating_sub(1));
    parts.push(format!("{} tokens", totals.committed));
    if decoded > 0.0 && totals.decode_seconds > 0.0 {
        parts.push(format!("{:.1} tokens/s", decoded / totals.decode_seconds));
    }
    parts.push(format!("first token {:.2} s", totals.prefill_seconds + totals.probe_seconds));
    parts.push(format!("{} rounds", record.rounds.len()));
    if totals.drafted > 0 {
        let share = 100.0 * f64::from(totals.accepted) / f64::from(totals.drafted);
        parts.push(format!("{share:.0} % of {} drafted accepted", totals.drafted));
    }
    parts.push(format!(
        "policy {} {} took {:.2} ms",
        record.policy.name,
        record.policy.version,
        totals.policy_seconds * 1e3
    ));
    if record.finish_reason == FinishReason::Length {
        parts.push("cut off at its length limit".into());
    }
    eprintln!("[{}]", parts.join(" | "));
}

/// What the policy did wrong, each thing once.
pub(super) fn failures(record: &RequestRecord) {
    let mut told: Vec<(&str, usize)> = Vec::new();
    for failure in &record.failures {
        match told.iter_mut().find(|(message, _)| *message == failure.message) {
            Some((_, times)) => *times += 1,
            None => told.push((&failure.message, 1)),
        }
    }
    for (message, times) in told {
        match times {
            1 => terminal::warn(message),
            _ => terminal::warn(&format!("{message} ({times} times)")),
        }
    }
}

/// The decision record, and what came of the graphs that it ran in.
pub(super) fn explain(record: &RequestRecord, tiers: &Tiers) {
    let host = tiers.info();
    let policy = &record.policy;
    eprintln!();
    eprintln!(
        "policy   {} {} ({}…), generation {}",
        policy.name,
        policy.version,
        &policy.digest[..policy.digest.len().min(12)],
        policy.generation
    );
    facts(record, host);
    for probe in &record.probes {
        let result = &probe.result;
        let shares = probe.probe.answers.iter().zip(&result.probabilities);
        // Answers go to the model as they are; a terminal must not obey them.
        let share =
            |(answer, p): (&String, &f32)| format!("{} {:.1} %", answer.escape_debug(), p * 100.0);
        let shares: Vec<String> = shares.map(share).collect();
        eprintln!(
            "probe    on tier {} in {:.1} ms: {}; entropy {:.2} nats, {:.1} % on other tokens",
            result.tier,
            result.milliseconds,
            shares.join(", "),
            result.entropy,
            result.other * 100.0
        );
    }
    plan(record, host);
    rounds(record);
    for shadow in &record.shadows {
        eprintln!("shadow   {shadow}");
    }
    let totals = &record.totals;
    eprintln!(
        "time     {:.2} s: probes {:.2}, prompt {:.2}, drafting and verifying {:.2}, policy {:.5} ({} fuel)",
        totals.seconds,
        totals.probe_seconds,
        totals.prefill_seconds,
        totals.decode_seconds,
        totals.policy_seconds,
        totals.policy_fuel
    );
    tiers.all().iter().for_each(graphs);
    let memory = &record.memory;
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    eprintln!(
        "memory   {:.2} GB at most: weights {:.2}, KV caches {:.3}, passes {:.3}, all else {:.2}",
        gigabytes(memory.peak_resident),
        gigabytes(memory.weights),
        gigabytes(memory.kv),
        gigabytes(memory.arena),
        gigabytes(memory.other)
    );
    eprintln!("ended    {:?} after {} tokens", record.finish_reason, totals.committed);
}

/// A tier's graphs, since the host was started: when each was compiled and at what cost,
/// how often it was used again, and how many of its rows were padding.
fn graphs(tier: &Tier) {
    for graph in tier.graphs() {
        let times = match graph.compilations {
            1 => String::new(),
            n => format!(" (the last of {n} times)"),
        };
        eprintln!(
            "graph    {} gear {}: compiled at {:.2} s{times} in {}, {} passes, {} of their {} rows padding",
            tier.name(),
            graph.gear,
            graph.compiled_at,
            duration(graph.compile_seconds),
            graph.passes,
            graph.padding,
            graph.rows + graph.padding
        );
    }
}

fn duration(seconds: f64) -> String {
    if seconds >= 1.0 { format!("{seconds:.2} s") } else { format!("{:.2} ms", seconds * 1e3) }
}

fn facts(record: &RequestRecord, host: &HostInfo) {
    let facts = &record.facts;
    eprintln!(
        "request  {} prompt tokens, at most {} more, temperature {}, device {}",
        record.prompt_tokens, facts.max_tokens, facts.temperature, host.device
    );
    for (i, tier) in host.tiers.iter().enumerate() {
        let cost = |rows: u32| {
            let gears = facts.tiers.get(i).map(|t| t.gears.as_slice()).unwrap_or_default();
            let gear = gears.iter().find(|g| g.rows == rows);
            gear.and_then(|g| g.milliseconds).map_or("?".into(), |ms| format!("{ms:.0}"))
        };
        eprintln!(
            "tier {i}   {}: {:.2} GB a pass, context {}, pass of 1 / 4 / 8 rows {} / {} / {} ms when planned",
            tier.name,
            tier.weight_bytes as f64 / 1e9,
            tier.context,
            cost(1),
            cost(4),
            cost(8)
        );
    }
}

fn plan(record: &RequestRecord, host: &HostInfo) {
    let plan = &record.plan;
    let draft = &plan.draft;
    let tier = host.tiers.get(plan.tier as usize).map_or("?", |t| t.name.as_str());
    let mut how = match draft.drafter {
        Drafter::None => "no drafts".to_owned(),
        drafter => format!("{drafter}, up to {} tokens", draft.length),
    };
    if draft.drafter.uses_lookup() {
        how += &format!(", n-grams of {} to {}", draft.ngram_min, draft.ngram_max);
    }
    if let Some(tier) = draft.draft_tier.filter(|_| draft.drafter.uses_model()) {
        how += &format!(", drafted by tier {tier} down to confidence {}", draft.min_confidence);
    }
    let label = if plan.label.is_empty() { String::new() } else { format!(" [{}]", plan.label) };
    eprintln!("plan     tier {} ({tier}){label}; {how}", plan.tier);
    eprintln!("because  {}", plan.reason);
    if let Some(why) = &record.speculation_off {
        eprintln!("drafting off: {why}");
    }
}

/// Rounds summed by drafter, and each change that the policy made.
fn rounds(record: &RequestRecord) {
    for drafter in [Drafter::None, Drafter::Lookup, Drafter::Model] {
        let rounds: Vec<_> = record.rounds.iter().filter(|r| r.drafter == drafter).collect();
        if rounds.is_empty() {
            continue;
        }
        let sum = |f: fn(&aio_core::RoundRecord) -> u32| rounds.iter().map(|r| f(r)).sum::<u32>();
        let mean = |f: fn(&aio_core::RoundRecord) -> f32| {
            rounds.iter().map(|r| f(r)).sum::<f32>() / rounds.len() as f32
        };
        eprintln!(
            "rounds   {} with drafter {drafter}: {} drafted, {} accepted, {} committed; {:.1} ms drafting and {:.1} ms verifying each",
            rounds.len(),
            sum(|r| r.drafted),
            sum(|r| r.accepted),
            sum(|r| r.committed),
            mean(|r| r.draft_milliseconds),
            mean(|r| r.verify_milliseconds)
        );
    }
    for (i, round) in record.rounds.iter().enumerate() {
        if let Some(action) = &round.action {
            eprintln!("round {i}  policy: {action:?}; {}", round.reason);
        }
    }
}
