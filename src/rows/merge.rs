//! Several segments of one writer as one: of each row the version with the greatest stamp, as it was written. Rows come
//! table by table, parents before children, deletions at the end, children first. Knows no database.

use std::collections::{BTreeMap, HashMap};

use super::record::{Record, RecordError};
use super::segment::{SegmentError, SegmentReader};
use super::stamp::Stamp;
use crate::database::content::Uid;

/// What can go wrong. Then nothing is folded: what cannot be read must not be lost.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A segment.
    #[error("segment {number}: {error}")]
    Segment {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        error: SegmentError,
    },
    /// A line that is no record: perhaps a newer membridge knows what it is.
    #[error("segment {number}: {error}")]
    Record {
        /// The segment's number.
        number: u64,
        /// What is wrong with the line.
        error: RecordError,
    },
}

/// Where a row's newest version is.
#[derive(Clone, Copy)]
struct Newest {
    stamp: Stamp,
    segment: usize,
    line: u64,
}

/// What is merged.
pub struct Merge {
    segments: Vec<SegmentReader>,
    newest: HashMap<Uid, Newest>,
    /// In the order in which they were met, which is parents first.
    tables: Vec<String>,
}

impl Merge {
    /// Reads the segments, oldest first, once.
    ///
    /// # Errors
    /// See [`MergeError`].
    pub fn new(segments: Vec<SegmentReader>) -> Result<Self, MergeError> {
        let mut merge = Self { segments, newest: HashMap::new(), tables: Vec::new() };
        let (mut newest, mut tables) = (HashMap::new(), BTreeMap::new());
        merge.read::<MergeError>(|place, record, _| {
            let rank = tables.len();
            tables.entry(record.table.clone()).or_insert(rank);
            let stands = newest.entry(record.uid).or_insert(place);
            // Of two with one stamp they are the same; the later one knows more keys.
            if place.stamp >= stands.stamp {
                *stands = place;
            }
            Ok(())
        })?;
        let mut ranked: Vec<(String, usize)> = tables.into_iter().collect();
        ranked.sort_by_key(|(_, rank)| *rank);
        merge.tables = ranked.into_iter().map(|(table, _)| table).collect();
        merge.newest = newest;
        Ok(merge)
    }

    /// Gives out each row once, with its line.
    ///
    /// # Errors
    /// See [`MergeError`], and whatever `give` returns.
    pub fn each<E: From<MergeError>>(
        mut self,
        mut give: impl FnMut(&Record, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let newest = std::mem::take(&mut self.newest);
        let tables = std::mem::take(&mut self.tables);
        let rows = tables.iter().map(|table| (table, false));
        let deletions = tables.iter().rev().map(|table| (table, true));
        for (table, deleted) in rows.chain(deletions) {
            self.read::<E>(|place, record, line| {
                let wins = newest
                    .get(&record.uid)
                    .is_some_and(|newest| (newest.segment, newest.line) == (place.segment, place.line));
                if wins && record.table == *table && record.deleted == deleted {
                    give(&record, line)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// All lines of all segments, from the first one on.
    fn read<E: From<MergeError>>(
        &mut self,
        mut with: impl FnMut(Newest, Record, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut line = Vec::new();
        let segments = std::mem::take(&mut self.segments);
        for (at, segment) in segments.into_iter().enumerate() {
            let number = segment.header.number;
            let broken = |error| MergeError::Segment { number, error };
            let mut segment = segment.rewound().map_err(broken)?;
            let mut count = 0;
            while segment.next_line(&mut line).map_err(broken)? {
                count += 1;
                let record = Record::read(&line).map_err(|error| MergeError::Record { number, error })?;
                with(Newest { stamp: record.stamp, segment: at, line: count }, record, &line)?;
            }
            self.segments.push(segment);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
