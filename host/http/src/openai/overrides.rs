//! A request's field `aio`: what a client decides instead of the policy, where the
//! operator lets it.

use aio_core::{Draft, Drafter, HostInfo};
use aio_serve::Overrides;
use http::StatusCode;
use serde_json::Value;

use super::fields::Fields;
use super::settings::tier;
use crate::error::ApiError;
use crate::options::ServerOptions;

/// Tokens of a draft, and the n-grams of a lookup, where nothing is said: as in the
/// settings of the shipped policies.
const DRAFT_LENGTH: u32 = 8;
const NGRAM_MIN: u32 = 2;
const NGRAM_MAX: u32 = 4;

/// Reads the overrides and the priority.
pub(super) fn read(
    fields: &mut Fields,
    options: &ServerOptions,
    host: &HostInfo,
) -> Result<(Overrides, i32), ApiError> {
    let Some(mut within) = fields.object("aio")? else {
        return Ok((Overrides::default(), 0));
    };
    if !options.allow_overrides {
        return Err(not_allowed());
    }
    let overrides = Overrides {
        tier: named_tier(&mut within, "tier", host)?,
        draft: draft(&mut within, host)?,
        generation: within.integer("generation", 1..=usize::MAX)?.map(|n| n as u64),
    };
    let priority = priority(&mut within)?;
    within.finish(&[])?;
    Ok((overrides, priority))
}

fn not_allowed() -> ApiError {
    let message = "aio is refused: this host does not let requests decide for the policy (option \
                   allow_overrides)";
    ApiError::refused(StatusCode::FORBIDDEN, message).param("aio").code("overrides_not_allowed")
}

fn named_tier(within: &mut Fields, name: &str, host: &HostInfo) -> Result<Option<u32>, ApiError> {
    let Some(given) = within.string(name)? else { return Ok(None) };
    let path = within.path(name);
    let names: Vec<&str> = host.tiers.iter().map(|tier| tier.name.as_str()).collect();
    let message = format!("{path} is {given:?}, but the tiers are {}", names.join(", "));
    let unknown = || ApiError::field(path, message).code("invalid_value");
    tier(&given, host).ok_or_else(unknown).map(Some)
}

fn draft(within: &mut Fields, host: &HostInfo) -> Result<Option<Draft>, ApiError> {
    let drafter = drafter(within)?;
    let length = within.integer("draft_length", 1..=host.max_draft_length as usize)?;
    let max = within.integer("ngram_max", 1..=host.max_ngram as usize)?;
    let max = max.map_or(NGRAM_MAX.min(host.max_ngram), |n| n as u32);
    let min = within.integer("ngram_min", 1..=max as usize)?;
    let draft_tier = named_tier(within, "draft_tier", host)?;
    let Some(drafter) = drafter else {
        return if length.is_some() || min.is_some() || draft_tier.is_some() {
            let message = "aio says how to draft, but not by what: give aio.drafter too";
            Err(ApiError::field("aio.drafter", message))
        } else {
            Ok(None)
        };
    };
    if drafter == Drafter::None {
        return Ok(Some(Draft::NONE));
    }
    Ok(Some(Draft {
        drafter,
        length: length.map_or(DRAFT_LENGTH.min(host.max_draft_length), |n| n as u32),
        ngram_min: min.map_or(NGRAM_MIN.min(max), |n| n as u32),
        ngram_max: max,
        draft_tier,
        min_confidence: 0.0,
    }))
}

fn drafter(within: &mut Fields) -> Result<Option<Drafter>, ApiError> {
    let Some(name) = within.string("drafter")? else { return Ok(None) };
    let path = within.path("drafter");
    serde_json::from_value(Value::String(name.clone())).map(Some).map_err(|_| {
        let message = format!(
            "{path} is {name:?}, but it must be one of none, lookup, model, lookup-then-model"
        );
        ApiError::field(path, message).code("invalid_value")
    })
}

fn priority(within: &mut Fields) -> Result<i32, ApiError> {
    let path = within.path("priority");
    let Some(value) = within.take("priority") else { return Ok(0) };
    let given = value.as_i64().and_then(|n| i32::try_from(n).ok());
    given.ok_or_else(|| super::fields::wrong(&path, "a whole number of 32 bits"))
}
