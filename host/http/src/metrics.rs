//! What is counted and measured, in Prometheus' text form (`prometheus-client`: the
//! Prometheus project's own crate; its registry is a value, so that two servers in one
//! process do not count into each other, and labels are types).

mod decisions;

use std::sync::atomic::Ordering;

use aio_core::{RequestRecord, TierInfo};
use aio_serve::{ProcessMemory, Refused, SchedulerStatus};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::decisions::Decisions;
use crate::measure::{Progress, Unfinished};

/// The form's media type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a cached prompt on a fast device to a long one that had to wait.
const FIRST_TOKEN: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From drafts that are all accepted to a large model on slow memory.
const NEXT_TOKEN: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0];
/// From a word to a long answer behind a queue.
const WHOLE: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

type Seconds = Family<Tier, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    endpoint: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Endpoint, Counter>,
    refused: Family<Reason, Counter>,
    unfinished: Family<Reason, Counter>,
    first_token: Seconds,
    next_token: Seconds,
    whole: Seconds,
    prompt_tokens: Family<Tier, Counter>,
    generated_tokens: Family<Tier, Counter>,
    decisions: Decisions,
    scheduler: Scheduled,
    resident: Gauge,
}

/// What the scheduler says of itself, read when it is asked for.
#[derive(Debug, Default)]
struct Scheduled {
    running: Gauge,
    waiting: Gauge,
    kv_bytes: Gauge,
    kv_budget: Gauge,
    kept_prefix: Gauge,
    reused_prefix: Counter,
    preemptions: Counter,
    passes: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("aio");
        let histogram = |buckets: fn() -> Histogram| Seconds::new_with_constructor(buckets);
        let mut metrics = Self {
            requests: Family::default(),
            refused: Family::default(),
            unfinished: Family::default(),
            first_token: histogram(|| Histogram::new(FIRST_TOKEN)),
            next_token: histogram(|| Histogram::new(NEXT_TOKEN)),
            whole: histogram(|| Histogram::new(WHOLE)),
            prompt_tokens: Family::default(),
            generated_tokens: Family::default(),
            decisions: Decisions::default(),
            scheduler: Scheduled::default(),
            resident: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register_requests(&mut registry);
        metrics.decisions.register(&mut registry);
        metrics.scheduler.register(&mut registry);
        let help = "Memory of the process that is in RAM";
        let resident = metrics.resident.clone();
        registry.register_with_unit("process_resident_memory", help, Unit::Bytes, resident);
        metrics.registry = registry;
        metrics
    }

    fn register_requests(&self, registry: &mut Registry) {
        let help = "HTTP requests by route and status";
        registry.register("http_requests", help, self.requests.clone());
        let help = "Requests that were not taken";
        registry.register("requests_refused", help, self.refused.clone());
        let help = "Requests that were taken and not answered to the end";
        registry.register("requests_unfinished", help, self.unfinished.clone());
        let seconds = Unit::Seconds;
        let help = "Time from a request to its first token";
        registry.register_with_unit(
            "time_to_first_token",
            help,
            seconds.clone(),
            self.first_token.clone(),
        );
        let help = "Time from a token to the next, averaged over a request";
        registry.register_with_unit(
            "time_per_output_token",
            help,
            seconds.clone(),
            self.next_token.clone(),
        );
        let help = "Time from a request to the end of its answer";
        registry.register_with_unit("request_duration", help, seconds, self.whole.clone());
        let help = "Tokens of prompts";
        registry.register("prompt_tokens", help, self.prompt_tokens.clone());
        let help = "Tokens of answers";
        registry.register("generated_tokens", help, self.generated_tokens.clone());
    }

    /// Counts an HTTP request.
    pub(crate) fn request(&self, endpoint: &str, status: u16) {
        let labels = Endpoint { endpoint: endpoint.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a request that was not taken.
    pub(crate) fn refused(&self, refused: &Refused) {
        let reason = match refused {
            Refused::QueueFull { .. } => "queue_full",
            Refused::Draining => "draining",
        };
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a request that was not answered to the end.
    pub(crate) fn unfinished(&self, why: Unfinished) {
        self.unfinished.get_or_create(&Reason { reason: why.name() }).inc();
    }

    /// Counts an answer.
    pub(crate) fn ended(&self, record: &RequestRecord, tiers: &[TierInfo], progress: &Progress) {
        let tier = Tier { tier: record.tier.name.clone() };
        let tokens = record.totals.committed;
        self.prompt_tokens.get_or_create(&tier).inc_by(record.prompt_tokens.into());
        self.generated_tokens.get_or_create(&tier).inc_by(tokens.into());
        if let Some(time) = progress.until_first() {
            self.first_token.get_or_create(&tier).observe(time.as_secs_f64());
        }
        if let Some(time) = progress.per_token(tokens) {
            self.next_token.get_or_create(&tier).observe(time.as_secs_f64());
        }
        self.whole.get_or_create(&tier).observe(progress.start.elapsed().as_secs_f64());
        self.decisions.count(record, tiers);
    }

    /// Everything as text.
    pub(crate) fn encode(&self, status: Option<SchedulerStatus>) -> String {
        if let Some(status) = status {
            self.scheduler.set(&status);
        }
        if let Some(memory) = ProcessMemory::own() {
            self.resident.set(gauge(memory.resident_bytes));
        }
        let mut encoded = String::new();
        if let Err(error) = text::encode(&mut encoded, &self.registry) {
            tracing::error!("metrics have no text: {error}");
        }
        encoded
    }
}

impl Scheduled {
    fn register(&self, registry: &mut Registry) {
        let help = "Requests that are being decoded";
        registry.register("requests_running", help, self.running.clone());
        registry.register("requests_waiting", "Requests that wait", self.waiting.clone());
        let help = "Memory of KV caches";
        registry.register_with_unit("kv_cache", help, Unit::Bytes, self.kv_bytes.clone());
        let help = "Memory that KV caches may take; 0 where nothing bounds it";
        registry.register_with_unit("kv_budget", help, Unit::Bytes, self.kv_budget.clone());
        let help = "Tokens of earlier requests that are kept for later ones";
        registry.register("prefix_tokens_kept", help, self.kept_prefix.clone());
        let help = "Tokens of prompts that were not computed again";
        registry.register("prefix_tokens_reused", help, self.reused_prefix.clone());
        let help = "Requests that gave way to others for lack of memory";
        registry.register("preemptions", help, self.preemptions.clone());
        registry.register("passes", "Passes of models", self.passes.clone());
    }

    fn set(&self, status: &SchedulerStatus) {
        self.running.set(gauge(status.running as u64));
        self.waiting.set(gauge(status.waiting as u64));
        self.kv_bytes.set(gauge(status.kv_bytes));
        self.kv_budget.set(gauge(status.kv_budget.unwrap_or(0)));
        self.kept_prefix.set(gauge(status.kept_prefix_tokens));
        // The scheduler counts; this only says so.
        let count = |counter: &Counter, n: u64| counter.inner().store(n, Ordering::Relaxed);
        count(&self.reused_prefix, status.reused_prefix_tokens);
        count(&self.preemptions, status.preemptions);
        count(&self.passes, status.passes);
    }
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
