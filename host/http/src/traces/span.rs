//! One answer's spans, written at its end.

use std::time::{Instant, SystemTime};

use aio_core::{FinishReason, RequestRecord};
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

use super::{Open, Trace};
use crate::measure::{Progress, Unfinished};

impl Trace {
    /// An answer is whole.
    pub(crate) fn ended(&self, record: &RequestRecord, progress: &Progress) {
        let Some(Open { tracer, context }) = &self.0 else { return };
        let clock = Clock::new();
        let attributes = attributes(record);
        let answer = builder(format!("generate {}", record.tier.name), clock.at(progress.start));
        let answer = answer.with_attributes(attributes).start_with_context(&**tracer, context);
        let answer = context.with_span(answer);
        phases(tracer, &answer, progress, &clock);
        answer.span().end();
    }

    /// An answer will not come, or not to its end.
    pub(crate) fn unfinished(&self, number: u64, progress: &Progress, why: Unfinished) {
        let Some(Open { tracer, context }) = &self.0 else { return };
        let clock = Clock::new();
        let answer = builder("generate".into(), clock.at(progress.start));
        let mut answer = answer
            .with_attributes([
                KeyValue::new("aio.request", Value::I64(integer(number))),
                KeyValue::new("error.type", why.name()),
            ])
            .start_with_context(&**tracer, context);
        answer.set_status(Status::error(why.name()));
        phases(tracer, &context.with_span(answer), progress, &clock);
    }
}

/// The phases that an answer has gone through, one after the other.
fn phases(tracer: &SdkTracer, answer: &Context, progress: &Progress, clock: &Clock) {
    let times = [
        ("plan", Some(progress.start), progress.planned),
        ("prefill", progress.planned, progress.first),
        ("decode", progress.first, progress.last),
    ];
    for (name, from, to) in times {
        let (Some(from), Some(to)) = (from, to) else { continue };
        let span = builder(name.into(), clock.at(from));
        span.start_with_context(tracer, answer).end_with_timestamp(clock.at(to));
    }
}

fn builder(name: String, start: SystemTime) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_start_time(start)
}

/// What is told of an answer: the decision and what came of it, and no text.
fn attributes(record: &RequestRecord) -> Vec<KeyValue> {
    let (totals, policy) = (&record.totals, &record.policy);
    let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
    let count = |name: &'static str, value: u64| KeyValue::new(name, Value::I64(integer(value)));
    let seconds = |name: &'static str, value: f64| KeyValue::new(name, Value::F64(value));
    let finish = StringValue::from(match record.finish_reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Error => "error",
    });
    vec![
        text("gen_ai.operation.name", "generate_content"),
        text("gen_ai.response.model", &record.tier.name),
        KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(vec![finish]))),
        count("gen_ai.usage.input_tokens", record.prompt_tokens.into()),
        count("gen_ai.usage.output_tokens", totals.committed.into()),
        count("aio.cached_tokens", record.cached_tokens.into()),
        count("aio.request", record.request),
        text("aio.policy.name", &policy.name),
        text("aio.policy.version", &policy.version),
        text("aio.policy.digest", &policy.digest),
        count("aio.policy.generation", policy.generation),
        count("aio.policy.failures", record.failures.len() as u64),
        text("aio.plan.label", &record.plan.label),
        count("aio.probes", record.probes.len() as u64),
        count("aio.rounds", record.rounds.len() as u64),
        count("aio.drafted_tokens", totals.drafted.into()),
        count("aio.accepted_tokens", totals.accepted.into()),
        count("aio.preemptions", record.preemptions.into()),
        seconds("aio.waiting_seconds", totals.waiting_seconds),
        seconds("aio.prefill_seconds", totals.prefill_seconds),
        seconds("aio.decode_seconds", totals.decode_seconds),
        seconds("aio.policy_seconds", totals.policy_seconds),
        seconds("aio.probe_seconds", totals.probe_seconds),
    ]
}

/// OTLP has signed integers only.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Says by the wall what was measured by the steady clock.
struct Clock(SystemTime, Instant);

impl Clock {
    fn new() -> Self {
        Self(SystemTime::now(), Instant::now())
    }

    fn at(&self, time: Instant) -> SystemTime {
        let ago = self.1.saturating_duration_since(time);
        self.0.checked_sub(ago).unwrap_or(self.0)
    }
}
