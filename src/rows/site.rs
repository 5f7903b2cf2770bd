//! What a run is told: where rows come from and go to, and how much of the database to read. Plain values.

use std::path::PathBuf;

use crate::identity::Node;
use crate::progress::Bars;
use crate::storage::Bucket;

/// Where rows come from and go to.
#[derive(Debug)]
pub struct Site<'a> {
    /// The store.
    pub bucket: &'a Bucket,
    /// claude-mem's database, links followed.
    pub database: PathBuf,
    /// Our state directory (`~/.membridge`).
    pub state: PathBuf,
    /// This machine.
    pub node: &'a Node,
    /// Whether the raw log of tool calls travels (MEMBRIDGE_SYNC_TOOL_USES).
    pub tool_uses: bool,
    /// Projects that claude-mem keeps to itself, as globs: what is recorded in them does not leave.
    pub excluded: Vec<String>,
    /// The local claude-mem's version, where known: said in the header of segments.
    pub claude_mem: Option<String>,
    /// For whoever watches.
    pub bars: Bars,
}

/// How much of the database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// After a turn: rows above the highest known id, and sessions.
    Turn,
    /// Everything, in one pass beside the shadow: at the end of a session, by hand, and at least once an hour.
    Whole,
}
