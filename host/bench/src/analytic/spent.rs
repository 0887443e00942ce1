//! Where time went on simulated hardware.

use std::iter::Sum;
use std::ops::Add;

use aio_engine::device::npu_sim::Cost;
use serde::Serialize;

/// What passes of one kind came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Passes.
    pub passes: u64,
    /// Their rows, padding not counted.
    pub rows: u64,
    /// Compiling graphs that they needed.
    pub compile_seconds: f64,
    /// Reading the document that stands before a sequence.
    pub document_seconds: f64,
    /// The device's reading and computing, padding not counted.
    pub device_seconds: f64,
    /// Rows that only fill a gear, where they cost anything.
    pub padding_seconds: f64,
    /// The device's waiting for the host, which launches kernels and schedules.
    pub host_seconds: f64,
    /// Synchronisation after each pass.
    pub synchronisation_seconds: f64,
    /// Bytes of weights that were read.
    pub weight_bytes: f64,
    /// Bytes of keys and values that were read or written.
    pub kv_bytes: f64,
}

impl Spent {
    pub(super) fn note(&mut self, cost: &Cost, rows: usize) {
        let device = cost.memory_seconds.max(cost.arithmetic_seconds);
        let waited = (cost.host_seconds - device).max(0.0);
        self.passes += 1;
        self.rows += rows as u64;
        self.padding_seconds += cost.padding_seconds;
        self.host_seconds += waited;
        self.synchronisation_seconds += cost.synchronisation_seconds;
        // What is left: padding costs something only where the device is the slower one.
        self.device_seconds +=
            cost.seconds - waited - cost.synchronisation_seconds - cost.padding_seconds;
        self.weight_bytes += cost.weight_bytes;
        self.kv_bytes += cost.kv_bytes;
    }

    /// All of it.
    pub fn seconds(&self) -> f64 {
        self.compile_seconds
            + self.document_seconds
            + self.device_seconds
            + self.padding_seconds
            + self.host_seconds
            + self.synchronisation_seconds
    }
}

impl Add for Spent {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passes: self.passes + other.passes,
            rows: self.rows + other.rows,
            compile_seconds: self.compile_seconds + other.compile_seconds,
            document_seconds: self.document_seconds + other.document_seconds,
            device_seconds: self.device_seconds + other.device_seconds,
            padding_seconds: self.padding_seconds + other.padding_seconds,
            host_seconds: self.host_seconds + other.host_seconds,
            synchronisation_seconds: self.synchronisation_seconds + other.synchronisation_seconds,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
        }
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// The same by what a request was at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SpentBy {
    /// Probes.
    pub probe: Spent,
    /// The prompt.
    pub prefill: Spent,
    /// A draft model's passes.
    pub draft: Spent,
    /// Passes that verify, those without a draft among them.
    pub verify: Spent,
}

impl SpentBy {
    /// From the first token on.
    pub fn decode(&self) -> Spent {
        self.draft + self.verify
    }

    /// All together.
    pub fn all(&self) -> Spent {
        self.probe + self.prefill + self.decode()
    }
}

impl Sum for SpentBy {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            probe: a.probe + b.probe,
            prefill: a.prefill + b.prefill,
            draft: a.draft + b.draft,
            verify: a.verify + b.verify,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_pass_add_up_to_it() {
        let bound_by_host = Cost {
            seconds: 0.012,
            memory_seconds: 0.003,
            host_seconds: 0.011,
            synchronisation_seconds: 0.001,
            ..Cost::default()
        };
        let padded = Cost {
            seconds: 0.021,
            arithmetic_seconds: 0.020,
            host_seconds: 0.011,
            synchronisation_seconds: 0.001,
            padding_seconds: 0.005,
            ..Cost::default()
        };
        for (cost, device, host) in [(bound_by_host, 0.003, 0.008), (padded, 0.015, 0.0)] {
            let mut spent = Spent::default();
            spent.note(&cost, 1);
            assert!((spent.seconds() - cost.seconds).abs() < 1e-15);
            assert!((spent.device_seconds - device).abs() < 1e-15, "{spent:?}");
            assert!((spent.host_seconds - host).abs() < 1e-15, "{spent:?}");
        }
    }
}
