//! Pre-tokenisation: cutting a text into the words that BPE then works on.
//!
//! A GGUF file names its rule in `tokenizer.ggml.pre`; this module is the table
//! from those names to rules, and the cutting. It knows no vocabulary.
//!
//! The reference is llama.cpp. It does not normalise to NFC, while Hugging Face's
//! own Qwen tokenizer does; neither do we, so decomposed text keeps its bytes.
//!
//! The published rules end in `\s+(?!\S)|\s+`: a run of white space leaves its last
//! character to the word behind it. Look-ahead needs a backtracking engine, whose
//! time an adversarial prompt controls, so the patterns here leave that alternative
//! out and [`Step`] gives the character back itself: the result is the same and
//! every pattern runs in linear time.

use std::sync::LazyLock;

use regex::Regex;

/// How a file with a given `tokenizer.ggml.pre` wants its text treated.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    /// Names the rule, not the file's spelling of it: part of the fingerprint.
    pub family: Family,
    /// A word that is a token as a whole is taken without applying merges.
    pub ignore_merges: bool,
    /// Whether a prompt begins with BOS where the file does not say.
    pub add_bos: bool,
}

impl PreTokenizer {
    /// Looks up a value of `tokenizer.ggml.pre`.
    pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
        TABLE.iter().find(|row| row.0.contains(&name)).map(|row| row.1)
    }

    /// All names that [`PreTokenizer::by_name`] knows.
    pub(super) fn known_names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().flat_map(|row| row.0.iter().copied())
    }

    /// Calls `word` with the consecutive words of `text`; put together they are `text`.
    pub(super) fn split<'t>(&self, text: &'t str, word: &mut dyn FnMut(&'t str)) {
        apply(self.family.steps(), text, word);
    }
}

/// A rule for cutting text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// GPT-2's rule after cutting at punctuation and before cutting digits by threes.
    Default,
    /// GPT-2.
    Gpt2,
    /// Every digit on its own, then GPT-2.
    DigitsGpt2,
    /// Llama 3: contractions in either case, up to three digits together.
    Llama3,
    /// Qwen 2: as Llama 3, but every digit on its own.
    Qwen2,
    /// Qwen 3.5: as Qwen 2, but combining marks belong to letters.
    Qwen35,
}

impl Family {
    fn steps(self) -> &'static [Step] {
        match self {
            Family::Default => &*DEFAULT,
            Family::Gpt2 => &DIGITS_GPT2[1..],
            Family::DigitsGpt2 => &*DIGITS_GPT2,
            Family::Llama3 => &*LLAMA3,
            Family::Qwen2 => &*QWEN2,
            Family::Qwen35 => &*QWEN35,
        }
    }
}

const fn rule(family: Family) -> PreTokenizer {
    PreTokenizer { family, ignore_merges: false, add_bos: false }
}

const LLAMA3_RULE: PreTokenizer =
    PreTokenizer { family: Family::Llama3, ignore_merges: true, add_bos: true };

/// The names that share a rule, and the rule.
const TABLE: &[(&[&str], PreTokenizer)] = &[
    (
        &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        rule(Family::Qwen2),
    ),
    (&["qwen35"], rule(Family::Qwen35)),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        rule(Family::DigitsGpt2),
    ),
    (
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "gigachat",
            "mellum",
            "a.x-4.0",
            "granite-docling",
        ],
        rule(Family::Gpt2),
    ),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        LLAMA3_RULE,
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], rule(Family::Llama3)),
    (&["glm4"], PreTokenizer { family: Family::Llama3, ignore_merges: true, add_bos: false }),
    (&["default"], rule(Family::Default)),
];

/// What happens to a run of white space that is followed by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GiveBack {
    /// The pattern has no such alternative.
    Never,
    /// The last character goes to what follows.
    Last,
    /// As [`GiveBack::Last`], except for runs ending in a line break, which another
    /// alternative of the pattern has matched on purpose.
    LastUnlessLineBreak,
}

/// One pattern; its matches and the gaps between them are words for the next step.
#[derive(Debug)]
struct Step {
    pattern: Regex,
    give_back: GiveBack,
}

impl Step {
    #[allow(clippy::expect_used)]
    fn new(pattern: &str, give_back: GiveBack) -> Step {
        // The patterns are constants of this file and every one is compiled by a test.
        Step { pattern: Regex::new(pattern).expect("the pattern is valid"), give_back }
    }

    /// Where the match `start..end` of `text` ends once white space is given back.
    fn end(&self, text: &str, start: usize, end: usize) -> usize {
        if self.give_back == GiveBack::Never || end == text.len() {
            return end;
        }
        let matched = &text[start..end];
        let Some(last) = matched.chars().next_back() else { return end };
        let kept = end - last.len_utf8();
        let stays = kept == start
            || !matched.chars().all(char::is_whitespace)
            || (self.give_back == GiveBack::LastUnlessLineBreak && matches!(last, '\r' | '\n'));
        if stays { end } else { kept }
    }
}

fn apply<'t>(steps: &[Step], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((step, rest)) = steps.split_first() else {
        return word(text);
    };
    let mut done = 0;
    while let Some(found) = step.pattern.find_at(text, done) {
        let end = step.end(text, found.start(), found.end());
        if found.start() > done {
            apply(rest, &text[done..found.start()], word);
        }
        apply(rest, &text[found.start()..end], word);
        done = end;
    }
    if done < text.len() {
        apply(rest, &text[done..], word);
    }
}

const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// Spelled out, for `(?i:'s)` would also match the long s, which the reference does not.
const CONTRACTIONS: &str = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";

static DEFAULT: LazyLock<[Step; 4]> = LazyLock::new(|| {
    [
        Step::new(r"[\p{P}\$\+<=>\^~\|]+", GiveBack::Never),
        Step::new(GPT2_PATTERN, GiveBack::Last),
        Step::new(r"\p{N}+", GiveBack::Never),
        Step::new(r"[0-9][0-9][0-9]", GiveBack::Never),
    ]
});

static DIGITS_GPT2: LazyLock<[Step; 2]> = LazyLock::new(|| {
    [Step::new(r"\p{N}", GiveBack::Never), Step::new(GPT2_PATTERN, GiveBack::Last)]
});

static LLAMA3: LazyLock<[Step; 1]> = LazyLock::new(|| {
    [Step::new(
        &format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+"
        ),
        GiveBack::LastUnlessLineBreak,
    )]
});

static QWEN2: LazyLock<[Step; 1]> = LazyLock::new(|| {
    [Step::new(
        &format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+"
        ),
        GiveBack::LastUnlessLineBreak,
    )]
});

static QWEN35: LazyLock<[Step; 1]> = LazyLock::new(|| {
    [Step::new(
        &format!(
            r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+"
        ),
        GiveBack::LastUnlessLineBreak,
    )]
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        PreTokenizer::by_name(name).unwrap().split(text, &mut |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn a_run_of_spaces_leaves_its_last_to_the_next_word() {
        assert_eq!(words("qwen2", "a   b  \n  c  "), ["a", "  ", " b", "  \n", " ", " c", "  "]);
        assert_eq!(words("smollm", "a   b\n\n c"), ["a", "  ", " b", "\n\n", " c"]);
        assert_eq!(words("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
    }

    #[test]
    fn digits_are_grouped_as_each_family_does() {
        assert_eq!(words("qwen2", "x 1234"), ["x", " ", "1", "2", "3", "4"]);
        assert_eq!(words("smollm", "x 1234"), ["x", " ", "1", "2", "3", "4"]);
        assert_eq!(words("llama3", "x 1234"), ["x", " ", "123", "4"]);
        assert_eq!(words("gpt-2", "x 1234"), ["x", " 1234"]);
        assert_eq!(words("default", "x 1234"), ["x", " ", "123", "4"]);
    }

    #[test]
    fn the_long_s_is_no_contraction() {
        assert_eq!(words("qwen2", "it'S it'ſ"), ["it", "'S", " it", "'ſ"]);
    }

    #[test]
    fn a_megabyte_of_spaces_takes_no_time_to_speak_of() {
        let text = format!("{}x", " ".repeat(1 << 20));
        assert_eq!(words("qwen2", &text).len(), 2);
        assert_eq!(words("smollm", &text).len(), 2);
    }

    proptest! {
        #[test]
        fn words_put_together_are_the_text(text in "[ \t\r\n0-9a-zA-Z'!é中́😀]{0,40}") {
            for name in PreTokenizer::known_names() {
                prop_assert_eq!(words(name, &text).concat(), text.as_str());
            }
        }
    }
}
