//! Mooncake's traces: one row a request, with the blocks that its prompt shares
//! with others.

use serde::Deserialize;

use super::{Arrival, Input, Malformed};

/// Tokens of a block.
pub const BLOCK_TOKENS: usize = 512;

#[derive(Deserialize)]
struct Row {
    /// Milliseconds.
    timestamp: u64,
    input_length: usize,
    output_length: usize,
    hash_ids: Vec<u64>,
}

/// Reads all rows.
pub(super) fn parse(text: &str) -> Result<Vec<Arrival>, Malformed> {
    let arrival = |(number, line): (usize, &str)| {
        let malformed = |what: String| Malformed { line: number + 1, what };
        let row: Row = serde_json::from_str(line)
            .map_err(|e| malformed(format!("is no request of a Mooncake trace: {e}")))?;
        if row.hash_ids.len() != row.input_length.div_ceil(BLOCK_TOKENS) {
            let what = format!(
                "has {} hash_ids for {} tokens: a block has {BLOCK_TOKENS}",
                row.hash_ids.len(),
                row.input_length
            );
            return Err(malformed(what));
        }
        Ok(Arrival {
            at: row.timestamp as f64 / 1000.0,
            input: Input::Blocks { tokens: row.input_length, ids: row.hash_ids },
            output_tokens: Some(row.output_length),
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(arrival).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_blocks() {
        let text =
            "{\"timestamp\":1500,\"input_length\":513,\"output_length\":2,\"hash_ids\":[0,7]}\n\n";
        let expected = Arrival {
            at: 1.5,
            input: Input::Blocks { tokens: 513, ids: vec![0, 7] },
            output_tokens: Some(2),
        };
        assert_eq!(parse(text), Ok(vec![expected]));
    }

    #[test]
    fn malformed_rows_are_named_by_their_line() {
        let good = "{\"timestamp\":0,\"input_length\":1,\"output_length\":2,\"hash_ids\":[0]}";
        let error = |row: &str| parse(&format!("{good}\n\n{row}\n")).unwrap_err();
        let few = error(&good.replace("[0]", "[]"));
        assert_eq!(
            (few.line, few.what.as_str()),
            (3, "has 0 hash_ids for 1 tokens: a block has 512")
        );
        assert!(error("{\"timestamp\":0}").what.contains("missing field"));
        assert!(error("{").what.contains("is no request"));
    }
}
