//! A smaller tier as draft model: it runs ahead of the target, one token a
//! pass, and stops early where it is unsure.
//!
//! Its KV cache is kept in step by [`TokenSequence`]: what the target rejected is
//! rolled back, what it added is caught up on in the next draft's first pass.

use crate::device::{DeviceError, Logits};
use crate::sampling::{Sampler, probability};
use crate::tier::{Pass, Tier, TokenSequence};

/// How to draft.
pub struct DraftRequest<'a> {
    /// Most tokens.
    pub length: usize,
    /// Stop before a token that is less probable than this.
    pub min_confidence: f32,
    /// Chooses tokens, with the target's settings and noise: where the two models
    /// agree on the distribution they agree on the draw.
    pub sampler: &'a mut Sampler,
    /// The answer's position of the first draft token.
    pub position: usize,
    /// Buffer for the tier's logits.
    pub logits: &'a mut Logits,
}

/// Appends to `tokens` up to `length` tokens that the tier would say after them;
/// returns what its passes did.
///
/// # Errors
/// When the tier's device fails.
pub fn draft(
    tier: &mut Tier,
    sequence: &mut TokenSequence,
    tokens: &mut Vec<u32>,
    request: DraftRequest<'_>,
) -> Result<Pass, DeviceError> {
    let DraftRequest { length, min_confidence, sampler, position, logits } = request;
    let mut total = Pass::default();
    // A token beyond the draft tier's own context cannot be drafted by it.
    let room = (tier.context() + 1).saturating_sub(tokens.len());
    for i in 0..length.min(room) {
        let pass = tier.extend(sequence, tokens, 1, logits)?;
        total.rows += pass.rows;
        total.seconds += pass.seconds;
        let row = logits.row(0);
        let token = sampler.choose(row, tokens, position + i);
        if min_confidence > 0.0 && probability(row, token) < min_confidence {
            break;
        }
        tokens.push(token);
        if tier.tokenizer().is_end_of_generation(token) {
            break;
        }
    }
    Ok(total)
}
