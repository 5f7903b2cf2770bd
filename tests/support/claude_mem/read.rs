//! Looks into any claude-mem database without changing what it holds.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Row counts of the core tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    pub observations: i64,
    pub session_summaries: i64,
    pub user_prompts: i64,
    pub sdk_sessions: i64,
}

fn open(path: &Path) -> Connection {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    db.busy_timeout(Duration::from_secs(10)).expect("set a timeout");
    db
}

fn single<T: rusqlite::types::FromSql>(db: &Connection, sql: &str) -> T {
    db.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn counts(path: impl AsRef<Path>) -> Counts {
    let db = open(path.as_ref());
    let of = |table: &str| single(&db, &format!("SELECT count(*) FROM {table}"));
    Counts {
        observations: of("observations"),
        session_summaries: of("session_summaries"),
        user_prompts: of("user_prompts"),
        sdk_sessions: of("sdk_sessions"),
    }
}

/// Titles of the observations, in the order of their ids.
pub fn titles(path: impl AsRef<Path>) -> Vec<String> {
    let db = open(path.as_ref());
    let mut query = db.prepare("SELECT title FROM observations ORDER BY id").expect("titles");
    let titles = query.query_map([], |row| row.get(0)).expect("titles");
    titles.collect::<Result<_, _>>().expect("titles")
}

/// `ok`, or what integrity_check or foreign_key_check found.
pub fn integrity(path: impl AsRef<Path>) -> String {
    let db = open(path.as_ref());
    let found: String = match db.query_row("PRAGMA integrity_check", [], |row| row.get(0)) {
        Ok(found) => found,
        Err(error) => error.to_string(),
    };
    if found != "ok" {
        return found;
    }
    let orphans: i64 = single(&db, "SELECT count(*) FROM pragma_foreign_key_check");
    if orphans > 0 { format!("{orphans} rows break a foreign key") } else { found }
}

/// Whether every full-text index agrees with its table.
pub fn fts_ok(path: impl AsRef<Path>) -> bool {
    let db = super::table::connect(path.as_ref()).expect("open for the full-text check");
    ["observations", "session_summaries", "user_prompts"].iter().all(|table| {
        // rank 1 compares with the content table too, not only the index with itself
        let sql = format!("INSERT INTO {table}_fts({table}_fts, rank) VALUES('integrity-check', 1)");
        db.execute_batch(&sql).is_ok()
    })
}

/// Ids of the observations that match a full-text query.
pub fn fts_search(path: impl AsRef<Path>, query: &str) -> Vec<i64> {
    let db = open(path.as_ref());
    let mut search = db
        .prepare("SELECT rowid FROM observations_fts WHERE observations_fts MATCH ?1 ORDER BY rowid")
        .expect("a search");
    let ids = search.query_map([query], |row| row.get(0)).expect("a search");
    ids.collect::<Result<_, _>>().expect("a search")
}

pub fn journal_mode(path: impl AsRef<Path>) -> String {
    single(&open(path.as_ref()), "PRAGMA journal_mode")
}

/// Every row of a query, its values joined with ` | `.
pub fn dump(path: impl AsRef<Path>, sql: &str) -> Vec<String> {
    let db = open(path.as_ref());
    let mut query = db.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let width = query.column_count();
    let rows = query.query_map([], |row| {
        let values = (0..width).map(|at| Ok(shown(row.get_ref(at)?)));
        Ok(values.collect::<rusqlite::Result<Vec<_>>>()?.join(" | "))
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{bytes:02x?}"),
    }
}
