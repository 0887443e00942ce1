//! The two phases of an operator, and the workspace between them.

use std::ffi::c_void;
use std::sync::Arc;

use crate::error::Error;
use crate::memory::Buffer;
use crate::session::Session;
use crate::sys::{Executor, Launch, Status};

/// Workspaces are asked for in steps of this many bytes, so that they seldom grow.
const STEP: usize = 1 << 20;

/// Launches operators on a session's stream (see `operators`). They run one after the
/// other, so all share one workspace, which grows to what the greediest wants.
pub struct Launcher {
    session: Arc<Session>,
    workspace: Option<Arc<Buffer>>,
    fixed: bool,
}

impl Launcher {
    /// One without a workspace yet.
    pub fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session), workspace: None, fixed: false }
    }

    /// The workspace, if an operator wanted one so far.
    pub fn workspace(&self) -> Option<&Arc<Buffer>> {
        self.workspace.as_ref()
    }

    /// From now on the workspace stays as it is: a captured graph holds its address.
    pub fn fix(&mut self) {
        self.fixed = true;
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Runs an operator's first phase, which checks its arguments and tells the size of
    /// its workspace, and launches its second. `first` and `second` are their names.
    pub(crate) fn two_phases(
        &mut self,
        (first, second): (&'static str, &'static str),
        prepare: impl FnOnce(*mut u64, *mut Executor) -> Status,
        launch: Launch,
    ) -> Result<(), Error> {
        self.session.bind()?;
        let (mut bytes, mut executor) = (0, std::ptr::null_mut());
        let code = prepare(&mut bytes, &mut executor);
        self.session.check(first, code)?;
        let workspace = match self.workspace_of(bytes) {
            Ok(workspace) => workspace,
            Err(error) => {
                // SAFETY: the executor was made just now and is not launched.
                let code = unsafe { (self.session.functions().aclDestroyAclOpExecutor)(executor) };
                self.session.library().released("aclDestroyAclOpExecutor", code);
                return Err(error);
            }
        };
        // SAFETY: the workspace has the bytes that were asked for, the executor is of this
        // operator's first phase, and its second phase takes it, whatever becomes of it.
        let code = unsafe { launch(workspace, bytes, executor, self.session.stream()) };
        self.session.check(second, code)
    }

    fn workspace_of(&mut self, bytes: u64) -> Result<*mut c_void, Error> {
        let bytes = usize::try_from(bytes)
            .map_err(|_| Error::Misuse(format!("an operator wants {bytes} bytes to work in")))?;
        if bytes == 0 {
            return Ok(std::ptr::null_mut());
        }
        let has = self.workspace.as_ref().map_or(0, |workspace| workspace.bytes());
        if has < bytes {
            if self.fixed {
                let problem = format!(
                    "an operator wants {bytes} bytes to work in while it is captured, and {has} before"
                );
                return Err(Error::Misuse(problem));
            }
            // What was launched may still work in the old one.
            self.session.synchronise()?;
            self.workspace = None;
            let grown = Buffer::new(&self.session, bytes.next_multiple_of(STEP))?;
            self.session.bind()?;
            self.workspace = Some(grown);
        }
        match &self.workspace {
            Some(workspace) => workspace.address(0, bytes),
            None => Ok(std::ptr::null_mut()),
        }
    }
}
