//! Facts at the ends of what their types allow. A host should not tell such
//! things; one with a defect, a device that measures nonsense, or a client that
//! asks for the impossible may. What the contract promises is kept: lists by
//! tier have an entry for every tier, and tiers named are there.

use std::collections::BTreeMap;

use aio_core::{
    Acceptance, Drafter, Gear, Granted, HostInfo, Load, Outcome, ProbeResult, RequestFacts,
    RoundContext, RoundFacts, TierFacts, TierInfo,
};

use super::{Call, Situation};
use crate::facts;

/// Text that breaks what is careless: control and combining characters, quotes,
/// another direction, characters of four bytes.
const ODD: &str = "\0\u{1b}[2J\r\n\t\"'\\{}%s\u{202e}e\u{301}\u{1f980}\u{fffd}\u{10ffff}";

/// Requests of the largest round.
const CROWD: u64 = 1000;

/// The situations that no policy may fail in.
pub fn hostile() -> Vec<Situation> {
    let mut situations = vec![
        everything("no gears at all", |facts| facts.gears(&[])),
        everything("the greatest counts", Facts::greatest),
        everything("all counts zero", Facts::zero),
        crowd(),
        odd_acceptance(),
        odd_probes(),
        odd_grants(),
        before_any_plan(),
        odd_hosts("a host with empty names and no room", |host| {
            (host.version, host.device) = (String::new(), String::new());
            (host.max_draft_length, host.max_ngram) = (0, 0);
            let bare = |tier: &mut TierInfo| {
                let name = String::new();
                let (parameters, weight_bytes, kv_bytes_per_token, context) = (0, 0, 0, 0);
                let tokenizer = tier.tokenizer;
                *tier = TierInfo {
                    name,
                    parameters,
                    weight_bytes,
                    kv_bytes_per_token,
                    context,
                    tokenizer,
                };
            };
            host.tiers.iter_mut().for_each(bare);
        }),
        odd_hosts("a host with odd names and the greatest numbers", |host| {
            (host.version, host.device) = (ODD.into(), ODD.repeat(50));
            (host.max_draft_length, host.max_ngram) = (u32::MAX, u32::MAX);
            for tier in &mut host.tiers {
                tier.name = ODD.repeat(20);
                (tier.parameters, tier.weight_bytes) = (u64::MAX, u64::MAX);
                (tier.kv_bytes_per_token, tier.context) = (u32::MAX, u32::MAX);
                tier.tokenizer = u32::MAX;
            }
        }),
        odd_hosts("a host with 100 tiers", |host| {
            host.tiers = (0..100).map(facts::tier).collect();
        }),
    ];
    for (name, cost) in [
        ("costs that are no numbers", f32::NAN),
        ("infinite costs", f32::INFINITY),
        ("costs of zero", 0.0),
        ("negative costs", -1.0),
        ("the greatest costs", f32::MAX),
        ("the smallest costs", f32::from_bits(1)),
    ] {
        situations.push(everything(name, |facts| facts.gears(&[(1, cost), (8, cost)])));
    }
    situations
}

/// The facts of one of each call.
struct Facts {
    request: RequestFacts,
    context: RoundContext,
    round: RoundFacts,
    outcome: Outcome,
}

impl Facts {
    fn gears(&mut self, costs: &[(u32, f32)]) {
        let gear = |&(rows, cost): &(u32, f32)| Gear {
            rows,
            compiled: true,
            milliseconds: Some(cost),
            compile_milliseconds: Some(cost),
        };
        let tier = TierFacts { gears: costs.iter().map(gear).collect() };
        self.request.tiers.fill(tier.clone());
        self.context.tiers.fill(tier);
        for milliseconds in
            [&mut self.outcome.prefill_milliseconds, &mut self.outcome.decode_milliseconds]
        {
            *milliseconds = costs.first().map_or(0.0, |(_, cost)| *cost);
        }
    }

    fn greatest(&mut self) {
        self.counts(u32::MAX);
        self.gears(&[(u32::MAX, f32::MAX)]);
        self.request.temperature = f32::INFINITY;
    }

    fn zero(&mut self) {
        self.counts(0);
        self.gears(&[(0, 0.0)]);
        self.request.temperature = f32::NAN;
    }

    fn counts(&mut self, count: u32) {
        let Self { request, context, round, outcome } = self;
        request.request = if count == 0 { 0 } else { u64::MAX };
        (round.request, outcome.request) = (request.request, request.request);
        request.prompt_tokens.fill(count);
        request.max_tokens = count;
        request.load = Load { running: count, queued: count };
        context.load = request.load;
        for acceptance in &mut context.acceptance {
            acceptance.rounds = if count == 0 { 0 } else { u64::MAX };
        }
        for value in [
            &mut round.round,
            &mut round.prompt_tokens,
            &mut round.committed,
            &mut round.remaining,
            &mut round.recent_rounds,
            &mut round.recent_drafted,
            &mut round.recent_accepted,
            &mut round.lookup_match,
            &mut outcome.prompt_tokens,
            &mut outcome.committed,
            &mut outcome.rounds,
            &mut outcome.drafted,
            &mut outcome.accepted,
        ] {
            *value = count;
        }
    }

    /// A plan, some rounds of which the counts go back and forth, an end, a
    /// snapshot, and all of it again.
    fn calls(self) -> Vec<Call> {
        let Self { request, context, round, outcome } = self;
        let plan = Call::Plan { facts: Box::new(request), granted: Granted::default() };
        let ask =
            |round: RoundFacts| Call::Rounds { context: context.clone(), requests: vec![round] };
        let before =
            RoundFacts { round: round.round / 2, committed: round.committed / 2, ..round.clone() };
        let once = [
            plan,
            ask(round.clone()),
            ask(before),
            ask(round),
            Call::Finished(vec![outcome]),
            Call::Snapshot,
        ];
        [once.clone(), once].concat()
    }
}

fn usual(host: &HostInfo) -> Facts {
    Facts {
        request: facts::request(host, 1),
        context: facts::context(host),
        round: facts::round(host, 1),
        outcome: facts::outcome(host, 1),
    }
}

fn situation(name: &str, host: HostInfo, calls: Vec<Call>) -> Situation {
    Situation { name: name.into(), host, calls, probes_are_sure: true }
}

fn everything(name: &str, change: impl FnOnce(&mut Facts)) -> Situation {
    let host = facts::two_tiers();
    let mut facts = usual(&host);
    change(&mut facts);
    situation(name, host, facts.calls())
}

fn odd_hosts(name: &str, change: impl FnOnce(&mut HostInfo)) -> Situation {
    let mut host = facts::two_tiers();
    change(&mut host);
    let calls = usual(&host).calls();
    situation(name, host, calls)
}

fn crowd() -> Situation {
    let host = facts::two_tiers();
    let load = Load { running: u32::try_from(CROWD).unwrap_or(u32::MAX), queued: 100_000 };
    let context = RoundContext { load, ..facts::context(&host) };
    let requests = |round| {
        let of = |request| RoundFacts {
            round,
            committed: 1 + round,
            lookup_match: (request % 9) as u32,
            ..facts::round(&host, request)
        };
        (0..CROWD).map(of).collect()
    };
    let mut calls: Vec<Call> = (1..6)
        .map(|round| Call::Rounds { context: context.clone(), requests: requests(round) })
        .collect();
    calls.push(Call::Finished((0..CROWD).map(|request| facts::outcome(&host, request)).collect()));
    calls.push(Call::Snapshot);
    situation("1,000 requests in a round", host, calls)
}

fn odd_acceptance() -> Situation {
    let host = facts::two_tiers();
    let shares = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 2.0, f32::MAX, -0.0];
    let mut lists = vec![Vec::new(), shares.to_vec(), vec![1.0; 1000]];
    lists.extend(shares.map(|share| vec![share]));
    let mut calls = Vec::new();
    for by_position in lists {
        let of = |drafter| Acceptance {
            tier: host.largest_tier(),
            drafter,
            by_position: by_position.clone(),
            rounds: 1000,
        };
        let drafters = [Drafter::None, Drafter::Lookup, Drafter::Model, Drafter::LookupThenModel];
        // Twice the same drafter is odd too.
        let acceptance = [drafters, drafters].concat().into_iter().map(of).collect();
        let context = RoundContext { acceptance, ..facts::context(&host) };
        let requests = vec![RoundFacts { lookup_match: 5, ..facts::round(&host, 1) }];
        calls.push(Call::Rounds { context, requests });
    }
    situation("acceptance that is none", host, calls)
}

/// Results of probes that it did not ask for: another policy may have, when a
/// reload is tried out on the facts of earlier requests.
fn odd_probes() -> Situation {
    let host = facts::two_tiers();
    let lists = [
        vec![],
        vec![1.0],
        vec![0.0; 3],
        vec![f32::NAN; 3],
        vec![f32::INFINITY; 2],
        vec![-1.0, 3.0],
        vec![0.001; 1000],
    ];
    let odd = [0.0, f32::NAN, f32::INFINITY, -1.0].into_iter().cycle();
    let plan = |(probabilities, odd): (Vec<f32>, f32)| {
        let result =
            ProbeResult { tier: 0, probabilities, other: odd, entropy: odd, milliseconds: odd };
        let probes = vec![result; 3];
        let facts = RequestFacts { probes, ..facts::request(&host, 1) };
        Call::Plan { facts: Box::new(facts), granted: Granted::default() }
    };
    let calls = lists.into_iter().zip(odd).map(plan).collect();
    situation("results of probes that it did not ask for", host, calls)
}

fn odd_grants() -> Situation {
    let host = facts::two_tiers();
    let long = ODD.repeat(aio_core::MAX_GRANTED_TEXT_BYTES / ODD.len());
    let odd = Granted {
        prompt_text: Some(long.clone()),
        prompt_tokens: vec![vec![u32::MAX; aio_core::MAX_GRANTED_TOKENS]; 2],
        metadata: BTreeMap::from([
            (String::new(), String::new()),
            ("client".to_owned(), long),
            (ODD.to_owned(), ODD.to_owned()),
        ]),
    };
    let empty = Granted { prompt_text: Some(String::new()), ..Granted::default() };
    let of = |granted| Call::Plan { facts: Box::new(facts::request(&host, 1)), granted };
    let calls = [Granted::default(), empty, odd].map(of).into();
    situation("an empty prompt, one of odd characters, odd metadata", host, calls)
}

fn before_any_plan() -> Situation {
    let host = facts::two_tiers();
    let nothing = Call::Rounds { context: facts::context(&host), requests: Vec::new() };
    let label = ODD.chars().take(20).collect();
    let outcome = Outcome { label, ..facts::outcome(&host, 7) };
    let calls = vec![
        nothing,
        Call::Snapshot,
        Call::Finished(vec![outcome.clone(), outcome]),
        Call::Finished(Vec::new()),
        Call::Snapshot,
    ];
    situation("nothing to decide, outcomes of unknown requests", host, calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_promises_is_kept() {
        for Situation { name, host, calls, .. } in hostile() {
            let tiers = host.tiers.len();
            for call in &calls {
                match call {
                    Call::Plan { facts, .. } => {
                        assert_eq!(facts.tiers.len(), tiers, "{name}");
                        assert_eq!(facts.prompt_tokens.len(), tiers, "{name}");
                    }
                    Call::Rounds { context, requests } => {
                        assert_eq!(context.tiers.len(), tiers, "{name}");
                        assert!(requests.iter().all(|r| (r.tier as usize) < tiers), "{name}");
                    }
                    Call::Finished(_) | Call::Snapshot => {}
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_types_are_reached() {
        let situations = hostile();
        let plans = situations.iter().flat_map(|s| &s.calls).filter_map(|call| match call {
            Call::Plan { facts, .. } => Some(facts),
            _ => None,
        });
        let costs: Vec<f32> = plans
            .flat_map(|facts| &facts.tiers)
            .flat_map(|tier| &tier.gears)
            .filter_map(|gear| gear.milliseconds)
            .collect();
        assert!(costs.iter().any(|cost| cost.is_nan()) && costs.contains(&f32::INFINITY));
        assert!(costs.iter().any(|cost| *cost < 0.0) && costs.contains(&0.0));
    }
}
