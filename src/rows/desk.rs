//! What the steps of a run work on: both sides, and who we are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::live::{Excluded, Live};
use super::shadow::{Shadow, ShadowError};
use super::stamp::Writer;
use crate::progress::Bars;

/// What a person means by putting an earlier state in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restoring {
    /// Just this: what it lacks goes everywhere.
    Exactly,
    /// What it has comes back, and nothing goes.
    Adding,
}

/// In whose company rows arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A worker may be at work in the database, and can wait for a moment.
    Beside,
    /// The worker is stopped.
    Alone,
    /// A worker is at work that cannot wait: what waits to be written goes on waiting.
    Away,
}

/// Both sides of a run.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'r> {
    /// claude-mem's database.
    pub live: &'r Live,
    /// What we know of it.
    pub shadow: &'r Shadow,
    /// Who we are.
    pub me: Writer,
    /// The time by the store's clock (milliseconds).
    pub now_ms: i64,
    /// The shadow is new, or is being rebuilt.
    pub first: bool,
    /// A run that is cut off is a first one again: what arrives needs no notes.
    pub unnoted: bool,
    /// claude-mem's schema was raised since the last scan.
    pub migrated: bool,
    /// A person put an earlier state in place, and means it.
    pub restoring: Option<Restoring>,
    /// The worker is stopped: nobody waits for us.
    pub alone: bool,
    /// What stays on this machine.
    pub excluded: &'r Excluded,
    /// Where versions go that did not win.
    pub conflicts: &'r PathBuf,
    /// For whoever watches.
    pub bars: &'r Bars,
}

/// What a run keeps only for itself: records that came and rows that they may be, rows that leave and rows that are gone.
/// In the shadow's temporary database, so that memory stays flat. The records themselves lie apart (`packed`): what is looked
/// for among those that came is small, and stays at hand.
const SCRATCH: &str = "
CREATE TEMP TABLE IF NOT EXISTS incoming(id INTEGER PRIMARY KEY, tab TEXT NOT NULL, uid BLOB NOT NULL, dead INTEGER NOT NULL,
  rank INTEGER NOT NULL, birth INTEGER NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL, writer BLOB NOT NULL,
  seek INTEGER NOT NULL, key BLOB, print BLOB, of BLOB, UNIQUE(uid, tab));
CREATE TEMP TABLE IF NOT EXISTS packed(id INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TEMP TABLE IF NOT EXISTS past(tab TEXT NOT NULL, uid BLOB NOT NULL, print BLOB NOT NULL, PRIMARY KEY(uid, tab, print)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS unknown(id INTEGER PRIMARY KEY, tab TEXT NOT NULL, lid INTEGER NOT NULL, key BLOB NOT NULL,
  print BLOB NOT NULL, of BLOB, birth INTEGER NOT NULL, uid BLOB);
CREATE INDEX IF NOT EXISTS temp.unknown_key ON unknown(key);
CREATE INDEX IF NOT EXISTS temp.unknown_birth ON unknown(birth);
CREATE TEMP TABLE IF NOT EXISTS placed(tab TEXT NOT NULL, uid BLOB NOT NULL, lid INTEGER NOT NULL, PRIMARY KEY(uid, tab)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS revived(tab TEXT NOT NULL, lid INTEGER NOT NULL, uid BLOB NOT NULL, PRIMARY KEY(tab, lid)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS asked(tab TEXT NOT NULL, uid BLOB NOT NULL, PRIMARY KEY(uid, tab)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS leaving(id INTEGER PRIMARY KEY, tab TEXT NOT NULL, uid BLOB NOT NULL, lid INTEGER, rank INTEGER NOT NULL,
  ms INTEGER NOT NULL, counter INTEGER NOT NULL, writer BLOB NOT NULL, UNIQUE(uid, tab));
CREATE TEMP TABLE IF NOT EXISTS gone(tab TEXT NOT NULL, uid BLOB NOT NULL, twin BLOB, PRIMARY KEY(uid, tab)) WITHOUT ROWID;
";

/// How the records are sought that came. Made when all of them are there: in order, and not page by page in disorder.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS temp.incoming_order ON incoming(dead, rank, birth, uid);
CREATE INDEX IF NOT EXISTS temp.incoming_key ON incoming(key);
CREATE INDEX IF NOT EXISTS temp.incoming_birth ON incoming(birth);
";

/// Makes the scratch tables, empty.
///
/// # Errors
/// SQLite's.
pub fn clear(shadow: &Shadow) -> Result<(), ShadowError> {
    shadow.db.execute_batch(SCRATCH)?;
    clear_arrival(shadow)?;
    shadow.db.execute_batch("DELETE FROM leaving; DELETE FROM gone; DELETE FROM revived;")?;
    Ok(())
}

/// Everything that came is noted.
///
/// # Errors
/// SQLite's.
pub fn index_arrival(shadow: &Shadow) -> Result<(), ShadowError> {
    Ok(shadow.db.execute_batch(INDEXES)?)
}

/// Empties what belongs to an arrival.
///
/// # Errors
/// SQLite's.
pub fn clear_arrival(shadow: &Shadow) -> Result<(), ShadowError> {
    shadow.db.execute_batch(
        "DROP INDEX IF EXISTS temp.incoming_order; DROP INDEX IF EXISTS temp.incoming_key; \
         DROP INDEX IF EXISTS temp.incoming_birth; \
         DELETE FROM incoming; DELETE FROM packed; DELETE FROM past; DELETE FROM unknown; DELETE FROM placed; DELETE FROM asked;",
    )?;
    Ok(())
}
