//! What can go wrong with the row log.

use std::path::{Path, PathBuf};

use super::log::LogError;
use super::shadow::ShadowError;
use crate::database::DatabaseError;
use crate::error::{Code, Failure};
use crate::storage::StoreError;
use crate::visible::shell_path;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log's, in the bucket.
    #[error(transparent)]
    Log(#[from] LogError),
    /// claude-mem's database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// claude-mem's database, before it is said which.
    #[error("claude-mem's database: {0}")]
    Live(#[from] rusqlite::Error),
    /// Our own record of it.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// A file of ours.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What we wanted to do.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
    /// A segment or a record that cannot be read or made.
    #[error("the row log: {0}")]
    Segment(String),
    /// The operating system has no random numbers to give.
    #[error("no random numbers: {0}")]
    Chance(#[from] getrandom::Error),
}

impl RowsError {
    /// Says which database it was.
    #[must_use]
    pub fn of(self, database: &Path) -> Self {
        match self {
            Self::Live(error) => DatabaseError::sqlite("exchange rows with", database, error).into(),
            other => other,
        }
    }
}

impl From<RowsError> for Failure {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Store(error) => error.into(),
            RowsError::Log(error) => error.into(),
            RowsError::Database(error) => error.into(),
            RowsError::Shadow(_) => Self::from_error(Code::LocalFile, error)
                .hint("when it stays so, move the folder rows of our state directory away (MEMBRIDGE_STATE_DIR, or ~/.membridge), and sync again"),
            RowsError::Io { ref path, .. } => {
                let hint =
                    format!("check the rights and the free space: ls -l {0}; df -h {0}", shell_path(path));
                Self::from_error(Code::LocalFile, error).hint(hint)
            }
            RowsError::Live(_) | RowsError::Segment(_) => {
                Self::from_error(Code::BadObject, error).hint("run: membridge doctor")
            }
            RowsError::Chance(_) => Self::from_error(Code::NoRandomness, error).hint("try again"),
        }
    }
}
