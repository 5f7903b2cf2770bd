//! What is memory in a table: which columns count, what they hold when nothing was said, what a row points to. Read from
//! the database's own declarations, because claude-mem's tables differ from release to release. Reads no rows.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::content::{STATE, Value};
use super::tables::quote;

/// Tables in the order in which parents come before their children. Others follow.
const ORDER: [&str; 5] = ["sdk_sessions", "observations", "session_summaries", "user_prompts", "tool_uses"];

/// Tables that hold no memory.
const NO_MEMORY: [&str; 3] = ["pending_messages", "schema_versions", "telegram_wrapups"];

/// Columns that hold no memory, in any table.
const NEITHER: [&str; 6] =
    ["session_db_id", "observation_id", "worker_port", "relevance_count", "synced_at", "prompt_counter"];

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It is memory.
    Digested,
    /// It travels, but is a local name: written where a row is new, and where there is NULL.
    Carried,
    /// Memory on the machine of the session's birth only.
    State,
    /// It follows from the session that the row belongs to.
    Session,
    /// The integer id of a row of this table.
    Points(String),
    /// It stays here.
    Neither,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// The declared default, where it is a plain value.
    pub default: Option<Value>,
    /// Refuses NULL.
    pub not_null: bool,
    /// See [`Role`].
    pub role: Role,
}

/// How a row names its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Not at all.
    None,
    /// By `memory_session_id`.
    Memory,
    /// By `content_session_id`.
    Content,
    /// By `session_db_id`, and where that is NULL by `content_session_id`.
    Database,
}

impl Link {
    /// The column with the session's name.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Memory => Some("memory_session_id"),
            Self::Content | Self::Database => Some("content_session_id"),
        }
    }
}

/// A table whose rows travel.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// The table.
    pub name: String,
    /// Parents before children.
    pub rank: usize,
    /// All columns, by name.
    pub columns: Vec<Column>,
    /// The columns that name a row, of a table that we do not know; empty: its whole content.
    pub key: Vec<String>,
    /// How a row names its session.
    pub link: Link,
    /// The column with the birth instant.
    pub birth: Option<&'static str>,
    /// Rows of some table point to rows of this one.
    pub is_named: bool,
    /// Reads all rows above an id, in the order of ids: the id, the session's id, then the columns.
    pub(super) list: String,
    /// Reads one row.
    pub(super) one: String,
}

impl Shape {
    /// A column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        let at = self.columns.binary_search_by(|column| column.name.as_str().cmp(name)).ok()?;
        self.columns.get(at)
    }

    /// Whether it is memory here.
    pub fn digests(&self, name: &str) -> bool {
        self.column(name).is_some_and(|column| column.role == Role::Digested)
    }

    /// The names of the columns that are memory.
    pub fn digested(&self) -> impl Iterator<Item = &str> {
        (self.columns.iter())
            .filter(|column| column.role == Role::Digested)
            .map(|column| column.name.as_str())
    }

    /// The tables to whose rows its own point by their ids.
    fn points(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter_map(|column| match &column.role {
            Role::Points(table) => Some(table.as_str()),
            _ => None,
        })
    }

    /// Whether it is the table of sessions.
    pub fn is_sessions(&self) -> bool {
        self.name == "sdk_sessions"
    }
}

/// The tables of a database.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shapes {
    /// Those whose rows travel, parents first.
    pub all: Vec<Shape>,
    /// Those whose rows travel in images only, because it is not declared what they point to.
    pub images_only: Vec<String>,
}

impl Shapes {
    /// Reads the declarations.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare(
            "SELECT t.name, t.wr, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk \
             FROM pragma_table_list AS t JOIN pragma_table_xinfo(t.name, 'main') AS c \
             WHERE t.schema = 'main' AND t.type = 'table' AND c.hidden = 0 ORDER BY t.name, c.cid",
        )?;
        let mut tables: BTreeMap<String, (bool, Vec<Declared>)> = BTreeMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if is_memory(&name) {
                let (without_rowid, columns) = tables.entry(name).or_default();
                *without_rowid = row.get(1)?;
                columns.push(Declared {
                    name: row.get(2)?,
                    kind: row.get(3)?,
                    not_null: row.get(4)?,
                    default: row.get(5)?,
                    primary: row.get(6)?,
                });
            }
        }
        let integer_keys: BTreeMap<String, String> = tables
            .iter()
            .filter_map(|(name, (_, columns))| Some((name.clone(), rowid_alias(columns)?)))
            .collect();
        let mut shapes = Self::default();
        let sessions = tables.get(ORDER[0]).map_or(&[][..], |(_, columns)| columns);
        for (name, (without_rowid, columns)) in &tables {
            let known = ORDER.contains(&name.as_str());
            let foreign = if known { BTreeMap::new() } else { points(connection, name, &integer_keys)? };
            let travels = !without_rowid && (known || columns.iter().all(|column| column.is_clear(&foreign)));
            if travels {
                let key = if known { Vec::new() } else { declared_key(connection, name, columns)? };
                shapes.all.push(shape(name, columns, &foreign, key, sessions));
            } else {
                shapes.images_only.push(name.clone());
            }
        }
        shapes.all.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
        let pointed: BTreeSet<String> =
            shapes.all.iter().flat_map(Shape::points).map(str::to_owned).collect();
        for shape in &mut shapes.all {
            shape.is_named = shape.is_sessions() || pointed.contains(&shape.name);
        }
        Ok(shapes)
    }

    /// One of them.
    pub fn get(&self, table: &str) -> Option<&Shape> {
        self.all.iter().find(|shape| shape.name == table)
    }
}

/// Whether rows of an ordinary table are memory.
pub fn is_memory(table: &str) -> bool {
    !NO_MEMORY.contains(&table) && !table.starts_with("sync_") && !table.starts_with("sqlite_")
}

struct Declared {
    name: String,
    kind: String,
    not_null: bool,
    default: Option<String>,
    primary: i64,
}

impl Declared {
    /// Whether it is known what the column points to, if it looks like it points anywhere.
    fn is_clear(&self, foreign: &BTreeMap<String, String>) -> bool {
        let looks =
            self.primary == 0 && self.name.ends_with("_id") && self.kind.to_ascii_uppercase().contains("INT");
        !looks || foreign.contains_key(&self.name) || stays(&self.name)
    }
}

/// The column that is another name of the rowid.
fn rowid_alias(columns: &[Declared]) -> Option<String> {
    let mut keys = columns.iter().filter(|column| column.primary > 0);
    let first = keys.next()?;
    let alone = keys.next().is_none() && first.kind.eq_ignore_ascii_case("INTEGER");
    alone.then(|| first.name.clone())
}

fn stays(name: &str) -> bool {
    NEITHER.contains(&name) || name.starts_with("origin_") || name.starts_with("sync_")
}

/// `in_sessions`: the columns of the table of sessions, where there is one.
fn shape(
    name: &str,
    declared: &[Declared],
    foreign: &BTreeMap<String, String>,
    key: Vec<String>,
    in_sessions: &[Declared],
) -> Shape {
    let has = |column: &str| declared.iter().any(|other| other.name == column);
    let sessions = name == ORDER[0];
    let link = match (has("memory_session_id"), has("content_session_id"), has("session_db_id")) {
        _ if sessions => Link::None,
        (_, true, true) => Link::Database,
        (_, true, false) => Link::Content,
        (true, false, _) => Link::Memory,
        (false, false, _) => Link::None,
    };
    let alias = rowid_alias(declared);
    let role = |column: &Declared| match column.name.as_str() {
        own if Some(own) == alias.as_deref() => Role::Neither,
        own if foreign.contains_key(own) => Role::Points(foreign.get(own).cloned().unwrap_or_default()),
        own if stays(own) => Role::Neither,
        own if Some(own) == link.name() => Role::Session,
        "memory_session_id" | "content_hash" => Role::Carried,
        own if sessions && STATE.contains(&own) => Role::State,
        _ => Role::Digested,
    };
    let mut columns: Vec<Column> = declared
        .iter()
        .map(|column| Column {
            name: column.name.clone(),
            default: column.default.as_deref().and_then(|text| literal(text, &column.kind)),
            not_null: column.not_null,
            role: role(column),
        })
        .collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let births = ["created_at_epoch", "started_at_epoch"];
    let births = if sessions { [births[1], births[0]] } else { births };
    let found_by = |column: &str| {
        let there = |name: &str| in_sessions.iter().any(|other| other.name == name);
        let sought = format!("(SELECT min(s.id) FROM main.sdk_sessions AS s WHERE s.{column} = t.{column})");
        if there("id") && there(column) { sought } else { "NULL".to_owned() }
    };
    let session = match link {
        Link::None => "NULL".to_owned(),
        _ if in_sessions.is_empty() => "NULL".to_owned(),
        Link::Memory => found_by("memory_session_id"),
        Link::Content => found_by("content_session_id"),
        Link::Database => format!(
            "coalesce((SELECT s.id FROM main.sdk_sessions AS s WHERE s.id = t.session_db_id), {})",
            found_by("content_session_id")
        ),
    };
    let list: Vec<String> = columns.iter().map(|column| format!("t.{}", quote(&column.name))).collect();
    let select = format!("SELECT t.rowid, {session}, {} FROM main.{} AS t", list.join(", "), quote(name));
    Shape {
        name: name.to_owned(),
        rank: ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len()),
        key,
        link,
        birth: births.into_iter().find(|birth| has(birth)),
        is_named: false,
        list: format!("{select} WHERE t.rowid > ?1 ORDER BY t.rowid"),
        one: format!("{select} WHERE t.rowid = ?1"),
        columns,
    }
}

/// The columns of a table that hold the integer id of another table's row, by declaration.
fn points(
    connection: &Connection,
    table: &str,
    integer_keys: &BTreeMap<String, String>,
) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection
        .prepare("SELECT \"from\", \"table\", \"to\", count(*) OVER (PARTITION BY id) FROM pragma_foreign_key_list(?1)")?;
    let mut rows = statement.query([table])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (from, to_table): (String, String) = (row.get(0)?, row.get(1)?);
        let (to, columns): (Option<String>, i64) = (row.get(2)?, row.get(3)?);
        let alias = integer_keys.get(&to_table);
        if columns == 1 && alias.is_some_and(|alias| to.as_ref().is_none_or(|to| to == alias)) {
            found.insert(from, to_table);
        }
    }
    Ok(found)
}

/// The columns of the primary key that is no rowid, or of the first UNIQUE; empty where there is neither.
fn declared_key(connection: &Connection, table: &str, columns: &[Declared]) -> rusqlite::Result<Vec<String>> {
    let alias = rowid_alias(columns);
    if alias.is_none() {
        let primary: BTreeSet<String> =
            columns.iter().filter(|column| column.primary > 0).map(|column| column.name.clone()).collect();
        if !primary.is_empty() {
            return Ok(primary.into_iter().collect());
        }
    }
    let mut statement = connection.prepare(
        "SELECT i.name, c.name FROM pragma_index_list(?1) AS i JOIN pragma_index_info(i.name) AS c \
         WHERE i.\"unique\" AND NOT i.partial ORDER BY i.name",
    )?;
    let mut unique: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (index, column): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let columns = unique.entry(index).or_insert_with(|| Some(BTreeSet::new()));
        // An index over an expression, or over what differs from machine to machine, names nothing.
        match column.filter(|column| !stays(column) && alias.as_ref() != Some(column)) {
            Some(column) => columns.iter_mut().for_each(|set| _ = set.insert(column.clone())),
            None => *columns = None,
        }
    }
    Ok(unique.into_values().flatten().next().map(|set| set.into_iter().collect()).unwrap_or_default())
}

/// A declared default that is a plain value, as the column would store it.
fn literal(text: &str, kind: &str) -> Option<Value> {
    let mut text = text.trim();
    while let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        text = inner.trim();
    }
    let kind = kind.to_ascii_uppercase();
    let integer = kind.contains("INT");
    let is_text = !integer && ["CHAR", "CLOB", "TEXT"].iter().any(|name| kind.contains(name));
    let is_real = !integer && ["REAL", "FLOA", "DOUB"].iter().any(|name| kind.contains(name));
    if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let unquoted = quoted.replace("''", "'");
        return match unquoted.parse::<i64>() {
            Ok(number) if integer => Some(Value::Integer(number)),
            _ => Some(Value::text(unquoted)),
        };
    }
    let number = match text.to_ascii_uppercase().as_str() {
        "TRUE" => Some(1),
        "FALSE" => Some(0),
        _ => text.parse::<i64>().ok(),
    };
    match number {
        Some(number) if is_text => Some(Value::text(number.to_string())),
        #[expect(clippy::cast_precision_loss, reason = "as SQLite does it")]
        Some(number) if is_real => Some(Value::Real(number as f64)),
        Some(number) => Some(Value::Integer(number)),
        None if text.starts_with(|c: char| c.is_ascii_digit() || ".+-".contains(c)) => {
            text.parse().ok().map(Value::Real)
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, Role, Shapes, Value, literal};
    use rusqlite::Connection;

    fn shapes(sql: &str) -> Shapes {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        Shapes::read(&connection).unwrap()
    }

    #[test]
    fn defaults_are_read_as_they_are_stored() {
        let table = [
            ("'claude'", "TEXT", Some(Value::text("claude"))),
            ("'it''s'", "TEXT", Some(Value::text("it's"))),
            ("'1'", "TEXT", Some(Value::text("1"))),
            ("'1'", "INTEGER", Some(Value::Integer(1))),
            ("0", "INTEGER", Some(Value::Integer(0))),
            ("0", "TEXT", Some(Value::text("0"))),
            ("(-3)", "BIGINT", Some(Value::Integer(-3))),
            ("1.5", "REAL", Some(Value::Real(1.5))),
            ("2", "REAL", Some(Value::Real(2.0))),
            ("TRUE", "INTEGER", Some(Value::Integer(1))),
            ("NULL", "TEXT", None),
            ("CURRENT_TIMESTAMP", "TEXT", None),
            ("(datetime('now'))", "TEXT", None),
            ("infinity", "REAL", None),
        ];
        for (text, kind, value) in table {
            assert_eq!(literal(text, kind), value, "{text} {kind}");
        }
    }

    #[test]
    fn a_table_that_nobody_knows_travels_by_what_it_declares() {
        let shapes = shapes(
            "CREATE TABLE sdk_sessions(id INTEGER PRIMARY KEY AUTOINCREMENT, content_session_id TEXT, memory_session_id TEXT, status TEXT);
             CREATE TABLE observations(id INTEGER PRIMARY KEY, memory_session_id TEXT, title TEXT, created_at_epoch INTEGER, content_hash TEXT, sync_rev TEXT);
             CREATE TABLE user_prompts(id INTEGER PRIMARY KEY, session_db_id INTEGER, content_session_id TEXT);
             CREATE TABLE notes(slug TEXT PRIMARY KEY, body TEXT);
             CREATE TABLE tags(id INTEGER PRIMARY KEY, observation INTEGER REFERENCES observations(id), name TEXT, UNIQUE(observation, name));
             CREATE TABLE loose(id INTEGER PRIMARY KEY, thing_id INTEGER);
             CREATE TABLE flat(a TEXT PRIMARY KEY) WITHOUT ROWID;
             CREATE TABLE sync_state(k); CREATE TABLE pending_messages(x);
             CREATE VIRTUAL TABLE notes_fts USING fts5(body);",
        );
        let names: Vec<&str> = shapes.all.iter().map(|shape| shape.name.as_str()).collect();
        assert_eq!(names, ["sdk_sessions", "observations", "user_prompts", "notes", "tags"]);
        assert_eq!(shapes.images_only, ["flat", "loose"]);
        let role =
            |table: &str, column: &str| shapes.get(table).unwrap().column(column).unwrap().role.clone();
        assert_eq!(role("sdk_sessions", "id"), Role::Neither);
        assert_eq!(role("sdk_sessions", "memory_session_id"), Role::Carried);
        assert_eq!(role("sdk_sessions", "status"), Role::State);
        assert_eq!(role("observations", "memory_session_id"), Role::Session);
        assert_eq!(role("observations", "content_hash"), Role::Carried);
        assert_eq!(role("observations", "sync_rev"), Role::Neither);
        assert_eq!(role("user_prompts", "session_db_id"), Role::Neither);
        assert_eq!(role("tags", "observation"), Role::Points("observations".to_owned()));
        let parents: Vec<&str> =
            shapes.all.iter().filter(|shape| shape.is_named).map(|shape| shape.name.as_str()).collect();
        assert_eq!(parents, ["sdk_sessions", "observations"]);
        assert_eq!(shapes.get("notes").unwrap().key, ["slug"]);
        assert_eq!(shapes.get("tags").unwrap().key, ["name", "observation"]);
        let links =
            ["sdk_sessions", "observations", "user_prompts"].map(|table| shapes.get(table).unwrap().link);
        assert_eq!(links, [Link::None, Link::Memory, Link::Database]);
    }
}
