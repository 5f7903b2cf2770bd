//! Why nobody can say what the bucket holds: the store's fault, the history's, or that of what a Python node wrote.

use crate::error::{Code, Failure};
use crate::history::HistoryError;
use crate::storage::{StoreError, StoreErrorKind};

/// Why nobody can say what the bucket holds.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store's: it may be asked again, and is never overruled.
    #[error(transparent)]
    Store(StoreError),
    /// The newest commit's.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A manifest or checksum object that was read and is not one. A forced push writes new ones.
    #[error("{0}")]
    Unreadable(String),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NotARecord => Self::Unreadable(error.to_string()),
            _ => Self::Store(error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::History(error) => error.into(),
            ReadError::Unreadable(problem) => Self::of(Code::BadObject, problem)
                .hint("push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"),
        }
    }
}
