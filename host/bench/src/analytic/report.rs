//! What a replay came to, on one kind of hardware.

use serde::Serialize;

use super::{Replayed, SpentBy};
use crate::stats::Percentiles;
use crate::table::Table;

/// A quantity over requests, in seconds.
pub type Distribution = Option<Percentiles>;

/// A replay on one kind of hardware.
#[derive(Debug, Clone, Serialize)]
pub struct AnalyticReport {
    /// The hardware and the costed models, as `npu-sim:` has them.
    pub device: String,
    /// Requests.
    pub requests: usize,
    /// Tokens of their answers.
    pub tokens: u64,
    /// From the first request's arrival to the last one's end.
    pub seconds: f64,
    /// Tokens in all that time.
    pub tokens_per_second: f64,
    /// Tokens after the first ones, in the time that drafting and verifying took.
    pub decode_tokens_per_second: f64,
    /// From a request's arrival to its first token.
    pub first_token: Distribution,
    /// From a request's arrival to its end.
    pub latency: Distribution,
    /// Where the time went.
    pub spent: SpentBy,
}

impl AnalyticReport {
    /// Sums up what was answered; nothing where nothing was.
    pub fn new(device: &str, answered: &[Replayed]) -> Option<Self> {
        let (first, last) = (answered.first()?, answered.last()?);
        let tokens = answered.iter().map(|r| u64::from(r.tokens)).sum::<u64>();
        let decoded = answered.iter().map(|r| u64::from(r.tokens.saturating_sub(1))).sum::<u64>();
        let decode_seconds: f64 = answered.iter().map(|r| r.decode_seconds).sum();
        let since_arrival = |at: fn(&Replayed) -> f64| {
            let seconds: Vec<f64> = answered.iter().map(|r| at(r) - r.arrived).collect();
            Percentiles::of(&seconds)
        };
        let seconds = last.ended - first.arrived;
        let rate =
            |tokens: u64, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        Some(Self {
            device: device.to_owned(),
            requests: answered.len(),
            tokens,
            seconds,
            tokens_per_second: rate(tokens, seconds),
            decode_tokens_per_second: rate(decoded, decode_seconds),
            first_token: since_arrival(|r| r.first_token),
            latency: since_arrival(|r| r.ended),
            spent: answered.iter().map(|r| r.spent).sum(),
        })
    }

    /// Several of them for people.
    pub fn table(reports: &[Self]) -> String {
        let mut table = Table::new().right(|column| column > 0);
        table.row([
            "hardware",
            "requests",
            "tokens",
            "seconds",
            "tokens/s",
            "decoding",
            "first token p50",
            "p99",
            "latency p50",
            "p99",
            "compiling",
            "device",
            "host",
            "syncs",
            "padding",
        ]);
        for report in reports {
            let of = |d: &Distribution, at: fn(&Percentiles) -> f64| {
                d.as_ref().map_or("-".into(), |d| format!("{:.3}", at(d)))
            };
            let spent = report.spent.all();
            let share = |seconds: f64| format!("{:.1} %", 100.0 * seconds / spent.seconds());
            table.row([
                report.device.clone(),
                report.requests.to_string(),
                report.tokens.to_string(),
                format!("{:.2}", report.seconds),
                format!("{:.1}", report.tokens_per_second),
                format!("{:.1}", report.decode_tokens_per_second),
                of(&report.first_token, |p| p.p50),
                of(&report.first_token, |p| p.p99),
                of(&report.latency, |p| p.p50),
                of(&report.latency, |p| p.p99),
                share(spent.compile_seconds),
                share(spent.device_seconds + spent.document_seconds),
                share(spent.host_seconds),
                share(spent.synchronisation_seconds),
                share(spent.padding_seconds),
            ]);
        }
        table.text()
    }
}
