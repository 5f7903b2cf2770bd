//! What is new in the log: which segments, and the records in them. Asks the store, notes what came; what becomes of it is
//! decided later.

use std::collections::{BTreeMap, BTreeSet};

use super::RowsError;
use super::desk::Desk;
use super::header::Covers;
use super::holes::{self, Holes};
use super::intake;
use super::log::{LogError, RowLog};
use super::record::Record;
use super::report::Collected;
use super::shadow::ShadowError;
use super::stamp::{Clock, Writer, is_far};
use super::wanted::reached;
use crate::database::content::Uid;
use crate::failpoint;
use crate::seal::SealError;

/// The segments of each writer that are there, by number.
pub type Listed = BTreeMap<Writer, BTreeSet<u64>>;

/// How far one has come.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Up to which number the segments of each writer were read.
    pub reached: BTreeMap<Writer, u64>,
    /// What is missing below that.
    pub holes: Holes,
    /// A segment was not there.
    pub absent: bool,
}

/// What a reader of segments is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// What was not collected yet.
    News,
    /// Everything, our own folder too.
    Everything,
    /// Everything, but only the rows that were asked for.
    Asked,
}

/// Lists all segments.
///
/// # Errors
/// The store's.
pub async fn list(log: &RowLog<'_>) -> Result<Listed, RowsError> {
    let mut listed = Listed::new();
    for segment in Box::pin(log.segments()).await? {
        if let Ok(writer) = segment.writer.parse() {
            listed.entry(writer).or_default().insert(segment.number);
        }
    }
    Ok(listed)
}

/// Reads what is wanted of the listed segments and notes their records.
///
/// # Errors
/// See [`RowsError`].
pub async fn gather(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    listed: &Listed,
    after: After,
    report: &mut Collected,
) -> Result<Gathered, RowsError> {
    let mut clock = desk.shadow.clock()?;
    let mut ahead = BTreeSet::new();
    let mut all =
        Gathered { holes: desk.shadow.get(holes::NAME)?.unwrap_or_default(), ..Gathered::default() };
    for (writer, numbers) in listed {
        if after == After::News && *writer == desk.me {
            continue;
        }
        let (collected, mut read) = match after {
            After::News => (desk.shadow.collected(*writer)?, all.holes.above(*writer)),
            After::Everything | After::Asked => (0, Vec::new()),
        };
        for number in numbers.range(collected + 1..) {
            if read.iter().any(|(there, _)| there == number) {
                continue;
            }
            if is_still_damaged(log, &mut all, *writer, *number, report).await? {
                continue;
            }
            let found =
                segment(desk, log, &mut all, *writer, *number, after, report, &mut clock, &mut ahead).await?;
            read.extend(found.map(|covers| (*number, covers)));
        }
        let reached = reached(collected, &read);
        all.holes.keep(*writer, reached, read);
        all.reached.insert(*writer, reached);
    }
    desk.shadow.set_clock(clock)?;
    for writer in ahead {
        desk.shadow
            .db
            .execute(
                "INSERT INTO writers(writer, number, ahead) VALUES (?1, 0, 1) ON CONFLICT(writer) DO UPDATE SET ahead = 1",
                [writer],
            )
            .map_err(ShadowError)?;
    }
    Ok(all)
}

/// Whether a segment that could not be read is as it was: then it is named and not fetched again.
async fn is_still_damaged(
    log: &RowLog<'_>,
    all: &mut Gathered,
    writer: Writer,
    number: u64,
    report: &mut Collected,
) -> Result<bool, RowsError> {
    let Some(known) = all.holes.known(writer, number) else {
        return Ok(false);
    };
    let version = Box::pin(log.version(&writer.to_string(), number)).await?;
    let same = version.is_some_and(|version| version.0 == known.etag);
    if same {
        report.refused.push(known.problem.clone());
    } else {
        all.holes.forget(writer, number);
    }
    Ok(same)
}

/// One segment. `None`: it is not there any more, or cannot be used; otherwise what it stands for.
#[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
async fn segment(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    all: &mut Gathered,
    writer: Writer,
    number: u64,
    after: After,
    report: &mut Collected,
    clock: &mut Clock,
    ahead: &mut BTreeSet<Writer>,
) -> Result<Option<Option<Covers>>, RowsError> {
    let mut fetched = match Box::pin(log.get(&writer.to_string(), number)).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => {
            all.absent = true;
            return Ok(None);
        }
        Err(error) if error.is_damage() => {
            report.refused.push(error.to_string());
            let lasting = match &error {
                LogError::Segment { etag, error, .. } if error.is_in_the_bytes() => etag.as_ref(),
                LogError::Sealed { etag, error: SealError::NotAuthentic | SealError::NotSealed, .. } => {
                    etag.as_ref()
                }
                _ => None,
            };
            if let Some(etag) = lasting {
                all.holes.remember(writer, number, etag.0.clone(), error.to_string());
            }
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    all.holes.forget(writer, number);
    report.segments += 1;
    let mut line = Vec::new();
    let mut strange = 0_u64;
    desk.shadow.transaction(|| {
        while fetched.reader.next_line(&mut line).map_err(|error| RowsError::Segment(error.to_string()))? {
            let Ok(record) = Record::read(&line) else {
                strange += 1;
                continue;
            };
            if after == After::Asked && !is_asked(desk, &record.table, record.uid)? {
                continue;
            }
            if is_far(record.stamp, desk.now_ms) {
                ahead.insert(record.stamp.2);
            }
            clock.witness(record.stamp, desk.now_ms);
            intake::note(desk, &record, &line, after == After::Asked)?;
        }
        Ok::<_, RowsError>(())
    })?;
    if strange > 0 {
        report.refused.push(format!("segment {number} of {writer}: {strange} lines are no records"));
    }
    failpoint::reach("rows.segment-read");
    let header = &fetched.reader.header;
    Ok(Some(header.covers.filter(|_| header.is_last_part())))
}

fn is_asked(desk: Desk<'_>, table: &str, uid: Uid) -> Result<bool, ShadowError> {
    use rusqlite::OptionalExtension;
    let sql = "SELECT 1 FROM temp.asked WHERE uid = ?1 AND tab = ?2";
    let mut statement = desk.shadow.db.prepare_cached(sql)?;
    Ok(statement.query_row(rusqlite::params![uid, table], |_| Ok(())).optional()?.is_some())
}
