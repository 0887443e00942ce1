//! How far a measurement has got, on stderr: a bar on a terminal, a line a step
//! elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress of a benchmark.
#[derive(Default)]
pub struct BenchProgress {
    bar: Option<ProgressBar>,
    steps: u64,
    done: u64,
}

impl aio_bench::Progress for BenchProgress {
    fn started(&mut self, steps: u64) {
        self.steps = steps;
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, doing: &str) {
        match &self.bar {
            // The bar is redrawn at steps alone: a ticking thread would disturb
            // what is measured.
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(doing.to_owned());
            }
            None => eprintln!("[{}/{}] {doing}", self.done + 1, self.steps),
        }
        self.done += 1;
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn finished(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
