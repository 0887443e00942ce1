//! What a level's requests to one server come to.

use std::collections::BTreeMap;
use std::time::Duration;

use aio_serve::ProcessMemory;
use serde::Serialize;

use super::answer::Answer;
use super::drive::{HELD_BACK, Run, Sample};
use super::failure::FailureKind;
use super::options::Slo;
use crate::stats::{Percentiles, Summary, median};

/// Figures of one server at one level, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct TargetFigures {
    /// The server's name.
    pub target: String,
    /// Requests that were sent.
    pub requests: usize,
    /// Answers that came to their end.
    pub answers: usize,
    /// Requests that failed, by how.
    pub failures: Vec<FailureFigures>,
    /// Times that a request was turned away (HTTP 429), whether it was sent again or not.
    pub turned_away: u32,
    /// Seconds from the beginning to the last answer, rounds added up.
    pub seconds: f64,
    /// Tokens of prompts, by the server's count, where it told it.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Most tokens that the requests that were answered asked for.
    pub asked_tokens: u64,
    /// Answers whose tokens were counted by their pieces, because the server told no usage.
    pub counted_by_pieces: usize,
    /// Tokens of answers a second, in all rounds together.
    pub tokens_per_second: f64,
    /// The same, round by round.
    pub tokens_per_second_by_round: Vec<f64>,
    /// Answers a second.
    pub answers_per_second: f64,
    /// Answers a second that kept the service level objective; absent without one.
    pub goodput_per_second: Option<f64>,
    /// Milliseconds to the first token.
    pub ttft_ms: Option<Percentiles>,
    /// Milliseconds for each token after the first: one figure an answer.
    pub tpot_ms: Option<Percentiles>,
    /// Milliseconds between pieces of text, over all answers.
    pub gap_ms: Option<Percentiles>,
    /// Milliseconds to an answer's end.
    pub latency_ms: Option<Percentiles>,
    /// Requests that were sent late, because too many were in flight.
    pub held_back: usize,
    /// The longest that one was held back, in milliseconds.
    pub longest_lag_ms: f64,
    /// The server's memory after the last round.
    pub memory: Option<ProcessMemory>,
    /// Beside the first server, round by round; absent for the first.
    pub to_first: Option<Ratios>,
    #[serde(skip)]
    rounds: Vec<RoundFigures>,
}

/// Requests that failed in one way.
#[derive(Debug, Clone, Serialize)]
pub struct FailureFigures {
    /// The way, for example "HTTP 503" or "timeout".
    pub kind: String,
    /// Requests.
    pub count: usize,
    /// What was said of one of them.
    pub example: String,
}

/// This server's figures divided by the first one's of the same round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ratios {
    /// Of tokens a second: more is better.
    pub tokens_per_second: Option<Summary>,
    /// Of the median time to the first token: less is better.
    pub ttft: Option<Summary>,
    /// Of the median time for each further token: less is better.
    pub tpot: Option<Summary>,
    /// Of the median time to an answer's end: less is better.
    pub latency: Option<Summary>,
}

/// What ratios are made of.
#[derive(Debug, Clone, Copy)]
struct RoundFigures {
    tokens_per_second: Option<f64>,
    ttft: Option<f64>,
    tpot: Option<f64>,
    latency: Option<f64>,
}

/// Milliseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn answers(samples: &[Sample]) -> impl Iterator<Item = &Answer> {
    samples.iter().filter_map(|sample| sample.outcome.as_ref().ok())
}

fn tokens(samples: &[Sample]) -> u64 {
    answers(samples).map(|answer| u64::from(answer.tokens())).sum()
}

/// Times that some answers have, in milliseconds.
fn times(samples: &[Sample], of: impl Fn(&Answer) -> Option<Duration>) -> Vec<f64> {
    answers(samples).filter_map(|answer| of(answer).map(ms)).collect()
}

impl Slo {
    /// Whether an answer keeps it. An answer without text never does; one of a single
    /// token has no time per token to exceed.
    pub(super) fn is_kept(&self, answer: &Answer) -> bool {
        let Some(first) = answer.first else { return false };
        let within = |time: Option<Duration>, most: Option<f64>| {
            time.zip(most).is_none_or(|(time, most)| ms(time) <= most)
        };
        within(Some(first), self.ttft_ms) && within(answer.per_token(), self.tpot_ms)
    }
}

impl RoundFigures {
    fn of(run: &Run) -> Self {
        let rate = tokens(&run.samples) as f64 / run.wall.as_secs_f64();
        let median_of = |of: &dyn Fn(&Answer) -> Option<Duration>| median(&times(&run.samples, of));
        Self {
            tokens_per_second: Some(rate).filter(|rate| rate.is_finite()),
            ttft: median_of(&|answer| answer.first),
            tpot: median_of(&|answer| answer.per_token()),
            latency: median_of(&|answer| Some(answer.total)),
        }
    }
}

impl TargetFigures {
    /// The figures of a server's runs, one a round.
    pub(super) fn new(target: &str, runs: &[Run], slo: Slo, memory: Option<ProcessMemory>) -> Self {
        let over = |of: &dyn Fn(&[Sample]) -> u64| runs.iter().map(|run| of(&run.samples)).sum();
        let count = |of: &dyn Fn(&Sample) -> bool| -> usize {
            runs.iter().flat_map(|run| &run.samples).filter(|sample| of(sample)).count()
        };
        let seconds: f64 = runs.iter().map(|run| run.wall.as_secs_f64()).sum();
        let per_second = |number: f64| if seconds > 0.0 { number / seconds } else { 0.0 };
        let percentiles = |of: &dyn Fn(&Answer) -> Vec<Duration>| {
            let all = runs.iter().flat_map(|run| answers(&run.samples)).flat_map(of);
            Percentiles::of(&all.map(ms).collect::<Vec<_>>())
        };
        let is =
            |sample: &Sample, of: &dyn Fn(&Answer) -> bool| sample.outcome.as_ref().is_ok_and(of);
        let answered = count(&|sample| sample.outcome.is_ok());
        let kept = count(&|sample| is(sample, &|answer| slo.is_kept(answer)));
        let completion_tokens: u64 = over(&tokens);
        let samples = || runs.iter().flat_map(|run| &run.samples);
        let rounds: Vec<_> = runs.iter().map(RoundFigures::of).collect();
        Self {
            target: target.to_owned(),
            requests: samples().count(),
            answers: answered,
            failures: failures(runs),
            turned_away: samples().map(|sample| sample.turned_away).sum(),
            seconds,
            prompt_tokens: over(&|samples| {
                answers(samples).filter_map(|a| a.prompt_tokens).map(u64::from).sum()
            }),
            completion_tokens,
            asked_tokens: samples().filter(|s| s.outcome.is_ok()).map(|s| s.asked as u64).sum(),
            counted_by_pieces: count(&|sample| is(sample, &|answer| answer.counted.is_none())),
            tokens_per_second: per_second(completion_tokens as f64),
            tokens_per_second_by_round: rounds.iter().filter_map(|r| r.tokens_per_second).collect(),
            answers_per_second: per_second(answered as f64),
            goodput_per_second: slo.is_some().then(|| per_second(kept as f64)),
            ttft_ms: percentiles(&|answer| answer.first.into_iter().collect()),
            tpot_ms: percentiles(&|answer| answer.per_token().into_iter().collect()),
            gap_ms: percentiles(&|answer| answer.gaps.clone()),
            latency_ms: percentiles(&|answer| vec![answer.total]),
            held_back: count(&|sample| sample.lag > HELD_BACK),
            longest_lag_ms: samples().map(|sample| ms(sample.lag)).fold(0.0, f64::max),
            memory,
            to_first: None,
            rounds,
        }
    }

    /// Compares the server with the first one.
    pub(super) fn compare(&mut self, first: &Self) {
        let ratios = |of: &dyn Fn(&RoundFigures) -> Option<f64>| {
            let pairs = self.rounds.iter().zip(&first.rounds);
            let ratio = |(a, b): (&RoundFigures, &RoundFigures)| Some(of(a)? / of(b)?);
            Summary::of(&pairs.filter_map(ratio).filter(|r| r.is_finite()).collect::<Vec<_>>())
        };
        self.to_first = Some(Ratios {
            tokens_per_second: ratios(&|round| round.tokens_per_second),
            ttft: ratios(&|round| round.ttft),
            tpot: ratios(&|round| round.tpot),
            latency: ratios(&|round| round.latency),
        });
    }

    /// Requests that failed, but for those that were turned away.
    pub(super) fn errors(&self) -> usize {
        let turned_away = FailureKind::TurnedAway.to_string();
        self.failures.iter().filter(|f| f.kind != turned_away).map(|f| f.count).sum()
    }
}

fn failures(runs: &[Run]) -> Vec<FailureFigures> {
    let mut ways: BTreeMap<FailureKind, (usize, &str)> = BTreeMap::new();
    let samples = runs.iter().flat_map(|run| &run.samples);
    for failure in samples.filter_map(|sample| sample.outcome.as_ref().err()) {
        ways.entry(failure.kind).or_insert((0, &failure.what)).0 += 1;
    }
    let figures = |(kind, (count, example)): (FailureKind, (usize, &str))| FailureFigures {
        kind: kind.to_string(),
        count,
        example: example.to_owned(),
    };
    ways.into_iter().map(figures).collect()
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;

    fn answer(first: u64, last: u64, tokens: u32) -> Answer {
        let at = Duration::from_millis;
        let mut answer = Answer::default();
        (answer.first, answer.last, answer.total) = (Some(at(first)), Some(at(last)), at(last));
        (answer.gaps, answer.pieces, answer.counted) = (vec![at(last - first)], 2, Some(tokens));
        answer
    }

    fn run(seconds: u64, outcomes: Vec<Result<Answer, Failure>>) -> Run {
        let sample = |(number, outcome)| {
            let lag = Duration::from_millis(15 * number as u64);
            Sample { number, asked: 8, lag, turned_away: 0, outcome }
        };
        let samples = outcomes.into_iter().enumerate().map(sample).collect();
        Run { wall: Duration::from_secs(seconds), samples }
    }

    fn failed(kind: FailureKind, what: &str) -> Result<Answer, Failure> {
        Err(Failure::new(kind, what.into()))
    }

    #[test]
    fn figures_add_up_over_rounds() {
        let slo = Slo { ttft_ms: Some(100.0), tpot_ms: Some(50.0) };
        let runs = [
            run(2, vec![Ok(answer(100, 300, 5)), Ok(answer(90, 390, 5))]),
            run(
                2,
                vec![
                    Ok(answer(200, 300, 5)),
                    failed(FailureKind::Status(503), "busy"),
                    failed(FailureKind::TurnedAway, "full"),
                    failed(FailureKind::Status(503), "still busy"),
                ],
            ),
        ];
        let figures = TargetFigures::new("a", &runs, slo, None);
        assert_eq!((figures.requests, figures.answers, figures.errors()), (6, 3, 2));
        assert_eq!((figures.completion_tokens, figures.asked_tokens), (15, 24));
        assert_eq!((figures.tokens_per_second, figures.answers_per_second), (3.75, 0.75));
        assert_eq!(figures.tokens_per_second_by_round, [5.0, 2.5]);
        // The first alone: the second takes 75 ms a token, the third 200 ms to begin.
        assert_eq!(figures.goodput_per_second, Some(0.25));
        let kinds: Vec<_> = figures.failures.iter().map(|f| (f.kind.as_str(), f.count)).collect();
        assert_eq!(kinds, [("HTTP 429", 1), ("HTTP 503", 2)]);
        assert_eq!(figures.failures[1].example, "busy");
        let ttft = figures.ttft_ms.unwrap();
        assert_eq!((ttft.count, ttft.p50), (3, 100.0));
        assert!(ttft.p50 <= ttft.p95 && ttft.p95 <= ttft.p99 && ttft.p99 <= ttft.max);
        assert_eq!((figures.held_back, figures.longest_lag_ms), (2, 45.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let figures = |firsts: [u64; 2]| {
            let runs = firsts.map(|first| run(1, vec![Ok(answer(first, first + 100, 5))]));
            TargetFigures::new("x", &runs, Slo::default(), None)
        };
        let mut second = figures([200, 30]);
        second.compare(&figures([100, 10]));
        let ratios = second.to_first.unwrap();
        assert_eq!(ratios.ttft.unwrap().median, 2.5);
        assert_eq!(ratios.tokens_per_second.unwrap().median, 1.0);
        assert_eq!(second.goodput_per_second, None);
    }

    #[test]
    fn nothing_answered_is_no_figure() {
        let runs = [run(1, vec![failed(FailureKind::Refused, "")])];
        let mut figures = TargetFigures::new("a", &runs, Slo::default(), None);
        assert_eq!((figures.answers, figures.tokens_per_second), (0, 0.0));
        assert!(figures.ttft_ms.is_none() && figures.latency_ms.is_none());
        figures.compare(&figures.clone());
        assert!(figures.to_first.unwrap().tokens_per_second.is_none());
    }

    #[test]
    fn an_answer_without_text_is_not_good() {
        let slo = Slo { ttft_ms: Some(1e9), tpot_ms: None };
        assert!(!slo.is_kept(&Answer::default()));
        assert!(slo.is_kept(&answer(5, 6, 1)));
        assert!(!Slo { ttft_ms: Some(4.0), tpot_ms: None }.is_kept(&answer(5, 6, 1)));
    }
}
