//! The worker's queue (`pending_messages`) belongs to the machine, not to the memory: what waits here must still
//! wait after a pull, and what waited on the machine that pushed must not be done twice. Works on an image before
//! it is installed.

use std::path::Path;

use super::tables::{columns, quote};
use super::{DatabaseError, open_foreign};

/// Replaces the queue in `image` by that of the local database. Rows are copied by column name; a row whose
/// session the image does not have cannot be kept there and is counted in the answer.
///
/// # Errors
/// See [`DatabaseError`].
pub fn carry_over(local: &Path, image: &Path) -> Result<u64, DatabaseError> {
    let connection = open_foreign(image, true)?;
    carry(&connection, local).map_err(|error| DatabaseError::sqlite("carry the queue into", image, error))
}

/// Empties the queue of an image that becomes a machine's first database.
///
/// # Errors
/// See [`DatabaseError`].
pub fn empty(image: &Path) -> Result<(), DatabaseError> {
    let connection = open_foreign(image, true)?;
    let emptied = || -> rusqlite::Result<()> {
        if !has(&connection, "main")? {
            return Ok(());
        }
        connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA foreign_keys = OFF;")?;
        connection.execute("DELETE FROM main.pending_messages", []).map(drop)
    };
    emptied().map_err(|error| DatabaseError::sqlite("empty the queue of", image, error))
}

fn has(connection: &rusqlite::Connection, schema: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM pragma_table_list WHERE schema = ?1 AND name = 'pending_messages'";
    connection.query_row(sql, [schema], |row| row.get(0))
}

fn carry(connection: &rusqlite::Connection, local: &Path) -> rusqlite::Result<u64> {
    connection.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA foreign_keys = OFF;")?;
    if !has(connection, "main")? {
        return Ok(0);
    }
    connection.execute("ATTACH ?1 AS local", [local.to_string_lossy()])?;
    let queue_here = has(connection, "local")?;
    // Not IMMEDIATE: that would ask for a write lock on the local database too, which our own install holds.
    connection.execute_batch("BEGIN; DELETE FROM main.pending_messages;")?;
    let mut left = 0;
    if queue_here {
        let theirs = columns(connection, "main", "pending_messages")?;
        let mut shared = columns(connection, "local", "pending_messages")?;
        shared.retain(|name| theirs.contains(name) && name != "id" && name != "session_db_id");
        let names = shared.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let values = shared.iter().map(|name| format!("p.{}", quote(name))).collect::<Vec<_>>().join(", ");
        let copied = connection.execute(
            &format!(
                "INSERT INTO main.pending_messages (session_db_id, {names}) SELECT s.id, {values} \
                 FROM local.pending_messages p JOIN main.sdk_sessions s ON s.id = \
                   (SELECT min(id) FROM main.sdk_sessions WHERE content_session_id = p.content_session_id) \
                 ORDER BY p.id"
            ),
            [],
        )?;
        let all: u64 =
            connection.query_row("SELECT count(*) FROM local.pending_messages", [], |row| row.get(0))?;
        left = all.saturating_sub(copied as u64);
    }
    connection.execute_batch("COMMIT; DETACH local;")?;
    Ok(left)
}
