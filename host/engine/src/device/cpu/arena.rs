//! Placing buffers: every value of a pass gets a piece of one arena for the steps
//! between its first and its last use, so that one piece of memory serves the pass.

use super::plan::Angles;
use super::step::Step;

/// Bytes that every buffer begins at a multiple of.
const ALIGNMENT: usize = 64;

/// A place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::device) struct Buffer {
    pub start: usize,
    pub bytes: usize,
}

/// First and last step that uses each buffer.
pub(super) fn lifetimes(steps: &[Step], angles: &[Angles], buffers: usize) -> Vec<(usize, usize)> {
    let mut uses: Vec<Option<(usize, usize)>> = vec![None; buffers];
    for (i, step) in steps.iter().enumerate() {
        step.buffers(|buffer| {
            let (first, _) = uses[buffer].unwrap_or((i, i));
            uses[buffer] = Some((first, i));
        });
    }
    for angles in angles {
        for rows in [angles.cos, angles.sin] {
            uses[rows.buffer] = Some((0, steps.len()));
        }
    }
    uses.into_iter().map(|used| used.unwrap_or((0, 0))).collect()
}

/// Places buffers, largest first, each at the lowest place where it meets none that
/// lives at the same time.
pub(in crate::device) fn place(sizes: &[usize], uses: &[(usize, usize)]) -> Vec<Buffer> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut placed: Vec<Option<Buffer>> = vec![None; sizes.len()];
    for i in order {
        let overlaps = |j: usize| uses[i].0 <= uses[j].1 && uses[j].0 <= uses[i].1;
        let mut taken: Vec<Buffer> =
            (0..sizes.len()).filter(|&j| overlaps(j)).filter_map(|j| placed[j]).collect();
        taken.sort_by_key(|b| b.start);
        let bytes = sizes[i].next_multiple_of(ALIGNMENT);
        let mut start = 0;
        for other in taken {
            if start + bytes <= other.start {
                break;
            }
            start = start.max(other.start + other.bytes);
        }
        placed[i] = Some(Buffer { start, bytes });
    }
    placed.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buffers_that_live_at_the_same_time_share_nothing(
            wanted in prop::collection::vec((1usize..5000, 0usize..20, 0usize..6), 1..40),
        ) {
            let sizes: Vec<usize> = wanted.iter().map(|w| w.0).collect();
            let uses: Vec<(usize, usize)> = wanted.iter().map(|w| (w.1, w.1 + w.2)).collect();
            let placed = place(&sizes, &uses);
            prop_assert_eq!(placed.len(), sizes.len());
            for i in 0..sizes.len() {
                prop_assert!(placed[i].bytes >= sizes[i]);
                prop_assert_eq!(placed[i].start % ALIGNMENT, 0);
                for j in 0..i {
                    let at_once = uses[i].0 <= uses[j].1 && uses[j].0 <= uses[i].1;
                    let (a, b) = (placed[i], placed[j]);
                    let apart = a.start + a.bytes <= b.start || b.start + b.bytes <= a.start;
                    prop_assert!(!at_once || apart, "{:?} and {:?}", a, b);
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let placed = place(&[640, 64, 640], &[(0, 1), (0, 5), (2, 3)]);
        assert_eq!((placed[0].start, placed[2].start), (0, 0));
        assert_eq!(placed[1].start, 640);
    }
}
