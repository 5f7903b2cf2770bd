//! The row log: every installation writes what was recorded on it into its own folder of the bucket, in segments that
//! never change, and takes in what the others wrote. No lock, no winner to choose (docs/rows.md).
//!
//! One run is `begin`, `collect`, `scan`, `publish`, in this order; see [`Rows`]. What the rules are is decided in pure
//! functions beside the step that needs them. Knows neither roles nor the archive.
//!
//! - [`segment`] is the format of rows on the wire, [`header`] what a segment says about itself;
//! - [`node`] is what a machine says about itself; [`wanted`] which segments are still to be read;
//! - [`fold`] decides when many small segments become one, [`merge`] is how;
//! - [`log`] is the place of all of them in the bucket, [`store_identity`] tells one bucket from another.

pub mod fold;
pub mod header;
pub mod log;
pub mod merge;
pub mod node;
pub mod record;
pub mod report;
pub mod segment;
pub mod stamp;
pub mod store_identity;
pub mod wanted;

use std::path::{Path, PathBuf};

use crate::database::DatabaseError;
use crate::error::{Code, Failure};
use crate::identity::Node;
use crate::storage::{Bucket, StoreError};

pub use record::Record;
pub use report::{Begun, Collected, Conflict, Folded, Published, Scanned, Standing, TakenIn, Tally};
pub use stamp::{Stamp, Writer};

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
}

/// How much of the database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// After a turn: rows above the highest known id, and sessions.
    Turn,
    /// Everything, in one pass beside the shadow: at the end of a session, by hand, and at least once an hour.
    Whole,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// claude-mem's database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Our own record of it.
    #[error("the record of what travelled, {}: {error}", path.display())]
    Shadow {
        /// Its file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: rusqlite::Error,
    },
    /// A file of ours.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What we wanted to do.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came back.
        #[source]
        error: std::io::Error,
    },
    /// A segment that cannot be read.
    #[error("{key}: {problem}")]
    Segment {
        /// Its key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// The operating system has no random numbers to give.
    #[error("no random numbers: {0}")]
    Chance(#[from] getrandom::Error),
}

impl From<RowsError> for Failure {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Store(error) => error.into(),
            RowsError::Database(error) => error.into(),
            RowsError::Shadow { ref path, .. } => {
                let hint = format!(
                    "when it stays so, move it away and sync again: mv {0} {0}.damaged",
                    path.display()
                );
                Self::from_error(Code::LocalFile, error).hint(hint)
            }
            RowsError::Io { ref path, .. } => {
                let hint =
                    format!("check the rights and the free space: ls -l {0}; df -h {0}", path.display());
                Self::from_error(Code::LocalFile, error).hint(hint)
            }
            RowsError::Segment { .. } => {
                Self::from_error(Code::BadObject, error).hint("run: membridge doctor")
            }
            RowsError::Chance(_) => Self::from_error(Code::Other, error),
        }
    }
}

/// The row log of one database. One run of `sync`: [`Rows::begin`], [`Rows::collect`], [`Rows::scan`],
/// [`Rows::publish`], in this order.
#[derive(Debug)]
pub struct Rows<'a> {
    site: Site<'a>,
}

impl<'a> Rows<'a> {
    /// Opens the shadow, or makes it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(site: Site<'a>) -> Result<Self, RowsError> {
        Ok(Self { site })
    }

    /// Finishes what was begun: arriving rows are judged, the outbox is sent. Finds out whether the database went back,
    /// and whether this is a first sync; then `depth` becomes [`Depth::Whole`].
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn begin(&mut self, depth: Depth) -> Result<Begun, RowsError> {
        let _ = &self.site;
        Ok(Begun { depth, ..Begun::default() })
    }

    /// Takes in what is new in the log, in short transactions beside the worker, and tries again what waits.
    ///
    /// # Errors
    /// See [`RowsError`]; what was taken in stays.
    pub async fn collect(&mut self) -> Result<Collected, RowsError> {
        Ok(Collected::default())
    }

    /// Finds what changed here since the last scan. Writes nothing into the store.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub fn scan(&mut self) -> Result<Scanned, RowsError> {
        Ok(Scanned::default())
    }

    /// Publishes what [`Rows::scan`] found.
    ///
    /// # Errors
    /// See [`RowsError`]; what was published stays, the rest is found again.
    pub async fn publish(&mut self, scanned: Scanned) -> Result<Published, RowsError> {
        let _ = scanned;
        Ok(Published::default())
    }

    /// Takes in the image that a Python node pushed; `modified_ms`: its Last-Modified. After the own publish.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn take_image(&mut self, image: &Path, modified_ms: i64) -> Result<TakenIn, RowsError> {
        let _ = (image, modified_ms);
        Ok(TakenIn::default())
    }

    /// Folds segments where it is time. Only at the end of a whole sync.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn fold(&mut self) -> Result<Option<Folded>, RowsError> {
        Ok(None)
    }

    /// What is known without asking the store or the database.
    ///
    /// # Errors
    /// The shadow's.
    pub fn standing(&self) -> Result<Standing, RowsError> {
        Ok(Standing::default())
    }

    /// The next scan publishes what vanished in mass as deleted.
    ///
    /// # Errors
    /// The shadow's.
    pub fn accept_deletions(&mut self) -> Result<(), RowsError> {
        Ok(())
    }

    /// The next collect puts back what vanished in mass.
    ///
    /// # Errors
    /// The shadow's.
    pub fn put_back(&mut self) -> Result<(), RowsError> {
        Ok(())
    }
}
