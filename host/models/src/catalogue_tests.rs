use super::*;

const SHA: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// A catalogue of one small model, with `from` replaced by `to`.
fn altered(from: &str, to: &str) -> Result<Catalogue, Error> {
    let text = format!(
        r#"
[tier_sets]
default = ["tiny"]

[[models]]
name = "tiny"
summary = "A model"
architecture = "llama"
parameters = "1M"
context = 128
licence = "Apache-2.0"
role = "tiny tier"

[models.file]
name = "tiny.gguf"
bytes = 7
sha256 = "{SHA}"

[[models.sources]]
kind = "pypi"
packages = [
  {{ name = "tiny-1", version = "1.0", member = "a.bin", bytes = 3 }},
  {{ name = "tiny-2", version = "1.0", member = "b.bin", bytes = 4 }},
]

[[models.sources]]
kind = "hugging-face"
repo = "owner/tiny"
file = "tiny.gguf"
"#
    );
    assert!(text.contains(from), "the text to alter is there");
    Catalogue::parse(&text.replacen(from, to, 1))
}

#[test]
fn the_embedded_catalogue_is_valid() {
    let catalogue = Catalogue::embedded();
    let names: Vec<_> = catalogue.models().iter().map(|m| m.name.as_str()).collect();
    for name in ["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m", "gemma-3-270m"] {
        assert!(names.contains(&name), "{name} is in the catalogue");
    }
    for model in catalogue.models() {
        assert!(model.sources.len() >= 2, "{} has a second source", model.name);
    }
}

#[test]
fn the_default_tier_set_goes_from_small_to_large() {
    let tiers = Catalogue::embedded().tier_set("default").unwrap();
    assert!(tiers.len() >= 2);
    assert!(tiers.windows(2).all(|pair| pair[0].file.bytes < pair[1].file.bytes));
}

#[test]
fn malformed_catalogues_are_refused() {
    assert!(altered("A model", "The same model").is_ok());
    for (from, to, says) in [
        ("summary", "sumary", "unknown field `sumary`"),
        (SHA, "B179", "64 lower-case hexadecimal"),
        ("bytes = 4", "bytes = 5", "do not add up"),
        ("default = [\"tiny\"]", "default = [\"huge\"]", "names huge, which is no model"),
        ("default = [", "tiny = [", "has the name of a model"),
        ("summary", "aliases = [\"tiny\"]\nsummary", "given twice"),
        ("name = \"tiny.gguf\"", "name = \"../tiny.gguf\"", "must be letters"),
        ("\"tiny-1\"", "\"--index-url=x\"", "is not a package name"),
        ("owner/tiny", "tiny", "must be owner/name"),
        ("file = \"tiny.gguf\"", "file = \"../tiny.gguf\"", "is not a path in a repository"),
        (
            "kind = \"hugging-face\"\nrepo = \"owner/tiny\"\nfile = \"tiny.gguf\"",
            "kind = \"path\"\npath = \"tiny.gguf\"",
            "must be absolute",
        ),
    ] {
        let error = altered(from, to).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} says {says:?}");
    }
}

#[test]
fn names_and_aliases_are_found() {
    let catalogue = Catalogue::embedded();
    let model = catalogue.model("qwen2.5-coder-0.5b-instruct").unwrap();
    assert_eq!(model.name, "qwen2.5-coder-0.5b");
    assert_eq!(catalogue.model("SmolLM2-135M").unwrap().name, "smollm2-135m");
}

#[test]
fn an_unknown_name_brings_the_nearest() {
    let catalogue = Catalogue::embedded();
    for (typed, nearest) in [
        ("smollm-135m", "smollm2-135m"),
        ("qwen2.5-coder-15b", "qwen2.5-coder-1.5b"),
        ("1.5b", "qwen2.5-coder-1.5b"),
        ("gemma", "gemma-3-270m"),
    ] {
        let error = catalogue.model(typed).unwrap_err();
        let Error::UnknownModel { nearest: found, .. } = &error else { panic!("{error}") };
        assert_eq!(found.first().map(String::as_str), Some(nearest), "for {typed}");
        assert!(error.to_string().contains("`aio models list`"), "{error}");
    }
    let error = catalogue.model("zzz").unwrap_err().to_string();
    assert!(!error.contains("nearest"), "{error}");
}

#[test]
fn paths_and_names_are_told_apart() {
    let catalogue = Catalogue::embedded();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.GGUF");
    std::fs::write(&path, b"GGUF").unwrap();
    assert_eq!(catalogue.resolve(path.to_str().unwrap()).unwrap(), Target::File(path));
    assert!(matches!(catalogue.resolve("smollm2-135m"), Ok(Target::Model(_))));
    assert!(matches!(catalogue.resolve("no-such-file.gguf"), Err(Error::NoSuchFile { .. })));
    assert!(matches!(catalogue.resolve("./smollm2-135m"), Err(Error::NoSuchFile { .. })));
    assert!(matches!(catalogue.resolve("smollm3"), Err(Error::UnknownModel { .. })));
}
