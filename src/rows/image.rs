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
use super::log::{Attempt, RowLog};
use super::outbox::{self, About, Emptied, Part, Segment};
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
        desk.shadow.transaction(|| outbox::pack(desk, log, about, outbox, segment, Part::one(Kind::Rows)))?;
        if outbox::empty(desk, log, outbox, true, Attempt::First).await? == Emptied::Taken {
            return Ok(Emptied::Taken);
        }
        after = last;
    }
}

/// The next segment of noted records, and the place of its last one.
fn pack(desk: Desk<'_>, about: &About, after: i64) -> Result<(Segment, i64), RowsError> {
    let mut segment = Segment::new(about, Effort::Usual)?;
    let sql = "SELECT id, record FROM temp.packed WHERE id > ?1 ORDER BY id";
    let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let mut rows = statement.query([after]).map_err(ShadowError)?;
    let mut last = after;
    while let Some(row) = rows.next().map_err(ShadowError)? {
        let packed: Vec<u8> = row.get(1).map_err(ShadowError)?;
        let (record, _) = intake::unpack(desk, &packed)?;
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
        // Rows that say exactly what a row here says come first, so that of two rows of one key neither takes the other's
        // place.
        let mut identified = HashMap::new();
        walk(desk, &theirs, shape, &names, |seen| {
            if let Some(uid) = exact(desk, shape, here, &seen, &used)? {
                used.insert(uid);
                identified.insert(seen.id, uid);
            }
            Ok(())
        })?;
        walk(desk, &theirs, shape, &names, |seen| {
            let uid = match identified.get(&seen.id) {
                Some(uid) => *uid,
                None => match identify(desk, here, &seen, &used)? {
                    Some(uid) => uid,
                    None => return Ok(()),
                },
            };
            used.insert(uid);
            identified.insert(seen.id, uid);
            let known = desk.shadow.by_uid(&shape.name, uid)?;
            if let Some(record) = record(desk, shape, here, uid, known.as_ref(), seen, modified_ms)? {
                let line = record.line().map_err(|error| RowsError::Segment(error.to_string()))?;
                intake::note(desk, &record, &line, false)?;
                found += 1;
            }
            Ok(())
        })?;
        names.extend(identified.into_iter().map(|(id, uid)| ((shape.name.clone(), id), uid)));
    }
    Ok(found)
}

/// Hands every row of a table of the image to `visit` that does not stay with the Python node.
fn walk(
    desk: Desk<'_>,
    theirs: &Live,
    shape: &Shape,
    names: &HashMap<(String, i64), Uid>,
    mut visit: impl FnMut(Seen) -> Result<(), RowsError>,
) -> Result<(), RowsError> {
    for_each(&theirs.db, shape, i64::MIN, |row| {
        let resolve = |table: &str, id: i64| names.get(&(table.to_owned(), id)).copied();
        let seen = Seen { id: row.id()?, birth: row.birth()?, content: row.content(&resolve)? };
        if went_back::stays_here(theirs, desk.excluded, shape, seen.id)? { Ok(()) } else { visit(seen) }
    })
}

/// The row of this key that says exactly the same, if no other row of the image is it.
fn exact(
    desk: Desk<'_>,
    shape: &Shape,
    here: &Shape,
    seen: &Seen,
    used: &HashSet<Uid>,
) -> Result<Option<Uid>, RowsError> {
    let local = view(here, &seen.content);
    for known in candidates(desk, here, seen)? {
        if !used.contains(&known.entry.uid) && says(desk, shape, here, &known, &local)? {
            return Ok(Some(known.entry.uid));
        }
    }
    Ok(None)
}

/// Which row it is, where none says the same: one that has or had its key and that no other row of the image is; then the
/// only row of its session and birth instant; else a new one. `None`: it is there twice.
fn identify(
    desk: Desk<'_>,
    here: &Shape,
    seen: &Seen,
    used: &HashSet<Uid>,
) -> Result<Option<Uid>, RowsError> {
    let free = |uid: &Uid| !used.contains(uid);
    let candidates = candidates(desk, here, seen)?;
    if let Some(known) = candidates.iter().find(|known| free(&known.entry.uid)) {
        return Ok(Some(known.entry.uid));
    }
    // From the whole content: every machine that takes the image in gives the same.
    let key = key(&here.name, &seen.content, &here.key);
    if candidates.is_empty() {
        let alone = alone(desk, here, &view(here, &seen.content), seen.birth)?;
        if let Some(uid) = alone.or(Some(key)).filter(free) {
            return Ok(Some(uid));
        }
    }
    Ok(Some(extended(&here.name, key, &seen.content, 0)).filter(free))
}

/// The rows that have or had the key of a row of the image, as this release or as that of the image makes it.
fn candidates(desk: Desk<'_>, here: &Shape, seen: &Seen) -> Result<Vec<Known>, RowsError> {
    let whole = key(&here.name, &seen.content, &here.key);
    let local = key(&here.name, &view(here, &seen.content), &here.key);
    let mut found = with_key(desk, &here.name, whole)?;
    if local != whole {
        found.extend(with_key(desk, &here.name, local)?);
    }
    Ok(found)
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
