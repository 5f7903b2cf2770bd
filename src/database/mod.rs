//! SQLite, and nothing else: consistent snapshots of a live database, replacing one without losing a row, and
//! what is in it. Knows claude-mem's tables; not the store, not who is primary.
//!
//! Rules of the house: a live database is read and written through SQLite only, never copied or renamed over
//! (F03, F04); a snapshot is pinned by one read transaction; memory stays flat whatever the size.

pub mod changes;
mod check;
pub mod code;
pub mod company;
pub mod content;
pub mod digest;
mod error;
pub mod export;
pub mod exported;
pub mod facts;
pub mod files;
pub mod fulltext;
pub mod guard;
pub mod import;
pub mod install;
mod locks;
pub mod look;
pub mod pages;
pub mod queue;
pub mod rows;
pub mod shape;
pub mod snapshot;
pub mod tables;
mod temporary;
pub mod uid;
pub mod value;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Code, Failure};

pub use check::{check_compact, integrity_check, rebuild_command};
pub use error::DatabaseError;
pub use facts::{Counts, Facts};

/// How long we wait for another connection's lock.
pub const BUSY: Duration = Duration::from_secs(10);

/// Opens an existing database for reading. No view of it is read. What a program that died left behind is rolled back, as
/// SQLite does for whoever may write.
///
/// # Errors
/// See [`DatabaseError`].
pub fn open_read_only(path: &Path) -> Result<Connection, DatabaseError> {
    match open_as_it_is(path) {
        Err(error @ DatabaseError::NeedsWriter { .. }) => {
            let mended = open_read_write(path).and_then(|writer| {
                let count = writer.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
                count.map_err(|error| DatabaseError::sqlite("roll back", path, error))
            });
            tracing::info!(?mended, "the database was left half way by a program that died");
            if mended.is_ok() { open_as_it_is(path) } else { Err(error) }
        }
        other => other,
    }
}

/// Rolls back what a program that died left half way, where one has: a mere look cannot.
pub fn mend(path: &Path) {
    if std::fs::metadata(files::beside(path, "-journal")).is_ok_and(|journal| journal.len() > 0)
        && let Err(error) = open_read_only(path)
    {
        tracing::debug!(%error, "what was left half way stays");
    }
}

/// The same without mending anything, for a mere look.
fn open_as_it_is(path: &Path) -> Result<Connection, DatabaseError> {
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

/// Opens a database of our own, or makes it. The limits hold for it too: it may have been put there.
///
/// # Errors
/// SQLite's own.
pub fn open_own(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    guard::limit(&connection)?;
    Ok(connection)
}

/// The same for scratch data in a fresh file: no journal, nothing synced, most of it on the disk.
///
/// # Errors
/// SQLite's own.
pub fn open_scratch(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // A connection with limits may not do without a journal; it may go on without one.
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4000; PRAGMA temp_store = FILE;",
    )?;
    guard::limit(&connection)?;
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
        Err(error) => Err(Failure::of(Code::Internal, format!("a database task ended early: {error}"))),
    }
}
