//! Why there is no lock, and what a person can do about it.

use std::time::Duration;

use super::decide::Held;
use crate::error::{Code, Failure};
use crate::storage::claim::Rival;
use crate::storage::{StoreError, StoreErrorKind};

/// How long one process of this machine waits for another one that works on the same project.
pub(super) const LOCAL_WAIT: Duration = Duration::from_mins(1);

/// Why there is no lock, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{0}")]
    Held(Held),
    /// Somebody else's claim stays in the way.
    #[error("LOCK ACTIVE — claimed by another machine: {} {}", .0.key, counts(.0.free_in))]
    Claimed(Rival),
    /// Others were faster each time.
    #[error("the lock could not be had: other machines took it in each of {attempts} attempts")]
    Contended {
        /// How often we tried.
        attempts: u32,
    },
    /// It was ours, and is not any more.
    #[error("the lock was lost: {0}")]
    Lost(String),
    /// Somebody wrote an object between our look at it and our write.
    #[error("{0} was written by somebody else in the same moment")]
    Overtaken(String),
    /// Another process of this machine works on the project, or its lock file cannot be had.
    #[error("the lock between processes of this machine: {0}")]
    Local(std::io::Error),
    /// A signal came while we were waiting for the lock (its number).
    #[error("stopped by signal {0}")]
    Interrupted(i32),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random token to be had.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// How long a claim is in the way.
fn counts(free_in: Option<i64>) -> String {
    match free_in {
        Some(seconds) => format!("(it counts for another {seconds}s)"),
        None => "(the store does not tell its age)".to_owned(),
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let of = |code, error| Self::from_error(code, error);
        match error {
            LockError::Held(Held { free_in, .. }) => of(Code::LockHeld, error)
                .hint(format!("try again when its push is done; it may be taken over in {free_in}s"))
                .hint("if you know that it is dead: membridge push_sqlite --take-lock"),
            LockError::Claimed(_) => of(Code::LockHeld, error)
                .hint("try again when its push is done")
                .hint("if you know that it is dead: membridge push_sqlite --take-lock"),
            LockError::Contended { .. } => {
                of(Code::Contended, error).hint("try again: membridge push_sqlite")
            }
            LockError::Lost(_) => of(Code::LockLost, error)
                .hint("nothing was committed; try again: membridge push_sqlite"),
            LockError::Overtaken(_) => {
                of(Code::Contended, error).hint("push again: membridge push_sqlite")
            }
            LockError::Local(ref cause) if cause.kind() == std::io::ErrorKind::WouldBlock => Self {
                message: format!(
                    "another membridge process of this machine has held the project's lock for more than {} s",
                    LOCAL_WAIT.as_secs()
                ),
                ..of(Code::LocalBusy, error)
            }
            .hint("try again when it is done: membridge push_sqlite"),
            LockError::Local(_) => {
                of(Code::LocalFile, error).hint("check the rights and the free space of our state directory: MEMBRIDGE_STATE_DIR, or ~/.membridge")
            }
            LockError::Interrupted(signal) => Self::interrupted(signal),
            LockError::Store(error) if error.kind == StoreErrorKind::NotARecord => {
                Self::from(error).hint("if no other machine is pushing: FORCE_PUSH=1 membridge push_sqlite")
            }
            LockError::Store(error) => error.into(),
            LockError::Random(_) => of(Code::NoRandomness, error).hint("try again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Code, Failure, LockError, Rival, StoreError, StoreErrorKind};

    #[test]
    fn each_reason_has_its_code_and_says_what_to_do() {
        let claimed = |free_in| LockError::Claimed(Rival { key: "claims/a".to_owned(), free_in });
        let damaged = StoreError::new(StoreErrorKind::NotARecord, "s3", "read the lock", "no JSON");
        let table = [
            (claimed(Some(40)), Code::LockHeld, "it counts for another 40s", "when its push is done"),
            (claimed(None), Code::LockHeld, "does not tell its age", "membridge push_sqlite --take-lock"),
            (LockError::Contended { attempts: 10 }, Code::Contended, "each of 10 attempts", "try again"),
            (LockError::Lost("gamma".into()), Code::LockLost, "was lost: gamma", "nothing was committed"),
            (LockError::Overtaken("a".into()), Code::Contended, "in the same moment", "push again"),
            (
                LockError::Local(io::ErrorKind::WouldBlock.into()),
                Code::LocalBusy,
                "held the project's lock for more than 60 s",
                "when it is done",
            ),
            (
                LockError::Local(io::ErrorKind::PermissionDenied.into()),
                Code::LocalFile,
                "between processes of this machine",
                "MEMBRIDGE_STATE_DIR",
            ),
            (LockError::Random(getrandom::Error::UNSUPPORTED), Code::NoRandomness, "no random", "try again"),
            (LockError::Store(damaged), Code::BadObject, "no JSON", "if no other machine is pushing"),
        ];
        for (error, code, says, advises) in table {
            let failure = Failure::from(error);
            assert_eq!(failure.code, code, "{}", failure.message);
            assert!(failure.message.contains(says), "{}", failure.message);
            assert!(failure.hints.iter().any(|hint| hint.contains(advises)), "{:?}", failure.hints);
        }
        assert!(Failure::from(LockError::Interrupted(15)).message.contains("SIGTERM"));
    }
}
