//! What a profile was made of, where it was measured on a machine: the passes, their times,
//! and which of them its numbers were fitted to. Knows no way to measure.

use serde::{Deserialize, Serialize};

/// A measurement of a machine's own passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The machine, in one line.
    pub machine: String,
    /// The instruction set whose kernels ran.
    pub instruction_set: String,
    /// Threads of the device.
    pub threads: usize,
    /// Rounds of which each time is the mean.
    pub rounds: usize,
    /// Models that were measured: catalogue names or GGUF files.
    pub models: Vec<String>,
    /// What was measured.
    pub rows: Vec<MeasuredPass>,
}

/// A pass over one sequence, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredPass {
    /// The model's name as a tier.
    pub model: String,
    /// Rows of the pass.
    pub rows: usize,
    /// Tokens in the cache before it.
    pub context: usize,
    /// Rows whose logits were wanted.
    pub logits: usize,
    /// Mean over the rounds.
    pub milliseconds: f64,
    /// Half the distance between the rounds' quartiles, as a share of it.
    pub spread: f64,
    /// Whether the profile's numbers were fitted to it; else they predict it.
    pub fitted: bool,
}

impl MeasuredPass {
    /// What such a pass is for, in a word.
    pub fn phase(&self) -> &'static str {
        match (self.rows, self.logits) {
            (1, _) => "decode",
            (rows, logits) if rows == logits => "verify",
            _ => "prefill",
        }
    }
}

impl Calibration {
    /// Says what is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.threads == 0 || self.rounds == 0 {
            return Err("calibration.threads and calibration.rounds must be at least 1".into());
        }
        if self.models.is_empty() || self.rows.is_empty() {
            return Err(
                "calibration has no models or no rows, so that nothing can be checked".into()
            );
        }
        for row in &self.rows {
            if row.rows == 0 || row.logits > row.rows {
                return Err(format!(
                    "calibration has a pass of {} rows and {} logits, but a pass has rows, and \
                     logits of its rows alone",
                    row.rows, row.logits
                ));
            }
            if !row.milliseconds.is_finite() || row.milliseconds <= 0.0 {
                return Err(format!(
                    "calibration has a pass of {} ms, but each takes more than 0",
                    row.milliseconds
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_that_cannot_be_checked_is_refused() {
        let row = MeasuredPass {
            model: "a".to_owned(),
            rows: 4,
            context: 100,
            logits: 4,
            milliseconds: 2.5,
            spread: 0.1,
            fitted: true,
        };
        let good = Calibration {
            machine: "m".to_owned(),
            instruction_set: "avx2".to_owned(),
            threads: 2,
            rounds: 3,
            models: vec!["a".to_owned()],
            rows: vec![row],
        };
        good.check().unwrap();
        let refused = |change: fn(&mut Calibration)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check().unwrap_err()
        };
        assert!(refused(|c| c.threads = 0).contains("threads"));
        assert!(refused(|c| c.models.clear()).contains("no models"));
        assert!(refused(|c| c.rows.clear()).contains("no rows"));
        assert!(refused(|c| c.rows[0].logits = 5).contains("5 logits"));
        assert!(refused(|c| c.rows[0].milliseconds = 0.0).contains("0 ms"));
    }

    #[test]
    fn passes_have_a_phase() {
        let phase = |rows, logits| {
            let model = String::new();
            let (context, milliseconds, spread, fitted) = (0, 1.0, 0.0, false);
            MeasuredPass { model, rows, context, logits, milliseconds, spread, fitted }.phase()
        };
        assert_eq!([phase(1, 1), phase(8, 8), phase(512, 1)], ["decode", "verify", "prefill"]);
    }
}
