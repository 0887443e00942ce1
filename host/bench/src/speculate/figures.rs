//! What some prompts' answers come to: speeds of each way of decoding, beside
//! plain decoding, the peer's best and the best static setting.

use serde::Serialize;

use super::report::PromptReport;
use super::setting::Setting;
use crate::peer::llama_server::Mode;
use crate::stats::Summary;
use crate::table::Table;

/// Figures of some prompts.
#[derive(Debug, Clone, Serialize)]
pub struct GroupFigures {
    /// The prompt file, or "all".
    pub group: String,
    /// Prompts.
    pub prompts: usize,
    /// Our settings.
    pub ours: Vec<Lane>,
    /// The peer's modes.
    pub peers: Vec<Lane>,
    /// The peer's fastest mode, by its median.
    pub best_peer: Option<String>,
    /// Our fastest static setting in hindsight, by all its tokens in all its time.
    pub best_static: Option<String>,
}

/// One way of decoding over a group's prompts.
#[derive(Debug, Clone, Serialize)]
pub struct Lane {
    /// The setting's or mode's name.
    pub name: String,
    /// Tokens a second.
    pub tokens_per_second: Option<Summary>,
    /// All tokens in all the time that decoding took: what a machine that serves
    /// these prompts gets done.
    pub total_tokens_per_second: Option<f64>,
    /// The total beside that of plain decoding by the same program.
    pub total_to_plain: Option<f64>,
    /// The total beside that of our best static setting; ours only.
    pub total_to_best_static: Option<f64>,
    /// How many times as fast as plain decoding by the same program, prompt by prompt.
    pub to_plain: Option<Summary>,
    /// How many times as fast as the peer's fastest mode, prompt by prompt.
    pub to_best_peer: Option<Summary>,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Answers that differ from those of plain decoding by the same program.
    pub different: usize,
}

/// All tokens in all the time, over prompts where something was decoded.
fn total(
    prompts: &[&PromptReport],
    decoding: impl Fn(&PromptReport) -> Option<(f64, f64)>,
) -> Option<f64> {
    let decoded = prompts.iter().filter_map(|p| decoding(p));
    let (tokens, seconds) = decoded.fold((0.0, 0.0), |sum, d| (sum.0 + d.0, sum.1 + d.1));
    (seconds > 0.0).then(|| tokens / seconds)
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?)
}

impl GroupFigures {
    pub(super) fn new(
        group: &str,
        prompts: &[&PromptReport],
        settings: &[Setting],
        modes: &[Mode],
    ) -> Self {
        let of = |speed: &dyn Fn(&PromptReport) -> Option<f64>| {
            Summary::of(&prompts.iter().filter_map(|p| speed(p)).collect::<Vec<_>>())
        };
        let median = |mode: &&Mode| of(&|p| p.peer_speed(&mode.name)).map_or(0.0, |s| s.median);
        let best =
            modes.iter().max_by(|a, b| median(a).total_cmp(&median(b))).map(|m| m.name.clone());
        let to_best = |p: &PromptReport| best.as_deref().and_then(|best| p.peer_speed(best));
        let our_total = |name: &str| total(prompts, |p| p.our_decoding(name));
        let peer_total = |name: &str| total(prompts, |p| p.peer_decoding(name));
        let speed_of = |setting: &&Setting| our_total(&setting.name).unwrap_or(0.0);
        let statics = settings.iter().filter(|s| s.is_static);
        let best_static = statics
            .max_by(|a, b| speed_of(a).total_cmp(&speed_of(b)))
            .map(|setting| setting.name.as_str());
        let ours = settings.iter().map(|setting| {
            let (name, plain) = (setting.name.as_str(), settings[0].name.as_str());
            let answers = || prompts.iter().flat_map(|p| &p.ours).filter(|a| a.setting == name);
            Lane {
                name: name.to_owned(),
                tokens_per_second: of(&|p| p.our_speed(name)),
                total_tokens_per_second: our_total(name),
                total_to_plain: ratio(our_total(name), our_total(plain)),
                total_to_best_static: ratio(our_total(name), best_static.and_then(&our_total)),
                to_plain: of(&|p| Some(p.our_speed(name)? / p.our_speed(plain)?)),
                to_best_peer: of(&|p| Some(p.our_speed(name)? / to_best(p)?)),
                drafted: answers().map(|a| a.drafted).sum(),
                accepted: answers().map(|a| a.accepted).sum(),
                different: answers().filter(|a| !a.same_as_plain).count(),
            }
        });
        let peers = modes.iter().map(|mode| {
            let (name, plain) = (mode.name.as_str(), modes[0].name.as_str());
            let answers = || prompts.iter().flat_map(|p| &p.peers).filter(|a| a.mode == name);
            Lane {
                name: name.to_owned(),
                tokens_per_second: of(&|p| p.peer_speed(name)),
                total_tokens_per_second: peer_total(name),
                total_to_plain: ratio(peer_total(name), peer_total(plain)),
                total_to_best_static: None,
                to_plain: of(&|p| Some(p.peer_speed(name)? / p.peer_speed(plain)?)),
                to_best_peer: of(&|p| Some(p.peer_speed(name)? / to_best(p)?)),
                drafted: answers().map(|a| a.drafted).sum(),
                accepted: answers().map(|a| a.accepted).sum(),
                different: answers().filter(|a| !a.same_as_plain).count(),
            }
        });
        Self {
            group: group.to_owned(),
            prompts: prompts.len(),
            ours: ours.collect(),
            peers: peers.collect(),
            best_peer: best.clone(),
            best_static: best_static.map(str::to_owned),
        }
    }

    /// "3 prompts".
    pub(super) fn count(&self) -> String {
        match self.prompts {
            1 => "1 prompt".into(),
            n => format!("{n} prompts"),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new().right(|column| column > 0).indent(2);
        table.row([
            "tokens/s",
            "median",
            "quartiles",
            "accepted",
            "of drafted",
            "to plain",
            "to best peer",
            "in all",
            "to plain",
            "to best static",
            "differ",
        ]);
        let peers = self.peers.iter().map(|lane| ("llama.cpp", lane));
        for (who, lane) in self.ours.iter().map(|lane| ("aio", lane)).chain(peers) {
            let median = |s: Option<Summary>| s.map_or("-".into(), |s| format!("{:.2}", s.median));
            let factor = |f: Option<f64>| f.map_or("-".into(), |f| format!("{f:.2}"));
            table.row([
                format!("{who}, {}", lane.name),
                lane.tokens_per_second.map_or("-".into(), |s| format!("{:.1}", s.median)),
                lane.tokens_per_second.map_or("-".into(), |s| format!("{:.1}-{:.1}", s.q1, s.q3)),
                lane.acceptance().map_or("-".into(), |share| format!("{:.0} %", 100.0 * share)),
                lane.drafted.to_string(),
                median(lane.to_plain),
                median(lane.to_best_peer),
                lane.total_tokens_per_second.map_or("-".into(), |t| format!("{t:.1}")),
                factor(lane.total_to_plain),
                factor(lane.total_to_best_static),
                lane.different.to_string(),
            ]);
        }
        let best =
            self.best_peer.as_ref().map_or(String::new(), |b| format!("; best peer mode: {b}"));
        let fixed = self
            .best_static
            .as_ref()
            .map_or(String::new(), |b| format!("; best static setting in all: {b}"));
        let best = best + &fixed;
        format!("{} ({}{best})\n{}", self.group, self.count(), table.text())
    }
}

impl Lane {
    /// The share of drafted tokens that were accepted; nothing where none were drafted.
    pub fn acceptance(&self) -> Option<f64> {
        (self.drafted > 0).then(|| f64::from(self.accepted) / f64::from(self.drafted))
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::SettingAnswer;
    use super::*;
    use crate::peer::llama_server::Answer;
    use crate::prompts::PromptText;

    fn prompt(id: &str, ours: &[f64], peers: &[f64]) -> PromptReport {
        let text = PromptText { group: "g".into(), id: id.into(), text: String::new() };
        let mut report = PromptReport::new(&text);
        for (setting, &speed) in Setting::statics(false).iter().zip(ours) {
            report.ours.push(SettingAnswer {
                setting: setting.name.clone(),
                tokens: 10,
                rounds: 9,
                drafted: 4,
                accepted: 3,
                decode_seconds: 1.0,
                tokens_per_second: Some(speed),
                same_as_plain: true,
            });
        }
        let answer = |speed: f64| Answer {
            text: format!("{speed}"),
            tokens: 10,
            tokens_per_second: speed,
            drafted: 0,
            accepted: 0,
            prompt_tokens: 5,
        };
        let modes = Mode::all(false);
        modes.iter().zip(peers).for_each(|(mode, &speed)| report.add_peer(mode, &answer(speed)));
        report
    }

    #[test]
    fn ratios_are_medians_of_ratios_of_prompts() {
        let prompts = [
            prompt("a", &[10.0, 20.0, 5.0], &[10.0, 10.0, 40.0, 1.0]),
            prompt("b", &[10.0, 40.0, 5.0], &[10.0, 20.0, 80.0, 1.0]),
        ];
        let all: Vec<&PromptReport> = prompts.iter().collect();
        let figures = GroupFigures::new("g", &all, &Setting::statics(false), &Mode::all(false));
        assert_eq!(figures.best_peer.as_deref(), Some("ngram-simple 12/48"));
        assert_eq!(figures.ours[1].to_plain.unwrap().median, 3.0);
        assert_eq!(figures.ours[1].to_best_peer.unwrap().median, 0.5);
        assert_eq!(figures.peers[2].to_plain.unwrap().median, 6.0);
        assert_eq!(figures.peers[0].different, 0);
        assert_eq!(figures.peers[2].different, 2);
        assert_eq!(figures.ours[1].acceptance(), Some(0.75));
        assert!(figures.text().contains("best peer mode: ngram-simple 12/48"));
    }

    #[test]
    fn without_a_peer_nothing_is_compared() {
        let prompts = [prompt("a", &[10.0, 20.0, 5.0], &[])];
        let all: Vec<&PromptReport> = prompts.iter().collect();
        let figures = GroupFigures::new("g", &all, &Setting::statics(false), &[]);
        assert_eq!((figures.best_peer, figures.ours[0].to_best_peer), (None, None));
    }
}
