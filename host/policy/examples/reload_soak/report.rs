//! What was found, as a table for people and as JSON for programs.

use serde::Serialize;

use crate::soak::notes::Pause;
use crate::soak::reloading::Soaked;

/// Sentences on what went wrong that are kept.
const COMPLAINTS: usize = 20;

/// Memory may grow by so much, in per cent, from the first look to the last.
const GROWTH: f64 = 5.0;

/// Serving may pause for so long for a reload, in milliseconds.
const PAUSE: f64 = 1.0;

/// Where compiled code is found.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Nowhere: the component was never seen.
    Cold,
    /// In the code cache's folder.
    Disk,
    /// In this process, which has had the policy before.
    Memory,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    version: &'static str,
    cpu: String,
    hardware_threads: usize,
    reloads: usize,
    requests: u64,
    decisions: u64,
    /// Generations that requests were planned by.
    generations: usize,
    failed_requests: usize,
    failed_reloads: usize,
    mixed_decisions: usize,
    /// The first of what went wrong.
    complaints: Vec<String>,
    memory: Vec<Memory>,
    memory_growth_percent: f64,
    /// A `reload` call, from its beginning to its end.
    call: Option<Times>,
    latencies: Vec<Latency>,
    pauses: Vec<Pauses>,
    pub skipped: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Memory {
    reloads: u64,
    resident_mib: f64,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    count: usize,
    p50: f64,
    p99: f64,
    p99_99: f64,
    max: f64,
}

/// From the closing of the file to the first decision of what is in it.
#[derive(Debug, Serialize)]
struct Latency {
    policies: String,
    cache: Cache,
    milliseconds: Times,
    target_p99: Option<f64>,
}

/// What requests wait for: for their policy and its plan, and at their ends.
#[derive(Debug, Serialize)]
struct Pauses {
    when: String,
    /// Without waiting for a processor, where the system tells that apart.
    plan: Times,
    end: Times,
    /// By the clock: with all that a busy machine adds.
    plan_by_clock: Times,
}

impl Times {
    fn of(seconds: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = seconds.map(|s| s * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let last = *sorted.last()?;
        let at = |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1];
        Some(Self {
            count: sorted.len(),
            p50: at(0.5),
            p99: at(0.99),
            p99_99: at(0.9999),
            max: last,
        })
    }

    fn cells(&self) -> String {
        let Self { count, p50, p99, p99_99, max } = self;
        format!("{count:>8} {p50:>10.3} {p99:>10.3} {p99_99:>10.3} {max:>10.3}")
    }
}

impl Report {
    pub fn new() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            schema: "aio-reload-soak/1",
            version: env!("CARGO_PKG_VERSION"),
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            hardware_threads: std::thread::available_parallelism().map_or(0, usize::from),
            reloads: 0,
            requests: 0,
            decisions: 0,
            generations: 0,
            failed_requests: 0,
            failed_reloads: 0,
            mixed_decisions: 0,
            complaints: Vec::new(),
            memory: Vec::new(),
            memory_growth_percent: 0.0,
            call: None,
            latencies: Vec::new(),
            pauses: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Counts what a soak did, and what went wrong in it.
    pub fn add(&mut self, soaked: &Soaked, first: u64) {
        let mixed = soaked.mixed(first);
        self.reloads += soaked.told.stamps.len() + soaked.told.failed.len();
        self.requests += soaked.seen.requests;
        self.decisions += soaked.seen.decisions;
        self.generations += soaked.seen.stamps.len();
        self.failed_requests += soaked.seen.failed.len();
        self.failed_reloads += soaked.told.failed.len();
        self.mixed_decisions += mixed.len();
        self.complaints.extend(soaked.seen.failed.iter().chain(&soaked.told.failed).cloned());
        self.complaints.extend(mixed);
        self.complaints.truncate(COMPLAINTS);
    }

    pub fn memory(&mut self, seen: Vec<(u64, f64)>) {
        let look = |(reloads, resident_mib)| Memory { reloads, resident_mib };
        self.memory = seen.into_iter().map(look).collect();
        if let [first, .., last] = &self.memory[..] {
            self.memory_growth_percent = (last.resident_mib / first.resident_mib - 1.0) * 100.0;
        }
    }

    pub fn calls(&mut self, seconds: &[f64]) {
        self.call = Times::of(seconds.iter().copied());
    }

    pub fn pauses(&mut self, when: &str, soaked: &Soaked) {
        let apart = |pauses: &[Pause]| Times::of(pauses.iter().map(|p| p.on_processor_or_blocked));
        let by_clock = Times::of(soaked.seen.plans.iter().map(|pause| pause.seconds));
        let (plan, end) = (apart(&soaked.seen.plans), apart(&soaked.seen.ends));
        if let (Some(plan), Some(end), Some(plan_by_clock)) = (plan, end, by_clock) {
            self.pauses.push(Pauses { when: when.to_owned(), plan, end, plan_by_clock });
        }
    }

    pub fn latency(
        &mut self,
        policies: &str,
        cache: Cache,
        seconds: &[f64],
        target_p99: Option<f64>,
    ) {
        if let Some(milliseconds) = Times::of(seconds.iter().copied()) {
            let policies = policies.to_owned();
            self.latencies.push(Latency { policies, cache, milliseconds, target_p99 });
        }
    }

    pub fn is_well(&self) -> bool {
        self.failed_requests + self.failed_reloads + self.mixed_decisions == 0
    }

    pub fn print(&self) {
        eprintln!("\n{}, {} threads at once", self.cpu, self.hardware_threads);
        eprintln!(
            "{} reloads, {} requests, {} decisions by {} generations: {} requests failed, {} \
             reloads failed, {} decisions of another generation",
            self.reloads,
            self.requests,
            self.decisions,
            self.generations,
            self.failed_requests,
            self.failed_reloads,
            self.mixed_decisions
        );
        self.complaints.iter().for_each(|complaint| eprintln!("  {complaint}"));
        for Memory { reloads, resident_mib } in &self.memory {
            eprintln!("memory after {reloads:>6} reloads: {resident_mib:.1} MiB");
        }
        eprintln!(
            "grown by {:.1} % (at most {GROWTH} %: {})",
            self.memory_growth_percent,
            met(self.memory_growth_percent <= GROWTH)
        );
        let head = ["count", "p50", "p99", "p99.99", "max"];
        let [count, rest @ ..] = head.map(|cell| format!("{cell:>10}"));
        eprintln!(
            "\n{:40}{}{}",
            "ms from file closed to first decision",
            &count[1..],
            rest.concat()
        );
        for Latency { policies, cache, milliseconds, target_p99 } in &self.latencies {
            let verdict = target_p99.map_or(String::new(), |target| {
                format!("  p99 at most {target}: {}", met(milliseconds.p99 <= target))
            });
            let name = format!("{policies}, code {}", cache.words());
            eprintln!("{name:40}{}{verdict}", milliseconds.cells());
        }
        if let Some(call) = &self.call {
            eprintln!("{:40}{}", "(a call of reload, in memory)", call.cells());
        }
        eprintln!("\nms that a request waits");
        for Pauses { when, plan, end, plan_by_clock } in &self.pauses {
            eprintln!("{:40}{}", format!("for a plan, {when}"), plan.cells());
            eprintln!("{:40}{}", format!("  by the clock"), plan_by_clock.cells());
            eprintln!("{:40}{}", format!("at its end, {when}"), end.cells());
        }
        if let [without, with] = &self.pauses[..] {
            let longest = |pauses: &Pauses| pauses.plan.max.max(pauses.end.max);
            let (normal, longest) = (longest(without), longest(with));
            eprintln!(
                "the longest is {longest:.3} ms, {normal:.3} without reloads (at most {PAUSE} more: {})",
                met(longest - normal <= PAUSE)
            );
        }
        self.skipped.iter().for_each(|sentence| eprintln!("skipped: {sentence}"));
    }
}

impl Cache {
    fn words(self) -> &'static str {
        match self {
            Self::Cold => "never compiled",
            Self::Disk => "on disk",
            Self::Memory => "in memory",
        }
    }
}

fn met(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// Memory that this process holds, in MiB; 0 where the system does not tell.
pub fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / f64::from(1 << 20)
}
