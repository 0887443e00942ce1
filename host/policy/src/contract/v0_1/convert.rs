//! `aio:policy@0.1` to and from the core vocabulary, field by field. Both sides
//! are taken apart by name, so a field added to one of them does not compile
//! until it is carried over.

use aio_core::{
    Acceptance, Action, Draft, Drafter, FinishReason, Gear, HostInfo, Load, Outcome, Plan, Probe,
    ProbeResult, RequestFacts, RoundContext, RoundDecision, RoundFacts, TierFacts, TierInfo,
    Verdict,
};

use super::rows::{self, Rows};
use super::{Description, wit};

fn list<'a, A: 'a, B: From<&'a A>>(from: &'a [A]) -> Vec<B> {
    from.iter().map(Into::into).collect()
}

impl From<&TierInfo> for wit::TierInfo {
    fn from(from: &TierInfo) -> Self {
        let TierInfo { name, parameters, weight_bytes, kv_bytes_per_token, context, tokenizer } =
            from;
        Self {
            name: name.clone(),
            parameters: *parameters,
            weight_bytes: *weight_bytes,
            kv_bytes_per_token: *kv_bytes_per_token,
            context: *context,
            tokenizer: *tokenizer,
        }
    }
}

impl From<&HostInfo> for wit::HostInfo {
    fn from(from: &HostInfo) -> Self {
        let HostInfo { version, device, tiers, max_draft_length, max_ngram } = from;
        Self {
            version: version.clone(),
            device: device.clone(),
            tiers: list(tiers),
            max_draft_length: *max_draft_length,
            max_ngram: *max_ngram,
        }
    }
}

impl From<&Gear> for wit::Gear {
    fn from(from: &Gear) -> Self {
        let &Gear { rows, compiled, milliseconds, compile_milliseconds } = from;
        Self { rows, compiled, milliseconds, compile_milliseconds }
    }
}

impl Rows<wit::TierFacts> {
    /// Makes it what was measured of these tiers.
    fn become_of(&mut self, from: &[TierFacts]) {
        self.refill_with(from.iter().map(|TierFacts { gears }| {
            (rows::tier_facts(), gears.iter().map(|gear| rows::gear(&gear.into())))
        }));
    }
}

impl From<&Load> for wit::Load {
    fn from(from: &Load) -> Self {
        let &Load { running, queued } = from;
        Self { running, queued }
    }
}

impl From<&ProbeResult> for wit::ProbeResult {
    fn from(from: &ProbeResult) -> Self {
        let ProbeResult { tier, probabilities, other, entropy, milliseconds } = from;
        Self {
            tier: *tier,
            probabilities: probabilities.clone(),
            other: *other,
            entropy: *entropy,
            milliseconds: *milliseconds,
        }
    }
}

impl From<&RequestFacts> for rows::RequestFacts {
    fn from(from: &RequestFacts) -> Self {
        let RequestFacts {
            request,
            prompt_tokens,
            max_tokens,
            temperature,
            chat,
            tiers,
            load,
            probes,
        } = from;
        let mut of_tiers = Rows::<wit::TierFacts>::default();
        of_tiers.become_of(tiers);
        Self {
            request: *request,
            prompt_tokens: prompt_tokens.clone(),
            max_tokens: *max_tokens,
            temperature: *temperature,
            chat: *chat,
            tiers: of_tiers,
            load: load.into(),
            probes: list(probes),
        }
    }
}

impl rows::RoundContext {
    /// Makes this the context given, in the lists that are there.
    pub(super) fn become_of(&mut self, from: &RoundContext) {
        let RoundContext { tiers, acceptance, load } = from;
        self.tiers.become_of(tiers);
        self.acceptance.refill_with(acceptance.iter().map(|acceptance| {
            let Acceptance { tier, drafter, by_position, rounds } = acceptance;
            let shares = by_position.iter().map(|share| share.to_le_bytes());
            (rows::acceptance(*tier, (*drafter).into(), *rounds), shares)
        }));
        self.load = load.into();
    }
}

impl Rows<wit::RoundFacts> {
    /// Makes it these running requests, in the list that is there.
    pub(super) fn become_of(&mut self, from: &[RoundFacts]) {
        self.refill(from.iter().map(|facts| rows::round_facts(&facts.into())));
    }
}

impl From<&RoundFacts> for wit::RoundFacts {
    fn from(from: &RoundFacts) -> Self {
        let &RoundFacts {
            request,
            tier,
            round,
            prompt_tokens,
            committed,
            remaining,
            draft,
            recent_rounds,
            recent_drafted,
            recent_accepted,
            lookup_match,
        } = from;
        Self {
            request,
            tier,
            round,
            prompt_tokens,
            committed,
            remaining,
            draft: draft.into(),
            recent_rounds,
            recent_drafted,
            recent_accepted,
            lookup_match,
        }
    }
}

impl From<&Outcome> for wit::Outcome {
    fn from(from: &Outcome) -> Self {
        let Outcome {
            request,
            tier,
            label,
            finish,
            prompt_tokens,
            committed,
            rounds,
            drafted,
            accepted,
            prefill_milliseconds,
            decode_milliseconds,
        } = from;
        Self {
            request: *request,
            tier: *tier,
            label: label.clone(),
            finish: match finish {
                FinishReason::Stop => wit::FinishReason::Stop,
                FinishReason::Length => wit::FinishReason::Length,
                FinishReason::Cancelled => wit::FinishReason::Cancelled,
                FinishReason::Error => wit::FinishReason::Error,
            },
            prompt_tokens: *prompt_tokens,
            committed: *committed,
            rounds: *rounds,
            drafted: *drafted,
            accepted: *accepted,
            prefill_milliseconds: *prefill_milliseconds,
            decode_milliseconds: *decode_milliseconds,
        }
    }
}

impl From<Drafter> for wit::Drafter {
    fn from(from: Drafter) -> Self {
        match from {
            Drafter::None => Self::None,
            Drafter::Lookup => Self::Lookup,
            Drafter::Model => Self::Model,
            Drafter::LookupThenModel => Self::LookupThenModel,
        }
    }
}

impl From<wit::Drafter> for Drafter {
    fn from(from: wit::Drafter) -> Self {
        match from {
            wit::Drafter::None => Self::None,
            wit::Drafter::Lookup => Self::Lookup,
            wit::Drafter::Model => Self::Model,
            wit::Drafter::LookupThenModel => Self::LookupThenModel,
        }
    }
}

impl From<Draft> for wit::Draft {
    fn from(from: Draft) -> Self {
        let Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } = from;
        Self { drafter: drafter.into(), length, ngram_min, ngram_max, draft_tier, min_confidence }
    }
}

impl From<wit::Draft> for Draft {
    fn from(from: wit::Draft) -> Self {
        let wit::Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } = from;
        Self { drafter: drafter.into(), length, ngram_min, ngram_max, draft_tier, min_confidence }
    }
}

impl From<wit::Description> for Description {
    fn from(from: wit::Description) -> Self {
        let wit::Description { name, version, summary, config_schema } = from;
        Self { name, version, summary, config_schema }
    }
}

impl From<wit::Plan> for Plan {
    fn from(from: wit::Plan) -> Self {
        let wit::Plan { tier, draft, ask_every, label, reason } = from;
        Self { tier, draft: draft.into(), ask_every, label, reason }
    }
}

impl From<wit::Verdict> for Verdict {
    fn from(from: wit::Verdict) -> Self {
        match from {
            wit::Verdict::Decided(plan) => Self::Decided(plan.into()),
            wit::Verdict::Probe(wit::Probe { tier, question, answers }) => {
                Self::Probe(Probe { tier, question, answers })
            }
        }
    }
}

impl From<wit::RoundDecision> for RoundDecision {
    fn from(from: wit::RoundDecision) -> Self {
        let wit::RoundDecision { request, action, reason } = from;
        let action = match action {
            wit::Action::Keep => Action::Keep,
            wit::Action::Draft(draft) => Action::Draft(draft.into()),
            wit::Action::MoveTo(tier) => Action::MoveTo(tier),
        };
        Self { request, action, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(tiers: &[&[u32]], lengths: &[usize]) -> RoundContext {
        let gear = |&rows: &u32| Gear {
            rows,
            compiled: rows % 2 == 0,
            milliseconds: (rows > 1).then_some(rows as f32),
            compile_milliseconds: None,
        };
        let acceptance = |(tier, &positions): (u32, &usize)| Acceptance {
            tier,
            drafter: if tier == 0 { Drafter::Lookup } else { Drafter::Model },
            by_position: vec![0.25; positions],
            rounds: 7 + u64::from(tier),
        };
        RoundContext {
            tiers: tiers
                .iter()
                .map(|gears| TierFacts { gears: gears.iter().map(gear).collect() })
                .collect(),
            acceptance: (0..).zip(lengths).map(acceptance).collect(),
            load: Load { running: lengths.len() as u32, queued: tiers.len() as u32 },
        }
    }

    #[test]
    fn a_context_made_of_another_ones_lists_is_as_a_new_one() {
        let contexts = [
            context(&[&[1, 2, 4], &[1]], &[3, 0]),
            context(&[&[8]], &[1]),
            context(&[&[], &[1, 2], &[3]], &[2, 2, 9]),
            context(&[], &[]),
            context(&[&[5]], &[4, 1]),
        ];
        let mut kept = rows::RoundContext::default();
        for from in contexts {
            kept.become_of(&from);
            let mut new = rows::RoundContext::default();
            new.become_of(&from);
            assert_eq!(format!("{kept:?}"), format!("{new:?}"));
            // And nothing is left out on either way.
            let gears: usize = from.tiers.iter().map(|tier| tier.gears.len()).sum();
            assert_eq!(kept.tiers.sizes(), [8 * from.tiers.len(), 24 * gears]);
            let positions: usize = from.acceptance.iter().map(|a| a.by_position.len()).sum();
            assert_eq!(kept.acceptance.sizes(), [24 * from.acceptance.len(), 4 * positions]);
        }
    }
}
