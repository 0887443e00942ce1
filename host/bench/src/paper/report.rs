//! The paper's table and ours, as data (the stable JSON) and as tables.

use std::collections::BTreeMap;

use aio_serve::TierSource;
use serde::Serialize;

use super::deployments::{Deployment, LARGE};
use super::figures::{Cell, Paradox, SweepPoint};
use super::{COSTED, Kind, PROFILES, PaperOptions, PaperPrompt, ROOM, profile};
use crate::machine::Machine;
use crate::table::Table;

/// What stands in the columns of a table of cells.
pub(super) const HEADS: [&str; 14] = [
    "tokens/s",
    "paper",
    "difference",
    "to 7B",
    "in all",
    "first token s",
    "GB/token",
    "by 1B",
    "accepted",
    "compile s",
    "host",
    "syncs",
    "padding",
    "drafting",
];

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct PaperReport {
    /// Name and version of this JSON's form.
    pub schema: &'static str,
    /// What is simulated about it.
    pub simulated: String,
    /// Where the tokens were computed.
    pub machine: Machine,
    /// The models that act, small to large.
    pub acting: [String; 2],
    /// Those that are costed in their place.
    pub costed: [&'static str; 2],
    /// Where the prompts are from.
    pub prompts: String,
    /// How many there are of each kind.
    pub kinds: BTreeMap<Kind, usize>,
    /// Tokens of context that prompts stand at the end of.
    pub contexts: Vec<usize>,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Answers that were not what the same model said to the same prompt before: must be 0.
    pub mismatches: usize,
    /// Every deployment on every hardware at every context.
    pub cells: Vec<Cell>,
    /// What steps cost.
    pub paradox: Vec<Paradox>,
    /// Drafts of several lengths, at the shorter context.
    pub sweep: Vec<SweepPoint>,
    /// Why figures are what they are, and not the paper's.
    pub explanations: Vec<String>,
    /// What a reader must know to judge them.
    pub notes: Vec<String>,
}

impl PaperReport {
    pub(super) fn new(
        models: &[TierSource; 2],
        from: String,
        options: &PaperOptions,
        prompts: &[PaperPrompt],
    ) -> Self {
        let acting = [0, 1].map(|i| models[i].name.clone());
        let mut kinds = BTreeMap::new();
        prompts.iter().for_each(|prompt| *kinds.entry(prompt.kind).or_default() += 1);
        let notes = vec![
            "times are those of a cost model, which `aio device check` holds against published \
             measurements; no figure here was measured on a chip"
                .to_owned(),
            format!(
                "tokens are those of {} and {}; how often drafts are accepted is theirs, and that \
                 of {} and {} may be other",
                acting[0], acting[1], COSTED[0], COSTED[1]
            ),
            format!(
                "a prompt stands at the end of its context: all but {ROOM} tokens of it are a \
                 document that is costed and not there, read anew for every request"
            ),
            "tokens/s are those of decoding, as the paper's are: prompts, probes and compilations \
             stand in columns of their own"
                .to_owned(),
            "a static 1B with a draft model is left out: there is no smaller model to draft"
                .to_owned(),
        ];
        Self {
            schema: "aio-bench-paper/1",
            simulated: format!(
                "simulated: times are those of Ascend 910B profiles by their cost model; {} and {} \
                 act, {} and {} are costed",
                acting[0], acting[1], COSTED[0], COSTED[1]
            ),
            machine: Machine::here(),
            acting,
            costed: COSTED,
            prompts: from,
            kinds,
            contexts: options.contexts.clone(),
            max_tokens: options.max_tokens,
            mismatches: 0,
            cells: Vec::new(),
            paradox: Vec::new(),
            sweep: Vec::new(),
            explanations: Vec::new(),
            notes,
        }
    }

    /// A deployment's figures.
    pub fn cell(&self, profile: &str, context: usize, deployment: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            cell.profile == profile && cell.context == context && cell.deployment == deployment
        })
    }

    /// How many times as fast a cell is as the static large model beside it.
    pub fn to_large(&self, cell: &Cell) -> Option<f64> {
        let large = self.cell(&cell.profile, cell.context, LARGE)?;
        Some(cell.tokens_per_second / large.tokens_per_second)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let kinds: Vec<String> =
            self.kinds.iter().map(|(kind, n)| format!("{n} {kind:?}").to_lowercase()).collect();
        let mut text = format!(
            "{}\n{}\nprompts: {} from {}, answers of up to {} tokens, greedy\n",
            self.simulated,
            self.machine.line(),
            kinds.join(", "),
            self.prompts,
            self.max_tokens
        );
        for &context in &self.contexts {
            for name in PROFILES {
                let about = profile(name).map_or(String::new(), |p| p.about);
                text += &format!("\n{name} at {context} tokens ({about})\n");
                text += &self.table(name, context);
            }
        }
        text += "\nWhat a step costs, and what it reads\n";
        text += &self.paradox_table();
        let near = self.contexts.first().copied().unwrap_or_default();
        text += &format!("\nDrafts for the 7B by their length, tokens/s at {near} tokens\n");
        text += &self.sweep_table();
        let mut list = |title: &str, items: &[String]| {
            text += &format!("\n{title}\n");
            items.iter().for_each(|item| text += &format!("  - {item}\n"));
        };
        list("Why", &self.explanations);
        list("Notes", &self.notes);
        text
    }

    /// The cells of one hardware at one context.
    pub(super) fn cells_of<'a>(
        &'a self,
        profile: &'a str,
        context: usize,
    ) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.profile == profile && cell.context == context)
    }

    /// A cell's figures as they stand in tables, in the order of [`HEADS`].
    pub(super) fn figures(&self, cell: &Cell) -> [String; HEADS.len()] {
        let decode = cell.spent.decode();
        let share = |seconds: f64| format!("{:.1} %", 100.0 * cell.share(seconds));
        let draft = cell.spent.draft.seconds() - cell.spent.draft.compile_seconds;
        let dash = || "-".to_owned();
        [
            format!("{:.1}", cell.tokens_per_second),
            cell.published.map_or_else(dash, |p| format!("{p:.1}")),
            cell.difference.map_or_else(dash, |d| format!("{:+.0} %", 100.0 * d)),
            self.to_large(cell).map_or_else(dash, |ratio| format!("{ratio:.2}")),
            format!("{:.1}", cell.overall_tokens_per_second),
            cell.first_token.map_or_else(dash, |s| format!("{:.2}", s.median)),
            format!("{:.1}", cell.bytes_per_token / 1e9),
            format!("{}/{}", cell.answered_by_small, cell.requests),
            cell.acceptance().map_or_else(dash, |share| format!("{:.0} %", 100.0 * share)),
            format!("{:.1}", cell.spent.all().compile_seconds),
            share(decode.host_seconds),
            share(decode.synchronisation_seconds),
            share(decode.padding_seconds),
            share(draft),
        ]
    }

    fn table(&self, profile: &str, context: usize) -> String {
        let mut table = Table::new().right(|column| column > 0).indent(2);
        table.row(std::iter::once("").chain(HEADS));
        for cell in self.cells_of(profile, context) {
            let name = std::iter::once(cell.deployment.to_owned());
            table.row(name.chain(self.figures(cell)));
        }
        table.text()
    }

    fn paradox_table(&self) -> String {
        let mut table = Table::new().right(|column| column > 0).indent(2);
        let heads =
            ["", "context", "1B ms", "7B ms", "7B : 1B", "1B GB", "7B GB", "7B : 1B in bytes"];
        table.row(heads);
        for step in &self.paradox {
            table.row([
                step.profile.clone(),
                step.context.to_string(),
                format!("{:.1}", step.milliseconds[0]),
                format!("{:.1}", step.milliseconds[1]),
                format!("{:.2}", step.time_ratio),
                format!("{:.2}", step.bytes[0] / 1e9),
                format!("{:.2}", step.bytes[1] / 1e9),
                format!("{:.2}", step.bytes_ratio),
            ]);
        }
        table.text()
    }

    fn sweep_table(&self) -> String {
        let mut table = Table::new().right(|column| column > 1).indent(2);
        let heads = ["drafts", "", "accepted", "a round"];
        table.row(heads.into_iter().chain(PROFILES));
        let mut points = self.sweep.as_slice();
        while let Some(first) = points.first() {
            let of_one =
                points.iter().take_while(|p| (p.drafts, p.length) == (first.drafts, first.length));
            let count = of_one.clone().count();
            let mut cells = vec![
                format!("{:?}", first.drafts).to_lowercase(),
                format!("up to {}", first.length),
                format!("{:.0} %", 100.0 * first.acceptance),
                format!("{:.2}", first.tokens_per_round),
            ];
            cells.extend(of_one.map(|point| format!("{:.1}", point.tokens_per_second)));
            table.row(cells);
            points = &points[count..];
        }
        table.text()
    }

    /// The deployments' lines of explanation, for a reader of tables.
    pub(super) fn deployments(&self) -> Vec<(&'static str, &'static str)> {
        let all = Deployment::all(&self.acting[0], &self.acting[1]);
        all.into_iter().map(|deployment| (deployment.name, deployment.about)).collect()
    }
}
