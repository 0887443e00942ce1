//! The engine benchmark as pictures: one for each model.

use super::report::{Compared, Curve, EngineReport, TierReport};
use crate::chart::{Area, Bar, BarChart, FAINT, INK, LineChart, OURS, PEERS, Series};
use crate::stats::Summary;
use crate::svg::{Svg, TextStyle};

const MARGIN: f64 = 24.0;
const PANEL_WIDTH: f64 = 470.0;
const GAP: f64 = 28.0;
const CURVE_HEIGHT: f64 = 340.0;
const HEAD: f64 = 70.0;
const FOOT: f64 = 46.0;

impl EngineReport {
    /// One picture a model, with the model's name.
    pub fn plots(&self) -> Vec<(String, String)> {
        self.tiers.iter().map(|tier| (tier.name.clone(), self.plot(tier))).collect()
    }

    fn plot(&self, tier: &TierReport) -> String {
        let curves: Vec<&Curve> = tier.curves.iter().filter(|c| !c.points.is_empty()).collect();
        let bars = self.bars(tier);
        // Two panels a row, curves and bars in rows of their own; each row is as
        // high as its higher panel.
        let curve_rows = curves.chunks(2).map(|_| CURVE_HEIGHT);
        let highest = |row: &[BarChart]| row.iter().map(BarChart::height).fold(0.0, f64::max);
        let rows: Vec<f64> = curve_rows.chain(bars.chunks(2).map(highest)).collect();
        let width = 2.0 * MARGIN + 2.0 * PANEL_WIDTH + GAP;
        let height = HEAD + rows.iter().map(|row| row + GAP).sum::<f64>() + FOOT;
        let mut svg = Svg::new(width, height);
        let title = format!("{}: what a pass costs", tier.name);
        svg.text((MARGIN, 32.0), &title, TextStyle::new(19.0, INK).bold());
        svg.text((MARGIN, 52.0), &self.subtitle(), TextStyle::new(12.0, FAINT));
        let area = |row: usize, column: usize| Area {
            x: MARGIN + column as f64 * (PANEL_WIDTH + GAP),
            y: HEAD + 8.0 + rows[..row].iter().map(|height| height + GAP).sum::<f64>(),
            width: PANEL_WIDTH,
            height: rows[row],
        };
        for (i, curve) in curves.iter().enumerate() {
            line_chart(curve).draw(&mut svg, area(i / 2, i % 2));
        }
        for (i, chart) in bars.iter().enumerate() {
            chart.draw(&mut svg, area(curves.len().div_ceil(2) + i / 2, i % 2));
        }
        let style = TextStyle::new(10.5, FAINT);
        svg.text((MARGIN, height - 28.0), &self.machine.line(), style);
        let how = "Medians and quartiles over rounds that alternate between ours and the \
                   peer's. The peer computes the logits of a pass's last row only, ours of all rows.";
        svg.text((MARGIN, height - 12.0), how, style);
        svg.finish()
    }

    fn subtitle(&self) -> String {
        let peer =
            self.peer_version.as_ref().map_or(String::new(), |v| format!(" beside llama.cpp {v}"));
        let reads = self
            .bandwidth
            .map_or(String::new(), |b| format!(", memory reads {:.0} GB/s", b.median));
        format!(
            "aio, {} device{peer}, {} threads, {} rounds{reads}",
            self.device, self.threads, self.rounds
        )
    }

    fn bars(&self, tier: &TierReport) -> Vec<BarChart> {
        let decode = tier.decode.iter().map(|decode| {
            let bandwidth = tier.bandwidth.map_or(f64::NAN, |b| b.median);
            let share = |speed: f64| {
                let share = decode.reads_file.bytes_per_token * speed / 1e9 / bandwidth;
                format!("{:.0} % of the bandwidth", 100.0 * share)
            };
            BarChart {
                title: format!("Decoding at context {}, tokens/s", decode.context),
                bars: self.compared_bars(&decode.speed, &share),
            }
        });
        let prefill = BarChart {
            title: format!("Prefill of {} tokens, tokens/s", tier.prefill_tokens),
            bars: self.compared_bars(&tier.prefill, &|_| String::new()),
        };
        decode.chain([prefill]).collect()
    }

    fn compared_bars(&self, compared: &Compared, remark: &dyn Fn(f64) -> String) -> Vec<Bar> {
        let bar = |label: &str, colour, summary: Option<Summary>| {
            summary.map(|s| Bar {
                label: label.to_owned(),
                value: s.median,
                spread: (s.q1, s.q3),
                remark: remark(s.median),
                colour,
            })
        };
        let ours = bar(&format!("aio {}", self.device), OURS, compared.ours);
        let peers =
            compared.peers.iter().zip(PEERS).map(|(p, colour)| bar(p.mode, colour, p.summary));
        ours.into_iter().chain(peers.flatten()).collect()
    }
}

fn line_chart(curve: &Curve) -> LineChart {
    let modes = curve.points[0].milliseconds.peers.iter().map(|p| p.mode);
    let of = |pick: &dyn Fn(&Compared) -> Option<Summary>| {
        let point = |p: &super::CurvePoint| Some((p.rows as f64, pick(&p.milliseconds)?.median));
        curve.points.iter().filter_map(point).collect::<Vec<_>>()
    };
    let mut series =
        vec![Series { name: "aio".into(), colour: OURS, dashed: false, points: of(&|c| c.ours) }];
    for (i, (mode, colour)) in modes.zip(PEERS).enumerate() {
        let points = of(&|c| c.peers.get(i)?.summary);
        series.push(Series { name: mode.to_owned(), colour, dashed: i > 0, points });
    }
    LineChart {
        title: format!("A pass of n rows at context {}", curve.context),
        x_label: "rows a pass (log scale)",
        y_label: "milliseconds (log scale)",
        series,
    }
}
