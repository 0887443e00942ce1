//! The lists that cross the boundary in every call, and a way of their own into a
//! policy's memory: gears, the tiers that have them, what is known of acceptance, and
//! running requests.
//!
//! What wasmtime derives looks up the memory anew for every field. That was more
//! than half of what a call of `rounds` took; here a list is made in the form in which
//! it will lie there, and stored with one look-up, the lists in its records included.
//! The bytes are the same, which tests hold for any record.
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

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use wasmtime::ValRaw;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext,
};
use wasmtime::component::{ComponentType, Lower};

use super::wit;

/// A list of records, as it will lie in memory.
#[derive(Debug, Clone)]
pub(super) struct Rows<R> {
    /// Record after record, with nothing where the place of a record's own list will be.
    bytes: Vec<u8>,
    /// Each record's own list, where records have one.
    lists: Vec<Vec<u8>>,
    of: PhantomData<fn() -> R>,
}

/// A record of which lists are stored in this way.
pub(super) trait Record: ComponentType {
    /// Its own list; it has one at most.
    const LIST: Option<ListIn> = None;
}

/// A list in a record: where in the record its place stands, and its elements.
pub(super) struct ListIn {
    at: usize,
    size: usize,
    align: u32,
}

impl ListIn {
    const fn of<E: ComponentType>(at: usize) -> Option<Self> {
        Some(Self { at, size: E::SIZE32, align: E::ALIGN32 })
    }
}

impl Record for wit::Gear {}
impl Record for wit::RoundFacts {}

impl Record for wit::TierFacts {
    const LIST: Option<ListIn> = ListIn::of::<wit::Gear>(0);
}

impl Record for wit::Acceptance {
    const LIST: Option<ListIn> = ListIn::of::<f32>(8);
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
    pub(super) tiers: Rows<wit::TierFacts>,
    pub(super) load: wit::Load,
    pub(super) probes: Vec<wit::ProbeResult>,
}

/// What all requests of a round have in common.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct RoundContext {
    pub(super) tiers: Rows<wit::TierFacts>,
    pub(super) acceptance: Rows<wit::Acceptance>,
    pub(super) load: wit::Load,
}

impl Default for RoundContext {
    fn default() -> Self {
        let load = wit::Load { running: 0, queued: 0 };
        Self { tiers: Rows::default(), acceptance: Rows::default(), load }
    }
}

/// Bytes in the making.
struct Writer<const N: usize>([u8; N]);

impl<const N: usize> Writer<N> {
    /// Those of a record, which would not fit any more if it grew.
    const fn of<R: ComponentType>() -> Self {
        const { assert!(N == R::SIZE32) };
        Self([0; N])
    }

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

/// A gear.
pub(super) fn gear(gear: &wit::Gear) -> [u8; 24] {
    let &wit::Gear { rows, compiled, milliseconds, compile_milliseconds } = gear;
    let mut to = Writer::of::<wit::Gear>();
    to.put(0, rows.to_le_bytes());
    to.put(4, [u8::from(compiled)]);
    to.option(8, milliseconds.map(f32::to_le_bytes));
    to.option(16, compile_milliseconds.map(f32::to_le_bytes));
    to.0
}

/// What was measured of a tier: nothing but its gears, which are a list.
pub(super) fn tier_facts() -> [u8; 8] {
    Writer::of::<wit::TierFacts>().0
}

/// What is known of a drafter's acceptance, but for the shares by position, which are a
/// list.
pub(super) fn acceptance(tier: u32, drafter: wit::Drafter, rounds: u64) -> [u8; 24] {
    let mut to = Writer::of::<wit::Acceptance>();
    to.put(0, tier.to_le_bytes());
    to.put(4, [drafter as u8]);
    to.put(16, rounds.to_le_bytes());
    to.0
}

/// A running request.
pub(super) fn round_facts(facts: &wit::RoundFacts) -> [u8; 72] {
    let &wit::RoundFacts { request, tier, round, prompt_tokens, committed, .. } = facts;
    let &wit::RoundFacts { remaining, draft, recent_rounds, recent_drafted, .. } = facts;
    let &wit::RoundFacts { recent_accepted, lookup_match, .. } = facts;
    let wit::Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence } = draft;
    let mut to = Writer::of::<wit::RoundFacts>();
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

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self { bytes: Vec::new(), lists: Vec::new(), of: PhantomData }
    }
}

impl<R: Record> Rows<R> {
    /// Makes it a list of these records, which have no list of their own.
    pub(super) fn refill<const N: usize>(&mut self, records: impl Iterator<Item = [u8; N]>) {
        const { assert!(N == R::SIZE32 && R::LIST.is_none()) };
        fill(&mut self.bytes, records);
    }

    /// Makes it a list of these records, each with the elements of its own list.
    pub(super) fn refill_with<const N: usize, const M: usize, E>(
        &mut self,
        records: impl ExactSizeIterator<Item = ([u8; N], E)>,
    ) where
        E: Iterator<Item = [u8; M]>,
    {
        const { assert!(N == R::SIZE32 && matches!(R::LIST, Some(ListIn { size, .. }) if size == M)) };
        self.bytes.clear();
        self.bytes.reserve(records.len().saturating_mul(N));
        self.lists.resize_with(records.len(), Vec::new);
        for (list, (record, elements)) in self.lists.iter_mut().zip(records) {
            self.bytes.extend_from_slice(&record);
            fill(list, elements);
        }
    }

    /// Bytes of the records, and of all their lists.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.bytes.len(), self.lists.iter().map(Vec::len).sum()]
    }

    /// Stores it: where it lies then, and how many records it has.
    fn store<T>(&self, cx: &mut LowerContext<'_, T>) -> wasmtime::Result<[usize; 2]> {
        let first = cx.realloc(0, 0, R::ALIGN32, self.bytes.len())?;
        let records = self.bytes.len() / R::SIZE32;
        let Some(list) = R::LIST else {
            window(cx.as_slice_mut(), first, self.bytes.len())?.copy_from_slice(&self.bytes);
            return Ok([first, records]);
        };
        // Finding room may move the memory, so it is looked up after the last time.
        let room = |bytes: &Vec<u8>| cx.realloc(0, 0, list.align, bytes.len());
        let places = self.lists.iter().map(room).collect::<wasmtime::Result<Vec<usize>>>()?;
        let memory = cx.as_slice_mut();
        window(memory, first, self.bytes.len())?.copy_from_slice(&self.bytes);
        for (record, (bytes, at)) in self.lists.iter().zip(places).enumerate() {
            window(memory, at, bytes.len())?.copy_from_slice(bytes);
            let place_at = first + record * R::SIZE32 + list.at;
            let place = place([at, bytes.len() / list.size])?;
            window(memory, place_at, place.len())?.copy_from_slice(&place);
        }
        Ok([first, records])
    }
}

fn fill<const N: usize>(bytes: &mut Vec<u8>, rows: impl Iterator<Item = [u8; N]>) {
    bytes.clear();
    bytes.reserve(rows.size_hint().0.saturating_mul(N));
    rows.for_each(|row| bytes.extend_from_slice(&row));
}

/// A list's place and length as they stand in memory.
fn place([first, elements]: [usize; 2]) -> wasmtime::Result<[u8; 8]> {
    let mut to = Writer([0; 8]);
    to.put(0, u32::try_from(first)?.to_le_bytes());
    to.put(4, u32::try_from(elements)?.to_le_bytes());
    Ok(to.0)
}

/// So many bytes of a policy's memory.
fn window(memory: &mut [u8], first: usize, bytes: usize) -> wasmtime::Result<&mut [u8]> {
    let window = memory.get_mut(first..).and_then(|rest| rest.get_mut(..bytes));
    // wasmtime has checked what the policy's allocator gave.
    window.ok_or_else(|| wasmtime::format_err!("a list lies outside of memory"))
}

// SAFETY: form in memory and type check are those of a list of the derived record.
unsafe impl<R: Record> ComponentType for Rows<R> {
    type Lower = <Vec<R> as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <Vec<R> as ComponentType>::ABI;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <Vec<R> as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: the list is stored within the bounds of memory, in the derived form, and told
// of by its place and its length.
unsafe impl<R: Record> Lower for Rows<R> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        dst: &mut MaybeUninit<[ValRaw; 2]>,
    ) -> wasmtime::Result<()> {
        // As wide as any pointer, as wasmtime writes them.
        let [first, records] = self.store(cx)?;
        dst.write([first, records].map(|word| ValRaw::i64(word as i64)));
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        let place = place(self.store(cx)?)?;
        window(cx.as_slice_mut(), offset, place.len())?.copy_from_slice(&place);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
