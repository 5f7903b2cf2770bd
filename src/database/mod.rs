//! SQLite, and nothing else: consistent snapshots of a live database, replacing one without losing a row, and
//! what is in it. Knows claude-mem's tables; not the store, not who is primary.
//!
//! Rules of the house: a live database is read and written through SQLite only, never copied or renamed over
//! (F03, F04); a snapshot is pinned by one read transaction; memory stays flat whatever the size.

pub mod changes;
pub mod code;
pub mod compare;
pub mod content;
pub mod digest;
pub mod facts;
pub mod files;
pub mod guard;
pub mod install;
pub mod look;
pub mod queue;
pub mod rows;
pub mod shape;
pub mod snapshot;
pub mod tables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Code, Failure};

pub use facts::{Counts, Facts};

/// How long we wait for another connection's lock.
pub const BUSY: Duration = Duration::from_secs(10);

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
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, doing },
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
            Self::MissingTables { .. } => Code::DatabaseForeign,
            Self::Busy { .. } => Code::DatabaseBusy,
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
                "keep the database with its log and start again from the bucket: f='{0}'; mkdir \"$f.damaged\" && for e in '' -wal -shm -journal; \
                 do [ ! -e \"$f$e\" ] || mv \"$f$e\" \"$f.damaged/\"; done && membridge pull_sqlite; or put a backup back",
                path.display()
            ),
            Self::UnknownCode(_) => {
                "look at it without installing it: membridge restore N --to FILE; when you know where it comes from, take it with --accept-schema".to_owned()
            }
            Self::Excess { .. } => {
                "look at it with sqlite3, table by table: claude-mem itself writes nothing of that kind".to_owned()
            }
            Self::MissingTables { .. } => {
                "check CLAUDE_MEM_DB; start claude-mem once if the file is new".to_owned()
            }
            Self::Busy { .. } => "try again; see who has it open: fuser -v FILE".to_owned(),
            Self::NoSpace { path, .. } => format!("free space: df -h {}", path.display()),
            Self::Io { path, .. } | Self::Sqlite { path, .. } => {
                format!("check the rights and the free space: ls -l {0}; df -h {0}", path.display())
            }
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let remedy = error.remedy();
        Self::from_error(error.code(), error).hint(remedy)
    }
}

/// Opens an existing database for reading. No view of it is read.
///
/// # Errors
/// See [`DatabaseError`].
pub fn open_read_only(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    guard::run_nothing(&connection).map_err(|error| DatabaseError::sqlite("open", path, error))?;
    Ok(connection)
}

/// Opens the live database for writing: its own triggers fire, as they do for claude-mem.
///
/// # Errors
/// See [`DatabaseError`].
pub fn open_read_write(path: &Path) -> Result<Connection, DatabaseError> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// Opens an image that anybody may have made, for reading or for writing: nothing of its own runs, and whatever it makes
/// us do comes to an end.
///
/// # Errors
/// See [`DatabaseError`].
pub fn open_foreign(path: &Path, write: bool) -> Result<Connection, DatabaseError> {
    let access = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let mut connection = open(path, access)?;
    guard::run_nothing(&connection)
        .and_then(|()| guard::end_in_time(&mut connection, files::size_with_wal(path)))
        .map_err(|error| DatabaseError::sqlite("open", path, error))?;
    Ok(connection)
}

/// Whether the file begins as no database does; an empty one is one.
fn is_something_else(path: &Path) -> bool {
    use std::io::Read as _;
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let mut start = [0; MAGIC.len()];
    match std::fs::File::open(path).and_then(|mut file| file.read(&mut start)) {
        Ok(0) | Err(_) => false,
        Ok(_) => start != *MAGIC,
    }
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            return Err(DatabaseError::Damaged { path: path.to_owned(), problem: "not a file".to_owned() });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DatabaseError::Missing(path.to_owned()));
        }
        Err(error) => return Err(DatabaseError::io("open", path, error)),
    }
    let fail = |error| DatabaseError::sqlite("open", path, error);
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) && is_something_else(path) {
        // SQLite would find that out as well, and delete the log beside it: the only trace of rows there may be.
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        return Err(fail(rusqlite::Error::SqliteFailure(error, Some("file is not a database".to_owned()))));
    }
    let connection =
        Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    guard::limit(&connection).map_err(fail)?;
    // Flat memory, and scratch space on the disk rather than in a board's RAM.
    connection
        .execute_batch("PRAGMA cache_size = -1000; PRAGMA temp_store = FILE; PRAGMA mmap_size = 0;")
        .map_err(fail)?;
    Ok(connection)
}

/// SQLite's own full check. `Ok` when it is content.
///
/// # Errors
/// [`DatabaseError::Damaged`] with the first complaint.
pub fn integrity_check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| DatabaseError::sqlite("check", path, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(DatabaseError::Damaged { path: path.to_owned(), problem: format!("integrity check: {verdict}") })
}

/// Runs SQLite work off the runtime's only thread, so that the lock can be renewed meanwhile.
///
/// # Errors
/// The work's own; a worker thread that died.
pub async fn blocking<T, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, DatabaseError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(error) => Err(Failure::new(format!("a database task ended early: {error}"))),
    }
}
