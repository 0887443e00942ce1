//! What the README shows is what the repository has.

#[test]
fn the_ten_line_policy_is_the_example() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/policies/short-is-small/src/lib.rs");
    let code = &example[example.find("use ").unwrap_or(0)..];
    assert!(readme.contains(code.trim()), "the README shows another policy than the example");
}
