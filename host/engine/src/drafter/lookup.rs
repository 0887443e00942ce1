//! Prompt lookup: drafts what followed the last time the current suffix
//! occurred in the request's own tokens (Saxena 2023, "Prompt Lookup Decoding").

/// A place in the tokens whose past matches the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Tokens that match, at most the longest asked for.
    pub length: usize,
    /// Index of the token that followed.
    pub next: usize,
}

/// Finds the longest suffix of `tokens`, of `ngram_min` to `ngram_max` tokens,
/// that occurred earlier; of equally long ones the latest, since texts repeat
/// what they said last. One pass backwards over the tokens.
pub fn find(tokens: &[u32], ngram_min: usize, ngram_max: usize) -> Option<Match> {
    let last = *tokens.last()?;
    let mut best: Option<Match> = None;
    for next in (1..tokens.len()).rev() {
        if tokens[next - 1] != last {
            continue;
        }
        let past = tokens[..next].iter().rev();
        let same = past.zip(tokens.iter().rev()).take(ngram_max).take_while(|(a, b)| a == b);
        let length = same.count();
        if length >= ngram_min.max(1) && best.is_none_or(|b| length > b.length) {
            best = Some(Match { length, next });
            if length >= ngram_max {
                break;
            }
        }
    }
    best
}

/// Appends `length` draft tokens to `tokens`: those that followed the match.
/// Where the match reaches the end, the draft goes on with itself, so that a
/// repeating text is drafted as repeating on.
pub fn draft(tokens: &mut Vec<u32>, found: Match, length: usize) {
    // `found.next` is below the length, so each index is in bounds as we append.
    (found.next..found.next + length).for_each(|i| tokens.push(tokens[i]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drafted(tokens: &[u32], min: usize, max: usize, length: usize) -> Vec<u32> {
        let mut all = tokens.to_vec();
        if let Some(found) = find(tokens, min, max) {
            draft(&mut all, found, length);
        }
        all.split_off(tokens.len())
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        assert_eq!(drafted(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 1, 8, 2), [9, 2]);
        assert_eq!(drafted(&[2, 3, 9, 2, 3, 8, 2, 3], 1, 8, 2), [8, 2]);
        assert_eq!(drafted(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 1, 2, 1), [8], "capped at 2");
    }

    #[test]
    fn short_matches_are_not_taken() {
        assert_eq!(find(&[5, 6, 7, 6], 2, 4), None);
        assert_eq!(find(&[5, 6, 7, 6], 1, 4), Some(Match { length: 1, next: 2 }));
        assert_eq!(find(&[], 1, 4), None);
        assert_eq!(find(&[5], 1, 4), None);
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
                    expected = Some(Match { length: n, next });
                    break;
                }
            }
            prop_assert_eq!(find(&tokens, min, max), expected);
        }
    }
}
