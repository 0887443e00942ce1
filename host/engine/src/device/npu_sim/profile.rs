//! What hardware costs, as a file in TOML. Knows no model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use crate::graph::Op;

/// The profiles that are part of the binary: names and texts.
pub const SHIPPED: [(&str, &str); 4] = [
    ("ascend-910b-hf", include_str!("profiles/ascend-910b-hf.toml")),
    ("ascend-910b-eager", include_str!("profiles/ascend-910b-eager.toml")),
    ("ascend-910b-graph", include_str!("profiles/ascend-910b-graph.toml")),
    ("ascend-910b-native", include_str!("profiles/ascend-910b-native.toml")),
];

/// A key that is wrong, and what it must be.
type Wrong = (String, String);

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none of that name, and no such file.
    #[error(
        "there is no profile '{name}', and no file of that name; there are {}, or a file that \
         ends in .toml",
        SHIPPED.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("the profile {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is no profile.
    #[error("the profile {name} is not right: {reason}")]
    Wrong {
        /// Its name or file.
        name: String,
        /// One sentence.
        reason: String,
    },
}

/// Whether passes are launched kernel by kernel or as a compiled graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Each operation's kernels are launched by the host; passes have any width.
    Eager,
    /// A pass is one launch of a graph that was compiled for its width before; a narrower
    /// pass pays for the whole width.
    Graph,
}

/// Hardware with the software that drives it. Times are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is called, as in `npu-sim:NAME`.
    pub name: String,
    /// What it stands for, in one line.
    pub about: String,
    /// How passes are launched.
    pub mode: Mode,
    /// Bytes that a component of a weight takes there.
    pub weight_bytes: f64,
    /// Whether a model whose file is at hand takes there what its weights take in the file,
    /// in place of `weight_bytes` a component.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weights_as_in_file: bool,
    /// Bytes that a component of a key or value takes there.
    pub kv_bytes: f64,
    /// Reading.
    pub memory: Memory,
    /// Computing.
    pub arithmetic: Arithmetic,
    /// Unpacking weights for computing, where that takes time of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacking: Option<Unpacking>,
    /// The share of `arithmetic` at which weights of a format are multiplied and unpacked, by
    /// the format's name (`Q4_K`), where a model's file is at hand; all of it where nothing
    /// is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<String, f64>,
    /// What the host does for a pass.
    pub host: Host,
    /// Kernels of each operation, where they are launched one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launches: Option<Launches>,
    /// Compiled graphs, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphs: Option<Graphs>,
    /// What was measured, where the profile is of a machine that it was measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// The device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes a second, by the data sheet.
    pub bandwidth: f64,
    /// The share of it that is reached.
    pub efficiency: f64,
    /// Bytes that there are.
    pub capacity: u64,
}

/// The device's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arithmetic {
    /// Operations a second, by the data sheet; a product and its addition are two.
    pub operations: f64,
    /// The share of it that is reached.
    pub efficiency: f64,
    /// The share of it that attention reaches, where it has kernels with a speed of their
    /// own: it then is a step by itself, beside which no weights are read or multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<f64>,
}

/// Unpacking quantised weights, where kernels do that as they multiply: once for a tile of
/// rows, so that a pass costs the less for a row the fuller its tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpacking {
    /// Most rows of a tile.
    pub tile: usize,
    /// Components of weights unpacked in a second.
    pub components: f64,
}

/// The host's part in a pass. It runs ahead of the device: the slower of the two is what a
/// pass takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What a pass costs beside launches: scheduling, inputs, sampling.
    pub pass: f64,
    /// A launch: of a kernel, or of a graph.
    pub launch: f64,
    /// Waiting for the device at a pass's end, after both are done.
    pub synchronisation: f64,
}

/// Kernels that the hardware's own framework launches for each of our operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is named after its operation")]
pub struct Launches {
    pub embed: u32,
    pub rms_norm: u32,
    pub linear: u32,
    pub rope: u32,
    pub store_kv: u32,
    pub attention: u32,
    pub add: u32,
    pub gated: u32,
    pub select_rows: u32,
}

/// Graphs that are compiled ahead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graphs {
    /// Widths that may be compiled, narrow to wide.
    pub gears: Vec<usize>,
    /// Most graphs of a model at once.
    pub most: usize,
    /// Tracing and compiling a model's first graph, for each operation in it.
    pub first_per_operation: f64,
    /// Each graph, the first one included.
    pub each: f64,
    /// Bytes of memory that a compiled graph keeps.
    pub bytes: u64,
}

impl Profile {
    /// The profile of that name, or in that file.
    ///
    /// # Errors
    /// When there is none, or what is there is no profile.
    pub fn open(name: &str) -> Result<Self, ProfileError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(ProfileError::Unknown { name: name.to_owned() });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
        Self::parse(name, &text)
    }

    /// A profile from its text. `name` is what an error calls it.
    ///
    /// # Errors
    /// When it is no profile.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let wrong = |reason: String| ProfileError::Wrong { name: name.to_owned(), reason };
        let profile: Self = toml::from_str(text)
            .map_err(|error| wrong(error.to_string().trim().replace('\n', " ")))?;
        let at_its_line = |(key, reason): Wrong| match line_of(text, &key) {
            Some(line) => wrong(format!("line {line}: {reason}")),
            None => wrong(reason),
        };
        profile.check().map_err(at_its_line)?;
        Ok(profile)
    }

    /// The key that is wrong, and what it must be.
    fn check(&self) -> Result<(), Wrong> {
        let positive = [
            ("weight_bytes", self.weight_bytes),
            ("kv_bytes", self.kv_bytes),
            ("memory.bandwidth", self.memory.bandwidth),
            ("memory.efficiency", self.memory.efficiency),
            ("arithmetic.operations", self.arithmetic.operations),
            ("arithmetic.efficiency", self.arithmetic.efficiency),
        ];
        if let Some((key, value)) = positive.iter().find(|(_, v)| !v.is_finite() || *v <= 0.0) {
            return Err((key.to_string(), format!("{key} is {value}, but it must be more than 0")));
        }
        self.check_kernels()?;
        if let Some(calibration) = &self.calibration {
            calibration.check().map_err(|reason| ("calibration".to_owned(), reason))?;
        }
        let Host { pass, launch, synchronisation } = self.host;
        let mut times = vec![
            ("host.pass", pass),
            ("host.launch", launch),
            ("host.synchronisation", synchronisation),
        ];
        if let Some(graphs) = &self.graphs {
            times.push(("graphs.first_per_operation", graphs.first_per_operation));
            times.push(("graphs.each", graphs.each));
        }
        if let Some((key, time)) = times.iter().find(|(_, time)| !time.is_finite() || *time < 0.0) {
            let must = "but it must be a number of seconds, 0 or more";
            return Err(((*key).to_owned(), format!("{key} is {time}, {must}")));
        }
        match (self.mode, &self.launches, &self.graphs) {
            (Mode::Eager, None, _) => {
                Err(("mode".into(), "in mode eager it needs the section launches".into()))
            }
            (Mode::Graph, _, None) => {
                Err(("mode".into(), "in mode graph it needs the section graphs".into()))
            }
            (Mode::Graph, _, Some(graphs)) => graphs.check(),
            (Mode::Eager, Some(_), _) => Ok(()),
        }
    }

    /// Looks at what kernels with speeds of their own say.
    fn check_kernels(&self) -> Result<(), Wrong> {
        let mut speeds = Vec::new();
        speeds.extend(self.arithmetic.attention.map(|v| ("arithmetic.attention".to_owned(), v)));
        speeds.extend(self.unpacking.map(|v| ("unpacking.components".to_owned(), v.components)));
        speeds.extend(self.formats.iter().map(|(name, v)| (format!("formats.{name}"), *v)));
        if let Some((key, value)) = speeds.iter().find(|(_, v)| !v.is_finite() || *v <= 0.0) {
            return Err((key.clone(), format!("{key} is {value}, but it must be more than 0")));
        }
        if self.unpacking.is_some_and(|unpacking| unpacking.tile == 0) {
            let must = "unpacking.tile is 0, but it must be at least 1";
            return Err(("unpacking.tile".into(), must.into()));
        }
        Ok(())
    }
}

impl Graphs {
    fn check(&self) -> Result<(), Wrong> {
        let rising = self.gears.windows(2).all(|pair| pair[0] < pair[1]);
        if self.gears.first().is_none_or(|first| *first == 0) || !rising {
            let must = "graphs.gears must be widths from 1, each wider than the last";
            return Err(("graphs.gears".into(), must.into()));
        }
        if self.most == 0 {
            return Err((
                "graphs.most".into(),
                "graphs.most is 0, but it must be at least 1".into(),
            ));
        }
        Ok(())
    }
}

/// The line that a key stands in, counted from 1; `a.b` is the key b in the section a.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let file = toml::de::DeTable::parse(text).ok()?;
    let mut table = file.get_ref();
    let mut at = None;
    for part in key.split('.') {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
        at = Some(name.span().start);
        if let toml::de::DeValue::Table(inner) = value.get_ref() {
            table = inner;
        }
    }
    Some(1 + text.get(..at?)?.matches('\n').count())
}

impl Launches {
    /// Kernels of an operation.
    pub fn of(&self, op: &Op) -> u32 {
        match op {
            Op::Embed { .. } => self.embed,
            Op::RmsNorm { .. } => self.rms_norm,
            Op::Linear { .. } => self.linear,
            Op::Rope { .. } => self.rope,
            Op::StoreKv { .. } => self.store_kv,
            Op::Attention { .. } => self.attention,
            Op::Add { .. } => self.add,
            Op::Gated { .. } => self.gated,
            Op::SelectRows { .. } => self.select_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_are_profiles() {
        for (name, _) in SHIPPED {
            assert_eq!(Profile::open(name).unwrap().name, name);
        }
    }

    const CALIBRATION: &str = "[calibration]\nmachine = 'm'\ninstruction_set = 'avx2'\n\
        threads = 0\nrounds = 3\nmodels = ['a']\nrows = []\n[host]";

    #[test]
    fn what_is_wrong_is_named() {
        let (name, text) = SHIPPED[2];
        for (from, to, told) in [
            ("bandwidth = 1.6e12", "bandwidth = -1.6", "memory.bandwidth is -1.6, but it must be"),
            ("pass = 12.37e-3", "pass = -1.0", "host.pass is -1, but it must be a number of"),
            ("gears = [1, 2", "gears = [2, 1", "graphs.gears must be widths from 1"),
            ("gears = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]", "gears = []", "graphs.gears must"),
            ("most = 100", "most = 0", "graphs.most is 0"),
            ("mode = \"graph\"", "mode = \"eager\"", "in mode eager it needs the section launches"),
            ("each = 86e-3", "eech = 86e-3", "unknown field `eech`, expected one of"),
            ("kv_bytes = 2.0", "kv_bytes = nan", "kv_bytes is NaN"),
            ("320e12", "320e12\nattention = 0.0", "arithmetic.attention is 0, but it must be"),
            ("[host]", "[formats]\nQ4_K = -1.0\n[host]", "formats.Q4_K is -1, but it must be"),
            ("[host]", "[unpacking]\ntile = 0\ncomponents = 1.0\n[host]", "unpacking.tile is 0"),
            ("[host]", "[unpacking]\ntile = 5\ncomponents = inf\n[host]", "unpacking.components"),
            ("[host]", CALIBRATION, "threads and calibration.rounds must be at least 1"),
        ] {
            assert!(text.contains(from), "{from}");
            let told_us = Profile::parse(name, &text.replace(from, to)).unwrap_err().to_string();
            assert!(told_us.contains(told) && !told_us.contains('\n'), "{told_us}");
            let line = 1 + text[..text.find(from).unwrap()].matches('\n').count();
            // One of those that were written.
            let mut lines = line..=line + to.matches('\n').count();
            let told_line = lines.any(|line| told_us.contains(&format!("line {line}:")));
            assert!(told_line || told_us.contains(&format!("line {line},")), "{told_us}: {line}");
        }
        let unknown = Profile::open("tpu").unwrap_err().to_string();
        assert!(unknown.contains("'tpu'") && unknown.contains("ascend-910b-eager"), "{unknown}");
        let absent = Profile::open("absent.toml").unwrap_err().to_string();
        assert!(absent.starts_with("the profile absent.toml cannot be read"), "{absent}");
    }
}
