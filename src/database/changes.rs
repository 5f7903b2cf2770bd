//! What changed from one database to another, row by row: added, changed, removed, by natural key: the
//! columns that name a row on every machine. Reads both, changes neither.

use std::path::Path;

use rusqlite::Connection;

use super::content::{Content, birth};
use super::{DatabaseError, digest, open_foreign, open_scratch};

/// What rows are called, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Titles {
    /// Of those that were added.
    #[serde(rename = "added_titles")]
    pub added: Vec<String>,
    /// Of those that changed, as they are now.
    #[serde(rename = "changed_titles")]
    pub changed: Vec<String>,
    /// Of those that were removed.
    #[serde(rename = "removed_titles")]
    pub removed: Vec<String>,
}

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
    /// What some of them are called.
    #[serde(flatten)]
    pub titles: Titles,
}

/// Compares two databases; `scratch` is an existing empty file for keys and digests, so that memory stays flat.
/// Tables without a difference are left out. `titles`: how many are told of each table and kind of change.
///
/// # Errors
/// See [`DatabaseError`].
pub fn between(
    older: &Path,
    newer: &Path,
    scratch: &Path,
    titles: u32,
) -> Result<Vec<TableChange>, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("compare in", scratch, error);
    let rows = open_scratch(scratch).map_err(fail)?;
    rows.execute_batch(
        "CREATE TABLE old(tab TEXT, key BLOB, row BLOB, born INTEGER, title TEXT, PRIMARY KEY (tab, key, row)) WITHOUT ROWID;
         CREATE TABLE new(tab TEXT, key BLOB, row BLOB, born INTEGER, title TEXT, PRIMARY KEY (tab, key, row)) WITHOUT ROWID;
         BEGIN;",
    )
    .map_err(fail)?;
    collect(older, &rows, "old", titles > 0)?;
    collect(newer, &rows, "new", titles > 0)?;
    rows.execute_batch("COMMIT").map_err(fail)?;
    let mut changes = differences(&rows).map_err(fail)?;
    for change in changes.iter_mut().filter(|_| titles > 0) {
        let of = |sql| titles_of(&rows, sql, &change.table, titles).map_err(fail);
        change.titles = Titles { added: of(ADDED)?, changed: of(CHANGED)?, removed: of(REMOVED)? };
    }
    Ok(changes)
}

const ADDED: &str = "new AS n WHERE NOT EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key)";
const CHANGED: &str = "new AS n WHERE EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key) \
     AND NOT EXISTS (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key AND o.row = n.row)";
const REMOVED: &str = "old AS n WHERE NOT EXISTS (SELECT 1 FROM new o WHERE o.tab = n.tab AND o.key = n.key)";

fn titles_of(rows: &Connection, which: &str, table: &str, most: u32) -> rusqlite::Result<Vec<String>> {
    let sql = format!(
        "SELECT title FROM {which} AND n.tab = ?1 AND title IS NOT NULL ORDER BY born, title LIMIT ?2"
    );
    let mut statement = rows.prepare(&sql)?;
    let titles = statement.query_map((table, most), |row| row.get(0))?;
    titles.collect()
}

fn differences(rows: &Connection) -> rusqlite::Result<Vec<TableChange>> {
    // Several rows of one key are told apart by their content: one that went is seen although another one of its key stays.
    let mut statement = rows.prepare(
        "SELECT tab, sum(max(came - went, 0)), sum(min(came, went)), sum(max(went - came, 0)) FROM (
           SELECT tab, key, sum(came) AS came, sum(went) AS went FROM (
             SELECT tab, key, 1 AS came, 0 AS went FROM new AS n WHERE NOT EXISTS
               (SELECT 1 FROM old o WHERE o.tab = n.tab AND o.key = n.key AND o.row = n.row)
             UNION ALL SELECT tab, key, 0, 1 FROM old AS o WHERE NOT EXISTS
               (SELECT 1 FROM new n WHERE n.tab = o.tab AND n.key = o.key AND n.row = o.row)
           ) GROUP BY tab, key
         ) GROUP BY tab ORDER BY tab",
    )?;
    let changes = statement.query_map([], |row| {
        Ok(TableChange {
            table: row.get(0)?,
            added: row.get(1)?,
            changed: row.get(2)?,
            removed: row.get(3)?,
            titles: Titles::default(),
        })
    })?;
    changes.collect()
}

fn collect(path: &Path, rows: &Connection, side: &str, titles: bool) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("read the rows of", path, error);
    let connection = open_foreign(path, false)?;
    connection.execute_batch("BEGIN").map_err(fail)?;
    let insert = format!("INSERT OR IGNORE INTO {side} VALUES (?1, ?2, ?3, ?4, ?5)");
    let mut insert = rows.prepare(&insert).map_err(fail)?;
    digest::for_each_row(&connection, |table, key, row, content| {
        let content = content.filter(|_| titles);
        let born = content.map(|content| {
            let columns = ["created_at_epoch", "started_at_epoch"];
            birth(columns.into_iter().find_map(|name| content.get(name)))
        });
        let title = content.and_then(Content::title);
        insert.execute((table, key, row.bytes().as_slice(), born, title)).map(|_| ())
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
            let changes = between(a, b, scratch.path(), 2).unwrap();
            changes
                .into_iter()
                .map(|c| format!("{} +{} ~{} -{}", c.table, c.added, c.changed, c.removed))
                .collect::<Vec<_>>()
        };
        assert_eq!(changes(&old, &new), ["notes +1 ~0 -0", "user_prompts +2 ~1 -1"]);
        assert_eq!(changes(&new, &old), ["notes +0 ~0 -1", "user_prompts +1 ~1 -2"]);
        assert!(changes(&old, &old).is_empty());
        let twins = make("twins", "INSERT INTO user_prompts VALUES(1,'s',1,'same'),(2,'s',1,'another');");
        let one = make("one", "INSERT INTO user_prompts VALUES(1,'s',1,'same');");
        assert_eq!(changes(&twins, &one), ["user_prompts +0 ~0 -1"], "f58: of two rows of one key one went");
        assert_eq!(changes(&one, &twins), ["user_prompts +1 ~0 -0"]);
        let scratch = tempfile::NamedTempFile::new().unwrap();
        let told = between(&old, &new, scratch.path(), 1).unwrap().pop().unwrap().titles;
        assert_eq!(
            (told.added.len(), told.changed, told.removed),
            (1, vec!["after".into()], vec!["goes".into()])
        );
        let scratch = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            between(&old, &new, scratch.path(), 0).unwrap().pop().unwrap().titles,
            super::Titles::default()
        );
    }
}
