//! Memory in the form in which claude-mem exports and imports it (its scripts/export-memories.ts, 9.0 to 13.25): one JSON
//! object with the rows of its four tables, column by column. Streams rows; knows no files.

use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde_json::{Map, Number, Value};

use super::DatabaseError;
use super::tables::{columns, quote};
use crate::progress::Progress;

/// A list of the file.
struct List {
    /// Its name there.
    name: &'static str,
    /// The name of its length there.
    total: &'static str,
    table: &'static str,
    /// Which rows belong to the project `?1`.
    of_project: &'static str,
}

/// The lists in the order in which claude-mem writes them.
const LISTS: [List; 4] = [
    List {
        name: "observations",
        total: "totalObservations",
        table: "observations",
        of_project: "project = ?1",
    },
    List {
        name: "sessions",
        total: "totalSessions",
        table: "sdk_sessions",
        of_project: "project = ?1 OR memory_session_id IN (SELECT memory_session_id FROM observations WHERE project = ?1 \
                     UNION SELECT memory_session_id FROM session_summaries WHERE project = ?1)",
    },
    List {
        name: "summaries",
        total: "totalSummaries",
        table: "session_summaries",
        of_project: "project = ?1",
    },
    List {
        name: "prompts",
        total: "totalPrompts",
        table: "user_prompts",
        of_project: "content_session_id IN (SELECT content_session_id FROM sdk_sessions WHERE project = ?1)",
    },
];

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Rows by table.
    pub rows: Vec<(&'static str, u64)>,
    /// Texts that are not UTF-8, in which characters had to be replaced.
    pub mended: u64,
}

/// Writes everything, or with `only` one of claude-mem's projects, as it is at one moment: `connection` holds a transaction. `progress` gets bytes.
///
/// # Errors
/// SQLite's; what `out` says, as an error of the file `to`.
pub fn export(
    connection: &Connection,
    only: Option<&str>,
    at: Timestamp,
    (out, to): (&mut dyn Write, &Path),
    progress: &Progress,
) -> Result<Exported, DatabaseError> {
    let fail = |error| DatabaseError::io("write", to, error);
    let mut exported = Exported::default();
    let mut head = Map::new();
    head.insert("exportedAt".into(), at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string().into());
    head.insert("exportedAtEpoch".into(), at.as_millisecond().into());
    head.insert("query".into(), "".into());
    if let Some(project) = only {
        head.insert("project".into(), project.into());
    }
    for list in &LISTS {
        let count = count(connection, list, only)?;
        head.insert(list.total.into(), count.into());
        exported.rows.push((list.table, count));
    }
    write!(out, "{{").map_err(fail)?;
    for (name, value) in &head {
        write!(out, "\n  {}: {value},", Value::from(name.as_str())).map_err(fail)?;
    }
    for (index, list) in LISTS.iter().enumerate() {
        write!(out, "\n  \"{}\": [", list.name).map_err(fail)?;
        exported.mended += rows(connection, list, only, out, progress).map_err(|trouble| match trouble {
            Trouble::Sqlite(error) => DatabaseError::sqlite("read the rows of", to, error),
            Trouble::Out(error) => fail(error),
        })?;
        write!(out, "\n  ]{}", if index + 1 < LISTS.len() { "," } else { "\n}\n" }).map_err(fail)?;
    }
    out.flush().map_err(fail)?;
    Ok(exported)
}

fn selection(list: &List, what: &str) -> String {
    format!("SELECT {what} FROM main.{} WHERE ?1 IS NULL OR {}", quote(list.table), list.of_project)
}

fn count(connection: &Connection, list: &List, only: Option<&str>) -> Result<u64, DatabaseError> {
    let count = connection.query_row(&selection(list, "count(*)"), params![only], |row| row.get(0));
    count.map_err(|error| DatabaseError::sqlite("count the rows of", Path::new(list.table), error))
}

enum Trouble {
    Sqlite(rusqlite::Error),
    Out(io::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// One row a line; returns how many texts had to be mended.
fn rows(
    connection: &Connection,
    list: &List,
    only: Option<&str>,
    out: &mut dyn Write,
    progress: &Progress,
) -> Result<u64, Trouble> {
    // What claude-mem's own cloud notes about a row says nothing on another machine.
    let names: Vec<String> = columns(connection, "main", list.table)?
        .into_iter()
        .filter(|name| !name.starts_with("sync_") && !name.starts_with("origin_"))
        .collect();
    let what: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let mut statement =
        connection.prepare(&format!("{} ORDER BY rowid", selection(list, &what.join(", "))))?;
    let mut rows = statement.query(params![only])?;
    let (mut mended, mut first) = (0, true);
    while let Some(row) = rows.next()? {
        let line = Value::Object(object(row, &names, &mut mended)?).to_string();
        let end = if first { "" } else { "," };
        write!(out, "{end}\n    {line}").map_err(Trouble::Out)?;
        first = false;
        progress.add(line.len() as u64);
    }
    Ok(mended)
}

/// A row by column. Bytes that are no text have no form in JSON that claude-mem would read: they are left out.
fn object(row: &Row<'_>, names: &[String], mended: &mut u64) -> rusqlite::Result<Map<String, Value>> {
    let mut object = Map::new();
    for (index, name) in names.iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            ValueRef::Text(text) => {
                let text = String::from_utf8_lossy(text);
                *mended += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
                text.into_owned().into()
            }
            ValueRef::Blob(_) => continue,
        };
        object.insert(name.clone(), value);
    }
    Ok(object)
}
