//! Puts an image in the place of the local database without ever having half of either: backup through SQLite,
//! replacement as one SQLite transaction in the live file, check, and the way back. Never a rename over a
//! live file (F03, F10).

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};

use super::{
    BUSY, DatabaseError, Facts, facts, files, integrity_check, open_read_only, open_read_write, snapshot,
};
use crate::failpoint;
use crate::ui::Progress;

/// Copies the live database into `target` (an existing empty file), checks the copy and syncs it (F04).
///
/// # Errors
/// See [`DatabaseError`]. On any error nothing was changed.
pub fn back_up(live: &Path, target: &Path, progress: &Progress) -> Result<Facts, DatabaseError> {
    let pinned = snapshot::Pinned::new(live)?;
    let before = pinned.facts()?;
    pinned.copy_to(target, progress)?;
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

/// Writes an image into the live database as one transaction, with other connections attached. When it returns
/// an error the old content is untouched.
///
/// # Errors
/// See [`DatabaseError`]; [`DatabaseError::Busy`] when others did not let us in.
pub fn replace(image: &Path, live: &Path, progress: &Progress) -> Result<(), DatabaseError> {
    let source = open_read_only(image)?;
    let mut target = open_read_write(live)?;
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    target.execute_batch("PRAGMA synchronous = FULL;").map_err(fail)?;
    match_page_size(&source, &target).map_err(fail)?;
    let until = Instant::now() + BUSY;
    {
        let backup = Backup::new(&source, &mut target).map_err(fail)?;
        failpoint::reach("install.begin");
        let mut stepped = false;
        snapshot::run_steps(&backup, progress, |blocked| {
            if !stepped {
                failpoint::reach("install.blocked");
                stepped = true;
            }
            // The busy handler has waited already; a writer between two steps may still be in the way.
            matches!(blocked, StepResult::Busy | StepResult::Locked) && Instant::now() < until
        })
        .map_err(fail)?;
    }
    failpoint::reach("install.committed");
    // Readers keep the log alive as long as they need it; what cannot be folded in now is folded in by the worker.
    let folded = target.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    tracing::debug!(?folded, "install: checkpoint");
    target.close().map_err(|(_, error)| fail(error))?;
    files::sync_file(live)
}

/// The backup API cannot change the page size of a database in WAL mode; without other connections the mode can.
fn match_page_size(source: &rusqlite::Connection, target: &rusqlite::Connection) -> rusqlite::Result<()> {
    let size = |connection: &rusqlite::Connection| {
        connection.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))
    };
    if size(source)? != size(target)? {
        target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    }
    Ok(())
}

/// Puts an image where there is no database yet. An old log without its database is moved into `aside` first:
/// beside a new main file it would be replayed into it (F03).
///
/// # Errors
/// See [`DatabaseError`]; a database that appeared meanwhile is left alone.
pub fn place(image: tempfile::TempPath, live: &Path, aside: &Path) -> Result<(), DatabaseError> {
    let folder = live.parent().unwrap_or(Path::new("/"));
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
        Ok(()) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(DatabaseError::Busy {
                path: live.to_owned(),
                doing: "a database appeared there meanwhile",
            });
        }
        Err(error) => return Err(DatabaseError::io("put the database at", live, error.error)),
    }
    files::sync_folder(folder)
}

/// Looks whether what is installed is what was meant to be: whole, and with the wanted content.
///
/// # Errors
/// What differs.
pub fn check(live: &Path, wanted: &str) -> Result<Facts, DatabaseError> {
    let connection = open_read_only(live)?;
    integrity_check(&connection, live)?;
    let facts = facts::read(&connection, live)?;
    if facts.digest != wanted {
        // A worker that came back may have written already: rows on top are no damage, other rows are.
        return Err(DatabaseError::Damaged {
            path: live.to_owned(),
            problem: format!(
                "after the replacement it holds {}, not what was installed",
                facts.counts.describe()
            ),
        });
    }
    Ok(facts)
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

/// An empty or foreign file gets a clear word instead of SQLite's idea of an empty database.
fn require_header(path: &Path) -> Result<(), DatabaseError> {
    use std::io::Read;
    let mut magic = [0_u8; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    let problem = match read {
        Ok(()) if &magic == b"SQLite format 3\0" => return Ok(()),
        Ok(()) => "the file does not start like one".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "the file is too short".to_owned(),
        Err(error) => return Err(DatabaseError::io("read", path, error)),
    };
    Err(DatabaseError::Damaged {
        path: path.to_owned(),
        problem,
    })
}

/// Where a finished temporary image lies before it is installed: beside the database, so that the last step is a
/// rename on the same disk.
pub fn folder_of(live: &Path) -> PathBuf {
    live.parent().unwrap_or(Path::new("/")).to_owned()
}
