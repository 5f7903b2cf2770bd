//! Writes one record into claude-mem's database. What the schema refuses waits; nothing here decides whether to write.

use rusqlite::types::Null;
use rusqlite::{OptionalExtension, ToSql, params};

use super::RowsError;
use super::inserts::{Inserts, Values, is_constraint};
use super::live::Live;
use super::record::Record;
use super::shadow::Shadow;
use crate::database::content::{Content, Reference, SESSION, Uid, Value};
use crate::database::shape::{Column, Link, Role, Shape};
use crate::database::tables::quote;

/// How a write ended.
#[derive(Debug)]
pub enum Written {
    /// The row is at this local id.
    At(i64),
    /// It waits, for this reason.
    Waits(String),
}

/// How an existing row is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// The record is complete: what it does not name goes. Otherwise what is here stays.
    pub complete: bool,
    /// A session's state is written too.
    pub state: bool,
}

/// What a row is to say here.
#[derive(Debug)]
pub enum Told {
    /// This.
    Values(Values),
    /// It waits, for this reason.
    Waits(String),
}

/// A row that is to be written, new or over the one that is here.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'d> {
    /// Its table.
    pub shape: &'d Shape,
    /// What it was told by.
    pub record: &'d Record,
    /// What it is to say, as the table can hold it.
    pub content: &'d Content,
    /// The row that is here.
    pub at: Option<(i64, &'d Content)>,
    /// How it is written over.
    pub manner: Manner,
}

impl Draft<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// SQLite's, but for what a constraint refuses.
    pub fn write(self, live: &Live, shadow: &Shadow) -> Result<Written, RowsError> {
        live.db.prepare_cached("SAVEPOINT one")?.execute([])?;
        let lid = self.at.map(|(lid, _)| lid);
        let written = self.tell(live, shadow, None).and_then(|told| match told {
            Told::Values(values) => put(live, self.shape, lid, &values),
            Told::Waits(reason) => Ok(Written::Waits(reason)),
        });
        match written {
            Ok(Written::At(lid)) => {
                live.db.prepare_cached("RELEASE one")?.execute([])?;
                Ok(Written::At(lid))
            }
            other => {
                live.db.execute_batch("ROLLBACK TO one; RELEASE one")?;
                match other {
                    Err(RowsError::Live(error)) if is_constraint(&error) => {
                        Ok(Written::Waits(error.to_string()))
                    }
                    other => other,
                }
            }
        }
    }

    /// What it is to say in the columns that are here. `held`: rows that are about to be written.
    ///
    /// # Errors
    /// SQLite's.
    pub fn tell(self, live: &Live, shadow: &Shadow, held: Option<&Inserts>) -> Result<Told, RowsError> {
        let Self { shape, record, content, at, manner } = self;
        let mut values = columns(shape, content, at.is_some(), manner);
        if let Some(reason) = point(live, shadow, shape, content, &mut values)? {
            return Ok(Told::Waits(reason));
        }
        name_locally(live, shape, record.uid, content, at, held, &mut values)?;
        Ok(Told::Values(values))
    }
}

/// The memory and the state, by column.
fn columns(shape: &Shape, content: &Content, exists: bool, manner: Manner) -> Values {
    let mut values: Values =
        content.columns.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    if exists && manner.complete {
        let absent = shape.columns.iter().filter(|column| !content.columns.contains_key(&column.name));
        // What may be neither NULL nor a plain default stays as it is.
        let goes = |column: &&Column| {
            column.role == Role::Digested && (column.default.is_some() || !column.not_null)
        };
        values.extend(absent.filter(goes).map(|column| (column.name.clone(), column.default.clone())));
    }
    let state = shape.columns.iter().filter(|column| column.role == Role::State);
    for column in state.filter(|_| !exists || manner.state) {
        match content.state.get(&column.name).cloned().or_else(|| column.default.clone()) {
            None if column.not_null => {}
            value => values.push((column.name.clone(), value)),
        }
    }
    values
}

/// What the row points to, by local ids and names. `Some`: it has to wait for what is not here.
fn point(
    live: &Live,
    shadow: &Shadow,
    shape: &Shape,
    content: &Content,
    values: &mut Values,
) -> Result<Option<String>, RowsError> {
    for (name, to) in &content.refs {
        let Some(Role::Points(table)) = shape.column(name).map(|column| &column.role) else {
            continue;
        };
        let id = match to {
            Reference::Uid(uid) => match shadow_lid(shadow, table, *uid)? {
                Some(lid) => Some(Value::Integer(lid)),
                None => return Ok(Some(format!("what its {name} points to has not come"))),
            },
            Reference::Text(_) => None,
        };
        values.push((name.clone(), id));
    }
    let mut set = |name: &str, value: Option<Value>| {
        if shape.column(name).is_some() {
            values.push((name.to_owned(), value));
        }
    };
    match (content.refs.get(SESSION), shape.link) {
        (_, Link::None) | (None, _) => {}
        (Some(Reference::Text(text)), link) => {
            set(link.name().unwrap_or_default(), Some(Value::Text(text.clone())));
        }
        (Some(Reference::Uid(uid)), link) => {
            let Some(lid) = shadow_lid(shadow, "sdk_sessions", *uid)? else {
                return Ok(Some("its session has not come".to_owned()));
            };
            let Some((memory, name)) = session_names(live, lid)? else {
                return Ok(Some("its session has not come".to_owned()));
            };
            if link == Link::Memory {
                set("memory_session_id", Some(local_memory(live, lid, *uid, memory)?));
            } else {
                set("content_session_id", name);
                set("session_db_id", Some(Value::Integer(lid)));
                set("memory_session_id", memory);
            }
        }
    }
    Ok(None)
}

/// The local id of a row, also where it came a moment ago.
fn shadow_lid(shadow: &Shadow, table: &str, uid: Uid) -> Result<Option<i64>, RowsError> {
    let sql = "SELECT lid FROM temp.placed WHERE uid = ?1 AND tab = ?2";
    let placed = shadow
        .db
        .prepare_cached(sql)
        .map_err(super::shadow::ShadowError)?
        .query_row(params![uid, table], |row| row.get(0))
        .optional();
    match placed.map_err(super::shadow::ShadowError)? {
        Some(lid) => Ok(Some(lid)),
        None => Ok(shadow.lid_of(table, uid)?),
    }
}

fn session_names(live: &Live, lid: i64) -> rusqlite::Result<Option<(Option<Value>, Option<Value>)>> {
    let sql = "SELECT memory_session_id, content_session_id FROM main.sdk_sessions WHERE id = ?1";
    let mut statement = live.db.prepare_cached(sql)?;
    statement.query_row([lid], |row| Ok((Value::of(row.get_ref(0)?), Value::of(row.get_ref(1)?)))).optional()
}

/// The session's name for its rows; it gets one where it has none.
fn local_memory(live: &Live, lid: i64, uid: Uid, memory: Option<Value>) -> rusqlite::Result<Value> {
    if let Some(memory) = memory {
        return Ok(memory);
    }
    let name = Value::text(format!("mb-{uid}"));
    live.db
        .prepare_cached("UPDATE main.sdk_sessions SET memory_session_id = ?2 WHERE id = ?1")?
        .execute(params![lid, name])?;
    Ok(name)
}

/// What is carried: local names are written where there is none yet, and never one that another row has.
fn name_locally(
    live: &Live,
    shape: &Shape,
    uid: Uid,
    content: &Content,
    at: Option<(i64, &Content)>,
    held: Option<&Inserts>,
    values: &mut Values,
) -> rusqlite::Result<()> {
    let lid = at.map(|(lid, _)| lid);
    let missing = |name: &str| {
        let carried = shape.column(name).is_some_and(|column| column.role == Role::Carried);
        carried && at.is_none_or(|(_, here)| !here.carried.contains_key(name))
    };
    if shape.is_sessions()
        && missing("memory_session_id")
        && let Some(name) = content.carried.get("memory_session_id")
    {
        let sql = "SELECT 1 FROM main.sdk_sessions WHERE memory_session_id = ?1 AND id IS NOT ?2";
        let taken =
            live.db.prepare_cached(sql)?.query_row(params![name, lid], |_| Ok(())).optional()?.is_some();
        let name = if taken { Value::text(format!("mb-{uid}")) } else { name.clone() };
        values.push(("memory_session_id".to_owned(), Some(name)));
    }
    if missing("content_hash") {
        let session =
            values.iter().find(|(name, _)| name == "memory_session_id").and_then(|(_, value)| value.clone());
        let hash = content.carried.get("content_hash");
        let taken = match (hash, &session, shape.link) {
            (Some(hash), Some(session), Link::Memory) => {
                let sql = format!(
                    "SELECT 1 FROM main.{} WHERE memory_session_id = ?1 AND content_hash = ?2 AND rowid IS NOT ?3",
                    quote(&shape.name)
                );
                let mut statement = live.db.prepare_cached(&sql)?;
                held.is_some_and(|held| held.say([("memory_session_id", session), ("content_hash", hash)]))
                    || statement.query_row(params![session, hash, lid], |_| Ok(())).optional()?.is_some()
            }
            (hash, _, _) => hash.is_none() && shape.link == Link::Memory,
        };
        let own = || Value::text(uid.to_string().get(..16).unwrap_or_default());
        let hash = if taken { Some(own()) } else { hash.cloned() };
        values.extend(hash.map(|hash| ("content_hash".to_owned(), Some(hash))));
    }
    Ok(())
}

fn put(live: &Live, shape: &Shape, lid: Option<i64>, values: &Values) -> Result<Written, RowsError> {
    let table = quote(&shape.name);
    let names: Vec<String> = values.iter().map(|(name, _)| quote(name)).collect();
    let mut bound: Vec<&dyn ToSql> = Vec::with_capacity(values.len() + 1);
    bound.extend(values.iter().map(|(_, value)| value.as_ref().map_or(&Null as &dyn ToSql, |value| value)));
    match lid {
        None => {
            let places = vec!["?"; values.len()].join(", ");
            let sql = match values.as_slice() {
                [] => format!("INSERT INTO main.{table} DEFAULT VALUES"),
                _ => format!("INSERT INTO main.{table}({}) VALUES ({places})", names.join(", ")),
            };
            if live.db.prepare_cached(&sql)?.execute(bound.as_slice())? == 0 {
                return Ok(Written::Waits("a trigger of this database leaves it out".to_owned()));
            }
        }
        Some(_) if values.is_empty() => {}
        Some(ref lid) => {
            let sets: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
            let sql = format!("UPDATE main.{table} SET {} WHERE rowid = ?", sets.join(", "));
            bound.push(lid);
            live.db.prepare_cached(&sql)?.execute(bound.as_slice())?;
        }
    }
    Ok(Written::At(lid.unwrap_or_else(|| live.db.last_insert_rowid())))
}

/// Takes a row away.
///
/// # Errors
/// SQLite's, but for what a constraint refuses: that says why.
pub fn delete(live: &Live, shape: &Shape, lid: i64) -> Result<Option<String>, RowsError> {
    let sql = format!("DELETE FROM main.{} WHERE rowid = ?1", quote(&shape.name));
    match live.db.prepare_cached(&sql)?.execute([lid]) {
        Ok(_) => Ok(None),
        Err(error) if is_constraint(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
