//! Failures as sentences.

/// Why something could not be done on a chip.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The vendor's library is not there, or cannot be opened.
    #[error(
        "AscendCL cannot be opened ({reason}); install CANN and source its set_env.sh, name the library's file or folder in AIO_ASCEND_LIBRARY, or use --device cpu"
    )]
    Library {
        /// What was looked for, and what the system said.
        reason: String,
    },
    /// The library is older than what is called, or another one.
    #[error("{library} has no function {function}; CANN 8.0 or newer is needed")]
    Function {
        /// What was opened.
        library: String,
        /// What it lacks.
        function: String,
    },
    /// A function of the vendor's failed.
    #[error("{call} failed with {code} ({meaning}){details}")]
    Call {
        /// The function.
        call: &'static str,
        /// What it returned.
        code: i32,
        /// What that means by the vendor's headers.
        meaning: &'static str,
        /// What the library said about it, after a colon, if anything.
        details: String,
    },
    /// A function that makes something returned nothing.
    #[error("{call} returned nothing{details}")]
    Null {
        /// The function.
        call: &'static str,
        /// What the library said about it, after a colon, if anything.
        details: String,
    },
    /// The caller asked for something that cannot be, for example a tensor beyond its
    /// buffer's end; nothing was called.
    #[error("{0}")]
    Misuse(String),
}

impl Error {
    /// Whether the chip has not enough memory.
    pub fn is_memory(&self) -> bool {
        // Memory allocation, resources, out of memory; and AscendCL's own codes for it.
        matches!(self, Self::Call { code: 207_001 | 207_005 | 207_018 | 200_000, .. })
    }
}

/// What a code means: CANN's `rt_error_codes.h`, `acl_base.h` and the return codes of its
/// operators, as far as the calls made here can meet them.
pub(crate) fn meaning(code: i32) -> &'static str {
    let known = MEANINGS.iter().find(|(known, _)| *known == code);
    match (known, code) {
        (Some((_, text)), _) => text,
        (None, 100_000..=199_999) => "the call or its arguments are wrong",
        (None, 200_000..=299_999) => "a resource is missing",
        (None, 300_000..=399_999) => "the runtime failed within an operator",
        (None, 500_000..=599_999) => "an internal error of the runtime",
        (None, _) => "a code that this program does not know",
    }
}

const MEANINGS: &[(i32, &str)] = &[
    (100_000, "a parameter is wrong"),
    (100_001, "AscendCL is not initialised"),
    (100_002, "AscendCL is initialised already"),
    (107_000, "a parameter is wrong"),
    (107_001, "there is no such chip"),
    (107_002, "the thread has no context"),
    (107_003, "the stream is of another context"),
    (107_004, "the model is of another context"),
    (107_017, "the handle is not valid"),
    (107_019, "waiting took too long"),
    (107_020, "a task took too long"),
    (107_022, "the chip gives up its tasks"),
    (107_023, "the stream was given up"),
    (107_025, "the captured graph is not valid"),
    (107_026, "the model is being captured"),
    (107_027, "the stream is being captured"),
    (107_029, "the stream is not being captured"),
    (107_030, "that cannot be done while a stream is being captured"),
    (107_036, "the capture was begun on another stream"),
    (161_001, "an operator's argument is a null pointer"),
    (161_002, "an operator's argument has a type or shape that it does not take"),
    (200_000, "memory could not be allocated"),
    (207_000, "the driver or the chip does not have this"),
    (207_001, "memory could not be allocated on the chip"),
    (207_002, "memory could not be freed on the chip"),
    (207_003, "a number overflowed on the chip"),
    (207_004, "there is no chip"),
    (207_005, "a resource could not be allocated"),
    (207_006, "permission is missing"),
    (207_008, "there is no stream left"),
    (207_010, "there is no room for another captured graph"),
    (207_012, "a limit of the chip is exceeded"),
    (207_018, "the chip's memory is full"),
    (361_001, "the runtime failed within an operator"),
    (500_000, "an internal error of AscendCL"),
    (507_000, "an internal error of the runtime"),
    (507_001, "an internal error of the task scheduler"),
    (507_008, "the library is for another chip"),
    (507_010, "the chip's heartbeat was lost"),
    (507_011, "a captured graph failed"),
    (507_012, "the chip did not report in time"),
    (507_014, "a task on an AI core took too long"),
    (507_015, "an AI core failed"),
    (507_018, "an AI CPU failed"),
    (507_033, "the chip could not be set up"),
    (507_034, "a task on a vector core took too long"),
    (507_035, "a vector core failed"),
    (507_046, "waiting for the stream took too long"),
    (507_052, "data could not be copied"),
    (507_053, "the chip's memory failed"),
    (507_054, "the chip's memory has errors that cannot be corrected"),
    (507_899, "an internal error of the driver"),
    (507_903, "the capture is no longer valid"),
    (561_002, "an operator's tiling failed for these shapes"),
    (561_103, "an operator failed within for these shapes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_a_meaning_each_and_unknown_ones_a_class() {
        let mut codes: Vec<i32> = MEANINGS.iter().map(|(code, _)| *code).collect();
        codes.dedup();
        assert!(codes.is_sorted() && codes.len() == MEANINGS.len());
        assert_eq!(meaning(107_002), "the thread has no context");
        assert_eq!(meaning(507_777), "an internal error of the runtime");
        assert!(meaning(-3).contains("does not know"));
        let call = |code| Error::Call { call: "x", code, meaning: "", details: String::new() };
        assert!(call(207_001).is_memory() && !call(507_015).is_memory());
    }
}
