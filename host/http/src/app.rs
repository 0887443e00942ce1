//! What all handlers share: options, the backend once it is there, what is counted, and
//! how far the server's life has gone.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aio_core::RequestRecord;
use aio_serve::Refused;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::error::ApiError;
use crate::json::BodyLimits;
use crate::measure::{Pace, Progress};
use crate::metrics::Metrics;
use crate::options::{AdminOptions, ServerOptions};
use crate::records::Records;
use crate::secret::Keys;
use crate::traces::Traces;

/// Seconds after which a client may ask again while models are being loaded.
const LOADING: u64 = 5;

/// Whether requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They are, once the backend is there.
    Serving,
    /// Those taken are being answered, and no more are taken.
    Draining,
    /// What is not answered is given up.
    Stopping,
}

/// The server's shared state.
pub(crate) struct App {
    pub(crate) options: ServerOptions,
    pub(crate) keys: Keys,
    pub(crate) admin_keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) records: Records,
    pub(crate) traces: Traces,
    pub(crate) phase: watch::Sender<Phase>,
    /// When the server was started, in Unix seconds.
    pub(crate) started: u64,
    backend: OnceLock<Arc<dyn Backend>>,
    pace: Pace,
    running: watch::Sender<usize>,
}

impl App {
    pub(crate) fn new(options: ServerOptions, admin: &AdminOptions, traces: Traces) -> Self {
        Self {
            keys: Keys::new(&options.api_keys),
            admin_keys: Keys::new(&admin.token),
            metrics: Metrics::new(),
            records: Records::new(options.records_kept),
            traces,
            phase: watch::Sender::new(Phase::Serving),
            started: now(),
            backend: OnceLock::new(),
            pace: Pace::default(),
            running: watch::Sender::new(0),
            options,
        }
    }

    /// From now on requests are taken.
    pub(crate) fn ready(&self, backend: Arc<dyn Backend>) {
        if *self.phase.borrow() != Phase::Serving {
            backend.drain();
        }
        // There is one backend in a server's life; another changes nothing.
        let _ = self.backend.set(backend);
    }

    /// The backend.
    ///
    /// # Errors
    /// While it is being made ready.
    pub(crate) fn backend(&self) -> Result<&Arc<dyn Backend>, ApiError> {
        self.backend.get().ok_or_else(|| {
            ApiError::unavailable("the models are being loaded; try again in a moment", LOADING)
        })
    }

    /// Takes no more requests.
    pub(crate) fn drain(&self) {
        self.advance(Phase::Draining);
        if let Some(backend) = self.backend.get() {
            backend.drain();
        }
    }

    /// Goes on to a later phase; never back.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = (*phase as u8) < (to as u8);
            if later {
                *phase = to;
            }
            later
        });
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits { bytes: self.options.max_body_bytes, time: self.options.body_timeout }
    }

    /// What makes answers with the same seed the same, as far as it is not in the
    /// request.
    pub(crate) fn fingerprint(&self) -> String {
        let host = self.backend.get().map(|backend| backend.host());
        host.map_or_else(String::new, |host| format!("aio-{}-{}", host.version, host.device))
    }

    /// Counts a request that is being answered, until the guard goes.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlight {
        self.running.send_modify(|running| *running += 1);
        InFlight(Arc::clone(self))
    }

    /// Waits until nothing is being answered.
    pub(crate) async fn idle(&self) {
        // The sender lives in this very value.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Keeps and counts what is known of a request at its end.
    pub(crate) fn ended(&self, record: &RequestRecord, progress: &Progress) {
        self.pace.ended();
        let tiers = self.backend.get().map(|backend| backend.host().tiers.as_slice());
        self.metrics.ended(record, tiers.unwrap_or_default(), progress);
        self.records.keep(record);
    }

    /// Seconds after which a request that was refused may be taken.
    pub(crate) fn retry_after(&self, refused: &Refused) -> u64 {
        match refused {
            Refused::QueueFull { waiting } => self.pace.seconds_for(*waiting),
            // By then whoever comes after this process has begun.
            Refused::Draining => self.options.drain_timeout.as_secs().max(1),
        }
    }
}

/// A request that is being answered.
pub(crate) struct InFlight(Arc<App>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
