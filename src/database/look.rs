//! A look at a database that leaves no trace: doctor and status must not even make the two side files that SQLite
//! puts beside a WAL database for each reader (F42). Reads only; decides nothing.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::files::beside;
use super::{DatabaseError, guard, open_as_it_is};

/// What a path may hold in an SQLite URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Runs `work` on the database as it is now.
///
/// Nobody has it open: then it is read as a file that does not change, and nothing is written beside it. When
/// somebody opens it meanwhile, or has it open already, the side files are theirs and SQLite's usual way is used.
///
/// # Errors
/// The work's own; see [`DatabaseError`].
pub fn look<T>(
    path: &Path,
    work: impl Fn(&Connection) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    let before = stamp(path);
    if before.is_some() && !in_use(path) {
        let result = open_unchanging(path).and_then(|connection| work(&connection));
        if !in_use(path) && stamp(path) == before {
            return result;
        }
    }
    let connection = open_as_it_is(path)?;
    connection.execute_batch("BEGIN").map_err(|error| DatabaseError::sqlite("read", path, error))?;
    work(&connection)
}

/// A log or a journal with something in it, or an index that some process keeps.
fn in_use(path: &Path) -> bool {
    let filled = |suffix| std::fs::metadata(beside(path, suffix)).is_ok_and(|meta| meta.len() > 0);
    filled("-wal") || filled("-journal") || beside(path, "-shm").exists()
}

fn stamp(path: &Path) -> Option<(u64, std::time::SystemTime)> {
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((meta.len(), meta.modified().ok()?))
}

fn open_unchanging(path: &Path) -> Result<Connection, DatabaseError> {
    let absolute = std::path::absolute(path).map_err(|error| DatabaseError::io("find", path, error))?;
    open_uri(&absolute, "?immutable=1").map_err(|error| DatabaseError::sqlite("open", path, error))
}

/// Opens a database of our own for a mere look, and leaves no side files of SQLite's behind: where no log lies beside it
/// nobody writes. `path` is absolute.
///
/// # Errors
/// SQLite's own.
pub fn open_own(path: &Path) -> rusqlite::Result<Connection> {
    let logged = std::fs::metadata(beside(path, "-wal")).is_ok_and(|meta| meta.len() > 0);
    open_uri(path, if logged { "" } else { "?immutable=1" })
}

fn open_uri(path: &Path, query: &str) -> rusqlite::Result<Connection> {
    let encoded = percent_encode(path.as_os_str().as_encoded_bytes(), PATH).to_string();
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{encoded}{query}"), flags)?;
    guard::limit(&connection)?;
    guard::run_nothing(&connection)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::look;
    use crate::database::DatabaseError;
    use rusqlite::Connection;
    use std::path::Path;

    fn count(path: &Path) -> u64 {
        look(path, |connection| {
            connection
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .map_err(|error| DatabaseError::sqlite("count", path, error))
        })
        .unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn f42_nothing_is_left_beside_a_database_that_nobody_uses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("with space?#%.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);").unwrap();
        assert_eq!(count(&path), 1, "rows that are still in the log count");
        let in_use = names(folder.path());
        assert_eq!(in_use.len(), 3, "{in_use:?}");
        drop(writer);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(count(&path), 1);
        assert_eq!(names(folder.path()), ["with space?#%.db"]);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
