//! Requests of all kinds for tests that run many of them at once, and what each of them
//! says alone.

use aio_core::{RequestRecord, mix};
use aio_engine::sampling::Sampling;
use aio_serve::{Prompt, Request, Runner, Tiers};

/// Numbers without a pattern, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % n
    }

    /// The numbers below `n` in some order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        (1..n).rev().for_each(|i| order.swap(i, self.below(i as u64 + 1) as usize));
        order
    }
}

/// Numbers go on and on: an answer that takes as many tokens as it may.
pub fn numbers(first: usize, tokens: usize, sampling: Sampling) -> Request {
    let prompt = format!("{first}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,");
    Request::new(Prompt::Raw(prompt), tokens, sampling)
}

/// Prompts that share beginnings, with settings of all kinds. One in `long` has a long
/// answer.
pub fn requests(count: usize, long: usize) -> Vec<Request> {
    const SUBJECTS: [&str; 5] = ["rivers", "colours", "a sorted list", "the moon", "bread"];
    let mut random = Random(7);
    let request = |i: usize| {
        let subject = SUBJECTS[random.below(SUBJECTS.len() as u64) as usize];
        // Some grow by more than room was found for when they came.
        let long = i.is_multiple_of(long);
        let prompt = match random.below(3) {
            0 => format!("Write three short sentences about {subject}, number {i}."),
            // Some begin their second cache block, some their third.
            1 => {
                let times = 4 + random.below(50) as usize;
                format!("Repeat exactly: {}", format!("{subject}, ").repeat(times))
            }
            _ => format!(
                "You are a careful writer of simple words who never uses a long one where a \
                 short one will do. Say what you know of {subject}."
            ),
        };
        let sampling = match random.below(2) {
            0 => Sampling::default(),
            _ => Sampling { temperature: 0.9, top_p: 0.95, seed: i as u64, ..Default::default() },
        };
        let length = if long { 140 } else { 4 + random.below(20) as usize };
        let mut request = match long {
            true => numbers(i, length, sampling),
            false => super::chat(&prompt, length, sampling),
        };
        request.priority = random.below(3) as i32;
        if random.below(4) == 0 && !long {
            request.stop = vec![", ".into()];
        }
        request
    };
    (0..count).map(request).collect()
}

/// What each request says alone, in plain decoding.
pub fn said_alone(tiers: Tiers, requests: &[Request]) -> Vec<RequestRecord> {
    let policies = super::load("fixed", r#"{"drafter":"none"}"#, &tiers);
    let mut runner = Runner::new(tiers, policies);
    requests.iter().map(|request| super::answer(&mut runner, request)).collect()
}
