//! What a connection of ours may be made to do. A schema can come from anybody who can write to the bucket, so it is data
//! to us: nothing in it runs where we do not need it, and what it asks for is bounded in size, memory and time (F60).

use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

/// Bytes of one value or row: claude-mem cuts its longest texts at 64 KiB.
const MAX_VALUE: i32 = 64 << 20;
/// Bytes of a statement, those of a schema included.
const MAX_STATEMENT: i32 = 1 << 20;
/// Bytes that SQLite may allocate in this process: a board has 512 MB.
pub(super) const MAX_MEMORY: u64 = 48 << 20;
/// Steps of SQLite's machine between two looks at the clock.
const LOOK_EVERY: i32 = 20_000;
/// The time that reading a foreign database may take, and more for each of its bytes: 4 MB a second is a slow card.
const TIME: Duration = Duration::from_secs(20);
const BYTES_PER_SECOND: u64 = 4 << 20;

/// Sets the limits that every connection has. Before anything reads the schema.
pub(super) fn limit(connection: &Connection) -> rusqlite::Result<()> {
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        // One plan for each statement: without it SQLite prepares some anew for every value that they are given.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
    ] {
        connection.set_db_config(option, on)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_STATEMENT),
        (Limit::SQLITE_LIMIT_COLUMN, 500),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 500),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 20),
        (Limit::SQLITE_LIMIT_ATTACHED, 4),
    ] {
        connection.set_limit(limit, most)?;
    }
    Ok(())
}

/// Bounds what SQLite may allocate in this process, for good.
///
/// # Errors
/// SQLite's own.
pub fn bound_memory() -> rusqlite::Result<()> {
    let any = Connection::open_in_memory()?;
    any.query_row(&format!("PRAGMA hard_heap_limit = {MAX_MEMORY}"), [], |_| Ok(()))
}

/// Lets no trigger fire and no view be read.
pub(super) fn run_nothing(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.execute_batch("PRAGMA ignore_check_constraints = ON")
}

/// Ends whatever a foreign database of so many bytes makes a connection do when it takes too long.
pub(super) fn end_in_time(connection: &mut Connection, bytes: u64) -> rusqlite::Result<()> {
    // A pattern may take for ever on a short text, and never looks at the clock.
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 4)?;
    let until = Instant::now() + TIME + Duration::from_secs(bytes / BYTES_PER_SECOND);
    connection.progress_handler(LOOK_EVERY, Some(move || Instant::now() > until))
}
