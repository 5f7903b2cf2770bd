//! The error that a command ends with: what was tried, what came back, what to type next, and one word for programs.
//! Modules below keep their own small typed errors; they become a `Failure` at the command boundary.

use std::error::Error;
use std::sync::Arc;

use crate::exit::ExitCode;
use crate::word::words;

words! {
    /// What kind of trouble it is, for programs: the field `code` of `--json` (docs/json.md). Words are added, never
    /// changed.
    Code:
    /// A command line that is not understood.
    Usage = "usage",
    /// A setting that is needed is not set.
    NotConfigured = "not_configured",
    /// A setting, or the file that holds them, cannot be used.
    BadSetting = "bad_setting",
    /// No answer from the store: the name, the port, the network, the time limit.
    StoreUnreachable = "store_unreachable",
    /// The store's certificate is not accepted, or it speaks no TLS.
    StoreTls = "store_tls",
    /// The proxy on the way refuses, or cannot be reached.
    StoreProxy = "store_proxy",
    /// The store has no room for it, or takes no object of that size.
    StoreFull = "store_full",
    /// The store says that it is busy or broken.
    StoreBusy = "store_busy",
    /// The store does not know the key, or its signature does not match.
    StoreCredentials = "store_credentials",
    /// This machine's clock is too far from the store's.
    StoreClock = "store_clock",
    /// The key may not do this.
    StoreDenied = "store_denied",
    /// There is no such bucket or directory.
    StoreMissing = "store_missing",
    /// Something answered that is not this bucket's service.
    StoreForeign = "store_foreign",
    /// The store cannot do what was asked.
    StoreUnsupported = "store_unsupported",
    /// The store's answer makes no sense, or refuses in words of its own.
    StoreUnexpected = "store_unexpected",
    /// An object in the store is not what its name promises.
    BadObject = "bad_object",
    /// There is nothing in the store yet.
    NothingThere = "nothing_there",
    /// There is no push, backup or node of that name.
    NotFound = "not_found",
    /// What would be written is there already.
    AlreadyThere = "already_there",
    /// There is no database.
    DatabaseMissing = "database_missing",
    /// The database cannot be read.
    DatabaseDamaged = "database_damaged",
    /// It is a database of something else than claude-mem.
    DatabaseForeign = "database_foreign",
    /// Another program holds the database.
    DatabaseBusy = "database_busy",
    /// SQLite refused, or the database is in a state that does not go.
    DatabaseRefused = "database_refused",
    /// A file system without locks between processes, where they are needed.
    NoLocks = "no_locks",
    /// The disk has not enough room.
    NoSpace = "no_space",
    /// This process may have no more descriptors, threads or children.
    Limits = "limits",
    /// A file or folder of this machine cannot be read or written.
    LocalFile = "local_file",
    /// The history in the store is damaged.
    HistoryDamaged = "history_damaged",
    /// A newer membridge wrote what is there.
    NewerFormat = "newer_format",
    /// A newer claude-mem wrote the database.
    NewerSchema = "newer_schema",
    /// A database brings triggers, views, virtual tables or constraints along that are not known.
    UnknownSchema = "unknown_schema",
    /// The project is sealed, and its key is not on this machine.
    KeyNeeded = "key_needed",
    /// What is in the store was not written by this fleet, or was put back.
    NotAuthentic = "not_authentic",
    /// Another machine holds the lock.
    LockHeld = "lock_held",
    /// The lock was lost on the way; nothing was committed.
    LockLost = "lock_lost",
    /// Another process of this machine works on the project.
    LocalBusy = "local_busy",
    /// Others were faster in each attempt.
    Contended = "contended",
    /// This node is primary and does not pull.
    PrimaryRefusesPull = "primary_refuses_pull",
    /// This node is secondary and does not push.
    SecondaryRefusesPush = "secondary_refuses_push",
    /// What was asked for would lose something, or makes no sense, and was not done.
    Refused = "refused",
    /// New memories came while the work was prepared.
    Changed = "changed",
    /// claude-mem's worker cannot be stopped or started.
    Worker = "worker",
    /// Stopped by a signal.
    Interrupted = "interrupted",
    /// The operating system has no random numbers to give.
    NoRandomness = "no_randomness",
    /// The address to listen on is taken, or not this machine's.
    CannotListen = "cannot_listen",
    /// A fault of membridge itself.
    Internal = "internal",
}

/// A command that did not do what was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code that callers see.
    pub exit: ExitCode,
    /// What kind of trouble it is.
    pub code: Code,
    /// One line: what was asked of what, and what came back.
    pub message: String,
    /// What to type, or look at, next. One line each.
    pub hints: Vec<String>,
    /// The error that it was made from, with its own causes. For logs: its texts may repeat the message.
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure of that kind, with exit code 1.
    pub fn of(code: Code, message: impl Into<String>) -> Self {
        Self { exit: ExitCode::Error, code, message: message.into(), hints: Vec::new(), cause: None }
    }

    /// A failure with an exit code of its own, which says what kind it is.
    pub fn with_exit(exit: ExitCode, message: impl Into<String>) -> Self {
        let code = match exit {
            ExitCode::Ok | ExitCode::Error => Code::Internal,
            ExitCode::PrimaryRefusesPull => Code::PrimaryRefusesPull,
            ExitCode::SecondaryRefusesPush => Code::SecondaryRefusesPush,
            ExitCode::Interrupted(_) => Code::Interrupted,
        };
        Self { exit, ..Self::of(code, message) }
    }

    /// A failure with exit code 1 out of a module's error: its text, and itself as the cause.
    pub fn from_error(code: Code, error: impl Error + Send + Sync + 'static) -> Self {
        let text = error.to_string();
        Self { cause: Some(Arc::new(error)), ..Self::of(code, text) }
    }

    /// How a command ends that a signal stopped before it changed anything.
    pub fn interrupted(signal: i32) -> Self {
        Self::with_exit(
            ExitCode::Interrupted(signal),
            match signal {
                2 => "stopped by Control-C (SIGINT); nothing was changed".to_owned(),
                15 => "stopped by SIGTERM; nothing was changed".to_owned(),
                _ => format!("stopped by signal {signal}; nothing was changed"),
            },
        )
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The causes, from the nearest to the first, as texts.
    pub fn causes(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let mut next = self.source();
        while let Some(error) = next {
            texts.push(error.to_string());
            next = error.source();
        }
        texts
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// What commands return.
pub type CommandResult<T = ()> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::{Code, Failure};

    #[test]
    fn a_word_is_given_once_and_is_typed_easily() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.word()).collect();
        assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }

    #[test]
    fn the_causes_are_kept_down_to_the_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the record")]
        struct Record(#[source] std::io::Error);

        let failure = Failure::from_error(Code::LocalFile, Record(std::io::Error::other("no such disk")));
        assert_eq!(failure.causes(), ["cannot read the record", "no such disk"]);
        assert!(Failure::interrupted(2).causes().is_empty());
    }
}
