//! Why a policy cannot be loaded, in sentences that say what to do.

use std::path::PathBuf;

use aio_core::{Failure, Grant, Hook};

use crate::runtime::CONTRACT;
use crate::signature::SignatureError;

/// Why a policy cannot be loaded. Each is one sentence that names the policy
/// and says what to change.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No built-in policy has this name.
    #[error(
        "there is no policy \"{name}\": name one of {builtins}, or give the path of a .wasm file"
    )]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names there are.
        builtins: String,
    },
    /// The file cannot be read.
    #[error("cannot read the policy {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is a folder, such as an author's project.
    #[error(
        "{} is a folder, not a policy: name the component that `aio policy build` makes in it, \
         for example {}", path.display(), component.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Where such a component is put.
        component: PathBuf,
    },
    /// The component is larger than the limits allow.
    #[error(
        "policy \"{policy}\" has {bytes} bytes, but at most {most} are allowed: build it with optimisation for size and without debug information"
    )]
    TooLarge {
        /// The policy.
        policy: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A trusted key's signature is required, and the component has none that holds.
    #[error("policy \"{policy}\" is refused because {reason}")]
    Signature {
        /// The policy.
        policy: String,
        /// What is wrong with its signature, and what to do about it.
        reason: SignatureError,
    },
    /// The bytes are not WebAssembly.
    #[error(
        "policy \"{policy}\" is not WebAssembly: give a component (.wasm) built for the contract {CONTRACT}"
    )]
    NotWasm {
        /// The policy.
        policy: String,
    },
    /// The bytes are a core module.
    #[error(
        "policy \"{policy}\" is a core WebAssembly module, not a component: wrap it with `wasm-tools component new`"
    )]
    CoreModule {
        /// The policy.
        policy: String,
    },
    /// The component does not validate or compile.
    #[error("policy \"{policy}\" is not a valid component, build it anew: {reason}")]
    Invalid {
        /// The policy.
        policy: String,
        /// What the compiler says.
        reason: String,
    },
    /// There is more nested in the component than the limits allow.
    #[error(
        "policy \"{policy}\" has more than {most} {what}: if you trust it, allow more with --policy-limits '{{\"{limit}\":{}}}'",
        most.saturating_mul(2)
    )]
    Nested {
        /// The policy.
        policy: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit's name.
        limit: &'static str,
        /// The limit.
        most: usize,
    },
    /// The component imports WASI.
    #[error(
        "policy \"{policy}\" imports {import}, but a policy gets no WASI: build it for wasm32-unknown-unknown without WASI"
    )]
    Wasi {
        /// The policy.
        policy: String,
        /// The import.
        import: String,
    },
    /// The component imports what the operator has not granted.
    #[error(
        "policy \"{policy}\" imports {grant}, which was not granted: allow it with --grant {grant}, or choose a policy that does without"
    )]
    NotGranted {
        /// The policy.
        policy: String,
        /// What it wants.
        grant: Grant,
    },
    /// The component was built against another version of the contract.
    #[error(
        "policy \"{policy}\" was built against aio:policy@{version}, but this host speaks {CONTRACT}: build it against that, or take an aio that speaks the other"
    )]
    Version {
        /// The policy.
        policy: String,
        /// What it imports.
        version: String,
    },
    /// The component imports something else that is not offered.
    #[error(
        "policy \"{policy}\" imports {import}, which this host does not offer: build it against the contract {CONTRACT}, which offers a log and what an operator grants"
    )]
    Import {
        /// The policy.
        policy: String,
        /// The import.
        import: String,
    },
    /// A hook's type is not the contract's.
    #[error(
        "policy \"{policy}\" exports `{hook}` with another type than the contract {CONTRACT} gives it, build it against that version: {reason}"
    )]
    HookType {
        /// The policy.
        policy: String,
        /// The hook.
        hook: Hook,
        /// The difference.
        reason: String,
    },
    /// The component exports none of the hooks.
    #[error(
        "policy \"{policy}\" exports none of the hooks of {CONTRACT}, so there is nothing to ask it: export at least `plan` or `rounds`"
    )]
    NoHooks {
        /// The policy.
        policy: String,
    },
    /// The configuration is not JSON.
    #[error("the configuration of policy \"{policy}\" is not JSON, correct it: {reason}")]
    ConfigNotJson {
        /// The policy.
        policy: String,
        /// What the parser says.
        reason: String,
    },
    /// `init` returned an error.
    #[error("policy \"{policy}\" refuses to start: {message}")]
    Refused {
        /// The policy.
        policy: String,
        /// The policy's own words.
        message: String,
    },
    /// Instantiation, `describe` or `init` failed.
    #[error(
        "policy \"{policy}\" failed while it was loaded, correct it or choose another: {failure}"
    )]
    Failed {
        /// The policy.
        policy: String,
        /// What went wrong, as a record would keep it.
        failure: Failure,
    },
    /// Its answers to facts from earlier requests, or made-up ones, are no good.
    #[error(
        "policy \"{policy}\" does not stand the test of facts that it was asked before it was to serve: {failure}"
    )]
    Canary {
        /// The policy.
        policy: String,
        /// What went wrong, as a record would keep it.
        failure: Failure,
    },
    /// Too many generations still have requests.
    #[error(
        "{live} generations of policies still have requests, and no more than that may live at once: try again when some have ended"
    )]
    TooManyGenerations {
        /// How many.
        live: usize,
    },
    /// There are as many shadows as there may be.
    #[error("there are {most} shadows already, and no more may run at once: name fewer")]
    TooManyShadows {
        /// How many there may be.
        most: usize,
    },
    /// There is no canary to put in place.
    #[error("there is no canary to put in place: none was placed, or it was withdrawn")]
    NoCanary,
    /// There is no generation to go back to.
    #[error("there is no earlier policy to go back to: none was loaded before this one")]
    NothingToRollBackTo,
    /// The WebAssembly runtime itself does not start.
    #[error("the WebAssembly runtime does not start on this machine: {reason}")]
    Runtime {
        /// What it says.
        reason: String,
    },
}

/// The steps of a load, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Reading the component.
    Read,
    /// Holding its signature against the trusted keys, where one is required.
    Verify,
    /// Compiling it.
    Compile,
    /// Holding its imports and exports against the contract and the grants.
    Check,
    /// Instantiating it and calling `describe` and `init`.
    Init,
    /// Asking it about known facts.
    Canary,
    /// Putting it in place.
    Swap,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Verify => "verify",
            Self::Compile => "compile",
            Self::Check => "check",
            Self::Init => "init",
            Self::Canary => "canary",
            Self::Swap => "swap",
        })
    }
}

impl LoadError {
    /// The step at which the load failed.
    pub fn step(&self) -> Step {
        match self {
            Self::UnknownName { .. }
            | Self::Read { .. }
            | Self::Folder { .. }
            | Self::TooLarge { .. } => Step::Read,
            Self::Signature { .. } => Step::Verify,
            Self::NotWasm { .. }
            | Self::CoreModule { .. }
            | Self::Invalid { .. }
            | Self::Nested { .. }
            | Self::Runtime { .. } => Step::Compile,
            Self::Wasi { .. }
            | Self::NotGranted { .. }
            | Self::Version { .. }
            | Self::Import { .. }
            | Self::HookType { .. }
            | Self::NoHooks { .. } => Step::Check,
            Self::ConfigNotJson { .. } | Self::Refused { .. } | Self::Failed { .. } => Step::Init,
            Self::Canary { .. } => Step::Canary,
            Self::TooManyGenerations { .. }
            | Self::TooManyShadows { .. }
            | Self::NoCanary
            | Self::NothingToRollBackTo => Step::Swap,
        }
    }
}
