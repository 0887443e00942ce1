//! What the runs come to: a deployment on one kind of hardware, the price of a step, and
//! what drafts of one length bring.

use std::collections::BTreeMap;

use aio_core::RequestRecord;
use aio_engine::device::npu_sim::{Cost, CostModel, Sequence, published};
use serde::Serialize;

use super::deployments::{Deployment, Drafts};
use super::{COSTED, profile};
use crate::BenchError;
use crate::analytic::{Replayed, Spent, SpentBy};
use crate::stats::Summary;

/// A deployment on one kind of hardware, at one context.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The hardware's profile.
    pub profile: String,
    /// Tokens of context.
    pub context: usize,
    /// The deployment's name.
    pub deployment: &'static str,
    /// Whether it is our idea.
    pub ours: bool,
    /// Tokens a second of decoding: those after the first ones, in the time of drafting and
    /// verifying. Compilations are left out; see `spent`.
    pub tokens_per_second: f64,
    /// What the paper measured, where it is of this hardware and context.
    pub published: Option<f64>,
    /// How far ours is from that, as a share of it.
    pub difference: Option<f64>,
    /// All tokens in all the time, prompts and probes included; compilations are not.
    pub overall_tokens_per_second: f64,
    /// From a request's beginning to its first token, in seconds, without compilations.
    pub first_token: Option<Summary>,
    /// Bytes of weights and of keys and values that decoding read for each token.
    pub bytes_per_token: f64,
    /// Requests that the small model answered.
    pub answered_by_small: usize,
    /// Requests by what their plans call them.
    pub labels: BTreeMap<String, usize>,
    /// Requests.
    pub requests: usize,
    /// Tokens of all answers.
    pub tokens: u64,
    /// Rounds of all answers.
    pub rounds: u64,
    /// Tokens drafted.
    pub drafted: u64,
    /// Drafted tokens that were accepted.
    pub accepted: u64,
    /// Where the time went.
    pub spent: SpentBy,
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// Tokens after the first ones, and the seconds that they took without compilations.
fn decoded(replayed: &[Replayed]) -> (f64, f64) {
    let tokens = replayed.iter().map(|r| f64::from(r.tokens.saturating_sub(1))).sum();
    let seconds = replayed.iter().map(|r| {
        let decode = r.spent.decode();
        decode.seconds() - decode.compile_seconds
    });
    (tokens, seconds.sum())
}

impl Cell {
    pub(super) fn new(
        profile: &str,
        context: usize,
        deployment: &Deployment,
        records: &[RequestRecord],
        replayed: &[Replayed],
    ) -> Self {
        let (tokens, seconds) = decoded(replayed);
        let spent: SpentBy = replayed.iter().map(|r| r.spent).sum();
        let all = spent.all();
        let without_compiling = |spent: &Spent| spent.seconds() - spent.compile_seconds;
        let first: Vec<f64> = replayed
            .iter()
            .map(|r| without_compiling(&r.spent.probe) + without_compiling(&r.spent.prefill))
            .collect();
        let tokens_per_second = ratio(tokens, seconds);
        let published = deployment
            .published
            .filter(|_| profile == super::PROFILES[0] && context == super::CONTEXTS[0]);
        let decode = spent.decode();
        let rounds = || records.iter().flat_map(|record| &record.rounds);
        let mut labels = BTreeMap::new();
        let labelled = records.iter().filter(|record| !record.plan.label.is_empty());
        labelled.for_each(|r| *labels.entry(r.plan.label.clone()).or_default() += 1);
        let committed: u64 = records.iter().map(|r| u64::from(r.totals.committed)).sum();
        Self {
            profile: profile.to_owned(),
            context,
            deployment: deployment.name,
            ours: deployment.ours,
            tokens_per_second,
            published,
            difference: published.map(|published| tokens_per_second / published - 1.0),
            overall_tokens_per_second: ratio(committed as f64, without_compiling(&all)),
            first_token: Summary::of(&first),
            bytes_per_token: ratio(decode.weight_bytes + decode.kv_bytes, tokens),
            answered_by_small: records.iter().filter(|record| record.tier.index == 0).count(),
            labels,
            requests: records.len(),
            tokens: committed,
            rounds: rounds().count() as u64,
            drafted: rounds().map(|round| u64::from(round.drafted)).sum(),
            accepted: rounds().map(|round| u64::from(round.accepted)).sum(),
            spent,
        }
    }

    /// The share of drafted tokens that were accepted, where any were drafted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Seconds of decoding, compilations left out.
    pub fn decode_seconds(&self) -> f64 {
        let decode = self.spent.decode();
        decode.seconds() - decode.compile_seconds
    }

    /// A part's share of them.
    pub fn share(&self, seconds: f64) -> f64 {
        ratio(seconds, self.decode_seconds())
    }
}

/// What a step of each model costs: a small model reads a seventh of the bytes, and is not
/// seven times as fast.
#[derive(Debug, Clone, Serialize)]
pub struct Paradox {
    /// The hardware's profile.
    pub profile: String,
    /// Tokens of context.
    pub context: usize,
    /// Milliseconds of a step, small and large model.
    pub milliseconds: [f64; 2],
    /// Bytes that a step reads.
    pub bytes: [f64; 2],
    /// How many times as long the large model's step takes.
    pub time_ratio: f64,
    /// How many times as many bytes it reads.
    pub bytes_ratio: f64,
}

impl Paradox {
    pub(super) fn all(profiles: &[&str], context: usize) -> Result<Vec<Self>, BenchError> {
        profiles.iter().map(|name| Self::of(name, context)).collect()
    }

    fn of(name: &str, context: usize) -> Result<Self, BenchError> {
        let hardware = profile(name)?;
        let step = |model: &str| -> Result<Cost, BenchError> {
            let shape = published::model(model).ok_or_else(|| {
                BenchError::Request(format!("nothing was published of a model {model}"))
            })?;
            let costs = CostModel::new(hardware.clone(), &shape);
            Ok(costs.pass(1, &[Sequence { rows: 1, context }], 1))
        };
        let [small, large] = [step(COSTED[0])?, step(COSTED[1])?];
        let bytes = [small, large].map(|cost| cost.weight_bytes + cost.kv_bytes);
        Ok(Self {
            profile: name.to_owned(),
            context,
            milliseconds: [small.seconds * 1e3, large.seconds * 1e3],
            bytes,
            time_ratio: large.seconds / small.seconds,
            bytes_ratio: bytes[1] / bytes[0],
        })
    }
}

/// Drafts of one length for the large model, on one kind of hardware.
#[derive(Debug, Clone, Serialize)]
pub struct SweepPoint {
    /// The hardware's profile.
    pub profile: String,
    /// Whose drafts.
    pub drafts: Drafts,
    /// Most tokens in a round.
    pub length: u32,
    /// Tokens a second of decoding.
    pub tokens_per_second: f64,
    /// Tokens that a round commits.
    pub tokens_per_round: f64,
    /// The share of drafted tokens that were accepted.
    pub acceptance: f64,
}

impl SweepPoint {
    pub(super) fn new(
        profile: &str,
        drafts: Drafts,
        length: u32,
        records: &[RequestRecord],
        replayed: &[Replayed],
    ) -> Self {
        let (tokens, seconds) = decoded(replayed);
        let rounds = || records.iter().flat_map(|record| &record.rounds);
        let sum = |of: fn(&aio_core::RoundRecord) -> u32| rounds().map(|r| f64::from(of(r))).sum();
        Self {
            profile: profile.to_owned(),
            drafts,
            length,
            tokens_per_second: ratio(tokens, seconds),
            tokens_per_round: ratio(tokens, rounds().count() as f64),
            acceptance: ratio(sum(|r| r.accepted), sum(|r| r.drafted)),
        }
    }
}
