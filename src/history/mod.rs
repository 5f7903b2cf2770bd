//! Every push of the past, and only what changed on the wire: numbered immutable commits and packs of database
//! pages. The bytes are described in docs/format.md; this module writes and reads them and knows nothing of roles,
//! locks and rows.
//!
//! - [`pages`] reads the pages of a live database in one read transaction; [`pagemap`] remembers their hashes,
//!   [`references`] what index pages were;
//! - [`pack`] is the format of pages on the wire; [`spool`] makes a pack, in one pass over a database;
//! - [`commit`] is one push; [`log`] writes and reads them; [`fetch`] brings an image back;
//! - [`select`] finds the commit that a person means; [`verify`] proves that all of them can be restored;
//! - [`retention`] decides what is kept, and removes the rest.

pub mod commit;
pub mod fetch;
pub mod log;
pub mod pack;
pub mod pagemap;
pub mod pages;
pub mod references;
pub mod retention;
pub mod select;
pub mod spool;
pub mod verify;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod sealed_tests;

use crate::database::DatabaseError;
use crate::error::{Code, Failure};
use crate::join;
use crate::seal::SealError;
use crate::storage::StoreError;

pub use commit::{Commit, Link};
pub use pack::{Kind, PackError};

/// What can go wrong with the history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SQLite's, or the local disk's.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A pack that is not what it should be.
    #[error("{what}: {error}")]
    Pack {
        /// Which.
        what: String,
        /// What is wrong with it.
        #[source]
        error: PackError,
    },
    /// A commit that is not what it should be.
    #[error("{key} is not a commit that can be used: {problem}")]
    Commit {
        /// Which object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An object that should be there is not.
    #[error("{key} is not there, although {wanted_by} needs it")]
    Gone {
        /// Which object.
        key: String,
        /// Who says so.
        wanted_by: String,
    },
    /// An object that is sealed and cannot be opened here, or is not sealed as it should be.
    #[error("{what}: {error}")]
    Sealed {
        /// Which.
        what: String,
        /// Why not.
        #[source]
        error: SealError,
    },
    /// The newest commit is not what this machine has seen.
    #[error(
        "the bucket was put back or changed: its newest push is {there}, and this machine has seen {seen}"
    )]
    PutBack {
        /// Number of the newest commit; 0 where there is none.
        there: u64,
        /// Number of the newest one that was seen.
        seen: u64,
    },
    /// An image, or a stored object, with another checksum than announced.
    #[error("{what} is not what it should be: {problem}")]
    Content {
        /// Which.
        what: String,
        /// What was found.
        problem: String,
    },
}

impl HistoryError {
    /// Whether the trouble lies in what the bucket holds, and not in reaching it or in this machine: another copy of
    /// the same content may still be good.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Pack { error, .. } => !matches!(error, PackError::Io(_)),
            Self::Commit { .. } | Self::Gone { .. } | Self::Content { .. } => true,
            Self::Sealed { error, .. } => error.is_damage(),
            Self::Store(_) | Self::Database(_) | Self::PutBack { .. } => false,
        }
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => error.into(),
            HistoryError::Database(error) => error.into(),
            HistoryError::Sealed {
                ref what,
                error: ref error @ (SealError::NotAuthentic | SealError::NotSealed),
            } => join::refused(what, error).hint(
                "a push that a machine without the key made can be taken away: membridge key init --purge",
            ),
            HistoryError::Sealed { ref what, ref error } => join::refused(what, error),
            HistoryError::PutBack { .. } => Self::from_error(Code::NotAuthentic, error).hint(join::PUT_BACK),
            HistoryError::Commit { ref problem, .. } if problem.ends_with(commit::UNKNOWN_SCHEMA) => {
                Self::from_error(Code::NewerFormat, error)
                    .hint("a newer membridge wrote it: install the same version on this machine")
            }
            HistoryError::Commit { ref key, .. } => {
                let hint = format!(
                    "move {key} away with the tools of your store; the push before it is then the newest"
                );
                Self::from_error(Code::HistoryDamaged, error)
                    .hint(hint)
                    .hint("then push from a machine that has the memory: membridge push_sqlite")
            }
            other => Self::from_error(Code::HistoryDamaged, other)
                .hint("see what else is damaged: membridge verify --all")
                .hint("push again from a machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"),
        }
    }
}

/// Runs work on files off the runtime's only thread, so that the lock can be renewed meanwhile.
///
/// # Errors
/// The work's own; a worker thread that died.
pub async fn blocking<T, F>(work: F) -> Result<T, HistoryError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, HistoryError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(HistoryError::Content {
            what: "a task on the history".to_owned(),
            problem: format!("it ended early: {error}"),
        }),
    }
}
