//! The way from a component's exports to a [`Policy`]: what `export_policy!`
//! expands to. Nothing here is meant to be named by hand.

mod asked;

use std::cell::RefCell;

pub use asked::{Asked, Given};

use crate::{
    HostInfo, Outcome, Policy, RequestFacts, RoundContext, RoundDecision, RoundFacts, Start,
    Verdict, log, start,
};

/// The one policy of this component, once it is started.
pub struct Running<P> {
    policy: P,
    host: HostInfo,
    asked: Asked,
}

/// Where the macro keeps it. A component has one thread.
pub type Slot<P> = RefCell<Option<Running<P>>>;

/// Starts the policy.
///
/// # Errors
/// What the policy says.
pub fn init<P: Policy>(
    slot: &Slot<P>,
    config: &str,
    carried: Option<Vec<u8>>,
    host: HostInfo,
) -> Result<(), String> {
    // Without this a panic is an `unreachable` instruction that says nothing.
    std::panic::set_hook(Box::new(|panic| log::error(&panic.to_string())));
    // An empty snapshot is the default `snapshot`'s way to say that there is none.
    let carried = carried.filter(|state| !state.is_empty());
    let policy = start::<P>(config, Start { host: &host, carried })?;
    *slot.borrow_mut() = Some(Running { policy, host, asked: Asked::default() });
    Ok(())
}

/// Asks for a plan.
pub fn plan<P: Policy>(slot: &Slot<P>, facts: &RequestFacts) -> Verdict {
    with(slot, |Running { policy, host, .. }| policy.plan(facts, host))
}

/// Asks about running requests.
pub fn rounds<P: Policy>(
    slot: &Slot<P>,
    context: &RoundContext,
    requests: &[RoundFacts],
) -> Vec<RoundDecision> {
    with(slot, |running| running.policy.rounds(context, requests))
}

/// The same about those that are handed over, in the lists of the last call.
pub fn rounds_given<P: Policy>(slot: &Slot<P>, given: Given) -> Vec<RoundDecision> {
    with(slot, |Running { policy, asked, .. }| {
        given.read_into(asked);
        policy.rounds(&asked.context, &asked.requests)
    })
}

/// Tells what became of requests.
pub fn finished<P: Policy>(slot: &Slot<P>, outcomes: &[Outcome]) {
    with(slot, |running| running.policy.finished(outcomes));
}

/// Asks for learned state.
pub fn snapshot<P: Policy>(slot: &Slot<P>) -> Vec<u8> {
    with(slot, |running| running.policy.snapshot())
}

/// What the macro makes of a policy beside the generated hooks.
pub trait Exported: crate::bindings::Guest {
    /// [`rounds_given`] of the policy's own slot.
    fn rounds_given(given: Given) -> Vec<RoundDecision>;
}

/// What is generated, but for the way of `rounds`: the macro that makes the exports
/// takes all of it from here.
pub mod hooks {
    pub use crate::bindings::*;

    // What is named goes before what a glob brings.
    pub use super::asked::_export_rounds_cabi;
}

fn with<P, R>(slot: &Slot<P>, ask: impl FnOnce(&mut Running<P>) -> R) -> R {
    match slot.borrow_mut().as_mut() {
        Some(running) => ask(running),
        // The contract has `init` called first; a host that does not is broken,
        // and no answer would be right.
        None => panic!("a hook was called before `init`"),
    }
}

/// Exports a [`Policy`] as the component's hooks. Does nothing where the target
/// is not WebAssembly, so that the same crate is tested natively.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::export;

            struct Exported;

            thread_local! {
                static SLOT: export::Slot<$policy> = const { ::std::cell::RefCell::new(None) };
            }

            impl $crate::bindings::Guest for Exported {
                fn describe() -> $crate::Description {
                    <$policy as $crate::Policy>::describe()
                }

                fn init(
                    config: ::std::string::String,
                    carried: ::std::option::Option<::std::vec::Vec<u8>>,
                    host: $crate::HostInfo,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| export::init(slot, &config, carried, host))
                }

                fn plan(facts: $crate::RequestFacts) -> $crate::Verdict {
                    SLOT.with(|slot| export::plan(slot, &facts))
                }

                fn rounds(
                    context: $crate::RoundContext,
                    requests: ::std::vec::Vec<$crate::RoundFacts>,
                ) -> ::std::vec::Vec<$crate::RoundDecision> {
                    SLOT.with(|slot| export::rounds(slot, &context, &requests))
                }

                fn finished(outcomes: ::std::vec::Vec<$crate::Outcome>) {
                    SLOT.with(|slot| export::finished(slot, &outcomes))
                }

                fn snapshot() -> ::std::vec::Vec<u8> {
                    SLOT.with(|slot| export::snapshot(slot))
                }
            }

            impl export::Exported for Exported {
                fn rounds_given(given: export::Given) -> ::std::vec::Vec<$crate::RoundDecision> {
                    SLOT.with(|slot| export::rounds_given(slot, given))
                }
            }

    $crate::bindings::export_hooks!(Exported with_types_in $crate::export::hooks);
        };

        // Where nothing is exported the policy still counts as used: without
        // this the compiler would call all of it dead code.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Description = <$policy as $crate::Policy>::describe;
    };
}
