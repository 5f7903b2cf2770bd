//! The tables of a database and how SQL names them and their columns. Knows nothing of rows.

use std::path::Path;

use rusqlite::Connection;

use super::DatabaseError;

/// Tables that every release of claude-mem has, and without which a database is not its.
pub const CORE_TABLES: [&str; 4] = ["sdk_sessions", "observations", "session_summaries", "user_prompts"];

/// One table by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Made with `CREATE VIRTUAL TABLE`.
    pub is_virtual: bool,
}

/// The tables of the main schema, without SQLite's own and the shadows of virtual ones; sorted by name.
///
/// # Errors
/// SQLite's own.
pub fn tables(connection: &Connection, path: &Path) -> Result<Vec<Table>, DatabaseError> {
    let list = || -> rusqlite::Result<Vec<Table>> {
        let mut statement = connection.prepare(
            "SELECT name, type = 'virtual' FROM pragma_table_list \
             WHERE schema = 'main' AND type IN ('table', 'virtual') AND substr(name, 1, 7) <> 'sqlite_' \
             ORDER BY name",
        )?;
        let rows = statement.query_map([], |row| Ok(Table { name: row.get(0)?, is_virtual: row.get(1)? }))?;
        rows.collect()
    };
    list().map_err(|error| DatabaseError::sqlite("list the tables of", path, error))
}

/// Refuses a database that is not claude-mem's.
///
/// # Errors
/// [`DatabaseError::MissingTables`].
pub fn require_core(tables: &[Table], path: &Path) -> Result<(), DatabaseError> {
    let missing: Vec<&str> = CORE_TABLES
        .into_iter()
        .filter(|core| !tables.iter().any(|table| table.name == *core && !table.is_virtual))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DatabaseError::MissingTables { path: path.to_owned(), tables: missing.join(", ") })
}

/// The columns of a table, in its own order.
///
/// # Errors
/// SQLite's own.
pub fn columns(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1, ?2)")?;
    let rows = statement.query_map([table, schema], |row| row.get(0))?;
    rows.collect()
}

/// A name as SQL takes it, whatever is in it (F39).
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
