//! One request at a time: the scheduler with one request in it.

use std::sync::Arc;

use aio_core::RequestRecord;
use aio_policy::PolicyHost;

use crate::error::ServeError;
use crate::event::Event;
use crate::request::{Request, Sink};
use crate::scheduler::{Recent, Scheduler, SchedulerOptions};
use crate::tiers::Tiers;

/// Owns the tiers and answers requests under a policy, one at a time. Each tier's KV
/// cache outlives the request: what the next prompt has in common with it is not
/// computed again; and lookup drafts from the answers so far as well.
pub struct Runner {
    scheduler: Scheduler,
    requests: u64,
}

impl Runner {
    /// A runner over resident tiers, under policies that were loaded for them.
    pub fn new(tiers: Tiers, policies: Arc<PolicyHost>) -> Self {
        Self::with_options(tiers, policies, SchedulerOptions::ONE)
    }

    /// The same with other options; what is said of more than one request does not matter.
    pub fn with_options(
        tiers: Tiers,
        policies: Arc<PolicyHost>,
        options: SchedulerOptions,
    ) -> Self {
        Self { scheduler: Scheduler::new(tiers, policies, options), requests: 0 }
    }

    /// The tiers.
    pub fn tiers(&self) -> &Tiers {
        self.scheduler.tiers()
    }

    /// Decides under other policies from the next request on; returns the old ones.
    pub fn replace_policies(&mut self, policies: Arc<PolicyHost>) -> Arc<PolicyHost> {
        self.scheduler.replace_policies(policies)
    }

    /// Drafts from other recent answers from the next request on; returns those so far.
    pub fn replace_recent(&mut self, recent: Recent) -> Recent {
        self.scheduler.replace_recent(recent)
    }

    /// The policies: the one in place may be replaced through this while requests
    /// run.
    pub fn policies(&self) -> &Arc<PolicyHost> {
        self.scheduler.policies()
    }

    /// Answers one request: text goes to `sink` as it comes, and all that was
    /// decided and done is in the record.
    ///
    /// # Errors
    /// When the request cannot be answered at all. Whatever the policy does is
    /// no such case: it ends up in the record's failures.
    pub fn run(
        &mut self,
        request: &Request,
        sink: &mut dyn Sink,
    ) -> Result<RequestRecord, ServeError> {
        self.requests += 1;
        self.scheduler.submit(self.requests, request.clone());
        loop {
            // What the submission itself brought comes first: an error, perhaps.
            for (_, event) in self.scheduler.take_events() {
                match event {
                    Event::Planned(planned) => sink.planned(&planned.plan, &planned.tier),
                    Event::Text(more) => sink.text(&more.text),
                    Event::Ended(record) => return Ok(*record),
                    Event::Failed(error) => return Err(error),
                }
            }
            if sink.cancelled() {
                self.scheduler.cancel(self.requests);
            }
            self.scheduler.step();
        }
    }
}
