//! Sessions that were deleted elsewhere and stayed here because rows hung on them: once nothing does, they go too.

use super::RowsError;
use super::compose;
use super::desk::Desk;
use super::shadow::ShadowError;
use crate::database::content::Uid;

/// Those on which no row hangs any more, with their local ids.
///
/// # Errors
/// See [`RowsError`].
pub fn list(desk: Desk<'_>) -> Result<Vec<(Uid, Option<i64>)>, RowsError> {
    let sql = "SELECT uid, lid FROM rows WHERE mark = 1 AND NOT dead AND tab = 'sdk_sessions'";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(ShadowError)?;
    let kept: Vec<(Uid, Option<i64>)> = rows.collect::<rusqlite::Result<_>>().map_err(ShadowError)?;
    let mut empty = Vec::new();
    for (uid, lid) in kept {
        if !lid.map_or(Ok(false), |lid| compose::has_children(desk.live, lid))? {
            empty.push((uid, lid));
        }
    }
    Ok(empty)
}

/// They go without being published: the log has them as deleted.
///
/// # Errors
/// See [`RowsError`].
pub fn remove(desk: Desk<'_>) -> Result<(), RowsError> {
    for (uid, lid) in list(desk)? {
        if let Some(lid) = lid {
            desk.live.db.execute("DELETE FROM main.sdk_sessions WHERE id = ?1", [lid])?;
        }
        let sql = "UPDATE rows SET dead = 1, lid = NULL, mark = 0 WHERE uid = ?1 AND tab = 'sdk_sessions'";
        desk.shadow.db.execute(sql, [uid]).map_err(ShadowError)?;
    }
    Ok(())
}
