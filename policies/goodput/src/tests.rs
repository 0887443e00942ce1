//! The goodput policy in the SDK's simulated decode loop, against every static
//! setting that an operator might choose in its place.

use aio_policy_sdk::start;
use aio_policy_sdk::testing::{
    self, Answer, Engine, FLAT, FLAT_DRAFT, Kind, RISING, RISING_DRAFT, Ran, STEEP,
    assert_schema_matches,
};

use super::*;

fn policy(engine: &Engine, config: &str, carried: Option<Vec<u8>>) -> Goodput {
    start(config, Start { host: engine.host(), carried }).unwrap()
}

fn lookup(length: u32) -> Draft {
    Draft { ngram_min: 1, ngram_max: 12, ..Draft::lookup(length) }
}

/// Settings that do well somewhere, by name.
fn statics() -> Vec<(String, Draft)> {
    let mut all = vec![("none".to_owned(), Draft::NONE)];
    all.extend([3, 7, 8, 11, 15].map(|n| (format!("lookup {n}"), lookup(n))));
    all.extend([7, 11].map(|n| {
        let draft = Draft { ngram_min: 3, ..lookup(n) };
        (format!("lookup {n} from 3"), draft)
    }));
    all.extend([2, 3, 4, 6, 8].map(|n| (format!("model {n}"), Draft::model(n))));
    all.extend([4, 7].map(|n| {
        let draft = Draft { drafter: Drafter::LookupThenModel, ..lookup(n) };
        (format!("lookup, then model {n}"), draft)
    }));
    all
}

/// Answers in the order in which they are asked for.
type Asked = Vec<(Kind, Answer)>;

/// Sixteen made-up answers of each kind, of differing length, other ones for each seed; the
/// kinds take turns.
fn made_up(seed: u64) -> Asked {
    let turn =
        |i: u64| Kind::ALL.map(|kind| (kind, Answer::of(kind, 100 + 20 * i as usize, seed + i)));
    (0..16).flat_map(turn).collect()
}

/// The recorded answers kind by kind, the other way round, and the kinds taking turns.
fn recorded() -> [(&'static str, Asked); 3] {
    let in_order = Answer::recorded();
    let each = in_order.len() / Kind::ALL.len();
    let turns = (0..each).flat_map(|i| in_order.iter().skip(i).step_by(each).cloned()).collect();
    let backwards = in_order.iter().rev().cloned().collect();
    [("in order", in_order), ("backwards", backwards), ("taking turns", turns)]
}

fn total(rans: impl IntoIterator<Item = Ran>) -> Ran {
    let mut total = Ran::default();
    rans.into_iter().for_each(|ran| total += ran);
    total
}

/// One kind under the policy, among all, against the settings that there are.
struct Compared {
    kind: Kind,
    ours: Ran,
    statics: Vec<Ran>,
}

/// A way to count milliseconds.
type Count = fn(&Ran) -> f64;

/// All that decoding took.
const WHOLE: Count = |ran| ran.milliseconds;

/// The same without the draft model's reading of the prompt, as `aio bench
/// speculate` counts: the policy does not know that it costs nothing there.
const READ_ALREADY: Count = |ran| ran.milliseconds - ran.reading;

impl Compared {
    fn to_best(&self, count: Count) -> f64 {
        let best = self.statics.iter().map(count).fold(f64::MAX, f64::min);
        best / count(&self.ours)
    }

    fn to_plain(&self, count: Count) -> f64 {
        count(&self.statics[0]) / count(&self.ours)
    }
}

/// What passes cost: the draft tier's, and the target's.
type Costs = [&'static [(u32, f32)]; 2];

/// All these answers under one policy, one after the other, and under each setting.
fn compare([draft, target]: Costs, asked: &Asked) -> Vec<Compared> {
    let mut engine = Engine::new(draft, target, 1);
    let mut policy = policy(&engine, "", None);
    let ours: Vec<_> = asked.iter().map(|(_, answer)| engine.run(&mut policy, answer)).collect();
    let fixed = |kind, setting| {
        let mut engine = Engine::new(draft, target, 1);
        let of_kind = asked.iter().filter(|(of, _)| *of == kind);
        total(of_kind.map(|(_, answer)| engine.run_fixed(setting, answer)))
    };
    let of_kind = |kind| Compared {
        kind,
        ours: total(
            asked.iter().zip(&ours).filter(|((of, _), _)| *of == kind).map(|(_, &ran)| ran),
        ),
        statics: statics().into_iter().map(|(_, setting)| fixed(kind, setting)).collect(),
    };
    Kind::ALL.map(of_kind).into()
}

/// How much faster than the best single setting over all kinds.
fn to_single(compared: &[Compared], count: Count) -> f64 {
    let sum = |i: usize| compared.iter().map(|c| count(&c.statics[i])).sum::<f64>();
    let single = (0..statics().len()).map(sum).fold(f64::MAX, f64::min);
    single / compared.iter().map(|c| count(&c.ours)).sum::<f64>()
}

#[test]
fn from_the_first_request_on_it_keeps_up_with_the_best_setting_of_each_kind() {
    for seed in [100, 1000] {
        println!("made up with {seed}");
        let whole = keeps_up(&compare([FLAT_DRAFT, FLAT], &made_up(seed)));
        assert!(whole >= 1.0, "{whole:.3}");
    }
}

#[test]
fn on_recorded_answers_it_keeps_up_in_whatever_order_they_come() {
    for costs in [[FLAT_DRAFT, FLAT], [RISING_DRAFT, RISING]] {
        for (order, asked) in recorded() {
            println!("{order}, a row {} ms", costs[1][0].1);
            let whole = keeps_up(&compare(costs, &asked));
            assert!(whole >= 0.98, "{whole:.3}");
        }
    }
}

/// Checks it kind by kind and over all; returns how much faster than the best single
/// setting it is when the draft model's reading counts.
fn keeps_up(compared: &[Compared]) -> f64 {
    for of_kind in compared {
        let Compared { kind, ours, .. } = of_kind;
        let (whole, read) = (of_kind.to_best(WHOLE), of_kind.to_best(READ_ALREADY));
        println!(
            "{kind:?}: {read:.3} of the best ({whole:.3} with reading), {:.2} times plain, {} \
             decisions in {} rounds",
            of_kind.to_plain(WHOLE),
            ours.decisions,
            ours.rounds
        );
        assert!(read >= 0.97, "{kind:?}: {read:.3}");
        // Whether reading the prompt pays shows only afterwards.
        assert!(whole >= 0.89, "{kind:?}: {whole:.3}");
        assert!(of_kind.to_plain(WHOLE) >= 0.97, "{kind:?}");
    }
    let (whole, read) = (to_single(compared, WHOLE), to_single(compared, READ_ALREADY));
    println!("over all: {read:.3} of the best single setting ({whole:.3} with reading)");
    assert!(read >= 1.03, "{read:.3}");
    whole
}

#[test]
fn where_every_row_costs_it_is_never_much_slower_than_plain() {
    let runs = [100, 200, 300, 400].map(|seed| compare([FLAT_DRAFT, STEEP], &made_up(seed)));
    for (i, of_kind) in runs[0].iter().enumerate() {
        let to_plain = runs.each_ref().map(|compared| compared[i].to_plain(WHOLE));
        println!("{:?}: {to_plain:.3?} times plain", of_kind.kind);
        // A few answers that begin unlike the rest cost what finding that out does.
        let mean = to_plain.iter().sum::<f64>() / runs.len() as f64;
        assert!(mean >= 0.98, "{:?}: {to_plain:.3?}", of_kind.kind);
        assert!(to_plain.iter().all(|&x| x >= 0.97), "{:?}: {to_plain:.3?}", of_kind.kind);
    }
    let to_single = runs.each_ref().map(|compared| to_single(compared, WHOLE));
    println!("over all: {to_single:.3?} of the best single setting");
    assert!(to_single.iter().all(|&x| x >= 1.03), "{to_single:.3?}");
}

#[test]
fn it_learns_that_lookup_pays_on_copying() {
    let mut engine = Engine::new(FLAT_DRAFT, FLAT, 1);
    let mut policy = policy(&engine, "", None);
    let copying = Answer::uniform(200, 12, true, false);
    let ran = engine.run(&mut policy, &copying);
    let plain = engine.run_fixed(Draft::NONE, &copying);
    assert!(plain.milliseconds / ran.milliseconds > 6.0, "{ran:?}");
    assert!(ran.longest >= 11, "{ran:?}");
}

#[test]
fn it_stops_drafting_where_nothing_is_accepted_and_rows_cost() {
    let mut engine = Engine::new(FLAT_DRAFT, STEEP, 1);
    let mut policy = policy(&engine, "", None);
    let hopeless = Answer::uniform(400, 6, false, false);
    engine.run(&mut policy, &hopeless);
    let ran = engine.run(&mut policy, &hopeless);
    let plain = engine.run_fixed(Draft::NONE, &hopeless);
    assert!(ran.drafted < 25, "{ran:?}");
    assert!(plain.milliseconds / ran.milliseconds > 0.97, "{ran:?}");
}

#[test]
fn drafts_by_lookup_fill_a_gear() {
    let gears = [(1, 20.0), (6, 21.0), (13, 24.0), (48, 200.0)];
    let mut engine = Engine::new(FLAT_DRAFT, &gears, 1);
    let mut policy = policy(&engine, r#"{"drafters": ["lookup"]}"#, None);
    let copying = Answer::uniform(120, 12, true, false);
    engine.run(&mut policy, &copying);
    let ran = engine.run(&mut policy, &copying);
    assert_eq!(ran.longest, 12, "{ran:?}");
}

#[test]
fn it_explores_within_its_price() {
    let mut engine = Engine::new(FLAT_DRAFT, STEEP, 1);
    let mut policy = policy(&engine, r#"{"exploration": 0.02}"#, None);
    let answers: Vec<_> = (0..20).map(|seed| Answer::of(Kind::Prose, 300, seed)).collect();
    let ran = total(answers.iter().map(|answer| engine.run(&mut policy, answer)));
    let explored = policy.chooser.explored();
    assert!(ran.drafted > 0 && explored > 0.0, "nothing was tried: {ran:?}");
    // Beside the share: three plain rounds at the start, and a last debt.
    assert!(explored < 0.02 + 0.002, "{explored}");
}

#[test]
fn without_exploration_nothing_is_lost_to_trials() {
    let mut engine = Engine::new(FLAT_DRAFT, STEEP, 1);
    let mut policy = policy(&engine, r#"{"exploration": 0}"#, None);
    engine.run(&mut policy, &Answer::of(Kind::Prose, 300, 1));
    assert_eq!(policy.chooser.explored(), 0.0);
}

#[test]
fn what_it_learned_survives_a_reload() {
    let hopeless = Answer::uniform(300, 2, false, false);
    let mut engine = Engine::new(FLAT_DRAFT, STEEP, 1);
    let mut first = policy(&engine, "", None);
    (0..4).for_each(|_| _ = engine.run(&mut first, &hopeless));
    let state = first.snapshot();
    let mut second = policy(&engine, "", Some(state.clone()));
    assert_eq!(second.snapshot(), state);
    let mut fresh = policy(&engine, "", None);
    assert_ne!(fresh.snapshot(), state);
    // Damaged, it starts like new.
    let mut damaged = policy(&engine, "", Some(state[1..].to_vec()));
    assert_eq!(damaged.snapshot(), fresh.snapshot());
}

#[test]
fn sixty_four_requests_at_once_are_kept_apart_and_forgotten() {
    let host = testing::host(&["small", "large"]);
    let tiers = vec![testing::measured(FLAT_DRAFT), testing::measured(FLAT)];
    let mut policy: Goodput = start("", Start { host: &host, carried: None }).unwrap();
    let mut context = testing::context(tiers);
    let mut drafts = vec![Draft::NONE; 64];
    let mut committed = vec![1; 64];
    let mut copied = 0;
    for round in 1..30 {
        // Alone in its pass a request pays for its rows only.
        context.load.running = 1;
        for id in 0..64u64 {
            let copies = id % 2 == 0;
            let i = id as usize;
            let drafted = if drafts[i].drafter == Drafter::Lookup { drafts[i].length } else { 0 };
            let accepted = if copies { drafted } else { 0 };
            committed[i] += 1 + accepted;
            let facts = RoundFacts {
                round,
                committed: committed[i],
                remaining: 1000,
                draft: drafts[i],
                recent_drafted: drafted,
                recent_accepted: accepted,
                lookup_match: 5,
                ..testing::round_facts(id, 1)
            };
            for decision in policy.rounds(&context, &[facts]) {
                assert_eq!(decision.request, id);
                let Action::Draft(draft) = decision.action else { panic!("{decision:?}") };
                drafts[i] = draft;
            }
        }
        copied = drafts.iter().step_by(2).filter(|d| d.length >= 7).count();
    }
    assert_eq!(copied, 32);
    let idle = |d: &&Draft| d.drafter != Drafter::Lookup || d.length <= 1;
    assert_eq!(drafts.iter().skip(1).step_by(2).filter(idle).count(), 32, "{drafts:?}");
    // All in one pass: an answer for each at most, and drafts must pay for rows.
    let all: Vec<_> = (0..64).map(|id| testing::round_facts(id, 1)).collect();
    let decisions = policy.rounds(&context, &all);
    assert!(decisions.len() <= 64);
    let outcomes: Vec<_> = (0..64).map(outcome).collect();
    policy.finished(&outcomes);
    assert_eq!(policy.chooser.remembered(), 0);
}

#[test]
fn requests_not_heard_of_are_forgotten_in_the_end() {
    let host = testing::host(&["small", "large"]);
    let mut policy: Goodput = start("", Start { host: &host, carried: None }).unwrap();
    let context = testing::context(vec![]);
    for id in 0..5000 {
        policy.rounds(&context, &[testing::round_facts(id, 1)]);
    }
    assert_eq!(policy.chooser.remembered(), aio_policy_sdk::chooser::MOST_REQUESTS);
}

#[test]
fn facts_that_make_no_sense_are_survived() {
    let host = testing::host(&["small", "large"]);
    let gear = |rows, ms| (rows, ms);
    let nonsense = [
        vec![],
        vec![gear(0, 1.0)],
        vec![gear(1, f32::NAN), gear(8, f32::INFINITY)],
        vec![gear(8, -1.0), gear(1, 0.0), gear(1, 5.0), gear(u32::MAX, 1e30)],
    ];
    for gears in nonsense {
        let mut policy: Goodput = start("", Start { host: &host, carried: None }).unwrap();
        for tiers in [0, 1, 2, 3] {
            let facts = vec![testing::measured(&gears); tiers];
            let mut plan = testing::request_facts(tiers, u32::MAX);
            plan.max_tokens = 0;
            plan.tiers = facts.clone();
            policy.plan(&plan, &host);
            let mut context = testing::context(facts);
            context.load.running = u32::MAX;
            for tier in [0, 1, 7] {
                let mut request = testing::round_facts(9, tier);
                request.lookup_match = u32::MAX;
                for extreme in [0, 1, u32::MAX] {
                    request.round = extreme;
                    request.prompt_tokens = extreme;
                    request.committed = extreme;
                    request.remaining = extreme;
                    request.recent_drafted = extreme;
                    request.recent_accepted = extreme;
                    request.draft = Draft { length: extreme, ..Draft::model(1) };
                    policy.rounds(&context, &[request, request]);
                    policy.rounds(&context, &[]);
                }
            }
        }
        policy.finished(&[outcome(9), outcome(10)]);
        assert!(!policy.snapshot().is_empty());
    }
}

fn outcome(request: u64) -> Outcome {
    Outcome {
        request,
        tier: 1,
        label: String::new(),
        finish: aio_policy_sdk::FinishReason::Stop,
        prompt_tokens: 10,
        committed: 100,
        rounds: 50,
        drafted: 60,
        accepted: 50,
        prefill_milliseconds: f32::NAN,
        decode_milliseconds: 1000.0,
    }
}

#[test]
fn a_decision_says_why_and_only_a_change_is_a_decision() {
    let host = testing::host(&["small", "large"]);
    let mut policy: Goodput = start("", Start { host: &host, carried: None }).unwrap();
    let tiers = vec![testing::measured(FLAT_DRAFT), testing::measured(FLAT)];
    let context = testing::context(tiers);
    let facts = RoundFacts { lookup_match: 12, ..testing::round_facts(1, 1) };
    let decisions = policy.rounds(&context, &[facts]);
    let [RoundDecision { action: Action::Draft(draft), reason, .. }] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!((draft.drafter, draft.ngram_min, draft.ngram_max), (Drafter::Lookup, 1, 12));
    assert!(reason.starts_with("lookup of 11 after a match of 12: "), "{reason}");
    assert!(reason.ends_with(" ms expected, 1 in 22.3 ms without"), "{reason}");
    let next = RoundFacts {
        round: 2,
        committed: 14,
        draft: *draft,
        recent_drafted: 11,
        recent_accepted: 11,
        ..facts
    };
    assert_eq!(policy.rounds(&context, &[next]), []);
}

#[test]
fn a_mistaken_configuration_is_refused_by_name() {
    let refusal = |config: &str, tiers: &[&str]| {
        let host = testing::host(tiers);
        start::<Goodput>(config, Start { host: &host, carried: None }).err().unwrap_or_default()
    };
    let two: &[&str] = &["small", "large"];
    for (config, sentence) in [
        (r#"{"max_length": 49}"#, "`max_length` is 49, but 1 to 48 is allowed"),
        (r#"{"max_length": 0}"#, "`max_length` is 0, but 1 to 48 is allowed"),
        (
            r#"{"exploration": 0.6}"#,
            "`exploration` is 0.6, but a share of time from 0 to 0.5 is allowed",
        ),
        (r#"{"margin": -1}"#, "`margin` is -1, but a number of tokens from 0 to 1 is allowed"),
        (
            r#"{"min_confidence": 2}"#,
            "`min_confidence` is 2, but a probability from 0 to 1 is allowed",
        ),
        (
            r#"{"drafters": ["model"], "tier": 0}"#,
            "`drafters` has \"model\", but no tier is smaller than small and shares its tokenizer: leave it out, or load such a tier",
        ),
    ] {
        assert_eq!(refusal(config, two), sentence);
    }
    assert!(refusal(r#"{"tier": "huge"}"#, two).starts_with("`tier` is \"huge\""));
    assert!(refusal(r#"{"drafters": ["guess"]}"#, two).contains("expected `lookup` or `model`"));
    assert_eq!(refusal("", &["only"]), "", "without a draft tier lookup is left");
}

#[test]
fn the_schema_knows_every_field() {
    assert_schema_matches::<Config>(Config::SCHEMA);
}
