//! What changed from one database to another, row by row: added, changed, removed, by natural key: the
//! columns that name a row on every machine. Reads both, changes neither.

use std::path::Path;

use rusqlite::Connection;

use super::{DatabaseError, digest, open_foreign};

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableChange {
    /// Table name.
    pub table: String,
    /// Rows that only the newer database has.
    pub added: u64,
    /// Rows of both, with other content.
    pub changed: u64,
    /// Rows that only the older database has.
    pub removed: u64,
}

/// Compares two databases; `scratch` is an existing empty file for keys and digests, so that memory stays flat.
/// Tables without a difference are left out.
///
/// # Errors
/// See [`DatabaseError`].
pub fn between(older: &Path, newer: &Path, scratch: &Path) -> Result<Vec<TableChange>, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("compare in", scratch, error);
    let rows = Connection::open(scratch).map_err(fail)?;
    rows.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4000; PRAGMA temp_store = FILE;
         CREATE TABLE old(tab TEXT, key BLOB, row BLOB, PRIMARY KEY (tab, key, row)) WITHOUT ROWID;
         CREATE TABLE new(tab TEXT, key BLOB, row BLOB, PRIMARY KEY (tab, key, row)) WITHOUT ROWID;
         BEGIN;",
    )
    .map_err(fail)?;
    collect(older, &rows, "old")?;
    collect(newer, &rows, "new")?;
    rows.execute_batch("COMMIT").map_err(fail)?;
    differences(&rows).map_err(fail)
}

fn differences(rows: &Connection) -> rusqlite::Result<Vec<TableChange>> {
    let mut statement = rows.prepare(
        "SELECT tab, sum(added), sum(changed), sum(removed) FROM (
           SELECT tab, 1 AS added, 0 AS changed, 0 AS removed FROM new n
             WHERE NOT EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key)
           UNION ALL
           SELECT tab, 0, 1, 0 FROM new n
             WHERE EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key)
               AND NOT EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key AND o.row = n.row)
           UNION ALL
           SELECT tab, 0, 0, 1 FROM old o
             WHERE NOT EXISTS (SELECT 1 FROM new n WHERE n.tab = o.tab AND n.key = o.key)
         ) GROUP BY tab ORDER BY tab",
    )?;
    let changes = statement.query_map([], |row| {
        Ok(TableChange { table: row.get(0)?, added: row.get(1)?, changed: row.get(2)?, removed: row.get(3)? })
    })?;
    changes.collect()
}

fn collect(path: &Path, rows: &Connection, side: &str) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("read the rows of", path, error);
    let connection = open_foreign(path, false)?;
    connection.execute_batch("BEGIN").map_err(fail)?;
    let insert = format!("INSERT OR IGNORE INTO {side} VALUES (?1, ?2, ?3)");
    let mut insert = rows.prepare(&insert).map_err(fail)?;
    digest::for_each_row(&connection, |table, key, row| {
        insert.execute((table, key, row.as_slice())).map(|_| ())
    })
    .map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::between;
    use rusqlite::Connection;

    #[test]
    fn rows_are_added_changed_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, sql: &str| {
            let path = folder.path().join(name);
            let base = "CREATE TABLE user_prompts(id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_number INTEGER, prompt_text TEXT);
                 CREATE TABLE notes(x TEXT); CREATE TABLE pending_messages(x);";
            Connection::open(&path).unwrap().execute_batch(&format!("{base}{sql}")).unwrap();
            path
        };
        let old = make(
            "old",
            "INSERT INTO user_prompts VALUES(1,'s',1,'same'),(2,'s',2,'before'),(3,'s',3,'goes'); INSERT INTO notes VALUES('n');",
        );
        let new = make(
            "new",
            "INSERT INTO user_prompts VALUES(9,'s',1,'same'),(2,'s',2,'after'),(4,'s',4,'new'),(5,'s',NULL,'newer');
             INSERT INTO notes VALUES('m'),('n'); INSERT INTO pending_messages VALUES(1);",
        );
        let changes = |a, b| {
            let scratch = tempfile::NamedTempFile::new().unwrap();
            let changes = between(a, b, scratch.path()).unwrap();
            changes
                .into_iter()
                .map(|c| format!("{} +{} ~{} -{}", c.table, c.added, c.changed, c.removed))
                .collect::<Vec<_>>()
        };
        assert_eq!(changes(&old, &new), ["notes +1 ~0 -0", "user_prompts +2 ~1 -1"]);
        assert_eq!(changes(&new, &old), ["notes +0 ~0 -1", "user_prompts +1 ~1 -2"]);
        assert!(changes(&old, &old).is_empty());
    }
}
