//! Which memories does one database hold that another lacks? Rows are compared by natural key, because
//! ids differ from machine to machine and claude-mem's content hashes from version to version. Used where a
//! whole database takes the place of another.

use std::path::Path;

use rusqlite::Connection;

use super::content::{Part, Uid};
use super::{DatabaseError, digest, open_foreign, open_scratch};

/// Rows of one table, by where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDifference {
    /// Table name.
    pub table: String,
    /// Rows that only the local database has.
    pub only_here: u64,
    /// Rows that only the other one has.
    pub only_there: u64,
}

/// How two databases relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same memories.
    Equal,
    /// Everything of theirs is here, and more.
    LocalHasMore,
    /// Everything of ours is there, and more.
    RemoteHasMore,
    /// Each has something that the other lacks.
    Diverged,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Tables that differ.
    pub tables: Vec<TableDifference>,
}

impl Comparison {
    /// The relation of the two.
    pub fn relation(&self) -> Relation {
        let here = self.tables.iter().any(|table| table.only_here > 0);
        let there = self.tables.iter().any(|table| table.only_there > 0);
        match (here, there) {
            (false, false) => Relation::Equal,
            (true, false) => Relation::LocalHasMore,
            (false, true) => Relation::RemoteHasMore,
            (true, true) => Relation::Diverged,
        }
    }

    /// `3 observations, 1 user_prompts`: what only one side has.
    pub fn describe(&self, pick: impl Fn(&TableDifference) -> u64) -> String {
        let parts: Vec<String> = self
            .tables
            .iter()
            .filter(|table| pick(table) > 0)
            .map(|table| format!("{} {}", pick(table), table.table))
            .collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// Compares two databases; `scratch` is an existing empty file for the keys, so that memory stays flat.
///
/// # Errors
/// See [`DatabaseError`].
pub fn compare(local: &Path, remote: &Path, scratch: &Path) -> Result<Comparison, DatabaseError> {
    compare_read(&read(local)?, local, remote, scratch)
}

/// As [`compare`], of the local database as an open transaction sees it.
///
/// # Errors
/// See [`DatabaseError`].
pub fn compare_read(
    local: &Connection,
    path: &Path,
    remote: &Path,
    scratch: &Path,
) -> Result<Comparison, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("compare in", scratch, error);
    let keys = open_scratch(scratch).map_err(fail)?;
    keys.execute_batch(
        "CREATE TABLE here(tab TEXT, key BLOB, PRIMARY KEY (tab, key)) WITHOUT ROWID;
         CREATE TABLE there(tab TEXT, key BLOB, PRIMARY KEY (tab, key)) WITHOUT ROWID;
         BEGIN;",
    )
    .map_err(fail)?;
    collect(local, path, &keys, "here")?;
    collect(&read(remote)?, remote, &keys, "there")?;
    keys.execute_batch("COMMIT").map_err(fail)?;
    differences(&keys).map_err(fail)
}

fn differences(keys: &Connection) -> rusqlite::Result<Comparison> {
    let mut statement = keys.prepare(
        "SELECT tab, sum(here), sum(there) FROM (
           SELECT tab, 1 AS here, 0 AS there FROM here h
             WHERE NOT EXISTS (SELECT 1 FROM there t WHERE t.tab = h.tab AND t.key = h.key)
           UNION ALL
           SELECT tab, 0, 1 FROM there t
             WHERE NOT EXISTS (SELECT 1 FROM here h WHERE h.tab = t.tab AND h.key = t.key)
         ) GROUP BY tab ORDER BY tab",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(TableDifference { table: row.get(0)?, only_here: row.get(1)?, only_there: row.get(2)? })
    })?;
    Ok(Comparison { tables: rows.collect::<rusqlite::Result<_>>()? })
}

/// Opens a database and begins to read.
fn read(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open_foreign(path, false)?;
    connection
        .execute_batch("BEGIN")
        .map_err(|error| DatabaseError::sqlite("read the rows of", path, error))?;
    Ok(connection)
}

fn collect(connection: &Connection, path: &Path, keys: &Connection, side: &str) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("read the rows of", path, error);
    let insert = format!("INSERT OR IGNORE INTO {side} VALUES (?1, ?2)");
    let mut insert = keys.prepare(&insert).map_err(fail)?;
    digest::for_each_row(connection, |table, key, row, _| {
        if insert.execute((table, key))? == 0 {
            // Two rows with one key are two: the second is told by its content.
            insert.execute((table, Uid::of(table, [Some(Part::Bytes(&key.0)), Some(Part::Bytes(&row))])))?;
        }
        Ok(())
    })
    .map_err(fail)
}
