//! What a call of `rounds` hands over and takes back, by the canonical ABI: in
//! place of what is generated for that hook, which runs in every round of every
//! request.
//!
//! The generated way makes each list anew from the one that the host wrote, and
//! frees both: a third of the fuel of a `rounds` that decides nothing. Here the
//! lists of the last call are filled anew, and nothing is allocated for them. What
//! lies in memory is the same; tests lay it beside the generated way. All other
//! hooks are as generated.
//!
//! The form is `repr(C)` by the rules of the canonical ABI, which are those of C:
//! fields in order, each aligned to its size, a byte that says which case of an
//! option or a variant follows. Pointers are as wide as the target's, so that it
//! can be tested natively. It must know no policy.

use std::mem::MaybeUninit;

use super::Exported;
use crate::{
    Acceptance, Action, Draft, Drafter, Gear, Load, RoundContext, RoundDecision, RoundFacts,
    TierFacts,
};

/// What `rounds` is asked about, kept from call to call.
#[derive(Debug)]
pub struct Asked {
    pub(super) context: RoundContext,
    pub(super) requests: Vec<RoundFacts>,
}

impl Default for Asked {
    fn default() -> Self {
        let load = Load { running: 0, queued: 0 };
        let context = RoundContext { tiers: Vec::new(), acceptance: Vec::new(), load };
        Self { context, requests: Vec::new() }
    }
}

/// A list as it is handed over: whoever receives it frees it.
#[repr(C)]
struct List<T> {
    first: *mut T,
    len: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct OptionRow<T: Copy> {
    is_some: u8,
    value: MaybeUninit<T>,
}

#[repr(C)]
struct GearRow {
    rows: u32,
    compiled: u8,
    milliseconds: OptionRow<f32>,
    compile_milliseconds: OptionRow<f32>,
}

#[repr(C)]
struct TierRow {
    gears: List<GearRow>,
}

#[repr(C)]
struct AcceptanceRow {
    tier: u32,
    drafter: u8,
    by_position: List<f32>,
    rounds: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DraftRow {
    drafter: u8,
    length: u32,
    ngram_min: u32,
    ngram_max: u32,
    draft_tier: OptionRow<u32>,
    min_confidence: f32,
}

#[repr(C)]
struct RoundFactsRow {
    request: u64,
    tier: u32,
    round: u32,
    prompt_tokens: u32,
    committed: u32,
    remaining: u32,
    draft: DraftRow,
    recent_rounds: u32,
    recent_drafted: u32,
    recent_accepted: u32,
    lookup_match: u32,
}

#[repr(C)]
union ActionPayload {
    none: (),
    draft: DraftRow,
    tier: u32,
}

#[repr(C)]
struct DecisionRow {
    request: u64,
    action: u8,
    payload: ActionPayload,
    reason: List<u8>,
}

// The sizes that the contract has where it is in force.
#[cfg(target_pointer_width = "32")]
const _: () = {
    assert!(size_of::<GearRow>() == 24 && size_of::<TierRow>() == 8);
    assert!(size_of::<AcceptanceRow>() == 24 && size_of::<RoundFactsRow>() == 72);
    assert!(size_of::<DecisionRow>() == 48 && align_of::<DecisionRow>() == 8);
};

impl<T> List<T> {
    fn rows(&self) -> &[T] {
        match self.len {
            // Then it may point to nothing.
            0 => &[],
            // SAFETY: whoever made the list promises that so many lie there, and they are
            // this list's alone until it is dropped.
            len => unsafe { std::slice::from_raw_parts(self.first, len) },
        }
    }

    /// The list, freed by whoever takes it now.
    fn take(&mut self) -> Vec<T> {
        match std::mem::take(&mut self.len) {
            0 => Vec::new(),
            // SAFETY: it was allocated as a list of so many, by `cabi_realloc` or in `of`,
            // and is given up here.
            len => unsafe { Vec::from_raw_parts(self.first, len, len) },
        }
    }

    /// Gives a list away, to be freed by whoever receives it.
    fn of(rows: Vec<T>) -> Self {
        let rows = Box::leak(rows.into_boxed_slice());
        Self { first: rows.as_mut_ptr(), len: rows.len() }
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T: Copy> OptionRow<T> {
    fn read(&self) -> Option<T> {
        // SAFETY: the canonical ABI has a value there in this case.
        (self.is_some != 0).then(|| unsafe { self.value.assume_init() })
    }

    fn of(value: Option<T>) -> Self {
        let is_some = u8::from(value.is_some());
        Self { is_some, value: value.map_or(MaybeUninit::uninit(), MaybeUninit::new) }
    }
}

impl GearRow {
    fn read(&self) -> Gear {
        Gear {
            rows: self.rows,
            compiled: self.compiled != 0,
            milliseconds: self.milliseconds.read(),
            compile_milliseconds: self.compile_milliseconds.read(),
        }
    }
}

impl DraftRow {
    fn read(&self) -> Draft {
        Draft {
            // SAFETY: it lies where the canonical ABI has a drafter.
            drafter: unsafe { Drafter::_lift(self.drafter) },
            length: self.length,
            ngram_min: self.ngram_min,
            ngram_max: self.ngram_max,
            draft_tier: self.draft_tier.read(),
            min_confidence: self.min_confidence,
        }
    }

    fn of(draft: Draft) -> Self {
        let Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } = draft;
        let draft_tier = OptionRow::of(draft_tier);
        Self { drafter: drafter as u8, length, ngram_min, ngram_max, draft_tier, min_confidence }
    }
}

impl RoundFactsRow {
    fn read(&self) -> RoundFacts {
        RoundFacts {
            request: self.request,
            tier: self.tier,
            round: self.round,
            prompt_tokens: self.prompt_tokens,
            committed: self.committed,
            remaining: self.remaining,
            draft: self.draft.read(),
            recent_rounds: self.recent_rounds,
            recent_drafted: self.recent_drafted,
            recent_accepted: self.recent_accepted,
            lookup_match: self.lookup_match,
        }
    }
}

impl DecisionRow {
    fn of(decision: RoundDecision) -> Self {
        let RoundDecision { request, action, reason } = decision;
        let (action, payload) = match action {
            Action::Keep => (0, ActionPayload { none: () }),
            Action::Draft(draft) => (1, ActionPayload { draft: DraftRow::of(draft) }),
            Action::MoveTo(tier) => (2, ActionPayload { tier }),
        };
        Self { request, action, payload, reason: List::of(reason.into_bytes()) }
    }
}

/// The arguments of one call of `rounds`; frees what the host wrote for it.
pub struct Given {
    tiers: List<TierRow>,
    acceptance: List<AcceptanceRow>,
    load: Load,
    requests: List<RoundFactsRow>,
}

impl Given {
    /// Makes `asked` what was handed over.
    pub(super) fn read_into(mut self, asked: &mut Asked) {
        let Asked { context: RoundContext { tiers, acceptance, load }, requests } = asked;
        let given = self.tiers.rows();
        tiers.resize_with(given.len(), || TierFacts { gears: Vec::new() });
        for (tier, row) in tiers.iter_mut().zip(given) {
            read_gears(&mut tier.gears, row.gears.rows());
        }
        let given = self.acceptance.take();
        acceptance.resize_with(given.len(), || Acceptance {
            tier: 0,
            drafter: Drafter::None,
            by_position: Vec::new(),
            rounds: 0,
        });
        for (to, mut row) in acceptance.iter_mut().zip(given) {
            // SAFETY: it lies where the canonical ABI has a drafter.
            let drafter = unsafe { Drafter::_lift(row.drafter) };
            (to.tier, to.drafter, to.rounds) = (row.tier, drafter, row.rounds);
            to.by_position = row.by_position.take();
        }
        *load = self.load;
        requests.clear();
        requests.extend(self.requests.rows().iter().map(RoundFactsRow::read));
    }
}

/// Gears lie there by the dozen, and each turn of a loop is paid for in WebAssembly: its
/// fuel and its time are checked. So four are read in a turn.
fn read_gears(gears: &mut Vec<Gear>, rows: &[GearRow]) {
    const EMPTY: Gear =
        Gear { rows: 0, compiled: false, milliseconds: None, compile_milliseconds: None };
    gears.resize(rows.len(), EMPTY);
    let ((gears, last_gears), (rows, last_rows)) =
        (gears.as_chunks_mut::<4>(), rows.as_chunks::<4>());
    for (gears, rows) in gears.iter_mut().zip(rows) {
        for i in 0..4 {
            gears[i] = rows[i].read();
        }
    }
    for (gear, row) in last_gears.iter_mut().zip(last_rows) {
        *gear = row.read();
    }
}

/// Where the list that the hook returns is told of; `__post_return_rounds` frees it.
#[repr(C)]
struct Returned {
    decisions: List<DecisionRow>,
}

/// The export `rounds`, in place of the generated one.
///
/// # Safety
/// The arguments are those of the host, and nobody looks at what was returned before.
#[allow(non_snake_case, clippy::too_many_arguments, reason = "as it is generated")]
pub unsafe fn _export_rounds_cabi<T: Exported>(
    tiers: *mut u8,
    tiers_len: usize,
    acceptance: *mut u8,
    acceptance_len: usize,
    running: i32,
    queued: i32,
    requests: *mut u8,
    requests_len: usize,
) -> *mut u8 {
    static mut RETURNED: MaybeUninit<Returned> = MaybeUninit::uninit();
    let decisions = T::rounds_given(Given {
        tiers: List { first: tiers.cast(), len: tiers_len },
        acceptance: List { first: acceptance.cast(), len: acceptance_len },
        load: Load { running: running.cast_unsigned(), queued: queued.cast_unsigned() },
        requests: List { first: requests.cast(), len: requests_len },
    });
    let decisions = List::of(decisions.into_iter().map(DecisionRow::of).collect());
    let place = &raw mut RETURNED;
    // SAFETY: the caller's promise, and a component has one thread.
    unsafe { (*place).write(Returned { decisions }) };
    place.cast()
}

#[cfg(test)]
mod tests;
