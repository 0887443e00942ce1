//! What a policy may be called: its name is a folder's, a crate's, an npm
//! package's and a file's at once.

use crate::{Error, Language, template};

/// Longest name; records and tables show it.
const MOST: usize = 40;

/// The policies that come with the host.
const SHIPPED: [&str; 3] = ["aio", "fixed", "goodput"];

/// Rust's words, and crates that come with its compiler.
const RUST: &str = "abstract alloc as async await become box break const continue core crate do dyn \
    else enum extern false final fn for gen if impl in let loop macro match mod move mut override \
    priv proc_macro pub ref return self static std struct super test trait true try type typeof \
    unsafe unsized use virtual where while yield";

/// Whether a policy can be called so.
///
/// # Errors
/// One sentence on what is wrong with the name.
pub(crate) fn check(name: &str, language: Language) -> Result<(), Error> {
    let wrong = |problem: String| Error::Name { name: name.to_owned(), problem };
    let parts_are_words = name.split('-').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    if !parts_are_words || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(wrong(
            "use small letters, digits and single hyphens, a letter first, for example \
             \"short-first\""
                .into(),
        ));
    }
    if name.len() > MOST {
        return Err(wrong(format!("it has more than {MOST} characters")));
    }
    if SHIPPED.contains(&name) {
        return Err(wrong("a policy that comes with aio is called so, choose another".into()));
    }
    if language == Language::Rust {
        let word = name.replace('-', "_");
        if RUST.split_whitespace().any(|reserved| reserved == word) {
            return Err(wrong("Rust uses that word itself, choose another".into()));
        }
        if template::locked_crates().any(|locked| locked.replace('-', "_") == word) {
            return Err(wrong("a crate that it needs is called so, choose another".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str) -> String {
        check(name, Language::Rust).unwrap_err().to_string()
    }

    #[test]
    fn a_name_is_words_with_hyphens_between() {
        for name in ["mine", "short-first", "a1", "v2-b-3"] {
            check(name, Language::Rust).unwrap();
        }
        for name in ["", "Mine", "-a", "a-", "a--b", "a_b", "1a", "a/b", "..", "ä", "a b", "a.b"] {
            assert!(problem(name).contains("use small letters"), "{name}");
        }
        assert!(problem(&"a".repeat(41)).contains("more than 40"));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        assert!(problem("goodput").contains("comes with aio"));
        assert!(problem("proc-macro").contains("Rust uses that word"));
        assert!(problem("aio-policy-sdk").contains("a crate that it needs"));
        assert!(problem("serde").contains("a crate that it needs"));
        check("serde", Language::C).unwrap();
        check("crate", Language::JavaScript).unwrap();
    }
}
