//! What stands behind the server: whatever takes requests and answers them. The
//! service of `aio-serve` does, and in tests a script.

use std::sync::Arc;

use aio_core::HostInfo;
use aio_policy::PolicyHost;
use aio_serve::{Answer, Event, Refused, Request, SchedulerStatus, Service};
use futures_util::future::BoxFuture;

/// Takes requests and answers them.
pub trait Backend: Send + Sync + 'static {
    /// Hands a request over.
    ///
    /// # Errors
    /// When it is not taken.
    fn submit(&self, request: Request) -> Result<BoxAnswer, Refused>;

    /// How much work there is.
    fn status(&self) -> SchedulerStatus;

    /// The tiers, and the host that runs them.
    fn host(&self) -> &HostInfo;

    /// The policies, where there are any to administer.
    fn policies(&self) -> Option<&Arc<PolicyHost>>;

    /// Takes no more requests; those taken are answered.
    fn drain(&self);
}

/// An answer as it comes. Dropping it gives the request up.
pub trait AnswerEvents: Send {
    /// The request's number, as in its record.
    fn number(&self) -> u64;

    /// What happens next; `None` after the last event.
    fn next(&mut self) -> BoxFuture<'_, Option<Event>>;
}

/// An answer from whichever backend.
pub type BoxAnswer = Box<dyn AnswerEvents>;

impl AnswerEvents for Answer {
    fn number(&self) -> u64 {
        Self::number(self)
    }

    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(Self::next(self))
    }
}

impl Backend for Service {
    fn submit(&self, request: Request) -> Result<BoxAnswer, Refused> {
        Ok(Box::new(Self::submit(self, request)?))
    }

    fn status(&self) -> SchedulerStatus {
        Self::status(self)
    }

    fn host(&self) -> &HostInfo {
        Self::host(self)
    }

    fn policies(&self) -> Option<&Arc<PolicyHost>> {
        Some(Self::policies(self))
    }

    fn drain(&self) {
        Self::drain(self);
    }
}
