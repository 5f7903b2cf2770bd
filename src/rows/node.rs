//! The node record: what one installation last said about itself. The number of its newest segment is what a sync goes
//! by, and is read strictly; the rest is for people, and is cut to what they can read. Reads and writes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::header::{Covers, Kind};
use crate::storage::keys;
use crate::storage::records::or_nothing;

/// The only schema of node records there is. A higher number is another meaning, and is refused.
pub const SCHEMA: u32 = 1;
/// The largest record in bytes: a fleet of a thousand writers needs a fifth of it.
const SIZE_LIMIT: usize = 256 << 10;
/// More tables or writers than anybody has.
const MAX_ENTRIES: usize = 4096;
/// Folds that a record names: older ones are found by listing.
pub const MAX_FOLDS: usize = 64;
/// Longer texts are cut (characters).
const MAX_TEXT: usize = 256;

/// A fold or a base that stands for earlier segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// A fold, or a base.
    pub kind: Kind,
    /// Its number; of several parts, that of the last one.
    pub number: u64,
    /// How many parts it has, in consecutive numbers.
    pub parts: u32,
    /// What it stands for.
    pub covers: Covers,
}

impl Fold {
    /// The number of its first part.
    pub fn first_part(&self) -> u64 {
        self.number.saturating_sub(u64::from(self.parts.saturating_sub(1)))
    }

    fn is_sound(&self, newest: u64) -> bool {
        let Covers { first, last } = self.covers;
        let ordered = first >= 1 && first <= last.saturating_add(1) && last < self.first_part();
        ordered
            && self.kind != Kind::Rows
            && self.parts > 0
            && self.number <= newest
            && u64::from(self.parts) <= self.number
    }
}

/// How the last sync of a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastSync {
    /// ISO time, by the store's clock.
    #[serde(default, deserialize_with = "short")]
    pub time: String,
    /// One word, as the report of the sync has it.
    #[serde(default, deserialize_with = "short")]
    pub outcome: String,
}

/// A node record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeRecord {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Whose it is: 32 hex digits, as in its key.
    pub writer: String,
    /// Number of its newest segment; 0 before the first.
    pub last: u64,
    /// What stands for earlier segments, oldest first.
    #[serde(default, deserialize_with = "or_nothing", skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<Fold>,
    /// For each other writer, the number up to which its segments were collected.
    #[serde(default, deserialize_with = "or_nothing")]
    pub seen: BTreeMap<String, u64>,
    /// ISO time at which it was written, by the store's clock.
    #[serde(default, deserialize_with = "short")]
    pub time: String,
    /// Node id of the machine.
    #[serde(default, deserialize_with = "short")]
    pub node_id: String,
    /// Its host name.
    #[serde(default, deserialize_with = "short")]
    pub host: String,
    /// Version of membridge there.
    #[serde(default, deserialize_with = "short")]
    pub membridge_version: String,
    /// Version of claude-mem there, where it is known.
    #[serde(default, deserialize_with = "short_if_any")]
    pub claude_mem_version: Option<String>,
    /// Highest schema version of the database there.
    #[serde(default, deserialize_with = "or_nothing")]
    pub schema_version: Option<i64>,
    /// Processor architecture, as Rust names it.
    #[serde(default, deserialize_with = "short")]
    pub arch: String,
    /// Operating system, as Rust names it.
    #[serde(default, deserialize_with = "short")]
    pub os: String,
    /// Rows by table.
    #[serde(default, deserialize_with = "or_nothing")]
    pub counts: BTreeMap<String, u64>,
    /// `primary`, `secondary`, or `off`.
    #[serde(default, deserialize_with = "short")]
    pub role: String,
    /// PRIMARY_NODE_ID there, where it is set.
    #[serde(default, deserialize_with = "short_if_any")]
    pub configured_primary: Option<String>,
    /// Its last sync.
    #[serde(default, deserialize_with = "or_nothing")]
    pub last_sync: Option<LastSync>,
    /// Records that arrived there and wait.
    #[serde(default, deserialize_with = "or_nothing")]
    pub waiting: u64,
    /// Rows that vanished there and are held.
    #[serde(default, deserialize_with = "or_nothing")]
    pub held: u64,
    /// Number of the archive's commit that its database was last part of.
    #[serde(default, deserialize_with = "or_nothing")]
    pub commit: Option<u64>,
    /// Where its agent listens.
    #[serde(default, deserialize_with = "short_if_any", skip_serializing_if = "Option::is_none")]
    pub agent_url: Option<String>,
}

impl NodeRecord {
    /// Reads the record that was found under the name of `writer`. Fields that are not known are left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8], writer: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        if bytes.len() > SIZE_LIMIT {
            return Err(format!("it is larger than {SIZE_LIMIT} bytes"));
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version.schema != SCHEMA {
            return Err(format!("its schema {} is not known to this membridge", version.schema));
        }
        let mut record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.writer != writer {
            return Err("it is another writer's".to_owned());
        }
        let entries = [record.seen.len(), record.counts.len()];
        if entries.iter().any(|len| *len > MAX_ENTRIES) || record.folds.len() > MAX_FOLDS {
            return Err("it names too much".to_owned());
        }
        record.seen.retain(|writer, _| keys::is_writer(writer));
        record.counts.retain(|table, _| table.chars().count() <= MAX_TEXT);
        let newest = record.last;
        record.folds.retain(|fold| fold.is_sound(newest));
        Ok(record)
    }

    /// The bytes of the record.
    ///
    /// # Errors
    /// Never for records that we make.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// What people call the machine.
    pub fn name(&self) -> &str {
        [&self.node_id, &self.host]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("unnamed", String::as_str)
    }

    /// When it was written, seconds since 1970; `None` when that is not a time.
    pub fn at(&self) -> Option<i64> {
        self.time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
    }
}

/// A text for people: nothing where it is none, cut where it is long.
fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    short_if_any(deserializer).map(Option::unwrap_or_default)
}

fn short_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = or_nothing(deserializer)?;
    Ok(text.map(|text| text.chars().take(MAX_TEXT).collect()))
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
