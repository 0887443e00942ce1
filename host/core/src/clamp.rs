//! Bringing a policy's answers into bounds. The host never trusts a policy:
//! whatever it answers, what comes out of here can be carried out, and every
//! change is named.

use crate::{Action, Draft, Drafter, HostInfo, Plan, Probe, RoundDecision};

/// Most bytes of a plan's or decision's reason that the record keeps.
pub const MAX_REASON_BYTES: usize = 512;
/// Most bytes of a plan's label: it becomes a metric's label.
pub const MAX_LABEL_BYTES: usize = 64;
/// Most bytes of a probe's question: a probe must stay cheap.
pub const MAX_QUESTION_BYTES: usize = 2048;
/// Most answers that a probe may have.
pub const MAX_ANSWERS: usize = 16;
/// Most probes that one request may ask for.
pub const MAX_PROBES: usize = 4;

/// A value in bounds, and one sentence for each change that brought it there.
#[derive(Debug, Clone, PartialEq)]
pub struct Clamped<T> {
    /// The value, safe to carry out.
    pub value: T,
    /// What was changed; empty when nothing was.
    pub changes: Vec<String>,
}

impl Plan {
    /// Brings the plan into `host`'s bounds.
    pub fn clamped(mut self, host: &HostInfo) -> Clamped<Plan> {
        let mut changes = Vec::new();
        self.tier = clamp_tier(self.tier, host, "the plan's tier", &mut changes);
        self.draft = clamp_draft(self.draft, self.tier, host, &mut changes);
        truncate(&mut self.label, MAX_LABEL_BYTES, "label", &mut changes);
        truncate(&mut self.reason, MAX_REASON_BYTES, "reason", &mut changes);
        Clamped { value: self, changes }
    }
}

impl Probe {
    /// Brings the probe into `host`'s bounds. `None` when it asks nothing: fewer
    /// than two answers, or an empty one.
    pub fn clamped(mut self, host: &HostInfo) -> Option<Clamped<Probe>> {
        let mut changes = Vec::new();
        self.tier = clamp_tier(self.tier, host, "the probe's tier", &mut changes);
        truncate(&mut self.question, MAX_QUESTION_BYTES, "question", &mut changes);
        if self.answers.len() > MAX_ANSWERS {
            changes.push(format!("{} answers cut to {MAX_ANSWERS}", self.answers.len()));
            self.answers.truncate(MAX_ANSWERS);
        }
        for answer in &mut self.answers {
            truncate(answer, MAX_LABEL_BYTES, "answer", &mut changes);
        }
        let asks = self.answers.len() >= 2 && self.answers.iter().all(|a| !a.is_empty());
        asks.then_some(Clamped { value: self, changes })
    }
}

impl RoundDecision {
    /// Brings the decision into `host`'s bounds for a request that runs on `tier`.
    pub fn clamped(mut self, tier: u32, host: &HostInfo) -> Clamped<RoundDecision> {
        let mut changes = Vec::new();
        match &mut self.action {
            Action::Keep => {}
            Action::Draft(draft) => *draft = clamp_draft(*draft, tier, host, &mut changes),
            Action::MoveTo(to) => {
                if *to as usize >= host.tiers.len() {
                    changes.push(format!(
                        "move to tier {to} ignored: there are {} tiers",
                        host.tiers.len()
                    ));
                    self.action = Action::Keep;
                }
            }
        }
        truncate(&mut self.reason, MAX_REASON_BYTES, "reason", &mut changes);
        Clamped { value: self, changes }
    }
}

fn clamp_tier(tier: u32, host: &HostInfo, what: &str, changes: &mut Vec<String>) -> u32 {
    let largest = host.largest_tier();
    if tier > largest {
        changes.push(format!("{what} {tier} does not exist, used {largest} (of 0 to {largest})"));
    }
    tier.min(largest)
}

fn clamp_draft(mut draft: Draft, tier: u32, host: &HostInfo, changes: &mut Vec<String>) -> Draft {
    if draft.length > host.max_draft_length {
        changes.push(format!("draft length {} cut to {}", draft.length, host.max_draft_length));
        draft.length = host.max_draft_length;
    }
    // Whatever the drafter: JSON has no NaN, and the record keeps this.
    if !(0.0..=1.0).contains(&draft.min_confidence) {
        changes.push(format!("minimum confidence {} replaced by 0", draft.min_confidence));
        draft.min_confidence = 0.0;
    }
    if draft.drafter.uses_lookup() {
        let (min, max) = (draft.ngram_min, draft.ngram_max);
        draft.ngram_max = max.clamp(1, host.max_ngram.max(1));
        draft.ngram_min = min.clamp(1, draft.ngram_max);
        if (min, max) != (draft.ngram_min, draft.ngram_max) {
            changes.push(format!(
                "n-gram bounds {min} to {max} brought to {} to {}",
                draft.ngram_min, draft.ngram_max
            ));
        }
    }
    if draft.drafter.uses_model() {
        clamp_draft_model(&mut draft, tier, host, changes);
    }
    draft
}

/// A draft model must be another, smaller tier with the same token ids. Where
/// none is, the model is dropped from the drafter; lookup, if asked for, stays.
fn clamp_draft_model(draft: &mut Draft, tier: u32, host: &HostInfo, changes: &mut Vec<String>) {
    let fits = |candidate: u32| {
        let (draft, target) = (host.tiers.get(candidate as usize), host.tiers.get(tier as usize));
        candidate < tier
            && matches!((draft, target), (Some(d), Some(t)) if d.tokenizer == t.tokenizer)
    };
    let chosen = match draft.draft_tier {
        Some(candidate) if fits(candidate) => Some(candidate),
        Some(candidate) => {
            changes.push(format!("tier {candidate} cannot draft for tier {tier}"));
            host.default_draft_tier(tier)
        }
        None => host.default_draft_tier(tier),
    };
    draft.draft_tier = chosen;
    if chosen.is_none() {
        let without_model =
            if draft.drafter.uses_lookup() { Drafter::Lookup } else { Drafter::None };
        changes.push(format!(
            "no smaller tier shares tier {tier}'s tokenizer: drafter {} became {without_model}",
            draft.drafter
        ));
        draft.drafter = without_model;
    }
}

fn truncate(text: &mut String, most: usize, what: &str, changes: &mut Vec<String>) {
    if text.len() > most {
        changes.push(format!("{what} of {} bytes cut to {most}", text.len()));
        let end = (0..=most).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TierInfo;

    fn host(tokenizers: &[u32]) -> HostInfo {
        let tier = |(i, &tokenizer): (usize, &u32)| TierInfo {
            name: format!("t{i}"),
            parameters: 1,
            weight_bytes: 1,
            kv_bytes_per_token: 1,
            context: 2048,
            tokenizer,
        };
        HostInfo {
            version: "0".into(),
            device: "none".into(),
            tiers: tokenizers.iter().enumerate().map(tier).collect(),
            max_draft_length: 48,
            max_ngram: 12,
        }
    }

    fn plan(tier: u32, draft: Draft) -> Plan {
        Plan { tier, draft, ask_every: 0, label: String::new(), reason: String::new() }
    }

    #[test]
    fn a_plan_out_of_bounds_is_brought_in_and_says_so() {
        let draft = Draft {
            drafter: Drafter::LookupThenModel,
            length: 10_000,
            ngram_min: 0,
            ngram_max: 99,
            draft_tier: Some(7),
            min_confidence: f32::NAN,
        };
        let clamped = plan(99, draft).clamped(&host(&[0, 0]));
        let draft = clamped.value.draft;
        assert_eq!(clamped.value.tier, 1);
        assert_eq!((draft.length, draft.ngram_min, draft.ngram_max), (48, 1, 12));
        assert_eq!((draft.draft_tier, draft.min_confidence), (Some(0), 0.0));
        assert_eq!(clamped.changes.len(), 5, "{:?}", clamped.changes);
    }

    #[test]
    fn a_plan_in_bounds_is_left_alone() {
        let draft = Draft { drafter: Drafter::Lookup, length: 8, ngram_max: 3, ..Draft::NONE };
        let clamped = plan(0, draft).clamped(&host(&[0, 0]));
        assert_eq!(clamped, Clamped { value: plan(0, draft), changes: vec![] });
    }

    #[test]
    fn a_draft_model_with_another_tokenizer_is_dropped() {
        for (asked, left) in
            [(Drafter::Model, Drafter::None), (Drafter::LookupThenModel, Drafter::Lookup)]
        {
            let draft = Draft { drafter: asked, length: 4, ..Draft::NONE };
            let clamped = plan(1, draft).clamped(&host(&[0, 1]));
            assert_eq!(clamped.value.draft.drafter, left);
            assert_eq!(clamped.changes.len(), 1);
        }
    }

    #[test]
    fn the_smallest_tier_cannot_draft_for_itself() {
        let draft =
            Draft { drafter: Drafter::Model, length: 4, draft_tier: Some(0), ..Draft::NONE };
        assert_eq!(plan(0, draft).clamped(&host(&[0, 0])).value.draft.drafter, Drafter::None);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut p = plan(0, Draft::NONE);
        p.label = "é".repeat(200);
        let clamped = p.clamped(&host(&[0]));
        assert!(clamped.value.label.len() <= MAX_LABEL_BYTES);
        assert_eq!(clamped.changes.len(), 1);
    }

    #[test]
    fn a_move_to_a_tier_that_is_not_there_keeps() {
        let decision =
            RoundDecision { request: 1, action: Action::MoveTo(5), reason: String::new() };
        assert_eq!(decision.clamped(0, &host(&[0, 0])).value.action, Action::Keep);
    }

    #[test]
    fn a_probe_needs_two_answers() {
        let probe = |n: usize| Probe {
            tier: 0,
            question: "?".into(),
            answers: (0..n).map(|i| i.to_string()).collect(),
        };
        assert!(probe(1).clamped(&host(&[0])).is_none());
        assert_eq!(
            probe(40).clamped(&host(&[0])).map(|c| c.value.answers.len()),
            Some(MAX_ANSWERS)
        );
    }
}
