//! Takes in what a Python node recorded. It pushes a whole image and does not say what it was made from, so its rows are
//! sought by their keys, and whoever takes the image in makes the same records. Nothing is deleted because the image lacks it.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rusqlite::{OptionalExtension, params};

use super::RowsError;
use super::compose;
use super::desk::{Desk, clear_arrival};
use super::header::Kind;
use super::intake;
use super::live::{Live, Names};
use super::log::RowLog;
use super::publish::{self, About, Emptied, Part, Segment};
use super::record::Record;
use super::segment::Effort;
use super::shadow::{Known, ShadowError};
use super::stamp::{Stamp, Writer};
use super::went_back;
use crate::database::content::{Content, Uid, extended, key};
use crate::database::rows::{for_each, one, view};
use crate::database::shape::Shape;
use crate::failpoint;

/// A row of the image.
struct Seen {
    id: i64,
    birth: i64,
    content: Content,
}

/// Publishes what only the image holds, and notes it to be taken in here. `modified_ms`: the image's Last-Modified.
///
/// # Errors
/// See [`RowsError`].
pub async fn publish(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
    image: &Path,
    modified_ms: i64,
    tool_uses: bool,
) -> Result<Emptied, RowsError> {
    clear_arrival(desk.shadow)?;
    let records = find(desk, image, modified_ms, tool_uses)?;
    if records == 0 {
        return Ok(Emptied::Nothing);
    }
    let mut after = 0;
    loop {
        let (segment, last) = pack(desk, about, after)?;
        if segment.records == 0 {
            failpoint::reach("rows.image-published");
            return Ok(Emptied::Sent(0, records));
        }
        desk.shadow
            .transaction(|| publish::pack(desk, log, about, outbox, segment, Part::one(Kind::Rows)))?;
        if publish::empty(desk, log, outbox, true).await? == Emptied::Taken {
            return Ok(Emptied::Taken);
        }
        after = last;
    }
}

/// The next segment of noted records, and the place of its last one.
fn pack(desk: Desk<'_>, about: &About, after: i64) -> Result<(Segment, i64), RowsError> {
    let mut segment = Segment::new(about, Effort::Usual)?;
    let sql = "SELECT rowid, record FROM temp.incoming WHERE rowid > ?1 ORDER BY rowid";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let mut rows = statement.query([after]).map_err(ShadowError)?;
    let mut last = after;
    while let Some(row) = rows.next().map_err(ShadowError)? {
        let line: Vec<u8> = row.get(1).map_err(ShadowError)?;
        let record = Record::read(&line).map_err(|error| RowsError::Segment(error.to_string()))?;
        if !segment.add(&record)? {
            break;
        }
        last = row.get(0).map_err(ShadowError)?;
    }
    Ok((segment, last))
}

/// Notes what the image holds and the log does not; returns how many.
fn find(desk: Desk<'_>, image: &Path, modified_ms: i64, tool_uses: bool) -> Result<u64, RowsError> {
    let theirs = Live::open_image(image, tool_uses)?;
    desk.shadow
        .db
        .execute_batch(
            "DROP TABLE IF EXISTS temp.births; CREATE TEMP TABLE births AS SELECT tab, birth, of, uid FROM rows;
             CREATE INDEX temp.births_birth ON births(birth);",
        )
        .map_err(ShadowError)?;
    let mut names: HashMap<(String, i64), Uid> = HashMap::new();
    let mut found = 0;
    for shape in &theirs.shapes.all {
        let Some(here) = desk.live.shapes.get(&shape.name) else {
            continue;
        };
        let mut used = HashSet::new();
        let mut identified = Vec::new();
        for_each(&theirs.db, shape, i64::MIN, |row| {
            let resolve = |table: &str, id: i64| names.get(&(table.to_owned(), id)).copied();
            let seen = Seen { id: row.id()?, birth: row.birth()?, content: row.content(&resolve)? };
            if went_back::stays_here(&theirs, desk.excluded, shape, seen.id)? {
                return Ok(());
            }
            let Some((uid, known)) = identify(desk, shape, here, &seen, &used)? else {
                return Ok(());
            };
            used.insert(uid);
            identified.push((seen.id, uid));
            if let Some(record) = record(desk, shape, here, uid, known.as_ref(), seen, modified_ms)? {
                let line = record.line().map_err(|error| RowsError::Segment(error.to_string()))?;
                intake::note(desk, &record, &line, false)?;
                found += 1;
            }
            Ok::<_, RowsError>(())
        })?;
        names.extend(identified.into_iter().map(|(id, uid)| ((shape.name.clone(), id), uid)));
    }
    Ok(found)
}

/// Which row it is: exactly the same content first, then the key that a row has or had, then the only row of its session and
/// birth instant. `None`: it is there twice.
fn identify(
    desk: Desk<'_>,
    shape: &Shape,
    here: &Shape,
    seen: &Seen,
    used: &HashSet<Uid>,
) -> Result<Option<(Uid, Option<Known>)>, RowsError> {
    let table = &shape.name;
    let local = view(here, &seen.content);
    let key = key(table, &local, &here.key);
    let candidates = with_key(desk, table, key)?;
    let free: Vec<&Known> = candidates.iter().filter(|known| !used.contains(&known.entry.uid)).collect();
    let mut found = None;
    for known in &free {
        if found.is_none() && says(desk, shape, here, known, &local)? {
            found = Some(known.entry.uid);
        }
    }
    let found = match found.or(free.first().map(|known| known.entry.uid)) {
        Some(uid) => uid,
        None if candidates.is_empty() => alone(desk, here, &local, seen.birth)?.unwrap_or(key),
        None => key,
    };
    let found = if used.contains(&found) { extended(table, key, &local, 0) } else { found };
    if used.contains(&found) {
        return Ok(None);
    }
    Ok(Some((found, desk.shadow.by_uid(table, found)?)))
}

/// Whether a row says what the image says, in the columns that the image has.
fn says(
    desk: Desk<'_>,
    theirs: &Shape,
    here: &Shape,
    known: &Known,
    local: &Content,
) -> Result<bool, RowsError> {
    let print = local.print(false);
    if known.entry.bare == Some(print.0) || known.entry.seen.is(print) {
        return Ok(true);
    }
    let Some(mut ours) = ours(desk, here, known)? else {
        return Ok(false);
    };
    ours.columns.retain(|name, _| theirs.digests(name));
    Ok(ours.print(false) == print)
}

/// The row as it is here.
fn ours(desk: Desk<'_>, here: &Shape, known: &Known) -> Result<Option<Content>, RowsError> {
    let Some(lid) = known.entry.lid else {
        return Ok(None);
    };
    let names = Names::new(desk.shadow);
    let content = one(&desk.live.db, here, lid, |row| row.content(&|table, id| names.get(table, id)))?;
    names.check()?;
    Ok(content)
}

/// The rows that have or had a key, those that are alive first.
fn with_key(desk: Desk<'_>, table: &str, key: Uid) -> Result<Vec<Known>, RowsError> {
    let sql = "SELECT uid FROM keys WHERE key = ?1 AND tab = ?2";
    let mut uids = vec![key];
    {
        let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
        let rows = statement.query_map(params![key, table], |row| row.get(0)).map_err(ShadowError)?;
        for uid in rows {
            uids.push(uid.map_err(ShadowError)?);
        }
    }
    let mut found = Vec::new();
    for uid in uids {
        found.extend(desk.shadow.by_uid(table, uid)?);
    }
    // The key of its birth counts before those that it took later.
    found.sort_by_key(|known| (known.entry.uid != key, known.entry.dead, known.entry.uid));
    Ok(found)
}

fn alone(desk: Desk<'_>, here: &Shape, content: &Content, birth: i64) -> Result<Option<Uid>, RowsError> {
    let Some(of) = compose::belongs_to(here, content) else {
        return Ok(None);
    };
    let of = serde_json::to_string(&of).unwrap_or_default();
    let sql = "SELECT min(uid), count(*) FROM temp.births WHERE birth = ?1 AND tab = ?2 AND of = ?3";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let found: Option<(Option<Uid>, i64)> = statement
        .query_row(params![birth, here.name, of], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(ShadowError)?;
    Ok(found.and_then(|(uid, count)| uid.filter(|_| count == 1)))
}

/// The record of a row that is new, or that a Python node changed after a Python node wrote it.
fn record(
    desk: Desk<'_>,
    theirs: &Shape,
    here: &Shape,
    uid: Uid,
    known: Option<&Known>,
    mut seen: Seen,
    modified_ms: i64,
) -> Result<Option<Record>, RowsError> {
    let mut stamp = Stamp::without_history(Writer::Python);
    if let Some(known) = known {
        stamp.0 = modified_ms;
        let last = known.entry.stamp;
        let may = !known.entry.dead && last.2 == Writer::Python && last < stamp;
        if !may || says(desk, theirs, here, known, &view(here, &seen.content))? {
            return Ok(None);
        }
        // What the image has no column for is not what it says.
        let ours = ours(desk, here, known)?.unwrap_or_default().columns;
        seen.content.columns.extend(ours.into_iter().filter(|(name, _)| theirs.column(name).is_none()));
    }
    let home = known.and_then(|known| known.entry.home).or(here.is_sessions().then_some(Writer::Python));
    let key = key(&here.name, &seen.content, &here.key);
    let former = known.map(|known| known.entry.key).filter(|former| *former != key && *former != uid);
    Ok(Some(Record {
        table: here.name.clone(),
        uid,
        stamp,
        key,
        keys: former.into_iter().collect(),
        born: seen.birth,
        of: compose::belongs_to(here, &seen.content),
        home,
        content: Some(seen.content),
        deleted: false,
    }))
}
