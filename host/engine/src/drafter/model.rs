//! A smaller tier as draft model: it runs ahead of the target, one token a pass, for
//! any number of requests at once, and stops early where it is unsure.
//!
//! Its KV cache is kept in step with its [`DraftContext`] by [`TokenSequence`]: what the
//! target rejected is rolled back, what it added is caught up on in the next draft's first
//! pass.

use super::context::DraftContext;
use crate::device::{DeviceError, Logits};
use crate::sampling::{Sampler, probability};
use crate::tier::{Part, Tier, TokenSequence};

/// One request for which a model drafts.
pub struct Drafting<'a> {
    /// What the draft tier holds of it.
    pub sequence: &'a mut TokenSequence,
    /// What the draft tier is shown of it.
    pub context: &'a mut DraftContext,
    /// Its tokens; the draft is appended.
    pub tokens: &'a mut Vec<u32>,
    /// Most tokens to draft.
    pub length: usize,
    /// Stop before a token that is less probable than this.
    pub min_confidence: f32,
    /// Chooses tokens, with the target's settings and noise: where the two models
    /// agree on the distribution they agree on the draw.
    pub sampler: &'a mut Sampler,
    /// The answer's position of the first draft token.
    pub position: usize,
    /// Tokens drafted so far.
    pub drafted: usize,
    /// Passes that it stood in.
    pub passes: usize,
    /// Its rows in them.
    pub rows: usize,
    /// Seconds that they took.
    pub seconds: f64,
}

/// Appends to each request's tokens up to `length` that the tier would say after them.
/// A request whose context the tier does not hold yet is caught up on, by at most
/// `chunk` rows of all such requests in a pass; those that are not caught up with the
/// first pass get no draft, unless `chunk` has no bound ([`usize::MAX`]).
///
/// # Errors
/// When the tier's device fails. What was drafted by then stands.
pub fn draft(
    tier: &mut Tier,
    requests: &mut [Drafting<'_>],
    chunk: usize,
    logits: &mut Logits,
) -> Result<(), DeviceError> {
    for request in &mut *requests {
        let prompt = request.tokens.len().saturating_sub(request.position);
        request.context.catch_up(request.tokens, prompt);
        tier.prepare(request.sequence, request.context.tokens(), 1);
        // A token beyond the draft tier's own context cannot be drafted by it.
        let room = (tier.context() + 1).saturating_sub(request.context.tokens().len());
        request.length = request.length.min(room);
    }
    let mut active: Vec<usize> = (0..requests.len()).filter(|&i| requests[i].length > 0).collect();
    while !active.is_empty() {
        let ready = pass(tier, requests, &active, chunk, logits)?;
        let mut going = Vec::with_capacity(active.len());
        for (row, &i) in ready.iter().enumerate() {
            if choose(tier, &mut requests[i], logits.row(row)) {
                going.push(i);
            }
        }
        if chunk == usize::MAX {
            going.extend(active.iter().copied().filter(|i| !ready.contains(i)));
            going.sort_unstable();
        }
        active = going;
    }
    Ok(())
}

/// One pass over what the tier lacks of these requests, as far as it fits; returns
/// those whose next token's logits it brought, in the order of their rows.
fn pass(
    tier: &mut Tier,
    requests: &mut [Drafting<'_>],
    active: &[usize],
    chunk: usize,
    logits: &mut Logits,
) -> Result<Vec<usize>, DeviceError> {
    let widest = tier.widest();
    // One row a request is a matter of course, more are catching up.
    let mut left = widest.min(chunk.max(active.len()));
    let mut ready = Vec::with_capacity(active.len());
    let mut parts = Vec::with_capacity(active.len());
    let mut ran = Vec::with_capacity(active.len());
    for (i, request) in requests.iter_mut().enumerate() {
        if active.binary_search(&i).is_err() || left == 0 {
            continue;
        }
        let held = request.sequence.cached();
        let tokens = request.context.tokens();
        let end = tokens.len().min(held + left);
        left -= end - held;
        let whole = end == tokens.len();
        if whole {
            ready.push(i);
        }
        ran.push((i, end - held));
        let wanted = usize::from(whole);
        parts.push(Part { sequence: request.sequence, tokens: &tokens[..end], wanted });
    }
    let done = tier.pass(&mut parts, logits)?;
    for (i, rows) in ran {
        requests[i].passes += 1;
        requests[i].rows += rows;
        requests[i].seconds += done.seconds;
    }
    Ok(ready)
}

/// Appends the token that the logits say; false where the draft ends.
fn choose(tier: &Tier, request: &mut Drafting<'_>, logits: &[f32]) -> bool {
    let position = request.position + request.drafted;
    let token = request.sampler.choose(logits, request.tokens, position);
    if request.min_confidence > 0.0 && probability(logits, token) < request.min_confidence {
        return false;
    }
    request.tokens.push(token);
    request.context.push(token);
    request.drafted += 1;
    request.drafted < request.length && !tier.tokenizer().is_end_of_generation(token)
}
