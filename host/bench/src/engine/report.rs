//! What the engine benchmark found, as data (the stable JSON) and as tables.

use aio_engine::device::Device;
use serde::Serialize;

use super::ours::Subject;
use super::{Fitting, Found};
use crate::machine::{Disturbance, Machine};
use crate::peer::llama_bench::Mode;
use crate::stats::Summary;
use crate::table::Table;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct EngineReport {
    /// Name and version of this JSON's form.
    pub schema: &'static str,
    /// What is simulated, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<String>,
    /// Where it was measured.
    pub machine: Machine,
    /// Our device.
    pub device: String,
    /// Threads of the bandwidth measurement and of the peer, and of our device
    /// where it can be told.
    pub threads: usize,
    /// The peer's version, where there was one.
    pub peer_version: Option<String>,
    /// Rounds.
    pub rounds: usize,
    /// Gigabytes a second that the machine read, over the whole run.
    pub bandwidth: Option<Summary>,
    /// Every measurement of it, in order.
    pub bandwidth_samples: Vec<f64>,
    /// Who else used the processors.
    pub disturbance: Disturbance,
    /// The models.
    pub tiers: Vec<TierReport>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// One model's figures.
#[derive(Debug, Clone, Serialize)]
pub struct TierReport {
    /// Its name.
    pub name: String,
    /// Its weights.
    pub parameters: u64,
    /// Bytes of weights that a pass reads, as the file has them.
    pub file_weight_bytes: u64,
    /// Bytes of weights that our device holds.
    pub resident_weight_bytes: u64,
    /// Bytes of KV cache a token, as the device holds it.
    pub kv_bytes_per_token: u32,
    /// Seconds that loading took us.
    pub load_seconds: f64,
    /// Tokens of the prefill.
    pub prefill_tokens: usize,
    /// Tokens a second of the prefill.
    pub prefill: Compared,
    /// Decoding, by context.
    pub decode: Vec<Decode>,
    /// The verify curve, by context.
    pub curves: Vec<Curve>,
    /// Gigabytes a second that the machine read while this model was measured.
    pub bandwidth: Option<Summary>,
}

/// Decoding at one context.
#[derive(Debug, Clone, Serialize)]
pub struct Decode {
    /// Tokens before the first one decoded.
    pub context: usize,
    /// Tokens decoded.
    pub tokens: usize,
    /// Tokens a second.
    pub speed: Compared,
    /// What that reads, by the bytes in the file.
    pub reads_file: Reading,
    /// What that reads, by the bytes that our device holds.
    pub reads_resident: Reading,
}

/// What decoding reads, beside what the machine can read.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Reading {
    /// Bytes a token: weights, and the KV cache of the context.
    pub bytes_per_token: f64,
    /// Gigabytes a second at the measured speed.
    pub gigabytes_per_second: f64,
    /// That as a share of the measured bandwidth.
    pub share_of_bandwidth: f64,
}

impl Reading {
    fn new(bytes: f64, speed: f64, bandwidth: f64) -> Self {
        let gigabytes_per_second = bytes * speed / 1e9;
        let share_of_bandwidth = gigabytes_per_second / bandwidth;
        Self { bytes_per_token: bytes, gigabytes_per_second, share_of_bandwidth }
    }
}

/// What passes cost at one context.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Tokens before the pass.
    pub context: usize,
    /// By rows.
    pub points: Vec<CurvePoint>,
}

/// What a pass of so many rows costs.
#[derive(Debug, Clone, Serialize)]
pub struct CurvePoint {
    /// Rows.
    pub rows: usize,
    /// Milliseconds a pass.
    pub milliseconds: Compared,
    /// Ours over ours with one row, where one row was measured.
    pub ratio_to_one: Option<f64>,
}

/// One quantity, ours and the peer's.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Ours.
    pub ours: Option<Summary>,
    /// Ours, round by round.
    pub samples: Vec<f64>,
    /// The peer's, by mode.
    pub peers: Vec<PeerFigures>,
    /// The name of the peer's better mode, by its median.
    pub best_peer: Option<String>,
    /// How many times as fast as that mode we were, from rounds paired.
    pub speedup: Option<Summary>,
}

/// One quantity in one mode of the peer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerFigures {
    /// The mode.
    pub mode: &'static str,
    /// Its figures.
    pub summary: Option<Summary>,
    /// Round by round.
    pub samples: Vec<f64>,
}

impl Compared {
    /// `speeds`: whether more is better; else the quantity is a time.
    fn new(samples: Vec<f64>, peers: Vec<(Mode, Vec<f64>)>, speeds: bool) -> Self {
        let figures = |(mode, samples): (Mode, Vec<f64>)| PeerFigures {
            mode: mode.name(),
            summary: Summary::of(&samples),
            samples,
        };
        let peers: Vec<PeerFigures> = peers.into_iter().map(figures).collect();
        let better =
            |p: &&PeerFigures| p.summary.map(|s| if speeds { s.median } else { -s.median });
        let best = peers
            .iter()
            .filter(|p| p.summary.is_some())
            .max_by(|a, b| better(a).unwrap_or(f64::NAN).total_cmp(&better(b).unwrap_or(f64::NAN)));
        let ratios = best.map(|best| {
            let pairs = samples.iter().zip(&best.samples);
            pairs.map(|(a, b)| if speeds { a / b } else { b / a }).collect::<Vec<f64>>()
        });
        Self {
            ours: Summary::of(&samples),
            best_peer: best.map(|best| best.mode.to_owned()),
            speedup: ratios.and_then(|ratios| Summary::of(&ratios)),
            samples,
            peers,
        }
    }

    /// Our median; no number where nothing was measured.
    pub fn median(&self) -> f64 {
        self.ours.map_or(f64::NAN, |s| s.median)
    }

    /// The better peer mode's figures.
    pub fn best(&self) -> Option<&PeerFigures> {
        self.peers.iter().find(|p| Some(p.mode) == self.best_peer.as_deref())
    }
}

impl TierReport {
    pub(super) fn new(
        subject: &Subject,
        fitting: &Fitting,
        ours: &[Found],
        theirs: Vec<(Mode, Vec<Found>)>,
        bandwidth: &[f64],
    ) -> Self {
        let compared = |speeds: bool, of: &dyn Fn(&Found) -> f64| {
            let peers = theirs.iter().map(|(mode, found)| (*mode, found.iter().map(of).collect()));
            Compared::new(ours.iter().map(of).collect(), peers.collect(), speeds)
        };
        let tier = &subject.tier;
        let bandwidth = Summary::of(bandwidth);
        let median_bandwidth = bandwidth.map_or(f64::NAN, |s| s.median);
        let (file, resident) = (tier.weight_bytes(), tier.memory().weights);
        let decode = |(i, &context): (usize, &usize)| {
            let speed = compared(true, &|found| found.decode[i]);
            // On average half of the decoded tokens stand in the cache as well.
            let cached = context as f64 + fitting.decode as f64 / 2.0;
            let kv = f64::from(tier.kv_bytes_per_token()) * cached;
            let reads =
                |weights: u64| Reading::new(weights as f64 + kv, speed.median(), median_bandwidth);
            let (reads_file, reads_resident) = (reads(file), reads(resident));
            Decode { context, tokens: fitting.decode, speed, reads_file, reads_resident }
        };
        let curve = |(i, &context): (usize, &usize)| {
            let point = |(j, &rows): (usize, &usize)| CurvePoint {
                rows,
                milliseconds: compared(false, &|found| found.passes[i][j]),
                ratio_to_one: None,
            };
            let mut points: Vec<CurvePoint> = fitting.rows.iter().enumerate().map(point).collect();
            let one = points.iter().find(|p| p.rows == 1).map(|p| p.milliseconds.median());
            for point in &mut points {
                point.ratio_to_one = one.map(|one| point.milliseconds.median() / one);
            }
            Curve { context, points }
        };
        Self {
            name: tier.name().to_owned(),
            parameters: tier.parameters(),
            file_weight_bytes: file,
            resident_weight_bytes: resident,
            kv_bytes_per_token: tier.kv_bytes_per_token(),
            load_seconds: subject.load_seconds,
            prefill_tokens: fitting.prefill,
            prefill: compared(true, &|found| found.prefill),
            decode: fitting.contexts.iter().enumerate().map(decode).collect(),
            curves: fitting.contexts.iter().enumerate().map(curve).collect(),
            bandwidth,
        }
    }
}

impl EngineReport {
    pub(super) fn new(machine: Machine, device: &dyn Device, threads: usize) -> Self {
        Self {
            schema: "aio-bench-engine/1",
            simulated: device.notice(),
            machine,
            device: device.name().to_owned(),
            threads,
            peer_version: None,
            rounds: 0,
            bandwidth: None,
            bandwidth_samples: Vec::new(),
            disturbance: Disturbance::default(),
            tiers: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn add_notes(&mut self, peer: bool) {
        self.bandwidth = Summary::of(&self.bandwidth_samples);
        let mut note = |text: &str| self.notes.push(text.to_owned());
        note(
            "'as held' counts all weights that the device keeps in memory, also those that a token does not read, such as most of an embedding table",
        );
        if peer {
            note(
                "the peer's pass of n rows computes the logits of its last row only, ours those of all n: an advantage for the peer",
            );
            note("the peer is given the better of its modes for each figure; its KV cache is f16");
        }
        self.notes.extend(self.disturbance.notes());
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text =
            self.simulated.iter().map(|notice| format!("{notice}\n")).collect::<String>();
        text += &format!("{}\n", self.machine.line());
        let peer =
            self.peer_version.as_ref().map_or(String::new(), |v| format!(", peer llama.cpp {v}"));
        text += &format!(
            "device {}, {} threads{peer}, {} rounds",
            self.device, self.threads, self.rounds
        );
        if let Some(b) = self.bandwidth {
            text += &format!("; reads {:.1} GB/s (quartiles {:.1} to {:.1})", b.median, b.q1, b.q3);
        }
        text.push('\n');
        for tier in &self.tiers {
            text.push('\n');
            text += &tier.text();
        }
        if !self.notes.is_empty() {
            text += "\nNotes\n";
            self.notes.iter().for_each(|note| text += &format!("  - {note}\n"));
        }
        text
    }
}

impl TierReport {
    fn text(&self) -> String {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let mut text = format!(
            "{}: {:.3} GB of weights a pass in the file, {:.3} GB held; loaded in {:.1} s\n",
            self.name,
            gb(self.file_weight_bytes),
            gb(self.resident_weight_bytes),
            self.load_seconds
        );
        let modes = self.prefill.peers.iter().map(|p| p.mode.to_owned());
        let heads = ["tokens/s", "ours", "quartiles"].map(str::to_owned).into_iter();
        let mut speeds = figures();
        speeds.row(heads.chain(modes).chain(["times as fast".to_owned()]));
        speeds.row(speed_row(&format!("prefill {}", self.prefill_tokens), &self.prefill));
        for decode in &self.decode {
            let what = format!("decode {} at {}", decode.tokens, decode.context);
            speeds.row(speed_row(&what, &decode.speed));
        }
        text += &speeds.text();
        for decode in &self.decode {
            let reads = |r: Reading| {
                format!(
                    "{:.1} GB/s, {:.0} % of the bandwidth",
                    r.gigabytes_per_second,
                    100.0 * r.share_of_bandwidth
                )
            };
            text += &format!(
                "  at {} decoding reads {} (file) or {} (as held)",
                decode.context,
                reads(decode.reads_file),
                reads(decode.reads_resident)
            );
            if let (Some(best), Some(bandwidth)) =
                (decode.speed.best().and_then(|b| b.summary), self.bandwidth)
            {
                let theirs =
                    Reading::new(decode.reads_file.bytes_per_token, best.median, bandwidth.median);
                text += &format!("; the peer {} (file)", reads(theirs));
            }
            text.push('\n');
        }
        for curve in self.curves.iter().filter(|c| !c.points.is_empty()) {
            text += &format!("  ms a pass at context {}, logits of all rows\n", curve.context);
            text += &curve.text();
        }
        text
    }
}

impl Curve {
    fn text(&self) -> String {
        let modes = self.points[0].milliseconds.peers.iter().map(|p| p.mode.to_owned());
        let heads = ["rows", "ours", "quartiles", "to 1 row"].map(str::to_owned).into_iter();
        let mut table = figures();
        table.row(heads.chain(modes).chain(["times as fast".to_owned()]));
        for point in &self.points {
            let mut row = speed_row(&point.rows.to_string(), &point.milliseconds);
            let ratio = point.ratio_to_one.map_or("-".into(), |r| format!("{r:.2}"));
            row.insert(3, ratio);
            table.row(row);
        }
        table.text()
    }
}

/// A table of figures, each row's name before them.
fn figures() -> Table {
    Table::new().right(|column| column > 0).indent(2)
}

fn speed_row(what: &str, compared: &Compared) -> Vec<String> {
    let figure = |s: Option<Summary>| s.map_or("-".into(), |s| format!("{:.1}", s.median));
    let spread = compared.ours.map_or("-".into(), |s| format!("{:.1}-{:.1}", s.q1, s.q3));
    let mut row = vec![what.to_owned(), figure(compared.ours), spread];
    row.extend(compared.peers.iter().map(|p| figure(p.summary)));
    row.push(compared.speedup.map_or("-".into(), |s| format!("{:.2}", s.median)));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_mode_is_the_yardstick_and_rounds_are_paired() {
        let peers = || vec![(Mode::Repacked, vec![10.0, 30.0]), (Mode::AsInFile, vec![5.0, 6.0])];
        let speeds = Compared::new(vec![20.0, 30.0], peers(), true);
        assert_eq!(speeds.best_peer.as_deref(), Some("llama.cpp"));
        assert_eq!(speeds.speedup.unwrap().median, 1.5);
        let times = Compared::new(vec![20.0, 30.0], peers(), false);
        assert_eq!(times.best_peer.as_deref(), Some("llama.cpp --repack 0"));
        assert_eq!(times.speedup.unwrap().max, 0.25);
    }

    #[test]
    fn without_a_peer_nothing_is_compared() {
        let alone = Compared::new(vec![1.0, 3.0], vec![], true);
        assert_eq!((alone.median(), alone.speedup, alone.best_peer), (2.0, None, None));
    }

    #[test]
    fn a_measurement_that_the_peer_lacks_is_left_out() {
        let gap = Compared::new(vec![1.0], vec![(Mode::Repacked, vec![f64::NAN])], true);
        assert!(gap.best().is_none() && gap.speedup.is_none());
    }

    #[test]
    fn reading_is_a_share_of_the_bandwidth() {
        let reading = Reading::new(1e9, 20.0, 40.0);
        assert_eq!((reading.gigabytes_per_second, reading.share_of_bandwidth), (20.0, 0.5));
    }
}
