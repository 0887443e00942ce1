//! Reading a request's fields one by one: each is taken out, what is left at the end is
//! refused by name, and every error says which field it is about. `null` counts as
//! absent, as in OpenAI's interface.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields of an object that are not read yet.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    /// What to put before a field's name to say where it is.
    path: String,
}

/// A field of OpenAI's interface that this host does not have, and the values that ask
/// for nothing and are therefore taken.
#[derive(Debug)]
pub(crate) struct Unsupported {
    pub(crate) name: &'static str,
    pub(crate) harmless: Harmless,
}

/// Which values of an unsupported field ask for nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Harmless {
    /// None of them.
    Never,
    /// All of them: what they ask for changes no answer.
    Always,
    /// 0, or for a switch false.
    Off,
    /// An empty list, object or text.
    Empty,
    /// These texts, alone or as the only one of a list.
    Texts(&'static [&'static str]),
}

impl Harmless {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Off => value.as_f64() == Some(0.0) || value.as_bool() == Some(false),
            Self::Empty => match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => false,
            },
            Self::Texts(texts) => match value {
                Value::String(text) => texts.contains(&text.as_str()),
                Value::Array(items) => match items.as_slice() {
                    [Value::String(text)] => texts.contains(&text.as_str()),
                    _ => false,
                },
                _ => false,
            },
        }
    }
}

impl Fields {
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        Self { fields, path: String::new() }
    }

    /// The fields of a value within.
    pub(crate) fn within(value: Value, path: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(fields) => Ok(Self { fields, path: format!("{path}.") }),
            _ => Err(wrong(path, "an object")),
        }
    }

    /// A field's full name.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Whatever a field holds.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(&self.path(name), "a string")),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(wrong(&self.path(name), "true or false")),
        }
    }

    pub(crate) fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let given = value.as_u64().and_then(|n| usize::try_from(n).ok());
        match given.filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(out_of_range(&self.path(name), "a whole number", &range, &value)),
        }
    }

    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f32>,
    ) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().map(|n| n as f32).filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(out_of_range(&self.path(name), "a number", &range, &value)),
        }
    }

    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong(&self.path(name), "a list")),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, ApiError> {
        let path = self.path(name);
        self.take(name).map(|value| Self::within(value, &path)).transpose()
    }

    /// Refuses what was not read: by its own name, and as what it is.
    pub(crate) fn finish(self, unsupported: &[Unsupported]) -> Result<(), ApiError> {
        for (name, value) in &self.fields {
            let path = self.path(name);
            match unsupported.iter().find(|field| field.name == name) {
                _ if value.is_null() => {}
                Some(field) if field.harmless.holds(value) => {}
                Some(_) => return Err(not_supported(&path)),
                None => {
                    let message = format!("there is no field {path}; leave it out");
                    return Err(ApiError::field(path, message).code("unknown_parameter"));
                }
            }
        }
        Ok(())
    }
}

/// Refuses what OpenAI's interface has and this host has not.
pub(crate) fn not_supported(path: &str) -> ApiError {
    ApiError::field(path, format!("{path} is not supported by this host; leave it out"))
        .code("unsupported_parameter")
}

/// Refuses a value of another type.
pub(crate) fn wrong(path: &str, expected: &str) -> ApiError {
    ApiError::field(path, format!("{path} must be {expected}")).code("invalid_type")
}

/// Refuses the lack of a field.
pub(crate) fn missing(path: &str) -> ApiError {
    ApiError::field(path, format!("{path} is missing")).code("missing_required_parameter")
}

fn out_of_range<T: Display>(
    path: &str,
    kind: &str,
    range: &RangeInclusive<T>,
    given: &Value,
) -> ApiError {
    let (low, high) = (range.start(), range.end());
    let message = if given.is_number() {
        format!("{path} is {given}, but it must be {kind} from {low} to {high}")
    } else {
        format!("{path} must be {kind} from {low} to {high}")
    };
    ApiError::field(path, message).code("invalid_value")
}
