//! A choice in one sentence. Written only when what is done changes.

use super::{Choice, TRY_WIDTH};
use crate::sentence::Sentence;
use crate::{Drafter, RoundFacts};

/// Why the next round drafts so.
pub(super) fn of(choice: &Choice, facts: &RoundFacts) -> String {
    let Choice { drafter, weighed, plain, trial } = choice;
    let sentence = match drafter {
        Drafter::Lookup => Sentence::new()
            .text("lookup of ")
            .number(weighed.length)
            .text(" after a match of ")
            .number(facts.lookup_match),
        Drafter::Model => {
            Sentence::new().text("draft model, ").number(weighed.length).text(" tokens")
        }
        _ => {
            return Sentence::new()
                .text("no draft is worth its time: a plain round takes ")
                .tenths(plain.milliseconds)
                .text(" ms")
                .finish();
        }
    };
    let sentence = match trial {
        Some(trial) if trial.arm == TRY_WIDTH => sentence.text(", to measure so wide a pass"),
        Some(_) => sentence.text(", to see whether it pays by now"),
        None => sentence,
    };
    sentence
        .text(": ")
        .tenths(weighed.tokens)
        .text(" tokens in ")
        .tenths(weighed.milliseconds)
        .text(" ms expected, 1 in ")
        .tenths(plain.milliseconds)
        .text(" ms without")
        .finish()
}
