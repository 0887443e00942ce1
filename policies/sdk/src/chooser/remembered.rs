//! The running requests that are remembered, by their numbers. What is known of a
//! request is large, so it stays where it is: only numbers are kept in order.

use std::ops::{Index, IndexMut};

use super::request::Request;

/// Running requests that are remembered at most; the one not heard of for the
/// longest is forgotten first.
pub const MOST_REQUESTS: usize = 512;

/// The requests. A place is good until one is put in or removed.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Numbers, ascending, and where in `requests` each is.
    order: Vec<(u64, usize)>,
    requests: Vec<Request>,
    /// The number of each of `requests`.
    ids: Vec<u64>,
}

impl Remembered {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Where a request is. Requests are asked about in the order of their numbers
    /// mostly: the one after the last that was found is looked at first.
    pub(super) fn find(&self, id: u64, next: &mut usize) -> Option<usize> {
        let at = match self.order.get(*next) {
            Some((known, _)) if *known == id => *next,
            _ => self.rank(id).ok()?,
        };
        *next = at + 1;
        self.order.get(at).map(|(_, place)| *place)
    }

    /// Puts a request in, in the place of what was known of it. The one that was
    /// not heard of for the longest is forgotten if there are too many.
    pub(super) fn put(&mut self, id: u64, request: Request) -> usize {
        if let Ok(at) = self.rank(id) {
            let (_, place) = self.order[at];
            self.requests[place] = request;
            return place;
        }
        if self.len() >= MOST_REQUESTS {
            let heard = self.requests.iter().zip(&self.ids).min_by_key(|(r, _)| r.heard);
            if let Some((_, &oldest)) = heard {
                self.remove(oldest);
            }
        }
        let place = self.requests.len();
        let at = self.order.partition_point(|(known, _)| *known < id);
        self.order.insert(at, (id, place));
        self.requests.push(request);
        self.ids.push(id);
        place
    }

    /// Forgets a request; whether there was one.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Ok(at) = self.rank(id) else { return false };
        let (_, place) = self.order.remove(at);
        self.requests.swap_remove(place);
        self.ids.swap_remove(place);
        // The last one is in its place now, unless it was the last itself.
        if let Some(&moved) = self.ids.get(place)
            && let Ok(at) = self.rank(moved)
        {
            self.order[at].1 = place;
        }
        true
    }

    /// Whether no more can be remembered and all that are were heard of in a call:
    /// then what is forgotten for another one would be new again in the next call,
    /// and none of them would learn.
    pub(super) fn is_full_of(&self, call: u64) -> bool {
        self.len() >= MOST_REQUESTS && self.requests.iter().all(|request| request.heard == call)
    }

    fn rank(&self, id: u64) -> Result<usize, usize> {
        self.order.binary_search_by_key(&id, |(known, _)| *known)
    }
}

impl Index<usize> for Remembered {
    type Output = Request;

    fn index(&self, place: usize) -> &Request {
        &self.requests[place]
    }
}

impl IndexMut<usize> for Remembered {
    fn index_mut(&mut self, place: usize) -> &mut Request {
        &mut self.requests[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn heard(heard: u64) -> Request {
        let mut request = Request::new(0);
        request.heard = heard;
        request
    }

    fn find(remembered: &Remembered, id: u64) -> Option<u64> {
        let place = remembered.find(id, &mut 0)?;
        Some(remembered[place].heard)
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..40, any::<bool>()), 0..200)) {
            let (mut remembered, mut expected) = (Remembered::default(), BTreeMap::new());
            for (step, (id, is_put)) in (1..).zip(steps) {
                if is_put {
                    let place = remembered.put(id, heard(step));
                    prop_assert_eq!(remembered[place].heard, step);
                    expected.insert(id, step);
                } else {
                    prop_assert_eq!(remembered.remove(id), expected.remove(&id).is_some());
                }
                prop_assert_eq!(remembered.len(), expected.len());
                for id in 0..40 {
                    prop_assert_eq!(find(&remembered, id), expected.get(&id).copied());
                }
            }
        }
    }

    #[test]
    fn in_order_and_out_of_order_all_are_found() {
        let mut remembered = Remembered::default();
        for id in [9, 3, 7] {
            remembered.put(id, heard(id));
        }
        let mut next = 0;
        let found = [3, 7, 9, 7, 8, 9, 3]
            .map(|id| remembered.find(id, &mut next).map(|place| remembered[place].heard));
        assert_eq!(found, [Some(3), Some(7), Some(9), Some(7), None, Some(9), Some(3)]);
    }

    #[test]
    fn the_one_not_heard_of_for_the_longest_is_forgotten_first() {
        let mut remembered = Remembered::default();
        for id in 0..MOST_REQUESTS as u64 {
            remembered.put(id, heard(if id == 100 { 1 } else { 2 }));
        }
        assert!(!remembered.is_full_of(2));
        remembered.put(9999, heard(2));
        assert_eq!((remembered.len(), find(&remembered, 100)), (MOST_REQUESTS, None));
        assert!(remembered.is_full_of(2) && !remembered.is_full_of(3));
        assert_eq!(find(&remembered, 9999), Some(2));
    }
}
