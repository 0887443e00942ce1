//! Animals that are no policies, or strange ones: what loading must refuse, or
//! bear.

use std::fmt::Write as _;

use aio_core::Hook;

use super::build::Builder;
use super::{Animal, End};

const INVALID: &str = "is not a valid component, build it anew: ";
const MORE_COMPONENTS: &str = "more with --policy-limits '{\"components\":200}'";
const MORE_INSTANTIATIONS: &str = "more with --policy-limits '{\"instantiations\":32}'";

pub fn animals() -> Vec<Animal> {
    let mut animals = no_policies();
    animals.extend(wrong_hooks());
    animals.extend(imports());
    animals.extend(compile_bombs());
    animals
}

fn no_policies() -> Vec<Animal> {
    let not_wasm = |name, bytes: &[u8]| Animal::refused(name, bytes.into(), "is not WebAssembly");
    let header = b"\0asm\x0d\0\x01\0";
    let with = |rest: &[u8]| [header.as_slice(), rest].concat();
    vec![
        not_wasm("empty", b""),
        not_wasm("text", b"(component)"),
        not_wasm("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"),
        not_wasm("another-layer", b"\0asm\x01\0\x02\0"),
        Animal::wat("core-module", "(module (func (export \"plan\")))", "is a core WebAssembly"),
        Animal::wat("no-hooks", "(component)", "exports none of the hooks"),
        Animal::refused("section-beyond-the-end", with(&[1, 200, 3]), INVALID),
        Animal::refused("section-of-4-gib", with(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), INVALID),
        Animal::refused("unknown-section", with(&[99, 1, 0]), INVALID),
        Animal::refused("million-types", with(&[7, 4, 0xc0, 0x84, 0x3d, 0]), INVALID),
        Animal::refused("type-that-refers-to-itself", with(&[7, 3, 1, 0x70, 0]), INVALID),
        Animal::refused("nested-100-deep-and-cut-off", nested(100), INVALID),
        Animal::refused("nested-10000-deep", nested_and_whole(10_000), MORE_COMPONENTS),
    ]
}

/// Components within components, none of which ends.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        // A section of 127 bytes, whatever follows.
        bytes.extend(b"\x04\x7f\0asm\x0d\0\x01\0");
    }
    bytes
}

/// Components within components, each of which is whole.
fn nested_and_whole(depth: usize) -> Vec<u8> {
    let header = b"\0asm\x0d\0\x01\0";
    // From the outermost to the innermost the lengths fall, so they are found
    // from the inside.
    let mut lengths = vec![header.len()];
    for _ in 0..depth {
        let inner = lengths[lengths.len() - 1];
        lengths.push(header.len() + 1 + leb128(inner).len() + inner);
    }
    let mut bytes = Vec::new();
    for &inner in lengths.iter().rev().skip(1) {
        bytes.extend(header);
        bytes.push(4);
        bytes.extend(leb128(inner));
    }
    bytes.extend(header);
    bytes
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn wrong_hooks() -> Vec<Animal> {
    let another_type = "exports `plan` with another type than the contract aio:policy@0.1.0";
    let core = "(core module $c (func (export \"plan\") (result i32) (i32.const 0)))
                (core instance $i (instantiate $c))
                (alias core export $i \"plan\" (core func $plan))";
    let function = "(func (export \"plan\") (result u32) (canon lift (core func $plan)))";
    vec![
        Animal::wat(
            "plan-of-another-type",
            &format!("(component {core} {function})"),
            another_type,
        ),
        Animal::wat(
            "plan-is-an-instance",
            "(component (instance (export \"plan\")))",
            another_type,
        ),
        Animal::wat("plan-is-a-component", "(component (component (export \"plan\")))", INVALID),
        Animal::wat(
            "hook-in-an-interface",
            &format!(
                "(component {core} (func $p (result u32) (canon lift (core func $plan)))
                 (instance (export \"aio:policy/hooks@0.1.0\") (export \"plan\" (func $p))))"
            ),
            "exports none of the hooks",
        ),
    ]
}

fn imports() -> Vec<Animal> {
    let with = |name: &str| {
        let good = Builder::new().text();
        let body = good.strip_prefix("(component").unwrap();
        format!("(component (import \"{name}\" (instance)) {body}")
    };
    let prompt = "(component (import \"aio:policy/prompt-text@0.1.0\" (instance
                  (export \"get\" (func (result (option string)))))))";
    vec![
        Animal::wat(
            "imports-wasi",
            &with("wasi:cli/environment@0.2.0"),
            "but a policy gets no WASI",
        ),
        Animal::wat("imports-a-clock", &with("wasi:clocks/wall-clock@0.2.0"), "gets no WASI"),
        Animal::wat(
            "imports-another-version",
            &with("aio:policy/host@9.0.0"),
            "was built against aio:policy@9.0.0",
        ),
        Animal::wat(
            "imports-what-is-not-granted",
            prompt,
            "imports prompt-text, which was not granted",
        ),
        // Nothing is wanted of that instance, so nothing has to be given.
        Animal::new(
            "imports-a-forged-version",
            wat::parse_str(with("aio:policy/host@0.1.0-evil")).unwrap(),
            End::Harmless(Hook::Plan),
        ),
        Animal::wat(
            "imports-with-an-escape",
            &with("url=<http://x/\\1b[2J\\0a forged>"),
            "imports url=<http://x/ [2J  forged>",
        ),
        Animal::wat(
            "imports-a-long-name",
            &with(&format!("{}b", "a-".repeat(20_000))),
            "imports a-a-",
        ),
        Animal::wat("imports-a-function", "(component (import \"sleep\" (func)))", "imports sleep"),
        Animal::wat(
            "imports-another-log",
            &with("aio:policy/host@0.1.0").replacen(
                "(instance)",
                "(instance (export \"log\" (func)))",
                1,
            ),
            INVALID,
        ),
        Animal::wat(
            "has-a-shared-memory",
            "(component (core module (memory 1 1 shared)))",
            INVALID,
        ),
    ]
}

fn compile_bombs() -> Vec<Animal> {
    let mut functions = String::new();
    for i in 0..10_000 {
        write!(
            functions,
            "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {i})))"
        )
        .unwrap();
    }
    let nested = format!("(func {} {})", "block ".repeat(5000), "end ".repeat(5000));
    vec![
        Animal::new(
            "10000-functions",
            Builder::new().fields(&functions).bytes(),
            End::Harmless(Hook::Plan),
        ),
        Animal::new(
            "5000-blocks-within-each-other",
            Builder::new().fields(&nested).bytes(),
            End::Harmless(Hook::Plan),
        ),
        Animal::wat("doubles-itself-24-times", &doubling(24), MORE_INSTANTIATIONS),
    ]
}

/// Each component instantiates the one before it twice: a few hundred bytes that
/// come to 2^depth instances.
pub fn doubling(depth: usize) -> String {
    let mut text = String::from("(component $root (component $c0)");
    for i in 1..=depth {
        let before = i - 1;
        write!(
            text,
            "(component $c{i} (alias outer $root $c{before} (component $d)) \
             (instance (instantiate $d)) (instance (instantiate $d)))"
        )
        .unwrap();
    }
    let good = Builder::new().text();
    let body = good.strip_prefix("(component").unwrap();
    format!("{text} (instance (instantiate $c{depth})) {body}")
}
