//! Two kinds of chart: lines over logarithmic axes, and horizontal bars. Each
//! draws itself into a given rectangle of a picture.

use crate::svg::{Anchor, Svg, TextStyle};

/// Our colour.
pub const OURS: &str = "#c2410c";
/// The peer's colours, from its default mode on.
pub const PEERS: [&str; 2] = ["#1d4ed8", "#60a5fa"];
/// Ink of titles.
pub const INK: &str = "#111827";
/// Ink of labels.
pub const FAINT: &str = "#4b5563";
const GRID: &str = "#e5e7eb";
const AXIS: &str = "#9ca3af";

/// A rectangle of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Its colour.
    pub colour: &'static str,
    /// Whether it is dashed.
    pub dashed: bool,
    /// Points, all above 0, in order of x.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a base-2 logarithmic x axis and a logarithmic y axis, on which a
/// line that doubles its cost with its rows has the same slope everywhere.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// Above it.
    pub title: String,
    /// Below the x axis.
    pub x_label: &'static str,
    /// Beside the y axis.
    pub y_label: &'static str,
    /// The lines.
    pub series: Vec<Series>,
}

impl LineChart {
    /// Draws the chart into `area`.
    pub fn draw(&self, svg: &mut Svg, area: Area) {
        title(svg, area, &self.title);
        let points = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let plot = Area {
            x: area.x + 58.0,
            y: area.y + 48.0,
            width: area.width - 70.0,
            height: area.height - 92.0,
        };
        let bounds = |values: Vec<f64>| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            (low.is_finite() && low > 0.0).then_some((low, high))
        };
        let x_bounds = bounds(points().map(|p| p.0).collect());
        let y_bounds = bounds(points().map(|p| p.1).collect());
        let (Some((x_low, x_high)), Some((y_low, y_high))) = (x_bounds, y_bounds) else {
            let at = (area.x + area.width / 2.0, area.y + area.height / 2.0);
            svg.text(
                at,
                "nothing was measured",
                TextStyle::new(12.0, FAINT).anchor(Anchor::Middle),
            );
            return;
        };
        let ticks = y_ticks(y_low, y_high);
        let (bottom, top) = (ticks[0].min(y_low), ticks[ticks.len() - 1].max(y_high));
        let x_span = (x_high / x_low).log2().max(1e-9);
        let y_span = (top / bottom).log2().max(1e-9);
        let x = |v: f64| plot.x + plot.width * (v / x_low).log2() / x_span;
        let y = |v: f64| plot.y + plot.height * (1.0 - (v / bottom).log2() / y_span);
        let label = TextStyle::new(11.0, FAINT);
        for &tick in &ticks {
            svg.line((plot.x, y(tick)), (plot.x + plot.width, y(tick)), GRID, 1.0);
            svg.text((plot.x - 6.0, y(tick) + 4.0), &number(tick), label.anchor(Anchor::End));
        }
        let mut labelled = f64::NEG_INFINITY;
        let mut xs: Vec<f64> = points().map(|p| p.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let floor = plot.y + plot.height;
        for &tick in &xs {
            svg.line((x(tick), floor), (x(tick), floor + 4.0), AXIS, 1.0);
            // Labels that would touch are left out; the marks stay.
            if x(tick) - labelled >= 18.0 {
                svg.text((x(tick), floor + 17.0), &number(tick), label.anchor(Anchor::Middle));
                labelled = x(tick);
            }
        }
        svg.line((plot.x, floor), (plot.x + plot.width, floor), AXIS, 1.0);
        let middle = (plot.x + plot.width / 2.0, floor + 36.0);
        svg.text(middle, self.x_label, label.anchor(Anchor::Middle));
        let side = (area.x + 14.0, plot.y + plot.height / 2.0);
        svg.text_upwards(side, self.y_label, label.anchor(Anchor::Middle));
        // The first on top of all; the others in order, so that a dashed line shows
        // on a solid one where the two coincide.
        for series in self.series.iter().skip(1).chain(self.series.first()) {
            let points: Vec<_> = series.points.iter().map(|&(a, b)| (x(a), y(b))).collect();
            svg.polyline(&points, series.colour, 2.0, series.dashed);
            points.iter().for_each(|&point| svg.circle(point, 2.6, series.colour));
        }
        self.legend(svg, (area.x + 58.0, area.y + 34.0));
    }

    fn legend(&self, svg: &mut Svg, at: (f64, f64)) {
        let mut x = at.0;
        for series in &self.series {
            svg.polyline(
                &[(x, at.1 - 4.0), (x + 18.0, at.1 - 4.0)],
                series.colour,
                2.0,
                series.dashed,
            );
            svg.text((x + 23.0, at.1), &series.name, TextStyle::new(11.0, FAINT));
            x += 40.0 + 6.2 * series.name.chars().count() as f64;
        }
    }
}

/// A bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it shows.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The quartiles, drawn as a whisker.
    pub spread: (f64, f64),
    /// Behind its end, for example a share.
    pub remark: String,
    /// Its colour.
    pub colour: &'static str,
}

/// Horizontal bars from 0, one below the other.
#[derive(Debug, Clone)]
pub struct BarChart {
    /// Above it.
    pub title: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// Height of a bar with the space around it.
const BAR_PITCH: f64 = 26.0;

impl BarChart {
    /// How high it draws itself.
    pub fn height(&self) -> f64 {
        34.0 + BAR_PITCH * self.bars.len() as f64
    }

    /// Draws the chart into `area`, whose height should be [`BarChart::height`].
    pub fn draw(&self, svg: &mut Svg, area: Area) {
        title(svg, area, &self.title);
        let longest = |f: fn(&Bar) -> usize| self.bars.iter().map(f).max().unwrap_or(0) as f64;
        let left = area.x + 12.0 + 6.4 * longest(|b| b.label.chars().count());
        let beyond = 58.0 + 6.0 * longest(|b| b.remark.chars().count());
        let room = (area.x + area.width - left - beyond).max(40.0);
        let most = self.bars.iter().map(|b| b.value.max(b.spread.1)).fold(0.0, f64::max).max(1e-9);
        let x = |v: f64| left + room * v.clamp(0.0, most) / most;
        for (i, bar) in self.bars.iter().enumerate() {
            let y = area.y + 30.0 + BAR_PITCH * i as f64;
            let style = TextStyle::new(11.5, FAINT);
            svg.text((left - 8.0, y + 13.0), &bar.label, style.anchor(Anchor::End));
            svg.rect((left, y), (x(bar.value) - left, 18.0), bar.colour);
            let (low, high) = (x(bar.spread.0), x(bar.spread.1));
            if high - low > 1.0 {
                svg.line((low, y + 9.0), (high, y + 9.0), INK, 1.0);
                svg.line((low, y + 6.0), (low, y + 12.0), INK, 1.0);
                svg.line((high, y + 6.0), (high, y + 12.0), INK, 1.0);
            }
            let end = x(bar.value).max(high) + 7.0;
            let figure = number(bar.value);
            svg.text((end, y + 13.5), &figure, TextStyle::new(12.0, INK).bold());
            let behind = end + 10.0 + 7.2 * figure.chars().count() as f64;
            svg.text((behind, y + 13.5), &bar.remark, style);
        }
        let base = area.y + 26.0;
        let height = BAR_PITCH * self.bars.len() as f64;
        svg.line((left, base), (left, base + height), AXIS, 1.0);
    }
}

fn title(svg: &mut Svg, area: Area, title: &str) {
    svg.text((area.x, area.y + 12.0), title, TextStyle::new(13.5, INK).bold());
}

/// 1, 2 and 5 times powers of ten, so that at least two stand between or around the bounds.
fn y_ticks(low: f64, high: f64) -> Vec<f64> {
    let steps = |exponent: i32| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(exponent));
    let first = low.log10().floor() as i32;
    let last = high.log10().floor() as i32 + 1;
    let all: Vec<f64> = (first..=last).flat_map(steps).collect();
    let from = all.iter().rposition(|&tick| tick <= low * 1.0001).unwrap_or(0);
    let to = all.iter().position(|&tick| tick >= high * 0.9999).unwrap_or(all.len() - 1);
    let to = to.max(from + 1).min(all.len() - 1);
    all[from..=to].to_vec()
}

/// A number as a chart shows it: three digits, no more.
fn number(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 || v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::assert_well_formed;

    const AREA: Area = Area { x: 10.0, y: 10.0, width: 400.0, height: 300.0 };

    fn lines(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a<b".into(), colour: OURS, dashed: false, points }];
        let chart = LineChart { title: "curve".into(), x_label: "rows", y_label: "ms", series };
        let mut svg = Svg::new(420.0, 320.0);
        chart.draw(&mut svg, AREA);
        svg.finish()
    }

    #[test]
    fn a_line_has_a_mark_for_each_point() {
        let svg = lines(vec![(1.0, 20.0), (2.0, 21.0), (64.0, 580.0)]);
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn charts_of_little_or_nothing_are_well_formed() {
        assert_well_formed(&lines(vec![(4.0, 7.0)]));
        let empty = lines(vec![]);
        assert_well_formed(&empty);
        assert!(empty.contains("nothing was measured"));
    }

    #[test]
    fn the_longest_bar_fills_the_room_and_others_in_proportion() {
        let bar = |value: f64| Bar {
            label: "x".into(),
            value,
            spread: (value, value),
            remark: String::new(),
            colour: OURS,
        };
        let chart = BarChart { title: "bars".into(), bars: vec![bar(10.0), bar(5.0)] };
        let mut svg = Svg::new(420.0, 320.0);
        chart.draw(&mut svg, Area { height: chart.height(), ..AREA });
        let svg = svg.finish();
        assert_well_formed(&svg);
        let widths: Vec<f64> = svg
            .lines()
            .filter(|l| l.contains(OURS))
            .filter_map(|l| l.split_once("width=\"")?.1.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 2);
        assert!((widths[0] - 2.0 * widths[1]).abs() < 0.2, "{widths:?}");
    }

    #[test]
    fn ticks_enclose_the_values() {
        assert_eq!(y_ticks(20.5, 350.0), [20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(y_ticks(7.0, 7.0), [5.0, 10.0]);
    }
}
