//! Why a policy cannot be loaded, in sentences that say what to do.

use std::path::PathBuf;

use aio_core::{Failure, Hook};

use crate::runtime::CONTRACT;

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
    /// The component imports something else that is not offered.
    #[error(
        "policy \"{policy}\" imports {import}, which this host does not offer: build it against the contract {CONTRACT}, whose only import is the log"
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
    /// The WebAssembly runtime itself does not start.
    #[error("the WebAssembly runtime does not start on this machine: {reason}")]
    Runtime {
        /// What it says.
        reason: String,
    },
}
