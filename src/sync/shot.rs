//! What a push sends: the local database at one moment, as a pack of the pages that changed and, for Python nodes, as
//! a whole object. Both come from the same read transaction. Asks the bucket nothing.

use tempfile::TempPath;

use super::session::{LocalState, Session};
use super::wish::{Stage, Wish};
use crate::database::files;
use crate::database::{self, DatabaseError, Facts, snapshot};
use crate::error::CommandResult;
use crate::failpoint;
use crate::history::pagemap::PageMap;
use crate::history::spool::{Spooled, spool};
use crate::history::{self, Kind, retention};
use crate::progress::Bars;
use crate::python::Head;
use crate::seal::Place;
use crate::storage::Digests;
use crate::sum::Sum;
use crate::ui::human_bytes;

/// The local database at one moment.
pub(super) struct Shot {
    /// What is in it.
    pub(super) facts: Facts,
    /// The pages for the history.
    pub(super) pack: Spooled,
    /// Image of the commit that a delta was made against.
    pub(super) parent: Option<Sum>,
    /// The object for Python nodes, where one is wanted: compact, with a rollback-journal header.
    pub(super) object: Option<Object>,
    /// SQLite's full check was made.
    pub(super) checked: bool,
}

/// A whole database for Python nodes.
pub(super) struct Object {
    /// The file; it vanishes with this.
    pub(super) path: TempPath,
    /// Its size and digests.
    pub(super) digests: Digests,
}

/// What a shot must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The object for Python nodes.
    pub(super) object: bool,
    /// SQLite's full check, also of a delta.
    pub(super) check: bool,
    /// Who asks.
    pub(super) wish: Wish,
}

/// The pages of the head's image, when we know them and its chain may grow: what a delta is made against.
pub(super) fn parent_map(session: &Session, head: Option<&Head>) -> Option<PageMap> {
    let commit = head?.commit()?;
    // What is sealed from now on must not rest on packs that are not, or are with an older key.
    let older = session.bucket.seal.is_older(Place::Commit { number: commit.number });
    if older || retention::rebase_due(&commit.chain) {
        return None;
    }
    PageMap::open(&session.page_map, commit.sha256)
}

/// Takes the shot. With the page map of the head's image a delta writes nothing but the changed pages to the disk.
pub(super) async fn take(
    session: &Session,
    local: LocalState,
    parent: Option<PageMap>,
    wanted: Wanted,
) -> CommandResult<Shot> {
    let size = files::size_with_wal(&session.database);
    let folder = session.config.paths.tmp();
    let text = format!("Snapshot: {} ({})", local.facts.counts.describe(), human_bytes(size));
    session.ui.step(Stage::Snapshot.label(wanted.wish), text);
    tracing::info!("snapshot taken");
    let (progress, bars) = (session.ui.progress("snapshot", size), session.ui.bars());
    let LocalState { pinned, facts } = local;
    let sealing = session.bucket.sealing()?;
    let (shot, damaged) = history::blocking(move || {
        let base = parent.as_ref().map(|map| map.sha256);
        let pack = spool(&pinned, parent, &folder, &progress, sealing)?;
        failpoint::reach("push.spooled");
        let checked = wanted.check || wanted.object || pack.kind == Kind::Full;
        let damaged = if checked { pinned.integrity_check()? } else { Vec::new() };
        progress.done();
        let object = if wanted.object {
            Some(object(&pinned, &facts, &damaged, &folder, (size, &bars))?)
        } else {
            None
        };
        let parent = base.filter(|_| pack.kind == Kind::Delta);
        Ok((Shot { facts, pack, parent, object, checked }, damaged))
    })
    .await?;
    for index in damaged {
        session.ui.warn(format!(
            "the search index {index} is damaged, all rows are whole and are sent; it is rebuilt with: {}",
            database::rebuild_command(&session.database, &index)
        ));
    }
    Ok(shot)
}

/// Compacts the pinned database, and checks what will be uploaded. Compacted as the script compacts: on this machine it makes
/// the same bytes of the same database, and finds nothing to push. `damaged`: its search indexes that are; in the object
/// they are whole.
fn object(
    pinned: &snapshot::Pinned,
    facts: &Facts,
    damaged: &[String],
    folder: &std::path::Path,
    (size, bars): (u64, &Bars),
) -> Result<Object, DatabaseError> {
    files::require_space(folder, size.saturating_mul(2))?;
    let path = pinned.compact(folder, || bars.bytes("copying", size))?;
    failpoint::reach("push.compacted");
    database::check_compact(&path, damaged)?;
    let checked = database::open_read_only(&path)?;
    let counts = database::facts::counts(&checked, &path)?;
    if counts != facts.counts {
        let problem =
            format!("the snapshot holds {} instead of {}", counts.describe(), facts.counts.describe());
        return Err(DatabaseError::Damaged { path: path.to_path_buf(), problem });
    }
    drop(checked);
    let digests = Digests::of_file(&path).map_err(|error| DatabaseError::io("read", &path, error))?;
    Ok(Object { path, digests })
}
