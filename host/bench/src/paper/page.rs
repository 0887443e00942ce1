//! The report as one HTML page that stands alone: tables, and pictures of what deployments
//! bring, how long drafts should be, and where the time goes.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::deployments::{Drafts, LARGE, LARGE_DRAFT, PAPERS_KNOWN, SMALL};
use super::report::{HEADS, PaperReport};
use super::{PROFILES, profile};
use crate::BenchError;
use crate::chart::{Area, Bar, BarChart, LineChart, OURS, PEERS, Series};
use crate::stacked::{Stack, StackedChart};
use crate::svg::Svg;

const TEMPLATE: &str = include_str!("page.html");
const WIDTH: f64 = 960.0;
/// A colour for each profile.
const COLOURS: [&str; 4] = ["#7c3aed", "#1d4ed8", "#0f766e", "#c2410c"];
/// Parts of decoding, and their colours.
const PARTS: [(&str, &str); 5] = [
    ("device", "#0f766e"),
    ("waiting for the host", "#f59e0b"),
    ("synchronisation", "#dc2626"),
    ("padding", "#6b7280"),
    ("drafting by a model", "#7c3aed"),
];

impl PaperReport {
    /// The page.
    ///
    /// # Errors
    /// When the template does not fit the report, which is a mistake in the program.
    pub fn page(&self) -> Result<String, BenchError> {
        let mut environment = Environment::new();
        let wrong = |error: minijinja::Error| {
            BenchError::Request(format!("the page cannot be written: {error}"))
        };
        environment.add_template("page.html", TEMPLATE).map_err(wrong)?;
        let page = environment.get_template("page.html").map_err(wrong)?;
        let sections: Vec<_> = self
            .contexts
            .iter()
            .flat_map(|&context| PROFILES.iter().map(move |name| (context, *name)))
            .map(|(context, name)| {
                let about = profile(name).map_or(String::new(), |profile| profile.about);
                context! { profile => name, context, about, rows => self.rows(name, context) }
            })
            .collect();
        page.render(context! {
            report => Value::from(Serde(self)),
            machine => self.machine.line(),
            deployments => self.deployments(),
            heads => HEADS,
            throughput => self.contexts.iter().map(|&c| self.throughput(c)).collect::<Vec<_>>(),
            lengths => self.lengths(),
            time => self.time(),
            sections,
            paradox => Value::from(Serde(&self.paradox)),
        })
        .map_err(wrong)
    }

    /// The context that is looked at in detail.
    fn near(&self) -> usize {
        self.contexts.first().copied().unwrap_or_default()
    }

    fn rows(&self, profile: &str, context: usize) -> Vec<Value> {
        let row = |cell: &super::Cell| {
            context! {
                name => cell.deployment,
                ours => cell.ours,
                cells => self.figures(cell),
            }
        };
        self.cells_of(profile, context).map(row).collect()
    }

    /// Deployments' speeds on each hardware.
    fn throughput(&self, context: usize) -> String {
        let chart = |name: &&str| {
            let cells = self.cells_of(name, context);
            let bar = |cell: &super::Cell| Bar {
                label: cell.deployment.to_owned(),
                value: cell.tokens_per_second,
                spread: (cell.tokens_per_second, cell.tokens_per_second),
                remark: match cell.published {
                    Some(published) => format!("paper {published:.1}"),
                    None => {
                        self.to_large(cell).map_or(String::new(), |r| format!("{r:.2} x static 7B"))
                    }
                },
                colour: if cell.ours { OURS } else { PEERS[1] },
            };
            let title = format!("{name} at {context} tokens, tokens/s");
            BarChart { title, bars: cells.map(bar).collect() }
        };
        let charts: Vec<BarChart> = PROFILES.iter().map(chart).collect();
        // Two beside each other.
        let (half, height) = (WIDTH / 2.0, charts.iter().map(BarChart::height).fold(0.0, f64::max));
        let mut svg = Svg::new(WIDTH, 2.0 * (height + 20.0));
        for (i, chart) in charts.iter().enumerate() {
            let (x, y) = ((i % 2) as f64 * half + 8.0, (i / 2) as f64 * (height + 20.0) + 8.0);
            chart.draw(&mut svg, Area { x, y, width: half - 16.0, height });
        }
        svg.finish()
    }

    /// What drafts of each length bring on each hardware.
    fn lengths(&self) -> String {
        let chart = |drafts: Drafts, title: &str| {
            let series = PROFILES.iter().zip(COLOURS).enumerate().map(|(i, (name, colour))| {
                let plain = self.cell(name, self.near(), LARGE).map(|c| c.tokens_per_second);
                let of_both =
                    self.sweep.iter().filter(|p| p.profile == *name && p.drafts == drafts);
                let points = of_both.map(|point| {
                    let ratio = point.tokens_per_second / plain.unwrap_or(f64::INFINITY);
                    (f64::from(point.length), ratio)
                });
                let name = name.trim_start_matches("ascend-910b-").to_owned();
                // Where they coincide, one shows on the other.
                Series { name, colour, dashed: i % 2 == 1, points: points.collect() }
            });
            LineChart {
                title: title.to_owned(),
                x_label: "most tokens drafted in a round",
                y_label: "speed to plain decoding",
                series: series.collect(),
            }
        };
        let charts = [
            chart(Drafts::Model, "7B, drafts by the 1B"),
            chart(Drafts::Lookup, "7B, drafts by lookup"),
        ];
        let mut svg = Svg::new(WIDTH, 330.0);
        for (i, chart) in charts.iter().enumerate() {
            let x = i as f64 * WIDTH / 2.0 + 8.0;
            chart.draw(&mut svg, Area { x, y: 8.0, width: WIDTH / 2.0 - 16.0, height: 310.0 });
        }
        svg.finish()
    }

    /// Where the time of a token goes.
    fn time(&self) -> String {
        let chart = |name: &&str| {
            let names = [SMALL, LARGE, LARGE_DRAFT, PAPERS_KNOWN, "aio", "goodput on the 7B"];
            let cells = names.iter().filter_map(|n| self.cell(name, self.near(), n));
            let stack = |cell: &super::Cell| {
                let tokens = (cell.tokens - cell.requests as u64).max(1) as f64;
                let verify = &cell.spent.verify;
                let draft = cell.spent.draft.seconds() - cell.spent.draft.compile_seconds;
                let seconds = [
                    verify.device_seconds,
                    verify.host_seconds,
                    verify.synchronisation_seconds,
                    verify.padding_seconds,
                    draft,
                ];
                Stack {
                    label: cell.deployment.to_owned(),
                    values: seconds.map(|s| 1e3 * s / tokens).into(),
                    remark: format!("{:.1} ms", 1e3 * cell.decode_seconds() / tokens),
                }
            };
            let title = format!("{name} at {} tokens, ms a token", self.near());
            StackedChart { title, parts: PARTS.into(), stacks: cells.map(stack).collect() }
        };
        let charts: Vec<StackedChart> = PROFILES.iter().map(chart).collect();
        let height: f64 = charts.iter().map(|chart| chart.height() + 16.0).sum();
        let mut svg = Svg::new(WIDTH, height + 8.0);
        let mut y = 8.0;
        for chart in &charts {
            let area = Area { x: 8.0, y, width: WIDTH - 16.0, height: chart.height() };
            chart.draw(&mut svg, area);
            y += chart.height() + 16.0;
        }
        svg.finish()
    }
}
