//! Lists lie in a policy's memory as what wasmtime derives puts them there.

use std::cell::RefCell;

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use wasmtime::component::{Component, ComponentNamedList, InstancePre, Linker};
use wasmtime::{Engine, Store};

/// Bytes that stand in the memory before a list is stored there.
const BEFORE: [u8; 2] = [0x55, 0xaa];

/// A component whose function `bytes` takes a list of one of the contract's
/// records and returns the memory that it lies in, and after it the lists that
/// lie in its records.
struct Reader {
    engine: Engine,
    component: [InstancePre<()>; 2],
}

impl Reader {
    fn new(list_of: &str) -> Self {
        let engine = Engine::default();
        let component = BEFORE.map(|before| {
            let text = Self::text(list_of, before);
            let component = Component::new(&engine, wat::parse_str(&text).unwrap()).unwrap();
            let mut linker = Linker::new(&engine);
            linker.instance("aio:policy/types@0.1.0").unwrap();
            linker.instantiate_pre(&component).unwrap()
        });
        Self { engine, component }
    }

    fn text(list_of: &str, before: u8) -> String {
        let types = include_str!("../../../../tests/zoo/types.wat");
        format!(
            "(component {types}
               (alias export $types \"{list_of}\" (type $record))
               (core module $m
                 (memory (export \"memory\") 1)
                 (func $fill
                   (memory.fill (i32.const 1024) (i32.const {before}) (i32.const 60000)))
                 (start $fill)
                 (global $next (mut i32) (i32.const 1024))
                 (func (export \"realloc\") (param i32 i32 i32 i32) (result i32)
                   (local $at i32)
                   (local.set $at (i32.and
                     (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                     (i32.sub (i32.const 0) (local.get 2))))
                   (global.set $next (i32.add (local.get $at) (local.get 3)))
                   (local.get $at))
                 (func (export \"bytes\") (param i32 i32) (result i32)
                   (i32.store (i32.const 16) (i32.const 1024))
                   (i32.store (i32.const 20)
                     (i32.sub (global.get $next) (i32.const 1024)))
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

fn drafters() -> impl Strategy<Value = wit::Drafter> {
    proptest::sample::select(vec![
        wit::Drafter::None,
        wit::Drafter::Lookup,
        wit::Drafter::Model,
        wit::Drafter::LookupThenModel,
    ])
}

fn drafts() -> impl Strategy<Value = wit::Draft> {
    let fields = (drafters(), any::<[u32; 3]>(), maybe(any::<u32>()), floats());
    fields.prop_map(|(drafter, [length, ngram_min, ngram_max], draft_tier, confidence)| {
        wit::Draft { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence: confidence }
    })
}

fn any_round_facts() -> impl Strategy<Value = wit::RoundFacts> {
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
    let reader = Reader::new("gear");
    let kept = RefCell::new(Rows::<wit::Gear>::default());
    proptest!(|(derived in vec(gears(), 0..40))| {
        let mut rows = kept.borrow_mut();
        rows.refill(derived.iter().map(gear));
        let rows = reader.memory_of((rows.clone(),));
        prop_assert_eq!(rows[0].len(), derived.len() * wit::Gear::SIZE32);
        assert_same([reader.memory_of((derived,)), rows]);
    });
}

#[test]
fn running_requests_lie_in_memory_as_derived() {
    let reader = Reader::new("round-facts");
    let kept = RefCell::new(Rows::<wit::RoundFacts>::default());
    proptest!(|(derived in vec(any_round_facts(), 0..40))| {
        let mut rows = kept.borrow_mut();
        rows.refill(derived.iter().map(round_facts));
        let rows = reader.memory_of((rows.clone(),));
        prop_assert_eq!(rows[0].len(), derived.len() * wit::RoundFacts::SIZE32);
        assert_same([reader.memory_of((derived,)), rows]);
    });
}

#[test]
fn tiers_lie_in_memory_as_derived() {
    let reader = Reader::new("tier-facts");
    let kept = RefCell::new(Rows::<wit::TierFacts>::default());
    proptest!(|(derived in vec(vec(gears(), 0..12), 0..5))| {
        let mut rows = kept.borrow_mut();
        rows.refill_with(derived.iter().map(|gears| (tier_facts(), gears.iter().map(gear))));
        let derived: Vec<_> =
            derived.into_iter().map(|gears| wit::TierFacts { gears }).collect();
        assert_same([reader.memory_of((derived,)), reader.memory_of((rows.clone(),))]);
    });
}

#[test]
fn acceptance_lies_in_memory_as_derived() {
    let reader = Reader::new("acceptance");
    let fields = (any::<u32>(), drafters(), vec(floats(), 0..9), any::<u64>());
    let derived = fields.prop_map(|(tier, drafter, by_position, rounds)| wit::Acceptance {
        tier,
        drafter,
        by_position,
        rounds,
    });
    let kept = RefCell::new(Rows::<wit::Acceptance>::default());
    proptest!(|(derived in vec(derived, 0..5))| {
        let mut rows = kept.borrow_mut();
        rows.refill_with(derived.iter().map(|of| {
            let shares = of.by_position.iter().map(|share| share.to_le_bytes());
            (acceptance(of.tier, of.drafter, of.rounds), shares)
        }));
        assert_same([reader.memory_of((derived,)), reader.memory_of((rows.clone(),))]);
    });
}
