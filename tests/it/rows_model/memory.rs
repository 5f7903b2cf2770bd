//! A claude-mem database of one machine, as the judge reads and writes it. Each row carries a token, which says which memory
//! it is, and the number of the edit that made what it holds. Knows SQLite and claude-mem's tables, nothing of membridge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::support::claude_mem::Version;

/// Which memory a row is: `o12`.
pub type Token = String;
/// Which edit made what a row holds.
pub type Edit = u32;

/// The tables of memory, parents first, with the column that carries the token.
pub const TABLES: [(&str, &str); 4] = [
    ("sdk_sessions", "user_prompt"),
    ("observations", "facts"),
    ("session_summaries", "notes"),
    ("user_prompts", "prompt_text"),
];

pub fn token_column(table: &str) -> &'static str {
    TABLES.iter().find(|(name, _)| *name == table).expect("a table of memory").1
}

/// What no machine shares with another: rows.md section 5.
const LOCAL: [&str; 14] = [
    "id",
    "session_db_id",
    "worker_port",
    "prompt_counter",
    "relevance_count",
    "content_hash",
    "sync_rev",
    "synced_at",
    "origin_device_id",
    "origin_local_id",
    "memory_session_id",
    "status",
    "completed_at",
    "completed_at_epoch",
];

/// One table of one release: its columns and their defaults.
type Columns = BTreeMap<String, Vec<(String, Option<String>)>>;

static COLUMNS: LazyLock<Vec<Columns>> = LazyLock::new(|| {
    let of = |version: &Version| {
        let tables = version.schema().tables().into_iter();
        let columns = |table: crate::support::claude_mem::Table| {
            table.columns.into_iter().map(|column| (column.name, column.default)).collect()
        };
        tables.map(|(name, table)| (name, columns(table))).collect()
    };
    Version::ALL.iter().map(of).collect()
});

/// An empty database of each release, made once.
static EMPTY: LazyLock<Mutex<BTreeMap<Version, Vec<u8>>>> = LazyLock::new(Mutex::default);

fn columns_of(version: Version) -> &'static Columns {
    let at = Version::ALL.iter().position(|known| *known == version).expect("a known release");
    &COLUMNS[at]
}

pub fn has_column(version: Version, table: &str, column: &str) -> bool {
    columns_of(version).get(table).is_some_and(|columns| columns.iter().any(|(name, _)| name == column))
}

/// Writes an empty database of this release.
fn write_empty(path: &Path, version: Version) {
    let mut made = EMPTY.lock().expect("the templates");
    let bytes = made.entry(version).or_insert_with(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("empty.db");
        version.schema().create(&Connection::open(&file).expect("a database"));
        std::fs::read(&file).expect("the template")
    });
    std::fs::write(path, bytes).expect("write a database");
}

/// A value as text that tells it from every other.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => format!("'{}'", text.escape_ascii()),
        ValueRef::Blob(blob) => format!("x'{}'", blob.escape_ascii()),
    }
}

/// A token and its edit, out of a row's text.
pub fn parse(text: &str) -> (Token, Edit) {
    let (token, edit) = text.split_once('|').unwrap_or_else(|| panic!("{text:?} is no token"));
    (token.to_owned(), edit.parse().expect("an edit"))
}

/// The tokens that stand in a text of any kind.
pub fn parse_all(text: &str) -> BTreeSet<Token> {
    let ends = text.match_indices('|').map(|(at, _)| &text[..at]);
    let tokens = ends.filter_map(|before| {
        let start = before.rfind(|c: char| !c.is_ascii_digit())?;
        (before[start..].len() > 1 && before[start..].starts_with(['s', 'o', 'z', 'p']))
            .then(|| before[start..].to_owned())
    });
    tokens.collect()
}

/// A row that a deed changes.
pub struct Row {
    pub id: i64,
    pub token: Token,
    pub edit: Edit,
    values: BTreeMap<String, Value>,
}

impl Row {
    /// A text, or `None` where it is NULL or there is no such column.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.values.get(column) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

pub struct Memory {
    path: PathBuf,
    pub version: Version,
    pub db: Connection,
}

impl Memory {
    pub fn create(path: &Path, version: Version) -> Memory {
        write_empty(path, version);
        Memory::open(path, version)
    }

    pub fn open(path: &Path, version: Version) -> Memory {
        let db = Connection::open(path).expect("open the database");
        db.execute_batch("PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF; PRAGMA busy_timeout=5000;")
            .expect("settings");
        db.set_prepared_statement_cache_capacity(64);
        Memory { path: path.to_owned(), version, db }
    }

    /// The whole database, as one file.
    pub fn image(&self) -> Vec<u8> {
        self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpoint");
        std::fs::read(&self.path).expect("read the database")
    }

    pub fn has(&self, table: &str, column: &str) -> bool {
        has_column(self.version, table, column)
    }

    /// Inserts a row; values for columns that this release lacks are left out.
    pub fn insert(&self, table: &str, row: &[(&str, Value)]) -> rusqlite::Result<i64> {
        let (names, values): (Vec<&str>, Vec<&Value>) =
            row.iter().filter(|(name, _)| self.has(table, name)).map(|(name, value)| (*name, value)).unzip();
        let marks = vec!["?"; names.len()].join(",");
        let sql = format!("INSERT INTO {table}({}) VALUES({marks})", names.join(","));
        self.db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(self.db.last_insert_rowid())
    }

    /// Changes columns of one row.
    pub fn update(&self, table: &str, id: i64, change: &[(&str, Value)]) -> rusqlite::Result<()> {
        let known: Vec<_> = change.iter().filter(|(name, _)| self.has(table, name)).collect();
        let sets: Vec<String> = known.iter().map(|(name, _)| format!("{name}=?")).collect();
        let sql = format!("UPDATE {table} SET {} WHERE id={id}", sets.join(","));
        self.db.prepare_cached(&sql)?.execute(params_from_iter(known.iter().map(|(_, value)| value)))?;
        Ok(())
    }

    /// Rows of a table in the order of their ids.
    pub fn rows(&self, table: &str, filter: &str) -> Vec<Row> {
        let sql = format!("SELECT * FROM {table} WHERE {filter} ORDER BY id");
        let mut query = self.db.prepare_cached(&sql).expect("rows");
        let names: Vec<String> = query.column_names().map(str::to_owned).collect();
        let rows = query.query_map([], |row| {
            let value = |at: usize| match row.get_ref_unwrap(at) {
                ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                other => other.try_into().expect("a value"),
            };
            let values: BTreeMap<_, _> =
                names.iter().enumerate().map(|(at, name)| (name.clone(), value(at))).collect();
            Ok(values)
        });
        let read = rows.expect("rows").map(|values| {
            let values = values.expect("a row");
            let Some(Value::Text(text)) = values.get(token_column(table)) else {
                panic!("a row without a token")
            };
            let (token, edit) = parse(text);
            let Some(Value::Integer(id)) = values.get("id") else { panic!("a row without an id") };
            Row { id: *id, token, edit, values }
        });
        read.collect()
    }

    /// Which memories are here, in which edits. A memory that is here twice has two.
    pub fn tokens(&self) -> BTreeMap<Token, Vec<Edit>> {
        let mut found: BTreeMap<Token, Vec<Edit>> = BTreeMap::new();
        for (table, column) in TABLES {
            let mut query = self.db.prepare_cached(&format!("SELECT {column} FROM {table}")).expect("tokens");
            let mut rows = query.query([]).expect("tokens");
            while let Some(row) = rows.next().expect("a token") {
                let (token, edit) = parse(row.get_ref(0).expect("a token").as_str().expect("text"));
                found.entry(token).or_default().push(edit);
            }
        }
        found
    }

    /// The token of each session by its local id.
    fn sessions(&self) -> BTreeMap<i64, Token> {
        self.rows("sdk_sessions", "1").into_iter().map(|row| (row.id, row.token)).collect()
    }

    /// The SQL that gives the local id of a row's session.
    fn session_of(&self, table: &str) -> &'static str {
        match table {
            "sdk_sessions" => "NULL",
            "user_prompts" if self.has(table, "session_db_id") => "session_db_id",
            "user_prompts" => {
                "(SELECT s.id FROM sdk_sessions s WHERE s.content_session_id=user_prompts.content_session_id)"
            }
            "observations" => {
                "(SELECT s.id FROM sdk_sessions s WHERE s.memory_session_id=observations.memory_session_id)"
            }
            _ => {
                "(SELECT s.id FROM sdk_sessions s WHERE s.memory_session_id=session_summaries.memory_session_id)"
            }
        }
    }

    /// Sessions that rows hang on.
    pub fn parents(&self) -> BTreeSet<Token> {
        let names = self.sessions();
        let mut found = BTreeSet::new();
        for (table, _) in &TABLES[1..] {
            let sql = format!("SELECT DISTINCT {} FROM {table}", self.session_of(table));
            let mut query = self.db.prepare_cached(&sql).expect("parents");
            let ids = query.query_map([], |row| row.get::<_, Option<i64>>(0)).expect("parents");
            found.extend(ids.filter_map(|id| names.get(&id.expect("an id")?).cloned()));
        }
        found
    }

    /// What the worker says of each session.
    pub fn states(&self) -> BTreeMap<Token, String> {
        let state = |row: &Row| format!("{:?} {:?}", row.text("status"), row.text("completed_at"));
        self.rows("sdk_sessions", "1").into_iter().map(|row| (row.token.clone(), state(&row))).collect()
    }

    /// All memory as it is shared: each row's content with its session's token for every reference, and how often it is
    /// there. `columns`: those of this release alone.
    pub fn shared(&self, columns: Version) -> BTreeMap<String, usize> {
        let names = self.sessions();
        let mut found = BTreeMap::new();
        for (table, _) in TABLES {
            let kept: Vec<_> = columns_of(self.version)[table]
                .iter()
                .filter(|(name, _)| !LOCAL.contains(&name.as_str()) && has_column(columns, table, name))
                .filter(|(name, _)| table == "sdk_sessions" || name != "content_session_id")
                .collect();
            let list: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
            let sql = format!("SELECT {}, {} FROM {table}", self.session_of(table), list.join(","));
            let mut query = self.db.prepare_cached(&sql).expect("content");
            let mut rows = query.query([]).expect("content");
            while let Some(row) = rows.next().expect("a row") {
                let session: Option<i64> = row.get(0).expect("a session");
                let mut text = format!("{table} of {:?}:", session.and_then(|id| names.get(&id)));
                for (at, (name, default)) in kept.iter().enumerate() {
                    let value = shown(row.get_ref(at + 1).expect("a value"));
                    if value != "NULL" && Some(&value) != default.as_ref() {
                        let _ = write!(text, " {name}={value}");
                    }
                }
                *found.entry(text).or_insert(0) += 1;
            }
        }
        found
    }

    /// What is wrong with the file itself: a reference that leads nowhere, a search index that lacks a row.
    pub fn unsound(&self) -> Option<String> {
        let broken: i64 = self
            .db
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
            .expect("foreign_key_check");
        if broken > 0 {
            return Some(format!("{broken} rows break a foreign key"));
        }
        for (table, _) in &TABLES[1..] {
            let sql = format!("INSERT INTO {table}_fts({table}_fts, rank) VALUES('integrity-check', 1)");
            if let Err(error) = self.db.execute_batch(&sql) {
                return Some(format!("the search index of {table}: {error}"));
            }
        }
        let lost = "SELECT count(*) FROM observations WHERE memory_session_id NOT IN
                    (SELECT memory_session_id FROM sdk_sessions WHERE memory_session_id IS NOT NULL)";
        let lost: i64 = self.db.query_row(lost, [], |row| row.get(0)).expect("references");
        (lost > 0).then(|| format!("{lost} observations without a session"))
    }
}
