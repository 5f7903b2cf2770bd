//! What a segment says about itself: whose it is, its number, what is in it and what its writer had seen. Strict about
//! what decisions rest on, lenient about the rest. Reads and writes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::segment::SegmentError;
use super::stamp::Stamp;
use crate::storage::keys;
use crate::sum::Sum;

/// The only schema of headers and lines there is. A higher number is another meaning, and is refused.
pub const SCHEMA: u32 = 1;
/// More tables than any claude-mem has, or writers than any fleet: the limit that keeps a hostile header small.
const MAX_ENTRIES: usize = 4096;
/// Longer names are cut by their writers.
const MAX_TEXT: usize = 1024;

/// Why a segment was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What changed.
    Rows,
    /// What earlier segments of the same writer hold, in one.
    Fold,
    /// All that is this writer's.
    Base,
}

/// Numbers of earlier segments that a fold or a base stands for, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    /// The lowest number.
    pub first: u64,
    /// The highest number.
    pub last: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Canonical project id.
    pub project: String,
    /// Who wrote it: 32 hex digits.
    pub writer: String,
    /// Its number among this writer's, from 1.
    pub number: u64,
    /// Why it was made.
    pub kind: Kind,
    /// Which part of its fold or base it is, from 1.
    pub part: u32,
    /// How many parts there are; only the last one knows.
    #[serde(default)]
    pub parts: Option<u32>,
    /// What a fold or a base stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers: Option<Covers>,
    /// Node id of the machine.
    #[serde(default)]
    pub node_id: String,
    /// Its host name.
    #[serde(default)]
    pub host: String,
    /// Version of claude-mem there, where it is known.
    #[serde(default)]
    pub claude_mem_version: Option<String>,
    /// Highest schema version of the database there.
    #[serde(default)]
    pub schema_version: Option<i64>,
    /// Version of membridge that wrote it.
    #[serde(default)]
    pub membridge_version: String,
    /// ISO time, by the store's clock.
    #[serde(default)]
    pub time: String,
    /// Rows by table.
    #[serde(default)]
    pub rows: BTreeMap<String, u64>,
    /// Deletions by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deleted: BTreeMap<String, u64>,
    /// SHA-256 of this writer's previous segment; none before the first.
    #[serde(default)]
    pub previous: Option<Sum>,
    /// The largest stamp among its records.
    #[serde(default)]
    pub largest_stamp: Option<Stamp>,
    /// For each other writer, the number up to which its segments had been collected.
    #[serde(default)]
    pub seen: BTreeMap<String, u64>,
    /// Random: no two segments have the same bytes.
    #[serde(default)]
    pub token: String,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, SegmentError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let no_header = |error: serde_json::Error| SegmentError::Header(error.to_string());
        let version: Version = serde_json::from_slice(json).map_err(no_header)?;
        if version.schema != SCHEMA {
            return Err(SegmentError::Schema(version.schema));
        }
        let header: Self = serde_json::from_slice(json).map_err(no_header)?;
        match header.flaw() {
            None => Ok(header),
            Some(flaw) => Err(SegmentError::Header(flaw.to_owned())),
        }
    }

    /// Whether it is what was looked for.
    ///
    /// # Errors
    /// It belongs to another project or writer, or has another number: somebody moved it.
    pub fn expect(&self, project: &str, writer: &str, number: u64) -> Result<(), SegmentError> {
        if self.project == project && self.writer == writer && self.number == number {
            return Ok(());
        }
        Err(SegmentError::Header(format!(
            "it is number {} of writer {} in project {}",
            self.number, self.writer, self.project
        )))
    }

    /// Whether it is the last part of its fold or base.
    pub fn is_last_part(&self) -> bool {
        self.parts == Some(self.part)
    }

    /// What makes it unusable, if anything.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        let covered = match (self.kind, self.covers) {
            (Kind::Rows, None) => self.part == 1 && self.is_last_part(),
            (Kind::Fold | Kind::Base, Some(covers)) => {
                let before = self.number.checked_sub(u64::from(self.part));
                // A base may be a writer's first segment.
                let first = covers.first >= 1 && covers.first <= covers.last.saturating_add(1);
                first && before.is_some_and(|before| covers.last <= before)
            }
            _ => false,
        };
        let texts = [&self.node_id, &self.host, &self.membridge_version, &self.time, &self.token];
        let tables = self.rows.keys().chain(self.deleted.keys());
        let mut names = texts.into_iter().chain(&self.claude_mem_version).chain(tables);
        if self.schema != SCHEMA {
            Some("its schema")
        } else if !keys::is_writer(&self.writer) || self.seen.keys().any(|writer| !keys::is_writer(writer)) {
            Some("a writer's id is not one")
        } else if self.number == 0 {
            Some("segments are numbered from 1")
        } else if self.part == 0 || self.parts.is_some_and(|parts| parts != self.part) {
            Some("its parts do not fit")
        } else if !covered {
            Some("what it stands for does not fit its kind")
        } else if [self.rows.len(), self.deleted.len(), self.seen.len()].iter().any(|len| *len > MAX_ENTRIES)
        {
            Some("it names too many tables or writers")
        } else if names.any(|name| name.len() > MAX_TEXT) {
            Some("a name is too long")
        } else {
            None
        }
    }
}
