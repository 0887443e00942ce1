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

/// A record of which lists are stored in one go.
trait Row: Sized {
    /// What wasmtime derives for it.
    type Derived: Lower;
    /// Its form in memory.
    type Bytes: AsRef<[u8]>;

    fn derived(&self) -> &Self::Derived;
    fn bytes(&self) -> Self::Bytes;
}

/// Bytes of a gear.
const GEAR: usize = 24;
/// Bytes of a running request.
const ROUND_FACTS: usize = 72;

// A record that grew would not fit any more.
const _: () = assert!(<wit::Gear as ComponentType>::SIZE32 == GEAR);
const _: () = assert!(<wit::Gear as ComponentType>::ALIGN32 == 4);
const _: () = assert!(<wit::RoundFacts as ComponentType>::SIZE32 == ROUND_FACTS);
const _: () = assert!(<wit::RoundFacts as ComponentType>::ALIGN32 == 8);

/// A gear.
#[derive(Debug, Clone)]
pub(super) struct Gear(pub(super) wit::Gear);

/// A running request.
#[derive(Debug, Clone)]
pub(super) struct RoundFacts(pub(super) wit::RoundFacts);

/// What was measured of a tier.
#[derive(Debug, Clone, Default, ComponentType, Lower)]
#[component(record)]
pub(super) struct TierFacts {
    pub(super) gears: Vec<Gear>,
}

/// A record with a list in it, of which lists are stored record by record: one look-up
/// for what a record is, and what its own list takes.
#[derive(Debug, Clone, Default)]
pub(super) struct Holder<R>(pub(super) R);

/// What a [`Holder`] holds.
trait Holds: Lower {
    /// Its form in memory.
    type Bytes: AsRef<[u8]>;

    /// Stores its list, and says what lies in memory of the record itself.
    fn store<T>(&self, cx: &mut LowerContext<'_, T>) -> wasmtime::Result<Self::Bytes>;
}

/// Bytes of a tier's facts: where its gears are, and how many.
const TIER_FACTS: usize = 8;
/// Bytes of what is known of acceptance.
const ACCEPTANCE: usize = 24;

const _: () = assert!(<TierFacts as ComponentType>::SIZE32 == TIER_FACTS);
const _: () = assert!(<wit::Acceptance as ComponentType>::SIZE32 == ACCEPTANCE);
const _: () = assert!(<wit::Acceptance as ComponentType>::ALIGN32 == 8);

/// Where a list of so many bytes is to lie, and how many elements it has, as it stands in
/// memory.
fn room<T>(
    cx: &mut LowerContext<'_, T>,
    elements: usize,
    bytes: usize,
) -> wasmtime::Result<(usize, [u8; 8])> {
    let room = elements.checked_mul(bytes);
    let room = room.ok_or_else(|| wasmtime::format_err!("a list is too long"))?;
    let first = cx.realloc(0, 0, 4, room)?;
    let mut place = [0; 8];
    place[..4].copy_from_slice(&u32::try_from(first)?.to_le_bytes());
    place[4..].copy_from_slice(&u32::try_from(elements)?.to_le_bytes());
    Ok((first, place))
}

impl Holds for TierFacts {
    type Bytes = [u8; TIER_FACTS];

    fn store<T>(&self, cx: &mut LowerContext<'_, T>) -> wasmtime::Result<[u8; TIER_FACTS]> {
        let (first, place) = room(cx, self.gears.len(), GEAR)?;
        store_list(cx, first, &self.gears)?;
        Ok(place)
    }
}

impl Holds for wit::Acceptance {
    type Bytes = [u8; ACCEPTANCE];

    fn store<T>(&self, cx: &mut LowerContext<'_, T>) -> wasmtime::Result<[u8; ACCEPTANCE]> {
        let Self { tier, drafter, by_position, rounds } = self;
        let (first, place) = room(cx, by_position.len(), size_of::<f32>())?;
        f32::linear_store_list_to_memory(cx, InterfaceType::Float32, first, by_position)?;
        let mut to = Writer([0; ACCEPTANCE]);
        to.put(0, tier.to_le_bytes());
        to.put(4, [*drafter as u8]);
        to.put(8, place);
        to.put(16, rounds.to_le_bytes());
        Ok(to.0)
    }
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
    pub(super) tiers: Vec<Holder<TierFacts>>,
    pub(super) load: wit::Load,
    pub(super) probes: Vec<wit::ProbeResult>,
}

/// What all requests of a round have in common.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct RoundContext {
    pub(super) tiers: Vec<Holder<TierFacts>>,
    pub(super) acceptance: Vec<Holder<wit::Acceptance>>,
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

impl Row for Gear {
    type Derived = wit::Gear;
    type Bytes = [u8; GEAR];

    fn derived(&self) -> &wit::Gear {
        &self.0
    }

    fn bytes(&self) -> [u8; GEAR] {
        let wit::Gear { rows, compiled, milliseconds, compile_milliseconds } = self.0;
        let mut to = Writer([0; GEAR]);
        to.put(0, rows.to_le_bytes());
        to.put(4, [u8::from(compiled)]);
        to.option(8, milliseconds.map(f32::to_le_bytes));
        to.option(16, compile_milliseconds.map(f32::to_le_bytes));
        to.0
    }
}

impl Row for RoundFacts {
    type Derived = wit::RoundFacts;
    type Bytes = [u8; ROUND_FACTS];

    fn derived(&self) -> &wit::RoundFacts {
        &self.0
    }

    fn bytes(&self) -> [u8; ROUND_FACTS] {
        let wit::RoundFacts { request, tier, round, prompt_tokens, committed, .. } = self.0;
        let wit::RoundFacts { remaining, draft, recent_rounds, recent_drafted, .. } = self.0;
        let wit::RoundFacts { recent_accepted, lookup_match, .. } = self.0;
        let wit::Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } =
            draft;
        let mut to = Writer([0; ROUND_FACTS]);
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
    }
}

fn store_list<T, R: Row>(
    cx: &mut LowerContext<'_, T>,
    offset: usize,
    rows: &[R],
) -> wasmtime::Result<()> {
    let bytes = rows.len().checked_mul(<R::Derived as ComponentType>::SIZE32);
    let room = bytes.and_then(|bytes| cx.as_slice_mut().get_mut(offset..)?.get_mut(..bytes));
    let room = room.ok_or_else(outside)?;
    for (room, row) in room.chunks_exact_mut(<R::Derived as ComponentType>::SIZE32).zip(rows) {
        room.copy_from_slice(row.bytes().as_ref());
    }
    Ok(())
}

// SAFETY: form in memory and type check are those of what it holds.
unsafe impl<R: Holds> ComponentType for Holder<R> {
    type Lower = R::Lower;
    const ABI: CanonicalAbiInfo = R::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        R::typecheck(ty, types)
    }
}

// SAFETY: a single record is lowered as derived; those of a list are stored within the
// bounds of memory, in the derived form.
unsafe impl<R: Holds> Lower for Holder<R> {
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
        mut offset: usize,
        holders: &[Self],
    ) -> wasmtime::Result<()> {
        for Self(holder) in holders {
            let bytes = holder.store(cx)?;
            let bytes = bytes.as_ref();
            let room = cx.as_slice_mut().get_mut(offset..).and_then(|m| m.get_mut(..bytes.len()));
            let room = room.ok_or_else(outside)?;
            room.copy_from_slice(bytes);
            offset += bytes.len();
        }
        Ok(())
    }
}

/// wasmtime has checked what the policy's allocator gave.
fn outside() -> wasmtime::Error {
    wasmtime::format_err!("a list lies outside of memory")
}

macro_rules! row {
    ($row:ty, $derived:ty) => {
        const _: () = {
            type Derived = <$row as Row>::Derived;
            assert!(<$row as ComponentType>::SIZE32 == <Derived as ComponentType>::SIZE32);
            assert!(<$row as ComponentType>::ALIGN32 == <Derived as ComponentType>::ALIGN32);
            assert!(size_of::<<$row as Row>::Bytes>() == <$row as ComponentType>::SIZE32);
        };

        // SAFETY: form in memory and type check are the derived ones.
        unsafe impl ComponentType for $row {
            type Lower = <$derived as ComponentType>::Lower;
            const ABI: CanonicalAbiInfo = <$derived as ComponentType>::ABI;

            fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
                <$derived as ComponentType>::typecheck(ty, types)
            }
        }

        // SAFETY: a single record is lowered as derived; a list is stored within
        // the bounds of memory, in the derived form.
        unsafe impl Lower for $row {
            fn linear_lower_to_flat<T>(
                &self,
                cx: &mut LowerContext<'_, T>,
                ty: InterfaceType,
                dst: &mut MaybeUninit<Self::Lower>,
            ) -> wasmtime::Result<()> {
                self.derived().linear_lower_to_flat(cx, ty, dst)
            }

            fn linear_lower_to_memory<T>(
                &self,
                cx: &mut LowerContext<'_, T>,
                ty: InterfaceType,
                offset: usize,
            ) -> wasmtime::Result<()> {
                self.derived().linear_lower_to_memory(cx, ty, offset)
            }

            fn linear_store_list_to_memory<T>(
                cx: &mut LowerContext<'_, T>,
                _: InterfaceType,
                offset: usize,
                rows: &[Self],
            ) -> wasmtime::Result<()> {
                store_list(cx, offset, rows)
            }
        }
    };
}

row!(Gear, wit::Gear);
row!(RoundFacts, wit::RoundFacts);

#[cfg(test)]
mod tests;
