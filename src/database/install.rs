//! Puts an image in the place of the local database without ever having half of either. The live file is never
//! renamed over (F03, F10): under one write lock it is backed up through SQLite, checked, and overwritten in the
//! same SQLite transaction, so that a row that another connection commits is in the backup or in the database.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::compare::{self, Relation};
use super::{
    BUSY, DatabaseError, Facts, facts, files, integrity_check, open_read_only, open_read_write, queue,
    snapshot,
};
use crate::failpoint;
use crate::ui::Progress;

/// What became of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// What the old database held: what is in the backup.
    pub old: Facts,
    /// Whether the new one is in place; `false` when the caller did not approve of replacing `old`.
    pub replaced: bool,
    /// Rows of the local queue that the new database has no session for; they are in the backup only.
    pub queue_left: u64,
}

/// Replaces the live database by `image`, with other connections attached. Backs the old content up into `backup`
/// (an existing empty file) first, asks `approve` about it, and then writes the image as one transaction.
///
/// # Errors
/// See [`DatabaseError`]. On any error the old content is in place.
pub fn swap(
    live: &Path,
    image: &Path,
    backup: &Path,
    approve: impl FnOnce(&Facts) -> bool,
    progress: &Progress,
) -> Result<Swapped, DatabaseError> {
    let source = open_read_only(image)?;
    let mut target = open_read_write(live)?;
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    prepare(&source, &target).map_err(fail)?;
    let swapped = {
        let copy = Backup::new(&source, &mut target).map_err(fail)?;
        lock(&copy).map_err(fail)?;
        failpoint::reach("install.locked");
        // Nobody can commit any more; readers, and so the backup, still see the last committed state.
        let old = back_up(live, backup)?;
        failpoint::reach("install.backed-up");
        if !approve(&old) {
            return Ok(Swapped {
                old,
                replaced: false,
                queue_left: 0,
            });
        }
        let queue_left = queue::carry_over(live, image)?;
        failpoint::reach("install.queue");
        snapshot::run_steps(&copy, progress, |_| false).map_err(fail)?;
        Swapped {
            old,
            replaced: true,
            queue_left,
        }
    };
    failpoint::reach("install.committed");
    finish(target, live)?;
    Ok(swapped)
}

/// Writes an image into the live database as one transaction, without a backup: the way back, when what was
/// installed turned out wrong.
///
/// # Errors
/// See [`DatabaseError`].
pub fn put_back(image: &Path, live: &Path) -> Result<(), DatabaseError> {
    let source = open_read_only(image)?;
    let mut target = open_read_write(live)?;
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    prepare(&source, &target).map_err(fail)?;
    {
        let copy = Backup::new(&source, &mut target).map_err(fail)?;
        lock(&copy).map_err(fail)?;
        snapshot::run_steps(&copy, &Progress::hidden(), |_| false).map_err(fail)?;
    }
    finish(target, live)
}

/// WAL mode lets us read the last committed state while holding the write lock. The worker sets the mode that it
/// likes when it starts. A different page size cannot be written in WAL mode; without other connections the
/// mode can be left.
fn prepare(source: &Connection, target: &Connection) -> rusqlite::Result<()> {
    let size =
        |connection: &Connection| connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0));
    let mode = if size(source)? == size(target)? {
        "WAL"
    } else {
        "DELETE"
    };
    let query = format!("PRAGMA journal_mode = {mode}");
    let got: String = target.query_row(&query, [], |row| row.get(0))?;
    tracing::debug!(mode = got, "install: journal mode");
    target.execute_batch("PRAGMA synchronous = FULL;")
}

/// Takes the write lock and copies nothing yet.
fn lock(copy: &Backup<'_, '_>) -> rusqlite::Result<()> {
    let until = Instant::now() + BUSY;
    loop {
        match copy.step(0)? {
            StepResult::Busy | StepResult::Locked if Instant::now() < until => {
                // SQLite's busy handler has already waited; this is for the locks that it does not wait for.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            StepResult::Busy | StepResult::Locked => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(code, None));
            }
            _ => return Ok(()),
        }
    }
}

fn finish(target: Connection, live: &Path) -> Result<(), DatabaseError> {
    // Readers keep the log alive as long as they need it; what cannot be folded in now is folded in by the worker.
    let folded = target.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    tracing::debug!(?folded, "install: checkpoint");
    target
        .close()
        .map_err(|(_, error)| DatabaseError::sqlite("close", live, error))?;
    files::sync_file(live)
}

/// Copies the last committed state of the live database into `target` (an existing empty file), checks the copy
/// and syncs it (F04).
///
/// # Errors
/// See [`DatabaseError`].
pub fn back_up(live: &Path, target: &Path) -> Result<Facts, DatabaseError> {
    let pinned = snapshot::Pinned::new(live)?;
    let before = pinned.facts()?;
    pinned.copy_to(target, &Progress::hidden())?;
    drop(pinned);
    let copy = open_read_only(target)?;
    integrity_check(&copy, target)?;
    let after = facts::read(&copy, target)?;
    if after.digest != before.digest || after.counts != before.counts {
        return Err(DatabaseError::Damaged {
            path: target.to_owned(),
            problem: format!(
                "the backup holds {} instead of {}",
                after.counts.describe(),
                before.counts.describe()
            ),
        });
    }
    Ok(after)
}

/// Puts an image where there is no database yet. An old log without its database is moved into `aside` first:
/// beside a new main file it would be replayed into it (F03).
///
/// # Errors
/// See [`DatabaseError`]; a database that appeared meanwhile is left alone.
pub fn place(image: tempfile::TempPath, live: &Path, aside: &Path) -> Result<(), DatabaseError> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let orphan = files::beside(live, suffix);
        if orphan.exists() {
            crate::lock::local::make_private_folder(aside)
                .map_err(|error| DatabaseError::io("make", aside, error))?;
            let kept = aside.join(orphan.file_name().unwrap_or_default());
            std::fs::rename(&orphan, &kept)
                .or_else(|_| std::fs::copy(&orphan, &kept).and_then(|_| std::fs::remove_file(&orphan)))
                .map_err(|error| DatabaseError::io("move aside", &orphan, error))?;
        }
    }
    failpoint::reach("install.place");
    match image.persist_noclobber(live) {
        Ok(()) => files::sync_folder(&folder_of(live)),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(DatabaseError::Busy {
            path: live.to_owned(),
            doing: "a database appeared there meanwhile",
        }),
        Err(error) => Err(DatabaseError::io("put the database at", live, error.error)),
    }
}

/// Looks whether what is installed is what was meant to be: whole, and with every row of the image. Rows on top
/// are a worker that came back.
///
/// # Errors
/// What is wrong with it.
pub fn check(live: &Path, image: &Path, wanted: &Facts, scratch: &Path) -> Result<Facts, DatabaseError> {
    let connection = open_read_only(live)?;
    integrity_check(&connection, live)?;
    let facts = facts::read(&connection, live)?;
    if facts.digest == wanted.digest {
        return Ok(facts);
    }
    let comparison = compare::compare(live, image, scratch)?;
    match comparison.relation() {
        Relation::Equal | Relation::LocalHasMore => Ok(facts),
        Relation::RemoteHasMore | Relation::Diverged => Err(DatabaseError::Damaged {
            path: live.to_owned(),
            problem: format!(
                "after the replacement it lacks {}",
                comparison.describe(|table| table.only_there)
            ),
        }),
    }
}

/// Checks an image before anything live is touched (F09): SQLite, whole, claude-mem's.
///
/// # Errors
/// See [`DatabaseError`].
pub fn inspect(image: &Path) -> Result<Facts, DatabaseError> {
    require_header(image)?;
    let connection = open_read_only(image)?;
    integrity_check(&connection, image)?;
    facts::read(&connection, image)
}

/// An empty or foreign file gets a clear word instead of SQLite's idea of an empty database. Never called for a
/// live database: closing our descriptor would drop SQLite's locks on it.
fn require_header(path: &Path) -> Result<(), DatabaseError> {
    use std::io::Read;
    let mut magic = [0_u8; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let problem = match read {
        Ok(()) if &magic == b"SQLite format 3\0" => return Ok(()),
        Ok(()) => "the file does not start like one",
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "the file is too short",
        Err(error) => return Err(DatabaseError::io("read", path, error)),
    };
    Err(DatabaseError::Damaged {
        path: path.to_owned(),
        problem: problem.to_owned(),
    })
}

/// The folder of the database: where an image lies before it is installed, so that the last step stays on one disk.
pub fn folder_of(live: &Path) -> PathBuf {
    live.parent().unwrap_or(Path::new("/")).to_owned()
}
