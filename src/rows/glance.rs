//! What a look at our own record of the log tells, for status and doctor: asks no store, changes nothing, reads a few
//! numbers.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::RowsError;
use super::ahead::{self, Lately, Next};
use super::holes::{self, Holes};
use super::outbox::Outbox;
use super::places::Places;
use super::report::{Standing, Tally};
use super::shadow::ShadowError;
use super::stamp::Writer;
use crate::database::files;
use crate::database::look::{look, open_own};
use crate::database::tables::tables;
use crate::database::{DatabaseError, tables};

/// How a database stands in the log (`None`: it has never synced), and what was recorded in it since the last scan, told by
/// the ids that were given since.
///
/// # Errors
/// Our record of it, or the database, cannot be read.
pub fn glance(
    state: &Path,
    store: &str,
    cid: &str,
    database: &Path,
) -> Result<(Option<Standing>, Tally), RowsError> {
    let places = Places::new(state, store, cid, database);
    if !places.shadow.exists() {
        return Ok((None, Tally::default()));
    }
    let shadow = open_own(&places.shadow).map_err(ShadowError)?;
    let standing = standing(&shadow, &places).map_err(ShadowError)?;
    let highs = highs(&shadow).map_err(ShadowError)?;
    let unsent = if files::has_content(database) { unsent(database, &highs)? } else { Tally::default() };
    Ok((standing, unsent))
}

/// This installation and the version of its node record as it put it last; `None`: it has put none, or cannot say.
pub fn announced(state: &Path, store: &str, cid: &str, database: &Path) -> Option<(Writer, String)> {
    let places = Places::new(state, store, cid, database);
    if !places.shadow.exists() {
        return None;
    }
    let shadow = open_own(&places.shadow).ok()?;
    let writer: String = meta(&shadow, "writer")?;
    Some((writer.parse().ok()?, meta(&shadow, "node_etag")?))
}

/// The segments that may come next, of the machines that were heard of last; `None`: nothing was synced to the end.
pub fn lately(state: &Path, store: &str, cid: &str, database: &Path) -> Option<Vec<Next>> {
    let places = Places::new(state, store, cid, database);
    let shadow = places.shadow.exists().then(|| open_own(&places.shadow).ok()).flatten()?;
    let lately: Lately = meta(&shadow, ahead::LATELY)?;
    let synced: bool = meta(&shadow, "synced")?;
    let collected = |writer: Writer| {
        let sql = "SELECT number FROM writers WHERE writer = ?1";
        shadow.query_row(sql, [writer], |row| row.get(0)).ok()
    };
    synced.then(|| lately.next(collected))
}

fn meta<T: DeserializeOwned>(shadow: &Connection, name: &str) -> Option<T> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    let text: String = shadow.query_row(sql, [name], |row| row.get(0)).ok()?;
    serde_json::from_str(&text).ok()
}

/// How the database of a shadow stands; `None`: it has never synced to the end.
///
/// # Errors
/// The shadow's.
pub fn standing(shadow: &Connection, places: &Places) -> rusqlite::Result<Option<Standing>> {
    let get = |name: &str| -> rusqlite::Result<Option<serde_json::Value>> {
        let mut statement = shadow.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        let mut rows = statement.query([name])?;
        let text: Option<String> = rows.next()?.map(|row| row.get(0)).transpose()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    };
    let counted = |sql: &str| -> rusqlite::Result<BTreeMap<String, u64>> {
        let mut statement = shadow.prepare_cached(sql)?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let writer: Option<Writer> = get("writer")?.and_then(|value| serde_json::from_value(value).ok());
    let mut seen = shadow.prepare_cached("SELECT writer, number FROM writers WHERE number > 0")?;
    let seen = seen.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut ahead = shadow.prepare_cached("SELECT writer FROM writers WHERE ahead")?;
    let ahead = ahead.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let conflicts = std::fs::read_dir(&places.conflicts).map_or(0, |entries| entries.flatten().count());
    let holes = get(holes::NAME)?.and_then(|value| serde_json::from_value::<Holes>(value).ok());
    let holes = holes.unwrap_or_default();
    let synced = get("synced")?.is_some_and(|value| value == true);
    Ok(synced.then_some(Standing {
        writer,
        segment: get("published")?.and_then(|value| value.as_u64()).unwrap_or(0),
        seen,
        waiting: counted("SELECT reason, count(*) FROM waiting GROUP BY reason")?,
        held: Tally(counted("SELECT tab, count(*) FROM rows WHERE held AND NOT dead GROUP BY tab")?),
        conflicts: conflicts as u64,
        damaged: holes.damaged.into_iter().map(|damaged| damaged.problem).collect(),
        whole_scan_ms: get("whole_ms")?.and_then(|value| value.as_i64()),
        outbox: get("outbox")?.and_then(|value| serde_json::from_value::<Outbox>(value).ok()).is_some(),
        unembedded: shadow.query_row("SELECT count(*) FROM unembedded", [], |row| row.get(0))?,
        folds: get("folds")?.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default(),
        ahead,
    }))
}

fn highs(shadow: &Connection) -> rusqlite::Result<BTreeMap<String, i64>> {
    let mut statement = shadow.prepare("SELECT tab, high FROM highs")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Rows with ids that were given since, in the tables that a scan knows.
fn unsent(database: &Path, highs: &BTreeMap<String, i64>) -> Result<Tally, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("count the new rows of", database, error);
    look(database, |connection| {
        let mut unsent = Tally::default();
        let core = tables(connection, database)?;
        let core = core.iter().filter(|table| tables::CORE_TABLES.contains(&table.name.as_str()));
        for table in core {
            let high = highs.get(&table.name).copied().unwrap_or(0);
            let sql = format!("SELECT count(*) FROM {} WHERE rowid > ?1", tables::quote(&table.name));
            let count = connection.query_row(&sql, [high], |row| row.get(0)).map_err(fail)?;
            unsent.add_many(&table.name, count);
        }
        Ok(unsent)
    })
}
