//! What the load benchmark found, as data (the stable JSON) and as tables.
//! Prompts and answers are counted, never quoted.

use aio_serve::ProcessMemory;
use serde::Serialize;

use super::client::Identity;
use super::drive::Run;
use super::figures::{TargetFigures, ms};
use super::options::{Level, Load, ServeOptions, Slo, Target};
use super::trace::TraceForm;
use super::workload::{DEFAULT_MAX_TOKENS, Workload};
use crate::machine::{CpuShares, Machine};
use crate::stats::{Percentiles, Summary};
use crate::table::Table;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct ServeReport {
    /// Name and version of this JSON's form.
    pub schema: &'static str,
    /// Where requests were sent from; servers may be elsewhere.
    pub machine: Machine,
    /// The servers, in the order in which they were named.
    pub targets: Vec<TargetReport>,
    /// What was asked of them.
    pub asked: Asked,
    /// Times that each level was measured.
    pub rounds: usize,
    /// Level by level.
    pub levels: Vec<LevelReport>,
    /// The greatest share of this machine's processor time that sending and reading took.
    pub own_share: f64,
    /// Request by request.
    pub requests: Vec<RequestReport>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// A server.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// What it calls itself in its `server` header.
    pub server: Option<String>,
    /// The models that it lists.
    pub models: Vec<String>,
    /// The one that was asked.
    pub model: String,
    /// Its process, where its memory was read.
    pub pid: Option<u32>,
}

/// How requests were made.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// The trace's file, where one was replayed.
    pub trace: Option<String>,
    /// Its form.
    pub trace_form: Option<TraceForm>,
    /// Different prompts, or texts from which a trace's prompts were cut.
    pub prompts: usize,
    /// Requests of a level and round, at most; absent where time alone bounds them.
    pub requests: Option<usize>,
    /// Seconds in which they were sent, at most.
    pub seconds: Option<f64>,
    /// Most tokens of an answer, where that was asked for.
    pub max_tokens: Option<usize>,
    /// Most tokens of a trace's prompt.
    pub max_prompt_tokens: Option<usize>,
    /// Temperature of sampling.
    pub temperature: f64,
    /// Seed of arrivals, of the prompts' order and of sampling.
    pub seed: u64,
    /// Whether answers were to go on to their most tokens.
    pub ignore_eos: bool,
    /// Whether requests that were turned away were sent again.
    pub retry: bool,
    /// Seconds that an answer could take.
    pub timeout_seconds: f64,
    /// Requests in flight, at most.
    pub most_in_flight: usize,
    /// What answers had to keep to be good.
    pub slo: Slo,
}

/// One level of load.
#[derive(Debug, Clone, Serialize)]
pub struct LevelReport {
    /// The level.
    pub level: Level,
    /// Figures of each server, in the order in which they were named.
    pub targets: Vec<TargetFigures>,
}

/// One request. Times count from when it was due.
#[derive(Debug, Clone, Serialize)]
pub struct RequestReport {
    /// The server, by its place.
    pub target: usize,
    /// The level.
    pub level: Level,
    /// The round, counted from 0.
    pub round: usize,
    /// Its place in the round.
    pub number: usize,
    /// How much later than due it was sent.
    pub lag_ms: f64,
    /// To the first token.
    pub ttft_ms: Option<f64>,
    /// For each token after the first.
    pub tpot_ms: Option<f64>,
    /// To the answer's end.
    pub latency_ms: Option<f64>,
    /// Tokens of the prompt, by the server's count.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer.
    pub tokens: Option<u32>,
    /// Why there was no answer.
    pub failure: Option<String>,
}

impl ServeReport {
    pub(super) fn new(
        machine: Machine,
        options: &ServeOptions,
        trace_form: Option<TraceForm>,
        workload: &Workload<'_>,
    ) -> Self {
        let trace = match &options.load {
            Load::Trace { file, .. } => file.file_name().map(|n| n.to_string_lossy().into_owned()),
            _ => None,
        };
        let asked = Asked {
            trace,
            trace_form,
            prompts: workload.prompts(),
            requests: options
                .requests
                .or(options.seconds.is_none().then(|| options.most_requests())),
            seconds: options.seconds,
            max_tokens: options.max_tokens,
            max_prompt_tokens: options.max_prompt_tokens,
            temperature: options.temperature,
            seed: options.seed,
            ignore_eos: options.ignore_eos,
            retry: options.retry,
            timeout_seconds: options.timeout.as_secs_f64(),
            most_in_flight: options.most_in_flight,
            slo: options.slo,
        };
        Self {
            schema: "aio-bench-serve/1",
            machine,
            targets: Vec::new(),
            asked,
            rounds: options.rounds,
            levels: Vec::new(),
            own_share: 0.0,
            requests: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn add_target(&mut self, target: &Target, model: &str, identity: Identity) {
        self.targets.push(TargetReport {
            name: target.name.clone(),
            url: target.url.clone(),
            server: identity.server,
            models: identity.models,
            model: model.to_owned(),
            pid: target.pid,
        });
    }

    /// Adds a run of the server at that place.
    pub(super) fn add_run(
        &mut self,
        target: usize,
        level: Level,
        round: usize,
        run: &Run,
        shares: CpuShares,
    ) {
        self.own_share = self.own_share.max(shares.own);
        self.requests.extend(run.samples.iter().map(|sample| {
            let answer = sample.outcome.as_ref().ok();
            RequestReport {
                target,
                level,
                round,
                number: sample.number,
                lag_ms: ms(sample.lag),
                ttft_ms: answer.and_then(|a| a.first).map(ms),
                tpot_ms: answer.and_then(|a| a.per_token()).map(ms),
                latency_ms: answer.map(|a| ms(a.total)),
                prompt_tokens: answer.and_then(|a| a.prompt_tokens),
                tokens: answer.map(|a| a.tokens()),
                failure: sample.outcome.as_ref().err().map(ToString::to_string),
            }
        }));
    }

    /// Adds a level, with the runs of each server.
    pub(super) fn add_level(&mut self, level: Level, runs: &[Vec<Run>]) {
        let figures = |(target, runs): (&TargetReport, &Vec<Run>)| {
            let memory = target.pid.and_then(ProcessMemory::of);
            TargetFigures::new(&target.name, runs, self.asked.slo, memory)
        };
        let mut targets: Vec<_> = self.targets.iter().zip(runs).map(figures).collect();
        if let Some((first, others)) = targets.split_first_mut() {
            others.iter_mut().for_each(|other| other.compare(first));
        }
        self.levels.push(LevelReport { level, targets });
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        for target in &self.targets {
            let server = target.server.as_ref().map_or(String::new(), |s| format!(", server {s}"));
            text += &format!("{}: {}, model {}{server}\n", target.name, target.url, target.model);
        }
        text += &self.asked.line(self.rounds);
        text.push('\n');
        text += &self.table().text();
        if self.targets.len() > 1 {
            text.push('\n');
            text += &self.ratios().text();
        }
        text += &self.failures();
        text += "\nNotes\n";
        self.notes.iter().for_each(|note| text += &format!("  - {note}\n"));
        text
    }

    /// The servers that answered nothing at all.
    pub fn silent(&self) -> Vec<&str> {
        let answers = |place: usize| {
            let figures = self.levels.iter().filter_map(move |level| level.targets.get(place));
            figures.map(|figures| figures.answers).sum::<usize>()
        };
        let targets = self.targets.iter().enumerate();
        targets.filter(|(place, _)| answers(*place) == 0).map(|(_, t)| t.name.as_str()).collect()
    }

    fn rows(&self) -> impl Iterator<Item = (String, &TargetFigures)> {
        self.levels.iter().flat_map(|level| {
            let name = level.level.name();
            level.targets.iter().map(move |figures| (name.clone(), figures))
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new().right(|column| column > 1).indent(2);
        let mut heads = vec!["", "", "answers", "429", "errors", "tokens/s", "answers/s"];
        let (slo, memory) =
            (self.asked.slo.is_some(), self.targets.iter().any(|target| target.pid.is_some()));
        heads.extend(slo.then_some("good/s"));
        heads.extend(["first, ms", "token, ms", "all, s"]);
        heads.extend(memory.then_some("MB now / most"));
        table.row(heads);
        for (level, figures) in self.rows() {
            let mut cells = vec![
                level,
                figures.target.clone(),
                format!("{}/{}", figures.answers, figures.requests),
                figures.turned_away.to_string(),
                figures.errors().to_string(),
                format!("{:.1}", figures.tokens_per_second),
                format!("{:.2}", figures.answers_per_second),
            ];
            cells.extend(figures.goodput_per_second.map(|good| format!("{good:.2}")));
            cells.push(three(figures.ttft_ms, 1.0));
            cells.push(three(figures.tpot_ms, 1.0));
            cells.push(three(figures.latency_ms, 1e-3));
            if memory {
                let mb = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
                let both =
                    |m: ProcessMemory| format!("{} / {}", mb(m.resident_bytes), mb(m.peak_bytes));
                cells.push(figures.memory.map_or("-".into(), both));
            }
            table.row(cells);
        }
        table
    }

    fn ratios(&self) -> Table {
        let first = self.targets.first().map_or("", |target| target.name.as_str());
        let mut table = Table::new().right(|column| column > 1).indent(2);
        table.row([&format!("to {first}"), "", "tokens/s", "first", "token", "all"]);
        for (level, figures) in self.rows() {
            let Some(ratios) = figures.to_first else { continue };
            let cell = |s: Option<Summary>| s.map_or("-".into(), |s| format!("{:.2}", s.median));
            let of = [ratios.tokens_per_second, ratios.ttft, ratios.tpot, ratios.latency];
            table.row([level, figures.target.clone()].into_iter().chain(of.map(cell)));
        }
        table
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for (level, figures) in self.rows() {
            for failure in &figures.failures {
                text += &format!(
                    "\n{level}, {}: {} x {}, for example: {}",
                    figures.target, failure.count, failure.kind, failure.example
                );
            }
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

impl Asked {
    /// Whether a trace says how long prompts and answers were.
    pub(super) fn lengths_are_traced(&self) -> bool {
        self.trace_form.is_some_and(|form| form != TraceForm::ServeGen)
    }

    /// One line for people.
    fn line(&self, rounds: usize) -> String {
        let trace = self.trace.as_ref().map_or(String::new(), |trace| format!("{trace}; "));
        let tokens = match (self.max_tokens, self.lengths_are_traced()) {
            (Some(most), _) => format!("up to {most} tokens"),
            (None, true) => "as many tokens as in the trace".into(),
            (None, false) => format!("up to {DEFAULT_MAX_TOKENS} tokens"),
        };
        let end = if self.ignore_eos { ", ends ignored" } else { "" };
        let most = self.requests.map(|requests| format!("up to {requests} requests a level"));
        let time = self.seconds.map(|seconds| format!("sending for up to {seconds} s a level"));
        let bounds: Vec<String> = most.into_iter().chain(time).collect();
        format!(
            "{trace}{} prompts, {tokens}{end}, temperature {}, seed {}; {}, {rounds} {}\n",
            self.prompts,
            self.temperature,
            self.seed,
            bounds.join(", "),
            if rounds == 1 { "round" } else { "rounds" }
        )
    }
}

/// "p50 / p95 / p99" of milliseconds times `scale`.
fn three(percentiles: Option<Percentiles>, scale: f64) -> String {
    let number = |ms: f64| match ms * scale {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    };
    percentiles.map_or("-".into(), |p| {
        format!("{} / {} / {}", number(p.p50), number(p.p95), number(p.p99))
    })
}
