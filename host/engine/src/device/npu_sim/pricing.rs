//! What a model's passes cost one after the other: which graphs there are by then, and so
//! which are still to be compiled. The simulated device asks it while weights run, and a
//! recorded run can be put through it again without any.

use super::Cost;
use super::cost::{CostModel, Sequence};
use super::profile::Mode;
use crate::clock::Clock;

/// A model on simulated hardware, without its weights. Whatever it is asked to do moves
/// its clock.
#[derive(Debug)]
pub struct Pricing {
    costs: CostModel,
    /// Tokens that every sequence is costed behind.
    document: usize,
    /// Widths of passes, narrow to wide.
    gears: Vec<usize>,
    /// Gears whose graphs there are, the one used last at the end.
    compiled: Vec<usize>,
    /// Whether the model was traced, which only its first graph pays for.
    traced: bool,
    clock: Clock,
}

impl Pricing {
    /// A model of those costs, nothing of it compiled. Passes have the widths that the
    /// hardware's profile compiles, or `gears` where it compiles nothing.
    pub fn new(costs: CostModel, document: usize, gears: &[usize], clock: Clock) -> Self {
        let profile = costs.profile();
        let gears = match (profile.mode, &profile.graphs) {
            (Mode::Graph, Some(graphs)) => graphs.gears.clone(),
            _ => gears.to_vec(),
        };
        Self { costs, document, gears, compiled: Vec::new(), traced: false, clock }
    }

    /// Costs of single passes.
    pub fn costs(&self) -> &CostModel {
        &self.costs
    }

    /// Tokens that every sequence is costed behind.
    pub fn document(&self) -> usize {
        self.document
    }

    /// Widths of passes, narrow to wide.
    pub fn gears(&self) -> &[usize] {
        &self.gears
    }

    /// The smallest gear that holds so many rows.
    pub fn gear(&self, rows: usize) -> Option<usize> {
        self.gears.iter().copied().find(|&gear| gear >= rows)
    }

    /// Whether a gear's graph is there.
    pub fn is_compiled(&self, gear: usize) -> bool {
        self.compiled.contains(&gear)
    }

    /// Seconds that it takes until `gear` is compiled.
    pub fn compile_seconds(&self, gear: usize) -> f64 {
        match self.costs.compiling() {
            Some(_) if self.is_compiled(gear) => 0.0,
            Some(compiling) if self.traced => compiling.further,
            Some(compiling) => compiling.first,
            None => 0.0,
        }
    }

    /// Compiles a gear; returns the seconds that it takes. Where there is no room for
    /// another graph, the one that was not used for longest makes it.
    pub fn compile(&mut self, gear: usize) -> f64 {
        let seconds = self.compile_seconds(gear);
        if !self.is_compiled(gear) {
            while self.compiled.len() >= self.most() {
                self.compiled.remove(0);
            }
            self.compiled.push(gear);
        }
        self.traced = true;
        self.clock.advance(seconds);
        seconds
    }

    /// Graphs that there may be at once.
    fn most(&self) -> usize {
        match (self.costs.profile().mode, &self.costs.profile().graphs) {
            (Mode::Graph, Some(graphs)) => graphs.most,
            _ => usize::MAX,
        }
    }

    /// Reads the document for so many sequences that begin, in as few passes as there can
    /// be, whose graph is taken to be there; returns the seconds that it takes.
    pub fn lead_in(&mut self, beginning: usize) -> f64 {
        if beginning == 0 || self.document == 0 {
            return 0.0;
        }
        let widest = self.gears.last().copied().unwrap_or(1);
        let (mut seconds, mut read) = (0.0, 0);
        while read < self.document {
            let rows = widest.min(self.document - read);
            read += rows;
            seconds += self.costs.pass(widest, &[Sequence { rows, context: read }], 0).seconds;
        }
        seconds *= beginning as f64;
        self.clock.advance(seconds);
        seconds
    }

    /// Runs a pass in a gear that is compiled, with `logits` rows' logits; `sequences` have
    /// the tokens that are really there.
    pub fn pass(&mut self, gear: usize, sequences: &mut [Sequence], logits: usize) -> Cost {
        if let Some(place) = self.compiled.iter().position(|&compiled| compiled == gear) {
            self.compiled[place..].rotate_left(1);
        }
        sequences.iter_mut().for_each(|sequence| sequence.context += self.document);
        let cost = self.costs.pass(gear, sequences, logits);
        self.clock.advance(cost.seconds);
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::npu_sim::{Profile, SHIPPED, published};

    fn pricing(most: usize, document: usize) -> Pricing {
        let (name, text) = SHIPPED[2];
        let text = text.replace("most = 100", &format!("most = {most}"));
        let model = published::model("openpangu-1b").unwrap();
        let profile = Profile::parse(name, &text).unwrap();
        Pricing::new(CostModel::new(profile, &model), document, &[1, 3], Clock::standing())
    }

    #[test]
    fn where_graphs_are_few_the_one_unused_for_longest_goes() {
        let mut pricing = pricing(2, 0);
        assert!(pricing.compile(1) > 1.0);
        assert_eq!(pricing.compile(2), 86e-3);
        assert_eq!((pricing.compile(2), pricing.compile_seconds(1)), (0.0, 0.0));
        pricing.pass(1, &mut [Sequence { rows: 1, context: 5 }], 1);
        pricing.compile(4);
        let compiled: Vec<usize> =
            [1, 2, 4].into_iter().filter(|&g| pricing.is_compiled(g)).collect();
        assert_eq!(compiled, [1, 4]);
    }

    #[test]
    fn a_document_is_read_in_wide_passes_and_seen_by_all() {
        let (mut without, mut with) = (pricing(100, 0), pricing(100, 1000));
        assert_eq!(without.lead_in(2), 0.0);
        let read = with.lead_in(2);
        let chunk =
            |rows, context| with.costs().pass(512, &[Sequence { rows, context }], 0).seconds;
        assert!((read - 2.0 * (chunk(512, 512) + chunk(488, 1000))).abs() < 1e-12);
        let pass = |pricing: &mut Pricing| {
            pricing.pass(1, &mut [Sequence { rows: 1, context: 5 }], 1).kv_bytes
        };
        let per_token = with.costs().kv_bytes_per_token();
        assert_eq!(pass(&mut with) - pass(&mut without), 1000.0 * per_token);
        assert_eq!((with.gear(5), with.gear(1000)), (Some(8), None));
    }
}
