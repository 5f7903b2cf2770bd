//! From a row to its record, and from a record to what the shadow says of it.

use rusqlite::OptionalExtension;

use super::record::Record;
use super::shadow::{Entry, Known, Mark, Seen};
use super::stamp::{Stamp, Writer};
use crate::database::content::{self, Columns, Content, Part, Reference, Uid, Value};
use crate::database::rows::view;
use crate::database::shape::Shape;
use crate::failpoint;

/// The session that a row belongs to; of a session its own name.
pub fn belongs_to(shape: &Shape, content: &Content) -> Option<Reference> {
    if !shape.is_sessions() {
        return content.session().cloned();
    }
    match content.get("content_session_id") {
        Some(Value::Text(text)) => Some(Reference::Text(text.clone())),
        _ => None,
    }
}

/// What twins have in common: session, title, narrative.
fn twin(table: &str, content: &Content) -> Option<Uid> {
    let part = |name: &str| content.get(name).map(Part::Value);
    let parts = [content.session().map(Part::Reference), part("title"), part("narrative")];
    (table == "observations").then(|| Uid::of("twin", parts))
}

/// The columns of a record that this claude-mem does not have.
fn extra(shape: &Shape, content: &Content) -> Option<Columns> {
    if failpoint::planted("complete records") {
        return None;
    }
    let strange = content.columns.iter().filter(|(name, _)| shape.column(name).is_none());
    let strange: Columns = strange.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!strange.is_empty()).then_some(strange)
}

/// What the shadow says of a row once `record` is what it says. `shape`: of its table here, if there is one.
pub fn entry(shape: Option<&Shape>, record: &Record, lid: Option<i64>, me: Writer) -> Entry {
    let mut entry = Entry {
        table: record.table.clone(),
        uid: record.uid,
        lid,
        seen: Seen::Stale,
        bare: None,
        key: record.key,
        keys: record.keys.clone(),
        birth: record.born,
        stamp: record.stamp,
        dead: record.deleted,
        mark: Mark::None,
        home: record.home,
        state: None,
        extra: None,
        twin: None,
        of: record.of.clone(),
        before: None,
    };
    if let (Some(shape), Some(content)) = (shape, &record.content) {
        let here = view(shape, content);
        entry.extra = extra(shape, content);
        entry.twin = twin(&record.table, &here);
        entry.key = content::key(&record.table, &here, &shape.key);
        if record.key != entry.key {
            entry.keys.push(record.key);
        }
        let at_home = shape.is_sessions() && record.home == Some(me);
        entry.seen = here.print(at_home).into();
        if shape.is_sessions() {
            entry.bare = Some(here.print(false).0);
            entry.state = Some(here.state.clone());
        }
    }
    entry
}

#[expect(clippy::too_many_arguments, reason = "everything that a record says")]
/// The record of a row as it lies here. `known`: what the shadow says of it; `keys`: those that it had before.
pub fn record(
    shape: &Shape,
    uid: Uid,
    stamp: Stamp,
    born: i64,
    mut content: Content,
    known: Option<&Known>,
    keys: Vec<Uid>,
    me: Writer,
) -> Record {
    let key = content::key(&shape.name, &content, &shape.key);
    let of = belongs_to(shape, &content);
    let known = known.map(|known| &known.entry);
    if let Some(extra) = known.and_then(|entry| entry.extra.as_ref()) {
        let missing = extra.iter().filter(|(name, _)| shape.column(name).is_none());
        content.columns.extend(missing.map(|(name, value)| (name.clone(), value.clone())));
    }
    let home = shape.is_sessions().then(|| {
        let home = known.filter(|entry| !entry.dead).and_then(|entry| entry.home).unwrap_or(me);
        // Away from home the worker's idea of the state is nobody's business.
        if let (true, Some(state)) = (home != me, known.and_then(|entry| entry.state.clone())) {
            content.state = state;
        }
        home
    });
    let mut keys: Vec<Uid> = keys.into_iter().chain(known.map(|entry| entry.key)).collect();
    keys.retain(|old| *old != key && *old != uid);
    keys.sort_unstable();
    keys.dedup();
    Record {
        table: shape.name.clone(),
        uid,
        stamp,
        key,
        keys,
        born,
        of,
        home,
        content: Some(content),
        deleted: false,
    }
}

/// The record that a row is deleted.
pub fn deletion(known: &Known, stamp: Stamp, mut keys: Vec<Uid>) -> Record {
    let entry = &known.entry;
    keys.retain(|key| *key != entry.key && *key != entry.uid);
    Record {
        table: entry.table.clone(),
        uid: entry.uid,
        stamp,
        key: entry.key,
        keys,
        born: entry.birth,
        of: entry.of.clone(),
        home: None,
        content: None,
        deleted: true,
    }
}

/// Whether rows hang on a session.
///
/// # Errors
/// SQLite's.
pub fn has_children(live: &super::live::Live, session: i64) -> rusqlite::Result<bool> {
    use crate::database::shape::Link;
    use crate::database::tables::quote;
    let by_memory = "memory_session_id = (SELECT memory_session_id FROM main.sdk_sessions WHERE id = ?1)";
    let by_content = "content_session_id = (SELECT content_session_id FROM main.sdk_sessions WHERE id = ?1)";
    for shape in &live.shapes.all {
        let condition = match shape.link {
            Link::None => continue,
            Link::Memory => by_memory.to_owned(),
            Link::Content => by_content.to_owned(),
            Link::Database => format!("(session_db_id = ?1 OR session_db_id IS NULL AND {by_content})"),
        };
        let sql = format!("SELECT 1 FROM main.{} WHERE {condition} LIMIT 1", quote(&shape.name));
        if live.db.prepare_cached(&sql)?.query_row([session], |_| Ok(())).optional()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
