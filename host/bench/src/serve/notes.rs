//! What a reader must know to judge a load benchmark's figures.

use super::drive::HELD_BACK;
use super::figures::TargetFigures;
use super::options::Slo;
use super::report::ServeReport;
use super::workload::{CHARACTERS_PER_TOKEN, Workload};

/// Share of the processors' time from which our own use of it is remarked on.
const DISTURBING: f64 = 0.05;

impl ServeReport {
    /// Adds the notes, once all levels are in, with `sent` requests to each server.
    pub(super) fn finish(&mut self, sent: usize, workload: &Workload<'_>) {
        let mut notes = self.on_terms();
        notes.extend(self.on_prompts(sent, workload));
        notes.extend(self.on_sending());
        notes.extend(self.on_counting());
        self.notes = notes;
    }

    /// What the tables' heads mean.
    fn on_terms(&self) -> Vec<String> {
        let mut notes = vec![
            "times count from when a request was due, and include connecting; \"first\" is the \
             time to the first text, \"token\" (last - first) / (tokens - 1), \"all\" the time to \
             the end; each is p50 / p95 / p99 over answers"
                .to_owned(),
            "tokens/s are tokens of answers over the time to the last answer's end".to_owned(),
        ];
        if self.asked.slo.is_some() {
            notes.push(format!("good/s are answers a second with {}", self.asked.slo.line()));
        }
        if self.targets.len() > 1 {
            notes.push("ratios are medians over rounds of what servers did in the same one".into());
        }
        notes
    }

    /// Where prompts came from, and whether servers may have known them.
    fn on_prompts(&self, sent: usize, workload: &Workload<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        let again = "servers that keep prompts had them from earlier requests";
        if self.asked.lengths_are_traced() {
            notes.push(format!(
                "a trace's prompts are cut from the prompt files, at {CHARACTERS_PER_TOKEN} \
                 characters a token; the server's own count may differ"
            ));
            if self.rounds > 1 || self.levels.len() > 1 {
                notes.push(format!("the same trace was replayed several times: {again}"));
            }
        } else if sent > workload.prompts() {
            notes.push(format!(
                "{sent} requests were made of {} prompts: {again}",
                workload.prompts()
            ));
        }
        if workload.cut() > 0 {
            notes.push(format!("{} prompts of the trace were cut to fit", workload.cut()));
        }
        notes
    }

    /// How sending may have disturbed what was measured.
    fn on_sending(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.own_share > DISTURBING {
            notes.push(format!(
                "sending and reading took up to {:.0} % of this machine's processors: a server on \
                 the same machine had so much less",
                self.own_share * 100.0
            ));
        }
        let held_back = self.sum(|figures| figures.held_back);
        if held_back > 0 {
            let figures = self.levels.iter().flat_map(|level| &level.targets);
            let longest = figures.map(|figures| figures.longest_lag_ms).fold(0.0, f64::max);
            notes.push(format!(
                "{held_back} requests were sent more than {} ms late, up to {longest:.0} ms: \
                 {} in flight were not enough, or this machine too busy; their times include it",
                HELD_BACK.as_millis(),
                self.asked.most_in_flight
            ));
        }
        notes
    }

    /// How tokens and memory were counted.
    fn on_counting(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let by_pieces = self.sum(|figures| figures.counted_by_pieces);
        if by_pieces > 0 {
            notes.push(format!(
                "{by_pieces} answers came without usage: their tokens are pieces of text, which \
                 may hold several tokens"
            ));
        }
        if self.targets.iter().any(|target| target.pid.is_some()) {
            notes.push("memory is that of the process alone, without its children".into());
        }
        notes
    }

    fn sum(&self, of: fn(&TargetFigures) -> usize) -> usize {
        self.levels.iter().flat_map(|level| &level.targets).map(of).sum()
    }
}

impl Slo {
    /// "first within 500 ms and token within 50 ms".
    fn line(self) -> String {
        let within = |what: &str, most: Option<f64>| most.map(|ms| format!("{what} {ms} ms"));
        let parts = [within("first within", self.ttft_ms), within("token within", self.tpot_ms)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}
