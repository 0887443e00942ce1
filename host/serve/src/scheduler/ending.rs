//! The end of a request: its policy is told, its record is made, its memory is kept
//! for prompts that begin alike.

use aio_core::{Answerer, Drafter, FinishReason, Outcome, RequestRecord, RoundRecord, Totals};
use aio_engine::Tier;

use super::running::{Phase, Running};
use super::{SAVE_PERIOD, Scheduler};
use crate::event::Event;
use crate::measure;

impl Scheduler {
    /// Ends what is finished or was given up.
    pub(super) fn end_finished(&mut self) {
        let mut ended = 0;
        for waiting in [false, true] {
            let list = if waiting { &mut self.waiting } else { &mut self.running };
            let (finished, others) =
                std::mem::take(list).into_iter().partition(|request| request.finish.is_some());
            *list = others;
            ended += finished.len();
            finished.into_iter().for_each(|request: Running| self.end(request));
        }
        if ended > 0 {
            self.policies.save_every(SAVE_PERIOD);
        }
    }

    fn end(&mut self, mut request: Running) {
        request.drop_draft();
        request.text.finish();
        self.release(&mut request);
        if request.phase == Phase::Rounds {
            let tokenizer = self.tiers.info().tiers[request.tier].tokenizer;
            let prompt = &request.tokens[..request.prompt_tokens];
            self.recent.keep(tokenizer, prompt, request.answer());
        }
        self.events.extend(request.more().map(|more| (request.number, Event::Text(more))));
        let mut totals = totals(&request);
        // Who was given up before there was a plan is none of its policy's business.
        let planned = matches!(request.phase, Phase::Prompt | Phase::Rounds);
        if planned {
            tell_outcome(&mut request, &totals);
        }
        totals.seconds = (self.tiers.clock().now() - request.start).as_secs_f64();
        totals.policy_seconds = request.policy_seconds;
        totals.policy_fuel = request.policy_fuel;
        let (number, policy) = (request.number, request.policy.clone());
        let record = self.record(request, totals);
        if planned {
            policy.ended(&record);
        }
        self.events.push((number, Event::Ended(Box::new(record))));
    }

    fn record(&self, request: Running, totals: Totals) -> RequestRecord {
        let speculation_off = speculation_off(&request);
        let tier = Answerer {
            index: request.tier as u32,
            name: self.tiers.all()[request.tier].name().to_owned(),
        };
        RequestRecord {
            device: self.tiers.info().device.clone(),
            request: request.number,
            token_ids: request.answer().to_vec(),
            text: request.text.into_text(),
            prompt_tokens: request.prompt_tokens as u32,
            // The last one always runs: its logits are the first that are wanted.
            cached_tokens: request.cached_tokens.min(request.prompt_tokens.saturating_sub(1))
                as u32,
            prefill_rows: request.prefill_rows as u32,
            finish_reason: request.finish.unwrap_or(FinishReason::Error),
            tier,
            policy: request.policy.identity().clone(),
            facts: request.facts,
            probes: request.probes,
            plan: request.plan,
            speculation_off,
            rounds: request.rounds,
            totals,
            preemptions: request.preemptions,
            memory: measure::memory(self.tiers.all().iter().map(Tier::memory)),
            failures: request.failures,
            shadows: Vec::new(),
        }
    }
}

fn tell_outcome(request: &mut Running, totals: &Totals) {
    let outcome = Outcome {
        request: request.number,
        tier: request.tier as u32,
        label: request.plan.label.clone(),
        finish: request.finish.unwrap_or(FinishReason::Error),
        prompt_tokens: request.prompt_tokens as u32,
        committed: totals.committed,
        rounds: request.rounds.len() as u32,
        drafted: totals.drafted,
        accepted: totals.accepted,
        prefill_milliseconds: (totals.prefill_seconds * 1e3) as f32,
        decode_milliseconds: (totals.decode_seconds * 1e3) as f32,
    };
    let asked = request.policy.finished(std::slice::from_ref(&outcome));
    request.policy_seconds += asked.seconds;
    request.policy_fuel += asked.fuel;
    request.failures.extend(asked.failures);
}

/// Sums over the rounds; what the policy took and how long it all was comes later.
fn totals(request: &Running) -> Totals {
    let milliseconds =
        |r: &RoundRecord| f64::from(r.draft_milliseconds) + f64::from(r.verify_milliseconds);
    Totals {
        drafted: request.rounds.iter().map(|r| r.drafted).sum(),
        accepted: request.rounds.iter().map(|r| r.accepted).sum(),
        committed: request.committed() as u32,
        prefill_seconds: request.prefill_seconds,
        decode_seconds: request.rounds.iter().map(milliseconds).sum::<f64>() / 1e3,
        probe_seconds: request.probe_seconds,
        waiting_seconds: request.waited,
        ..Totals::default()
    }
}

/// Why nothing was drafted, if nothing was.
fn speculation_off(request: &Running) -> Option<String> {
    if request.rounds.iter().any(|r| r.drafted > 0) {
        return None;
    }
    let draft = request.plan.draft;
    Some(if draft.drafter == Drafter::None || draft.length == 0 {
        format!("the plan drafts nothing ({})", request.plan.reason)
    } else if request.rounds.is_empty() {
        "the answer ended before its first round".into()
    } else {
        match draft.drafter {
            Drafter::Lookup => "lookup found no match".into(),
            _ => "the draft model was never confident enough".into(),
        }
    })
}
