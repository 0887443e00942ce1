//! Which requests of a round still have no decision: finds a decision's request,
//! and gives each away once. Knows nothing of what is decided.

use std::collections::HashMap;

use aio_core::RoundFacts;

/// The requests of one round.
///
/// Policies answer in the order in which they are asked, mostly, so the next
/// request is looked for from the last one on, which hashes nothing. The first
/// time that this fails a map is made: however an answer is ordered, finding all
/// of its requests takes time in proportion to its length.
pub(crate) struct Undecided<'a> {
    requests: &'a [RoundFacts],
    decided: Vec<bool>,
    next: usize,
    places: Option<HashMap<u64, usize>>,
}

impl<'a> Undecided<'a> {
    pub(crate) fn new(requests: &'a [RoundFacts]) -> Self {
        Self { requests, decided: vec![false; requests.len()], next: 0, places: None }
    }

    /// The request of this number, if there is one and it was not taken before.
    pub(crate) fn take(&mut self, request: u64) -> Option<&'a RoundFacts> {
        let place = self.place(request)?;
        let decided = self.decided.get_mut(place)?;
        if std::mem::replace(decided, true) {
            return None;
        }
        self.next = place + 1;
        self.requests.get(place)
    }

    fn place(&mut self, request: u64) -> Option<usize> {
        if self.places.is_none() {
            let rest = self.requests.get(self.next..).unwrap_or_default();
            if let Some(ahead) = rest.iter().position(|facts| facts.request == request) {
                return Some(self.next + ahead);
            }
        }
        let places = self.places.get_or_insert_with(|| {
            self.requests.iter().enumerate().map(|(i, facts)| (facts.request, i)).collect()
        });
        places.get(&request).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_core::Draft;

    fn requests(ids: &[u64]) -> Vec<RoundFacts> {
        let of = |&request: &u64| RoundFacts {
            request,
            tier: 0,
            round: 1,
            prompt_tokens: 1,
            committed: 1,
            remaining: 1,
            draft: Draft::NONE,
            recent_rounds: 1,
            recent_drafted: 0,
            recent_accepted: 0,
            lookup_match: 0,
        };
        ids.iter().map(of).collect()
    }

    #[test]
    fn each_request_is_given_away_once_in_any_order() {
        let requests = requests(&[5, 7, 9, 1, 2]);
        for order in [[5, 7, 9, 1, 2], [2, 1, 9, 7, 5], [7, 5, 2, 9, 1]] {
            let mut undecided = Undecided::new(&requests);
            for id in order {
                assert_eq!(undecided.take(id).map(|facts| facts.request), Some(id), "{order:?}");
                assert_eq!(undecided.take(id), None, "{order:?}");
            }
        }
    }

    #[test]
    fn what_was_not_asked_about_is_not_found_and_hides_nothing() {
        let requests = requests(&[5, 7, 9]);
        let mut undecided = Undecided::new(&requests);
        let found: Vec<bool> =
            [9, 4, 5, 4, 9, 7].iter().map(|id| undecided.take(*id).is_some()).collect();
        assert_eq!(found, [true, false, true, false, false, true]);
        assert_eq!(Undecided::new(&[]).take(1), None);
    }
}
