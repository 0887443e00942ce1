//! The load benchmark as a picture: what users see, by level of load.

use super::report::{LevelReport, ServeReport};
use super::{Level, TargetFigures};
use crate::chart::{Area, FAINT, INK, LineChart, OURS, PEERS, Series};
use crate::svg::{Svg, TextStyle};

const MARGIN: f64 = 24.0;
const PANEL: (f64, f64) = (470.0, 330.0);
const GAP: f64 = 28.0;
const HEAD: f64 = 78.0;
const FOOT: f64 = 46.0;
/// Colours of servers, the first one's first.
const COLOURS: [&str; 5] = [OURS, PEERS[0], "#15803d", "#7e22ce", PEERS[1]];

/// A figure of a server at a level.
type Pick = fn(&TargetFigures) -> Option<f64>;

impl ServeReport {
    /// The picture.
    pub fn plot(&self) -> String {
        let width = 2.0 * MARGIN + 2.0 * PANEL.0 + GAP;
        let height = HEAD + 2.0 * (PANEL.1 + GAP) + FOOT;
        let mut svg = Svg::new(width, height);
        let names: Vec<_> = self.targets.iter().map(|target| target.name.as_str()).collect();
        let title = format!("{}: answers under load", names.join(", "));
        svg.text((MARGIN, 32.0), &title, TextStyle::new(19.0, INK).bold());
        svg.text((MARGIN, 52.0), &self.subtitle(), TextStyle::new(12.0, FAINT));
        for (i, chart) in self.charts().iter().enumerate() {
            let x = MARGIN + (i % 2) as f64 * (PANEL.0 + GAP);
            let y = HEAD + (i / 2) as f64 * (PANEL.1 + GAP);
            chart.draw(&mut svg, Area { x, y, width: PANEL.0, height: PANEL.1 });
        }
        let style = TextStyle::new(10.5, FAINT);
        svg.text((MARGIN, height - 28.0), &self.machine.line(), style);
        let how = "Solid: medians over answers. Dashed: what 95 of 100 answers stay below.";
        svg.text((MARGIN, height - 12.0), how, style);
        svg.finish()
    }

    fn subtitle(&self) -> String {
        let models: Vec<_> = self.targets.iter().map(|target| target.model.as_str()).collect();
        format!("{}; {} rounds; seed {}", models.join(", "), self.rounds, self.asked.seed)
    }

    fn charts(&self) -> [LineChart; 4] {
        let chart = |title: &str, y_label, picks: &[Pick]| LineChart {
            title: title.to_owned(),
            x_label: x_label(&self.levels),
            y_label,
            series: self.series(picks),
        };
        let ms = "milliseconds (log scale)";
        [
            chart(
                "Time to the first token",
                ms,
                &[|f| f.ttft_ms.map(|p| p.p50), |f| f.ttft_ms.map(|p| p.p95)],
            ),
            chart(
                "Time per output token",
                ms,
                &[|f| f.tpot_ms.map(|p| p.p50), |f| f.tpot_ms.map(|p| p.p95)],
            ),
            chart(
                "Tokens a second, all answers",
                "tokens/s (log scale)",
                &[|f| Some(f.tokens_per_second)],
            ),
            chart(
                "Time to the end of an answer",
                ms,
                &[|f| f.latency_ms.map(|p| p.p50), |f| f.latency_ms.map(|p| p.p95)],
            ),
        ]
    }

    /// The lines of each server: the first figure solid, the other one dashed.
    fn series(&self, picks: &[Pick]) -> Vec<Series> {
        let mut all = Vec::new();
        for (place, target) in self.targets.iter().enumerate() {
            for (i, pick) in picks.iter().enumerate() {
                let point = |level: &LevelReport| {
                    let value = pick(level.targets.get(place)?)?;
                    // What is 0 has no place on a logarithmic axis.
                    (value > 0.0).then_some((level.level.value(), value))
                };
                let mut points: Vec<_> = self.levels.iter().filter_map(point).collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                let name =
                    if i == 0 { target.name.clone() } else { format!("{} p95", target.name) };
                let colour = COLOURS[place % COLOURS.len()];
                all.push(Series { name, colour, dashed: i > 0, points });
            }
        }
        all
    }
}

fn x_label(levels: &[LevelReport]) -> &'static str {
    match levels.first().map(|level| level.level) {
        Some(Level::Rate(_)) => "requests a second (log scale)",
        Some(Level::Speed(_)) => "times as fast as the trace (log scale)",
        _ => "clients (log scale)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::prompts::PromptText;
    use crate::serve::client::Identity;
    use crate::serve::drive::Run;
    use crate::serve::options::{Target, tests::options};
    use crate::serve::workload::Workload;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn a_picture_is_well_formed_even_where_nothing_was_answered() {
        let options = options();
        let (group, id, text) = ("g".into(), "1".into(), "?".into());
        let workload = Workload::new(&options, vec![PromptText { group, id, text }], Vec::new());
        let mut report = ServeReport::new(Machine::here(), &options, None, &workload);
        assert_well_formed(&report.plot());
        for name in ["a<b", "\"c\" & d"] {
            let target = Target::parse(&format!("{name}=http://a")).unwrap();
            let identity = Identity { server: None, models: Vec::new() };
            report.add_target(&target, "<model>", identity);
        }
        let run = || vec![Run { wall: std::time::Duration::ZERO, samples: Vec::new() }];
        report.add_level(Level::Rate(2.0), &[run(), run()]);
        report.finish(0, &workload);
        assert_well_formed(&report.plot());
        assert_eq!(report.silent(), ["a<b", "\"c\" & d"]);
        assert!(report.text().contains("2 requests/s"));
    }
}
