//! Takes what claude-mem exported (see [`super::export`]) into its database, beside its worker: rows that are here already
//! stay, the others become rows like any other, so that the next scan finds and shares them. Nothing is changed or removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, params};
use serde_json::{Map, Value as Json};

use super::content::{Part, Uid, Value};
use super::exported::{self, ImportError, List};
use super::shape::{Link, Role, Shape, Shapes};
use super::tables::{quote, require_core, tables};
use super::{DatabaseError, open_read_only, open_read_write};
use crate::progress::Progress;

/// The most rows, and the longest time, of one transaction: the worker stands still while it lasts.
const ROWS: u32 = 200;
const TIME: Duration = Duration::from_millis(20);
/// The worker's turn between two.
const PAUSE: Duration = Duration::from_millis(25);
/// Reasons that are told.
const REASONS: usize = 5;

/// What became of the rows of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows that are new, by table.
    pub added: BTreeMap<String, u64>,
    /// Rows that were here, by table.
    pub here: BTreeMap<String, u64>,
    /// Rows that could not be taken in.
    pub refused: u64,
    /// Why, the first few.
    pub reasons: Vec<String>,
}

/// What became of one row.
enum Fate {
    Added,
    Here,
    Refused(String),
}

type Fields = Map<String, Json>;

/// Takes in the file; without `write` it is only said what would become of its rows.
///
/// # Errors
/// The file's, SQLite's; rows that were committed stay, and the same file can be taken in again.
pub fn import(
    database: &Path,
    file: &Path,
    write: bool,
    progress: &Progress,
) -> Result<Imported, ImportError> {
    let connection = if write { open_read_write(database) } else { open_read_only(database) }?;
    let fail = |error| DatabaseError::sqlite("import into", database, error);
    require_core(&tables(&connection, database)?, database)?;
    let prepare = || -> rusqlite::Result<Shapes> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        connection.execute_batch("CREATE TEMP TABLE names(theirs TEXT PRIMARY KEY, session INTEGER)")?;
        Shapes::read(&connection)
    };
    let shapes = prepare().map_err(fail)?;
    let mut desk = Desk { db: &connection, shapes: &shapes, write, open: None, done: Imported::default() };
    // Sessions come after the observations in the file, and before them here.
    for lists in [&[List::Sessions][..], &[List::Observations, List::Summaries, List::Prompts]] {
        exported::read(file, lists, progress, &mut |list, row| desk.take(list, row).map_err(fail))?;
        desk.close().map_err(fail)?;
    }
    progress.done();
    Ok(desk.done)
}

/// The database of one import.
struct Desk<'c> {
    db: &'c Connection,
    shapes: &'c Shapes,
    write: bool,
    /// The transaction that is open: since when, and its rows.
    open: Option<(Instant, u32)>,
    done: Imported,
}

impl Desk<'_> {
    fn take(&mut self, list: List, row: Option<&Fields>) -> rusqlite::Result<()> {
        if self.write && self.open.is_none() {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            self.open = Some((Instant::now(), 0));
        }
        let fate = match (row, self.shapes.get(list.table())) {
            (Some(row), Some(shape)) if list == List::Sessions => self.session(shape, row),
            (Some(row), Some(shape)) => self.child(shape, row),
            _ => Ok(Fate::Refused("it is no row".to_owned())),
        };
        let fate = match fate {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Fate::Refused(error.to_string())
            }
            other => other?,
        };
        let count =
            |tally: &mut BTreeMap<String, u64>| *tally.entry(list.table().to_owned()).or_default() += 1;
        match fate {
            Fate::Added => count(&mut self.done.added),
            Fate::Here => count(&mut self.done.here),
            Fate::Refused(reason) => {
                self.done.refused += 1;
                if self.done.reasons.len() < REASONS && !self.done.reasons.contains(&reason) {
                    self.done.reasons.push(reason);
                }
            }
        }
        if let Some((began, rows)) = &mut self.open {
            *rows += 1;
            if *rows >= ROWS || began.elapsed() >= TIME {
                self.close()?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn close(&mut self) -> rusqlite::Result<()> {
        match self.open.take() {
            Some(_) => self.db.execute_batch("COMMIT"),
            None => Ok(()),
        }
    }

    fn session(&self, shape: &Shape, row: &Fields) -> rusqlite::Result<Fate> {
        let Some(content) = text(row, "content_session_id") else {
            return Ok(Fate::Refused("a session has no content_session_id".to_owned()));
        };
        let theirs = text(row, "memory_session_id");
        let here = self.session_here(shape, content, text(row, "platform_source").unwrap_or("claude"))?;
        let free = match theirs {
            Some(theirs) => self.session_named("memory_session_id", theirs)?.is_none(),
            None => false,
        };
        let id = match &here {
            Some((id, memory)) => {
                if self.write && memory.is_none() && free {
                    let sql = "UPDATE main.sdk_sessions SET memory_session_id = ?2 WHERE id = ?1";
                    self.db.prepare_cached(sql)?.execute(params![id, theirs])?;
                }
                Some(*id)
            }
            None if self.write => {
                let name = theirs.filter(|_| free).map(Value::text);
                self.insert(shape, row, &[("memory_session_id", name)])?;
                Some(self.db.last_insert_rowid())
            }
            None => None,
        };
        if let Some(theirs) = theirs {
            self.db
                .prepare_cached("INSERT OR REPLACE INTO temp.names VALUES (?1, ?2)")?
                .execute(params![theirs, id])?;
        }
        Ok(if here.is_some() { Fate::Here } else { Fate::Added })
    }

    /// A session of that name, and its name for its rows.
    fn session_here(
        &self,
        shape: &Shape,
        content: &str,
        platform: &str,
    ) -> rusqlite::Result<Option<(i64, Option<String>)>> {
        // A manual session has the same name everywhere, and claude-mem turns its platform back and forth.
        let told_apart = shape.column("platform_source").is_some() && !content.starts_with("manual-content");
        let platforms =
            if told_apart { "coalesce(platform_source, 'claude') = ?2" } else { "?2 IS NOT NULL" };
        let sql = format!(
            "SELECT id, memory_session_id FROM main.sdk_sessions WHERE content_session_id = ?1 AND {platforms} ORDER BY id LIMIT 1"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        statement.query_row(params![content, platform], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    fn session_named(&self, column: &str, name: &str) -> rusqlite::Result<Option<i64>> {
        let sql = format!("SELECT id FROM main.sdk_sessions WHERE {column} = ?1 ORDER BY id LIMIT 1");
        self.db.prepare_cached(&sql)?.query_row([name], |row| row.get(0)).optional()
    }

    /// A row of a session.
    fn child(&self, shape: &Shape, row: &Fields) -> rusqlite::Result<Fate> {
        let Some(link) = shape.link.name() else {
            return Ok(Fate::Refused(format!("{} belong to no session", shape.name)));
        };
        let Some(theirs) = text(row, link) else {
            return Ok(Fate::Refused(format!("a row of {} has no {link}", shape.name)));
        };
        let session = if shape.link == Link::Memory {
            let sql = "SELECT session FROM temp.names WHERE theirs = ?1";
            let known = self.db.prepare_cached(sql)?.query_row([theirs], |row| row.get::<_, Option<i64>>(0));
            match known.optional()? {
                // A session that would come with the file has no row yet.
                Some(None) => return Ok(Fate::Added),
                Some(known) => known,
                None => self.session_named("memory_session_id", theirs)?,
            }
        } else {
            self.session_named("content_session_id", theirs)?
        };
        let Some(session) = session else {
            return Ok(if self.write || shape.link == Link::Memory {
                Fate::Refused(format!(
                    "the session of a row of {} is neither here nor in the file",
                    shape.name
                ))
            } else {
                Fate::Added
            });
        };
        let name = match shape.link {
            Link::Memory => self.memory_of(session, theirs)?,
            _ => theirs.to_owned(),
        };
        if self.is_here(shape, link, &name, row)? {
            return Ok(Fate::Here);
        }
        if self.write {
            let mut given = vec![(link, Some(Value::text(name.clone())))];
            given.push(("session_db_id", Some(Value::Integer(session))));
            given.push(("content_hash", self.hash(shape, &name, row)?));
            if shape.link != Link::Memory {
                given.push(("memory_session_id", None));
            }
            self.insert(shape, row, &given)?;
        }
        Ok(Fate::Added)
    }

    /// A session's name for its rows; it gets one where it has none.
    fn memory_of(&self, session: i64, theirs: &str) -> rusqlite::Result<String> {
        let sql = "SELECT memory_session_id FROM main.sdk_sessions WHERE id = ?1";
        let name: Option<String> = self.db.prepare_cached(sql)?.query_row([session], |row| row.get(0))?;
        if let Some(name) = name {
            return Ok(name);
        }
        let taken = self.session_named("memory_session_id", theirs)?.is_some();
        let name = if taken { format!("mb-{session}-{theirs}") } else { theirs.to_owned() };
        if self.write {
            let sql = "UPDATE main.sdk_sessions SET memory_session_id = ?2 WHERE id = ?1";
            self.db.prepare_cached(sql)?.execute(params![session, name])?;
        }
        Ok(name)
    }

    /// Whether the session has a row of the same moment that says the same.
    fn is_here(&self, shape: &Shape, link: &str, name: &str, row: &Fields) -> rusqlite::Result<bool> {
        let telling: &[&str] = match shape.name.as_str() {
            "observations" => &["created_at_epoch", "type", "title", "narrative", "facts", "text"],
            "session_summaries" => &["created_at_epoch", "prompt_number", "request"],
            _ => &["created_at_epoch", "prompt_number"],
        };
        let mut columns = vec![link];
        let mut bound: Vec<Option<Value>> = vec![Some(Value::text(name))];
        for column in telling.iter().filter(|column| shape.column(column).is_some()) {
            let value = row.get(*column).and_then(value);
            // Characters that the export had to replace say nothing about what is here.
            if matches!(&value, Some(Value::Text(text)) if String::from_utf8_lossy(text).contains('\u{fffd}'))
            {
                continue;
            }
            columns.push(column);
            bound.push(value);
        }
        let same: Vec<String> = columns.into_iter().map(|column| format!("{} IS ?", quote(column))).collect();
        let sql = format!("SELECT 1 FROM main.{} WHERE {}", quote(&shape.name), same.join(" AND "));
        let found = self.db.prepare_cached(&sql)?.query_row(
            rusqlite::params_from_iter(
                bound.iter().map(|value| value.as_ref().map(|value| value as &dyn ToSql)),
            ),
            |_| Ok(()),
        );
        Ok(found.optional()?.is_some())
    }

    /// claude-mem's hash of the content, or where that is missing or taken one of our own: a migration of claude-mem's
    /// removed rows without one.
    fn hash(&self, shape: &Shape, session: &str, row: &Fields) -> rusqlite::Result<Option<Value>> {
        if shape.link != Link::Memory || shape.column("content_hash").is_none() {
            return Ok(None);
        }
        if let Some(hash) = text(row, "content_hash") {
            let sql = format!(
                "SELECT 1 FROM main.{} WHERE memory_session_id = ?1 AND content_hash = ?2",
                quote(&shape.name)
            );
            let mut statement = self.db.prepare_cached(&sql)?;
            if statement.query_row([session, hash], |_| Ok(())).optional()?.is_none() {
                return Ok(Some(Value::text(hash)));
            }
        }
        let whole = Json::Object(row.clone()).to_string();
        let own = Uid::of(
            &shape.name,
            [Some(Part::Bytes(session.as_bytes())), Some(Part::Bytes(whole.as_bytes()))],
        );
        Ok(Some(Value::text(own.to_string().get(..16).unwrap_or_default())))
    }

    /// Inserts what the table has a column for; `given` stands for what the file says.
    fn insert(&self, shape: &Shape, row: &Fields, given: &[(&str, Option<Value>)]) -> rusqlite::Result<()> {
        let mut values: Vec<(&str, Value)> = Vec::new();
        for column in &shape.columns {
            let name = column.name.as_str();
            let own = match given.iter().find(|(given, _)| *given == name) {
                Some((_, value)) => value.clone(),
                None if matches!(column.role, Role::Digested | Role::Carried | Role::State) => {
                    row.get(name).and_then(value)
                }
                None => None,
            };
            values.extend(own.map(|value| (name, value)));
        }
        let names: Vec<String> = values.iter().map(|(name, _)| quote(name)).collect();
        let places = vec!["?"; values.len()].join(", ");
        let sql = format!("INSERT INTO main.{}({}) VALUES ({places})", quote(&shape.name), names.join(", "));
        let bound = rusqlite::params_from_iter(values.iter().map(|(_, value)| value));
        self.db.prepare_cached(&sql)?.execute(bound).map(drop)
    }
}

fn text<'r>(row: &'r Fields, name: &str) -> Option<&'r str> {
    row.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A field as a column holds it. Lists lie in claude-mem's columns as JSON.
fn value(field: &Json) -> Option<Value> {
    match field {
        Json::Null => None,
        Json::Bool(truth) => Some(Value::Integer(i64::from(*truth))),
        Json::Number(number) => {
            number.as_i64().map(Value::Integer).or_else(|| number.as_f64().map(Value::Real))
        }
        Json::String(text) => Some(Value::text(text.as_str())),
        Json::Array(_) | Json::Object(_) => Some(Value::text(field.to_string())),
    }
}
