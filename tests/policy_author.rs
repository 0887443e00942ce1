//! A policy's author starts here: `aio policy new` and `aio policy build`, for each
//! language, in a folder outside of the repository.
//!
//! Where a language's tools are absent its test says so and skips, unless
//! `AIO_AUTHOR_REQUIRED` (for example "rust js") names it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Exit code of `aio policy build` where a tool is absent.
const TOOL_ABSENT: i32 = 3;

/// Where these tests keep compiled code, and Rust projects their dependencies'.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// `aio policy ...` in a folder.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command
        .current_dir(folder)
        .arg("policy")
        .args(arguments)
        .env("AIO_CACHE", Path::new(SCRATCH).join("cache"))
        .env("CARGO_TARGET_DIR", Path::new(SCRATCH).join("policies"))
        .env_remove("AIO_LOG")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null());
    command
}

fn aio(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command prints that succeeds.
#[track_caller]
fn prints(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = aio(folder, arguments);
    assert!(status.success(), "{arguments:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// What a command says on stderr that ends with exit code 1, and with one sentence.
#[track_caller]
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = aio(folder, arguments);
    let stderr = text(&stderr);
    assert_eq!(status.code(), Some(1), "{arguments:?}: {stderr}");
    assert_eq!(text(&stdout), "");
    // A compiler has errors of its own before it.
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    stderr
}

/// A project that was made and built.
struct Author {
    parent: TempDir,
    name: &'static str,
    limits: &'static [&'static str],
    /// What `aio policy check` says at the end.
    verdict: &'static str,
}

impl Author {
    /// Makes a project and builds it; `None` where a tool is absent.
    fn starts(language: &str, name: &'static str) -> Option<Self> {
        let parent = tempfile::tempdir().unwrap();
        let next = prints(parent.path(), &["new", name, "--lang", language]);
        let steps: Vec<&str> = next.lines().collect();
        assert_eq!(steps[..2], [format!("cd {name}").as_str(), "aio policy build"]);
        assert!(steps[2].starts_with(&format!("aio policy test ./{name}.wasm")), "{next}");
        let engine = matches!(language, "js" | "python");
        let limits: &[&str] = if engine { &["--policy-limits", "@limits.json"] } else { &[] };
        assert_eq!(steps[2].contains("--policy-limits @limits.json"), engine);

        // Python's engine makes a component large, and exports a name of its own.
        let verdict = match language {
            "python" => "a host takes it; warnings: 2",
            _ => "nothing to say against it",
        };
        let author = Self { parent, name, limits, verdict };
        let Output { status, stdout, stderr } = aio(&author.folder(), &["build"]);
        let said = text(&stderr);
        let required = std::env::var("AIO_AUTHOR_REQUIRED").unwrap_or_default();
        let skips = !required.split_whitespace().any(|required| required == language);
        if status.code() == Some(TOOL_ABSENT) && skips {
            eprintln!("skipped: {}", said.lines().last().unwrap_or("a tool is absent"));
            return None;
        }
        assert!(status.success(), "{language} does not build: {said}");
        assert_eq!(text(&stdout), format!("{name}.wasm\n"));
        let check = format!("aio policy check ./{name}.wasm {}", limits.join(" "));
        assert_eq!(said.lines().last().unwrap().trim(), check.trim());
        Some(author)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.parent.path().join(self.name)
    }

    fn file(&self) -> String {
        format!("./{}.wasm", self.name)
    }

    fn component(&self) -> Vec<u8> {
        std::fs::read(self.folder().join(self.file())).unwrap()
    }

    /// `aio policy TOOL ./NAME.wasm ...` with the project's limits.
    fn tool<'a>(&'a self, tool: &'a str, file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&[tool, file][..], self.limits, more].concat()
    }

    /// What the project is made of holds: a host takes it, its cases pass, it takes
    /// its configuration and refuses another.
    fn is_a_good_policy(&self) {
        let (folder, file) = (self.folder(), self.file());
        let config = ["--policy-config", "@config.json"];
        let checked = prints(&folder, &self.tool("check", &file, &config));
        assert!(checked.ends_with(&format!("{}: {}\n", self.name, self.verdict)), "{checked}");
        let tested = prints(&folder, &self.tool("test", &file, &["cases"]));
        assert!(tested.ends_with("3 passed, 0 failed\n"), "{tested}");
        let inspected = prints(&folder, &self.tool("inspect", &file, &["--json"]));
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(inspected["name"], self.name);
        assert_eq!(inspected["version"], "0.1.0");
        let fields = inspected["config_schema"]["properties"].as_object().unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["draft_length", "short_tokens"]);
        for (config, says) in [
            (r#"{"short": 1}"#, "unknown field"),
            (r#"{"short_tokens": -1}"#, ""),
            (r#"{"short_tokens": 1.5}"#, ""),
            ("[1]", ""),
            ("7", ""),
        ] {
            let refused = aio(&folder, &self.tool("check", &file, &["--policy-config", config]));
            assert_eq!(refused.status.code(), Some(1), "{config}");
            let said = text(&refused.stdout);
            assert!(said.contains("refuses") && said.contains(says), "{config}: {said}");
        }
    }

    /// A mistake in the policy is shown by its compiler, with its place; what was
    /// built before stays.
    fn is_shown_mistakes(&self, source: &str, mistake: &str, says: &[&str]) {
        self.is_shown_what_is_wrong(source, |good| format!("{good}\n{mistake}\n"), says);
    }

    /// The same with a source that is changed otherwise.
    fn is_shown_what_is_wrong(
        &self,
        source: &str,
        change: impl FnOnce(&str) -> String,
        says: &[&str],
    ) {
        let path = self.folder().join(source);
        let before = self.component();
        let good = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&good)).unwrap();
        let said = refusal(self.parent.path(), &["build", self.name]);
        let name = self.name;
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(&format!("error: {name} does not build: see what ")), "{last}");
        for part in says {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
        assert!(self.component() == before, "what was built before is gone");
        std::fs::write(&path, good).unwrap();
    }
}

#[test]
fn a_policy_in_rust() {
    let Some(author) = Author::starts("rust", "rust-author") else { return };
    author.is_a_good_policy();
    let mistake = "fn mistaken() -> u32 { \"no number\" }";
    author.is_shown_mistakes("src/lib.rs", mistake, &["src/lib.rs:", "mismatched types"]);

    // The lock file that it was made with is the one that it was built with.
    let lock = std::fs::read_to_string(author.folder().join("Cargo.lock")).unwrap();
    let again = tempfile::tempdir().unwrap();
    prints(again.path(), &["new", author.name]);
    let made = std::fs::read_to_string(again.path().join(author.name).join("Cargo.lock")).unwrap();
    assert_eq!(lock, made);

    // A policy is an ordinary crate, whose tests run where it is written.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tested = Command::new(cargo)
        .current_dir(author.folder())
        .args(["test", "--quiet", "--locked", "--target-dir"])
        .arg(Path::new(SCRATCH).join("policies"))
        .output()
        .unwrap();
    assert!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
    assert!(text(&tested.stdout).contains("1 passed"), "{}", text(&tested.stdout));
}

#[test]
fn a_policy_in_javascript() {
    let Some(author) = Author::starts("js", "js-author") else { return };
    author.is_a_good_policy();
    author.is_shown_mistakes("policy.js", "export function ( {", &["policy.js:", "SyntaxError"]);
    author.is_shown_mistakes("policy.js", "throw new Error('too early');", &["too early"]);
    let lacks_a_hook = |good: &str| good.replace("export function plan", "function plan");
    author.is_shown_what_is_wrong("policy.js", lacks_a_hook, &["Could not find export 'plan'"]);
}

#[test]
fn a_policy_in_python() {
    let Some(author) = Author::starts("python", "python-author") else { return };
    author.is_a_good_policy();
    author.is_shown_mistakes("policy.py", "def mistaken(:", &["policy.py", "SyntaxError"]);
}

#[test]
fn a_policy_in_c() {
    let Some(author) = Author::starts("c", "c-author") else { return };
    author.is_a_good_policy();
    let mistake = "int mistaken(void) { return nothing; }";
    author.is_shown_mistakes("policy.c", mistake, &["policy.c:", "undeclared identifier"]);

    // From its parent folder, and for programs.
    let built = prints(author.parent.path(), &["build", author.name, "--json"]);
    let built: Value = serde_json::from_str(&built).unwrap();
    assert_eq!(built["schema"], "aio-policy-build/1");
    assert_eq!((&built["name"], &built["language"]), (&"c-author".into(), &"c".into()));
    assert_eq!(built["path"], "c-author/c-author.wasm");
    assert_eq!(built["bytes"], author.component().len());
    assert_eq!(built["limits"], Value::Null);
}

/// What a project says that a script engine needs is what the host recommends.
#[test]
fn the_limits_of_script_engines_are_the_hosts() {
    let parent = tempfile::tempdir().unwrap();
    for language in ["js", "python"] {
        let name = format!("limits-{language}");
        prints(parent.path(), &["new", &name, "--lang", language]);
        let text = std::fs::read_to_string(parent.path().join(&name).join("limits.json")).unwrap();
        let limits: aio_policy::Limits = serde_json::from_str(&text).unwrap();
        assert_eq!(limits, aio_policy::Limits::for_script_engine());
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_one_sentence_and_nothing_is_written() {
    let parent = tempfile::tempdir().unwrap();
    for (name, says) in [
        ("Mine", "small letters"),
        ("../mine", "small letters"),
        ("", "small letters"),
        ("goodput", "comes with aio"),
        ("serde", "a crate that it needs"),
        ("match", "Rust uses that word"),
    ] {
        let said = refusal(parent.path(), &["new", name]);
        assert!(said.contains(says) && said.contains(name), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(std::fs::read_dir(parent.path()).unwrap().next().is_none());

    std::fs::create_dir(parent.path().join("full")).unwrap();
    std::fs::write(parent.path().join("full/notes.txt"), "mine").unwrap();
    let said = refusal(parent.path(), &["new", "full"]);
    assert!(said.contains("full is there already and not empty"), "{said}");
    assert_eq!(std::fs::read_dir(parent.path().join("full")).unwrap().count(), 1);

    let unknown = aio(parent.path(), &["new", "mine", "--lang", "go"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("rust, js, python, c"));
}

#[test]
fn what_is_no_project_is_refused_with_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let said = refusal(path, &["build"]);
    assert!(said.contains("has no Cargo.toml, package.json, pyproject.toml or policy.c"), "{said}");
    let said = refusal(path, &["build", "nowhere"]);
    assert!(said.contains("there is no folder nowhere"), "{said}");
    for (file, contents, says) in [
        ("package.json", "{\"name\": \"a\",}", "no JSON"),
        ("pyproject.toml", "[project]\nname = \"a/b\"\n", "letters, digits and hyphens"),
        ("Cargo.toml", "[workspace]\n", "[package]"),
    ] {
        std::fs::write(path.join(file), contents).unwrap();
        let said = refusal(path, &["build"]);
        assert!(said.contains(file) && said.contains(says), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        std::fs::remove_file(path.join(file)).unwrap();
    }
}

/// Where the tools of a language are not on the path, the sentence says how to get
/// them and the exit code tells this from a mistake of the author's.
#[test]
fn an_absent_tool_is_named_with_how_to_get_it() {
    let parent = tempfile::tempdir().unwrap();
    for (language, says) in [
        ("js", ["Node.js and npm", "install Node.js 20"]),
        ("python", ["Python", "install Python 3.10"]),
        ("c", ["clang and wasm-ld", "install clang and lld"]),
    ] {
        let name = format!("no-{language}");
        prints(parent.path(), &["new", &name, "--lang", language]);
        let built = command(parent.path(), &["build", &name]).env("PATH", "").output().unwrap();
        let said = text(&built.stderr);
        assert_eq!(built.status.code(), Some(TOOL_ABSENT), "{said}");
        assert_eq!(text(&built.stdout), "");
        for part in says {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    }
}
