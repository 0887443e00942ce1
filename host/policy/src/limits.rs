//! What one policy may use, and the resource limiter that says no. Knows
//! nothing of hooks or of what a policy is for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Most that a policy may use, per call and per instance.
///
/// The defaults fit a compiled policy (Rust, C) many times over and stop a
/// runaway one before a user notices. A policy that brings a script engine
/// along needs more memory; [`Limits::for_script_engine`] has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Fuel of one `plan`, `rounds`, `finished` or `snapshot` call; one
    /// WebAssembly instruction takes about one unit. Default 10 million: the
    /// shipped policies use tens of thousands, a script engine some hundred
    /// thousand, and an endless loop is over after a few milliseconds.
    pub fuel: u64,
    /// Fuel of instantiation, `describe` and `init` each. Default 200 million:
    /// they run once, and may build tables or start an interpreter.
    pub init_fuel: u64,
    /// Wall time of one call. Default 200 ms: fuel is the bound that is met
    /// first (in 5 to 20 ms), but a call into the host costs little fuel,
    /// whatever it does. It is no shorter because on a busy machine an
    /// innocent policy may wait for the processor for tens of milliseconds.
    #[serde(rename = "deadline_milliseconds", with = "milliseconds")]
    pub deadline: Duration,
    /// Wall time of instantiation, `describe` and `init` each. Default 5 s.
    #[serde(rename = "init_deadline_milliseconds", with = "milliseconds")]
    pub init_deadline: Duration,
    /// Bytes of linear memory of one instance, all memories together.
    /// Default 16 MiB: a Rust policy starts with a little over 1 MiB.
    pub memory_bytes: usize,
    /// Elements of one table. Default 100,000; a Rust policy has some hundred.
    pub table_elements: usize,
    /// Linear memories of one instance. Default 4.
    pub memories: usize,
    /// Tables of one instance. Default 16.
    pub tables: usize,
    /// Core instances in one component. Default 64: a compiled policy has about
    /// 3, a Python one about 30.
    pub instances: usize,
    /// Bytes that one call may hand to the host: an answer, or one log line.
    /// Default 1 MiB: decisions for 1,000 requests with their reasons.
    pub answer_bytes: usize,
    /// Bytes that `snapshot` may return. Default 4 MiB: learned state is saved
    /// on every reload and handed to every new instance.
    pub snapshot_bytes: usize,
    /// Bytes of the component itself. Default 64 MiB: compiling takes time and
    /// memory in proportion, and a Python policy has 18 MiB.
    pub component_bytes: u64,
    /// Components within the component. Default 100: a composed one has some
    /// tens; the time to compile them grows with the square of how deep they nest.
    pub components: usize,
    /// Places in the component where components within it are instantiated.
    /// Default 16: what a compiler emits has none or a few. They multiply when
    /// components within it instantiate each other, at most threefold for every
    /// three places: 16 are some hundred instances, 32 some hundred thousand.
    pub instantiations: usize,
    /// Failures within [`Limits::strike_window`] that set the policy aside, so
    /// that requests get the safe plan without waiting for it to fail. Default 3;
    /// 0 counts as 1.
    pub strikes: u32,
    /// The time within which failures add up, and without one after which a policy
    /// that was set aside is trusted as before. Default a minute.
    #[serde(rename = "strike_window_milliseconds", with = "milliseconds")]
    pub strike_window: Duration,
    /// How long a policy is set aside for the first time; doubled each time that
    /// it fails when it is tried again. Default 10 s.
    #[serde(rename = "aside_milliseconds", with = "milliseconds")]
    pub aside: Duration,
    /// The longest time that it is set aside. Default 10 minutes.
    #[serde(rename = "longest_aside_milliseconds", with = "milliseconds")]
    pub longest_aside: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 10_000_000,
            init_fuel: 200_000_000,
            deadline: Duration::from_millis(200),
            init_deadline: Duration::from_secs(5),
            memory_bytes: 16 * MIB,
            table_elements: 100_000,
            memories: 4,
            tables: 16,
            instances: 64,
            answer_bytes: MIB,
            snapshot_bytes: 4 * MIB,
            component_bytes: 64 * MIB as u64,
            components: 100,
            instantiations: 16,
            strikes: 3,
            strike_window: Duration::from_secs(60),
            aside: Duration::from_secs(10),
            longest_aside: Duration::from_secs(600),
        }
    }
}

impl Limits {
    /// Limits for a policy that carries a script engine (JavaScript, Python):
    /// 128 MiB of memory, 100 million units of fuel a call and 32 places where
    /// components within it are instantiated (a JavaScript engine has 23, for what
    /// stands in for WASI), the rest as by default. A `plan` takes one some hundred
    /// thousand units, but fuel grows with the facts handed over: with 100 tiers it is
    /// beyond the default.
    pub fn for_script_engine() -> Self {
        Self { memory_bytes: 128 * MIB, fuel: 100_000_000, instantiations: 32, ..Self::default() }
    }
}

/// A time as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// Counts one instance's memory and refuses what goes beyond the limits.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    table_elements: usize,
    memories: usize,
    tables: usize,
    instances: usize,
    memory_used: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            memories: limits.memories,
            tables: limits.tables,
            instances: limits.instances,
            memory_used: 0,
            refused: false,
        }
    }

    /// Whether growth was refused since this was last asked. A guest that is
    /// refused memory usually traps soon after, with a trap that does not say
    /// why; this does.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The limit is on all memories together, so count the growth, not the size.
        let used = self.memory_used.saturating_add(desired.saturating_sub(current));
        let granted = used <= self.memory_bytes;
        if granted {
            self.memory_used = used;
        } else {
            self.refused = true;
        }
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = desired <= self.table_elements;
        self.refused |= !granted;
        Ok(granted)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_part_and_a_misspelt_one_is_refused() {
        let limits: Limits =
            serde_json::from_str(r#"{"memory_bytes": 5, "deadline_milliseconds": 7}"#).unwrap();
        let expected =
            Limits { memory_bytes: 5, deadline: Duration::from_millis(7), ..Limits::default() };
        assert_eq!(limits, expected);
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
        let error = serde_json::from_str::<Limits>(r#"{"memory": 5}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `memory`, expected one of `fuel`"), "{error}");
    }

    #[test]
    fn all_memories_count_together() {
        let mut limiter = Limiter::new(&Limits { memory_bytes: 100, ..Limits::default() });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.take_refused());
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert!(!limiter.take_refused());
    }
}
