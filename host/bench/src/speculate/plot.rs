//! The drafting benchmark as a picture: bars for each prompt file.

use super::figures::{GroupFigures, Lane};
use super::report::SpeculateReport;
use crate::chart::{Area, Bar, BarChart, FAINT, INK, OURS, PEERS};
use crate::svg::{Svg, TextStyle};

const MARGIN: f64 = 24.0;
const WIDTH: f64 = 1000.0;
const GAP: f64 = 26.0;
const HEAD: f64 = 78.0;
const FOOT: f64 = 46.0;

impl SpeculateReport {
    /// The picture.
    pub fn plot(&self) -> String {
        let charts: Vec<BarChart> = self.groups.iter().map(chart).collect();
        let height = HEAD + charts.iter().map(|c| c.height() + GAP).sum::<f64>() + FOOT;
        let mut svg = Svg::new(WIDTH, height);
        let title = format!("{}: decoding with drafts, tokens/s", self.target);
        svg.text((MARGIN, 32.0), &title, TextStyle::new(19.0, INK).bold());
        svg.text((MARGIN, 52.0), &self.subtitle(), TextStyle::new(12.0, FAINT));
        let mut y = HEAD;
        for chart in &charts {
            let area = Area { x: MARGIN, y, width: WIDTH - 2.0 * MARGIN, height: chart.height() };
            chart.draw(&mut svg, area);
            y += chart.height() + GAP;
        }
        let style = TextStyle::new(10.5, FAINT);
        svg.text((MARGIN, height - 28.0), &self.machine.line(), style);
        let how = "Medians and quartiles over prompts. Greedy; decoding alone, without prompts.";
        svg.text((MARGIN, height - 12.0), how, style);
        svg.finish()
    }

    fn subtitle(&self) -> String {
        let draft = self.draft.as_ref().map_or(String::new(), |d| format!(", draft model {d}"));
        let peer =
            self.peer_version.as_ref().map_or(String::new(), |v| format!(" beside llama.cpp {v}"));
        format!(
            "aio, {} device{draft}{peer}, {} threads, up to {} tokens",
            self.device, self.threads, self.max_tokens
        )
    }
}

fn chart(group: &GroupFigures) -> BarChart {
    let bar = |who: &str, colour: &'static str, lane: &Lane| {
        let speed = lane.tokens_per_second?;
        let accepted = lane.acceptance().map(|share| format!(", {:.0} % accepted", 100.0 * share));
        let ratio = lane.to_plain.map_or(String::new(), |s| format!("{:.2} x plain", s.median));
        Some(Bar {
            label: format!("{who}, {}", lane.name),
            value: speed.median,
            spread: (speed.q1, speed.q3),
            remark: ratio + &accepted.unwrap_or_default(),
            colour,
        })
    };
    let ours = group.ours.iter().map(|lane| bar("aio", OURS, lane));
    let peers = group.peers.iter().map(|lane| bar("llama.cpp", PEERS[0], lane));
    BarChart {
        title: format!("{} ({})", group.group, group.count()),
        bars: ours.chain(peers).flatten().collect(),
    }
}
