//! Shows how far a fetch or a check has got, on stderr: a bar on a terminal, a
//! plain line every tenth elsewhere, so that a log stays readable. It must not
//! know what is being fetched.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use aio_models::{Progress, human_bytes};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner than this is not worth a line in a log.
const QUIET: Duration = Duration::from_secs(1);

/// Progress on stderr, in the way that suits what stderr is.
#[derive(Default)]
pub struct TerminalProgress {
    work: Option<Work>,
}

/// Work that was started and has not finished.
enum Work {
    Bar(ProgressBar),
    Lines { what: String, begun: Instant, tenths: Tenths },
}

impl Progress for TerminalProgress {
    fn started(&mut self, what: &str, total: u64) {
        self.work = Some(if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(style());
            bar.set_message(what.to_owned());
            Work::Bar(bar)
        } else {
            let tenths = Tenths { total, told: 0 };
            Work::Lines { what: what.to_owned(), begun: Instant::now(), tenths }
        });
    }

    fn advanced(&mut self, position: u64) {
        match &mut self.work {
            Some(Work::Bar(bar)) => bar.set_position(position),
            Some(Work::Lines { what, begun, tenths }) if begun.elapsed() >= QUIET => {
                if let Some(percent) = tenths.reached(position) {
                    let (done, total) = (human_bytes(position), human_bytes(tenths.total));
                    eprintln!("{what}: {percent} % ({done} of {total})");
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, message: &str) {
        match &self.work {
            Some(Work::Bar(bar)) => bar.suspend(|| eprintln!("{message}")),
            _ => eprintln!("{message}"),
        }
    }

    fn finished(&mut self) {
        if let Some(Work::Bar(bar)) = self.work.take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    // Decimal units, as in every other size that aio prints.
    let template = "{msg} [{wide_bar}] {percent} % of {decimal_total_bytes}, \
        {decimal_bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Which tenths of the work have been told.
struct Tenths {
    total: u64,
    told: u64,
}

impl Tenths {
    /// The percentage to tell at `position`, when another tenth is reached.
    fn reached(&mut self, position: u64) -> Option<u64> {
        let tenth = position.saturating_mul(10).checked_div(self.total)?.min(10);
        if tenth <= self.told {
            return None;
        }
        self.told = tenth;
        Some(tenth * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::Tenths;

    #[test]
    fn every_tenth_is_told_once() {
        let mut tenths = Tenths { total: 1000, told: 0 };
        let told: Vec<u64> = [0, 99, 100, 150, 90, 180, 420, 430, 1000, 1000]
            .into_iter()
            .filter_map(|position| tenths.reached(position))
            .collect();
        assert_eq!(told, [10, 40, 100]);
        assert_eq!(Tenths { total: 0, told: 0 }.reached(5), None);
    }
}
