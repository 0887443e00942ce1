//! What the drafting benchmark found, as data (the stable JSON) and as tables.
//! Prompts are named, never quoted.

use aio_core::RequestRecord;
use aio_engine::device::Device;
use aio_serve::TierSource;
use serde::Serialize;

use super::SpeculateOptions;
use super::figures::GroupFigures;
use super::file_name;
use super::setting::Setting;
use crate::machine::{Disturbance, Machine};
use crate::peer::llama_server::{Answer, Mode};
use crate::prompts::PromptText;
use crate::stats::Summary;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct SpeculateReport {
    /// Name and version of this JSON's form.
    pub schema: &'static str,
    /// What is simulated, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<String>,
    /// Where it was measured.
    pub machine: Machine,
    /// Our device.
    pub device: String,
    /// Threads of the peer, and of our device where it can be told.
    pub threads: usize,
    /// The model that answers.
    pub target: String,
    /// Its file.
    pub target_file: String,
    /// The model that drafts.
    pub draft: Option<String>,
    /// The peer's version, where there was one.
    pub peer_version: Option<String>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Tokens of a setting's answers to earlier prompts that our lookup drafts from.
    pub recent_tokens: usize,
    /// Our settings.
    pub settings: Vec<Setting>,
    /// The peer's modes.
    pub modes: Vec<Mode>,
    /// Gigabytes a second that the machine read, before each turn.
    pub bandwidth: Option<Summary>,
    /// Every measurement of it, in order.
    pub bandwidth_samples: Vec<f64>,
    /// Who else used the processors.
    pub disturbance: Disturbance,
    /// Answers of ours whose tokens were not those of plain decoding: must be 0.
    pub mismatches: usize,
    /// Figures of each prompt file, then of all prompts.
    pub groups: Vec<GroupFigures>,
    /// Prompt by prompt.
    pub prompts: Vec<PromptReport>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// One prompt's answers.
#[derive(Debug, Clone, Serialize)]
pub struct PromptReport {
    /// Its file.
    pub group: String,
    /// Its name there.
    pub id: String,
    /// Its length, by our count.
    pub prompt_tokens: u32,
    /// What the draft tier took to read the prompt, once.
    pub draft_prefill_milliseconds: Option<f64>,
    /// Ours, in the order of the settings.
    pub ours: Vec<SettingAnswer>,
    /// The peer's, in the order of its modes.
    pub peers: Vec<PeerAnswer>,
    #[serde(skip)]
    plain: Option<Vec<u32>>,
    #[serde(skip)]
    peer_plain: Option<String>,
}

/// An answer of ours.
#[derive(Debug, Clone, Serialize)]
pub struct SettingAnswer {
    /// The setting's name.
    pub setting: String,
    /// Tokens, the first of which the prefill gave.
    pub tokens: u32,
    /// Rounds.
    pub rounds: usize,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Seconds of drafting and verifying.
    pub decode_seconds: f64,
    /// Tokens a second of decoding; absent where nothing was decoded.
    pub tokens_per_second: Option<f64>,
    /// Whether the tokens are those of plain decoding.
    pub same_as_plain: bool,
}

/// An answer of the peer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerAnswer {
    /// The mode's name.
    pub mode: String,
    /// Tokens.
    pub tokens: u32,
    /// Length of the prompt, by its count.
    pub prompt_tokens: u32,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Tokens a second of decoding, by its own clock.
    pub tokens_per_second: f64,
    /// Whether the text is that of its mode without drafts.
    pub same_as_plain: bool,
}

impl PromptReport {
    pub(super) fn new(prompt: &PromptText) -> Self {
        Self {
            group: prompt.group.clone(),
            id: prompt.id.clone(),
            prompt_tokens: 0,
            draft_prefill_milliseconds: None,
            ours: Vec::new(),
            peers: Vec::new(),
            plain: None,
            peer_plain: None,
        }
    }

    /// Adds an answer; the first one is plain decoding's.
    pub(super) fn add_ours(&mut self, setting: &Setting, record: &RequestRecord) {
        let totals = &record.totals;
        let decoded = totals.committed.saturating_sub(1);
        let measured = decoded > 0 && totals.decode_seconds > 0.0;
        let plain = self.plain.get_or_insert_with(|| record.token_ids.clone());
        self.prompt_tokens = record.prompt_tokens;
        self.ours.push(SettingAnswer {
            setting: setting.name.clone(),
            tokens: totals.committed,
            rounds: record.rounds.len(),
            drafted: totals.drafted,
            accepted: totals.accepted,
            decode_seconds: totals.decode_seconds,
            tokens_per_second: measured.then(|| f64::from(decoded) / totals.decode_seconds),
            same_as_plain: *plain == record.token_ids,
        });
    }

    /// Adds an answer; the first one is from the mode without drafts.
    pub(super) fn add_peer(&mut self, mode: &Mode, answer: &Answer) {
        let plain = self.peer_plain.get_or_insert_with(|| answer.text.clone());
        self.peers.push(PeerAnswer {
            mode: mode.name.clone(),
            tokens: answer.tokens,
            prompt_tokens: answer.prompt_tokens,
            drafted: answer.drafted,
            accepted: answer.accepted,
            tokens_per_second: answer.tokens_per_second,
            same_as_plain: *plain == answer.text,
        });
    }

    /// Tokens that a setting decoded, and the seconds that took.
    pub(super) fn our_decoding(&self, setting: &str) -> Option<(f64, f64)> {
        let answer = self.ours.iter().find(|a| a.setting == setting)?;
        answer.tokens_per_second.map(|speed| (speed * answer.decode_seconds, answer.decode_seconds))
    }

    /// Tokens that a mode decoded, and the seconds that took.
    pub(super) fn peer_decoding(&self, mode: &str) -> Option<(f64, f64)> {
        let speed = self.peer_speed(mode)?;
        let tokens = self.peers.iter().find(|a| a.mode == mode)?.tokens.saturating_sub(1);
        (tokens > 0).then(|| (f64::from(tokens), f64::from(tokens) / speed))
    }

    pub(super) fn our_speed(&self, setting: &str) -> Option<f64> {
        self.ours.iter().find(|a| a.setting == setting)?.tokens_per_second
    }

    pub(super) fn peer_speed(&self, mode: &str) -> Option<f64> {
        let speed = self.peers.iter().find(|a| a.mode == mode)?.tokens_per_second;
        (speed.is_finite() && speed > 0.0).then_some(speed)
    }
}

impl SpeculateReport {
    pub(super) fn new(
        machine: Machine,
        device: &dyn Device,
        threads: usize,
        target: &TierSource,
        draft: Option<&TierSource>,
        options: &SpeculateOptions,
    ) -> Self {
        Self {
            schema: "aio-bench-speculate/3",
            simulated: device.notice(),
            machine,
            device: device.name().to_owned(),
            threads,
            target: target.name.clone(),
            target_file: file_name(&target.path),
            draft: draft.map(|d| d.name.clone()),
            peer_version: None,
            max_tokens: options.max_tokens,
            recent_tokens: options.recent_tokens,
            settings: Vec::new(),
            modes: Vec::new(),
            bandwidth: None,
            bandwidth_samples: Vec::new(),
            disturbance: Disturbance::default(),
            mismatches: 0,
            groups: Vec::new(),
            prompts: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Sums up, once all prompts are in.
    pub(super) fn finish(&mut self, settings: &[Setting], modes: &[Mode]) {
        self.settings = settings.to_vec();
        self.modes = modes.to_vec();
        self.bandwidth = Summary::of(&self.bandwidth_samples);
        let answers = self.prompts.iter().flat_map(|p| &p.ours);
        self.mismatches = answers.filter(|a| !a.same_as_plain).count();
        for prompt in &mut self.prompts {
            // Settings took turns; reports have them in their order.
            let place = |a: &SettingAnswer| settings.iter().position(|s| s.name == a.setting);
            prompt.ours.sort_by_key(place);
        }
        let mut names: Vec<&str> = Vec::new();
        for prompt in &self.prompts {
            if !names.contains(&prompt.group.as_str()) {
                names.push(&prompt.group);
            }
        }
        let figures = |name: &str, all: bool| {
            let of: Vec<&PromptReport> =
                self.prompts.iter().filter(|p| all || p.group == name).collect();
            GroupFigures::new(name, &of, settings, modes)
        };
        let mut groups: Vec<GroupFigures> = names.iter().map(|name| figures(name, false)).collect();
        if groups.len() != 1 {
            groups.push(figures("all", true));
        }
        self.groups = groups;
        self.add_notes();
    }

    fn add_notes(&mut self) {
        let mut note = |text: &str| self.notes.push(text.to_owned());
        note(
            "tokens/s are of decoding alone: prompts, and the draft model's reading of them, are not in it, on either side",
        );
        note(
            "median and quartiles are over prompts; \"in all\" is all tokens in all the time, by which the best static setting is chosen in hindsight",
        );
        if !self.modes.is_empty() {
            note(
                "the peer's figure is its own predicted_per_second; like ours, it leaves out the first token, which the prefill gave",
            );
            note(
                "the peer's ngram-mod keeps what it learnt from earlier prompts while its server runs",
            );
            note("both sides put the same user message through the model's own chat template");
            let differs = |p: &PromptReport| {
                let theirs = p.peers.first().map_or(p.prompt_tokens, |a| a.prompt_tokens);
                theirs != p.prompt_tokens
            };
            let differing = self.prompts.iter().filter(|p| differs(p)).count();
            if differing > 0 {
                self.notes.push(format!(
                    "{differing} prompts have another length in tokens for the peer than for us"
                ));
            }
        }
        self.notes.extend(self.disturbance.notes());
        if self.mismatches > 0 {
            let text = format!(
                "{} answers of ours are not what plain decoding says: drafting must not change tokens",
                self.mismatches
            );
            self.notes.push(text);
        }
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text =
            self.simulated.iter().map(|notice| format!("{notice}\n")).collect::<String>();
        text += &format!("{}\n", self.machine.line());
        let draft = self.draft.as_ref().map_or(String::new(), |d| format!(", drafted for by {d}"));
        let peer =
            self.peer_version.as_ref().map_or(String::new(), |v| format!(", peer llama.cpp {v}"));
        text += &format!(
            "{}{draft}; device {}, {} threads{peer}; up to {} tokens, greedy",
            self.target, self.device, self.threads, self.max_tokens
        );
        if let Some(b) = self.bandwidth {
            text += &format!("; reads {:.1} GB/s", b.median);
        }
        if self.recent_tokens > 0 {
            text += &format!(
                "; our lookup drafts from the prompt, the answer so far, and a setting's last {} \
                 tokens of answers to earlier prompts",
                self.recent_tokens
            );
        }
        text.push('\n');
        for group in &self.groups {
            text.push('\n');
            text += &group.text();
        }
        let prefills: Vec<f64> =
            self.prompts.iter().filter_map(|p| p.draft_prefill_milliseconds).collect();
        if let Some(prefill) = Summary::of(&prefills) {
            text += &format!(
                "\nThe draft model reads a prompt in {:.0} ms (median), once.\n",
                prefill.median
            );
        }
        text += match self.mismatches {
            0 => "\nEvery setting gave the tokens of plain decoding.\n",
            _ => "\nNOT every setting gave the tokens of plain decoding.\n",
        };
        text += "\nNotes\n";
        self.notes.iter().for_each(|note| text += &format!("  - {note}\n"));
        text
    }
}
