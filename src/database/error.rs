//! What can be wrong with a database, in words, and what to do about it.

use std::path::{Path, PathBuf};

use super::{guard, locks};
use crate::error::{Code, Failure};
use crate::visible::shell_path;

/// What can be wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is none.
    #[error("no database at {}", .0.display())]
    Missing(PathBuf),
    /// It is not SQLite, or too damaged to be read.
    #[error("{} is not a readable SQLite database: {problem}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What SQLite or we saw.
        problem: String,
    },
    /// Reading it takes more than a database of claude-mem ever needs: values, schema, memory, time.
    #[error("{} asks for more than a claude-mem database needs: {problem}", path.display())]
    Excess {
        /// Which file.
        path: PathBuf,
        /// Of what.
        problem: String,
    },
    /// It has triggers, views, virtual tables or constraints that nobody here knows (F60).
    #[error("the image brings code along that neither the database here nor any known claude-mem has: {0}")]
    UnknownCode(String),
    /// A table of it needs something that this SQLite does not have.
    #[error("{} needs an extension of SQLite that is not here: {problem}", path.display())]
    Extension {
        /// Which file.
        path: PathBuf,
        /// Which table, and what it needs.
        problem: String,
    },
    /// It was left in a state that only somebody who may write to it can mend: a journal to be rolled back, a log without
    /// its index.
    #[error("{} cannot be read as it lies there, only by somebody who may write to it: {doing}", path.display())]
    NeedsWriter {
        /// Which file.
        path: PathBuf,
        /// What we wanted to do.
        doing: &'static str,
        /// What came back.
        #[source]
        error: rusqlite::Error,
    },
    /// Its texts are in an encoding that claude-mem never uses, and that does not go together with the one here.
    #[error("{} holds its texts as {encoding}; claude-mem writes UTF-8", path.display())]
    Encoding {
        /// Which file.
        path: PathBuf,
        /// What it says.
        encoding: String,
    },
    /// It is SQLite, but not claude-mem's.
    #[error("{} has no table {tables}: it is not a claude-mem database", path.display())]
    MissingTables {
        /// Which file.
        path: PathBuf,
        /// Which tables, separated by commas.
        tables: String,
    },
    /// Other connections did not let us in for [`BUSY`].
    #[error("{} stayed locked by another program: {doing}", path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
        /// What we wanted to do.
        doing: &'static str,
    },
    /// Nobody can keep others from it: the file system has no locks.
    #[error("{}: this file system has no locks between processes, and without them no database on it is safe", .0.display())]
    NoLocks(PathBuf),
    /// The disk has not enough room.
    #[error("not enough free space in {}: {needed} bytes needed, {free} free", path.display())]
    NoSpace {
        /// Which folder.
        path: PathBuf,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The file system's.
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
    /// SQLite's.
    #[error("{doing} {}: {error}", path.display())]
    Sqlite {
        /// What we wanted to do.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: rusqlite::Error,
    },
}

impl DatabaseError {
    /// Turns SQLite's answer into one that can be acted on.
    pub fn sqlite(doing: &'static str, path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        tracing::debug!(doing, path = %path.display(), ?error, "sqlite");
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, problem: format!("{doing}: {error}") }
            }
            Some(ErrorCode::OperationInterrupted) => {
                Self::Excess { path, problem: format!("{doing}: it did not come to an end in time") }
            }
            Some(ErrorCode::OutOfMemory) => {
                let most = guard::MAX_MEMORY >> 20;
                Self::Excess { path, problem: format!("{doing}: more than {most} MB of memory") }
            }
            Some(ErrorCode::TooBig) => Self::Excess { path, problem: format!("{doing}: {error}") },
            Some(ErrorCode::ReadOnly) => Self::NeedsWriter { path, doing, error },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) if locks::are_missing(&path) => {
                Self::NoLocks(path)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, doing },
            _ if needs_extension(&error) => Self::Extension { path, problem: error.to_string() },
            _ => Self::Sqlite { doing, path, error },
        }
    }

    /// Turns the operating system's answer into one that can be acted on.
    pub fn io(doing: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), error }
    }

    fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::DatabaseMissing,
            Self::Damaged { .. } => Code::DatabaseDamaged,
            Self::Excess { .. } => Code::DatabaseRefused,
            Self::UnknownCode(_) => Code::UnknownSchema,
            Self::Extension { .. } | Self::NeedsWriter { .. } | Self::Encoding { .. } => {
                Code::DatabaseRefused
            }
            Self::MissingTables { .. } => Code::DatabaseForeign,
            Self::Busy { .. } => Code::DatabaseBusy,
            Self::NoLocks(_) => Code::NoLocks,
            Self::NoSpace { .. } => Code::NoSpace,
            Self::Io { .. } => Code::LocalFile,
            Self::Sqlite { .. } => Code::DatabaseRefused,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Missing(_) => {
                "check CLAUDE_MEM_DB; or fetch the memory of your other machines: membridge pull_sqlite"
                    .to_owned()
            }
            Self::Damaged { path, .. } => format!(
                // The log belongs to its file, and can hold rows that are nowhere else.
                "keep the database with its log and start again from the bucket: f={}; mkdir \"$f.damaged\" && for e in '' -wal -shm -journal; \
                 do [ ! -e \"$f$e\" ] || mv \"$f$e\" \"$f.damaged/\"; done && membridge pull_sqlite; or put a backup back",
                shell_path(path)
            ),
            Self::UnknownCode(_) => {
                "look at it without installing it: membridge restore N --to FILE; when you know where it comes from, take it: membridge sync --accept-schema, or membridge restore N --accept-schema".to_owned()
            }
            Self::Extension { .. } => {
                "claude-mem's own tables need none: the table belongs to a plugin or a tool, which can move it to a database of its own or drop it"
                    .to_owned()
            }
            Self::NeedsWriter { path, .. } => format!(
                "let claude-mem, or a push or pull, open it once where this user may write to it and to its folder (SQLite keeps -shm and journal \
                 there; a mount with :ro has no room for them): ls -ld {0} {1}",
                shell_path(path.parent().unwrap_or(Path::new("/"))),
                shell_path(path)
            ),
            Self::Encoding { .. } => {
                "make a copy of it in UTF-8: sqlite3 FILE .dump | sqlite3 NEW".to_owned()
            }
            Self::Excess { .. } => {
                "look at it with sqlite3, table by table: claude-mem itself writes nothing of that kind".to_owned()
            }
            Self::MissingTables { .. } => {
                "check CLAUDE_MEM_DB; start claude-mem once if the file is new".to_owned()
            }
            Self::Busy { path, .. } => {
                format!("try again; see who has it open: fuser -v {}", shell_path(path))
            }
            Self::NoLocks(_) => "keep claude-mem's data on a disk of this machine, or mount the share with locks \
                 (NFS: without nolock; SMB: without nobrl; SSHFS has none)"
                .to_owned(),
            Self::NoSpace { path, .. } => format!("free space: df -h {}", shell_path(path)),
            Self::Io { path, .. } | Self::Sqlite { path, .. } => {
                format!("check the rights and the free space: ls -l {0}; df -h {0}", shell_path(path))
            }
        }
    }
}

/// Whether SQLite says that a tokenizer, a module or a collation is not there.
fn needs_extension(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(_, Some(text)) = error else {
        return false;
    };
    ["no such collation sequence", "no such module", "no such tokenizer", "vtable constructor failed"]
        .iter()
        .any(|begins| text.starts_with(begins))
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let remedy = error.remedy();
        Self::from_error(error.code(), error).hint(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f63_ground_that_cannot_be_written_to_is_named_and_so_is_what_sqlite_needs() {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DIRECTORY);
        let text = Some("attempt to write a readonly database".to_owned());
        let error = rusqlite::Error::SqliteFailure(code, text);
        let failure = Failure::from(DatabaseError::sqlite("open", Path::new("/mnt/x/claude-mem.db"), error));
        assert!(failure.message.contains("somebody who may write to it"), "{}", failure.message);
        assert!(!failure.message.contains("attempt to write"), "a push only reads: {}", failure.message);
        assert!(failure.hints.iter().any(|hint| hint.contains("-shm") && hint.contains("/mnt/x")));
    }

    #[test]
    fn f63_what_needs_an_extension_has_nothing_to_do_with_rights() {
        for text in [
            "no such collation sequence: LOCALE",
            "vtable constructor failed: icu_fts",
            "no such module: csv",
        ] {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(1), Some(text.to_owned()));
            let failure = Failure::from(DatabaseError::sqlite("check", Path::new("x.db"), error));
            assert!(
                failure.message.contains("extension") && failure.message.contains(text),
                "{}",
                failure.message
            );
            assert!(!failure.hints.iter().any(|hint| hint.contains("free space")));
        }
    }
}
