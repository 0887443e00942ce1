//! `aio:policy@0.1`: the generated WIT types, what a policy of this version may
//! import, and the hooks it may export. Knows no limits and no failures; a call
//! here fails as wasmtime fails.

use std::borrow::Cow;
use std::sync::Arc;

use aio_core::{
    Grant, Granted, Hook, HostInfo, Outcome, RequestFacts, RoundContext, RoundDecision, RoundFacts,
    Verdict,
};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, HasSelf, Instance, Lift, Linker, Lower,
    TypedFunc,
};
use wasmtime::{AsContextMut, Store};

use crate::instance::Guest;
use crate::log::Level;

mod convert;
mod rows;

// Only the types and the imports are generated: every hook is optional, so the
// exports are looked up by hand below.
wasmtime::component::bindgen!({
    path: "../../wit/v0.1",
    inline: "
        package aio:policy-host;
        world imports {
            import aio:policy/types@0.1.0;
            import aio:policy/host@0.1.0;
            import aio:policy/prompt-text@0.1.0;
            import aio:policy/prompt-tokens@0.1.0;
            import aio:policy/metadata@0.1.0;
        }
    ",
    world: "aio:policy-host/imports",
    imports: { default: trappable },
});

use aio::policy::{host, metadata, prompt_text, prompt_tokens, types as wit};

/// What describes a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    pub name: String,
    pub version: String,
    pub summary: String,
    pub config_schema: String,
}

/// What a component of this version may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    /// Types and the log: for every policy.
    Free,
    /// What the operator must grant.
    Granted(Grant),
}

/// What the import `name` is; `None` for one that is not offered. A patch
/// release of the contract adds nothing, so any 0.1 is the same to the linker.
pub(crate) fn import(name: &str) -> Option<Import> {
    let (interface, version) = name.strip_prefix("aio:policy/")?.split_once('@')?;
    if !version.starts_with("0.1.") {
        return None;
    }
    match interface {
        "host" | "types" => Some(Import::Free),
        other => other.parse().ok().map(Import::Granted),
    }
}

/// The version that an import of the contract names, if it is not this one.
pub(crate) fn other_version(name: &str) -> Option<&str> {
    let (_, version) = name.strip_prefix("aio:policy/")?.split_once('@')?;
    (!version.starts_with("0.1.")).then_some(version)
}

/// Gives components of this version their imports: the log, and what is lent
/// while they plan.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    host::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    prompt_text::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    prompt_tokens::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    metadata::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)
}

/// A call into the host costs a policy next to no fuel, and between two of them
/// there need be no place where WebAssembly looks at the clock: so each does.
fn in_time<T>(guest: &Guest, answer: T) -> wasmtime::Result<T> {
    if guest.is_overdue() { Err(wasmtime::Trap::Interrupt.into()) } else { Ok(answer) }
}

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        Guest::log(self).log(level, &message);
        in_time(self, ())
    }
}

impl prompt_text::Host for Guest {
    fn get(&mut self) -> wasmtime::Result<Option<String>> {
        in_time(self, self.lent.as_ref().and_then(|lent| lent.prompt_text.clone()))
    }
}

impl prompt_tokens::Host for Guest {
    fn get(&mut self, tier: u32) -> wasmtime::Result<Option<Vec<u32>>> {
        let tokens = |lent: &Granted| lent.prompt_tokens.get(tier as usize).cloned();
        in_time(self, self.lent.as_ref().and_then(tokens))
    }
}

impl metadata::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        in_time(self, self.lent.as_ref().and_then(|lent| lent.metadata.get(&key).cloned()))
    }
}

/// Which hooks a component exports.
#[derive(Debug, Clone)]
pub(crate) struct Exports {
    describe: Option<ComponentExportIndex>,
    init: Option<ComponentExportIndex>,
    plan: Option<ComponentExportIndex>,
    rounds: Option<ComponentExportIndex>,
    finished: Option<ComponentExportIndex>,
    snapshot: Option<ComponentExportIndex>,
}

impl Exports {
    pub(crate) fn of(component: &Component) -> Self {
        let find = |hook: Hook| component.get_export_index(None, hook.to_string().as_str());
        Self {
            describe: find(Hook::Describe),
            init: find(Hook::Init),
            plan: find(Hook::Plan),
            rounds: find(Hook::Rounds),
            finished: find(Hook::Finished),
            snapshot: find(Hook::Snapshot),
        }
    }

    /// Whether there is anything that could be asked for a decision.
    pub(crate) fn decides(&self) -> bool {
        self.plan.is_some() || self.rounds.is_some()
    }

    pub(crate) fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Describe => self.describe.is_some(),
            Hook::Init => self.init.is_some(),
            Hook::Plan => self.plan.is_some(),
            Hook::Rounds => self.rounds.is_some(),
            Hook::Finished => self.finished.is_some(),
            Hook::Snapshot => self.snapshot.is_some(),
        }
    }
}

/// A hook that is exported, but with another type than the contract's.
#[derive(Debug)]
pub(crate) struct WrongType {
    pub hook: Hook,
    pub reason: String,
}

type Func<P, R> = Option<TypedFunc<P, R>>;

/// What `init` takes: owned, because a typed function is invariant in its
/// parameters' lifetimes; it runs once, so copying costs nothing.
type InitArguments = (String, Option<Vec<u8>>, wit::HostInfo);

/// What `rounds` takes. It runs in every round, so nothing is allocated for it that
/// could be kept from the last call, and a typed function takes no references that
/// end before it does: hence shared ownership, of which nobody else has a share
/// between calls.
type RoundsArguments = (Arc<rows::RoundContext>, Arc<rows::Rows<wit::RoundFacts>>);

/// The hooks of one instance, ready to be called. A call to a hook that is not
/// exported is answered with `None`.
pub(crate) struct Hooks {
    describe: Func<(), (wit::Description,)>,
    init: Func<InitArguments, (Result<(), String>,)>,
    plan: Func<(rows::RequestFacts,), (wit::Verdict,)>,
    rounds: Func<RoundsArguments, (Vec<wit::RoundDecision>,)>,
    /// What `rounds` was last asked with: its lists are filled anew each time.
    asked: RoundsArguments,
    finished: Func<(Vec<wit::Outcome>,), ()>,
    snapshot: Func<(), (Vec<u8>,)>,
}

impl Hooks {
    pub(crate) fn of<T>(
        exports: &Exports,
        instance: &Instance,
        store: &mut Store<T>,
    ) -> Result<Self, WrongType> {
        Ok(Self {
            describe: typed(Hook::Describe, exports.describe.as_ref(), instance, store)?,
            init: typed(Hook::Init, exports.init.as_ref(), instance, store)?,
            plan: typed(Hook::Plan, exports.plan.as_ref(), instance, store)?,
            rounds: typed(Hook::Rounds, exports.rounds.as_ref(), instance, store)?,
            asked: RoundsArguments::default(),
            finished: typed(Hook::Finished, exports.finished.as_ref(), instance, store)?,
            snapshot: typed(Hook::Snapshot, exports.snapshot.as_ref(), instance, store)?,
        })
    }

    pub(crate) fn describe(
        &self,
        store: impl AsContextMut,
    ) -> wasmtime::Result<Option<Description>> {
        let Some(describe) = &self.describe else { return Ok(None) };
        let (description,) = describe.call(store, ())?;
        Ok(Some(description.into()))
    }

    /// The inner result is the policy's own: the text with which it refuses.
    pub(crate) fn init(
        &self,
        store: impl AsContextMut,
        config: &str,
        carried: Option<&[u8]>,
        host: &HostInfo,
    ) -> wasmtime::Result<Option<Result<(), String>>> {
        let Some(init) = &self.init else { return Ok(None) };
        let (result,) = init.call(store, (config.into(), carried.map(Into::into), host.into()))?;
        Ok(Some(result))
    }

    pub(crate) fn plan(
        &self,
        store: impl AsContextMut,
        facts: &RequestFacts,
    ) -> wasmtime::Result<Option<Verdict>> {
        let Some(plan) = &self.plan else { return Ok(None) };
        let (verdict,) = plan.call(store, (facts.into(),))?;
        Ok(Some(verdict.into()))
    }

    pub(crate) fn rounds(
        &mut self,
        store: impl AsContextMut,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> wasmtime::Result<Option<Vec<RoundDecision>>> {
        let Some(rounds) = &self.rounds else { return Ok(None) };
        let (context_then, requests_then) = &mut self.asked;
        Arc::make_mut(context_then).become_of(context);
        Arc::make_mut(requests_then).become_of(requests);
        let (decisions,) = rounds.call(store, self.asked.clone())?;
        Ok(Some(decisions.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn finished(
        &self,
        store: impl AsContextMut,
        outcomes: &[Outcome],
    ) -> wasmtime::Result<Option<()>> {
        let Some(finished) = &self.finished else { return Ok(None) };
        finished.call(store, (outcomes.iter().map(Into::into).collect(),))?;
        Ok(Some(()))
    }

    pub(crate) fn snapshot(&self, store: impl AsContextMut) -> wasmtime::Result<Option<Vec<u8>>> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        let (state,) = snapshot.call(store, ())?;
        Ok(Some(state))
    }
}

fn typed<P, R, T>(
    hook: Hook,
    export: Option<&ComponentExportIndex>,
    instance: &Instance,
    store: &mut Store<T>,
) -> Result<Func<P, R>, WrongType>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let wrong = |reason: Cow<'static, str>| WrongType { hook, reason: reason.into_owned() };
    let Some(export) = export else { return Ok(None) };
    let func = instance
        .get_func(&mut *store, export)
        .ok_or_else(|| wrong("it is not a function".into()))?;
    match func.typed::<P, R>(&*store) {
        Ok(func) => Ok(Some(func)),
        Err(error) => Err(wrong(crate::call::one_line(&error).into())),
    }
}
