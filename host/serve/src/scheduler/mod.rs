//! Many requests on one device: the decode loop.
//!
//! An iteration ([`Scheduler::step`]) takes in waiting requests that there is room
//! for, asks the policy about all that run, drafts for all of them, and runs one
//! pass for each tier that has something to do: the rows of everything that is being
//! verified on it, and of prompts as much as fits a chunk. What a request's tokens
//! are is the same whoever runs beside it (law 1); what stands here decides when.
//!
//! The parts of an iteration have a file each. Nothing here knows clients: what
//! happens to requests is put into a list of events, by request.

mod admission;
mod commit;
mod consult;
mod draft;
mod ending;
mod memory;
mod pass;
mod prefixes;
mod recent;
mod running;

use std::sync::Arc;
use std::time::Duration;

use aio_core::Load;
use aio_engine::device::Logits;
use aio_policy::PolicyHost;

use crate::error::ServeError;
use crate::event::Event;
use crate::measure::AcceptanceTable;
use crate::request::Request;
use crate::tiers::Tiers;
use prefixes::Prefixes;
pub use recent::Recent;
use running::Running;

/// How often what a policy has learnt is saved, at most.
const SAVE_PERIOD: Duration = Duration::from_secs(60);

/// How a scheduler shares the device out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Bytes of KV cache that all requests together may have; `None`: as they need.
    pub kv_budget: Option<u64>,
    /// Most requests that run at once; at least 1.
    pub max_running: usize,
    /// Most rows of prompts in a pass that others decode in; at least 1. Alone,
    /// prompts fill the widest gear.
    pub prefill_chunk: usize,
    /// Most sequences that are kept after their requests, for prompts that begin alike.
    pub kept_prefixes: usize,
    /// Tokens of recent answers that lookup may draft from, by tokenizer; 0: a request
    /// is drafted for from its own tokens alone. An answer comes faster if it goes on
    /// like another one's: who measures that can guess at what others were answered, so
    /// this is for hosts whose clients may know of each other.
    pub recent_tokens: usize,
}

impl SchedulerOptions {
    /// For one request at a time.
    pub const ONE: Self = Self {
        kv_budget: None,
        max_running: 1,
        prefill_chunk: 512,
        kept_prefixes: 1,
        recent_tokens: 16_384,
    };
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            kv_budget: None,
            max_running: 16,
            prefill_chunk: 128,
            kept_prefixes: 32,
            recent_tokens: 0,
        }
    }
}

/// How much work there is, and what was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerStatus {
    /// Requests that run.
    pub running: usize,
    /// Requests that wait: those preempted are among them.
    pub waiting: usize,
    /// Bytes of KV cache in use, what is kept for later prompts included.
    pub kv_bytes: u64,
    /// Bytes that there may be.
    pub kv_budget: Option<u64>,
    /// Tokens that are kept for later prompts.
    pub kept_prefix_tokens: u64,
    /// Tokens of prompts that needed not be computed, because they were kept or are
    /// another running request's.
    pub reused_prefix_tokens: u64,
    /// Tokens of prompts, by the answering tier's tokenizer.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub committed_tokens: u64,
    /// How often a request lost its memory to another one.
    pub preemptions: u64,
    /// Passes run on answering tiers.
    pub passes: u64,
    /// Rows of those passes.
    pub rows: u64,
}

/// What happened, with the request's number.
pub type Events = Vec<(u64, Event)>;

/// Owns the tiers and answers requests under a policy.
pub struct Scheduler {
    tiers: Tiers,
    policies: Arc<PolicyHost>,
    options: SchedulerOptions,
    /// By rank: who comes first, goes first.
    waiting: Vec<Running>,
    /// By rank.
    running: Vec<Running>,
    prefixes: Prefixes,
    acceptance: AcceptanceTable,
    /// By the tokenizer's number.
    recent: Recent,
    logits: Logits,
    status: SchedulerStatus,
    events: Events,
}

impl Scheduler {
    /// A scheduler over resident tiers, under policies that were loaded for them.
    pub fn new(tiers: Tiers, policies: Arc<PolicyHost>, options: SchedulerOptions) -> Self {
        let options = SchedulerOptions {
            max_running: options.max_running.max(1),
            prefill_chunk: options.prefill_chunk.max(1),
            ..options
        };
        Self {
            prefixes: Prefixes::new(options.kept_prefixes),
            tiers,
            policies,
            options,
            waiting: Vec::new(),
            running: Vec::new(),
            acceptance: AcceptanceTable::default(),
            recent: Recent::new(options.recent_tokens),
            logits: Logits::default(),
            status: SchedulerStatus { kv_budget: options.kv_budget, ..Default::default() },
            events: Vec::new(),
        }
    }

    /// The tiers.
    pub fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// The policies: the one in place may be replaced through this while requests
    /// run.
    pub fn policies(&self) -> &Arc<PolicyHost> {
        &self.policies
    }

    /// Decides under other policies from the next request on; returns the old ones.
    pub fn replace_policies(&mut self, policies: Arc<PolicyHost>) -> Arc<PolicyHost> {
        std::mem::replace(&mut self.policies, policies)
    }

    /// Drafts from other recent answers from the next round on; returns those so far.
    pub fn replace_recent(&mut self, recent: Recent) -> Recent {
        std::mem::replace(&mut self.recent, recent)
    }

    /// Takes a request; `number` names it in events and records. What is wrong with it
    /// comes as an event.
    pub fn submit(&mut self, number: u64, request: Request) {
        match self.enter(number, request) {
            Ok(entered) => self.wait(entered),
            Err(error) => self.events.push((number, Event::Failed(error))),
        }
    }

    /// Gives a request up: nobody wants the rest. It ends with the next iteration.
    pub fn cancel(&mut self, number: u64) {
        let of_all = self.running.iter_mut().chain(&mut self.waiting);
        if let Some(request) = of_all.into_iter().find(|r| r.number == number) {
            request.cancel();
        }
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// How much work there is.
    pub fn status(&self) -> SchedulerStatus {
        SchedulerStatus {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_bytes: self.kv_bytes(),
            kept_prefix_tokens: self.prefixes.tokens(),
            reused_prefix_tokens: self.prefixes.reused(),
            ..self.status
        }
    }

    /// Does one iteration. What happened is taken with [`Scheduler::take_events`].
    pub fn step(&mut self) {
        self.end_finished();
        self.admit();
        self.consult();
        self.draft();
        for tier in 0..self.tiers.all().len() {
            self.run_tier(tier);
        }
        self.end_finished();
    }

    /// What happened since this was last called, in order.
    pub fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// Ends a request that cannot go on.
    fn fail(&mut self, mut request: Running, error: ServeError) {
        self.release(&mut request);
        self.events.push((request.number, Event::Failed(error)));
    }

    fn load(&self) -> Load {
        // Whoever is being planned runs already in the eyes of its policy.
        Load { running: self.running.len().max(1) as u32, queued: self.waiting.len() as u32 }
    }
}
