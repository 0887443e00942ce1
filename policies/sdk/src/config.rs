//! From the operator's JSON text to a policy's typed configuration, with errors
//! that name the field.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The configuration of a policy that has none: anything but `{}` is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Reads a configuration; an empty text is the default.
///
/// # Errors
/// One sentence that names the field and what is wrong with it.
pub fn parse_config<C: DeserializeOwned + Default>(text: &str) -> Result<C, String> {
    if text.trim().is_empty() {
        return Ok(C::default());
    }
    // serde takes a list for a struct, field by field.
    if !text.trim_start().starts_with('{') {
        return Err("its configuration is not valid: it must be a JSON object, such as {}".into());
    }
    let mut json = serde_json::Deserializer::from_slice(text.as_bytes());
    let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match path.as_str() {
            "." => format!("its configuration is not valid: {inner}"),
            _ => format!("its configuration is not valid at `{path}`: {inner}"),
        }
    })?;
    json.end().map_err(|error| format!("its configuration is not valid: {error}"))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        length: u32,
        name: String,
    }

    #[test]
    fn no_text_is_the_default() {
        assert_eq!(parse_config::<Config>(" \n"), Ok(Config::default()));
        assert_eq!(parse_config::<NoConfig>("{}"), Ok(NoConfig {}));
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        let error = |text| parse_config::<Config>(text).unwrap_err();
        assert_eq!(
            error(r#"{"lenght": 1}"#),
            "its configuration is not valid at `lenght`: unknown field `lenght`, expected `length` or `name` at line 1 column 9"
        );
        assert_eq!(
            error(r#"{"length": -1}"#),
            "its configuration is not valid at `length`: invalid value: integer `-1`, expected u32 at line 1 column 13"
        );
        assert!(error("[").starts_with("its configuration is not valid: "));
        assert!(error("{} {}").contains("trailing characters"));
        for other in ["[1]", "7", "null", "\"text\""] {
            assert!(error(other).ends_with("it must be a JSON object, such as {}"), "{other}");
        }
    }
}
