//! What drafting buys end to end, and that it changes no token.
//!
//! Prompts come in blocks. In each block every prompt is answered by our decode
//! loop in every setting, one after the other, so that settings are compared
//! within seconds; then each mode of the peer's server is started once and
//! answers the block's prompts. Every other block begins with the peer. A
//! setting's tokens must equal those of plain decoding.

mod figures;
mod plot;
mod report;
mod setting;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aio_core::RequestRecord;
use aio_engine::chat::Message;
use aio_engine::device::Device;
use aio_engine::sampling::Sampling;
use aio_policy::{PolicyHost, PolicyRuntime, Setup};
use aio_serve::{Prompt, Recent, Request, Runner, Sink, TierSource, Tiers};

use crate::bandwidth::Bandwidth;
use crate::machine::{CpuTime, Machine, physical_cores};
use crate::peer::llama_server::{LlamaServer, Mode, Serving};
use crate::prompts::{self, PromptText};
use crate::{BenchError, Progress};
pub use figures::{GroupFigures, Lane};
pub use report::{PeerAnswer, PromptReport, SettingAnswer, SpeculateReport};
pub use setting::{Setting, SettingError};

/// Enough for the first draft and no more: what fills both caches.
const WARM_TOKENS: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct SpeculateOptions {
    /// Prompt files.
    pub prompts: Vec<PathBuf>,
    /// Prompts in all.
    pub count: usize,
    /// Policies to measure beside the static settings.
    pub policies: Vec<Setting>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Tokens of a setting's answers to earlier prompts that lookup may draft from; 0:
    /// it has the prompt and its own answer alone.
    pub recent_tokens: usize,
    /// Prompts that are answered between starts of the peer's servers.
    pub block: usize,
    /// The peer's `llama-server`.
    pub peer: Option<PathBuf>,
    /// Threads of our device, and of the peer; the physical cores where absent.
    pub threads: Option<NonZeroUsize>,
}

impl SpeculateOptions {
    /// Says what is wrong with the request before models are fetched and loaded.
    ///
    /// # Errors
    /// When there is no prompt, or the peer's binary is not there.
    pub fn check(&self) -> Result<(), BenchError> {
        self.parts().map(|_| ())
    }

    /// Prompts, files that are not there, and the peer.
    fn parts(&self) -> Result<Parts, BenchError> {
        if self.max_tokens < WARM_TOKENS {
            let what = format!(
                "answers of {} tokens show nothing; ask for at least {WARM_TOKENS} with --max-tokens",
                self.max_tokens
            );
            return Err(BenchError::Request(what));
        }
        let (prompts, absent) = prompts::read(&self.prompts, self.count)?;
        let peer = self.peer.as_deref().map(LlamaServer::new).transpose()?;
        Ok(Parts { prompts, absent, peer })
    }
}

struct Parts {
    prompts: Vec<PromptText>,
    absent: Vec<PathBuf>,
    peer: Option<LlamaServer>,
}

/// Measures `target`, drafted for by `draft` where there is one.
///
/// # Errors
/// When there is no prompt, a model cannot be opened, the two do not share a
/// tokenizer, or the device or the peer fails.
pub fn run(
    target: &TierSource,
    draft: Option<&TierSource>,
    device: &dyn Device,
    options: &SpeculateOptions,
    progress: &mut dyn Progress,
) -> Result<SpeculateReport, BenchError> {
    let Parts { prompts, absent, peer } = options.parts()?;
    for file in absent {
        progress.note(&format!("skipped: {} is not here", file.display()));
    }
    let threads = options.threads.map_or_else(physical_cores, usize::from);
    let machine = Machine::here();
    let bandwidth = Bandwidth::new(threads)
        .map_err(|e| BenchError::Request(format!("no memory to measure bandwidth with: {e}")))?;
    let mut settings = Setting::statics(draft.is_some());
    settings.extend(options.policies.iter().cloned());
    let modes = if peer.is_some() { Mode::all(draft.is_some()) } else { Vec::new() };
    let (ours, prompts) = Ours::open(target, draft, device, &settings, options, prompts, progress)?;
    let mut report = SpeculateReport::new(machine, device, threads, target, draft, options);
    report.peer_version = peer.as_ref().map(|peer| peer.version.clone());
    progress.started((prompts.len() * (settings.len() + modes.len())) as u64);
    let longest = prompts.iter().map(|p| p.1).max().unwrap_or(0);
    let serving = Serving {
        target: &target.path,
        draft: draft.map(|d| d.path.as_path()),
        threads,
        // Rounded up as the server itself would, with room for its own template.
        context: (longest + options.max_tokens + 256).next_multiple_of(256),
    };
    let mut bench = Bench { ours, settings, peer, modes, serving, max_tokens: options.max_tokens };
    for (number, block) in prompts.chunks(options.block.max(1)).enumerate() {
        let mut reports: Vec<PromptReport> =
            block.iter().map(|(p, _)| PromptReport::new(p)).collect();
        let peer_first = number % 2 == 1;
        for turn in [peer_first, !peer_first] {
            report.bandwidth_samples.push(bandwidth.measure());
            let start = CpuTime::now();
            if turn {
                bench.peer_block(block, &mut reports, progress)?;
                report.disturbance.peer(start);
            } else {
                bench.our_block(block, &mut reports, progress)?;
                report.disturbance.ours(start);
            }
        }
        report.prompts.extend(reports);
    }
    report.finish(&bench.settings, &bench.modes);
    progress.finished();
    Ok(report)
}

/// A prompt and its length in tokens.
type Counted = (PromptText, usize);

struct Bench<'a> {
    ours: Ours,
    settings: Vec<Setting>,
    peer: Option<LlamaServer>,
    modes: Vec<Mode>,
    serving: Serving<'a>,
    max_tokens: usize,
}

impl Bench<'_> {
    fn our_block(
        &mut self,
        block: &[Counted],
        reports: &mut [PromptReport],
        progress: &mut dyn Progress,
    ) -> Result<(), BenchError> {
        for (i, ((prompt, _), report)) in block.iter().zip(reports).enumerate() {
            report.draft_prefill_milliseconds = self.ours.warm(prompt)?;
            // The first one's tokens are what all others must say.
            let mut order: Vec<usize> = (0..self.settings.len()).collect();
            order[1..].rotate_left(i % (self.settings.len() - 1).max(1));
            for setting in order {
                progress.step(&format!("{}: aio, {}", prompt.id, self.settings[setting].name));
                let record = self.ours.answer(setting, prompt, self.max_tokens)?;
                report.add_ours(&self.settings[setting], &record);
            }
        }
        Ok(())
    }

    fn peer_block(
        &mut self,
        block: &[Counted],
        reports: &mut [PromptReport],
        progress: &mut dyn Progress,
    ) -> Result<(), BenchError> {
        let Some(peer) = &self.peer else { return Ok(()) };
        for mode in &self.modes {
            let server = peer.start(&self.serving, mode)?;
            for ((prompt, _), report) in block.iter().zip(&mut *reports) {
                progress.step(&format!("{}: llama.cpp, {}", prompt.id, mode.name));
                report.add_peer(mode, &server.answer(&prompt.text, self.max_tokens)?);
            }
        }
        Ok(())
    }
}

/// Our decode loop, with a policy for each setting.
struct Ours {
    runner: Runner,
    policies: Vec<Arc<PolicyHost>>,
    /// By setting, the answers that lookup may draft from: a setting's own answers to
    /// earlier prompts, never another setting's to the same one.
    recent: Vec<Recent>,
    /// The setting whose first round fills the draft tier's cache.
    drafts_by_model: Option<usize>,
}

impl Ours {
    /// Opens the tiers, and leaves out prompts that do not fit.
    fn open(
        target: &TierSource,
        draft: Option<&TierSource>,
        device: &dyn Device,
        settings: &[Setting],
        options: &SpeculateOptions,
        prompts: Vec<PromptText>,
        progress: &mut dyn Progress,
    ) -> Result<(Self, Vec<Counted>), BenchError> {
        let &SpeculateOptions { max_tokens, recent_tokens, .. } = options;
        let sources: Vec<TierSource> = draft.into_iter().chain([target]).cloned().collect();
        let tiers = Tiers::open(&sources, device, None)?;
        check(&tiers, target, draft)?;
        let answering = &tiers.all()[tiers.info().largest_tier() as usize];
        let Some(template) = answering.template() else {
            let what = format!("{} has no chat template, so it cannot be asked", target.name);
            return Err(BenchError::Request(what));
        };
        let mut counted = Vec::new();
        for prompt in prompts {
            let messages = [Message::user(&prompt.text)];
            let tokens = template
                .encode(answering.tokenizer(), &messages, true)
                .map_err(aio_serve::ServeError::from)?
                .len();
            if tokens + max_tokens > answering.context() {
                progress.note(&format!(
                    "left out: {} has {tokens} tokens, too many for {}",
                    prompt.id, target.name
                ));
            } else {
                counted.push((prompt, tokens));
            }
        }
        if counted.is_empty() {
            let what = format!("no prompt fits {}; give shorter ones", target.name);
            return Err(BenchError::Request(what));
        }
        let runtime = PolicyRuntime::new()?;
        let load = |setting: &Setting| {
            let config = setting.config.as_ref().map(ToString::to_string);
            let setup = Setup { config, ..Setup::new(tiers.info().clone()) };
            PolicyHost::load(&runtime, &setting.source, setup, Default::default()).map(Arc::new)
        };
        let policies = settings.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let recent = vec![Recent::new(recent_tokens); policies.len()];
        let first = Arc::clone(&policies[0]);
        let drafts_by_model = settings.iter().position(Setting::drafts_by_model);
        let runner = Runner::new(tiers, first);
        Ok((Self { runner, policies, recent, drafts_by_model }, counted))
    }

    /// Fills the caches with the prompt, so that no setting pays for another's
    /// prefill; returns what the draft tier's took.
    fn warm(&mut self, prompt: &PromptText) -> Result<Option<f64>, BenchError> {
        let Some(setting) = self.drafts_by_model else { return Ok(None) };
        self.runner.replace_recent(Recent::default());
        let record = self.run(setting, prompt, WARM_TOKENS)?;
        Ok(record.rounds.first().map(|round| f64::from(round.draft_milliseconds)))
    }

    fn answer(
        &mut self,
        setting: usize,
        prompt: &PromptText,
        max_tokens: usize,
    ) -> Result<RequestRecord, BenchError> {
        self.runner.replace_recent(std::mem::take(&mut self.recent[setting]));
        let record = self.run(setting, prompt, max_tokens);
        self.recent[setting] = self.runner.replace_recent(Recent::default());
        record
    }

    fn run(
        &mut self,
        setting: usize,
        prompt: &PromptText,
        max_tokens: usize,
    ) -> Result<RequestRecord, BenchError> {
        let prompt = Prompt::Chat(vec![Message::user(&prompt.text)]);
        // Greedy, as the peer is asked to be.
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let request = Request::new(prompt, max_tokens, sampling);
        self.runner.replace_policies(Arc::clone(&self.policies[setting]));
        Ok(self.runner.run(&request, &mut Nobody)?)
    }
}

struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _: &str) {}
}

/// The draft model must be the smaller one and share the target's tokens.
fn check(tiers: &Tiers, target: &TierSource, draft: Option<&TierSource>) -> Result<(), BenchError> {
    let Some(draft) = draft else { return Ok(()) };
    let info = tiers.info();
    let largest = info.largest_tier();
    if info.tiers[largest as usize].name != target.name {
        let what =
            format!("{} is no smaller than {}; swap --draft and --target", draft.name, target.name);
        return Err(BenchError::Request(what));
    }
    if info.default_draft_tier(largest).is_none() {
        let what = format!(
            "{} has other tokens than {}, so it cannot draft for it",
            draft.name, target.name
        );
        return Err(BenchError::Request(what));
    }
    Ok(())
}

/// Names the model files of a report without the folders they lie in.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
