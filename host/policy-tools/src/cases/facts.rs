//! Facts as test cases write them: the contract's records, of which every field
//! may be left out and is then as usual ([`defaults`] has all of them). What a
//! field means is said where the contract is (`wit/`).

use aio_core::{
    Acceptance, Draft, Drafter, FinishReason, Gear, Granted, HostInfo, Load, Outcome, ProbeResult,
    RequestFacts, RoundContext, RoundFacts, TierFacts, TierInfo,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::facts as usual;
use crate::situation::Call;

/// Something of which parts may be left out.
trait Partial {
    /// What it is a part of.
    type Full;

    /// With what is left out as in `base`.
    fn over(self, base: Self::Full, host: &HostInfo) -> Self::Full;
}

/// Something that stands in lists.
trait Element: Partial {
    /// What an element is when all of it is left out.
    fn usual(place: usize, host: &HostInfo) -> Self::Full;
}

impl<P: Element> Partial for Vec<P> {
    type Full = Vec<P::Full>;

    fn over(self, _: Self::Full, host: &HostInfo) -> Self::Full {
        let full = |(place, part): (usize, P)| part.over(P::usual(place, host), host);
        self.into_iter().enumerate().map(full).collect()
    }
}

macro_rules! whole {
    ($($type:ty),*) => {
        $(impl Partial for $type {
            type Full = $type;

            fn over(self, _: $type, _: &HostInfo) -> $type {
                self
            }
        })*
    };
}

whole!(bool, u32, u64, f32, String, Drafter, FinishReason, Option<u32>, Option<f32>);

impl Element for f32 {
    fn usual(_: usize, _: &HostInfo) -> f32 {
        0.0
    }
}

/// Makes a type whose fields are those of a record of the contract, each of which
/// may be left out.
macro_rules! partial {
    ($(#[$about:meta])* $name:ident of $record:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($field: Option<$type>),*
        }

        impl Partial for $name {
            type Full = $record;

            fn over(self, base: $record, host: &HostInfo) -> $record {
                let Self { $($field),* } = self;
                $record {
                    $($field: match $field {
                        Some(part) => part.over(base.$field, host),
                        None => base.$field,
                    }),*
                }
            }
        }
    };
}

partial! {
    /// The host: by default two tiers that share a tokenizer.
    HostFacts of HostInfo {
        version: String,
        device: String,
        tiers: Vec<TierPart>,
        max_draft_length: u32,
        max_ngram: u32,
    }
}

partial! {
    /// A tier; the first two are called as the default tier set's are.
    TierPart of TierInfo {
        name: String,
        parameters: u64,
        weight_bytes: u64,
        kv_bytes_per_token: u32,
        context: u32,
        tokenizer: u32,
    }
}

partial! {
    /// A gear; one that is written is not measured unless that is written too.
    GearPart of Gear {
        rows: u32,
        compiled: bool,
        milliseconds: Option<f32>,
        compile_milliseconds: Option<f32>,
    }
}

partial! {
    /// What was measured of a tier: by default all of ten gears.
    TierFactsPart of TierFacts { gears: Vec<GearPart> }
}

partial! {
    /// How much work there is: by default one request.
    LoadPart of Load { running: u32, queued: u32 }
}

partial! {
    /// What a probe found: by default nothing.
    ProbePart of ProbeResult {
        tier: u32,
        probabilities: Vec<f32>,
        other: f32,
        entropy: f32,
        milliseconds: f32,
    }
}

partial! {
    /// Facts of a request: by default a conversation of 200 tokens.
    Facts of RequestFacts {
        request: u64,
        prompt_tokens: Tokens,
        max_tokens: u32,
        temperature: f32,
        chat: bool,
        tiers: Vec<TierFactsPart>,
        load: LoadPart,
        probes: Vec<ProbePart>,
    }
}

partial! {
    /// How often drafts were accepted: by default those of lookup, on the largest tier.
    AcceptancePart of Acceptance {
        tier: u32,
        drafter: Drafter,
        by_position: Vec<f32>,
        rounds: u64,
    }
}

partial! {
    /// What all requests of a round have in common.
    ContextPart of RoundContext {
        tiers: Vec<TierFactsPart>,
        acceptance: Vec<AcceptancePart>,
        load: LoadPart,
    }
}

partial! {
    /// How a round drafts: by default not at all.
    DraftPart of Draft {
        drafter: Drafter,
        length: u32,
        ngram_min: u32,
        ngram_max: u32,
        draft_tier: Option<u32>,
        min_confidence: f32,
    }
}

partial! {
    /// Where a request stands: by default after its first round, on the largest tier.
    RequestPart of RoundFacts {
        request: u64,
        tier: u32,
        round: u32,
        prompt_tokens: u32,
        committed: u32,
        remaining: u32,
        draft: DraftPart,
        recent_rounds: u32,
        recent_drafted: u32,
        recent_accepted: u32,
        lookup_match: u32,
    }
}

partial! {
    /// What became of a request.
    OutcomeFacts of Outcome {
        request: u64,
        tier: u32,
        label: String,
        finish: FinishReason,
        prompt_tokens: u32,
        committed: u32,
        rounds: u32,
        drafted: u32,
        accepted: u32,
        prefill_milliseconds: f32,
        decode_milliseconds: f32,
    }
}

/// What `rounds` is asked about: by default one request, which is number 1.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoundsFacts {
    context: ContextPart,
    requests: Option<Vec<RequestPart>>,
}

/// The length of a prompt: one for all tiers, or one for each.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "prompt_tokens is a number, or a list of one for each tier")]
enum Tokens {
    All(u32),
    Each(Vec<u32>),
}

impl Partial for Tokens {
    type Full = Vec<u32>;

    fn over(self, _: Vec<u32>, host: &HostInfo) -> Vec<u32> {
        match self {
            Self::All(tokens) => vec![tokens; host.tiers.len()],
            Self::Each(tokens) => tokens,
        }
    }
}

impl Element for TierPart {
    fn usual(place: usize, _: &HostInfo) -> TierInfo {
        usual::tier(place)
    }
}

impl Element for GearPart {
    fn usual(_: usize, _: &HostInfo) -> Gear {
        Gear { rows: 1, compiled: true, milliseconds: None, compile_milliseconds: None }
    }
}

impl Element for TierFactsPart {
    fn usual(place: usize, _: &HostInfo) -> TierFacts {
        usual::tier_facts(place, true)
    }
}

impl Element for ProbePart {
    fn usual(_: usize, _: &HostInfo) -> ProbeResult {
        usual::probe_result(0, 0, true)
    }
}

impl Element for AcceptancePart {
    fn usual(_: usize, host: &HostInfo) -> Acceptance {
        usual::acceptance(host)
    }
}

impl Element for RequestPart {
    fn usual(place: usize, host: &HostInfo) -> RoundFacts {
        usual::round(host, place as u64 + 1)
    }
}

impl Element for OutcomeFacts {
    fn usual(place: usize, host: &HostInfo) -> Outcome {
        usual::outcome(host, place as u64 + 1)
    }
}

impl HostFacts {
    /// The whole host.
    ///
    /// # Errors
    /// When it has no tier.
    pub(super) fn full(&self) -> Result<HostInfo, String> {
        let base = usual::two_tiers();
        let host = self.clone().over(base.clone(), &base);
        if host.tiers.is_empty() {
            return Err("the case's host has no tiers: give it at least one".into());
        }
        Ok(host)
    }
}

impl Facts {
    /// The call of `plan` with these facts.
    ///
    /// # Errors
    /// When they do not fit the host.
    pub(super) fn call(&self, granted: Option<&Granted>, host: &HostInfo) -> Result<Call, String> {
        let facts = self.clone().over(usual::request(host, 1), host);
        fits("prompt_tokens", facts.prompt_tokens.len(), host)?;
        fits("tiers", facts.tiers.len(), host)?;
        Ok(Call::Plan { facts: Box::new(facts), granted: granted.cloned().unwrap_or_default() })
    }
}

impl RoundsFacts {
    /// The call of `rounds` with these facts.
    ///
    /// # Errors
    /// When they do not fit the host.
    pub(super) fn call(&self, host: &HostInfo) -> Result<Call, String> {
        let context = self.context.clone().over(usual::context(host), host);
        fits("tiers", context.tiers.len(), host)?;
        let requests = match &self.requests {
            Some(requests) => requests.clone().over(Vec::new(), host),
            None => vec![usual::round(host, 1)],
        };
        requests.iter().try_for_each(|request| exists(request.tier, host))?;
        Ok(Call::Rounds { context, requests })
    }
}

/// The call of `finished` with these outcomes.
///
/// # Errors
/// When they do not fit the host.
pub(super) fn finished(outcomes: &[OutcomeFacts], host: &HostInfo) -> Result<Call, String> {
    let outcomes = outcomes.to_vec().over(Vec::new(), host);
    outcomes.iter().try_for_each(|outcome| exists(outcome.tier, host))?;
    Ok(Call::Finished(outcomes))
}

fn fits(field: &str, entries: usize, host: &HostInfo) -> Result<(), String> {
    let tiers = host.tiers.len();
    if entries == tiers {
        Ok(())
    } else {
        Err(format!(
            "`{field}` has {entries} entries, but the host has {tiers} tiers: give one for each"
        ))
    }
}

fn exists(tier: u32, host: &HostInfo) -> Result<(), String> {
    let largest = host.largest_tier();
    if tier <= largest {
        Ok(())
    } else {
        Err(format!("`tier` is {tier}, but the host's tiers are 0 to {largest}"))
    }
}

/// What facts are when they are left out, as a case would write them.
pub fn defaults() -> Value {
    let host = usual::two_tiers();
    json!({
        "host": &host,
        "plan": usual::request(&host, 1),
        "rounds": {"context": usual::context(&host), "requests": [usual::round(&host, 1)]},
        "finished": [usual::outcome(&host, 1)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostInfo {
        usual::two_tiers()
    }

    fn plan(text: &str) -> Result<RequestFacts, String> {
        let facts: Facts = serde_json::from_str(text).unwrap();
        match facts.call(None, &host())? {
            Call::Plan { facts, .. } => Ok(*facts),
            other => panic!("{other:?}"),
        }
    }

    fn rounds(text: &str) -> Result<(RoundContext, Vec<RoundFacts>), String> {
        let facts: RoundsFacts = serde_json::from_str(text).unwrap();
        match facts.call(&host())? {
            Call::Rounds { context, requests } => Ok((context, requests)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        assert_eq!(plan("{}").unwrap(), usual::request(&host(), 1));
        let facts = plan(r#"{"prompt_tokens": 7, "load": {"queued": 3}}"#).unwrap();
        let load = Load { running: 1, queued: 3 };
        let expected =
            RequestFacts { prompt_tokens: vec![7, 7], load, ..usual::request(&host(), 1) };
        assert_eq!(facts, expected);
        let (context, requests) = rounds("{}").unwrap();
        assert_eq!((context, requests.len()), (usual::context(&host()), 1));
    }

    #[test]
    fn lists_are_as_long_as_they_are_written() {
        let (context, requests) = rounds(
            r#"{"context": {"acceptance": []},
                "requests": [{"lookup_match": 4}, {"request": 9, "draft": {"length": 3}}]}"#,
        )
        .unwrap();
        assert_eq!(context.acceptance, []);
        assert_eq!((requests[0].request, requests[0].lookup_match), (1, 4));
        assert_eq!((requests[1].request, requests[1].draft.length), (9, 3));
        let tiers =
            r#"{"tiers": [{"gears": [{"rows": 1, "milliseconds": 5.5}, {"rows": 8}]}, {}]}"#;
        let facts = plan(tiers).unwrap();
        let [one, eight] = facts.tiers[0].gears.as_slice() else { panic!("{facts:?}") };
        assert_eq!((one.milliseconds, eight.rows, eight.milliseconds), (Some(5.5), 8, None));
        assert_eq!(facts.tiers[1], usual::tier_facts(1, true));
    }

    #[test]
    fn what_does_not_fit_the_host_is_told() {
        for (result, says) in [
            (plan(r#"{"prompt_tokens": [1]}"#).map(drop), "`prompt_tokens` has 1 entries"),
            (plan(r#"{"tiers": []}"#).map(drop), "`tiers` has 0 entries, but the host has 2"),
            (rounds(r#"{"requests": [{"tier": 2}]}"#).map(drop), "`tier` is 2"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let none: HostFacts = serde_json::from_str(r#"{"tiers": []}"#).unwrap();
        assert!(none.full().unwrap_err().contains("no tiers"));
    }

    #[test]
    fn the_defaults_can_be_written_in_a_case() {
        let defaults = defaults();
        let host: HostFacts = serde_json::from_value(defaults["host"].clone()).unwrap();
        let host = host.full().unwrap();
        assert_eq!(host, usual::two_tiers());
        let facts: Facts = serde_json::from_value(defaults["plan"].clone()).unwrap();
        assert_eq!(
            facts.call(None, &host),
            Facts::default().call(None, &host),
            "written out and left out"
        );
        let facts: RoundsFacts = serde_json::from_value(defaults["rounds"].clone()).unwrap();
        assert_eq!(facts.call(&host), RoundsFacts::default().call(&host));
        let outcomes: Vec<OutcomeFacts> =
            serde_json::from_value(defaults["finished"].clone()).unwrap();
        assert_eq!(finished(&outcomes, &host), finished(&[OutcomeFacts::default()], &host));
    }
}
