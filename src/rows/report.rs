//! What a run did, in numbers for people. Plain values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Depth;
use super::stamp::Writer;

/// Rows by table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tally(pub BTreeMap<String, u64>);

impl Tally {
    /// One more.
    pub fn add(&mut self, table: &str) {
        self.add_many(table, 1);
    }

    /// `count` more.
    pub fn add_many(&mut self, table: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.get_mut(table) {
            Some(sum) => *sum += count,
            None => {
                self.0.insert(table.to_owned(), count);
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Observations alone.
    pub fn observations(&self) -> u64 {
        self.0.get("observations").copied().unwrap_or(0)
    }

    /// `12 observations, 1 prompt`: observations first, words instead of names of tables. Empty when there are none.
    pub fn describe(&self) -> String {
        let mut sums: BTreeMap<_, u64> = BTreeMap::new();
        for (table, count) in &self.0 {
            *sums.entry(words(table)).or_default() += count;
        }
        let parts = sums.into_iter().filter(|(_, count)| *count > 0);
        let parts: Vec<String> = parts
            .map(|((_, one, many), count)| format!("{count} {}", if count == 1 { one } else { many }))
            .collect();
        parts.join(", ")
    }
}

/// What people call a row of a table, and several, with their place in a list.
fn words(table: &str) -> (u8, &'static str, &'static str) {
    match table {
        "observations" => (0, "observation", "observations"),
        "session_summaries" => (1, "summary", "summaries"),
        "user_prompts" => (2, "prompt", "prompts"),
        "sdk_sessions" => (3, "session", "sessions"),
        "tool_uses" => (4, "tool call", "tool calls"),
        _ => (OTHER, "other row", "other rows"),
    }
}

/// The place of a table that people have no word for.
const OTHER: u8 = 5;

/// What people call the rows of a table; its name where they have no word for it.
pub fn called(table: &str) -> &str {
    match words(table) {
        (OTHER, _, _) => table,
        (_, _, many) => many,
    }
}

/// Why the database is taken for an older one than it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WentBack {
    /// claude-mem's schema is older than at the last scan, or columns are gone.
    Schema,
    /// Fewer ids were given in this table.
    Sequence(String),
    /// A known id holds another row.
    OtherRow(String),
    /// An unknown row has an id that was given before.
    UnknownRow(String),
}

/// See [`super::Rows::begin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// How much will be read.
    pub depth: Depth,
    /// There was no shadow, or it is being rebuilt.
    pub first: bool,
    /// Why the database is taken for an older one.
    pub went_back: Option<WentBack>,
    /// A segment of an earlier run was sent.
    pub finished: bool,
    /// claude-mem's schema was raised since the last scan.
    pub migrated: bool,
}

impl Default for Begun {
    fn default() -> Self {
        Self { depth: Depth::Whole, first: false, went_back: None, finished: false, migrated: false }
    }
}

/// A version of a row that did not win. The whole of it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// Table.
    pub table: String,
    /// What the row is called.
    pub title: Option<String>,
    /// Whose version stays in the database.
    pub kept: Kept,
    /// Where the other one lies.
    pub file: Option<std::path::PathBuf>,
}

/// Whose version of a row stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// The one of this machine.
    Ours,
    /// The one that arrived.
    Theirs,
}

/// See [`super::Rows::note_news`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewsNoted {
    /// Rows came that are to be written.
    pub is_anything: bool,
    /// Rows that came earlier are tried again.
    pub waits: bool,
    /// Nothing may be published before they were.
    pub first: bool,
    /// No sync of this database has come to its end, as far as our own record tells.
    pub never: bool,
    /// The database keeps a log of writes (WAL): others can wait for their turn.
    pub keeps_a_log: bool,
}

/// See [`super::Rows::collect`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Collected {
    /// Segments read.
    pub segments: u64,
    /// Rows that are new here.
    pub new: Tally,
    /// Rows that were changed here.
    pub changed: Tally,
    /// Rows that were deleted here.
    pub deleted: Tally,
    /// Titles of new rows, the first few.
    pub titles: Vec<String>,
    /// Versions that did not win.
    pub conflicts: Vec<Conflict>,
    /// Rows that came or went and that the search index of their table did not take note of.
    pub unindexed: Tally,
    /// Rows that wait in all.
    pub waiting: u64,
    /// Segments that could not be read, and why. The others were.
    pub refused: Vec<String>,
    /// Whether this installation took a new writer id: its state had been copied.
    pub new_writer: bool,
}

/// See [`super::Rows::scan`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Scanned {
    /// The files were not written since the last scan: nothing was read.
    pub untouched: bool,
    /// Rows recorded here.
    pub new: Tally,
    /// Rows changed here.
    pub changed: Tally,
    /// Rows deleted here.
    pub deleted: Tally,
    /// Rows that vanished in mass, and are held.
    pub held: Tally,
    /// Titles of new rows, the first few.
    pub titles: Vec<String>,
    /// Tables whose rows travel in images only.
    pub images_only: Vec<String>,
    /// Rows of which the log knows better, and sessions that were kept for rows that are gone: see [`super::Rows::ask`].
    pub asks: u64,
}

impl Scanned {
    /// Records to publish.
    pub fn records(&self) -> u64 {
        self.new.total() + self.changed.total() + self.deleted.total()
    }
}

/// See [`super::Rows::publish`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Published {
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Whether this installation took a new writer id, and nothing was published: collect and scan again.
    pub new_writer: bool,
}

/// See [`super::Rows::take_image`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TakenIn {
    /// Rows that only the image had.
    pub new: Tally,
    /// Rows that it had with other content.
    pub changed: Tally,
}

/// See [`super::Rows::fold`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Folded {
    /// Records in the folded segment.
    pub records: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Segments that went.
    pub removed: u64,
}

/// See [`super::Rows::standing`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Standing {
    /// This installation, where it has an id.
    pub writer: Option<Writer>,
    /// The last segment that it published.
    pub segment: u64,
    /// For each other writer the segment up to which everything is here.
    pub seen: BTreeMap<Writer, u64>,
    /// Rows that wait, by reason.
    pub waiting: BTreeMap<String, u64>,
    /// Rows that vanished in mass, and are held.
    pub held: Tally,
    /// Versions in the folder of conflicts.
    pub conflicts: u64,
    /// Segments of other machines that cannot be read, and why: they are read again when they change.
    pub damaged: Vec<String>,
    /// When everything was last read here, milliseconds since 1970; `None`: never.
    pub whole_scan_ms: Option<i64>,
    /// Whether there is something that a scan found and that is not in the bucket yet.
    pub outbox: bool,
    /// Rows that arrived and that claude-mem's search may not find before its next start.
    pub unembedded: u64,
    /// What of ours stands for what, for the node record.
    pub folds: Vec<super::node::Fold>,
    /// Writers whose last record was more than a day ahead of the store's clock.
    pub ahead: Vec<Writer>,
}

impl Standing {
    /// What of the log the database here contains: for each writer, this installation among them, the last segment.
    pub fn vector(&self) -> BTreeMap<String, u64> {
        let own = self.writer.filter(|_| self.segment > 0).map(|writer| (writer.to_string(), self.segment));
        self.seen.iter().map(|(writer, number)| (writer.to_string(), *number)).chain(own).collect()
    }
}

impl Collected {
    /// Adds what another collecting of the same run brought.
    pub fn add(&mut self, more: Self) {
        self.segments += more.segments;
        for (sum, tally) in [
            (&mut self.new, more.new),
            (&mut self.changed, more.changed),
            (&mut self.deleted, more.deleted),
            (&mut self.unindexed, more.unindexed),
        ] {
            for (table, count) in &tally.0 {
                sum.add_many(table, *count);
            }
        }
        self.titles.extend(more.titles);
        self.conflicts.extend(more.conflicts);
        self.refused.extend(more.refused);
        self.waiting = more.waiting;
        self.new_writer |= more.new_writer;
    }
}

impl WentBack {
    /// As people read it.
    pub fn describe(&self) -> String {
        match self {
            Self::Schema => "its schema is older".to_owned(),
            Self::Sequence(table) => format!("fewer {} were ever recorded in it", called(table)),
            Self::OtherRow(table) => {
                format!("another one of the {} stands where a known one was", called(table))
            }
            Self::UnknownRow(table) => {
                format!("an unknown one of the {} has a number that was given before", called(table))
            }
        }
    }
}

impl Kept {
    /// As people read it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Ours => "the version of this machine",
            Self::Theirs => "the version of the other machine",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Tally, called};

    #[test]
    fn rows_are_called_what_people_call_them() {
        assert_eq!(
            ["session_summaries", "sdk_sessions", "notes"].map(called),
            ["summaries", "sessions", "notes"]
        );
    }

    #[test]
    fn counts_are_said_in_words() {
        let mut tally = Tally::default();
        assert_eq!(tally.describe(), "");
        tally.add_many("user_prompts", 3);
        tally.add("sdk_sessions");
        tally.add_many("observations", 12);
        tally.add("a");
        tally.add("b");
        assert_eq!(tally.describe(), "12 observations, 3 prompts, 1 session, 2 other rows");
    }
}
