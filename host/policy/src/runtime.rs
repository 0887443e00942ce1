//! What all policies share: the compiler and its settings, what a policy may
//! import, the ticker behind deadlines. Knows no policy in particular.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine};

use crate::call::one_line;
use crate::cleaner::Cleaner;
use crate::code_cache::CodeCache;
use crate::compiled::{Components, Functions};
use crate::contract::v0_1;
use crate::error::LoadError;
use crate::instance::Guest;
use crate::limits::Limits;
use crate::signature::{self, KeyId, TrustedKeys};
use crate::source::PolicySource;
use crate::ticker::Ticker;

/// The newest version of the contract that this host speaks.
pub const CONTRACT: &str = "aio:policy@0.1.0";

/// What a runtime is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// A folder for compiled code, by the component's digest, wasmtime's version
    /// and the compiler's settings; none by default. What is in it is run as it
    /// is, so files of other users, or that others may write to, are not used.
    pub code_cache: Option<PathBuf>,
    /// Bytes of stack that a policy's code may use, on the calling thread's own
    /// stack. Default 512 KiB: enough for a script engine's recursion, and small
    /// beside the 2 MiB of a spawned thread.
    pub stack_bytes: usize,
    /// Keys of which one must have signed a policy, or it is not loaded, be it the
    /// first, a reload, a canary or a shadow; none by default, and then signatures are
    /// not looked at. Policies that are part of the binary ([`PolicySource::Builtin`])
    /// are trusted as the binary is. What is signed is a component, not the code in
    /// [`RuntimeOptions::code_cache`].
    pub require_signature: Option<TrustedKeys>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { code_cache: None, stack_bytes: 512 * 1024, require_signature: None }
    }
}

/// What all policies share. Cheap to clone; the ticker thread ends when the
/// last clone and the last policy loaded through it are gone.
#[derive(Clone)]
pub struct PolicyRuntime {
    pub(crate) engine: Engine,
    pub(crate) linker: Arc<Linker<Guest>>,
    generations: Arc<AtomicU64>,
    compiled: Arc<Components>,
    code: Option<Arc<CodeCache>>,
    trusted: Option<Arc<TrustedKeys>>,
    cleaner: Arc<Cleaner>,
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
        Self::with(&RuntimeOptions::default())
    }

    /// Starts a runtime with other options.
    ///
    /// # Errors
    /// As [`PolicyRuntime::new`], and when the folder for compiled code cannot be made.
    pub fn with(options: &RuntimeOptions) -> Result<Self, LoadError> {
        let runtime = |error: wasmtime::Error| LoadError::Runtime { reason: one_line(&error) };
        let mut config = config();
        config.max_wasm_stack(options.stack_bytes);
        config.enable_incremental_compilation(Arc::new(Functions::default())).map_err(runtime)?;
        let engine = Engine::new(&config).map_err(runtime)?;
        let open = |folder: &PathBuf| match CodeCache::open(folder, &engine) {
            Ok(cache) => Ok(Arc::new(cache)),
            Err(error) => Err(LoadError::Runtime {
                reason: format!("compiled code cannot be kept in {}: {error}", folder.display()),
            }),
        };
        let code = options.code_cache.as_ref().map(open).transpose()?;
        let mut linker = Linker::new(&engine);
        v0_1::add_to_linker(&mut linker).map_err(runtime)?;
        let thread = |error: std::io::Error| LoadError::Runtime { reason: error.to_string() };
        let ticker = Ticker::start(engine.clone()).map_err(thread)?;
        let cleaner = Cleaner::start().map_err(thread)?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
            generations: Arc::default(),
            compiled: Arc::default(),
            code,
            trusted: options.require_signature.clone().map(Arc::new),
            cleaner: Arc::new(cleaner),
            _ticker: Arc::new(ticker),
        })
    }

    /// Who drops what nobody who serves has the time to drop.
    pub(crate) fn cleaner(&self) -> &Arc<Cleaner> {
        &self.cleaner
    }

    /// The number of the next generation, from 1.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether a policy is signed as this runtime requires: what a load asks first,
    /// for those who want to know before they have anything to load it for. Returns
    /// the signer; `None` where no signature is required of it.
    ///
    /// # Errors
    /// When it cannot be read, and [`LoadError::Signature`].
    pub fn verify(
        &self,
        source: &PolicySource,
        limits: &Limits,
    ) -> Result<Option<KeyId>, LoadError> {
        match self.trusted_for(source) {
            Some(_) => self.verify_bytes(source, &source.read(limits.component_bytes)?),
            None => Ok(None),
        }
    }

    /// [`PolicyRuntime::verify`] of bytes that were read from the source: the same
    /// ones must be compiled.
    pub(crate) fn verify_bytes(
        &self,
        source: &PolicySource,
        bytes: &[u8],
    ) -> Result<Option<KeyId>, LoadError> {
        let Some(trusted) = self.trusted_for(source) else { return Ok(None) };
        signature::verify(bytes, trusted)
            .map(Some)
            .map_err(|reason| LoadError::Signature { policy: source.name(), reason })
    }

    /// The keys of which one must have signed what comes from there.
    fn trusted_for(&self, source: &PolicySource) -> Option<&TrustedKeys> {
        match source {
            // Who can change these can change what checks signatures.
            PolicySource::Builtin(_) => None,
            PolicySource::File(_) | PolicySource::Bytes { .. } => self.trusted.as_deref(),
        }
    }

    /// Compiles a component, or finds it compiled: the last few are kept, and
    /// with [`RuntimeOptions::code_cache`] there is a folder for all others. Of one that
    /// is new, only the functions that are new are compiled.
    pub(crate) fn compile(
        &self,
        policy: &str,
        digest: &str,
        bytes: &[u8],
    ) -> Result<Component, LoadError> {
        if let Some(component) = self.compiled.get(digest) {
            return Ok(component);
        }
        let kept = self.code.as_ref().and_then(|code| code.load(&self.engine, digest));
        let component = match kept {
            Some(component) => component,
            None => self.compile_anew(policy, digest, bytes)?,
        };
        self.compiled.put(digest, &component);
        Ok(component)
    }

    fn compile_anew(
        &self,
        policy: &str,
        digest: &str,
        bytes: &[u8],
    ) -> Result<Component, LoadError> {
        let component = Component::from_binary(&self.engine, bytes).map_err(|error| {
            LoadError::Invalid { policy: policy.to_owned(), reason: one_line(&error) }
        })?;
        if let Some(code) = &self.code {
            code.save(digest, &component);
        }
        Ok(component)
    }
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
        // A trap is an everyday event here and its backtrace is not shown.
        .wasm_backtrace_max_frames(None);
    config
}
