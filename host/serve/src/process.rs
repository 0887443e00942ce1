//! Memory of processes, as the system tells it: of this one for records and metrics, of
//! others for benchmarks.

use serde::Serialize;

/// Memory of a process that is in the machine's memory (not swapped out, not only
/// reserved). Its children's is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProcessMemory {
    /// Bytes now: `VmRSS`.
    pub resident_bytes: u64,
    /// Bytes at most since it began: `VmHWM`.
    pub peak_bytes: u64,
}

impl ProcessMemory {
    /// A process's; `None` where there is none, it may not be looked at, or the system
    /// does not tell (not Linux).
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// This process's.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kilobytes * 1024)
        };
        Some(Self { resident_bytes: bytes("VmRSS")?, peak_bytes: bytes("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_where_there_is_a_process() {
        let status = "Name:\tx: y\nVmHWM:\t    3 kB\nVmRSS:\t    2 kB\n";
        let expected = ProcessMemory { resident_bytes: 2048, peak_bytes: 3072 };
        assert_eq!(ProcessMemory::parse(status), Some(expected));
        assert_eq!(ProcessMemory::parse("Name:\tkthreadd\n"), None);
        assert_eq!(ProcessMemory::of(u32::MAX), None);
    }
}
