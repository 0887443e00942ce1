//! The steps for which a policy is asked: in situations of every day, with facts
//! at the ends of their types, twice, and with state of its own and damaged one.

use aio_core::{FailureKind, Hook};
use aio_policy::LoadError;

use super::{Status, Step, StepReport};
use crate::facts;
use crate::situation::{Answer, Given, Situation, Subject, ask, canned, hostile};

/// Findings of one step that are told; more of them say no more.
const FINDINGS: usize = 12;

/// Situations that a policy fails in, after which the rest is left out: one that
/// runs into its deadline each time would take minutes.
const FAILED_SITUATIONS: usize = 3;

/// All steps of this module, in order.
pub(super) fn steps(subject: &Subject<'_>) -> Vec<StepReport> {
    let (canned, hostile) = (canned(), hostile());
    let (usual, odd) = (Played::new(subject, &canned), Played::new(subject, &hostile));
    vec![
        usual.report(Step::DryRun),
        odd.report(Step::HostileFacts),
        determinism(subject, &[&usual, &odd]),
        snapshot(subject),
    ]
}

/// What a policy gave in each situation, up to where it failed too often.
struct Played<'a> {
    given: Vec<(&'a Situation, Result<Vec<Given>, LoadError>)>,
    /// Situations that were left out.
    left_out: usize,
}

impl<'a> Played<'a> {
    fn new(subject: &Subject<'_>, situations: &'a [Situation]) -> Self {
        let (mut given, mut failed) = (Vec::new(), 0);
        for situation in situations {
            if failed == FAILED_SITUATIONS {
                break;
            }
            let answers = situation.play(subject);
            failed += usize::from(has_failed(&answers));
            given.push((situation, answers));
        }
        let left_out = situations.len() - given.len();
        Self { given, left_out }
    }

    fn report(&self, step: Step) -> StepReport {
        let (mut failed, mut remarks) = (Vec::new(), Vec::new());
        for (situation, answers) in &self.given {
            let name = &situation.name;
            match answers {
                // A configuration may name a tier that is not on every host.
                Err(error @ LoadError::Refused { .. }) => remarks.push(format!("{name}: {error}")),
                Err(error) => failed.push(format!("{name}: {error}")),
                Ok(given) => {
                    for failure in given.iter().flat_map(|given| &given.failures) {
                        let sentence = format!("{name}: {failure}");
                        match failure.kind {
                            FailureKind::Clamped => remarks.push(sentence),
                            // It only says that there were failures before.
                            FailureKind::SetAside => {}
                            _ => failed.push(sentence),
                        }
                    }
                }
            }
        }
        // A policy that does the same wrong everywhere is told of it once.
        let (failed, remarks) = (once_each(failed), once_each(remarks));
        let of = self.given.len() + self.left_out;
        if !failed.is_empty() {
            let message = format!(
                "it fails where a host would then use the safe plan, correct it: {}",
                failed[0]
            );
            let mut details = [&failed[1..], &remarks].concat();
            cut(&mut details);
            if self.left_out > 0 {
                details.push(format!("{} of {of} situations were left out", self.left_out));
            }
            return StepReport::new(step, Status::Failed, message).details(details);
        }
        if !remarks.is_empty() {
            let message = format!("its answers are not what can be carried out: {}", remarks[0]);
            let mut details = remarks[1..].to_vec();
            cut(&mut details);
            return StepReport::new(step, Status::Warning, message).details(details);
        }
        let calls: usize =
            self.given.iter().filter_map(|(_, g)| g.as_ref().ok()).map(Vec::len).sum();
        StepReport::ok(step, format!("{calls} calls in {of} situations, all in bounds"))
    }
}

fn has_failed(answers: &Result<Vec<Given>, LoadError>) -> bool {
    let failures = |given: &Given| given.failures.iter().any(|f| f.kind != FailureKind::Clamped);
    match answers {
        Ok(given) => given.iter().any(failures),
        Err(error) => !matches!(error, LoadError::Refused { .. }),
    }
}

/// Leaves the first of the sentences that differ in nothing but the situation.
fn once_each(sentences: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeMap::<String, (String, usize)>::new();
    let mut order = Vec::new();
    for sentence in sentences {
        let (_, what) = sentence.split_once(": ").unwrap_or(("", &sentence));
        let what = what.to_owned();
        let entry = seen.entry(what.clone()).or_insert_with(|| {
            order.push(what);
            (sentence, 0)
        });
        entry.1 += 1;
    }
    let told = |what: String| match seen.remove(&what) {
        Some((sentence, 1)) | Some((sentence, 0)) => sentence,
        Some((sentence, times)) => format!("{sentence} (and {} times more)", times - 1),
        None => what,
    };
    order.into_iter().map(told).collect()
}

fn cut(details: &mut Vec<String>) {
    if details.len() > FINDINGS {
        let more = details.len() - FINDINGS;
        details.truncate(FINDINGS);
        details.push(format!("and {more} more"));
    }
}

/// Plays everything again. What ended by the clock is left out: how far a call
/// comes until then is not the policy's doing.
fn determinism(subject: &Subject<'_>, played: &[&Played<'_>]) -> StepReport {
    let (mut differences, mut calls) = (Vec::new(), 0);
    for (situation, first) in played.iter().flat_map(|played| &played.given) {
        let Ok(first) = first else { continue };
        if has_failed_by_clock(first) {
            continue;
        }
        let name = &situation.name;
        let again = match situation.play(subject) {
            Ok(again) => again,
            Err(error) => {
                differences.push(format!("{name}: it started once and not again: {error}"));
                continue;
            }
        };
        calls += first.len();
        let differing = first.iter().zip(&again).position(|(a, b)| !is_same(a, b));
        if let Some(call) = differing {
            let (a, b) = (&first[call], &again[call]);
            let what = if a.fuel == b.fuel { "another answer" } else { "another fuel" };
            differences.push(format!(
                "{name}: call {} ({}) gave {what} the second time ({} and {} units of fuel)",
                call + 1,
                a.hook,
                a.fuel,
                b.fuel
            ));
        } else if first.len() != again.len() {
            differences.push(format!("{name}: it asked for another number of probes"));
        }
    }
    match differences.first() {
        None => StepReport::ok(
            Step::Determinism,
            format!("{calls} calls gave the same answers for the same fuel twice"),
        ),
        Some(first) => {
            let message = format!(
                "a recorded request cannot be replayed, since what it answers depends on more \
                 than what it is told: {first}"
            );
            let mut details = differences[1..].to_vec();
            cut(&mut details);
            StepReport::new(Step::Determinism, Status::Failed, message).details(details)
        }
    }
}

fn has_failed_by_clock(given: &[Given]) -> bool {
    given.iter().flat_map(|given| &given.failures).any(|f| f.kind == FailureKind::Timeout)
}

/// NaN is in no answer after it was brought into bounds, so that equality is
/// what it seems.
fn is_same(a: &Given, b: &Given) -> bool {
    a.answer == b.answer && a.fuel == b.fuel && a.failures == b.failures
}

/// Lets a policy learn, carries its state over, and hands it damaged states.
fn snapshot(subject: &Subject<'_>) -> StepReport {
    let step = Step::Snapshot;
    let failed = |message: String| StepReport::new(step, Status::Failed, message);
    if !subject.prepared.hooks().contains(&Hook::Snapshot) {
        return StepReport::ok(step, "it exports no `snapshot`: it carries nothing over a reload");
    }
    let state = match learnt_state(subject) {
        Ok(state) => state,
        Err(message) => return failed(message),
    };
    let host = facts::two_tiers();
    if let Err(error) = subject.start(host.clone(), Some(state.clone())) {
        return failed(format!("it does not start with the state that it returned: {error}"));
    }
    for (what, damaged) in damaged(&state) {
        if let Err(error) = subject.start(host.clone(), Some(damaged)) {
            return failed(format!(
                "it does not start with {what}, and would be without a policy after a crash; \
                 drop what cannot be read and start cold: {error}"
            ));
        }
    }
    StepReport::ok(
        step,
        format!("{} bytes are carried over, damaged ones are dropped", state.len()),
    )
}

fn learnt_state(subject: &Subject<'_>) -> Result<Vec<u8>, String> {
    let host = facts::two_tiers();
    let mut policy = subject.start(host.clone(), None).map_err(|error| error.to_string())?;
    // Two situations of the same host, one after the other on one instance.
    let of_host = |situation: &&Situation| situation.host == host;
    let mut state = None;
    for situation in canned().iter().filter(of_host) {
        for call in &situation.calls {
            let given = ask(&mut policy, call);
            if let Answer::State(answer) = given.answer {
                if let Some(failure) = given.failures.first() {
                    return Err(format!("its state is not to be had: {failure}"));
                }
                state = answer;
            }
        }
    }
    state.ok_or_else(|| {
        "its state is not to be had: it was set aside after the failures above".to_owned()
    })
}

/// States as a disk or another policy may leave them.
fn damaged(state: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |at: usize| {
        let mut bytes = state.to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x55;
        }
        bytes
    };
    vec![
        ("an empty state", Vec::new()),
        ("the first half of its state", state[..state.len() / 2].to_vec()),
        ("its state without the last byte", state[..state.len().saturating_sub(1)].to_vec()),
        ("its state with the first byte changed", flipped(0)),
        ("its state with a byte in the middle changed", flipped(state.len() / 2)),
        ("its state twice", [state, state].concat()),
        ("a state that is no text", vec![0xff; 100]),
        ("a state of zeros", vec![0; 10_000]),
        ("JSON that is no state", b"[null, {\"version\": 1, \"state\": []}]".to_vec()),
    ]
}
