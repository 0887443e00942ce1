//! What a draft model is shown of a request.
//!
//! A draft is a guess, so the model that makes it need not have read everything: what it
//! misses costs acceptance, reading it costs passes. While lookup drafts or nothing does,
//! a draft model falls behind, by hundreds of tokens where an answer copies; they are
//! mostly such as stand elsewhere in the request too. So it is shown the end of what it
//! missed, and is ready to draft in the time of one small pass.

use aio_core::CATCH_UP;

/// What a draft model is shown of one request, kept from round to round.
#[derive(Debug, Clone, Default)]
pub struct DraftContext {
    /// Tokens of the request, those left out apart, then what was drafted after them.
    tokens: Vec<u32>,
    /// How many of these are the request's.
    known: usize,
    /// How many of the request's they stand for, those left out among them.
    read: usize,
}

impl DraftContext {
    /// Brings it up to date with the request's tokens, of which the first `prompt` are the
    /// prompt: that is shown whole, of an answer's new tokens the last [`CATCH_UP`]. What
    /// was drafted stays as far as it came true.
    pub fn catch_up(&mut self, request: &[u32], prompt: usize) {
        if self.read > request.len() {
            // A request never loses tokens; should it ever, it is another one.
            *self = Self::default();
        }
        let new = &request[self.read..];
        let drafted = &self.tokens[self.known..];
        let true_drafts = drafted.iter().zip(new).take_while(|(a, b)| a == b).count();
        self.tokens.truncate(self.known + true_drafts);

        let missed = &new[true_drafts..];
        let of_prompt = prompt.saturating_sub(self.read + true_drafts).min(missed.len());
        let (of_prompt, of_answer) = missed.split_at(of_prompt);
        self.tokens.extend_from_slice(of_prompt);
        let left_out = of_answer.len().saturating_sub(CATCH_UP as usize);
        self.tokens.extend_from_slice(&of_answer[left_out..]);
        self.known = self.tokens.len();
        self.read = request.len();
    }

    /// Adds a token that the model drafted.
    pub fn push(&mut self, drafted: u32) {
        self.tokens.push(drafted);
    }

    /// All of it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CATCH_UP: usize = super::CATCH_UP as usize;

    #[test]
    fn drafts_stay_as_far_as_they_came_true() {
        let mut context = DraftContext::default();
        context.catch_up(&[1, 2, 3], 2);
        for drafted in [4, 5, 6] {
            context.push(drafted);
        }
        context.catch_up(&[1, 2, 3, 4, 5, 7], 2);
        assert_eq!(context.tokens(), [1, 2, 3, 4, 5, 7]);
        // Nothing was drafted since, and all that is new is shown.
        context.catch_up(&[1, 2, 3, 4, 5, 7, 8, 9], 2);
        assert_eq!(context.tokens(), [1, 2, 3, 4, 5, 7, 8, 9]);
    }

    #[test]
    fn of_a_long_gap_the_end_is_shown_and_of_a_prompt_everything() {
        let request: Vec<u32> = (0..200).collect();
        let mut context = DraftContext::default();
        context.catch_up(&request[..101], 100);
        assert_eq!(context.tokens(), &request[..101]);
        context.catch_up(&request, 100);
        let shown = [&request[..101], &request[200 - CATCH_UP..]].concat();
        assert_eq!(context.tokens(), shown);
        // First asked for late in an answer.
        let mut context = DraftContext::default();
        context.catch_up(&request, 100);
        let shown = [&request[..100], &request[200 - CATCH_UP..]].concat();
        assert_eq!(context.tokens(), shown);
    }

    proptest! {
        /// Whatever is drafted and committed in whatever steps: the prompt is there, the
        /// last token is the request's last, and what is shown is the request in order.
        #[test]
        fn it_shows_the_request_in_order_and_ends_where_it_ends(
            prompt in 1usize..40,
            steps in prop::collection::vec((1usize..60, 0usize..9, 0usize..9), 1..12),
        ) {
            let mut request: Vec<u32> = (0..prompt as u32).collect();
            let mut context = DraftContext::default();
            for (committed, right, wrong) in steps {
                let next = request.len() as u32;
                context.catch_up(&request, prompt);
                let shown = context.tokens();
                prop_assert_eq!(&shown[..prompt], &request[..prompt]);
                prop_assert!(shown.is_sorted_by(|a, b| a < b) && shown.last() == request.last());
                let tail = CATCH_UP.min(request.len());
                prop_assert_eq!(&shown[shown.len() - tail..], &request[request.len() - tail..]);
                let right = right.min(committed) as u32;
                (next..next + right).for_each(|token| context.push(token));
                (0..wrong).for_each(|_| context.push(u32::MAX));
                request.extend(next..next + committed as u32);
            }
        }
    }
}
