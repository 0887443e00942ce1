//! What a [`super::Chooser`] may do: the operator's part of the choice.

/// What the chooser may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Whether to draft by lookup.
    pub lookup: bool,
    /// Whether to draft by the smallest tier that shares the tokenizer, where
    /// there is one.
    pub model: bool,
    /// Most tokens to draft in one round.
    pub max_length: u32,
    /// Share of time that may be lost to trying things out, 0 to 1.
    pub exploration: f32,
    /// What the draft model must lead plain decoding by (or the other way
    /// round), in tokens a round, for two rounds, to take its place.
    pub margin: f32,
    /// The draft model stops before a token that it gives less than this
    /// probability.
    pub min_confidence: f32,
}

impl Default for Options {
    /// Both drafters. 31 tokens fill a gear of 32 rows; later ones are hardly ever
    /// reached. 1 % of time finds what there is to find within some requests. A
    /// margin of 0.03 is what measured costs waver by. Below a confidence of 0.3
    /// a draft token fails more often than not.
    fn default() -> Self {
        Self {
            lookup: true,
            model: true,
            max_length: 31,
            exploration: 0.01,
            margin: 0.03,
            min_confidence: 0.3,
        }
    }
}
