//! Recorded requests, as many as wanted, on several kinds of hardware.

use aio_core::RequestRecord;
use aio_engine::device::npu_sim::Simulation;

use super::{Analytic, AnalyticReport};
use crate::BenchError;
use crate::serve::arrivals::{Random, poisson};

/// How recorded requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepOptions {
    /// Requests: the records in their order, over and over.
    pub requests: usize,
    /// Requests a second on average, independently of each other; absent where each comes
    /// when the last one is answered.
    pub rate: Option<f64>,
    /// Keys the times between arrivals.
    pub seed: u64,
}

/// Puts the records on each hardware.
///
/// # Errors
/// When a simulation names no models to be costed, a rate is no rate, or a record is not
/// one of a run with one request at a time.
pub fn sweep(
    records: &[RequestRecord],
    simulations: &[Simulation],
    options: SweepOptions,
) -> Result<Vec<AnalyticReport>, BenchError> {
    if options.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(BenchError::Request("a rate is a number of requests a second, above 0".into()));
    }
    let wrong = |error: String| BenchError::Request(error);
    let on = |simulation: &Simulation| {
        let name = simulation.name();
        if simulation.costed.is_empty() {
            return Err(wrong(format!(
                "a replay opens no model, so name those to be costed, as in \
                 {name}=openpangu-1b+openpangu-7b"
            )));
        }
        let mut analytic = Analytic::new(simulation, &[]).map_err(wrong)?;
        let requests = records.iter().cycle().take(options.requests);
        let answered = match options.rate {
            Some(rate) => {
                let arrivals = poisson(rate, Random::of(options.seed, &[]));
                analytic.answer_all(arrivals.zip(requests))
            }
            None => requests.map(|record| analytic.answer(record)).collect(),
        };
        let answered = answered.map_err(|error| wrong(error.to_string()))?;
        AnalyticReport::new(&name, &answered).ok_or_else(|| wrong("there is no request".into()))
    };
    simulations.iter().map(on).collect()
}
