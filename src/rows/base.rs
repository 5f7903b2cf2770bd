//! Folds our own segments: many small ones into one, or everything that is ours into a base. What is folded goes up through
//! the outbox like everything else; what it stands for goes a day later.

use std::path::Path;

use super::RowsError;
use super::compose;
use super::desk::Desk;
use super::fold::{self, Decision};
use super::header::{Covers, Kind};
use super::live::Names;
use super::log::{Attempt, RowLog};
use super::merge::{Merge, MergeError};
use super::node::Fold;
use super::outbox::{self, About, Emptied, Part, Segment};
use super::record::Record;
use super::report::Folded;
use super::segment::Effort;
use super::shadow::ShadowError;
use super::stamp::Writer;
use crate::database::content::{Printer, Uid};
use crate::database::rows::one;
use crate::failpoint;

/// Takes away what a fold has stood for since more than a day, and folds where it is time.
///
/// # Errors
/// See [`RowsError`].
pub async fn fold(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
) -> Result<Option<Folded>, RowsError> {
    let me = desk.me.to_string();
    let own = Box::pin(log.segments_of(&me)).await?;
    let folds = folds(desk)?;
    let spent = fold::spent(&own, &folds, desk.now_ms / 1000);
    Box::pin(log.delete(&me, &spent)).await?;
    let removed = spent.len() as u64;
    let all = log.is_anew();
    let decision = match fold::anew(&own, &folds, |number| all || log.is_older_than_the_key(&me, number)) {
        Some(covers) => Decision::Base { covers },
        None => fold::decide(&own, &folds),
    };
    let is_base = matches!(decision, Decision::Base { .. });
    let folded = match decision {
        Decision::Nothing => None,
        Decision::Fold { numbers, covers } => some(desk, log, about, outbox, &numbers, covers).await?,
        Decision::Base { covers } => base(desk, log, about, outbox, covers).await?,
    };
    if all && (own.is_empty() || is_base && folded.is_some()) {
        log.sealed_anew();
    }
    Ok(match folded {
        Some(folded) => Some(Folded { removed, ..folded }),
        None => (removed > 0).then(|| Folded { removed, ..Folded::default() }),
    })
}

/// What stands for what, of ours.
///
/// # Errors
/// The shadow's.
pub fn folds(desk: Desk<'_>) -> Result<Vec<Fold>, ShadowError> {
    Ok(desk.shadow.get("folds")?.unwrap_or_default())
}

/// Makes a base of everything that is ours, whatever the sizes. `None` where a row was changed since the scan.
///
/// # Errors
/// See [`RowsError`].
pub async fn base(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
    covers: Covers,
) -> Result<Option<Folded>, RowsError> {
    let uids = ours(desk)?;
    let mut rest = uids.as_slice();
    let mut goes = Goes::new(covers, Kind::Base);
    while !rest.is_empty() {
        let mut segment = Segment::new(about, Effort::Base)?;
        let names = Names::new(desk.shadow);
        while let Some(((table, uid), others)) = rest.split_first() {
            let Some(record) = record(desk, &names, table, *uid)? else {
                return Ok(None);
            };
            if !segment.add(&record)? {
                break;
            }
            rest = others;
        }
        names.check()?;
        if !goes.up(desk, log, about, outbox, segment, rest.is_empty()).await? {
            return Ok(None);
        }
    }
    goes.end(desk)
}

/// Everything whose latest version is ours or a Python node's, and all our deletions; parents first.
fn ours(desk: Desk<'_>) -> Result<Vec<(String, Uid)>, RowsError> {
    let sql = if failpoint::planted("folding") {
        "SELECT tab, uid FROM rows WHERE writer IN (?1, ?2) AND NOT dead AND lid IS NOT NULL ORDER BY id"
    } else {
        "SELECT tab, uid FROM rows WHERE writer IN (?1, ?2) AND (dead OR lid IS NOT NULL) ORDER BY dead, id"
    };
    let mut statement = desk.shadow.db.prepare(sql).map_err(ShadowError)?;
    let rows = statement.query_map([desk.me, Writer::Python], |row| Ok((row.get(0)?, row.get(1)?)));
    let mut uids: Vec<(String, Uid)> = rows.and_then(Iterator::collect).map_err(ShadowError)?;
    let rank = |table: &str| desk.live.shapes.get(table).map_or(usize::MAX, |shape| shape.rank);
    uids.sort_by_key(|(table, _)| rank(table));
    Ok(uids)
}

/// The record of a row as it is in the log. `None`: it was changed here and is not published yet.
fn record(desk: Desk<'_>, names: &Names<'_>, table: &str, uid: Uid) -> Result<Option<Record>, RowsError> {
    let Some(known) = desk.shadow.by_uid(table, uid)? else {
        return Ok(None);
    };
    let keys = desk.shadow.keys_of(table, uid)?;
    let (stamp, entry) = (known.entry.stamp, &known.entry);
    if entry.dead {
        return Ok(Some(compose::deletion(&known, stamp, keys)));
    }
    let (Some(shape), Some(lid)) = (desk.live.shapes.get(table), entry.lid) else {
        return Ok(None);
    };
    let resolve = |table: &str, id: i64| names.get(table, id);
    let at_home = shape.is_sessions() && entry.home == Some(desk.me);
    let looked = one(&desk.live.db, shape, lid, |row| {
        let (_, print) = row.prints(&resolve, at_home, &mut Printer::default())?;
        Ok((row.birth()?, print, row.content(&resolve)?))
    })?;
    let Some((birth, print, content)) = looked else {
        return Ok(None);
    };
    if !entry.seen.is(print) || entry.birth != birth {
        return Ok(None);
    }
    Ok(Some(compose::record(shape, uid, stamp, birth, content, Some(&known), keys, desk.me)))
}

/// Several segments as one.
async fn some(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
    numbers: &[u64],
    covers: Covers,
) -> Result<Option<Folded>, RowsError> {
    let me = desk.me.to_string();
    let mut segments = Vec::new();
    for number in numbers {
        match Box::pin(log.get(&me, *number)).await? {
            Some(fetched) => segments.push(fetched.reader),
            None => return Ok(None),
        }
    }
    let unreadable = |error: MergeError| RowsError::Segment(error.to_string());
    let merge = Merge::new(segments).map_err(unreadable)?;
    let mut segment = Segment::new(about, Effort::Usual)?;
    let mut fits = true;
    merge
        .each(|record, _| {
            fits = fits && segment.add(record)?;
            Ok::<_, Unfolded>(())
        })
        .map_err(|Unfolded(error)| error)?;
    if !fits {
        return Ok(None);
    }
    let mut goes = Goes::new(covers, Kind::Fold);
    if !goes.up(desk, log, about, outbox, segment, true).await? {
        return Ok(None);
    }
    goes.end(desk)
}

/// Why nothing was folded.
struct Unfolded(RowsError);

impl From<MergeError> for Unfolded {
    fn from(error: MergeError) -> Self {
        Self(RowsError::Segment(error.to_string()))
    }
}

impl From<RowsError> for Unfolded {
    fn from(error: RowsError) -> Self {
        Self(error)
    }
}

/// The parts of a fold on their way up.
struct Goes {
    covers: Covers,
    kind: Kind,
    parts: u32,
    report: Folded,
}

impl Goes {
    fn new(covers: Covers, kind: Kind) -> Self {
        Self { covers, kind, parts: 0, report: Folded::default() }
    }

    /// The next part; `false` where our number was taken.
    async fn up(
        &mut self,
        desk: Desk<'_>,
        log: &RowLog<'_>,
        about: &About,
        outbox: &Path,
        segment: Segment,
        last: bool,
    ) -> Result<bool, RowsError> {
        self.parts += 1;
        let part = Part { kind: self.kind, number: self.parts, last, covers: Some(self.covers) };
        desk.shadow.transaction(|| outbox::pack(desk, log, about, outbox, segment, part))?;
        failpoint::reach("rows.fold-packed");
        match outbox::empty(desk, log, outbox, true, Attempt::First).await? {
            Emptied::Sent(bytes, records) => {
                self.report.bytes += bytes;
                self.report.records += records;
                Ok(true)
            }
            Emptied::Nothing | Emptied::Taken => Ok(false),
        }
    }

    /// All parts are there: from now on they stand for what they cover.
    fn end(self, desk: Desk<'_>) -> Result<Option<Folded>, RowsError> {
        let number: u64 = desk.shadow.get("published")?.unwrap_or(0);
        if self.parts == 0 {
            return Ok(None);
        }
        let new = Fold { number, parts: self.parts, covers: self.covers, kind: self.kind };
        desk.shadow.set("folds", &fold::named(&folds(desk)?, new))?;
        failpoint::reach("rows.folded");
        Ok(Some(self.report))
    }
}
