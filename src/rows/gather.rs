//! What is new in the log: which segments, and the records in them. Asks the store, notes what came; what becomes of it is
//! decided later.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::RowsError;
use super::ahead::Ahead;
use super::asked;
use super::desk::Desk;
use super::header::Covers;
use super::holes::{self, Damaged, Holes};
use super::intake;
use super::log::{Download, Fetched, LogError, RowLog};
use super::record::Record;
use super::report::Collected;
use super::shadow::ShadowError;
use super::stamp::{Clock, Writer, is_far};
use super::wanted::reached;
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

/// So many segments are asked for at once: on a slow line each would wait for the one before.
const AT_ONCE: usize = 4;

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
    let mut reading = Reading::begin(desk, log, after, report)?;
    let wanted = reading.wanted(listed)?;
    let asking = |(writer, number, known)| async move {
        (writer, number, Box::pin(ask(log, writer, number, known)).await)
    };
    let mut asked = stream::iter(wanted.into_iter().map(asking)).buffered(AT_ONCE);
    while let Some((writer, number, answer)) = asked.next().await {
        reading.take(writer, number, answer?)?;
    }
    reading.end()
}

/// Notes the records of segments that are here already: of each writer the next one after what was collected, or nothing.
///
/// # Errors
/// See [`RowsError`].
pub fn gather_ahead(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    ahead: Ahead,
    report: &mut Collected,
) -> Result<Gathered, RowsError> {
    let mut reading = Reading::begin(desk, log, After::News, report)?;
    for (writer, number, download) in ahead.segments {
        let listed = Listed::from([(writer, BTreeSet::from([number]))]);
        if number == desk.shadow.collected(writer)? + 1 && !reading.wanted(&listed)?.is_empty() {
            reading.take(writer, number, Answer::Came(download))?;
        }
    }
    reading.end()
}

/// What the store says of a segment.
enum Answer {
    /// These are its bytes.
    Came(Download),
    /// It is not there.
    Absent,
    /// It is as damaged as it was.
    Damaged(Damaged),
}

/// `known`: how it could not be read the last time; as long as it is the same, it is not fetched again.
async fn ask(
    log: &RowLog<'_>,
    writer: Writer,
    number: u64,
    known: Option<Damaged>,
) -> Result<Answer, LogError> {
    let writer = writer.to_string();
    if let Some(known) = known {
        let version = log.version(&writer, number).await?;
        if version.is_some_and(|version| version.0 == known.etag) {
            return Ok(Answer::Damaged(known));
        }
    }
    Ok(log.download(&writer, number).await?.map_or(Answer::Absent, Answer::Came))
}

/// Segments being read, one after the other.
struct Reading<'r> {
    desk: Desk<'r>,
    log: &'r RowLog<'r>,
    after: After,
    report: &'r mut Collected,
    all: Gathered,
    clock: Clock,
    /// Writers whose clocks are far ahead.
    ahead: BTreeSet<Writer>,
    /// What was read of each writer, and what it stands for.
    read: BTreeMap<Writer, Vec<(u64, Option<Covers>)>>,
}

impl<'r> Reading<'r> {
    fn begin(
        desk: Desk<'r>,
        log: &'r RowLog<'r>,
        after: After,
        report: &'r mut Collected,
    ) -> Result<Self, RowsError> {
        let holes = desk.shadow.get(holes::NAME)?.unwrap_or_default();
        let all = Gathered { holes, ..Gathered::default() };
        let clock = desk.shadow.clock()?;
        Ok(Self { desk, log, after, report, all, clock, ahead: BTreeSet::new(), read: BTreeMap::new() })
    }

    fn collected(&self, writer: Writer) -> Result<u64, ShadowError> {
        if self.after == After::News { self.desk.shadow.collected(writer) } else { Ok(0) }
    }

    /// Which of the listed segments are to be read, and what is known of their damage.
    fn wanted(&mut self, listed: &Listed) -> Result<Vec<(Writer, u64, Option<Damaged>)>, RowsError> {
        let mut wanted = Vec::new();
        for (writer, numbers) in listed {
            if self.after == After::News && *writer == self.desk.me {
                continue;
            }
            let collected = self.collected(*writer)?;
            let news = self.after == After::News;
            let read = if news { self.all.holes.above(*writer) } else { Vec::new() };
            let unread =
                numbers.range(collected + 1..).filter(|number| !read.iter().any(|(at, _)| at == *number));
            wanted.extend(
                unread.map(|number| (*writer, *number, self.all.holes.known(*writer, *number).cloned())),
            );
            self.read.insert(*writer, read);
        }
        Ok(wanted)
    }

    /// One segment.
    fn take(&mut self, writer: Writer, number: u64, answer: Answer) -> Result<(), RowsError> {
        let download = match answer {
            Answer::Came(download) => download,
            Answer::Damaged(known) => {
                self.report.refused.push(known.problem);
                return Ok(());
            }
            Answer::Absent => {
                self.all.holes.forget(writer, number);
                self.all.absent = true;
                return Ok(());
            }
        };
        match self.log.prove(&writer.to_string(), number, download) {
            Ok(fetched) => {
                self.all.holes.forget(writer, number);
                let covers = self.note(writer, number, fetched)?;
                self.read.entry(writer).or_default().push((number, covers));
                Ok(())
            }
            Err(error) if error.is_damage() => {
                self.refuse(writer, number, &error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// It cannot be used. What lies in its bytes is remembered until they change.
    fn refuse(&mut self, writer: Writer, number: u64, error: &LogError) {
        self.report.refused.push(error.to_string());
        if self.all.holes.known(writer, number).is_some() {
            self.all.holes.forget(writer, number);
        }
        let lasting = match error {
            LogError::Segment { etag, error, .. } if error.is_in_the_bytes() => etag.as_ref(),
            LogError::Sealed { etag, error: SealError::NotAuthentic | SealError::NotSealed, .. } => {
                etag.as_ref()
            }
            _ => None,
        };
        if let Some(etag) = lasting {
            self.all.holes.remember(writer, number, etag.0.clone(), error.to_string());
        }
    }

    /// Notes its records. What it stands for.
    fn note(
        &mut self,
        writer: Writer,
        number: u64,
        mut fetched: Fetched,
    ) -> Result<Option<Covers>, RowsError> {
        let (desk, asked) = (self.desk, self.after == After::Asked);
        self.report.segments += 1;
        let mut line = Vec::new();
        let mut strange = 0_u64;
        desk.shadow.transaction(|| {
            while fetched
                .reader
                .next_line(&mut line)
                .map_err(|error| RowsError::Segment(error.to_string()))?
            {
                let Ok(record) = Record::read(&line) else {
                    strange += 1;
                    continue;
                };
                if asked && !asked::has(desk, &record.table, record.uid)? {
                    continue;
                }
                if is_far(record.stamp, desk.now_ms) {
                    self.ahead.insert(record.stamp.2);
                }
                self.clock.witness(record.stamp, desk.now_ms);
                intake::note(desk, &record, &line, asked)?;
            }
            Ok::<_, RowsError>(())
        })?;
        if strange > 0 {
            self.report.refused.push(format!("segment {number} of {writer}: {strange} lines are no records"));
        }
        failpoint::reach("rows.segment-read");
        let header = &fetched.reader.header;
        Ok(header.covers.filter(|_| header.is_last_part()))
    }

    /// How far one has come.
    fn end(mut self) -> Result<Gathered, RowsError> {
        for (writer, read) in std::mem::take(&mut self.read) {
            let reached = reached(self.collected(writer)?, &read);
            self.all.holes.keep(writer, reached, read);
            self.all.reached.insert(writer, reached);
        }
        let shadow = self.desk.shadow;
        shadow.set_clock(self.clock)?;
        for writer in self.ahead {
            let sql = "INSERT INTO writers(writer, number, ahead) VALUES (?1, 0, 1) ON CONFLICT(writer) DO UPDATE SET ahead = 1";
            shadow.db.execute(sql, [writer]).map_err(ShadowError)?;
        }
        Ok(self.all)
    }
}
