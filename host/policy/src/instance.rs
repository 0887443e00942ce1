//! One instance of a policy's component: a store, its limits, and timed calls
//! into its hooks. After a failed call an instance must not be used again;
//! seeing to that is its owner's job.

use std::time::Instant;

use aio_core::{Failure, Granted};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use crate::call::{Phase, failure};
use crate::contract::v0_1::{Exports, Hooks, WrongType};
use crate::limits::{Limiter, Limits};
use crate::log::LogGate;

/// What the host keeps beside an instance.
#[derive(Debug)]
pub(crate) struct Guest {
    limiter: Limiter,
    log: LogGate,
    /// When the call under way must be over; `None` where no clock reaches so far.
    due: Option<Instant>,
    /// What the policy sees of a request beyond the facts, while it plans.
    pub(crate) lent: Option<Granted>,
}

impl Guest {
    /// Whether the call under way has used up its time.
    pub(crate) fn is_overdue(&self) -> bool {
        self.due.is_some_and(|due| Instant::now() > due)
    }

    pub(crate) fn log(&mut self) -> &mut LogGate {
        &mut self.log
    }
}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) enum StartError {
    Failed(Failure),
    WrongType(WrongType),
}

/// An instance that can be called.
pub(crate) struct Instance {
    store: Store<Guest>,
    hooks: Hooks,
}

impl Instance {
    /// Instantiates the component; runs its start functions. The gate is handed
    /// over from the instance before, so that a new instance gets no new
    /// allowance of log lines.
    pub(crate) fn start(
        engine: &Engine,
        pre: &InstancePre<Guest>,
        exports: &Exports,
        log: LogGate,
        limits: &Limits,
    ) -> Result<Self, (StartError, LogGate)> {
        let mut store =
            Store::new(engine, Guest { limiter: Limiter::new(limits), log, due: None, lent: None });
        store.limiter(|guest| &mut guest.limiter);
        // Every tick looks at the clock: counted ticks would come late on a busy
        // machine, and each a little later than the one before.
        store.epoch_deadline_callback(|guest| {
            if guest.data().is_overdue() {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        let started = bounded(&mut store, Phase::Start, Instant::now(), limits, |store| {
            pre.instantiate(store)
        });
        let hooks = match started {
            Err(failure) => Err(StartError::Failed(failure)),
            Ok(instance) => {
                Hooks::of(exports, &instance, &mut store).map_err(StartError::WrongType)
            }
        };
        match hooks {
            Ok(hooks) => Ok(Self { store, hooks }),
            Err(error) => Err((error, store.into_data().log)),
        }
    }

    /// Calls a hook within its bounds, of which time counts from `start`.
    pub(crate) fn call<R>(
        &mut self,
        phase: Phase,
        start: Instant,
        limits: &Limits,
        call: impl FnOnce(&mut Hooks, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let hooks = &mut self.hooks;
        bounded(&mut self.store, phase, start, limits, |store| call(hooks, store))
    }

    /// Fuel that the last call used.
    pub(crate) fn fuel_used(&self, phase: Phase, limits: &Limits) -> u64 {
        phase.fuel(limits).saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    /// What is logged through this instance.
    pub(crate) fn log(&mut self) -> &mut LogGate {
        self.store.data_mut().log()
    }

    /// Ends the instance; keeps its log.
    pub(crate) fn end(self) -> LogGate {
        self.store.into_data().log
    }
}

fn bounded<R>(
    store: &mut Store<Guest>,
    phase: Phase,
    start: Instant,
    limits: &Limits,
    call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
) -> Result<R, Failure> {
    store.data_mut().limiter.take_refused();
    store.data_mut().due = start.checked_add(phase.deadline(limits));
    store.set_hostcall_fuel(phase.answer_bytes(limits));
    store.set_epoch_deadline(1);
    store.set_fuel(phase.fuel(limits)).and_then(|()| call(store)).map_err(|error| {
        let refused = store.data_mut().limiter.take_refused();
        failure(phase, &error, refused, limits)
    })
}
