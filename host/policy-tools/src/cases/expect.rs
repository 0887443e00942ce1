//! What a case expects of an answer, held against the answer's JSON: of an object
//! the named fields, of a list every element, the rest exactly.

use serde_json::{Map, Value};

/// One place where an answer is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// The fields that lead there, for example `decided.draft.length`; empty for
    /// the whole answer.
    pub place: String,
    /// What was expected.
    pub expected: String,
    /// What is there.
    pub got: String,
}

/// All places where `got` is not as `expected`.
pub(super) fn differences(expected: &Value, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(expected, got, String::new(), &mut found);
    found
}

fn compare(expected: &Value, got: &Value, place: String, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(fields), _) if is_condition(fields) => condition(fields, got, place, found),
        (Value::Object(fields), Value::Object(there)) => {
            for (name, expected) in fields {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                match there.get(name) {
                    Some(got) => compare(expected, got, place, found),
                    None => {
                        let names: Vec<&str> = there.keys().map(String::as_str).collect();
                        let got = format!("no such field, but {}", names.join(", "));
                        found.push(Difference { place, expected: expected.to_string(), got });
                    }
                }
            }
        }
        (Value::Array(elements), Value::Array(there)) if elements.len() == there.len() => {
            for (i, (expected, got)) in elements.iter().zip(there).enumerate() {
                compare(expected, got, format!("{place}[{i}]"), found);
            }
        }
        (Value::Array(elements), Value::Array(there)) => found.push(Difference {
            place,
            expected: format!("{} elements", elements.len()),
            got: format!("{}: {got}", there.len()),
        }),
        (Value::Number(_), Value::Number(_)) if is_same_number(expected, got) => {}
        _ if expected == got => {}
        _ => found.push(Difference { place, expected: expected.to_string(), got: got.to_string() }),
    }
}

/// Whether two numbers are the same as the contract has them. Its fractions are
/// of 32 bits, so that 0.3 is what a policy answers as 0.3.
fn is_same_number(expected: &Value, got: &Value) -> bool {
    match (expected.as_u64(), got.as_u64(), expected.as_f64(), got.as_f64()) {
        (Some(a), Some(b), ..) => a == b,
        (_, _, Some(a), Some(b)) => a == b || a as f32 == b as f32,
        _ => false,
    }
}

/// The names of what may stand in a value's place. No answer has such fields.
const CONDITIONS: [&str; 3] = ["at-least", "at-most", "contains"];

fn is_condition(fields: &Map<String, Value>) -> bool {
    !fields.is_empty() && fields.keys().all(|name| CONDITIONS.contains(&name.as_str()))
}

fn condition(fields: &Map<String, Value>, got: &Value, place: String, found: &mut Vec<Difference>) {
    let holds =
        fields.iter().all(|(name, bound)| match (name.as_str(), bound.as_f64(), got.as_f64()) {
            ("at-least", Some(bound), Some(got)) => got >= bound,
            ("at-most", Some(bound), Some(got)) => got <= bound,
            ("contains", ..) => match (bound.as_str(), got.as_str()) {
                (Some(part), Some(text)) => text.contains(part),
                _ => false,
            },
            _ => false,
        });
    if !holds {
        let words: Vec<String> = fields
            .iter()
            .map(|(name, bound)| format!("{} {bound}", name.replace('-', " ")))
            .collect();
        found.push(Difference { place, expected: words.join(", "), got: got.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(expected: Value, got: &Value) -> Vec<String> {
        differences(&expected, got).into_iter().map(|d| d.place).collect()
    }

    fn answer() -> Value {
        json!({"decided": {"tier": 1, "draft": {"length": 7, "min_confidence": 0.3f32,
            "draft_tier": null}, "label": "code", "reason": "entropy 0.15 below 0.45"}})
    }

    #[test]
    fn only_named_fields_are_compared() {
        assert_eq!(places(json!({}), &answer()), [""; 0]);
        assert_eq!(
            places(json!({"decided": {"tier": 1, "draft": {"length": 7}}}), &answer()),
            [""; 0]
        );
        let wrong = json!({"decided": {"tier": 0, "draft": {"length": 8}, "label": "code"}});
        assert_eq!(places(wrong, &answer()), ["decided.draft.length", "decided.tier"]);
    }

    #[test]
    fn a_field_that_is_not_there_is_told_the_names() {
        let found = differences(&json!({"probe": {"tier": 0}}), &answer());
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].place.as_str(), found[0].got.as_str()),
            ("probe", "no such field, but decided")
        );
    }

    #[test]
    fn numbers_are_exact_and_fractions_are_of_32_bits() {
        let draft = |field: &str, value: Value| json!({"decided": {"draft": {field: value}}});
        assert_eq!(places(draft("min_confidence", json!(0.3)), &answer()), [""; 0]);
        assert_eq!(places(draft("min_confidence", json!(0.300001)), &answer()).len(), 1);
        assert_eq!(places(draft("length", json!(7.0)), &answer()), [""; 0]);
        assert_eq!(places(draft("draft_tier", json!(0)), &answer()).len(), 1);
        // Two request numbers that are one as fractions.
        assert_eq!(places(json!([u64::MAX]), &json!([u64::MAX - 1])).len(), 1);
    }

    #[test]
    fn bounds_and_parts_of_texts() {
        let tier = |bounds: Value| places(json!({"decided": {"tier": bounds}}), &answer()).len();
        assert_eq!(tier(json!({"at-least": 1, "at-most": 1})), 0);
        assert_eq!((tier(json!({"at-least": 2})), tier(json!({"at-most": 0}))), (1, 1));
        assert_eq!(tier(json!({"contains": "1"})), 1);
        assert_eq!(tier(json!({"at-least": "1"})), 1);
        let reason =
            |part: &str| places(json!({"decided": {"reason": {"contains": part}}}), &answer());
        assert_eq!((reason("entropy").len(), reason("margin").len()), (0, 1));
    }

    #[test]
    fn lists_are_compared_whole() {
        let got =
            json!([{"request": 1, "action": "keep"}, {"request": 2, "action": {"move-to": 0}}]);
        assert_eq!(places(json!([{}, {"action": {"move-to": 0}}]), &got), [""; 0]);
        assert_eq!(places(json!([{}, {"action": "keep"}]), &got), ["[1].action"]);
        assert_eq!(places(json!([{}]), &got), [""]);
        assert_eq!(places(json!({"request": 1}), &got), [""]);
    }
}
