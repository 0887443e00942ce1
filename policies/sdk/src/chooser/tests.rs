//! The chooser's parts together, on facts by hand. How well it does is tested
//! where it is used: in the `goodput` policy.

use super::*;
use crate::testing::{self, FLAT, FLAT_DRAFT, STEEP};

fn chooser(options: Options) -> Chooser {
    Chooser::new(&testing::host(&["small", "large"]), options, None)
}

fn flat() -> RoundContext {
    testing::context([FLAT_DRAFT, FLAT].map(testing::measured).into())
}

/// A request that goes on as the chooser says, round by round.
struct Driven {
    chooser: Chooser,
    context: RoundContext,
    facts: RoundFacts,
}

impl Driven {
    fn new(chooser: Chooser) -> Self {
        Self { chooser, context: flat(), facts: testing::round_facts(1, 1) }
    }

    /// One round with a match, in which so many of the tokens drafted are accepted.
    fn round(&mut self, lookup_match: u32, accepted: u32) -> Draft {
        self.facts.lookup_match = lookup_match;
        for decision in self.chooser.rounds(&self.context, &[self.facts]) {
            let Action::Draft(draft) = decision.action else { panic!("{decision:?}") };
            self.facts.draft = draft;
        }
        let draft = self.facts.draft;
        let drafted = match draft.drafter {
            Drafter::Lookup if lookup_match == 0 => 0,
            _ => draft.length,
        };
        self.facts.round += 1;
        self.facts.recent_drafted = drafted;
        self.facts.recent_accepted = accepted.min(drafted);
        self.facts.committed += 1 + self.facts.recent_accepted;
        draft
    }
}

const LOOKUP_ONLY: Options = Options {
    lookup: true,
    model: false,
    max_length: 31,
    exploration: 0.0,
    margin: 0.03,
    min_confidence: 0.0,
};

#[test]
fn what_happens_after_one_kind_of_match_tells_of_the_others() {
    let length_after = |rounds: u32, accepted: u32| {
        let mut driven = Driven::new(chooser(LOOKUP_ONLY));
        driven.context.tiers[1] = testing::measured(STEEP);
        (0..rounds).for_each(|_| _ = driven.round(3, accepted));
        driven.round(5, 0).length
    };
    let (at_first, after_failures) = (length_after(0, 0), length_after(6, 0));
    let after_successes = length_after(12, 31);
    assert!(after_failures < at_first, "{after_failures} after failures, {at_first} at first");
    assert!(after_successes > at_first, "{after_successes} after successes, {at_first} at first");
}

#[test]
fn one_request_does_not_set_the_belief_of_all() {
    let mut driven = Driven::new(chooser(LOOKUP_ONLY));
    let before = driven.chooser.learned()[1].lookup[5].share(0);
    (0..200).for_each(|_| _ = driven.round(12, 0));
    let after = driven.chooser.learned()[1].lookup[5].share(0);
    assert!(after < before && after > 0.2, "{before} became {after}");
}

#[test]
fn where_nothing_matches_lookup_stays_in_force_without_a_decision() {
    let mut driven = Driven::new(chooser(LOOKUP_ONLY));
    assert_eq!(driven.round(12, 11).drafter, Drafter::Lookup);
    driven.facts.lookup_match = 0;
    assert_eq!(driven.chooser.rounds(&flat(), &[driven.facts]), []);
}

#[test]
fn a_round_that_was_not_as_asked_teaches_nothing() {
    let mut driven = Driven::new(chooser(LOOKUP_ONLY));
    driven.round(12, 0);
    let prior = driven.chooser.learned()[1].clone();
    driven.facts.recent_rounds = 2;
    driven.chooser.rounds(&flat(), &[driven.facts]);
    assert_eq!(*driven.chooser.learned()[1], prior);
}

#[test]
fn a_long_prompt_is_not_read_by_the_draft_model_for_a_short_answer() {
    let drafter = |prompt_tokens, remaining, probed| {
        let mut chooser = chooser(Options { exploration: 0.0, ..Options::default() });
        let mut plan = testing::request_facts(2, prompt_tokens);
        if probed {
            plan.probes.push(crate::ProbeResult {
                tier: 0,
                probabilities: vec![0.5, 0.5],
                other: 0.0,
                entropy: 0.7,
                milliseconds: 9.0,
            });
        }
        chooser.admit(1, &plan);
        let mut facts = RoundFacts { prompt_tokens, remaining, ..testing::round_facts(1, 1) };
        for _ in 0..10 {
            if let Some(decision) = chooser.rounds(&flat(), &[facts]).first() {
                let Action::Draft(draft) = decision.action else { panic!("{decision:?}") };
                return draft.drafter;
            }
            facts.round += 1;
            facts.committed += 1;
            facts.remaining -= 1;
        }
        Drafter::None
    };
    assert_eq!(drafter(200, 200, false), Drafter::Model);
    assert_eq!(drafter(8000, 200, false), Drafter::None);
    assert_eq!(drafter(8000, 200, true), Drafter::Model, "a probe has read it already");
}

#[test]
fn what_the_host_measured_of_a_draft_model_is_believed_once() {
    let mut chooser = chooser(Options::default());
    let mut context = flat();
    context.acceptance = vec![
        Acceptance { tier: 1, drafter: Drafter::Model, by_position: vec![0.1; 4], rounds: 500 },
        Acceptance { tier: 9, drafter: Drafter::Model, by_position: vec![0.1; 4], rounds: 500 },
    ];
    chooser.rounds(&context, &[]);
    let share = chooser.learned()[1].model.share(0);
    assert!(share < 0.45, "{share}");
    chooser.rounds(&context, &[]);
    assert_eq!(chooser.learned()[1].model.share(0), share);
}

#[test]
fn a_carried_state_that_makes_no_sense_is_dropped_tier_by_tier() {
    let host = testing::host(&["small", "large"]);
    let mut odd = Learned::prior("small");
    odd.stops = f32::NAN;
    let mut good = Learned::prior("large");
    good.answer_tokens = 99.0;
    let carried = Some(vec![odd, good.clone(), Learned::prior("gone")]);
    let chooser = Chooser::new(&host, Options::default(), carried);
    assert_eq!(chooser.learned(), [&Learned::prior("small"), &good]);
}

#[test]
fn a_draft_tier_of_which_nothing_is_measured_is_judged_by_its_size() {
    let mut chooser = chooser(Options::default());
    let mut context = flat();
    for gear in &mut context.tiers[0].gears {
        gear.milliseconds = None;
    }
    chooser.rounds(&context, &[]);
    let one_row = chooser.tiers[0].costs.milliseconds(1);
    assert!((one_row - 22.3 / 3.0).abs() < 0.01, "{one_row}");
}

/// A device that compiles a graph for each gear: those of these rows are there.
fn graphs(compiled: &[u32], compile_milliseconds: f32) -> TierFacts {
    let mut facts = testing::measured(&[(1, 16.0), (2, 16.1), (4, 16.2), (8, 16.4), (16, 16.8)]);
    for gear in &mut facts.gears {
        gear.compiled = compiled.contains(&gear.rows);
        gear.compile_milliseconds = Some(if gear.compiled { 0.0 } else { compile_milliseconds });
    }
    facts
}

/// What is drafted after a match of 12 tokens, with so many tokens left.
fn length_with_graphs(compiled: &[u32], compile_milliseconds: f32, remaining: u32) -> u32 {
    let mut driven = Driven::new(chooser(LOOKUP_ONLY));
    driven.context.tiers[1] = graphs(compiled, compile_milliseconds);
    driven.facts.remaining = remaining;
    driven.round(12, 0).length
}

#[test]
fn compiled_gears_are_preferred() {
    // Where all are compiled, the widest that helps is taken; where they are not, one that
    // is, unless compiling is soon won back.
    assert_eq!(length_with_graphs(&[1, 2, 4, 8, 16], 0.0, 150), 15);
    assert_eq!(length_with_graphs(&[1, 2, 4], 10_000.0, 150), 3);
    assert_eq!(length_with_graphs(&[1, 2, 8], 10_000.0, 150), 7);
    assert_eq!(length_with_graphs(&[1, 2, 8], 0.1, 150), 15);
}

#[test]
fn a_graph_is_compiled_where_the_tokens_left_win_it_back() {
    let wide = |remaining| length_with_graphs(&[1, 2], 86.0, remaining) > 1;
    assert!(wide(1000), "hundreds of tokens win 86 ms back");
    assert!(!wide(6), "six tokens do not");
    // The answer's end comes nearer, and what was worth compiling no longer is.
    let first = (1..200).find(|&remaining| wide(remaining)).unwrap();
    assert!((8..100).contains(&first), "from {first} tokens on");
}
