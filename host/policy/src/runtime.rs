//! What all policies share: the compiler and its settings, what a policy may
//! import, the ticker behind deadlines. Knows no policy in particular.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine};

use crate::call::one_line;
use crate::contract::v0_1;
use crate::error::LoadError;
use crate::instance::Guest;
use crate::log::printable;
use crate::ticker::Ticker;

/// The newest version of the contract that this host speaks.
pub const CONTRACT: &str = "aio:policy@0.1.0";

/// Bytes of stack that a policy's code may use, on the calling thread's own
/// stack: enough for a script engine's recursion, and small beside the 2 MiB
/// of a spawned thread.
const STACK_BYTES: usize = 512 * 1024;

/// Most bytes of an import's name that a message repeats.
const NAME_BYTES: usize = 128;

/// Most component instantiations written in one component. Those a compiler
/// emits are few (a policy has none); they multiply when components within it
/// instantiate each other, at most threefold for every three: some hundreds here.
const INSTANTIATIONS: usize = 16;

/// Most components within one. A composed one has some tens; the time to compile
/// them grows with the square of how deep they nest.
const COMPONENTS: usize = 100;

/// What all policies share. Cheap to clone; the ticker thread ends when the
/// last clone and the last policy loaded through it are gone.
#[derive(Clone)]
pub struct PolicyRuntime {
    pub(crate) engine: Engine,
    pub(crate) linker: Arc<Linker<Guest>>,
    generations: Arc<AtomicU64>,
    _ticker: Arc<Ticker>,
}

impl std::fmt::Debug for PolicyRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyRuntime").field("generations", &self.generations).finish()
    }
}

impl PolicyRuntime {
    /// Starts a runtime.
    ///
    /// # Errors
    /// [`LoadError::Runtime`] when this machine cannot run WebAssembly, or
    /// starts no further thread.
    pub fn new() -> Result<Self, LoadError> {
        let runtime = |error: wasmtime::Error| LoadError::Runtime { reason: one_line(&error) };
        let engine = Engine::new(&config()).map_err(runtime)?;
        let mut linker = Linker::new(&engine);
        v0_1::add_to_linker(&mut linker, Guest::log).map_err(runtime)?;
        let ticker = Ticker::start(engine.clone())
            .map_err(|error| LoadError::Runtime { reason: error.to_string() })?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
            generations: Arc::default(),
            _ticker: Arc::new(ticker),
        })
    }

    /// The number of the next generation, from 1.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Compiles a component and checks its imports.
    pub(crate) fn compile(&self, policy: &str, bytes: &[u8]) -> Result<Component, LoadError> {
        let policy = || policy.to_owned();
        // "\0asm", then the version: 1 and layer 0 for a core module, layer 1
        // for a component.
        match bytes {
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => {}
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => {
                return Err(LoadError::CoreModule { policy: policy() });
            }
            _ => return Err(LoadError::NotWasm { policy: policy() }),
        }
        if let Err(reason) = check_nesting(bytes) {
            return Err(LoadError::Invalid { policy: policy(), reason });
        }
        let invalid = |error: wasmtime::Error| LoadError::Invalid {
            policy: policy(),
            reason: one_line(&error),
        };
        let component = Component::from_binary(&self.engine, bytes).map_err(invalid)?;
        for (import, _) in component.component_type().imports(&self.engine) {
            // A name may be of any length, and one that is a URL may hold any character.
            let (policy, name) = (policy(), printable(import, NAME_BYTES));
            if import.starts_with("wasi:") {
                return Err(LoadError::Wasi { policy, import: name });
            }
            if !v0_1::offers(import) {
                return Err(LoadError::Import { policy, import: name });
            }
        }
        Ok(component)
    }
}

/// Bounds the components within one, and the places where it instantiates them.
/// The compiler takes nested components apart before anything else, and two
/// instantiations within two within two are 2^n: a kilobyte could take all
/// memory there is.
fn check_nesting(bytes: &[u8]) -> Result<(), String> {
    use wasmparser::{ComponentInstance, Parser, Payload};
    let (mut components, mut instantiations) = (0, 0);
    // What cannot be read is the compiler's to name.
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ComponentSection { .. } => components += 1,
            Payload::ComponentInstanceSection(instances) => {
                let instantiates =
                    |i: &ComponentInstance<'_>| matches!(i, ComponentInstance::Instantiate { .. });
                let instances = instances.into_iter().map_while(Result::ok);
                instantiations += instances.filter(instantiates).count();
            }
            _ => {}
        }
        if components > COMPONENTS {
            return Err(format!("it has more than {COMPONENTS} components within it"));
        }
        if instantiations > INSTANTIATIONS {
            return Err(format!(
                "it instantiates components within it in more than {INSTANTIATIONS} places"
            ));
        }
    }
    Ok(())
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Calls are synchronous; without this every store carries an event loop.
        .concurrency_support(false)
        // The same component and facts give the same answer on every machine:
        // NaN has one bit pattern, and instructions whose results differ among
        // processors are off.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Fuel bounds a call by what it does, epochs by how long it takes.
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        // A trap is an everyday event here and its backtrace is not shown.
        .wasm_backtrace_max_frames(None);
    config
}
