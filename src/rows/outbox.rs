//! A segment on its way up. Its bytes lie in the outbox before they go; after a crash the same bytes go up again, and what is
//! in them is entered before anything is collected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::RowsError;
use super::desk::Desk;
use super::header::{Covers, Header, Kind, SCHEMA};
use super::log::{self, Attempt, RowLog};
use super::record::Record;
use super::segment::{Effort, SegmentWriter};
use super::shadow::{Entry, Shadow, ShadowError};
use super::stamp::{Stamp, Writer};
use crate::failpoint;
use crate::storage::Digests;
use crate::sum::Sum;

/// A segment whose bytes are to go up, and are in a file of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    number: u64,
    size: u64,
    sha256: Sum,
    md5: String,
    records: u64,
}

/// What every header of a run says.
#[derive(Debug, Clone)]
pub struct About {
    /// Canonical project id.
    pub project: String,
    /// Node id.
    pub node_id: String,
    /// Host name.
    pub host: String,
    /// claude-mem's version.
    pub claude_mem: Option<String>,
    /// When, as ISO time by the store's clock.
    pub time: String,
    /// Random.
    pub token: String,
    /// Our folder for temporary files.
    pub scratch: PathBuf,
}

/// How the outbox was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// It was empty.
    Nothing,
    /// A segment of so many bytes and records is in the bucket.
    Sent(u64, u64),
    /// Our number was taken: our state was copied.
    Taken,
}

/// A segment that is being written.
pub struct Segment {
    writer: SegmentWriter,
    rows: BTreeMap<String, u64>,
    deleted: BTreeMap<String, u64>,
    largest: Option<Stamp>,
    /// Records in it.
    pub records: u64,
}

impl Segment {
    /// Begins one.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(about: &About, effort: Effort) -> Result<Self, RowsError> {
        let writer = SegmentWriter::new(&about.scratch, effort)
            .map_err(|error| RowsError::Segment(error.to_string()))?;
        Ok(Self { writer, rows: BTreeMap::new(), deleted: BTreeMap::new(), largest: None, records: 0 })
    }

    /// Adds a record; `false`: it does not fit any more.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&mut self, record: &Record) -> Result<bool, RowsError> {
        let line = record.line().map_err(|error| RowsError::Segment(error.to_string()))?;
        if !self.writer.fits(line.len()) {
            return Ok(false);
        }
        self.writer.line(&line).map_err(|error| RowsError::Segment(error.to_string()))?;
        let counts = if record.deleted { &mut self.deleted } else { &mut self.rows };
        *counts.entry(record.table.clone()).or_default() += 1;
        self.largest = self.largest.max(Some(record.stamp));
        self.records += 1;
        Ok(true)
    }
}

/// Which part of what a segment is.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Why it is made.
    pub kind: Kind,
    /// From 1.
    pub number: u32,
    /// The last one.
    pub last: bool,
    /// What all parts together stand for.
    pub covers: Option<Covers>,
}

impl Part {
    /// The only one.
    pub fn one(kind: Kind) -> Self {
        Self { kind, number: 1, last: true, covers: None }
    }
}

/// Ends a segment and puts its bytes into the outbox, as a part of the transaction at hand.
///
/// # Errors
/// The disk's.
pub fn pack(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    about: &About,
    outbox: &Path,
    segment: Segment,
    part: Part,
) -> Result<(), RowsError> {
    let shadow = desk.shadow;
    let number = shadow.get::<u64>("published")?.unwrap_or(0) + 1;
    let header = Header {
        schema: SCHEMA,
        project: about.project.clone(),
        writer: desk.me.to_string(),
        number,
        kind: part.kind,
        part: part.number,
        parts: part.last.then_some(part.number),
        covers: part.covers,
        node_id: about.node_id.clone(),
        host: about.host.clone(),
        claude_mem_version: about.claude_mem.clone(),
        schema_version: desk.live.schema.version,
        membridge_version: env!("CARGO_PKG_VERSION").to_owned(),
        time: about.time.clone(),
        rows: segment.rows,
        deleted: segment.deleted,
        previous: shadow.get("published_sha256")?,
        largest_stamp: segment.largest,
        seen: seen(shadow)?.into_iter().map(|(writer, number)| (writer.to_string(), number)).collect(),
        token: about.token.clone(),
    };
    let records = segment.records;
    let prepared = log.finish(segment.writer, header)?;
    let Digests { size, sha256, md5 } = prepared.digests;
    let fail =
        |error: std::io::Error| RowsError::Io { doing: "fill the outbox", path: outbox.to_owned(), error };
    std::fs::File::open(&prepared.path).and_then(|file| file.sync_all()).map_err(fail)?;
    prepared.path.persist(outbox).map_err(|error| fail(error.error))?;
    shadow.set("outbox", &Outbox { number, size, sha256, md5, records })?;
    Ok(())
}

/// Notes what the shadow is to say of a row once the segment is there.
///
/// # Errors
/// The shadow's.
pub fn note_outgoing(shadow: &Shadow, entry: &Entry) -> Result<(), RowsError> {
    let json = serde_json::to_string(entry).map_err(|error| RowsError::Segment(error.to_string()))?;
    let sql = "INSERT INTO outgoing(entry) VALUES (?1)";
    shadow
        .db
        .prepare_cached(sql)
        .and_then(|mut insert| insert.execute(params![json]))
        .map_err(ShadowError)?;
    Ok(())
}

/// For each other writer the segment up to which everything is here.
///
/// # Errors
/// The shadow's.
pub fn seen(shadow: &Shadow) -> Result<BTreeMap<Writer, u64>, ShadowError> {
    let mut statement = shadow.db.prepare_cached("SELECT writer, number FROM writers WHERE number > 0")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Sends what is in the outbox. `enter`: what is in it is here; not where the database went back. `attempt`: whether an
/// earlier run may have sent it.
///
/// # Errors
/// See [`RowsError`]; then it is sent the next time.
pub async fn empty(
    desk: Desk<'_>,
    log: &RowLog<'_>,
    outbox: &Path,
    enter: bool,
    attempt: Attempt,
) -> Result<Emptied, RowsError> {
    let shadow = desk.shadow;
    let Some(waiting) = shadow.get::<Outbox>("outbox")? else {
        return Ok(Emptied::Nothing);
    };
    if !outbox.exists() {
        // The file is gone, and with it what nobody has read: the next scan finds it again.
        drop_outbox(shadow)?;
        return Ok(Emptied::Nothing);
    }
    let Outbox { number, size, sha256, md5, records } = waiting;
    let digests = Digests { size, sha256, md5 };
    let too_early = failpoint::planted("publish order");
    if too_early {
        enter_published(shadow, enter, number, digests.sha256)?;
    }
    match Box::pin(log.publish(&desk.me.to_string(), number, (outbox, &digests), attempt)).await? {
        log::Published::Ours => {}
        log::Published::SomebodyElses => return Ok(Emptied::Taken),
        // Nobody has read it: the next scan finds its rows again, and they are sealed.
        log::Published::Stale => {
            drop_outbox(shadow)?;
            let _ = std::fs::remove_file(outbox);
            return Ok(Emptied::Nothing);
        }
    }
    failpoint::reach("rows.published");
    if !too_early {
        enter_published(shadow, enter, number, digests.sha256)?;
    }
    let _ = std::fs::remove_file(outbox);
    Ok(Emptied::Sent(size, records))
}

/// The segment `number` is in the bucket, and what is in it is known here where it is to be entered.
fn enter_published(shadow: &Shadow, enter: bool, number: u64, sha256: Sum) -> Result<(), RowsError> {
    shadow.transaction(|| {
        if enter {
            enter_outgoing(shadow)?;
        }
        shadow.set("published", &number)?;
        shadow.set("published_sha256", &sha256)?;
        drop_outbox(shadow)?;
        failpoint::reach("rows.published-entered");
        Ok::<_, RowsError>(())
    })
}

fn enter_outgoing(shadow: &Shadow) -> Result<(), RowsError> {
    let mut statement = shadow.db.prepare("SELECT entry FROM outgoing ORDER BY id").map_err(ShadowError)?;
    let mut rows = statement.query([]).map_err(ShadowError)?;
    while let Some(row) = rows.next().map_err(ShadowError)? {
        let json: String = row.get(0).map_err(ShadowError)?;
        let entry: Entry =
            serde_json::from_str(&json).map_err(|error| RowsError::Segment(error.to_string()))?;
        let known = shadow.by_uid(&entry.table, entry.uid)?;
        if known.is_none_or(|known| known.entry.stamp <= entry.stamp) {
            shadow.enter(&entry)?;
        }
    }
    Ok(())
}

/// Throws the outbox away.
///
/// # Errors
/// The shadow's.
pub fn drop_outbox(shadow: &Shadow) -> Result<(), ShadowError> {
    shadow.unset("outbox")?;
    shadow.db.execute("DELETE FROM outgoing", [])?;
    Ok(())
}
