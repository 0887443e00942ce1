//! Building components for the zoo: the contract's types and a well-behaved
//! `plan` are given, so that an animal is only the WebAssembly that does harm.

use std::fmt::Write as _;

use aio_core::Hook;

/// What a policy's hooks name, as WAT.
const TYPES: &str = include_str!("types.wat");

/// Where the well-behaved verdict lies.
pub const GOOD: u32 = 1024;
/// Where the first argument goes; below is the animal's own data.
pub const ARGUMENTS: u32 = 4096;
/// Where an animal that needs much room may put things, beyond the arguments.
pub const ROOM: u32 = 65_536;
/// The reason of the well-behaved verdict.
pub const GOOD_REASON: &str = "all is well";

/// Fields of a verdict in memory, each of 32 bits; a plan's as a rule, and a
/// probe's where they share a place.
#[derive(Clone, Copy)]
pub struct RawVerdict {
    pub case: u32,
    pub tier: u32,
    pub drafter: u32,
    pub length: u32,
    pub ngram: [u32; 2],
    pub draft_tier: [u32; 2],
    pub confidence: u32,
    pub ask_every: u32,
    pub label: [u32; 2],
    pub reason: [u32; 2],
}

impl RawVerdict {
    /// Plain decoding on the smallest tier.
    pub const PLAIN: Self = Self {
        case: 0,
        tier: 0,
        drafter: 0,
        length: 0,
        ngram: [1, 1],
        draft_tier: [0, 0],
        confidence: 0,
        ask_every: 0,
        label: [0, 0],
        reason: [0, 0],
    };

    pub fn at(self, place: u32) -> String {
        let Self { case, tier, drafter, length, ngram, draft_tier, .. } = self;
        let Self { confidence, ask_every, label, reason, .. } = self;
        let start = [case, tier, drafter, length, ngram[0], ngram[1], draft_tier[0], draft_tier[1]];
        let end = [confidence, ask_every, label[0], label[1], reason[0], reason[1]];
        words(place, &[start.as_slice(), end.as_slice()].concat())
    }
}

/// A data segment of 32-bit numbers.
pub fn words(place: u32, words: &[u32]) -> String {
    bytes(place, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
}

/// A data segment of bytes.
pub fn bytes(place: u32, bytes: &[u8]) -> String {
    let mut text = format!("(data (i32.const {place}) \"");
    for byte in bytes {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text + "\")\n"
}

/// A component in the making.
pub struct Builder {
    pages: u32,
    log: bool,
    realloc: String,
    fields: String,
    hooks: Vec<(Hook, String)>,
    post_return: String,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            pages: 2,
            log: false,
            realloc: "(global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) \
                      (i32.const -8))) (global.get $next) (global.set $next (i32.add \
                      (global.get $next) (local.get 3)))"
                .into(),
            fields: String::new(),
            hooks: Vec::new(),
            post_return: String::new(),
        }
    }

    /// A component whose `plan` runs `code` for request 1 only, and answers any
    /// other well: that answer shows that the instance was built anew.
    pub fn plan(code: &str) -> Self {
        Self::new().hook(Hook::Plan, &for_request_1(code))
    }

    /// A component whose `plan` for request 1 is this verdict.
    pub fn verdict(verdict: RawVerdict) -> Self {
        Self::plan("(return (i32.const 16))").fields(&verdict.at(16))
    }

    /// Pages of memory.
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// With `$log` imported.
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Another body for `cabi_realloc`.
    pub fn realloc(mut self, code: &str) -> Self {
        self.realloc = code.into();
        self
    }

    /// More fields of the core module: data, functions, tables.
    pub fn fields(mut self, fields: &str) -> Self {
        self.fields += fields;
        self
    }

    /// A hook with this body. Its parameters are those of the canonical ABI; the
    /// result, if it has one, is a place in memory.
    pub fn hook(mut self, hook: Hook, code: &str) -> Self {
        self.hooks.push((hook, code.into()));
        self
    }

    /// What runs after `plan` has been read.
    pub fn post_return(mut self, code: &str) -> Self {
        self.post_return = code.into();
        self
    }

    pub fn text(mut self) -> String {
        if self.hooks.iter().all(|(hook, _)| *hook != Hook::Plan) {
            self.hooks.push((Hook::Plan, format!("(i32.const {GOOD})")));
        }
        let Self { pages, log, realloc, fields, hooks, post_return } = self;
        let mut text = String::from("(component\n");
        text += TYPES;
        if log {
            text += "(import \"aio:policy/host@0.1.0\" (instance $host \
                     (type $level-is (enum \"debug\" \"info\" \"warn\" \"error\")) \
                     (export \"level\" (type $level (eq $level-is))) \
                     (export \"log\" (func (param \"level\" $level) (param \"message\" string)))))\n";
        }
        writeln!(text, "(core module $m (memory (export \"memory\") {pages}))").unwrap();
        text += "(core instance $m (instantiate $m))\n\
                 (alias core export $m \"memory\" (core memory $memory))\n";
        if log {
            text += "(alias export $host \"log\" (func $log))\n\
                     (core func $log (canon lower (func $log) (memory $memory)))\n\
                     (core instance $h (export \"log\" (func $log)))\n";
        }
        text += "(core module $core (import \"m\" \"memory\" (memory 0))\n";
        if log {
            text += "(import \"h\" \"log\" (func $log (param i32 i32 i32)))\n";
        }
        writeln!(text, "(global $next (mut i32) (i32.const {ARGUMENTS}))").unwrap();
        let realloc_type = "(param i32 i32 i32 i32) (result i32)";
        writeln!(text, "(func (export \"cabi_realloc\") {realloc_type} {realloc})").unwrap();
        let reason = [GOOD + 64, GOOD_REASON.len() as u32];
        text += &RawVerdict { reason, ..RawVerdict::PLAIN }.at(GOOD);
        text += &bytes(GOOD + 64, GOOD_REASON.as_bytes());
        text += &fields;
        for (hook, code) in &hooks {
            let parameters = core_type(*hook);
            let start_over = format!("(global.set $next (i32.const {ARGUMENTS}))");
            writeln!(text, "(func (export \"{hook}\") {parameters} {start_over} {code})").unwrap();
        }
        if !post_return.is_empty() {
            writeln!(text, "(func (export \"post\") (param i32) {post_return})").unwrap();
        }
        let with_log = if log { "(with \"h\" (instance $h))" } else { "" };
        writeln!(
            text,
            ")\n(core instance $i (instantiate $core (with \"m\" (instance $m)) {with_log}))"
        )
        .unwrap();
        text += "(alias core export $i \"cabi_realloc\" (core func $realloc))\n";
        if !post_return.is_empty() {
            text += "(alias core export $i \"post\" (core func $post))\n";
        }
        for (hook, _) in &hooks {
            let post = *hook == Hook::Plan && !post_return.is_empty();
            let post = if post { "(post-return $post)" } else { "" };
            writeln!(
                text,
                "(alias core export $i \"{hook}\" (core func ${hook}))\n\
                 (func (export \"{hook}\") {} (canon lift (core func ${hook}) (memory $memory) \
                 (realloc $realloc) {post}))",
                component_type(*hook)
            )
            .unwrap();
        }
        text + ")"
    }

    pub fn bytes(self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}

/// Runs `code` for request 1 and answers well otherwise.
pub fn for_request_1(code: &str) -> String {
    format!("(if (i64.eq (local.get 0) (i64.const 1)) (then {code})) (i32.const {GOOD})")
}

/// A loop around `code` that never ends.
pub fn for_ever(code: &str) -> String {
    format!("(loop $for-ever {code} (br $for-ever))")
}

fn core_type(hook: Hook) -> &'static str {
    match hook {
        Hook::Describe | Hook::Snapshot => "(result i32)",
        Hook::Init => "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)",
        Hook::Plan => "(param i64 i32 i32 i32 f32 i32 i32 i32 i32 i32 i32 i32) (result i32)",
        Hook::Rounds => "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)",
        Hook::Finished => "(param i32 i32)",
    }
}

fn component_type(hook: Hook) -> &'static str {
    match hook {
        Hook::Describe => "(result $description)",
        Hook::Init => {
            "(param \"config\" string) (param \"carried\" (option (list u8))) \
             (param \"host\" $host-info) (result (result (error string)))"
        }
        Hook::Plan => "(param \"facts\" $request-facts) (result $verdict)",
        Hook::Rounds => {
            "(param \"context\" $round-context) (param \"requests\" (list $round-facts)) \
             (result (list $round-decision))"
        }
        Hook::Finished => "(param \"outcomes\" (list $outcome))",
        Hook::Snapshot => "(result (list u8))",
    }
}
