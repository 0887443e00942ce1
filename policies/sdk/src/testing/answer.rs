//! Answers: fixed token by token before anything is decoded, so that
//! every setting commits the same tokens and only their time differs. Made up by a
//! random process ([`Answer::of`]), or recorded ([`Answer::recorded`]).

use serde::Deserialize;

use super::engine::Chance;

/// Kinds of prompts, as their answers repeat the prompt and suit a draft model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program written anew: few long repetitions, easy for a draft model.
    Write,
    /// A program changed: mostly copied.
    Edit,
    /// A calculation: some repetition of numbers and phrases.
    Maths,
    /// A text written anew: repetition by chance only, hard for a draft model.
    Prose,
    /// A summary: phrases copied here and there.
    Summarise,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Write, Self::Edit, Self::Maths, Self::Prose, Self::Summarise];

    /// Mean tokens copied in a row, mean tokens between copies, chance that a
    /// short match is right, and that the draft model is.
    fn process(self) -> (f32, f32, f32, f32) {
        match self {
            Self::Write => (5.0, 30.0, 0.12, 0.92),
            Self::Edit => (40.0, 6.0, 0.40, 0.90),
            Self::Maths => (4.0, 20.0, 0.12, 0.89),
            Self::Prose => (2.0, 40.0, 0.08, 0.62),
            Self::Summarise => (8.0, 18.0, 0.12, 0.70),
        }
    }
}

/// One answer, as it will be.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Length of its prompt, in tokens.
    pub prompt_tokens: u32,
    /// For each token of the answer.
    pub tokens: Vec<Token>,
}

/// One token of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Length of the suffix that lookup matches before it, in tokens.
    pub lookup_match: u32,
    /// Tokens that a draft by lookup has at most from here on: up to where the text ends
    /// that it copies.
    pub lookup_most: u32,
    /// Of these, how many are right before the first wrong one.
    pub lookup_right: u32,
    /// Whether the draft model says this token.
    pub model_is_right: bool,
    /// The probability that the draft model gives to what it says.
    pub confidence: f32,
}

impl Answer {
    /// An answer of a kind. The same kind, length and seed give the same answer.
    pub fn of(kind: Kind, length: usize, seed: u64) -> Self {
        let (copied, between, lucky, draft_model) = kind.process();
        let mut chance = Chance::new(seed.wrapping_mul(31).wrapping_add(kind as u64));
        let mut tokens = Vec::with_capacity(length);
        let mut copies = Vec::with_capacity(length);
        // Tokens matched so far in the copy that is going on; 0: none is.
        let mut matched = 0u32;
        while tokens.len() < length {
            let goes_on = matched > 0 && !chance.happens(1.0 / copied);
            let begins = matched == 0 && chance.happens(1.0 / between);
            let (lookup_match, lookup_is_right) = if matched > 0 {
                (matched, goes_on)
            } else {
                let spurious = [0, 0, 1, 1, 1, 2, 2, 3][(chance.next() * 8.0) as usize % 8];
                (spurious, spurious > 0 && (begins || chance.happens(lucky)))
            };
            let model_is_right = chance.happens(draft_model);
            let doubt = chance.next();
            tokens.push(Token {
                lookup_match: lookup_match.min(12),
                lookup_most: u32::MAX,
                lookup_right: 0,
                model_is_right,
                confidence: if model_is_right {
                    1.0 - 0.7 * doubt * doubt
                } else {
                    0.9 - 0.8 * doubt
                },
            });
            copies.push(lookup_is_right);
            matched = match (goes_on, begins) {
                (true, _) => matched + 1,
                (false, true) => 1,
                (false, false) => 0,
            };
        }
        let mut right = 0;
        for (token, copied) in tokens.iter_mut().zip(copies).rev() {
            right = if copied { right + 1 } else { 0 };
            token.lookup_right = right;
        }
        Self { prompt_tokens: 200 + (chance.next() * 400.0) as u32, tokens }
    }

    /// An answer whose every token lookup and the draft model get right, or not.
    pub fn uniform(length: usize, lookup_match: u32, lookup: bool, model: bool) -> Self {
        let token = Token {
            lookup_match,
            lookup_most: u32::MAX,
            lookup_right: if lookup { u32::MAX } else { 0 },
            model_is_right: model,
            confidence: 0.9,
        };
        Self { prompt_tokens: 300, tokens: vec![token; length] }
    }

    /// Forty answers of at most 128 tokens that Qwen2.5-Coder 1.5B gave, eight of each
    /// kind, in the order in which they were asked for: functions of HumanEval to write,
    /// functions of HumanEvalPack (JavaScript) to mend, questions of GSM8K, writing tasks
    /// of MT-Bench, texts of Spec-Bench to summarise. With what lookup, of suffixes of up
    /// to 12 tokens, would have drafted from the prompt, the answer so far and the answers
    /// before, and what Qwen2.5-Coder 0.5B would have said at each place. `cargo run
    /// --release -p aio-bench --example record_answers` makes them anew.
    ///
    /// # Panics
    /// Never: the recording is part of this crate, and a test reads it.
    #[allow(clippy::expect_used, reason = "what is read is part of the crate")]
    pub fn recorded() -> Vec<(Kind, Self)> {
        let recorded: Vec<Recorded> =
            serde_json::from_str(RECORDED).expect("the recording in this crate can be read");
        recorded.iter().map(|recorded| (recorded.kind, recorded.answer())).collect()
    }
}

const RECORDED: &str = include_str!("recorded.json");

/// An answer as it is recorded: a number for each token in each list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    kind: Kind,
    prompt_tokens: u32,
    /// [`Token::lookup_match`].
    matches: Vec<u32>,
    /// [`Token::lookup_most`], of 48.
    most: Vec<u32>,
    /// [`Token::lookup_right`].
    right: Vec<u32>,
    /// [`Token::confidence`], less than 0 where what the model says is not the token.
    model: Vec<f32>,
}

impl Recorded {
    fn answer(&self) -> Answer {
        let lookup = self.matches.iter().zip(&self.most).zip(&self.right);
        let tokens = lookup.zip(&self.model).map(|(((&found, &most), &right), &model)| Token {
            lookup_match: found,
            lookup_most: most,
            lookup_right: right,
            model_is_right: model > 0.0,
            confidence: model.abs(),
        });
        Answer { prompt_tokens: self.prompt_tokens, tokens: tokens.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_same_for_the_same_seed_only() {
        for kind in Kind::ALL {
            assert_eq!(Answer::of(kind, 100, 7), Answer::of(kind, 100, 7));
            assert_ne!(Answer::of(kind, 100, 7), Answer::of(kind, 100, 8));
        }
    }

    #[test]
    fn edits_copy_and_prose_does_not() {
        let copied = |kind| {
            let tokens = Answer::of(kind, 5000, 1).tokens;
            tokens.iter().filter(|t| t.lookup_match > 3 && t.lookup_right > 0).count()
        };
        assert!(copied(Kind::Edit) > 3000, "{}", copied(Kind::Edit));
        assert!(copied(Kind::Prose) < 200, "{}", copied(Kind::Prose));
    }

    #[test]
    fn recorded_answers_are_whole_and_of_all_kinds() {
        let recorded = Answer::recorded();
        for kind in Kind::ALL {
            assert_eq!(recorded.iter().filter(|(of, _)| *of == kind).count(), 8, "{kind:?}");
        }
        let texts: Vec<Recorded> = serde_json::from_str(RECORDED).unwrap();
        for (text, (_, answer)) in texts.iter().zip(&recorded) {
            let Recorded { matches, most, right, model, .. } = text;
            let lengths = [matches, most, right].map(Vec::len);
            assert_eq!(lengths, [model.len(); 3]);
            assert!((20..=128).contains(&answer.tokens.len()), "{lengths:?}");
            for token in &answer.tokens {
                assert!(token.lookup_right <= token.lookup_most && token.lookup_most <= 48);
                assert!((0.0..=1.0).contains(&token.confidence));
                assert!(token.lookup_match > 0 || token.lookup_most == 0);
            }
        }
    }
}
