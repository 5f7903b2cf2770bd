//! Puts an image in the place of the local database without ever having half of either. The live file is never
//! renamed over (F03, F10): under one write lock it is backed up through SQLite, checked, and overwritten in the
//! same SQLite transaction, so that a row that another connection commits is in the backup or in the database.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode};

use super::changes;
use super::check;
use super::code::{self, Admits};
use super::{
    BUSY, DatabaseError, Facts, facts, files, integrity_check, open_foreign, open_read_only, open_read_write,
    pages, queue, snapshot,
};
use crate::failpoint;
use crate::progress::Progress;

/// How long we ask for the write lock.
const PATIENCE: Duration = BUSY.saturating_mul(2);
/// SQLite gives the lock to whoever asks at the right moment.
const RETRY: Duration = Duration::from_micros(500);

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
/// (an existing empty file) first, hands the facts of the backup to `approve`, which makes the backup durable and says
/// whether to go on, and then writes the image as one transaction.
///
/// # Errors
/// See [`DatabaseError`]. On any error the old content is in place.
pub fn swap(
    live: &Path,
    image: &Path,
    backup: &Path,
    approve: impl FnOnce(&Facts) -> Result<bool, DatabaseError>,
    progress: &Progress,
) -> Result<Swapped, DatabaseError> {
    let mut target = open_read_write(live)?;
    fit(image, live, &target)?;
    let source = open_read_only(image)?;
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    let before = patiently(|| prepare(&target)).map_err(fail)?;
    let swapped = under_write_lock(&source, &mut target, live, |copy| {
        failpoint::reach("install.locked");
        // Nobody can commit any more; readers, and so the backup, still see the last committed state.
        let old = back_up(live, backup)?;
        failpoint::reach("install.backed-up");
        if !approve(&old)? {
            return Ok(Swapped { old, replaced: false, queue_left: 0 });
        }
        let queue_left = queue::carry_over(live, image)?;
        failpoint::reach("install.queue");
        copy.step(1).map_err(fail)?;
        failpoint::reach("install.half");
        snapshot::run_steps(copy, progress, |_| false).map_err(fail)?;
        Ok(Swapped { old, replaced: true, queue_left })
    });
    let swapped = match swapped {
        Ok(swapped) if swapped.replaced => swapped,
        other => {
            leave(&target, &before);
            return other;
        }
    };
    failpoint::reach("install.committed");
    // It is committed: trouble with folding in the log must not be taken for a failed replacement.
    if let Err(error) = finish(target, live) {
        tracing::warn!(%error, "install: after the commit");
    }
    Ok(swapped)
}

/// Writes an image into the live database as one transaction: the way back, when what was installed turned out wrong.
/// `keep` is called under the write lock, when nobody can commit any more: it copies what would be lost.
///
/// # Errors
/// See [`DatabaseError`]; what `keep` returns. The database is then as it was.
pub fn put_back(
    image: &Path,
    live: &Path,
    keep: impl FnOnce() -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let source = open_read_only(image)?;
    let mut target = open_read_write(live)?;
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    let before = patiently(|| prepare(&target)).map_err(fail)?;
    let done = under_write_lock(&source, &mut target, live, |copy| {
        keep()?;
        snapshot::run_steps(copy, &Progress::hidden(), |_| false).map_err(fail)
    });
    if done.is_err() {
        leave(&target, &before);
        return done;
    }
    finish(target, live)
}

/// Gives an image the page size of the live database: another one cannot be written into a file that others have open,
/// nor while its last committed state is read.
///
/// # Errors
/// See [`DatabaseError`]; texts in another encoding, which no file can take over.
fn fit(image: &Path, live: &Path, target: &Connection) -> Result<(), DatabaseError> {
    let source = open_foreign(image, true)?;
    let of = |connection: &Connection, path: &Path| -> Result<(i64, String), DatabaseError> {
        let read = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, Value>(0));
        match (read("PRAGMA page_size"), read("PRAGMA encoding")) {
            (Ok(Value::Integer(size)), Ok(Value::Text(encoding))) => Ok((size, encoding)),
            (Err(error), _) | (_, Err(error)) => Err(DatabaseError::sqlite("read", path, error)),
            _ => Ok((0, String::new())),
        }
    };
    let ((size, encoding), (wanted, here)) = (of(&source, image)?, of(target, live)?);
    if encoding != here {
        return Err(DatabaseError::Encoding { path: live.to_owned(), encoding: here });
    }
    if size == wanted {
        return Ok(());
    }
    tracing::info!(size, wanted, "the image gets the page size of the database that is here");
    source
        .execute_batch(&format!("PRAGMA journal_mode = DELETE; PRAGMA page_size = {wanted}; VACUUM"))
        .map_err(|error| DatabaseError::sqlite("change the page size of", image, error))?;
    source.close().map_err(|(_, error)| DatabaseError::sqlite("close", image, error))?;
    files::sync_file(image)
}

/// WAL mode lets us read the last committed state while holding the write lock. The worker sets the mode that it likes
/// when it starts. Returns the mode that was there.
fn prepare(target: &Connection) -> rusqlite::Result<String> {
    let mode: String = target.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        target.query_row("PRAGMA journal_mode = wal", [], |_| Ok(()))?;
    }
    target.execute_batch("PRAGMA synchronous = FULL;")?;
    Ok(mode)
}

/// Nothing was replaced: the journal mode is not ours to change.
fn leave(target: &Connection, before: &str) {
    if before != "wal" {
        let left = target.query_row(&format!("PRAGMA journal_mode = {before}"), [], |_| Ok(()));
        tracing::debug!(?left, before, "install: the journal mode as it was");
    }
}

/// Repeats what another connection is in the way of, more often than SQLite's own busy handler, which is not asked for
/// every kind of lock and starves beside a writer without pause.
fn patiently<T>(mut step: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match step() {
            Err(error) if is_busy(&error) && Instant::now() < until => std::thread::sleep(RETRY),
            other => return other,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Takes the live database's write lock by beginning the copy, and runs `work` under it. Unless `work` copies to the
/// end, nothing is changed.
fn under_write_lock<T>(
    source: &Connection,
    target: &mut Connection,
    live: &Path,
    work: impl FnOnce(&Backup<'_, '_>) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("replace", live, error);
    let until = Instant::now() + PATIENCE;
    loop {
        let copy = Backup::new(source, target).map_err(fail)?;
        match copy.step(0) {
            Ok(StepResult::Busy | StepResult::Locked) => {}
            // Somebody committed between our first look and the lock (SQLITE_BUSY_SNAPSHOT); this copy is spent.
            Err(error) if is_busy(&error) => {}
            Ok(_) => return work(&copy),
            Err(error) => return Err(fail(error)),
        }
        if Instant::now() >= until {
            return Err(DatabaseError::Busy { path: live.to_owned(), doing: "replace" });
        }
        drop(copy);
        std::thread::sleep(RETRY);
    }
}

fn finish(target: Connection, live: &Path) -> Result<(), DatabaseError> {
    // Readers keep the log alive as long as they need it; what cannot be folded in now is folded in by the worker.
    let folded = target.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    tracing::debug!(?folded, "install: checkpoint");
    target.close().map_err(|(_, error)| DatabaseError::sqlite("close", live, error))?;
    files::sync_file(live)
}

/// Copies the last committed state of the live database into `target` (an existing empty file), checks the copy
/// and syncs it (F04).
///
/// # Errors
/// See [`DatabaseError`].
pub fn back_up(live: &Path, target: &Path) -> Result<Facts, DatabaseError> {
    let pinned = snapshot::Pinned::new(live)?;
    pinned.copy_to(target, &Progress::hidden())?;
    if !pages::are_those_of(&pinned, target)? {
        let problem = "the backup does not hold what the database holds".to_owned();
        return Err(DatabaseError::Damaged { path: target.to_owned(), problem });
    }
    drop(pinned);
    let copy = open_read_only(target)?;
    integrity_check(&copy, target)?;
    facts::read(&copy, target)
}

/// Puts an image where there is no database yet, or a file of 0 bytes. An old log without its database is moved away first: beside a new
/// main file it would be replayed into it (F03). Returns where it went: `aside`, or a folder beside it where there is
/// one of that name, for such a log can hold rows.
///
/// # Errors
/// See [`DatabaseError`]; a database that appeared meanwhile is left alone.
pub fn place(image: tempfile::TempPath, live: &Path, aside: &Path) -> Result<Option<PathBuf>, DatabaseError> {
    let orphans: Vec<PathBuf> = ["-wal", "-shm", "-journal"]
        .into_iter()
        .map(|suffix| files::beside(live, suffix))
        .filter(|orphan| orphan.exists())
        .collect();
    let aside = if orphans.is_empty() { None } else { Some(files::fresh_folder(aside)?) };
    for (orphan, folder) in orphans.iter().zip(aside.iter().cycle()) {
        let kept = folder.join(orphan.file_name().unwrap_or_default());
        std::fs::rename(orphan, &kept)
            .or_else(|_| std::fs::copy(orphan, &kept).and_then(|_| std::fs::remove_file(orphan)))
            .map_err(|error| DatabaseError::io("move aside", orphan, error))?;
    }
    // What waited on the machine that pushed is not to be done twice.
    queue::empty(&image)?;
    if live.exists() {
        return fill(&image, live).map(|()| aside);
    }
    in_wal_mode(&image)?;
    failpoint::reach("install.place");
    match image.persist_noclobber(live) {
        Ok(()) => files::sync_folder(&folder_of(live)).map(|()| aside),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(DatabaseError::Busy { path: live.to_owned(), doing: "a database appeared there meanwhile" })
        }
        Err(error) => Err(DatabaseError::io("put the database at", live, error.error)),
    }
}

/// Puts an image into a file of 0 bytes. Somebody may have opened it meanwhile, so it goes in through SQLite, and only
/// while nothing is there.
fn fill(image: &Path, live: &Path) -> Result<(), DatabaseError> {
    fit(image, live, &open_read_write(live)?)?;
    put_back(image, live, || {
        let tables: u64 = open_read_only(live)?
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|error| DatabaseError::sqlite("read", live, error))?;
        if tables == 0 {
            return Ok(());
        }
        Err(DatabaseError::Busy { path: live.to_owned(), doing: "a database appeared there meanwhile" })
    })
}

/// claude-mem's own choice for new databases (claude-mem.md section 1): readers and the writer do not wait for each
/// other. The object in the bucket says rollback journal.
fn in_wal_mode(image: &Path) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("finish", image, error);
    let connection = open_read_write(image)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(fail)?;
    connection.close().map_err(|(_, error)| fail(error))?;
    files::sync_file(image)
}

/// Looks whether what is installed is what was meant to be: the pages of the image, which was found whole before it came
/// here. Where a worker that came back has written, every row of the image has to be there, and the database whole.
///
/// # Errors
/// What is wrong with it.
pub fn check(live: &Path, image: &Path, wanted: &Facts, scratch: &Path) -> Result<Facts, DatabaseError> {
    if pages::are_those_of(&snapshot::Pinned::new(live)?, image)? {
        return Ok(wanted.clone());
    }
    let connection = open_read_only(live)?;
    if let Some(index) = integrity_check(&connection, live)?.first() {
        let problem = format!("the search index {index} is damaged");
        return Err(DatabaseError::Damaged { path: live.to_owned(), problem });
    }
    let facts = facts::read(&connection, live)?;
    if facts.digest == wanted.digest {
        return Ok(facts);
    }
    let changes = changes::between(image, live, scratch, 0)?;
    let lacks = changes.iter().filter(|change| change.removed > 0);
    let lacks: Vec<String> = lacks.map(|change| format!("{} {}", change.removed, change.table)).collect();
    if lacks.is_empty() {
        return Ok(facts);
    }
    let problem = format!("after the replacement it lacks {}", lacks.join(", "));
    Err(DatabaseError::Damaged { path: live.to_owned(), problem })
}

/// Checks an image before anything live is touched (F09): SQLite, without code that is not `admitted`, whole,
/// claude-mem's. A search index that is damaged over whole rows is made anew. An image that says WAL mode is made to say rollback journal: it has no log, and readers would leave one
/// beside it.
///
/// # Errors
/// See [`DatabaseError`].
pub fn inspect(image: &Path, admitted: &Admits) -> Result<Facts, DatabaseError> {
    require_header(image)?;
    snapshot::say_rollback_journal(image).map_err(|error| DatabaseError::io("prepare", image, error))?;
    let connection = open_foreign(image, false)?;
    let encoding: String = connection
        .query_row("PRAGMA encoding", [], |row| row.get(0))
        .map_err(|error| DatabaseError::sqlite("read", image, error))?;
    if encoding != "UTF-8" {
        return Err(DatabaseError::Encoding { path: image.to_owned(), encoding });
    }
    admitted.judge(&code::read(&connection, image)?)?;
    let damaged = integrity_check(&connection, image)?;
    if damaged.is_empty() {
        return facts::read(&connection, image);
    }
    drop(connection);
    tracing::warn!(?damaged, "search indexes of the image are made anew");
    let connection = open_foreign(image, true)?;
    check::rebuild(&connection, &damaged).map_err(|error| DatabaseError::sqlite("rebuild", image, error))?;
    if let Some(index) = integrity_check(&connection, image)?.first() {
        let problem = format!("the search index {index} cannot be made anew");
        return Err(DatabaseError::Damaged { path: image.to_owned(), problem });
    }
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
    Err(DatabaseError::Damaged { path: path.to_owned(), problem: problem.to_owned() })
}

/// The folder of the database: where an image lies before it is installed, so that the last step stays on one disk.
pub fn folder_of(live: &Path) -> PathBuf {
    live.parent().unwrap_or(Path::new("/")).to_owned()
}
