//! Rows of which the log is to be asked what it says, because it knows better than this machine. A list of one run, in the
//! scratch tables; who asks, and what becomes of the answer, is others' business.

use rusqlite::{OptionalExtension, params};

use super::RowsError;
use super::desk::Desk;
use super::shadow::ShadowError;
use crate::database::content::Uid;

/// Puts a row on the list.
///
/// # Errors
/// The shadow's.
pub fn note(desk: Desk<'_>, table: &str, uid: Uid) -> Result<(), RowsError> {
    let sql = "INSERT OR IGNORE INTO temp.asked VALUES (?1, ?2)";
    desk.shadow
        .db
        .prepare_cached(sql)
        .and_then(|mut insert| insert.execute(params![table, uid]))
        .map_err(ShadowError)?;
    Ok(())
}

/// Whether anything is on it.
///
/// # Errors
/// The shadow's.
pub fn is_any(desk: Desk<'_>) -> Result<bool, ShadowError> {
    let sql = "SELECT 1 FROM temp.asked LIMIT 1";
    Ok(desk.shadow.db.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}

/// Whether this row is on it.
///
/// # Errors
/// The shadow's.
pub fn has(desk: Desk<'_>, table: &str, uid: Uid) -> Result<bool, ShadowError> {
    let sql = "SELECT 1 FROM temp.asked WHERE uid = ?1 AND tab = ?2";
    let mut statement = desk.shadow.db.prepare_cached(sql)?;
    Ok(statement.query_row(params![uid, table], |_| Ok(())).optional()?.is_some())
}
