//! SQLite's own full check, read for what it means: damaged rows are one thing, a damaged search index over whole rows is
//! another, and an extension that is not here is a third.

use std::path::Path;

use rusqlite::Connection;

use super::tables::quote;
use super::{DatabaseError, open_foreign};
use crate::visible::{shell_path, shell_word};

/// Complaints that are read: the first of the rows decides, wherever it stands.
const COMPLAINTS: u32 = 100;

/// Checks everything but CHECK constraints. Returns the search indexes that are damaged although all rows are whole:
/// [`rebuild`] makes them anew from the rows.
///
/// # Errors
/// [`DatabaseError::Damaged`] with the first complaint about anything else.
pub fn integrity_check(connection: &Connection, path: &Path) -> Result<Vec<String>, DatabaseError> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({COMPLAINTS})"))?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    };
    let complaints = match read().map_err(|error| DatabaseError::sqlite("check", path, error)) {
        Err(DatabaseError::Extension { path, problem }) => {
            let problem = named(connection, &problem);
            return Err(DatabaseError::Extension { path, problem });
        }
        other => other?,
    };
    let mut damaged = Vec::new();
    for complaint in complaints.iter().filter(|complaint| *complaint != "ok") {
        match search_index(complaint) {
            Some(index) if !damaged.iter().any(|known| known == index) => damaged.push(index.to_owned()),
            Some(_) => {}
            None => {
                let problem = format!("integrity check: {complaint}");
                return Err(DatabaseError::Damaged { path: path.to_owned(), problem });
            }
        }
    }
    Ok(damaged)
}

/// Checks a compacted copy of a database that was checked whole: its tables and their indexes, which were made anew. What a
/// search index says lies in tables too, and is as it was; `damaged` indexes are made anew from their rows.
///
/// # Errors
/// [`DatabaseError::Damaged`] with the first complaint.
pub fn check_compact(compact: &Path, damaged: &[String]) -> Result<(), DatabaseError> {
    let connection = open_foreign(compact, !damaged.is_empty())?;
    rebuild(&connection, damaged).map_err(|error| DatabaseError::sqlite("rebuild", compact, error))?;
    let fail = |error| DatabaseError::sqlite("check", compact, error);
    let mut names = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        .map_err(fail)?;
    let mut names = names.query([]).map_err(fail)?;
    while let Some(name) = names.next().map_err(fail)? {
        let name: String = name.get(0).map_err(fail)?;
        let check = format!("PRAGMA integrity_check({})", quote(&name));
        let complaint: String = connection.query_row(&check, [], |row| row.get(0)).map_err(fail)?;
        if complaint != "ok" {
            let problem = format!("integrity check: {complaint}");
            return Err(DatabaseError::Damaged { path: compact.to_owned(), problem });
        }
    }
    Ok(())
}

/// Makes search indexes anew from the rows that they are about.
///
/// # Errors
/// SQLite's own.
pub(super) fn rebuild(connection: &Connection, indexes: &[String]) -> rusqlite::Result<()> {
    for index in indexes {
        let name = quote(index);
        connection.execute(&format!("INSERT INTO {name}({name}) VALUES ('rebuild')"), [])?;
    }
    Ok(())
}

/// What a person types to have a search index made anew.
pub fn rebuild_command(database: &Path, index: &str) -> String {
    let statement = if index.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        format!("\"INSERT INTO {index}({index}) VALUES('rebuild')\"")
    } else {
        let name = quote(index);
        shell_word(&format!("INSERT INTO {name}({name}) VALUES('rebuild')"))
    };
    format!("sqlite3 {} {statement}", shell_path(database))
}

/// The FTS5 table that a complaint of the full check is about.
fn search_index(complaint: &str) -> Option<&str> {
    if let Some((_, name)) = complaint.split_once("FTS5 table main.") {
        return name.split(|c: char| !c.is_alphanumeric() && c != '_').next();
    }
    let (_, name) = complaint.strip_prefix("fts5: ")?.split_once("table \"")?;
    name.split('"').next()
}

/// Adds which table of the schema it is that needs what is missing.
fn named(connection: &Connection, problem: &str) -> String {
    let missing = problem.rsplit(": ").next().unwrap_or_default();
    let table = connection.query_row(
        "SELECT tbl_name FROM sqlite_schema WHERE instr(lower(sql), lower(?1)) > 0 ORDER BY rowid LIMIT 1",
        [missing],
        |row| row.get::<_, String>(0),
    );
    match table {
        Ok(table) if table != missing => format!("{problem} (table {table})"),
        _ => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_compact, search_index};
    use crate::database::DatabaseError;
    use rusqlite::Connection;

    #[test]
    fn a_compact_copy_is_checked_table_by_table_and_its_damaged_index_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "CREATE TABLE \"it's\"(a TEXT, b TEXT); CREATE INDEX i ON \"it's\"(a);
             CREATE VIRTUAL TABLE f USING fts5(b, content='it''s');
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300)
             INSERT INTO \"it's\" SELECT i, 'word' || i FROM n;
             INSERT INTO f(f) VALUES ('rebuild');
             UPDATE f_data SET block = x'00ff00ff' WHERE id > 10;",
        )
        .unwrap();
        let found = || -> i64 {
            Connection::open(&path)
                .and_then(|db| db.query_row("SELECT count(*) FROM f('word7')", [], |row| row.get(0)))
                .unwrap_or(-1)
        };
        check_compact(&path, &[]).unwrap();
        assert_ne!(found(), 1, "the damage is there, and not looked for");
        check_compact(&path, &["f".to_owned()]).unwrap();
        assert_eq!(found(), 1);
        // An index whose rows are others'.
        db.execute_batch(
            "CREATE TABLE other(a TEXT); CREATE INDEX o ON other(a); PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'o') WHERE name = 'i';",
        )
        .unwrap();
        assert!(matches!(check_compact(&path, &[]), Err(DatabaseError::Damaged { .. })));
    }

    #[test]
    fn a_complaint_about_a_search_index_is_not_one_about_rows() {
        for (complaint, index) in [
            ("malformed inverted index for FTS5 table main.observations_fts", Some("observations_fts")),
            (
                "unable to validate the inverted index for FTS5 table main.x_fts: database disk image is malformed",
                Some("x_fts"),
            ),
            (
                "fts5: corruption found reading blob 137438953473 from table \"observations_fts\"",
                Some("observations_fts"),
            ),
            ("row 3 missing from index i", None),
            ("Tree 4 page 12: btreeInitPage() returns error code 11", None),
        ] {
            assert_eq!(search_index(complaint), index, "{complaint}");
        }
    }
}
