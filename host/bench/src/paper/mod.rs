//! The paper's table from one command: its deployments and ours on simulated Ascend 910Bs,
//! with real tokens.
//!
//! Small models act, the paper's are costed. A deployment whose decisions do not depend on
//! costs is run once, by the code that serves, and its records are put on each kind of
//! hardware ([`crate::analytic`]); one that adapts is run on each. Nothing is computed
//! twice ([`remembering`]): what a model says after the same tokens is the same (law 1),
//! which is checked besides, answer by answer.

mod deployments;
mod explain;
mod figures;
mod page;
mod prompts;
pub mod remembering;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aio_core::RequestRecord;
use aio_engine::chat::Message;
use aio_engine::device::Device;
use aio_engine::device::npu_sim::{NpuSimDevice, Profile, Simulation};
use aio_engine::model::ModelDescription;
use aio_engine::sampling::Sampling;
use aio_policy::{PolicyHost, PolicyRuntime, PolicySource, Setup};
use aio_serve::{Prompt, Request, Runner, SchedulerOptions, Sink, TierSource, Tiers};
use serde_json::Value;

use crate::analytic::{Analytic, Replayed};
use crate::{BenchError, Progress};
pub use deployments::{Deployment, Drafts};
pub use figures::{Cell, Paradox, SweepPoint};
pub use prompts::{Kind, PaperPrompt};
use remembering::RememberingDevice;
pub use report::PaperReport;

/// The hardware, with the software that drives it: from the paper's to what could be.
pub const PROFILES: [&str; 4] =
    ["ascend-910b-hf", "ascend-910b-eager", "ascend-910b-graph", "ascend-910b-native"];
/// Tokens of context that prompts stand at the end of in the paper.
pub const CONTEXTS: [usize; 2] = [2048, 32768];
/// The models that the paper measured, small to large.
const COSTED: [&str; 2] = ["openpangu-1b", "openpangu-7b"];
/// Of a context, what prompts and answers are given room for; the rest is a document.
const ROOM: usize = 512;
/// Bytes of logits that are remembered of each model.
const REMEMBERED: usize = 3 << 29;

/// Prompts of each kind for which drafts of several lengths are looked at.
const SWEPT: usize = 2;

/// What to run.
#[derive(Debug, Clone)]
pub struct PaperOptions {
    /// The folder with evaluation data; the prompts that are part of this program where
    /// it is not there.
    pub data: PathBuf,
    /// Tokens of context that prompts stand at the end of; drafts of several lengths are
    /// looked at in the first one.
    pub contexts: Vec<usize>,
    /// Prompts of each kind.
    pub count: usize,
    /// Most tokens of an answer.
    pub max_tokens: usize,
}

impl PaperOptions {
    /// Says what is wrong with the request before models are fetched and loaded.
    ///
    /// # Errors
    /// When there is no context, or one has no room for prompts.
    pub fn check(&self) -> Result<(), BenchError> {
        if self.contexts.is_empty() {
            return Err(BenchError::Request("name at least one context with --context".into()));
        }
        match self.contexts.iter().find(|&&context| context < ROOM) {
            Some(context) => Err(BenchError::Request(format!(
                "a context of {context} tokens has no room for a prompt; give at least {ROOM}"
            ))),
            None => Ok(()),
        }
    }
}

/// Runs everything with two acting models that share a tokenizer.
///
/// # Errors
/// When a prompt file is damaged, a model cannot be opened, or a run fails.
pub fn run(
    models: &[TierSource; 2],
    acting: Box<dyn Device>,
    options: &PaperOptions,
    progress: &mut dyn Progress,
) -> Result<PaperReport, BenchError> {
    options.check()?;
    let (prompts, from) = prompts::read(&options.data, options.count)?;
    let acting: Arc<dyn Device> = Arc::new(RememberingDevice::new(acting, REMEMBERED));
    let device = NpuSimDevice::new(simulation(PROFILES[0], 0)?, Arc::clone(&acting));
    let mut bench = Bench {
        tiers: Tiers::open(models, &device, None)?,
        acting,
        runtime: PolicyRuntime::new()?,
        prompts: &prompts,
        max_tokens: options.max_tokens,
        said: BTreeMap::new(),
        mismatches: 0,
    };
    let info = bench.tiers.info().clone();
    let [small, large] = info.tiers.as_slice() else {
        return Err(BenchError::Request("it takes two models of different names".into()));
    };
    if info.default_draft_tier(1).is_none() {
        let what =
            format!("{} cannot draft for {}: they have other tokens", small.name, large.name);
        return Err(BenchError::Request(what));
    }
    let mut report = PaperReport::new(models, from, options, &prompts);
    let deployments = Deployment::all(&small.name, &large.name);
    let runs = |d: &Deployment| if d.adapts { PROFILES.len() } else { 1 };
    let runs = options.contexts.len() * deployments.iter().map(runs).sum::<usize>();
    let sweep = Deployment::sweep(&small.name, &large.name);
    progress.started((runs + sweep.len()) as u64);
    for &context in &options.contexts {
        let document = context - ROOM;
        for deployment in &deployments {
            let mut recorded = None;
            for profile in PROFILES {
                let records = match &recorded {
                    Some(records) if !deployment.adapts => Arc::clone(records),
                    _ => {
                        let doing = if deployment.adapts { profile } else { "all hardware" };
                        progress.step(&format!("{context}: {}, {doing}", deployment.name));
                        let device = bench.device(profile, document)?;
                        let source = deployment.source();
                        Arc::new(bench.answers(
                            &device,
                            &source,
                            &|kind| deployment.config_for(kind),
                            prompts.len(),
                        )?)
                    }
                };
                recorded = Some(Arc::clone(&records));
                let replayed = bench.replay(profile, document, &records)?;
                report.cells.push(Cell::new(profile, context, deployment, &records, &replayed));
            }
        }
        report.paradox.extend(Paradox::all(&PROFILES, context)?);
    }
    let document = options.contexts[0] - ROOM;
    for (drafts, length, config) in sweep {
        progress.step(&format!("drafts by {drafts:?} of {length}"));
        let device = bench.device(PROFILES[0], document)?;
        // Drafts in vain are what takes long here, so fewer prompts must do.
        let some = prompts.len().min(Kind::ALL.len() * SWEPT);
        let source = PolicySource::Builtin("fixed");
        let records = bench.answers(&device, &source, &|_| &config, some)?;
        for profile in PROFILES {
            let replayed = bench.replay(profile, document, &records)?;
            report.sweep.push(SweepPoint::new(profile, drafts, length, &records, &replayed));
        }
    }
    report.mismatches = bench.mismatches;
    report.explain();
    progress.finished();
    Ok(report)
}

struct Bench<'a> {
    /// The models, to be put on one device after the other.
    tiers: Tiers,
    acting: Arc<dyn Device>,
    runtime: PolicyRuntime,
    prompts: &'a [PaperPrompt],
    max_tokens: usize,
    /// What each tier said to each prompt at first.
    said: BTreeMap<(u32, usize), Vec<u32>>,
    /// Answers that were others later.
    mismatches: usize,
}

impl Bench<'_> {
    fn device(&self, profile: &str, document: usize) -> Result<NpuSimDevice, BenchError> {
        Ok(NpuSimDevice::new(simulation(profile, document)?, Arc::clone(&self.acting)))
    }

    /// Answers the first `count` prompts under a policy that knows nothing yet, on hardware on which
    /// nothing is compiled yet.
    fn answers<'c>(
        &mut self,
        device: &NpuSimDevice,
        source: &PolicySource,
        config: &dyn Fn(Kind) -> &'c Value,
        count: usize,
    ) -> Result<Vec<RequestRecord>, BenchError> {
        let tiers = self.tiers.again(device)?;
        let load = |kind: &Kind| {
            let config = Some(config(*kind).to_string());
            let setup = Setup { config, ..Setup::new(tiers.info().clone()) };
            PolicyHost::load(&self.runtime, source, setup, Default::default()).map(Arc::new)
        };
        // What learns, learns from all kinds.
        let same = Kind::ALL.iter().all(|kind| config(*kind) == config(Kind::ALL[0]));
        let kinds = if same { &Kind::ALL[..1] } else { &Kind::ALL[..] };
        let policies = kinds.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        // Documents are others each time, so nothing is kept; and lookup is the paper's:
        // the prompt and the answer so far.
        let one = SchedulerOptions { kept_prefixes: 0, recent_tokens: 0, ..SchedulerOptions::ONE };
        let mut runner = Runner::with_options(tiers, Arc::clone(&policies[0]), one);
        let mut records = Vec::with_capacity(self.prompts.len());
        for (n, prompt) in self.prompts.iter().enumerate().take(count) {
            let messages = Prompt::Chat(vec![Message::user(&prompt.text)]);
            let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
            let request = Request::new(messages, self.max_tokens, greedy);
            let of_kind = kinds.iter().position(|kind| *kind == prompt.kind).unwrap_or(0);
            runner.replace_policies(Arc::clone(&policies[of_kind]));
            let record = runner.run(&request, &mut Nobody)?;
            let said = self.said.entry((record.tier.index, n));
            let first = said.or_insert_with(|| record.token_ids.clone());
            self.mismatches += usize::from(*first != record.token_ids);
            records.push(record);
        }
        Ok(records)
    }

    /// Puts recorded answers on hardware, one after the other.
    fn replay(
        &self,
        profile: &str,
        document: usize,
        records: &[RequestRecord],
    ) -> Result<Vec<Replayed>, BenchError> {
        let wrong = |error: String| BenchError::Request(error);
        let shapes: [ModelDescription; 0] = [];
        let mut analytic =
            Analytic::new(&simulation(profile, document)?, &shapes).map_err(wrong)?;
        let all = records.iter().map(|record| (0.0, record));
        analytic.answer_all(all).map_err(|error| wrong(error.to_string()))
    }
}

struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _: &str) {}
}

/// A profile's hardware with the paper's models, behind so many tokens.
fn simulation(profile: &str, document: usize) -> Result<Simulation, BenchError> {
    let name = format!("{profile}={}@{document}", COSTED.join("+"));
    Simulation::parse(&name).map_err(|error| BenchError::Request(error.to_string()))
}

/// A profile that is part of the program.
fn profile(name: &str) -> Result<Profile, BenchError> {
    Profile::open(name).map_err(|error| BenchError::Request(error.to_string()))
}
