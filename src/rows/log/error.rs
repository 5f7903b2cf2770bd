//! What can go wrong with the row log, whether it lies in one object, and how a command ends that met it.

use std::path::PathBuf;

use crate::error::{Code, Failure};
use crate::join;
use crate::rows::segment::SegmentError;
use crate::seal::SealError;
use crate::storage::{Etag, StoreError};

/// What can go wrong with the row log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A segment that is not what it should be.
    #[error("{key} is not a segment that can be used: {error}")]
    Segment {
        /// Which object.
        key: String,
        /// The version of its content, where it was just read.
        etag: Option<Etag>,
        /// What is wrong with it.
        error: SegmentError,
    },
    /// A node record that is not what it should be.
    #[error("{key} is not a node record that can be used: {problem}")]
    Node {
        /// Which object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A segment or a node record that is sealed and cannot be opened here, or is not sealed as it should be.
    #[error("{what}: {error}")]
    Sealed {
        /// Which object.
        what: String,
        /// The version of its content, where it was fetched.
        etag: Option<Etag>,
        /// Why not.
        error: SealError,
    },
    /// A segment of ours that nothing stood against, and that could not be put all the same.
    #[error(
        "{0} could not be put: the claim of another attempt is in the way, for a minute at most, or somebody removed it"
    )]
    InTheWay(String),
    /// An object that we put and that is not there.
    #[error("{0} is not there, although it has just been put")]
    Gone(String),
    /// The operating system has no random numbers to give.
    #[error("no random numbers: {0}")]
    Chance(#[from] getrandom::Error),
    /// The local disk.
    #[error("cannot keep a segment in {folder}: {error}")]
    Local {
        /// Our folder for temporary files.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl LogError {
    /// Whether the trouble lies in one object of the bucket: the others can be read all the same.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Segment { error, .. } => !error.is_local(),
            Self::Node { .. } => true,
            Self::Sealed { error, .. } => error.is_damage(),
            Self::Store(_) | Self::InTheWay(_) | Self::Gone(_) | Self::Chance(_) | Self::Local { .. } => {
                false
            }
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            LogError::Sealed { ref what, ref error, .. } => join::refused(what, error),
            LogError::Segment { error: SegmentError::Version(_) | SegmentError::Schema(_), .. } => {
                Self::from_error(Code::NewerFormat, error)
                    .hint("a newer membridge wrote it: install the same version on this machine")
            }
            LogError::InTheWay(_) => {
                Self::from_error(Code::Contended, error).hint("try again in a minute: membridge sync")
            }
            LogError::Chance(_) => Self::from_error(Code::NoRandomness, error).hint("try again"),
            LogError::Local { .. } => Self::from_error(Code::LocalFile, error)
                .hint("check the rights and the free space: membridge doctor"),
            other => Self::from_error(Code::BadObject, other).hint("run: membridge doctor"),
        }
    }
}
