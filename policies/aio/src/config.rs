//! The configuration of the default policy: a preset, and what is to differ
//! from it. Checked against the host here, so that planning cannot fail.

use aio_policy_sdk::{Drafter, HostInfo, Plan, Setting, Settled, TierChoice};
use serde::Deserialize;

/// The question that the probe asks. It is put after the whole prompt, as a
/// further turn where the prompt is a conversation, and its answers are
/// recognised by their first token: hence one word, and the words in full.
const QUESTION: &str = "What kind of request is the above? Answer with one word: Code, QA or Math.";

/// Rules to start from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The paper's routing, and drafts that pay most by what is measured.
    #[default]
    Default,
    /// The paper's rules, as far as they are known.
    Paper,
}

/// What the operator writes: all fields may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    preset: Preset,
    long_prompt_tokens: Option<u32>,
    long: Option<Setting>,
    probe_tier: Option<TierChoice>,
    question: Option<String>,
    entropy_threshold: Option<f32>,
    unsure: Option<Setting>,
    classes: Option<Vec<Class>>,
}

/// One answer of the probe and what follows from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    label: String,
    answer: String,
    #[serde(default)]
    setting: Setting,
}

/// The configuration, checked against the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Prompts with more tokens than this are not probed.
    pub long_prompt_tokens: u32,
    /// How they are answered instead.
    pub long: Way,
    /// The tier that is asked.
    pub probe_tier: u32,
    /// What it is asked.
    pub question: String,
    /// Nats; from here on the probe counts as not sure.
    pub entropy_threshold: f32,
    /// How a request is answered when the probe is not sure.
    pub unsure: Way,
    /// What the probe tells apart.
    pub classes: Vec<RulesClass>,
}

/// A class, checked against the host.
#[derive(Debug, Clone, PartialEq)]
pub struct RulesClass {
    /// The plan's label.
    pub label: String,
    /// The probe's answer.
    pub answer: String,
    /// How such a request is answered.
    pub way: Way,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    /// The tier, and how the rounds draft, or the first one does.
    pub setting: Settled,
    /// Whether later rounds draft what pays most. What the operator wrote stays as
    /// it was written.
    pub adaptive: bool,
}

impl Way {
    /// A plan to answer so.
    pub fn plan(self) -> Plan {
        self.setting.plan().ask_every(if self.adaptive { 1 } else { 0 })
    }
}

impl Config {
    /// The JSON Schema of the configuration; it takes the settings' schema in.
    pub fn schema() -> String {
        include_str!("config.schema.json").replace("\"SETTING\"", Setting::SCHEMA.trim_end())
    }

    /// Fills in the preset and checks everything.
    ///
    /// # Errors
    /// One sentence that names the field and what is allowed.
    pub fn rules(self, host: &HostInfo) -> Result<Rules, String> {
        let preset = self.preset;
        let probe_tier = self.probe_tier.unwrap_or(TierChoice::SMALLEST);
        // The preset's own settings are starting points, except the paper's.
        let adaptive = |written: bool| !written && preset == Preset::Default;
        let long_adapts = adaptive(self.long.is_some());
        let unsure_adapts = adaptive(self.unsure.is_some());
        let classes_adapt = adaptive(self.classes.is_some());
        let long = self.long.unwrap_or_else(|| preset.long());
        let unsure = self.unsure.unwrap_or_else(|| preset.unsure());
        let classes = self.classes.unwrap_or_else(|| preset.classes());
        if classes.len() < 2 {
            return Err("`classes` needs at least two entries for the probe to tell apart".into());
        }
        let rules = Rules {
            long_prompt_tokens: self.long_prompt_tokens.unwrap_or(2048),
            long: Way { setting: long.settle(host, "long.")?, adaptive: long_adapts },
            probe_tier: probe_tier.resolve(host, "probe_tier")?,
            question: self.question.unwrap_or_else(|| QUESTION.into()),
            entropy_threshold: self.entropy_threshold.unwrap_or(0.45),
            unsure: Way { setting: unsure.settle(host, "unsure.")?, adaptive: unsure_adapts },
            classes: classes
                .into_iter()
                .enumerate()
                .map(|(i, class)| class.settle(host, i, classes_adapt))
                .collect::<Result<_, _>>()?,
        };
        if rules.entropy_threshold.is_nan() || rules.entropy_threshold < 0.0 {
            return Err(format!(
                "`entropy_threshold` is {}, but it is in nats: 0 (never sure) or more",
                rules.entropy_threshold
            ));
        }
        if rules.question.trim().is_empty() {
            return Err("`question` is empty: ask for one of the classes' answers".into());
        }
        Ok(rules)
    }
}

impl Class {
    fn new(label: &str, answer: &str, setting: Setting) -> Self {
        Self { label: label.into(), answer: answer.into(), setting }
    }

    fn settle(self, host: &HostInfo, index: usize, adaptive: bool) -> Result<RulesClass, String> {
        if self.answer.is_empty() {
            return Err(format!("`classes[{index}].answer` is empty: name the probe's answer"));
        }
        let setting = self.setting.settle(host, &format!("classes[{index}]."))?;
        let way = Way { setting, adaptive };
        Ok(RulesClass { label: self.label, answer: self.answer, way })
    }
}

impl Preset {
    /// Both send long prompts to the largest tier: in long contexts the small
    /// model stays behind. The paper's rule for lookup is by class, and a long
    /// prompt has none; this host looks up there too, because a long prompt is
    /// what there is to repeat from.
    fn long(self) -> Setting {
        match self {
            Self::Default => lookup(TierChoice::LARGEST, 8),
            Self::Paper => plain(TierChoice::LARGEST),
        }
    }

    /// Not sure means the larger tier: it can only cost time.
    fn unsure(self) -> Setting {
        match self {
            Self::Default => lookup(TierChoice::LARGEST, 4),
            Self::Paper => plain(TierChoice::LARGEST),
        }
    }

    /// Where the classes go is the paper's in both: in short contexts its small
    /// model is faster and also better at code (HumanEval 67.7 against 62.8),
    /// while questions (MMLU 71 against 90) and maths (GSM8K 74 against 83) lose
    /// by it. With models of which that is not true, set the classes' tiers.
    ///
    /// Drafting differs. The paper turns lookup off for code, where its
    /// implementation loses 16 points of HumanEval: it leaves stale KV entries
    /// behind a rejected draft. Here lookup changes no token, and code repeats
    /// itself more than anything else, so there it is on and longest. That is how the
    /// first round drafts; what later ones do follows from what is measured.
    fn classes(self) -> Vec<Class> {
        let (code, others) = match self {
            Self::Default => (lookup(TierChoice::SMALLEST, 8), lookup(TierChoice::LARGEST, 4)),
            Self::Paper => (
                plain(TierChoice::SMALLEST),
                Setting {
                    // "n-gram 6, lookahead 2": the longest suffix tried, and how much it drafts.
                    drafter: Drafter::Lookup,
                    draft_length: 2,
                    ngram_min: 1,
                    ngram_max: 6,
                    ..plain(TierChoice::LARGEST)
                },
            ),
        };
        vec![
            Class::new("code", "Code", code),
            Class::new("qa", "QA", others.clone()),
            Class::new("math", "Math", others),
        ]
    }
}

fn plain(tier: TierChoice) -> Setting {
    Setting { tier, drafter: Drafter::None, ..Setting::default() }
}

fn lookup(tier: TierChoice, draft_length: u32) -> Setting {
    Setting { tier, drafter: Drafter::Lookup, draft_length, ..Setting::default() }
}
