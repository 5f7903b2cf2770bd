//! From what a scan found to segments in the bucket, one after the other; how one goes up is the outbox's business.

use std::path::Path;

use super::RowsError;
use super::compose;
use super::desk::Desk;
use super::header::Kind;
use super::live::Names;
use super::log::{Attempt, RowLog};
use super::outbox::{self, About, Emptied, Part, Segment};
use super::record::Record;
use super::report::Published;
use super::segment::Effort;
use super::shadow::{Entry, ShadowError};
use super::stamp::Stamp;
use crate::database::content::Uid;
use crate::database::rows::one;
use crate::failpoint;

/// One row that leaves.
struct Leaving {
    id: i64,
    table: String,
    uid: Uid,
    lid: Option<i64>,
    stamp: Stamp,
}

/// Publishes everything that a scan noted, in as many segments as it takes.
///
/// # Errors
/// See [`RowsError`]; what was sent stays.
pub async fn publish(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
) -> Result<Published, RowsError> {
    let names = names(desk)?;
    let (mut published, mut packed) = (Published::default(), 0);
    loop {
        match prepare(desk, log, about, outbox, (&names, packed))? {
            Some(last) => packed = last,
            None => return Ok(published),
        }
        failpoint::reach("rows.outbox");
        match outbox::empty(desk, log, outbox, true, Attempt::First).await? {
            Emptied::Nothing => return Ok(published),
            Emptied::Sent(bytes, records) => {
                published.segments += 1;
                published.bytes += bytes;
                published.records += records;
            }
            Emptied::Taken => {
                published.new_writer = true;
                return Ok(published);
            }
        }
    }
}

/// What new rows will be called, that others point to.
fn names(desk: Desk<'_>) -> Result<Names<'_>, RowsError> {
    let names = Names::new(desk.shadow);
    let mut statement = desk
        .shadow
        .db
        .prepare("SELECT lid, uid FROM temp.leaving WHERE tab = ?1 AND lid IS NOT NULL")
        .map_err(ShadowError)?;
    for shape in desk.live.shapes.all.iter().filter(|shape| shape.is_named) {
        let mut rows = statement.query([&shape.name]).map_err(ShadowError)?;
        while let Some(row) = rows.next().map_err(ShadowError)? {
            names.set(&shape.name, row.get(0)?, row.get(1)?);
        }
    }
    Ok(names)
}

/// Packs the next rows that leave into the outbox, those behind `packed`; the place of the last one, `None`: there are none.
fn prepare(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
    (names, packed): (&Names<'_>, i64),
) -> Result<Option<i64>, RowsError> {
    let mut segment = Segment::new(about, Effort::Usual)?;
    let (shadow, mut last) = (desk.shadow, packed);
    shadow.transaction(|| {
        shadow.db.execute("DELETE FROM outgoing", []).map_err(ShadowError)?;
        let sql = "SELECT id, tab, uid, lid, ms, counter, writer FROM temp.leaving WHERE id > ?1 ORDER BY id";
        let mut statement = shadow.db.prepare_cached(sql).map_err(ShadowError)?;
        let mut rows = statement.query([packed]).map_err(ShadowError)?;
        while let Some(row) = rows.next().map_err(ShadowError)? {
            let row = leaving(row).map_err(ShadowError)?;
            if let Some((record, entry)) = record(desk, names, &row)? {
                if !segment.add(&record)? {
                    break;
                }
                outbox::note_outgoing(shadow, &entry)?;
            }
            last = row.id;
        }
        names.check()?;
        if segment.records == 0 {
            return Ok(None);
        }
        outbox::pack(desk, log, about, outbox, segment, Part::one(Kind::Rows))?;
        Ok::<_, RowsError>(Some(last))
    })
}

fn leaving(row: &rusqlite::Row<'_>) -> rusqlite::Result<Leaving> {
    Ok(Leaving {
        id: row.get(0)?,
        table: row.get(1)?,
        uid: row.get(2)?,
        lid: row.get(3)?,
        stamp: Stamp(row.get(4)?, row.get(5)?, row.get(6)?),
    })
}

/// The record of a row that leaves, and what the shadow will say of it. `None`: it is gone meanwhile.
fn record(desk: Desk<'_>, names: &Names<'_>, row: &Leaving) -> Result<Option<(Record, Entry)>, RowsError> {
    let known = desk.shadow.by_uid(&row.table, row.uid)?;
    let keys = desk.shadow.keys_of(&row.table, row.uid)?;
    let Some(lid) = row.lid else {
        let Some(known) = known else {
            return Ok(None);
        };
        let record = compose::deletion(&known, row.stamp, keys);
        let entry = compose::entry(None, &record, None, desk.me);
        return Ok(Some((record, entry)));
    };
    let Some(shape) = desk.live.shapes.get(&row.table) else {
        return Ok(None);
    };
    let resolve = |table: &str, id: i64| names.get(table, id);
    let read = |row: crate::database::rows::Lying<'_, '_>| Ok((row.birth()?, row.content(&resolve)?));
    let Some((birth, content)) = one(&desk.live.db, shape, lid, read)? else {
        return Ok(None);
    };
    let record = compose::record(shape, row.uid, row.stamp, birth, content, known.as_ref(), keys, desk.me);
    let entry = compose::entry(Some(shape), &record, Some(lid), desk.me);
    Ok(Some((record, entry)))
}
