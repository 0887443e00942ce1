//! How servers answer under load: any that speak OpenAI's chat completions.
//!
//! Requests are real prompts, sent by a number of clients, at a rate, or as in a
//! trace of real arrivals. Each level of load is measured in rounds, each round
//! on every server, in an order that alternates; servers are compared within
//! rounds. What is measured is what a user sees: the time to the first token
//! (TTFT), the time per output token after it (TPOT), the time to the end, tokens
//! a second, and goodput, the answers a second that keep a service level objective
//! (the notion is that of DistServe, Zhong et al., OSDI 2024).
//!
//! This knows a server by its URL and nothing of how it works: our scheduler and
//! engine are not in it.

mod answer;
pub(crate) mod arrivals;
mod client;
mod drive;
mod failure;
mod figures;
mod notes;
mod options;
mod plot;
mod report;
mod sse;
mod trace;
mod workload;

use std::path::PathBuf;

use aio_serve::ProcessMemory;

use crate::machine::{CpuTime, Machine};
use crate::prompts::{self, PromptText};
use crate::{BenchError, Progress};
use client::Client;
use drive::Run;
pub use figures::{FailureFigures, Ratios, TargetFigures};
pub use options::{ApiKey, Level, Load, ServeOptions, Slo, Target};
pub use report::{Asked, LevelReport, RequestReport, ServeReport, TargetReport};
use trace::Arrival;
pub use trace::TraceForm;
use workload::Workload;

impl ServeOptions {
    /// Says what is wrong with the request before a server is asked.
    ///
    /// # Errors
    /// When a number measures nothing, there is no prompt, the trace cannot be read,
    /// or a process is not there.
    pub fn check(&self) -> Result<(), BenchError> {
        self.parts().map(|_| ())
    }

    fn parts(&self) -> Result<Parts, BenchError> {
        self.check_numbers()?;
        for target in &self.targets {
            let gone = |pid: &u32| ProcessMemory::of(*pid).is_none();
            if let Some(pid) = target.pid.filter(gone) {
                let what = format!("the memory of process {pid} ({}) cannot be read", target.name);
                return Err(BenchError::Request(what));
            }
        }
        let (prompts, absent) = prompts::read(&self.prompts, self.count)?;
        let (form, trace) = match &self.load {
            Load::Trace { file, speeds } => {
                let fastest = speeds.iter().copied().fold(0.0, f64::max);
                let (form, trace) = trace::read(file, self.extent(fastest), self.seed)?;
                (Some(form), trace)
            }
            _ => (None, Vec::new()),
        };
        Ok(Parts { prompts, absent, form, trace })
    }
}

struct Parts {
    prompts: Vec<PromptText>,
    absent: Vec<PathBuf>,
    form: Option<TraceForm>,
    trace: Vec<Arrival>,
}

/// Measures the servers.
///
/// # Errors
/// When there is no prompt, the trace cannot be read, or a server does not answer
/// one request before anything is measured. Requests that fail later are counted.
pub fn run(options: &ServeOptions, progress: &mut dyn Progress) -> Result<ServeReport, BenchError> {
    let Parts { prompts, absent, form, trace } = options.parts()?;
    for file in absent {
        progress.note(&format!("skipped: {} is not here", file.display()));
    }
    let workload = Workload::new(options, prompts, trace);
    let mut report = ServeReport::new(Machine::here(), options, form, &workload);
    let mut clients = Vec::new();
    for target in &options.targets {
        let (client, identity) = Client::open(target, options, workload.trial())?;
        report.add_target(target, client.model(), identity);
        clients.push(client);
    }
    let levels = options.load.levels();
    progress.started((levels.len() * options.rounds * clients.len()) as u64);
    let mut bench = Bench { options, workload, clients, sent: 0 };
    for level in levels {
        bench.measure(level, &mut report, progress)?;
    }
    report.finish(bench.sent, &bench.workload);
    progress.finished();
    Ok(report)
}

struct Bench<'a> {
    options: &'a ServeOptions,
    workload: Workload<'a>,
    clients: Vec<Client<'a>>,
    /// Requests that the server that got the most of them has had.
    sent: usize,
}

impl Bench<'_> {
    /// Measures a level in all rounds.
    fn measure(
        &mut self,
        level: Level,
        report: &mut ServeReport,
        progress: &mut dyn Progress,
    ) -> Result<(), BenchError> {
        let mut runs: Vec<Vec<Run>> = self.clients.iter().map(|_| Vec::new()).collect();
        for round in 0..self.options.rounds {
            let mut sent = 0;
            for place in turns(self.clients.len(), round) {
                let name = &self.options.targets[place].name;
                progress.step(&format!("{name}: {}, round {}", level.name(), round + 1));
                let start = CpuTime::now();
                let requests = self.workload.requests(level, round, self.sent);
                let client = &self.clients[place];
                let run = drive::run(client, &self.workload, self.options, level, requests)
                    .map_err(|e| BenchError::Request(format!("no thread for a request: {e}")))?;
                report.add_run(place, level, round, &run, start.since());
                sent = sent.max(run.samples.len());
                runs[place].push(run);
            }
            // Servers get the same prompts in a round, and other ones in the next.
            self.sent += sent;
        }
        report.add_level(level, &runs);
        Ok(())
    }
}

/// The servers in the order of a round: each begins as often as the others.
fn turns(servers: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |i| (i + round) % servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns() {
        let order = |round| turns(3, round).collect::<Vec<_>>();
        assert_eq!((order(0), order(1), order(3)), (vec![0, 1, 2], vec![1, 2, 0], vec![0, 1, 2]));
    }
}
