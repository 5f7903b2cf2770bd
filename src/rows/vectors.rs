//! Which rows that arrived claude-mem's search may not find: it asks its vector store, and embeds by itself only what its
//! worker recorded or what lies above the last id that it knows. Notes ids in the shadow; what is done with them is the
//! worker's business.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::RowsError;
use super::shadow::{Did, Entry, Shadow, ShadowError};
use crate::database::DatabaseError;
use crate::database::look::look;
use crate::worker::watermarks::{Foreign, Kind};

/// What is embedded of a table, and how a row of it names its project.
fn embedded(table: &str) -> Option<(Kind, &'static str)> {
    match table {
        "observations" => Some((Kind::Observations, "SELECT project FROM observations WHERE id = ?1")),
        "session_summaries" => Some((Kind::Summaries, "SELECT project FROM session_summaries WHERE id = ?1")),
        "user_prompts" => Some((
            Kind::Prompts,
            "SELECT s.project FROM user_prompts p JOIN sdk_sessions s USING (content_session_id) WHERE p.id = ?1",
        )),
        _ => None,
    }
}

/// Notes a row that is new here, as a part of the transaction at hand.
///
/// # Errors
/// The shadow's.
pub fn note(shadow: &Shadow, did: Did, entry: &Entry) -> Result<(), ShadowError> {
    if let (Did::New, Some(lid), Some(_)) = (did, entry.lid, embedded(&entry.table)) {
        let sql = "INSERT OR IGNORE INTO unembedded VALUES (?1, ?2)";
        shadow.db.prepare_cached(sql)?.execute(params![entry.table, lid])?;
    }
    Ok(())
}

/// The noted rows that are still in the database.
///
/// # Errors
/// The shadow's; the database cannot be read.
pub fn list(shadow: &Shadow, database: &Path) -> Result<Vec<Foreign>, RowsError> {
    let mut statement = shadow.db.prepare("SELECT tab, lid FROM unembedded").map_err(ShadowError)?;
    let noted = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(ShadowError)?;
    let noted: Vec<(String, i64)> = noted.collect::<rusqlite::Result<_>>().map_err(ShadowError)?;
    if noted.is_empty() {
        return Ok(Vec::new());
    }
    let fail = |error| DatabaseError::sqlite("read the projects of new rows in", database, error);
    Ok(look(database, |live| {
        let found = noted.iter().map(|(table, id)| foreign(live, table, *id).map_err(fail));
        found.filter_map(Result::transpose).collect()
    })?)
}

fn foreign(live: &Connection, table: &str, id: i64) -> rusqlite::Result<Option<Foreign>> {
    let Some((kind, sql)) = embedded(table) else { return Ok(None) };
    let project =
        live.prepare_cached(sql)?.query_row([id], |row| row.get::<_, Option<String>>(0)).optional()?;
    Ok(project.flatten().map(|project| Foreign { project, kind, id }))
}

/// Forgets all of them.
///
/// # Errors
/// The shadow's.
pub fn forget(shadow: &Shadow) -> Result<(), ShadowError> {
    shadow.db.execute("DELETE FROM unembedded", [])?;
    Ok(())
}
