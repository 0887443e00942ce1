//! Records answers for tests of policies: what lookup would have drafted at each place
//! of an answer and what a draft model would have said there. With that a policy runs
//! whole answers in the SDK's simulated decode loop, without weights and in no time
//! (`policies/sdk/src/testing/recorded.json`, `Answer::recorded`).
//!
//! ```text
//! cargo run --release -p aio-bench --example record_answers -- TARGET.gguf DRAFT.gguf COUNT \
//!     write=humaneval.jsonl edit=edit_humanevalpack_js.jsonl maths=gsm8k.jsonl \
//!     prose=mt_bench.jsonl:category=writing summarise=spec_bench.jsonl:category=summarization
//! ```
//!
//! `COUNT` prompts of each file, as `aio bench speculate` takes them, are answered
//! greedily with at most 128 tokens. No text and no token goes into the recording.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aio_bench::prompts::{self, PromptText};
use aio_bench::speculate::Setting;
use aio_engine::Tier;
use aio_engine::chat::Message;
use aio_engine::device::Logits;
use aio_engine::device::cpu::CpuDevice;
use aio_engine::drafter::lookup::{self, RecentAnswers};
use aio_engine::sampling::Sampling;
use aio_policy::{PolicyHost, PolicyRuntime, Setup};
use aio_serve::{Prompt, Recent, Request, Runner, Sink, TierSource, Tiers};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: record_answers TARGET.gguf DRAFT.gguf COUNT KIND=FILE.jsonl...";
const MAX_TOKENS: usize = 128;
/// What lookup matches at most, and the longest draft, where nobody says otherwise.
const NGRAM_MAX: usize = 12;
const DRAFT_MAX: usize = 48;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, draft, count, files @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    if files.is_empty() {
        return Err(USAGE.into());
    }
    let count: usize = count.parse().map_err(|_| USAGE)?;
    let mut recorder = Recorder::open(Path::new(target), Path::new(draft))?;
    let mut answers = Vec::new();
    for file in files {
        let (kind, file) = file.split_once('=').ok_or(USAGE)?;
        let (prompts, absent) = prompts::read(&[PathBuf::from(file)], count)?;
        if let Some(file) = absent.first() {
            return Err(format!("{} is not here", file.display()).into());
        }
        for prompt in &prompts {
            eprintln!("{kind}: {}", prompt.id);
            answers.push(recorder.record(kind, prompt)?);
        }
    }
    println!("[\n{}\n]", answers.join(",\n"));
    Ok(())
}

/// The models, and the answers so far, from which lookup drafts as well.
struct Recorder {
    target: Runner,
    draft: Tier,
    recent: RecentAnswers,
    logits: Logits,
}

impl Recorder {
    fn open(target: &Path, draft: &Path) -> Result<Self, Failure> {
        let device = CpuDevice::new(Default::default())?;
        let source = TierSource { name: "target".into(), path: target.to_owned() };
        let tiers = Tiers::open(&[source], &device, None)?;
        let plain = &Setting::statics(false)[0];
        let config = plain.config.as_ref().map(ToString::to_string);
        let setup = Setup { config, ..Setup::new(tiers.info().clone()) };
        let runtime = PolicyRuntime::new()?;
        let policy = PolicyHost::load(&runtime, &plain.source, setup, Default::default())?;
        Ok(Self {
            target: Runner::new(tiers, Arc::new(policy)),
            draft: Tier::open("draft", draft, &device, None)?,
            recent: RecentAnswers::new(16_384),
            logits: Logits::default(),
        })
    }

    /// Answers a prompt and writes down its record, a line of JSON for each list.
    fn record(&mut self, kind: &str, prompt: &PromptText) -> Result<String, Failure> {
        let messages = vec![Message::user(&prompt.text)];
        let tier = &self.target.tiers().all()[0];
        let template = tier.template().ok_or("the target has no chat template")?;
        let tokens = template.encode(tier.tokenizer(), &messages, true)?;
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let request = Request::new(Prompt::Chat(messages), MAX_TOKENS, sampling);
        self.target.replace_recent(Recent::default());
        let answer = self.target.run(&request, &mut Nobody)?.token_ids;
        let found = self.lookups(&tokens, &answer);
        let model = self.said_by_draft(&tokens, &answer)?;
        self.recent.keep(&tokens, &answer);
        let list = |of: &dyn Fn(&Found) -> usize| {
            let numbers: Vec<String> = found.iter().map(|found| of(found).to_string()).collect();
            numbers.join(",")
        };
        Ok(format!(
            "{{\"kind\":\"{kind}\",\"prompt_tokens\":{},\n\"matches\":[{}],\n\"most\":[{}],\n\
             \"right\":[{}],\n\"model\":[{}]}}",
            tokens.len(),
            list(&|found| found.length),
            list(&|found| found.most),
            list(&|found| found.right),
            model.join(",")
        ))
    }

    /// What lookup would draft before each token of the answer.
    fn lookups(&self, prompt: &[u32], answer: &[u32]) -> Vec<Found> {
        let at = |place: usize| {
            let mut tokens = [prompt, &answer[..place]].concat();
            let known = tokens.len();
            let found = lookup::find(&tokens, &self.recent, 1, NGRAM_MAX);
            let most =
                found.map_or(0, |found| lookup::draft(&mut tokens, &self.recent, found, DRAFT_MAX));
            let right = tokens[known..].iter().zip(&answer[place..]).take_while(|(a, b)| a == b);
            Found { length: found.map_or(0, |found| found.length), most, right: right.count() }
        };
        (0..answer.len()).map(at).collect()
    }

    /// How sure the draft model is before each token of the answer, with a minus where it
    /// would say another one.
    fn said_by_draft(&mut self, prompt: &[u32], answer: &[u32]) -> Result<Vec<String>, Failure> {
        let before = answer.split_last().map_or(answer, |(_, before)| before);
        let tokens = [prompt, before].concat();
        let mut sequence = self.draft.open_sequence();
        self.draft.extend(&mut sequence, &tokens, answer.len(), &mut self.logits)?;
        self.draft.close_sequence(sequence);
        let said = answer.iter().enumerate().map(|(row, &token)| {
            let logits = self.logits.row(row);
            let best = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1));
            let (best, &top) = best.unwrap_or((0, &0.0));
            let confidence = 1.0 / logits.iter().map(|x| (x - top).exp()).sum::<f32>();
            let sign = if best == token { "" } else { "-" };
            format!("{sign}{}", (confidence.max(0.01) * 100.0).round() / 100.0)
        });
        Ok(said.collect())
    }
}

/// What lookup finds at a place.
struct Found {
    /// Tokens that match.
    length: usize,
    /// Tokens that it drafts at most.
    most: usize,
    /// Of these, those before the first wrong one.
    right: usize,
}

struct Nobody;

impl Sink for Nobody {
    fn text(&mut self, _: &str) {}
}
