//! Records that came, before anything is done with them: of each row the newest one only. Where a row is not known here,
//! what it takes to find it among the rows that are.

use std::collections::VecDeque;

use rusqlite::{OptionalExtension, params};

use super::RowsError;
use super::compose::belongs_to;
use super::desk::Desk;
use super::record::Record;
use super::search;
use super::shadow::ShadowError;
use super::stamp::Stamp;
use crate::database::content::{Print, key};
use crate::database::rows::view;

/// Notes a record; one that is older than what is here, or than another one that came, is left aside. Its keys are learnt
/// all the same. `again`: it was asked for, and is noted also where it is here already.
///
/// # Errors
/// The shadow's.
pub fn note(desk: Desk<'_>, record: &Record, line: &[u8], again: bool) -> Result<(), RowsError> {
    let shadow = desk.shadow;
    let (table, uid) = (record.table.as_str(), record.uid);
    let shape = desk.live.shapes.get(table);
    let here = record.content.as_ref().zip(shape).map(|(content, shape)| (shape, view(shape, content)));
    let local = here.as_ref().map(|(shape, content)| key(table, content, &shape.key));
    for key in record.keys.iter().chain([&record.key]).chain(&local) {
        shadow.learn_key(table, *key, uid)?;
    }
    let known = shadow.by_uid(table, uid)?;
    let old = !again && known.as_ref().is_some_and(|known| known.entry.stamp >= record.stamp);
    if old {
        return Ok(());
    }
    let print = here.as_ref().map(|(_, content)| content.print(false));
    match other(desk, record)? {
        Some((_, there)) if there >= record.stamp => {
            return Ok(print.map_or(Ok(()), |print| note_past(desk, record, print))?);
        }
        Some((id, _)) => {
            leave_past(desk, record)?;
            forget(desk, id)?;
        }
        None => {}
    }
    let seek = known.is_none_or(|known| known.entry.dead || known.entry.lid.is_none());
    let of = match &here {
        Some((shape, content)) => belongs_to(shape, content),
        None => record.of.clone(),
    };
    let of = of.as_ref().map(search::owner);
    let rank = shape.map_or(i64::MAX / 2, |shape| i64::try_from(shape.rank).unwrap_or(i64::MAX / 2));
    let Stamp(ms, counter, writer) = record.stamp;
    let packed = shadow.lines.pack(line).map_err(|error| RowsError::Segment(error.to_string()))?;
    let sql = "INSERT INTO temp.packed(record) VALUES (?1)";
    let packing = shadow.db.prepare_cached(sql).and_then(|mut insert| insert.insert([packed]));
    let sql = "INSERT INTO temp.incoming VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let mut statement = shadow.db.prepare_cached(sql).map_err(ShadowError)?;
    let bound = params![
        packing.map_err(ShadowError)?,
        table,
        uid,
        record.deleted,
        // Parents come first, and go last.
        if record.deleted { -rank } else { rank },
        record.born,
        ms,
        counter,
        writer,
        seek,
        local.unwrap_or(record.key),
        print,
        of,
    ];
    statement.execute(bound).map_err(ShadowError)?;
    Ok(())
}

/// What came for the same row before: its place, and which version it is.
fn other(desk: Desk<'_>, record: &Record) -> Result<Option<(i64, Stamp)>, ShadowError> {
    let sql = "SELECT id, ms, counter, writer FROM temp.incoming WHERE uid = ?1 AND tab = ?2";
    let mut statement = desk.shadow.db.prepare_cached(sql)?;
    let there = statement.query_row(params![record.uid, record.table], |row| {
        Ok((row.get(0)?, Stamp(row.get(1)?, row.get(2)?, row.get(3)?)))
    });
    Ok(there.optional()?)
}

fn forget(desk: Desk<'_>, id: i64) -> Result<(), ShadowError> {
    for sql in ["DELETE FROM temp.incoming WHERE id = ?1", "DELETE FROM temp.packed WHERE id = ?1"] {
        desk.shadow.db.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

/// Keeps what a row said once: a file that was put back may have it in this version, and of two rows of one key only their
/// content tells which is which.
fn note_past(desk: Desk<'_>, record: &Record, print: Print) -> Result<(), ShadowError> {
    let sql = "INSERT OR IGNORE INTO temp.past VALUES (?1, ?2, ?3)";
    desk.shadow.db.prepare_cached(sql)?.execute(params![record.table, record.uid, print])?;
    Ok(())
}

/// The same of what came for this row before.
fn leave_past(desk: Desk<'_>, record: &Record) -> Result<(), ShadowError> {
    let sql = "INSERT OR IGNORE INTO temp.past SELECT tab, uid, print FROM temp.incoming \
               WHERE uid = ?1 AND tab = ?2 AND print IS NOT NULL";
    desk.shadow.db.prepare_cached(sql)?.execute(params![record.uid, record.table])?;
    Ok(())
}

/// Notes what waits, to be tried again.
///
/// # Errors
/// The shadow's.
pub fn note_waiting(desk: Desk<'_>) -> Result<u64, RowsError> {
    let mut statement = desk
        .shadow
        .db
        .prepare("SELECT record FROM waiting ORDER BY ms, counter, writer")
        .map_err(ShadowError)?;
    let lines: Vec<Vec<u8>> =
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(ShadowError)?;
    for line in &lines {
        match Record::read(line) {
            Ok(record) => note(desk, &record, line, false)?,
            Err(error) => tracing::warn!(%error, "rows: a record that waits cannot be read"),
        }
    }
    Ok(lines.len() as u64)
}

/// A noted record, and its line.
///
/// # Errors
/// It is none.
pub fn unpack(desk: Desk<'_>, packed: &[u8]) -> Result<(Record, Vec<u8>), RowsError> {
    let line = desk.shadow.lines.unpack(packed).map_err(|error| RowsError::Segment(error.to_string()))?;
    let record = Record::read(&line).map_err(|error| RowsError::Segment(error.to_string()))?;
    Ok((record, line))
}

/// Whether anything came.
///
/// # Errors
/// The shadow's.
pub fn is_empty(desk: Desk<'_>) -> Result<bool, ShadowError> {
    let mut statement = desk.shadow.db.prepare_cached("SELECT 1 FROM temp.incoming LIMIT 1")?;
    Ok(statement.query_row([], |_| Ok(())).optional()?.is_none())
}

/// How many records came.
///
/// # Errors
/// The shadow's.
pub fn count(desk: Desk<'_>) -> Result<u64, ShadowError> {
    Ok(desk.shadow.db.query_row("SELECT count(*) FROM temp.incoming", [], |row| row.get(0))?)
}

/// The noted records in the order of arrival: parents first, then what goes, children first.
#[derive(Debug, Default)]
pub struct Queue {
    read: VecDeque<(Record, Vec<u8>)>,
    /// Where the next page begins.
    after: Option<(bool, i64, i64, Vec<u8>)>,
}

impl Queue {
    /// Reads ahead, so that nothing has to be read and told apart while the database is locked.
    ///
    /// # Errors
    /// The shadow's.
    pub fn fill(&mut self, desk: Desk<'_>, count: usize) -> Result<(), RowsError> {
        if self.read.len() >= count {
            return Ok(());
        }
        let (dead, rank, birth, uid) = self.after.clone().unwrap_or((false, i64::MIN, i64::MIN, Vec::new()));
        let sql = "SELECT dead, rank, birth, uid, record FROM temp.incoming AS i CROSS JOIN temp.packed AS p ON p.id = i.id \
                   WHERE (dead, rank, birth, uid) > (?1, ?2, ?3, ?4) ORDER BY dead, rank, birth, uid LIMIT ?5";
        let mut statement = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
        let wanted = i64::try_from(count - self.read.len()).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![dead, rank, birth, uid, wanted]).map_err(ShadowError)?;
        while let Some(row) = rows.next().map_err(ShadowError)? {
            let get = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            self.after = Some(get(row).map_err(ShadowError)?);
            let packed: Vec<u8> = row.get(4).map_err(ShadowError)?;
            match unpack(desk, &packed) {
                Ok(read) => self.read.push_back(read),
                Err(error) => tracing::warn!(%error, "rows: a record was damaged on its way"),
            }
        }
        Ok(())
    }

    /// Whether nothing is left of what was read.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// The next of those that were read.
    pub fn next(&mut self) -> Option<(Record, Vec<u8>)> {
        self.read.pop_front()
    }
}
