//! The records that cross the boundary by the dozen in every call, and a way of
//! their own into a policy's memory: gears, the tiers that have them, what is known of
//! acceptance, and running requests.
//!
//! What wasmtime derives looks up the memory anew for every field. That was more
//! than half of what a call of `rounds` took; here a list is one look-up, and each
//! of its records one copy. The bytes are the same, which tests hold for any record.
//!
//! The `unsafe` is in the traits' names alone: an implementation promises that its
//! size, alignment and type check are those of what it stores, and all of these
//! are taken from the derived one. No way without it was found:
//! - what wasmtime derives, for records as for tuples and flags, looks up the memory
//!   for each number; fewer fields, or other ones, are not the contract's type;
//! - lists that it stores in one go are those of numbers, and a list of numbers does
//!   not pass for one of records (`Func::typed`); not checking that is `unsafe` too;
//! - values made at run time (`Val`) are safe and slower yet: each names its fields;
//! - the memory itself is a component's own: a host cannot write to it elsewhere.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext,
};
use wasmtime::component::{ComponentType, Lower};

use super::wit;

/// A record of which lists have a way of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Row<R>(pub(super) R);

/// A gear.
pub(super) type Gear = Row<wit::Gear>;
/// A running request.
pub(super) type RoundFacts = Row<wit::RoundFacts>;

/// What was measured of a tier.
#[derive(Debug, Clone, Default, ComponentType, Lower)]
#[component(record)]
pub(super) struct TierFacts {
    pub(super) gears: Vec<Gear>,
}

/// What is known of a request before it is answered.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct RequestFacts {
    pub(super) request: u64,
    #[component(name = "prompt-tokens")]
    pub(super) prompt_tokens: Vec<u32>,
    #[component(name = "max-tokens")]
    pub(super) max_tokens: u32,
    pub(super) temperature: f32,
    pub(super) chat: bool,
    pub(super) tiers: Vec<Row<TierFacts>>,
    pub(super) load: wit::Load,
    pub(super) probes: Vec<wit::ProbeResult>,
}

/// What all requests of a round have in common.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct RoundContext {
    pub(super) tiers: Vec<Row<TierFacts>>,
    pub(super) acceptance: Vec<Row<wit::Acceptance>>,
    pub(super) load: wit::Load,
}

impl Default for RoundContext {
    fn default() -> Self {
        let load = wit::Load { running: 0, queued: 0 };
        Self { tiers: Vec::new(), acceptance: Vec::new(), load }
    }
}

/// Bytes in the making.
struct Writer<const N: usize>([u8; N]);

impl<const N: usize> Writer<N> {
    fn put<const M: usize>(&mut self, at: usize, value: [u8; M]) {
        self.0[at..at + M].copy_from_slice(&value);
    }

    fn option<const M: usize>(&mut self, at: usize, value: Option<[u8; M]>) {
        if let Some(value) = value {
            self.0[at] = 1;
            self.put(at + 4, value);
        }
    }
}

/// What wasmtime derives for a record, and how a list of them is stored instead.
trait Record: Lower + Sized {
    fn store_list<T>(
        cx: &mut LowerContext<'_, T>,
        offset: usize,
        rows: &[Row<Self>],
    ) -> wasmtime::Result<()>;
}

impl Record for wit::Gear {
    fn store_list<T>(
        cx: &mut LowerContext<'_, T>,
        offset: usize,
        rows: &[Row<Self>],
    ) -> wasmtime::Result<()> {
        store_plain(cx, offset, rows, |gear| {
            let &Self { rows, compiled, milliseconds, compile_milliseconds } = gear;
            let mut to = Writer([0; 24]);
            to.put(0, rows.to_le_bytes());
            to.put(4, [u8::from(compiled)]);
            to.option(8, milliseconds.map(f32::to_le_bytes));
            to.option(16, compile_milliseconds.map(f32::to_le_bytes));
            to.0
        })
    }
}

impl Record for wit::RoundFacts {
    fn store_list<T>(
        cx: &mut LowerContext<'_, T>,
        offset: usize,
        rows: &[Row<Self>],
    ) -> wasmtime::Result<()> {
        store_plain(cx, offset, rows, |facts| {
            let &Self { request, tier, round, prompt_tokens, committed, .. } = facts;
            let &Self { remaining, draft, recent_rounds, recent_drafted, .. } = facts;
            let &Self { recent_accepted, lookup_match, .. } = facts;
            let wit::Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } =
                draft;
            let mut to = Writer([0; 72]);
            to.put(0, request.to_le_bytes());
            to.put(8, tier.to_le_bytes());
            to.put(12, round.to_le_bytes());
            to.put(16, prompt_tokens.to_le_bytes());
            to.put(20, committed.to_le_bytes());
            to.put(24, remaining.to_le_bytes());
            to.put(28, [drafter as u8]);
            to.put(32, length.to_le_bytes());
            to.put(36, ngram_min.to_le_bytes());
            to.put(40, ngram_max.to_le_bytes());
            to.option(44, draft_tier.map(u32::to_le_bytes));
            to.put(52, min_confidence.to_le_bytes());
            to.put(56, recent_rounds.to_le_bytes());
            to.put(60, recent_drafted.to_le_bytes());
            to.put(64, recent_accepted.to_le_bytes());
            to.put(68, lookup_match.to_le_bytes());
            to.0
        })
    }
}

impl Record for TierFacts {
    fn store_list<T>(
        cx: &mut LowerContext<'_, T>,
        offset: usize,
        rows: &[Row<Self>],
    ) -> wasmtime::Result<()> {
        store_with_lists(cx, offset, rows, |cx, tier| {
            let (gears, place) = room::<_, Gear>(cx, tier.gears.len())?;
            wit::Gear::store_list(cx, gears, &tier.gears)?;
            Ok(place)
        })
    }
}

impl Record for wit::Acceptance {
    fn store_list<T>(
        cx: &mut LowerContext<'_, T>,
        offset: usize,
        rows: &[Row<Self>],
    ) -> wasmtime::Result<()> {
        store_with_lists(cx, offset, rows, |cx, acceptance| {
            let Self { tier, drafter, by_position, rounds } = acceptance;
            let (shares, place) = room::<_, f32>(cx, by_position.len())?;
            f32::linear_store_list_to_memory(cx, InterfaceType::Float32, shares, by_position)?;
            let mut to = Writer([0; 24]);
            to.put(0, tier.to_le_bytes());
            to.put(4, [*drafter as u8]);
            to.put(8, place);
            to.put(16, rounds.to_le_bytes());
            Ok(to.0)
        })
    }
}

/// Stores a list of records without lists in them: one look-up for all.
fn store_plain<T, R: Record, const N: usize>(
    cx: &mut LowerContext<'_, T>,
    offset: usize,
    rows: &[Row<R>],
    bytes: impl Fn(&R) -> [u8; N],
) -> wasmtime::Result<()> {
    // A record that grew would not fit any more.
    const { assert!(N == R::SIZE32) };
    let room = window(cx, offset, rows.len().saturating_mul(N))?;
    for (room, Row(row)) in room.chunks_exact_mut(N).zip(rows) {
        room.copy_from_slice(&bytes(row));
    }
    Ok(())
}

/// Stores a list of records with lists in them: one look-up for each, beside what its
/// lists take, since finding room for those may move the memory. `bytes` stores them.
fn store_with_lists<T, R: Record, const N: usize>(
    cx: &mut LowerContext<'_, T>,
    offset: usize,
    rows: &[Row<R>],
    bytes: impl Fn(&mut LowerContext<'_, T>, &R) -> wasmtime::Result<[u8; N]>,
) -> wasmtime::Result<()> {
    const { assert!(N == R::SIZE32) };
    for (i, Row(row)) in rows.iter().enumerate() {
        let bytes = bytes(cx, row)?;
        window(cx, offset.saturating_add(i.saturating_mul(N)), N)?.copy_from_slice(&bytes);
    }
    Ok(())
}

/// Finds room for a list of so many elements: where it is to lie, and that with its
/// length as it stands in memory.
fn room<T, E: ComponentType>(
    cx: &mut LowerContext<'_, T>,
    elements: usize,
) -> wasmtime::Result<(usize, [u8; 8])> {
    let bytes = elements.checked_mul(E::SIZE32);
    let bytes = bytes.ok_or_else(|| wasmtime::format_err!("a list is too long"))?;
    let first = cx.realloc(0, 0, E::ALIGN32, bytes)?;
    let mut place = Writer([0; 8]);
    place.put(0, u32::try_from(first)?.to_le_bytes());
    place.put(4, u32::try_from(elements)?.to_le_bytes());
    Ok((first, place.0))
}

/// So many bytes of a policy's memory.
fn window<'a, T>(
    cx: &'a mut LowerContext<'_, T>,
    offset: usize,
    bytes: usize,
) -> wasmtime::Result<&'a mut [u8]> {
    let window = cx.as_slice_mut().get_mut(offset..).and_then(|rest| rest.get_mut(..bytes));
    // wasmtime has checked what the policy's allocator gave.
    window.ok_or_else(|| wasmtime::format_err!("a list lies outside of memory"))
}

// SAFETY: form in memory and type check are the derived ones.
unsafe impl<R: Record> ComponentType for Row<R> {
    type Lower = R::Lower;
    const ABI: CanonicalAbiInfo = R::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        R::typecheck(ty, types)
    }
}

// SAFETY: a single record is lowered as derived; a list is stored within the bounds of
// memory, in the derived form.
unsafe impl<R: Record> Lower for Row<R> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        self.0.linear_lower_to_flat(cx, ty, dst)
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        self.0.linear_lower_to_memory(cx, ty, offset)
    }

    fn linear_store_list_to_memory<T>(
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
        rows: &[Self],
    ) -> wasmtime::Result<()> {
        R::store_list(cx, offset, rows)
    }
}

#[cfg(test)]
mod tests;
