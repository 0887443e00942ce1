//! The records that cross the boundary by the dozen in every call, and a way of
//! their own into a policy's memory: gears and running requests.
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
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
pub(super) struct RoundContext {
    pub(super) tiers: Vec<TierFacts>,
    pub(super) acceptance: Vec<wit::Acceptance>,
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
    // wasmtime has checked what the policy's allocator gave.
    let room = room.ok_or_else(|| wasmtime::format_err!("a list lies outside of memory"))?;
    for (room, row) in room.chunks_exact_mut(<R::Derived as ComponentType>::SIZE32).zip(rows) {
        room.copy_from_slice(row.bytes().as_ref());
    }
    Ok(())
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
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use wasmtime::component::{Component, ComponentNamedList, InstancePre, Linker};
    use wasmtime::{Engine, Store};

    /// Bytes that stand in the memory before a list is stored there.
    const BEFORE: [u8; 2] = [0x55, 0xaa];

    /// A component whose function `bytes` takes a list of one of the contract's
    /// records and returns the memory that it lies in, as text of `size` characters
    /// a record.
    struct Reader {
        engine: Engine,
        component: [InstancePre<()>; 2],
    }

    impl Reader {
        fn new(list_of: &str, size: usize) -> Self {
            let engine = Engine::default();
            let component = BEFORE.map(|before| {
                let text = Self::text(list_of, size, before);
                let component = Component::new(&engine, wat::parse_str(&text).unwrap()).unwrap();
                let mut linker = Linker::new(&engine);
                linker.instance("aio:policy/types@0.1.0").unwrap();
                linker.instantiate_pre(&component).unwrap()
            });
            Self { engine, component }
        }

        fn text(list_of: &str, size: usize, before: u8) -> String {
            let types = include_str!("../../../tests/zoo/types.wat");
            format!(
                "(component {types}
                   (alias export $types \"{list_of}\" (type $record))
                   (core module $m
                     (memory (export \"memory\") 1)
                     (func $fill
                       (memory.fill (i32.const 1024) (i32.const {before}) (i32.const 60000)))
                     (start $fill)
                     (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
                       (i32.const 1024))
                     (func (export \"bytes\") (param i32 i32) (result i32)
                       (i32.store (i32.const 16) (local.get 0))
                       (i32.store (i32.const 20) (i32.mul (local.get 1) (i32.const {size})))
                       (i32.const 16)))
                   (core instance $i (instantiate $m))
                   (func (export \"bytes\") (param \"list\" (list $record)) (result (list u8))
                     (canon lift (core func $i \"bytes\") (memory $i \"memory\")
                       (realloc (func $i \"realloc\")))))"
            )
        }

        /// What lies in memory after a list was stored there, over each of the bytes
        /// that may have stood there before.
        fn memory_of<P: ComponentNamedList + Lower + Clone>(&self, list: P) -> [Vec<u8>; 2] {
            self.component.each_ref().map(|component| {
                let mut store = Store::new(&self.engine, ());
                let instance = component.instantiate(&mut store).unwrap();
                let bytes = instance.get_typed_func::<P, (Vec<u8>,)>(&mut store, "bytes").unwrap();
                bytes.call(&mut store, list.clone()).unwrap().0
            })
        }
    }

    /// Asserts that a guest reads the same of both lists: each byte that the derived
    /// lowering writes is there, whatever stood there before. Others, which are
    /// between fields or of an absent value, mean nothing.
    fn assert_same([derived, rows]: [[Vec<u8>; 2]; 2]) {
        let [one, other] = &derived;
        assert_eq!((one.len(), one.len()), (other.len(), rows[0].len()));
        let written = |i: &usize| one[*i] == other[*i];
        let read = |of: &[u8]| -> Vec<(usize, u8)> {
            (0..one.len()).filter(written).map(|i| (i, of[i])).collect()
        };
        for rows in &rows {
            assert_eq!(read(rows), read(one));
        }
        // What is between fields is written too.
        assert_eq!(rows[0], rows[1]);
    }

    /// Any bits: infinities, zeros and NaNs among them often enough.
    fn floats() -> impl Strategy<Value = f32> {
        let special = [0_u32, 0x8000_0000, 0x7f80_0000, 0x7fc0_0000, 0x7fa0_1234, 0xffff_ffff];
        let bits = prop_oneof![2 => any::<u32>(), 1 => proptest::sample::select(special.to_vec())];
        bits.prop_map(f32::from_bits)
    }

    fn maybe<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
        proptest::option::of(of)
    }

    fn gears() -> impl Strategy<Value = wit::Gear> {
        let fields = (any::<u32>(), any::<bool>(), maybe(floats()), maybe(floats()));
        fields.prop_map(|(rows, compiled, milliseconds, compile_milliseconds)| wit::Gear {
            rows,
            compiled,
            milliseconds,
            compile_milliseconds,
        })
    }

    fn drafts() -> impl Strategy<Value = wit::Draft> {
        let drafters = proptest::sample::select(vec![
            wit::Drafter::None,
            wit::Drafter::Lookup,
            wit::Drafter::Model,
            wit::Drafter::LookupThenModel,
        ]);
        let fields = (drafters, any::<[u32; 3]>(), maybe(any::<u32>()), floats());
        fields.prop_map(|(drafter, [length, ngram_min, ngram_max], draft_tier, confidence)| {
            wit::Draft {
                drafter,
                length,
                ngram_min,
                ngram_max,
                draft_tier,
                min_confidence: confidence,
            }
        })
    }

    fn round_facts() -> impl Strategy<Value = wit::RoundFacts> {
        let fields = (any::<u64>(), any::<[u32; 5]>(), drafts(), any::<[u32; 4]>());
        fields.prop_map(|(request, first, draft, last)| {
            let [tier, round, prompt_tokens, committed, remaining] = first;
            let [recent_rounds, recent_drafted, recent_accepted, lookup_match] = last;
            wit::RoundFacts {
                request,
                tier,
                round,
                prompt_tokens,
                committed,
                remaining,
                draft,
                recent_rounds,
                recent_drafted,
                recent_accepted,
                lookup_match,
            }
        })
    }

    #[test]
    fn gears_lie_in_memory_as_derived() {
        let reader = Reader::new("gear", GEAR);
        proptest!(|(derived in vec(gears(), 0..40))| {
            let rows: Vec<_> = derived.iter().map(|gear| Gear(*gear)).collect();
            let rows = reader.memory_of((std::sync::Arc::<[Gear]>::from(rows),));
            prop_assert_eq!(rows[0].len(), derived.len() * GEAR);
            assert_same([reader.memory_of((derived,)), rows]);
        });
    }

    #[test]
    fn running_requests_lie_in_memory_as_derived() {
        let reader = Reader::new("round-facts", ROUND_FACTS);
        proptest!(|(derived in vec(round_facts(), 0..40))| {
            let rows: Vec<_> = derived.iter().map(|facts| RoundFacts(*facts)).collect();
            let rows = reader.memory_of((std::sync::Arc::<[RoundFacts]>::from(rows),));
            prop_assert_eq!(rows[0].len(), derived.len() * ROUND_FACTS);
            assert_same([reader.memory_of((derived,)), rows]);
        });
    }
}
