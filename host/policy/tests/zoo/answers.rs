//! Animals whose answers are wrong: too large, out of bounds, unreadable.

use aio_core::FailureKind::{Nonsense, Trap};
use aio_core::Hook;

use super::build::{Builder, ROOM, RawVerdict, bytes, words};
use super::{Animal, End};

const UNREADABLE: &str = "gave an unreadable answer";
const NO_PROBE: &str = "asked for a probe without two non-empty answers";
const TOO_MUCH: &str = "handed the host more than 1048576 bytes at once";

pub fn animals() -> Vec<Animal> {
    let mut animals = numbers();
    animals.extend(texts());
    animals.extend(places());
    animals.extend(discriminants());
    animals.extend(probes());
    animals.extend(decisions());
    animals.extend(states());
    animals.extend(reallocs());
    animals
}

fn clamped(name: &'static str, verdict: RawVerdict, says: &'static [&'static str]) -> Animal {
    let bytes = Builder::verdict(verdict).pages(40).bytes();
    Animal::new(name, bytes, End::Clamped(Hook::Plan, says))
}

fn unreadable(name: &'static str, verdict: RawVerdict) -> Animal {
    Animal::fails(name, Builder::verdict(verdict).bytes(), Nonsense, UNREADABLE)
}

/// The only float that a policy answers is a draft's confidence.
fn numbers() -> Vec<Animal> {
    let confidence = |name, bits: u32| {
        clamped(name, RawVerdict { confidence: bits, ..RawVerdict::PLAIN }, &["minimum confidence"])
    };
    let most = u32::MAX;
    vec![
        confidence("confidence-nan", f32::NAN.to_bits()),
        confidence("confidence-signalling-nan", 0xffa0_0001),
        confidence("confidence-infinite", f32::INFINITY.to_bits()),
        confidence("confidence-minus-infinite", f32::NEG_INFINITY.to_bits()),
        confidence("confidence-negative", (-1.0f32).to_bits()),
        confidence("confidence-just-above-1", 1.000_000_1_f32.to_bits()),
        clamped(
            "every-number-too-large",
            RawVerdict {
                tier: most,
                drafter: 3,
                length: most,
                ngram: [most, 0],
                draft_tier: [1, most],
                ask_every: most,
                ..RawVerdict::PLAIN
            },
            &["the plan's tier 4294967295", "draft length", "n-gram bounds", "cannot draft"],
        ),
        clamped(
            "tier-0-drafts-for-itself",
            RawVerdict { drafter: 2, length: 4, draft_tier: [1, 0], ..RawVerdict::PLAIN },
            &["tier 0 cannot draft for tier 0", "no smaller tier"],
        ),
    ]
}

fn texts() -> Vec<Animal> {
    let plain = RawVerdict::PLAIN;
    let label_of = |bytes_of: &[u8]| {
        Builder::verdict(RawVerdict { label: [512, bytes_of.len() as u32], ..plain })
            .fields(&bytes(512, bytes_of))
            .bytes()
    };
    let broken = |name, bytes: &[u8]| Animal::fails(name, label_of(bytes), Nonsense, UNREADABLE);
    vec![
        clamped(
            "label-of-900-kib",
            RawVerdict { label: [ROOM, 900 << 10], ..plain },
            &["label of 921600 bytes cut to 64"],
        ),
        Animal::fails(
            "label-of-2-mib",
            Builder::verdict(RawVerdict { label: [ROOM, 2 << 20], ..plain }).pages(40).bytes(),
            Nonsense,
            TOO_MUCH,
        ),
        Animal::fails(
            "label-and-reason-together",
            Builder::verdict(RawVerdict {
                label: [ROOM, 600 << 10],
                reason: [ROOM, 600 << 10],
                ..plain
            })
            .pages(40)
            .bytes(),
            Nonsense,
            TOO_MUCH,
        ),
        broken("label-not-utf-8", b"\xff\xfe\xfd"),
        broken("label-cut-in-a-character", b"caf\xc3"),
        broken("label-with-a-surrogate", b"\xed\xa0\x80"),
        broken("label-overlong", b"\xc0\xaf"),
        Animal::new(
            "label-with-an-escape",
            label_of(b"\x1b]0;owned\x07\r\n\x1b[2J"),
            End::Harmless(Hook::Plan),
        ),
    ]
}

fn places() -> Vec<Animal> {
    let returns = |name, place: u32| {
        let bytes = Builder::plan(&format!("(return (i32.const {place}))")).bytes();
        Animal::fails(name, bytes, Nonsense, UNREADABLE)
    };
    let plain = RawVerdict::PLAIN;
    vec![
        returns("answer-beyond-memory", 0xffff_fff0),
        returns("answer-across-the-end-of-memory", 2 * 65_536 - 8),
        returns("answer-misaligned", 17),
        unreadable("label-beyond-memory", RawVerdict { label: [1 << 30, 8], ..plain }),
        unreadable("label-wraps-around", RawVerdict { label: [u32::MAX, u32::MAX], ..plain }),
        unreadable("label-ends-beyond-memory", RawVerdict { label: [16, u32::MAX], ..plain }),
    ]
}

fn discriminants() -> Vec<Animal> {
    let plain = RawVerdict::PLAIN;
    vec![
        unreadable("verdict-7", RawVerdict { case: 7, ..plain }),
        unreadable("drafter-9", RawVerdict { drafter: 9, ..plain }),
        unreadable("option-2", RawVerdict { draft_tier: [2, 0], ..plain }),
        Animal::new(
            "action-9",
            Builder::new()
                .fields(&words(16, &[32, 1]))
                .fields(&words(32, &[1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
                .hook(Hook::Rounds, "(i32.const 16)")
                .bytes(),
            End::Fails(Hook::Rounds, Nonsense, UNREADABLE),
        ),
        Animal::refused(
            "init-result-5",
            Builder::new()
                .fields(&words(16, &[5, 0, 0]))
                .hook(Hook::Init, "(i32.const 16)")
                .bytes(),
            UNREADABLE,
        ),
    ]
}

/// A probe's question is where a plan has drafter and length, its answers where
/// a plan has the n-grams.
fn probes() -> Vec<Animal> {
    let probe = |answers: [u32; 2]| {
        Builder::verdict(RawVerdict { case: 1, ngram: answers, ..RawVerdict::PLAIN }).pages(40)
    };
    let answer = words(2048, &[3000, 1]);
    let thousand = words(ROOM, &[3000, 1].repeat(1000));
    vec![
        Animal::fails("probe-without-answers", probe([16, 0]).bytes(), Nonsense, NO_PROBE),
        Animal::fails(
            "probe-with-one-answer",
            probe([2048, 1]).fields(&answer).fields(&bytes(3000, b"A")).bytes(),
            Nonsense,
            NO_PROBE,
        ),
        Animal::fails("probe-with-empty-answers", probe([2048, 3]).bytes(), Nonsense, NO_PROBE),
        Animal::fails(
            "probe-with-200000-answers",
            probe([ROOM, 200_000]).bytes(),
            Nonsense,
            TOO_MUCH,
        ),
        Animal::new(
            "probe-with-1000-answers",
            probe([ROOM, 1000]).fields(&thousand).fields(&bytes(3000, b"A")).bytes(),
            End::Clamped(Hook::Plan, &["1000 answers cut to 16"]),
        ),
    ]
}

fn decisions() -> Vec<Animal> {
    let rounds = |list: [u32; 2], fields: &str| {
        Builder::new()
            .pages(240)
            .fields(&words(16, &list))
            .fields(fields)
            .hook(Hook::Rounds, "(i32.const 16)")
            .bytes()
    };
    let decision =
        |request: u32, action: u32, value: u32| [request, 0, action, value, 0, 0, 0, 0, 0, 0, 0, 0];
    let some = [
        decision(1, 2, 9),        // to a tier that is not there
        decision(1, 0, 0),        // again
        decision(77, 1, 0),       // nobody's
        decision(u32::MAX, 0, 0), // nobody's
    ]
    .concat();
    vec![
        Animal::new(
            "decides-for-others-and-twice",
            rounds([ROOM, 4], &words(ROOM, &some)),
            End::Clamped(Hook::Rounds, &["move to tier 9 ignored", "3 decisions dropped"]),
        ),
        Animal::new(
            "10000-decisions-for-nobody",
            rounds([ROOM, 10_000], ""),
            End::Clamped(Hook::Rounds, &["10000 decisions dropped"]),
        ),
        Animal::new(
            "300000-decisions",
            rounds([ROOM, 300_000], ""),
            End::Fails(Hook::Rounds, Nonsense, TOO_MUCH),
        ),
        Animal::new(
            "million-decisions",
            rounds([ROOM, 1_000_000], ""),
            End::Fails(Hook::Rounds, Nonsense, UNREADABLE),
        ),
        Animal::new(
            "decisions-whose-number-overflows",
            rounds([ROOM, u32::MAX], ""),
            End::Fails(Hook::Rounds, Nonsense, UNREADABLE),
        ),
        Animal::new(
            "decisions-misaligned",
            rounds([ROOM + 4, 1], ""),
            End::Fails(Hook::Rounds, Nonsense, UNREADABLE),
        ),
    ]
}

/// What `snapshot`, `describe` and `init` hand over.
fn states() -> Vec<Animal> {
    let snapshot = |length: u32| {
        Builder::new()
            .pages(200)
            .fields(&words(16, &[ROOM, length]))
            .hook(Hook::Snapshot, "(i32.const 16)")
            .bytes()
    };
    let texts = |length: u32| {
        Builder::new()
            .pages(20)
            .fields(&words(16, &[ROOM, length].repeat(4)))
            .hook(Hook::Describe, "(i32.const 16)")
            .bytes()
    };
    let refusal = |place: u32, length: u32| {
        Builder::new()
            .pages(20)
            .fields(&words(16, &[1, place, length]))
            .fields(&bytes(512, b"no\n\x1b[2Jnever"))
            .hook(Hook::Init, "(i32.const 16)")
            .bytes()
    };
    vec![
        Animal::new(
            "snapshot-of-1-gib",
            snapshot(1 << 30),
            End::Fails(Hook::Snapshot, Nonsense, UNREADABLE),
        ),
        Animal::new(
            "snapshot-of-5-mib",
            snapshot(5 << 20),
            End::Fails(Hook::Snapshot, Nonsense, "handed the host more than 4194304 bytes at once"),
        ),
        Animal::new("describes-itself-at-length", texts(200 << 10), End::Harmless(Hook::Plan)),
        Animal::refused("describes-itself-at-great-length", texts(400 << 10), TOO_MUCH),
        Animal::refused("init-refuses", refusal(512, 12), "refuses to start: no  [2Jnever"),
        Animal::refused("init-refuses-at-length", refusal(ROOM, 900 << 10), "refuses to start: "),
    ]
}

fn reallocs() -> Vec<Animal> {
    let realloc = |name, code: &str, kind, says| {
        Animal::fails(name, Builder::new().realloc(code).bytes(), kind, says).always()
    };
    vec![
        realloc("realloc-beyond-memory", "(i32.const -16)", Nonsense, UNREADABLE),
        realloc("realloc-misaligned", "(i32.const 4097)", Nonsense, UNREADABLE),
        realloc("realloc-traps", "(unreachable)", Trap, "gave up"),
    ]
}
