//! The rows of a pass by sequence, checked: what every device does first.

use super::{DeviceError, KvId, Row};

/// Rows of one sequence within a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The sequence's cache.
    pub kv: KvId,
    /// Index of the first row.
    pub first: usize,
    /// How many.
    pub rows: usize,
    /// Position of the first row.
    pub position: usize,
}

/// Bounds of a model that rows must keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub gear: usize,
    pub vocabulary: usize,
    pub context: usize,
}

/// Checks the form that [`super::ResidentModel::run`] asks for and finds each
/// sequence's rows. `kv_length` tells a cache's length, if it is open; `spans` is
/// the caller's, so that a pass need not allocate.
pub(super) fn find(
    rows: &[Row],
    bounds: Bounds,
    kv_length: impl Fn(KvId) -> Option<usize>,
    spans: &mut Vec<Span>,
) -> Result<(), DeviceError> {
    let bad = |what: String| Err(DeviceError::BadPass(what));
    spans.clear();
    if rows.is_empty() || rows.len() > bounds.gear {
        return bad(format!("{} rows do not fit gear {}", rows.len(), bounds.gear));
    }
    for (i, row) in rows.iter().enumerate() {
        if row.token as usize >= bounds.vocabulary {
            return bad(format!("token {} is beyond the vocabulary", row.token));
        }
        let position = row.position as usize;
        if position >= bounds.context {
            return bad(format!("position {position} is beyond the model's context"));
        }
        match spans.last_mut() {
            Some(span) if span.kv == row.kv => {
                if position != span.position + span.rows {
                    return bad(format!("row {i} does not follow the row before it"));
                }
                span.rows += 1;
            }
            _ => {
                let repeated = spans.iter().any(|span| span.kv == row.kv);
                if repeated || kv_length(row.kv) != Some(position) {
                    return bad(format!("row {i} does not continue its sequence"));
                }
                spans.push(Span { kv: row.kv, first: i, rows: 1, position });
            }
        }
    }
    Ok(())
}
