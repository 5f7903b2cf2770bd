//! What is in a database: row counts, tables, schema version. Read from an open connection; decides nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::tables::{Table, quote, require_core, tables};
use super::{DatabaseError, digest};
use crate::progress::Bars;
use crate::sum::Sum;

/// Rows of the core tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named after the tables")]
pub struct Counts {
    pub sdk_sessions: u64,
    pub observations: u64,
    pub session_summaries: u64,
    pub user_prompts: u64,
}

impl Counts {
    /// The same, by the names of the tables.
    pub fn by_table(&self) -> BTreeMap<String, u64> {
        let counts = [self.sdk_sessions, self.observations, self.session_summaries, self.user_prompts];
        super::tables::CORE_TABLES.iter().map(|table| (*table).to_owned()).zip(counts).collect()
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let counts = [self.sdk_sessions, self.observations, self.session_summaries, self.user_prompts];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether there is any row.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// As people read them.
    pub fn describe(&self) -> String {
        format!("{}, {}", counted(self.observations, "observation", "observations"), self.describe_rest())
    }

    /// As people read them, the observations left out.
    pub fn describe_rest(&self) -> String {
        [
            counted(self.session_summaries, "summary", "summaries"),
            counted(self.user_prompts, "prompt", "prompts"),
            counted(self.sdk_sessions, "session", "sessions"),
        ]
        .join(", ")
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Everything that we say about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Rows of the core tables.
    pub counts: Counts,
    /// Tables, virtual ones too, SQLite's own and the shadows of FTS left out; sorted.
    pub tables: Vec<String>,
    /// The highest number in `schema_versions`, where there is one.
    pub schema_version: Option<i64>,
    /// Digest of the memory rows: see [`digest`].
    pub digest: Sum,
}

/// Reads all facts. Takes one pass over the memory rows.
///
/// # Errors
/// A core table is missing; SQLite's own.
pub fn read(connection: &Connection, path: &Path) -> Result<Facts, DatabaseError> {
    read_shown(connection, path, &Bars::default())
}

/// The same, with a bar over the rows where they are many.
///
/// # Errors
/// A core table is missing; SQLite's own.
pub fn read_shown(connection: &Connection, path: &Path, bars: &Bars) -> Result<Facts, DatabaseError> {
    let tables = tables(connection, path)?;
    require_core(&tables, path)?;
    let counts = counts(connection, path)?;
    let progress = bars.rows("reading", counts.total());
    let digest = digest::content_shown(connection, path, &progress)?;
    progress.done();
    Ok(Facts {
        counts,
        schema_version: schema_version(connection, &tables, path)?,
        digest,
        tables: tables.into_iter().map(|table| table.name).collect(),
    })
}

/// Counts the rows of the core tables.
///
/// # Errors
/// SQLite's own.
pub fn counts(connection: &Connection, path: &Path) -> Result<Counts, DatabaseError> {
    let count = |table: &str| -> Result<u64, DatabaseError> {
        let query = format!("SELECT count(*) FROM {}", quote(table));
        connection
            .query_row(&query, [], |row| row.get(0))
            .map_err(|error| DatabaseError::sqlite("count the rows of", path, error))
    };
    Ok(Counts {
        sdk_sessions: count("sdk_sessions")?,
        observations: count("observations")?,
        session_summaries: count("session_summaries")?,
        user_prompts: count("user_prompts")?,
    })
}

/// The highest number in `schema_versions`, where there is one.
///
/// # Errors
/// SQLite's own.
pub fn schema_version(
    connection: &Connection,
    tables: &[Table],
    path: &Path,
) -> Result<Option<i64>, DatabaseError> {
    if !tables.iter().any(|table| table.name == "schema_versions") {
        return Ok(None);
    }
    connection
        .query_row("SELECT max(version) FROM schema_versions", [], |row| row.get(0))
        .map_err(|error| DatabaseError::sqlite("read the schema version of", path, error))
}
