//! What is asked, and when: requests made of prompt files, arrivals and traces.

use std::borrow::Cow;

use super::arrivals::{Random, poisson};
use super::options::{LONGEST, Level, ServeOptions};
use super::trace::{Arrival, BLOCK_TOKENS, Extent, Input};
use crate::prompts::PromptText;

/// Characters that a token is taken to have where a prompt is made to a length in
/// tokens: about right for English and code, and the same for every server.
pub(super) const CHARACTERS_PER_TOKEN: usize = 4;
/// Most tokens of an answer where neither the request nor a trace says it.
pub(super) const DEFAULT_MAX_TOKENS: usize = 128;
/// Requests of a level where neither their number nor a time is asked for.
const DEFAULT_REQUESTS: usize = 100;
/// More than any measurement needs; what bounds a level that is bounded by time.
const MOST_REQUESTS: usize = 1_000_000;

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// Seconds after the level's beginning; absent where a client sends it as soon
    /// as its last one is answered.
    pub at: Option<f64>,
    /// What to ask.
    pub prompt: PromptPlan,
    /// Most tokens of the answer.
    pub max_tokens: usize,
}

/// How a prompt's text is made. Traces have prompts of megabytes, so it is made
/// when it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PromptPlan {
    /// A prompt file's, by its place.
    Row(usize),
    /// Real text of about so many tokens, the same for the same key.
    Length {
        /// Which text.
        key: u64,
        /// Tokens.
        tokens: usize,
    },
    /// Blocks of real text, the same for the same number, about so many tokens in all.
    Blocks {
        /// The blocks.
        ids: Vec<u64>,
        /// Tokens.
        tokens: usize,
    },
}

/// All that can be asked.
pub(super) struct Workload<'a> {
    options: &'a ServeOptions,
    prompts: Vec<PromptText>,
    /// All prompts' characters, to cut prompts of traces from.
    text: Vec<char>,
    trace: Vec<Arrival>,
}

impl ServeOptions {
    /// Requests of a level, at most.
    pub(super) fn most_requests(&self) -> usize {
        let default = if self.seconds.is_some() { MOST_REQUESTS } else { DEFAULT_REQUESTS };
        self.requests.unwrap_or(default).min(MOST_REQUESTS)
    }

    /// How much of a trace is replayed, at its fastest.
    pub(super) fn extent(&self, fastest: f64) -> Extent {
        let seconds = self.seconds.unwrap_or(LONGEST) * fastest;
        Extent { requests: self.most_requests(), seconds }
    }
}

impl<'a> Workload<'a> {
    /// Asks `prompts` in an order that the seed decides, at the arrivals of `trace`
    /// where there is one.
    pub fn new(
        options: &'a ServeOptions,
        mut prompts: Vec<PromptText>,
        trace: Vec<Arrival>,
    ) -> Self {
        // The files' rows come one file after the other, and easy ones often first.
        Random::of(options.seed, &[1]).shuffle(&mut prompts);
        let mut text = Vec::new();
        if !trace.is_empty() {
            prompts.iter().for_each(|prompt| text.extend(prompt.text.chars().chain(['\n', '\n'])));
        }
        Self { options, prompts, text, trace }
    }

    /// Different prompts.
    pub fn prompts(&self) -> usize {
        self.prompts.len()
    }

    /// The shortest prompt, to try a server with.
    pub fn trial(&self) -> &str {
        let texts = self.prompts.iter().map(|prompt| prompt.text.as_str());
        texts.min_by_key(|text| text.len()).unwrap_or_default()
    }

    /// The requests of a level, which go on in the prompt files at the place `from`;
    /// `round` tells the arrivals of one round from those of another.
    pub fn requests(
        &self,
        level: Level,
        round: usize,
        from: usize,
    ) -> Box<dyn Iterator<Item = Planned> + Send + '_> {
        let most = self.options.most_requests();
        let seconds = self.options.seconds.unwrap_or(LONGEST);
        match level {
            Level::Clients(_) => Box::new((0..most).map(move |i| self.row(None, from + i))),
            Level::Rate(rate) => {
                let random = Random::of(self.options.seed, &[2, rate.to_bits(), round as u64]);
                let times = poisson(rate, random).take_while(move |&at| at <= seconds).take(most);
                Box::new(times.enumerate().map(move |(i, at)| self.row(Some(at), from + i)))
            }
            Level::Speed(speed) => {
                let within = move |arrival: &&Arrival| arrival.at / speed <= seconds;
                let arrivals = self.trace.iter().take(most).take_while(within).enumerate();
                Box::new(arrivals.map(move |(i, arrival)| self.replayed(arrival, speed, i, from)))
            }
        }
    }

    fn row(&self, at: Option<f64>, place: usize) -> Planned {
        let prompt = PromptPlan::Row(place % self.prompts.len());
        let max_tokens = self.options.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        Planned { at, prompt, max_tokens }
    }

    fn replayed(&self, arrival: &Arrival, speed: f64, number: usize, from: usize) -> Planned {
        let row = self.row(Some(arrival.at / speed), from + number);
        let bound =
            |tokens: usize| tokens.min(self.options.max_prompt_tokens.unwrap_or(usize::MAX));
        let prompt = match &arrival.input {
            Input::Any => row.prompt,
            &Input::Tokens(tokens) => {
                PromptPlan::Length { key: number as u64, tokens: bound(tokens) }
            }
            Input::Blocks { ids, tokens } => {
                PromptPlan::Blocks { ids: ids.clone(), tokens: bound(*tokens) }
            }
        };
        let max_tokens = match (arrival.output_tokens, self.options.max_tokens) {
            (Some(tokens), bound) => tokens.min(bound.unwrap_or(usize::MAX)).max(1),
            (None, _) => row.max_tokens,
        };
        Planned { prompt, max_tokens, ..row }
    }

    /// Requests of the trace whose prompt is longer than it may be.
    pub fn cut(&self) -> usize {
        let Some(most) = self.options.max_prompt_tokens else { return 0 };
        let long = |arrival: &&Arrival| match arrival.input {
            Input::Any => false,
            Input::Tokens(tokens) | Input::Blocks { tokens, .. } => tokens > most,
        };
        self.trace.iter().filter(long).count()
    }

    /// A prompt's text.
    pub fn text(&self, plan: &PromptPlan) -> Cow<'_, str> {
        match plan {
            &PromptPlan::Row(place) => Cow::Borrowed(&self.prompts[place].text),
            &PromptPlan::Length { key, tokens } => {
                let mut text = String::new();
                self.add(&mut text, key, tokens);
                Cow::Owned(text)
            }
            PromptPlan::Blocks { ids, tokens } => {
                let mut text = String::new();
                for (i, &id) in ids.iter().enumerate() {
                    let left = tokens.saturating_sub(i * BLOCK_TOKENS);
                    self.add(&mut text, id, left.min(BLOCK_TOKENS));
                }
                Cow::Owned(text)
            }
        }
    }

    /// Adds text of about so many tokens. It begins with the key, so that texts of
    /// different keys share no beginning that a server could have kept.
    fn add(&self, to: &mut String, key: u64, tokens: usize) {
        let characters = tokens * CHARACTERS_PER_TOKEN;
        let name = format!("{key} ");
        let place = aio_core::mix(key) % self.text.len().max(1) as u64;
        let real = self.text.iter().cycle().skip(place as usize);
        to.extend(name.chars().chain(real.copied()).take(characters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::options::tests::options;

    fn prompts() -> Vec<PromptText> {
        let prompt = |i: usize| PromptText {
            group: "g".into(),
            id: i.to_string(),
            text: format!("prompt number {i} with a few words of its own"),
        };
        (0..5).map(prompt).collect()
    }

    fn arrival(at: f64, input: Input, output_tokens: Option<usize>) -> Arrival {
        Arrival { at, input, output_tokens }
    }

    #[test]
    fn rates_are_bounded_by_number_and_time_and_drawn_by_seed() {
        let mut options = options();
        (options.requests, options.seconds) = (Some(1000), Some(10.0));
        let workload = Workload::new(&options, prompts(), Vec::new());
        let at_rate = |rate, round| -> Vec<Planned> {
            workload.requests(Level::Rate(rate), round, 0).collect()
        };
        let requests = at_rate(20.0, 0);
        assert!((100..300).contains(&requests.len()), "{}", requests.len());
        assert!(requests.iter().all(|r| r.at.is_some_and(|at| at <= 10.0) && r.max_tokens == 128));
        assert_eq!(requests, at_rate(20.0, 0));
        assert_ne!(requests, at_rate(20.0, 1));
        assert_eq!(at_rate(1e4, 0).len(), 1000);
    }

    #[test]
    fn clients_take_prompts_one_after_the_other() {
        let mut options = options();
        options.requests = Some(7);
        let workload = Workload::new(&options, prompts(), Vec::new());
        let requests: Vec<_> = workload.requests(Level::Clients(2), 0, 3).collect();
        let places = requests.iter().map(|r| r.prompt.clone());
        assert!(places.eq([3, 4, 0, 1, 2, 3, 4].map(PromptPlan::Row)));
        assert!(requests.iter().all(|r| r.at.is_none()));
    }

    #[test]
    fn a_trace_is_scaled_in_time_and_bounded_in_tokens() {
        let mut options = options();
        (options.max_tokens, options.max_prompt_tokens) = (Some(50), Some(100));
        let trace = vec![
            arrival(0.0, Input::Tokens(30), Some(0)),
            arrival(8.0, Input::Tokens(300), Some(70)),
            arrival(9.0, Input::Any, None),
        ];
        let workload = Workload::new(&options, prompts(), trace);
        let requests: Vec<_> = workload.requests(Level::Speed(2.0), 0, 0).collect();
        let seen: Vec<_> = requests.iter().map(|r| (r.at, r.max_tokens)).collect();
        assert_eq!(seen, [(Some(0.0), 1), (Some(4.0), 50), (Some(4.5), 50)]);
        let length = |i: usize| workload.text(&requests[i].prompt).chars().count();
        assert_eq!((length(0), length(1), workload.cut()), (120, 400, 1));
        assert!(matches!(requests[2].prompt, PromptPlan::Row(_)));
    }

    #[test]
    fn the_same_block_is_the_same_text() {
        let options = options();
        let trace = vec![arrival(0.0, Input::Any, None)];
        let workload = Workload::new(&options, prompts(), trace);
        let text = |ids: &[u64], tokens| {
            workload.text(&PromptPlan::Blocks { ids: ids.to_vec(), tokens }).into_owned()
        };
        let (a, b) = (text(&[0, 1, 2], 1100), text(&[0, 1, 3], 1100));
        let shared = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
        assert_eq!(shared, 2 * BLOCK_TOKENS * CHARACTERS_PER_TOKEN);
        assert_eq!(a.chars().count(), 1100 * CHARACTERS_PER_TOKEN);
        assert!(text(&[0], 3).starts_with("0 "));
        assert_ne!(text(&[7], 9), text(&[8], 9));
    }
}
