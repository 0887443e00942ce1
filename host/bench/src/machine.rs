//! What this machine is and how busy it is, as Linux tells it; what cannot be
//! read is left out, so that a report can still be made elsewhere.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use serde::Serialize;

/// Instruction sets that decide how fast kernels can be.
const FLAGS: [&str; 10] = [
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
];

/// A machine, as far as it bears on measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Physical cores.
    pub cores: usize,
    /// Threads that the system runs at once.
    pub hardware_threads: usize,
    /// The instruction sets, of those that matter here, that it has.
    pub flags: Vec<String>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// The setting of transparent huge pages.
    pub huge_pages: String,
    /// Load of the last minute when the measurement began.
    pub load: f64,
    /// This program's version.
    pub aio_version: String,
    /// The commit it was built from, if that was known.
    pub aio_commit: Option<String>,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let info = read("/proc/cpuinfo");
        let has: BTreeSet<&str> = field(&info, "flags").unwrap_or("").split(' ').collect();
        let memory = read("/proc/meminfo");
        let kilobytes = field(&memory, "MemTotal").and_then(|m| m.split(' ').next()?.parse().ok());
        Self {
            cpu: field(&info, "model name").unwrap_or("unknown").to_owned(),
            cores: physical_cores(),
            hardware_threads: hardware_threads(),
            flags: FLAGS.into_iter().filter(|f| has.contains(f)).map(str::to_owned).collect(),
            memory_bytes: kilobytes.unwrap_or(0u64) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or(0.0),
            aio_version: env!("CARGO_PKG_VERSION").to_owned(),
            aio_commit: option_env!("AIO_COMMIT").map(str::to_owned),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let commit = self.aio_commit.as_ref().map_or(String::new(), |c| format!(" ({c})"));
        format!(
            "{}, {} cores, {:.0} GB, {}; Linux {}, huge pages {}; aio {}{commit}",
            self.cpu,
            self.cores,
            self.memory_bytes as f64 / 1e9,
            self.flags.join(" "),
            self.kernel,
            self.huge_pages,
            self.aio_version,
        )
    }
}

/// Physical cores: where threads that read memory are best put.
pub fn physical_cores() -> usize {
    let info = read("/proc/cpuinfo");
    let cores: BTreeSet<(Option<&str>, Option<&str>)> = info
        .split("\n\n")
        .map(|cpu| (field(cpu, "physical id"), field(cpu, "core id")))
        .filter(|(_, core)| core.is_some())
        .collect();
    // Containers may run on fewer than the machine has.
    if cores.is_empty() { hardware_threads() } else { cores.len().min(hardware_threads()) }
}

fn hardware_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The bracketed one of `always [madvise] never`.
fn chosen(setting: &str) -> String {
    let inner = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or("unknown", |(chosen, _)| chosen).to_owned()
}

/// Processor time spent until now, in the system's ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuTime {
    /// By this process.
    own: u64,
    /// By everybody.
    busy: u64,
    /// By everybody and nobody.
    total: u64,
}

/// Shares of the machine's processor time in a span.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuShares {
    /// This process's.
    pub own: f64,
    /// Everybody else's.
    pub others: f64,
}

impl CpuTime {
    /// Now.
    pub fn now() -> Self {
        Self::parse(&read("/proc/self/stat"), &read("/proc/stat")).unwrap_or_default()
    }

    fn parse(own: &str, all: &str) -> Option<Self> {
        // The command's name may hold spaces and parentheses; fields count after it.
        let own: Vec<u64> = own
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|n| n.parse().ok())
            .collect();
        let all: Vec<u64> =
            all.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
        let total: u64 = all.iter().take(8).sum();
        let idle: u64 = all.iter().skip(3).take(2).sum();
        Some(Self { own: own.iter().sum(), busy: total - idle, total })
    }

    /// Shares since then.
    pub fn since(self) -> CpuShares {
        Self::between(self, Self::now())
    }

    fn between(start: Self, end: Self) -> CpuShares {
        let total = end.total.saturating_sub(start.total).max(1) as f64;
        let own = end.own.saturating_sub(start.own) as f64;
        let busy = end.busy.saturating_sub(start.busy) as f64;
        CpuShares { own: own / total, others: (busy - own).max(0.0) / total }
    }
}

/// Share of the processors' time from which a disturbance is remarked on.
const DISTURBED: f64 = 0.05;

/// Who else used the processors: the greatest shares of their time in any turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Disturbance {
    /// Of other processes, while we were measured.
    pub others_during_ours: f64,
    /// Of ours, while the peer was measured.
    pub ours_during_peer: f64,
}

impl Disturbance {
    /// Notes a turn of ours that began at `start`.
    pub fn ours(&mut self, start: CpuTime) {
        self.others_during_ours = self.others_during_ours.max(start.since().others);
    }

    /// Notes a turn of the peer that began at `start`.
    pub fn peer(&mut self, start: CpuTime) {
        self.ours_during_peer = self.ours_during_peer.max(start.since().own);
    }

    /// What a reader must be told.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.others_during_ours > DISTURBED {
            notes.push(format!(
                "other processes took up to {:.0} % of the processors while we were measured: \
                 measure again on a quiet machine",
                self.others_during_ours * 100.0
            ));
        }
        if self.ours_during_peer > DISTURBED {
            notes.push(format!(
                "our own threads took up to {:.0} % of the processors while the peer was \
                 measured: its figures are too low",
                self.ours_during_peer * 100.0
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores() {
        let machine = Machine::here();
        assert!(machine.cores >= 1 && machine.cores <= machine.hardware_threads);
        assert!(!machine.line().contains('\n'));
    }

    #[test]
    fn the_setting_in_brackets_is_chosen() {
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen(""), "unknown");
    }

    #[test]
    fn only_a_disturbance_is_remarked_on() {
        assert!(Disturbance::default().notes().is_empty());
        let disturbed = Disturbance { others_during_ours: 0.5, ours_during_peer: 0.01 };
        assert_eq!(disturbed.notes().len(), 1);
    }

    #[test]
    fn shares_are_of_all_processors() {
        let stat = |own: u64| format!("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 {own} 2 0");
        let start = CpuTime::parse(&stat(5), "cpu  10 0 0 90 0 0 0 0 0 0\n").unwrap();
        let end = CpuTime::parse(&stat(45), "cpu  70 0 0 130 0 0 0 0 0 0\n").unwrap();
        let shares = CpuTime::between(start, end);
        assert_eq!(shares, CpuShares { own: 0.4, others: 0.2 });
    }
}
