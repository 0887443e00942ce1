//! This way beside the generated one, on any facts and answers.

use super::*;
use crate::bindings::{self, Guest};
use crate::export::{Exported, hooks};
use crate::{Description, HostInfo, Outcome, RequestFacts, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::RefCell;

thread_local! {
    static ASKED: RefCell<Asked> = RefCell::default();
    static ANSWER: RefCell<Vec<RoundDecision>> = const { RefCell::new(Vec::new()) };
}

/// Notes what it is asked, the generated way and this one, and answers what it is told.
struct Noted;

impl Guest for Noted {
    fn rounds(context: RoundContext, requests: Vec<RoundFacts>) -> Vec<RoundDecision> {
        ASKED.set(Asked { context, requests });
        ANSWER.with_borrow(Clone::clone)
    }

    fn describe() -> Description {
        unreachable!("only `rounds` is called")
    }

    fn init(_: String, _: Option<Vec<u8>>, _: HostInfo) -> Result<(), String> {
        unreachable!("only `rounds` is called")
    }

    fn plan(_: RequestFacts) -> Verdict {
        unreachable!("only `rounds` is called")
    }

    fn finished(_: Vec<Outcome>) {}

    fn snapshot() -> Vec<u8> {
        Vec::new()
    }
}

impl Exported for Noted {
    fn rounds_given(given: Given) -> Vec<RoundDecision> {
        // In the lists of the call before.
        ASKED.with_borrow_mut(|asked| given.read_into(asked));
        ANSWER.with_borrow(Clone::clone)
    }
}

/// The export's arguments, as the host would write them.
fn written(context: &RoundContext, requests: &[RoundFacts]) -> Given {
    let gear = |gear: &Gear| GearRow {
        rows: gear.rows,
        compiled: u8::from(gear.compiled),
        milliseconds: OptionRow::of(gear.milliseconds),
        compile_milliseconds: OptionRow::of(gear.compile_milliseconds),
    };
    let tier =
        |tier: &TierFacts| TierRow { gears: List::of(tier.gears.iter().map(gear).collect()) };
    let acceptance = |acceptance: &Acceptance| AcceptanceRow {
        tier: acceptance.tier,
        drafter: acceptance.drafter as u8,
        by_position: List::of(acceptance.by_position.clone()),
        rounds: acceptance.rounds,
    };
    let request = |facts: &RoundFacts| RoundFactsRow {
        request: facts.request,
        tier: facts.tier,
        round: facts.round,
        prompt_tokens: facts.prompt_tokens,
        committed: facts.committed,
        remaining: facts.remaining,
        draft: DraftRow::of(facts.draft),
        recent_rounds: facts.recent_rounds,
        recent_drafted: facts.recent_drafted,
        recent_accepted: facts.recent_accepted,
        lookup_match: facts.lookup_match,
    };
    Given {
        tiers: List::of(context.tiers.iter().map(tier).collect()),
        acceptance: List::of(context.acceptance.iter().map(acceptance).collect()),
        load: context.load,
        requests: List::of(requests.iter().map(request).collect()),
    }
}

type Export = unsafe fn(*mut u8, usize, *mut u8, usize, i32, i32, *mut u8, usize) -> *mut u8;

/// What the hook was asked by an export, and what that returned, read anew.
fn through(
    export: Export,
    context: &RoundContext,
    requests: &[RoundFacts],
) -> (RoundContext, Vec<RoundFacts>, Vec<RoundDecision>) {
    let given = std::mem::ManuallyDrop::new(written(context, requests));
    let Given { tiers, acceptance, load, requests } = &*given;
    // SAFETY: the arguments are in the host's form, and the export's from now on. What
    // it returns is its answer's form, freed once it was read.
    let decisions = unsafe {
        let returned = export(
            tiers.first.cast(),
            tiers.len,
            acceptance.first.cast(),
            acceptance.len,
            load.running.cast_signed(),
            load.queued.cast_signed(),
            requests.first.cast(),
            requests.len,
        );
        let rows = &*returned.cast::<Returned>();
        let decisions = rows.decisions.rows().iter().map(decision).collect();
        bindings::__post_return_rounds::<Noted>(returned);
        decisions
    };
    let Asked { context, requests } = ASKED.take();
    // The next call finds these lists.
    let kept = Asked { context: context.clone(), requests: requests.clone() };
    ASKED.set(kept);
    (context, requests, decisions)
}

fn decision(row: &DecisionRow) -> RoundDecision {
    let action = match row.action {
        0 => Action::Keep,
        // SAFETY: a draft lies there in this case.
        1 => Action::Draft(unsafe { row.payload.draft }.read()),
        // SAFETY: and in this one a tier.
        _ => Action::MoveTo(unsafe { row.payload.tier }),
    };
    let reason = String::from_utf8(row.reason.rows().to_vec()).unwrap();
    RoundDecision { request: row.request, action, reason }
}

fn floats() -> impl Strategy<Value = f32> {
    // NaN is equal to nothing; what becomes of its bits is the host's tests' matter.
    any::<f32>().prop_map(|value| if value.is_nan() { -0.0 } else { value })
}

fn maybe<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(of)
}

fn drafters() -> impl Strategy<Value = Drafter> {
    use Drafter::*;
    prop::sample::select(vec![None, Lookup, Model, LookupThenModel])
}

fn gears() -> impl Strategy<Value = Gear> {
    let fields = (any::<u32>(), any::<bool>(), maybe(floats()), maybe(floats()));
    fields.prop_map(|(rows, compiled, milliseconds, compile_milliseconds)| Gear {
        rows,
        compiled,
        milliseconds,
        compile_milliseconds,
    })
}

fn drafts() -> impl Strategy<Value = Draft> {
    let fields = (drafters(), any::<[u32; 3]>(), maybe(any::<u32>()), floats());
    fields.prop_map(|(drafter, [length, ngram_min, ngram_max], draft_tier, confidence)| {
        let min_confidence = confidence;
        Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence }
    })
}

fn contexts() -> impl Strategy<Value = RoundContext> {
    let tiers = vec(vec(gears(), 0..12).prop_map(|gears| TierFacts { gears }), 0..4);
    let acceptance = (any::<u32>(), drafters(), vec(floats(), 0..5), any::<u64>());
    let acceptance = acceptance.prop_map(|(tier, drafter, by_position, rounds)| Acceptance {
        tier,
        drafter,
        by_position,
        rounds,
    });
    (tiers, vec(acceptance, 0..4), any::<[u32; 2]>()).prop_map(
        |(tiers, acceptance, [running, queued])| RoundContext {
            tiers,
            acceptance,
            load: Load { running, queued },
        },
    )
}

fn requests() -> impl Strategy<Value = Vec<RoundFacts>> {
    let fields = (any::<u64>(), any::<[u32; 9]>(), drafts());
    let facts = fields.prop_map(|(request, n, draft)| RoundFacts {
        request,
        tier: n[0],
        round: n[1],
        prompt_tokens: n[2],
        committed: n[3],
        remaining: n[4],
        draft,
        recent_rounds: n[5],
        recent_drafted: n[6],
        recent_accepted: n[7],
        lookup_match: n[8],
    });
    vec(facts, 0..6)
}

fn decisions() -> impl Strategy<Value = Vec<RoundDecision>> {
    let action = prop_oneof![
        Just(Action::Keep),
        drafts().prop_map(Action::Draft),
        any::<u32>().prop_map(Action::MoveTo),
    ];
    let decision = (any::<u64>(), action, ".{0,9}")
        .prop_map(|(request, action, reason)| RoundDecision { request, action, reason });
    vec(decision, 0..6)
}

proptest! {
    // Miri, which looks at each access, takes a second for some.
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 12 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_read_and_returned_is_what_the_generated_way_does(
        calls in vec((contexts(), requests(), decisions()), 1..4),
    ) {
        for (context, requests, decisions) in calls {
            ANSWER.set(decisions.clone());
            for export in [
                bindings::_export_rounds_cabi::<Noted> as Export,
                hooks::_export_rounds_cabi::<Noted>,
            ] {
                let (asked, asked_requests, answer) = through(export, &context, &requests);
                prop_assert_eq!(&asked, &context);
                prop_assert_eq!(&asked_requests, &requests);
                prop_assert_eq!(&answer, &decisions);
            }
        }
    }
}
