//! What the log had said of each row when a person put an earlier state in place. What others did since, the person has not
//! seen, and it is not theirs to undo.

use rusqlite::{OptionalExtension, params};

use super::desk::Desk;
use super::record::Record;
use super::shadow::{Seen, Shadow, ShadowError};
use super::stamp::Stamp;
use super::verdict::Heard;
use crate::database::content::Print;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS replaced(tab TEXT NOT NULL, uid BLOB NOT NULL, ms INTEGER NOT NULL,
  counter INTEGER NOT NULL, writer BLOB NOT NULL, dead INTEGER NOT NULL, seen BLOB, bare BLOB, PRIMARY KEY(uid, tab)) WITHOUT ROWID;";

/// Keeps what is known, before it is forgotten. A second state that is put in place before any sync adds to the first.
///
/// # Errors
/// SQLite's.
pub fn note(shadow: &Shadow) -> Result<(), ShadowError> {
    let rows =
        "INSERT OR IGNORE INTO replaced SELECT tab, uid, ms, counter, writer, dead, seen, bare FROM rows";
    Ok(shadow.db.execute_batch(&format!("{TABLE} {rows}"))?)
}

/// The log was told.
///
/// # Errors
/// SQLite's.
pub fn forget(shadow: &Shadow) -> Result<(), ShadowError> {
    Ok(shadow.db.execute_batch("DROP TABLE IF EXISTS replaced")?)
}

/// Makes the table, empty, where an older version put the state in place.
///
/// # Errors
/// SQLite's.
pub fn prepare(shadow: &Shadow) -> Result<(), ShadowError> {
    Ok(shadow.db.execute_batch(TABLE)?)
}

/// Whether a record says what was known when the state was put in place. `here`: both prints of the row where it wants to
/// go, without and with a session's state.
///
/// # Errors
/// SQLite's.
pub fn heard(desk: Desk<'_>, record: &Record, here: Option<(Print, Print)>) -> Result<Heard, ShadowError> {
    let sql = "SELECT ms, counter, writer, dead, seen, bare FROM replaced WHERE uid = ?1 AND tab = ?2";
    let mut statement = desk.shadow.db.prepare_cached(sql)?;
    let known = statement
        .query_row(params![record.uid, record.table], |row| {
            let stamp = Stamp(row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((stamp, row.get::<_, bool>(3)?, row.get::<_, Seen>(4)?, row.get::<_, Option<_>>(5)?))
        })
        .optional()?;
    Ok(match (known, here) {
        (None, None) => Heard::Since { untouched: true },
        (None, Some(_)) => Heard::Before,
        (Some((stamp, ..)), _) if record.stamp <= stamp => Heard::Before,
        (Some((_, dead, ..)), None) => Heard::Since { untouched: dead },
        (Some((_, dead, seen, bare)), Some((says, whole))) => {
            let same = bare.map_or_else(|| seen.is(whole), |bare: [u8; 16]| bare == says.0);
            Heard::Since { untouched: same && !dead }
        }
    })
}
