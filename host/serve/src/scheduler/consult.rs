//! Asking the policy about what runs: once an iteration, for all requests of one
//! policy together.

use aio_core::{Action, Failure, FailureKind, Hook, Plan, RoundContext};
use aio_engine::tokenizer::SpecialTokens;

use super::Scheduler;
use super::running::{Phase, Running};

impl Scheduler {
    /// Asks about every request whose next round is due to be asked about, and carries
    /// the answers out. Shadows hear of every round: their plans want what they want.
    pub(super) fn consult(&mut self) {
        let concerned = |r: &Running| {
            r.is_in_rounds() && r.is_caught_up() && (is_due(r) || r.policy.shadows_rounds())
        };
        let mut left: Vec<usize> =
            (0..self.running.len()).filter(|&i| concerned(&self.running[i])).collect();
        while let Some(&first) = left.first() {
            let same = |&i: &usize| self.running[i].policy.is_same(&self.running[first].policy);
            let (group, others) = left.into_iter().partition::<Vec<_>, _>(same);
            left = others;
            self.consult_group(&group);
        }
    }

    /// Asks one policy about its requests.
    fn consult_group(&mut self, group: &[usize]) {
        let longest = self.tiers.info().max_ngram;
        let policy = self.running[group[0]].policy.clone();
        let context = RoundContext {
            tiers: self.tiers.facts(),
            acceptance: self.acceptance.facts().to_vec(),
            load: self.load(),
        };
        let due: Vec<usize> = group.iter().copied().filter(|&i| is_due(&self.running[i])).collect();
        let facts_since = |i: usize, told: usize| {
            let request: &Running = &self.running[i];
            let others = self.recent.of(self.tiers.info().tiers[request.tier].tokenizer);
            let before = self.tiers.all()[request.tier].tokens_before();
            request.round_facts(told, before, longest, others)
        };
        let facts: Vec<_> = due.iter().map(|&i| facts_since(i, self.running[i].told)).collect();
        let asked = (!due.is_empty()).then(|| policy.rounds(&context, &facts));
        if policy.shadows_rounds() {
            let from_start: Vec<_> = group.iter().map(|&i| facts_since(i, 0)).collect();
            let served = asked.as_ref().map_or(&[][..], |asked| &asked.answer);
            policy.round_begins(&context, &from_start, served);
        }
        let Some(asked) = asked else { return };
        for (n, &i) in due.iter().enumerate() {
            let request = &mut self.running[i];
            request.told = request.rounds.len();
            request.policy_seconds += asked.seconds / due.len() as f64;
            // What does not divide is the first one's.
            let count = due.len() as u64;
            request.policy_fuel += asked.fuel / count + if n == 0 { asked.fuel % count } else { 0 };
            request.failures.extend(asked.failures.iter().cloned());
        }
        for decision in asked.answer {
            let asked_about = |&i: &usize| self.running[i].number == decision.request;
            if let Some(i) = due.iter().copied().find(asked_about) {
                self.carry_out(i, decision.action, decision.reason);
            }
        }
    }

    fn carry_out(&mut self, i: usize, action: Action, reason: String) {
        let request = &mut self.running[i];
        let overrides = request.request.overrides;
        let done = match action {
            Action::Keep => None,
            // What the client decides, the policy does not.
            Action::Draft(_) if overrides.draft.is_some() => None,
            Action::MoveTo(_) if overrides.tier.is_some() => None,
            Action::Draft(draft) => {
                request.draft = draft;
                Some(action)
            }
            Action::MoveTo(to) => match self.move_to(i, to as usize) {
                Ok(()) => Some(action),
                Err(why) => {
                    let message =
                        format!("the policy moved the request to tier {to}: ignored, {why}");
                    self.running[i].failures.push(Failure {
                        hook: Hook::Rounds,
                        kind: FailureKind::Clamped,
                        message,
                    });
                    None
                }
            },
        };
        self.running[i].decided = (done, reason);
    }

    /// Lets another tier go on with a request: with its tokens where the two share token
    /// ids, else with the text that they make.
    fn move_to(&mut self, i: usize, to: usize) -> Result<(), String> {
        let info = self.tiers.info();
        let request = &mut self.running[i];
        let tier = &self.tiers.all()[to];
        let same = info.tiers[to].tokenizer == info.tiers[request.tier].tokenizer;
        let (tokens, prompt_tokens) = if same {
            (request.tokens.clone(), request.prompt_tokens)
        } else if request.text.is_between_characters() {
            let said = tier.tokenizer().encode(request.text.whole(), SpecialTokens::AsText);
            let mut tokens = request.prompts[to].clone();
            tokens.extend(said.map_err(|error| error.to_string())?);
            (tokens, request.prompts[to].len())
        } else {
            return Err(
                "its last character is unfinished, and the tier has another tokenizer".into()
            );
        };
        if tokens.len() >= tier.context() {
            return Err("its context is too short".into());
        }
        if !same {
            request.text.go_on_with(tier.tokenizer());
        }
        request.tokens = tokens;
        request.prompt_tokens = prompt_tokens;
        request.tier = to;
        // Another target may need another draft model, or have none.
        let plan = Plan { tier: to as u32, draft: request.draft, ..Plan::safe(info) };
        request.draft = plan.clamped(info).value.draft;
        self.open_running(i, to).map_err(|error| error.to_string())
    }
}

/// Whether its plan wants the policy to be asked before the next round.
fn is_due(request: &Running) -> bool {
    let recent = request.rounds.len() - request.told;
    request.phase == Phase::Rounds
        && request.ask_every > 0
        && recent >= request.ask_every as usize
        && request.policy.wants_rounds()
}
