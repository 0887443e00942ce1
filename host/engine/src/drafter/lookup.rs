//! Lookup: drafts what followed the last time the current suffix occurred, in the
//! request's own tokens (Saxena 2023, "Prompt Lookup Decoding") or in answers given
//! lately (as in Oliaro et al. 2024, "SuffixDecoding"): answers to questions of one
//! kind begin alike and go on alike.

/// Stands between answers: no token has this id.
const SEPARATOR: u32 = u32::MAX;

/// Tokens of a prompt's end that are kept with its answer, so that the answer's
/// beginning has something to follow. What a chat template puts there is shorter.
const PROMPT_TAIL: usize = 8;

/// A place in tokens whose past matches the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens that match, at most the longest asked for.
    pub length: usize,
    /// Index of the token that followed.
    pub next: usize,
    /// Whose tokens they are.
    pub among: Among,
}

/// Where a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// In the request's own tokens.
    Own,
    /// In answers given lately.
    Recent,
}

/// Finds the longest suffix of `tokens`, of `ngram_min` to `ngram_max` tokens, that
/// occurred earlier or in `recent`; of equally long ones the request's own, and of
/// those the latest, since texts repeat what they said last. One pass backwards over
/// the tokens.
pub fn find(
    tokens: &[u32],
    recent: &RecentAnswers,
    ngram_min: usize,
    ngram_max: usize,
) -> Option<Match> {
    let shortest = ngram_min.max(1);
    let own = longest(tokens, tokens, shortest, ngram_max).map(|(length, next)| Match {
        length,
        next,
        among: Among::Own,
    });
    let longer = own.map_or(shortest, |own| own.length + 1);
    longest(&recent.tokens, tokens, longer, ngram_max)
        .map(|(length, next)| Match { length, next, among: Among::Recent })
        .or(own)
}

/// The longest suffix of `present` that something follows in `past`, if it has at
/// least `shortest` tokens, and the index of what follows; of equally long ones the
/// latest.
fn longest(past: &[u32], present: &[u32], shortest: usize, most: usize) -> Option<(usize, usize)> {
    let last = *present.last()?;
    if shortest > most {
        return None;
    }
    let mut best: Option<(usize, usize)> = None;
    for next in (1..past.len()).rev() {
        if past[next - 1] != last || past[next] == SEPARATOR {
            continue;
        }
        let before = past[..next].iter().rev();
        let same = before.zip(present.iter().rev()).take(most).take_while(|(a, b)| a == b);
        let length = same.count();
        if length >= shortest && best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, next));
            if length >= most {
                break;
            }
        }
    }
    best
}

/// Appends a draft of at most `length` tokens to `tokens`: those that followed the
/// match. Where a match in the own tokens reaches their end, the draft goes on with
/// itself, so that a repeating text is drafted as repeating on; an answer given lately
/// ends where it ended. Returns how many tokens were appended.
pub fn draft(tokens: &mut Vec<u32>, recent: &RecentAnswers, found: Match, length: usize) -> usize {
    match found.among {
        Among::Own => {
            // `found.next` is below the length, so each index is in bounds as we append.
            (found.next..found.next + length).for_each(|i| tokens.push(tokens[i]));
            length
        }
        Among::Recent => {
            let before = tokens.len();
            let followed = recent.tokens[found.next..].iter().take(length);
            tokens.extend(followed.take_while(|&&token| token != SEPARATOR));
            tokens.len() - before
        }
    }
}

/// The tokens of answers given lately, by one tokenizer, for lookup.
#[derive(Debug, Clone, Default)]
pub struct RecentAnswers {
    /// Oldest first, each after the end of its prompt, with separators between.
    tokens: Vec<u32>,
    /// Most tokens that are looked at.
    most: usize,
}

impl RecentAnswers {
    /// Keeps up to `most` tokens; none with 0.
    pub fn new(most: usize) -> Self {
        Self { tokens: Vec::new(), most }
    }

    /// Keeps an answer, given its prompt; the oldest ones go.
    pub fn keep(&mut self, prompt: &[u32], answer: &[u32]) {
        if self.most == 0 || answer.is_empty() {
            return;
        }
        self.tokens.push(SEPARATOR);
        self.tokens.extend_from_slice(&prompt[prompt.len().saturating_sub(PROMPT_TAIL)..]);
        self.tokens.extend_from_slice(answer);
        let over = self.tokens.len().saturating_sub(self.most);
        self.tokens.drain(..over);
    }

    /// Tokens kept.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drafted(tokens: &[u32], min: usize, max: usize, length: usize) -> Vec<u32> {
        drafted_after(&RecentAnswers::default(), tokens, min, max, length)
    }

    fn drafted_after(
        recent: &RecentAnswers,
        tokens: &[u32],
        min: usize,
        max: usize,
        length: usize,
    ) -> Vec<u32> {
        let mut all = tokens.to_vec();
        if let Some(found) = find(tokens, recent, min, max) {
            let appended = draft(&mut all, recent, found, length);
            assert_eq!(all.len(), tokens.len() + appended);
        }
        all.split_off(tokens.len())
    }

    fn own(tokens: &[u32], min: usize, max: usize) -> Option<Match> {
        find(tokens, &RecentAnswers::default(), min, max)
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        assert_eq!(drafted(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 1, 8, 2), [9, 2]);
        assert_eq!(drafted(&[2, 3, 9, 2, 3, 8, 2, 3], 1, 8, 2), [8, 2]);
        assert_eq!(drafted(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 1, 2, 1), [8], "capped at 2");
    }

    #[test]
    fn short_matches_are_not_taken() {
        assert_eq!(own(&[5, 6, 7, 6], 2, 4), None);
        let six = Match { length: 1, next: 2, among: Among::Own };
        assert_eq!(own(&[5, 6, 7, 6], 1, 4), Some(six));
        assert_eq!(own(&[], 1, 4), None);
        assert_eq!(own(&[5], 1, 4), None);
    }

    #[test]
    fn answers_given_lately_are_looked_up_where_they_match_longer() {
        let mut recent = RecentAnswers::new(100);
        recent.keep(&[90, 91], &[1, 2, 3, 4]);
        recent.keep(&[90, 91], &[1, 2, 5]);
        // An answer begins like the last one, and a draft ends where that one ended.
        assert_eq!(drafted_after(&recent, &[7, 90, 91], 1, 8, 8), [1, 2, 5]);
        assert_eq!(drafted_after(&recent, &[2, 3], 1, 8, 8), [4]);
        // Of equally long matches the request's own is taken.
        assert_eq!(drafted_after(&recent, &[2, 9, 2], 1, 8, 1), [9]);
        assert_eq!(drafted_after(&recent, &[2, 9, 1, 2], 1, 8, 1), [5], "the longer one");
        assert_eq!(drafted_after(&recent, &[2, 9, 1, 2], 1, 1, 1), [9], "capped at 1");
    }

    #[test]
    fn the_oldest_answers_go() {
        let mut recent = RecentAnswers::new(6);
        recent.keep(&[], &[1, 2, 3]);
        recent.keep(&[], &[4, 5, 6]);
        assert_eq!(recent.len(), 6);
        assert_eq!(drafted_after(&recent, &[2], 1, 4, 4), [3]);
        assert_eq!(drafted_after(&recent, &[4], 1, 4, 4), [5, 6]);
        let mut none = RecentAnswers::new(0);
        none.keep(&[1], &[2]);
        assert!(none.is_empty());
    }

    #[test]
    fn a_repeating_text_is_drafted_on() {
        assert_eq!(drafted(&[1, 2, 1, 2, 1, 2], 1, 4, 5), [1, 2, 1, 2, 1]);
        assert_eq!(drafted(&[7, 7], 1, 4, 3), [7, 7, 7]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            tokens in prop::collection::vec(0u32..4, 0..40), min in 1usize..4, extra in 0usize..6,
        ) {
            let max = min + extra;
            let mut expected = None;
            for n in (min..=max.min(tokens.len())).rev() {
                let suffix = &tokens[tokens.len() - n..];
                let earlier = (n..tokens.len()).rev().find(|&next| tokens[next - n..next] == *suffix);
                if let Some(next) = earlier {
                    expected = Some(Match { length: n, next, among: Among::Own });
                    break;
                }
            }
            prop_assert_eq!(own(&tokens, min, max), expected);
        }
    }
}
