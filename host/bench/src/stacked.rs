//! Stacked bars: what something consists of, one bar below the other, over one scale.

use crate::chart::{Area, FAINT, INK};
use crate::svg::{Anchor, Svg, TextStyle};

/// What one bar consists of.
#[derive(Debug, Clone)]
pub struct Stack {
    /// What it shows.
    pub label: String,
    /// Its parts, in the order of [`StackedChart::parts`].
    pub values: Vec<f64>,
    /// Behind its end.
    pub remark: String,
}

/// Bars that consist of the same parts.
#[derive(Debug, Clone)]
pub struct StackedChart {
    /// Above it.
    pub title: String,
    /// Names and colours of the parts.
    pub parts: Vec<(&'static str, &'static str)>,
    /// The bars.
    pub stacks: Vec<Stack>,
}

/// Height of a bar with the space around it.
const PITCH: f64 = 24.0;

impl StackedChart {
    /// How high it draws itself.
    pub fn height(&self) -> f64 {
        58.0 + PITCH * self.stacks.len() as f64
    }

    /// Draws the chart into `area`, whose height should be [`StackedChart::height`].
    pub fn draw(&self, svg: &mut Svg, area: Area) {
        svg.text((area.x, area.y + 12.0), &self.title, TextStyle::new(13.5, INK).bold());
        let mut x = area.x;
        for (name, colour) in &self.parts {
            svg.rect((x, area.y + 24.0), (11.0, 11.0), colour);
            svg.text((x + 16.0, area.y + 33.5), name, TextStyle::new(11.0, FAINT));
            x += 34.0 + 6.2 * name.chars().count() as f64;
        }
        let longest =
            |of: fn(&Stack) -> usize| self.stacks.iter().map(of).max().unwrap_or(0) as f64;
        let left = area.x + 12.0 + 6.4 * longest(|s| s.label.chars().count());
        let beyond = 20.0 + 6.4 * longest(|s| s.remark.chars().count());
        let room = (area.x + area.width - left - beyond).max(40.0);
        let total = |stack: &Stack| stack.values.iter().sum::<f64>();
        let most = self.stacks.iter().map(total).fold(0.0, f64::max).max(1e-12);
        for (i, stack) in self.stacks.iter().enumerate() {
            let y = area.y + 50.0 + PITCH * i as f64;
            let style = TextStyle::new(11.5, FAINT);
            svg.text((left - 8.0, y + 12.5), &stack.label, style.anchor(Anchor::End));
            let mut x = left;
            for (value, (_, colour)) in stack.values.iter().zip(&self.parts) {
                let width = room * value.max(0.0) / most;
                if width > 0.05 {
                    svg.rect((x, y), (width, 17.0), colour);
                }
                x += width;
            }
            svg.text((x + 7.0, y + 13.0), &stack.remark, TextStyle::new(11.5, INK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::assert_well_formed;

    #[test]
    fn parts_stand_behind_each_other_in_proportion() {
        let stack = |values: [f64; 2]| Stack {
            label: "a<b".into(),
            values: values.into(),
            remark: "1 s".into(),
        };
        let chart = StackedChart {
            title: "time".into(),
            parts: vec![("reading", "#111111"), ("waiting", "#222222")],
            stacks: vec![stack([3.0, 1.0]), stack([1.0, 0.0])],
        };
        let mut svg = Svg::new(500.0, chart.height());
        chart.draw(&mut svg, Area { x: 0.0, y: 0.0, width: 500.0, height: chart.height() });
        let svg = svg.finish();
        assert_well_formed(&svg);
        let widths = |colour: &str| -> Vec<f64> {
            let bars = svg.lines().filter(|l| l.contains(colour) && l.contains("height=\"17.0\""));
            bars.filter_map(|l| l.split_once(" width=\"")?.1.split('"').next()?.parse().ok())
                .collect()
        };
        let (read, waited) = (widths("#111111"), widths("#222222"));
        assert_eq!((read.len(), waited.len()), (2, 1), "a part of nothing is not drawn");
        assert!((read[0] - 3.0 * waited[0]).abs() < 0.4 && (read[1] - waited[0]).abs() < 0.4);
    }
}
