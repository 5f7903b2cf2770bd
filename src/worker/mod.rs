//! The claude-mem worker: find it, ask it, stop it for as long as its database is being replaced, start it again as
//! it was. Never prints. What the releases differ in stands in [`facts`]; whom we may signal is decided in
//! [`process`]; the story that a pull follows is in [`control`].

pub mod control;
pub mod facts;
pub mod find;
pub mod http;
pub mod probe;
pub mod process;
pub mod settings;
mod spawn_lock;
mod start;
pub mod vectors;
pub mod watermarks;

pub use control::{Quiesced, Resumed, quiesce, quiesce_site};
pub use facts::{Gate, gate, knows, waits_for_locks};
pub use find::{PidFile, Site};
pub use probe::{Counts, RunningWorker, WorkerState, local_version, probe, probe_site};
pub use settings::{ClaudeMemSettings, Refusal, refusal};
pub use vectors::{reset_vectors, vector_stores};

use std::path::PathBuf;

use crate::error::{Code, Failure};

/// What went wrong with the worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// spawn.lock cannot be made.
    #[error("cannot create {}: {problem}", path.display())]
    SpawnLock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// Its note of what its vector store holds.
    #[error("cannot tell claude-mem in {} what its search lacks: {problem}", path.display())]
    SyncState {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// claude-mem itself is starting its worker, and does not get done.
    #[error("claude-mem is starting its worker and has not finished after {seconds} s (see {})", path.display())]
    Starting {
        /// spawn.lock.
        path: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// It survived SIGKILL, or must not be signalled.
    #[error("the claude-mem worker (process {pid}) does not stop: {problem}")]
    DoesNotStop {
        /// Its pid.
        pid: i32,
        /// Why.
        problem: String,
    },
    /// Something starts it again and again.
    #[error("something starts the claude-mem worker again as soon as it is stopped")]
    ComesBack,
    /// It ran, and its script is gone.
    #[error("cannot find the script of the claude-mem worker")]
    NoScript,
    /// It ran, and there is no bun.
    #[error("cannot find bun, which runs the claude-mem worker")]
    NoRuntime,
    /// It could not be started.
    #[error("cannot start the claude-mem worker: {0}")]
    Start(String),
    /// It was started and does not get ready: the database may be one that it cannot open.
    #[error("the claude-mem worker was started and is not ready after {seconds} s")]
    NotReady {
        /// How long we waited.
        seconds: u64,
    },
}

impl WorkerError {
    /// What to type, or look at, next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::SpawnLock { .. } | Self::SyncState { .. } => {
                "check that claude-mem's data directory exists and is yours"
            }
            Self::Starting { .. } => "try again in a minute",
            Self::DoesNotStop { .. } => "stop the worker yourself, then try again",
            Self::ComesBack => "close open Claude sessions, then try again",
            Self::NoScript => "start a Claude session; claude-mem starts its worker by itself",
            Self::NoRuntime => {
                "install bun, or set BUN to its path; the next Claude session starts the worker by itself"
            }
            Self::Start(_) | Self::NotReady { .. } => {
                "look into the newest file of ~/.claude-mem/logs, then run: membridge doctor"
            }
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        let hint = error.hint();
        Self::from_error(Code::Worker, error).hint(hint)
    }
}
