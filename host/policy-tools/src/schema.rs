//! Configuration schemas as policies describe them: whether they have the shape
//! of JSON Schema, and which fields they name. It checks what authors get wrong,
//! not the whole of the standard, and no configuration against its schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What `type` may be.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Keywords whose value is a schema.
const SCHEMA_KEYWORDS: [&str; 9] = [
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
];

/// Keywords whose value is a list of schemas.
const LIST_KEYWORDS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value has a schema for each name.
const MAP_KEYWORDS: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose value is a number.
const NUMBER_KEYWORDS: [&str; 11] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// Keywords whose value is a text.
const TEXT_KEYWORDS: [&str; 6] = ["description", "title", "$ref", "pattern", "format", "$schema"];

/// What is wrong with a schema: one sentence for each place. Empty when it has
/// the shape of JSON Schema.
pub(crate) fn problems(schema: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    look_at(schema, "", schema, &mut problems);
    problems
}

fn look_at(schema: &Value, place: &str, root: &Value, problems: &mut Vec<String>) {
    let mut wrong = |what: String| {
        problems.push(if place.is_empty() { what } else { format!("at {place}: {what}") });
    };
    let fields = match schema {
        Value::Bool(_) => return,
        Value::Object(fields) => fields,
        other => return wrong(format!("a schema is an object, not {}", kind(other))),
    };
    if let Some(value) = fields.get("type") {
        let names = match value {
            Value::Array(names) => names.iter().collect(),
            one => vec![one],
        };
        let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
        if let Some(unknown) = names.into_iter().find(|name| !known(name)) {
            wrong(format!("there is no type {unknown}, use one of {}", TYPES.join(", ")));
        }
    }
    if let Some(value) = fields.get("enum")
        && value.as_array().is_none_or(|values| values.is_empty())
    {
        wrong("`enum` is a list of at least one value".into());
    }
    if let Some(value) = fields.get("required") {
        wrong_required(value, fields, &mut wrong);
    }
    if let Some(Value::String(reference)) = fields.get("$ref")
        && let Some(pointer) = reference.strip_prefix('#')
        && root.pointer(pointer).is_none()
    {
        wrong(format!("`$ref` names {reference}, which is not there"));
    }
    for (keyword, value) in fields {
        let keyword = keyword.as_str();
        if NUMBER_KEYWORDS.contains(&keyword) && !value.is_number() {
            wrong(format!("`{keyword}` is a number, not {}", kind(value)));
        }
        if TEXT_KEYWORDS.contains(&keyword) && !value.is_string() {
            wrong(format!("`{keyword}` is a text, not {}", kind(value)));
        }
        if LIST_KEYWORDS.contains(&keyword) && !value.is_array() {
            wrong(format!("`{keyword}` is a list of schemas, not {}", kind(value)));
        }
        if MAP_KEYWORDS.contains(&keyword) && !value.is_object() {
            wrong(format!("`{keyword}` has a schema for each name, but is {}", kind(value)));
        }
    }
    look_within(fields, place, root, problems);
}

fn wrong_required(value: &Value, fields: &Map<String, Value>, wrong: &mut impl FnMut(String)) {
    let names = value.as_array().map(|names| names.iter().map(Value::as_str).collect::<Vec<_>>());
    let Some(names) = names.filter(|names| names.iter().all(Option::is_some)) else {
        return wrong("`required` is a list of names".into());
    };
    let properties = fields.get("properties").and_then(Value::as_object);
    for name in names.into_iter().flatten() {
        if properties.is_some_and(|properties| !properties.contains_key(name)) {
            wrong(format!("`required` names `{name}`, which `properties` lacks"));
        }
    }
}

fn look_within(fields: &Map<String, Value>, place: &str, root: &Value, problems: &mut Vec<String>) {
    for (keyword, value) in fields {
        let place = format!("{place}/{keyword}");
        match (keyword.as_str(), value) {
            (keyword, schema) if SCHEMA_KEYWORDS.contains(&keyword) => {
                look_at(schema, &place, root, problems);
            }
            (keyword, Value::Array(schemas)) if LIST_KEYWORDS.contains(&keyword) => {
                for (i, schema) in schemas.iter().enumerate() {
                    look_at(schema, &format!("{place}/{i}"), root, problems);
                }
            }
            (keyword, Value::Object(schemas)) if MAP_KEYWORDS.contains(&keyword) => {
                for (name, schema) in schemas {
                    look_at(schema, &format!("{place}/{name}"), root, problems);
                }
            }
            _ => {}
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The fields that a schema names, each with its own schema.
pub(crate) fn fields(schema: &Value) -> BTreeMap<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let named = properties.into_iter().flatten();
    named.map(|(name, schema)| (name.clone(), schema.clone())).collect()
}

/// A field of a configuration that a schema, which says that there are no others,
/// does not name.
pub(crate) fn unknown_field(schema: &Value, config: &Value) -> Option<String> {
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return None;
    }
    let known = fields(schema);
    config.as_object()?.keys().find(|field| !known.contains_key(*field)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        problems(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn sound_schemas_have_no_problems() {
        for schema in [
            "{}",
            "true",
            r##"{"type": ["integer", "null"], "minimum": 0, "$ref": "#/$defs/a", "$defs": {"a": {}}}"##,
            r#"{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}"#,
            r#"{"items": {"type": "string"}, "anyOf": [{}, true], "x-ours": 5}"#,
        ] {
            assert_eq!(problems_of(schema), Vec::<String>::new(), "{schema}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (schema, says) in [
            ("[]", "a schema is an object, not a list"),
            (r#"{"type": "int"}"#, "there is no type \"int\", use one of array, boolean"),
            (r#"{"properties": {"a": {"type": 7}}}"#, "at /properties/a: there is no type 7"),
            (
                r#"{"properties": {"a": 5}}"#,
                "at /properties/a: a schema is an object, not a number",
            ),
            (r#"{"properties": []}"#, "`properties` has a schema for each name, but is a list"),
            (r#"{"enum": []}"#, "`enum` is a list of at least one value"),
            (r#"{"required": "a"}"#, "`required` is a list of names"),
            (r#"{"required": ["b"], "properties": {}}"#, "names `b`, which `properties` lacks"),
            (r##"{"$ref": "#/$defs/b"}"##, "`$ref` names #/$defs/b, which is not there"),
            (r#"{"items": {"minimum": "1"}}"#, "at /items: `minimum` is a number, not a text"),
            (r#"{"anyOf": [{}, 3]}"#, "at /anyOf/1: a schema is an object, not a number"),
            (r#"{"description": null}"#, "`description` is a text, not null"),
        ] {
            let found = problems_of(schema);
            assert!(found.len() == 1 && found[0].contains(says), "{schema}: {found:?}");
        }
    }

    #[test]
    fn a_field_is_unknown_only_where_no_others_are_allowed() {
        let open = serde_json::json!({"properties": {"a": {}}});
        let mut closed = open.clone();
        closed["additionalProperties"] = false.into();
        let config = serde_json::json!({"a": 1, "b": 2});
        assert_eq!(unknown_field(&open, &config), None);
        assert_eq!(unknown_field(&closed, &config).as_deref(), Some("b"));
        assert_eq!(unknown_field(&closed, &serde_json::json!({"a": 1})), None);
    }
}
