//! The records that cross the boundary by the dozen in every call, and a way of
//! their own into a policy's memory: gears and running requests.
//!
//! What wasmtime derives looks up the memory anew for every field. That was more
//! than half of what a call of `rounds` took; here a list is one look-up, and each
//! of its records one copy. The bytes are the same, which a test holds.
//!
//! The `unsafe` is in the traits' names alone: an implementation promises that its
//! size, alignment and type check are those of what it stores, and all of these
//! are taken from the derived one.

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
const _: () = assert!(<wit::RoundFacts as ComponentType>::SIZE32 == ROUND_FACTS);

/// A gear.
pub(super) struct Gear(pub(super) wit::Gear);

/// A running request.
pub(super) struct RoundFacts(pub(super) wit::RoundFacts);

/// What was measured of a tier.
#[derive(ComponentType, Lower)]
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
    pub(super) tiers: Vec<TierFacts>,
    pub(super) load: wit::Load,
    pub(super) probes: Vec<wit::ProbeResult>,
}

/// What all requests of a round have in common.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct RoundContext {
    pub(super) tiers: Vec<TierFacts>,
    pub(super) acceptance: Vec<wit::Acceptance>,
    pub(super) load: wit::Load,
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
    // wasmtime has checked what the policy's allocator gave.
    let room = room.ok_or_else(|| wasmtime::format_err!("a list lies outside of memory"))?;
    for (room, row) in room.chunks_exact_mut(<R::Derived as ComponentType>::SIZE32).zip(rows) {
        room.copy_from_slice(row.bytes().as_ref());
    }
    Ok(())
}

macro_rules! row {
    ($row:ty, $derived:ty) => {
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
mod tests {
    use super::*;
    use wasmtime::component::{Component, ComponentNamedList, Linker};
    use wasmtime::{Engine, Store};

    /// A component whose function `bytes` takes a list of one of the contract's
    /// records and returns the memory that it lies in, as text of `size` characters
    /// a record.
    fn memory_of<P: ComponentNamedList + Lower>(list_of: &str, size: usize, list: P) -> Vec<u8> {
        let types = include_str!("../../../tests/zoo/types.wat");
        let text = format!(
            "(component {types}
               (alias export $types \"{list_of}\" (type $record))
               (core module $m
                 (memory (export \"memory\") 1)
                 (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                 (func (export \"bytes\") (param i32 i32) (result i32)
                   (i32.store (i32.const 16) (local.get 0))
                   (i32.store (i32.const 20) (i32.mul (local.get 1) (i32.const {size})))
                   (i32.const 16)))
               (core instance $i (instantiate $m))
               (func (export \"bytes\") (param \"list\" (list $record)) (result (list u8))
                 (canon lift (core func $i \"bytes\") (memory $i \"memory\")
                   (realloc (func $i \"realloc\")))))"
        );
        let engine = Engine::default();
        let component = Component::new(&engine, wat::parse_str(&text).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = {
            let mut linker = Linker::new(&engine);
            linker.instance("aio:policy/types@0.1.0").unwrap();
            linker.instantiate(&mut store, &component).unwrap()
        };
        let bytes = instance.get_typed_func::<P, (Vec<u8>,)>(&mut store, "bytes").unwrap();
        bytes.call(&mut store, list).unwrap().0
    }

    #[test]
    fn gears_lie_in_memory_as_derived() {
        let gear = |i: u32| wit::Gear {
            rows: 0x0102_0304 + i,
            compiled: i.is_multiple_of(2),
            milliseconds: (i != 1).then_some(f32::from_bits(0x7fc0_1234 + i)),
            compile_milliseconds: (i < 2).then_some(-0.25),
        };
        let derived: Vec<_> = (0..5).map(gear).collect();
        let rows: Vec<_> = derived.iter().map(|gear| Gear(*gear)).collect();
        assert_eq!(memory_of("gear", GEAR, (rows,)), memory_of("gear", GEAR, (derived,)));
    }

    #[test]
    fn running_requests_lie_in_memory_as_derived() {
        let drafters = [
            wit::Drafter::None,
            wit::Drafter::Lookup,
            wit::Drafter::Model,
            wit::Drafter::LookupThenModel,
        ];
        let facts = |i: u32| wit::RoundFacts {
            request: u64::MAX - u64::from(i),
            tier: 1 + i,
            round: 2 + i,
            prompt_tokens: 3 + i,
            committed: u32::MAX - i,
            remaining: 4 + i,
            draft: wit::Draft {
                drafter: drafters[i as usize % 4],
                length: 5 + i,
                ngram_min: 6 + i,
                ngram_max: 7 + i,
                draft_tier: (i != 2).then_some(8 + i),
                min_confidence: 0.3,
            },
            recent_rounds: 9 + i,
            recent_drafted: 10 + i,
            recent_accepted: 11 + i,
            lookup_match: 12 + i,
        };
        let derived: Vec<_> = (0..9).map(facts).collect();
        let rows: Vec<_> = derived.iter().map(|facts| RoundFacts(*facts)).collect();
        let memory = memory_of("round-facts", ROUND_FACTS, (rows,));
        assert_eq!(memory, memory_of("round-facts", ROUND_FACTS, (derived,)));
        assert_eq!(memory.len(), 9 * ROUND_FACTS);
    }
}
