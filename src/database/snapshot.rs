//! A consistent snapshot of a database that others write to meanwhile. One read transaction pins it; what is
//! said about it and what is copied come from that same transaction.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tempfile::TempPath;

use super::{DatabaseError, Facts, facts, files, integrity_check, open_read_only, open_scratch};
use crate::failpoint;
use crate::progress::{Bars, Progress};

/// Pages per step of a copy: small enough to show progress, large enough not to matter.
const STEP: i32 = 512;
/// Pages per step of a copy that others want to write between: a fraction of a millisecond from memory.
const SHORT_STEP: i32 = 32;
/// How often such a copy starts over because somebody wrote, before it holds writers back until it is done.
const STARTS: u32 = 8;

/// A database as it was at one moment, for as long as this lives.
#[derive(Debug)]
pub struct Pinned {
    connection: Connection,
    path: PathBuf,
    watch: Option<Watch>,
    /// What is really read, where that is not the database itself. Closed before it is removed.
    copy: Option<TempPath>,
}

/// A second look at a pinned database, which sees whether anybody has written since.
#[derive(Debug)]
struct Watch {
    connection: Connection,
    /// SQLite's own count of the commits of others.
    version: i64,
}

impl Watch {
    fn version(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("PRAGMA data_version", [], |row| row.get(0))
    }

    /// Nobody has written since the moment was pinned.
    fn is_unchanged(&self) -> rusqlite::Result<bool> {
        Ok(Self::version(&self.connection)? == self.version)
    }
}

impl Pinned {
    /// Pins the present state. Never blocks a writer in WAL mode; with a rollback journal nobody writes while it lives.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn new(path: &Path) -> Result<Self, DatabaseError> {
        let connection = open_read_only(path)?;
        pin(&connection, path)?;
        Ok(Self { connection, path: path.to_owned(), watch: None, copy: None })
    }

    /// As [`Pinned::new`], and in nobody's way with a rollback journal either (claude-mem 12.4 to 13.10): there it pins a
    /// private copy in `folder`, made from memory in short steps. bun's writers do not wait for a reader at all unless
    /// they are told to, so a write that meets one is lost.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn beside_writers(path: &Path, folder: &Path) -> Result<Self, DatabaseError> {
        let source = open_read_only(path)?;
        let mode: String = source
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(|error| DatabaseError::sqlite("read", path, error))?;
        if mode == "wal" {
            let fail = |error| DatabaseError::sqlite("read", path, error);
            let version = Watch::version(&source).map_err(fail)?;
            let mut pinned = Self::new(path)?;
            let watch = Watch { connection: source, version };
            // Looked at on both sides of the pin: what it sees is the pinned moment.
            pinned.watch = watch.is_unchanged().map_err(fail)?.then_some(watch);
            return Ok(pinned);
        }
        tracing::debug!(mode, "no write-ahead log: a copy is read");
        files::require_space(folder, files::size_with_wal(path))?;
        let copy = files::temporary(folder, "beside")?;
        copy_beside_writers(&source, path, &copy)?;
        let connection = open_read_only(&copy)?;
        pin(&connection, path)?;
        Ok(Self { connection, path: path.to_owned(), watch: None, copy: Some(copy) })
    }

    /// The connection that holds the moment: for reading only, and without ending its transaction.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn facts(&self) -> Result<Facts, DatabaseError> {
        facts::read(&self.connection, &self.path)
    }

    /// The same, with a bar over the rows where they are many.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn facts_shown(&self, bars: &Bars) -> Result<Facts, DatabaseError> {
        facts::read_shown(&self.connection, &self.path, bars)
    }

    /// SQLite's full check; returns the search indexes that are damaged over whole rows.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn integrity_check(&self) -> Result<Vec<String>, DatabaseError> {
        integrity_check(&self.connection, &self.path)
    }

    /// Copies it page by page into an existing empty file and gives the header's volatile fields fixed values, so
    /// that the same content always makes the same image. Synced to the disk.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn copy_to(&self, image: &Path, progress: &Progress) -> Result<(), DatabaseError> {
        let cookie = schema_cookie(&self.connection, &self.path)?;
        copy_pages(&self.connection, &self.path, image, progress)?;
        fix_header(image, cookie).map_err(|error| DatabaseError::io("finish", image, error))?;
        files::sync_file(image)
    }

    /// Compacts it into a new file in `folder`, as `VACUUM INTO` does it: free pages are left out. Straight from the database
    /// where nobody writes meanwhile, else from a copy of the pinned moment. `shown` is told that a copy is made.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn compact(
        &self,
        folder: &Path,
        shown: impl FnOnce() -> Progress,
    ) -> Result<TempPath, DatabaseError> {
        if let Some(compact) = self.compact_in_place(folder)? {
            return Ok(compact);
        }
        let image = files::temporary(folder, "snapshot")?;
        let progress = shown();
        self.copy_to(&image, &progress)?;
        progress.done();
        failpoint::reach("push.copied");
        let compact = files::temporary(folder, "object")?;
        vacuum(&open_read_only(&image)?, &image, &compact)?;
        Ok(compact)
    }

    /// `None`: somebody writes.
    fn compact_in_place(&self, folder: &Path) -> Result<Option<TempPath>, DatabaseError> {
        if let Some(copy) = &self.copy {
            let compact = files::temporary(folder, "object")?;
            vacuum(&open_read_only(copy)?, copy, &compact)?;
            return Ok(Some(compact));
        }
        let Some(watch) = &self.watch else {
            return Ok(None);
        };
        let unchanged =
            || watch.is_unchanged().map_err(|error| DatabaseError::sqlite("read", &self.path, error));
        if !unchanged()? {
            return Ok(None);
        }
        let compact = files::temporary(folder, "object")?;
        vacuum(&watch.connection, &self.path, &compact)?;
        failpoint::reach("push.vacuumed");
        Ok(unchanged()?.then_some(compact))
    }
}

fn vacuum(connection: &Connection, from: &Path, target: &Path) -> Result<(), DatabaseError> {
    let name = target.to_str().ok_or_else(|| {
        DatabaseError::io("name", target, std::io::Error::new(std::io::ErrorKind::InvalidInput, "not UTF-8"))
    })?;
    let vacuumed = connection.execute("VACUUM INTO ?1", [name]);
    vacuumed.map(drop).map_err(|error| DatabaseError::sqlite("compact", from, error))
}

fn pin(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    // Without this first read the backup would start over whenever somebody writes (585 times in 20 s, seen).
    connection
        .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
        .map_err(|error| DatabaseError::sqlite("read", path, error))
}

fn schema_cookie(connection: &Connection, path: &Path) -> Result<u32, DatabaseError> {
    connection
        .query_row("PRAGMA schema_version", [], |row| row.get(0))
        .map_err(|error| DatabaseError::sqlite("read", path, error))
}

/// The target of a copy. A fresh file of our own: a crash leaves nothing that anybody would read.
fn open_target(image: &Path) -> Result<Connection, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("open", image, error);
    let target = open_scratch(image).map_err(fail)?;
    target.execute_batch("PRAGMA cache_size = -1000;").map_err(fail)?;
    Ok(target)
}

/// Copies a database that has a rollback journal, page 1 as it is there. The source is not in a transaction: the backup
/// API lets writers in between two steps, and starts over when one came.
fn copy_beside_writers(source: &Connection, path: &Path, image: &Path) -> Result<(), DatabaseError> {
    // Slow cards are read here, without a lock: the steps then take the pages from memory. Nothing is held in this
    // process that closing the file could give away (POSIX locks).
    let _ = std::fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    let fail = |error| DatabaseError::sqlite("copy", path, error);
    loop {
        let cookie = schema_cookie(source, path)?;
        let mut target = open_target(image)?;
        {
            let backup = Backup::new(source, &mut target).map_err(fail)?;
            let (mut left, mut starts) = (i32::MAX, 0);
            loop {
                match backup.step(SHORT_STEP).map_err(fail)? {
                    StepResult::Done => break,
                    StepResult::More => {}
                    // Not even in the time that every connection of ours waits.
                    _ => {
                        let (path, doing) = (path.to_owned(), "copy");
                        return Err(DatabaseError::Busy { path, doing });
                    }
                }
                let remaining = backup.progress().remaining;
                if remaining > left {
                    starts += 1;
                }
                left = remaining;
                if starts == STARTS {
                    starts += 1;
                    tracing::debug!("somebody writes without a pause: nobody does until the copy is made");
                    pin(source, path)?;
                }
            }
        }
        target.close().map_err(|(_, error)| fail(error))?;
        if schema_cookie(source, path)? == cookie {
            return fix_header(image, cookie).map_err(|error| DatabaseError::io("finish", image, error));
        }
    }
}

fn copy_pages(
    source: &Connection,
    path: &Path,
    image: &Path,
    progress: &Progress,
) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("copy", path, error);
    let mut target = open_target(image)?;
    {
        let backup = Backup::new(source, &mut target).map_err(fail)?;
        run_steps(&backup, progress, |_| false).map_err(fail)?;
    }
    target.close().map_err(|(_, error)| fail(error))
}

/// Steps a backup to its end. `again` is asked when another connection is in the way.
pub(super) fn run_steps(
    backup: &Backup<'_, '_>,
    progress: &Progress,
    mut again: impl FnMut(StepResult) -> bool,
) -> rusqlite::Result<()> {
    loop {
        let step = backup.step(STEP)?;
        let state = backup.progress();
        let done = state.pagecount.saturating_sub(state.remaining);
        progress.set(u64::try_from(done).unwrap_or(0) * 4096);
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            blocked => {
                if !again(blocked) {
                    let code = rusqlite::ffi::SQLITE_BUSY;
                    return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None));
                }
            }
        }
    }
}

/// Marks a file that nobody has open as not being in WAL mode.
pub(super) fn say_rollback_journal(image: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(image)?;
    file.seek(SeekFrom::Start(18))?;
    file.write_all(&[1, 1])
}

/// Gives the bytes of a first page that differ between equal databases fixed values (SQLite file format, section
/// 1.3): journal mode (18, 19), change counter (24), version-valid-for (92) and the version of the library that wrote
/// last (96); with `cookie` also the schema cookie (40), which the backup API raises. A shorter page is left alone.
pub fn normalise_header(page: &mut [u8], cookie: Option<u32>) {
    const LIBRARY: u32 = 3_040_000;
    let mut set = |offset: usize, bytes: &[u8]| {
        if let Some(place) = page.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    set(18, &[1, 1]);
    set(24, &1_u32.to_be_bytes());
    set(92, &1_u32.to_be_bytes());
    set(96, &LIBRARY.to_be_bytes());
    if let Some(cookie) = cookie {
        set(40, &cookie.to_be_bytes());
    }
}

fn fix_header(image: &Path, cookie: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(image)?;
    let mut header = [0_u8; 100];
    file.read_exact(&mut header)?;
    normalise_header(&mut header, Some(cookie));
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)
}

#[cfg(test)]
mod tests {
    use super::Pinned;
    use crate::database::files;
    use crate::progress::Progress;
    use rusqlite::Connection;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// A database of some megabytes, and a folder for copies.
    fn ground(mode: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA journal_mode={mode};
             CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t(x); DROP INDEX i;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 4000)
             INSERT INTO t SELECT i, hex(randomblob(500)) FROM n;"
        ))
        .unwrap();
        let copies = folder.path().join("copies");
        std::fs::create_dir(&copies).unwrap();
        (folder, path, copies)
    }

    fn image(pinned: &Pinned, folder: &Path) -> Vec<u8> {
        let path = files::temporary(folder, "image").unwrap();
        pinned.copy_to(&path, &Progress::hidden()).unwrap();
        std::fs::read(&path).unwrap()
    }

    fn copies_in(folder: &Path) -> usize {
        let names =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Without the file whose lock says that this run lives.
        names.filter(|name| name.matches('-').count() > 2).count()
    }

    /// Ends a writer also where an assertion fails.
    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// As bun opens a database: without a time to wait.
    fn impatient(path: &Path) -> Connection {
        let db = Connection::open(path).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        db
    }

    #[test]
    fn a_writer_with_a_rollback_journal_is_not_held_back() {
        for mode in ["DELETE", "TRUNCATE", "PERSIST"] {
            let (folder, path, copies) = ground(mode);
            let writer = impatient(&path);
            let pinned = Pinned::beside_writers(&path, &copies).unwrap();
            let before = image(&Pinned::new(&path).unwrap(), folder.path());
            writer.execute("INSERT INTO t(x) VALUES ('now')", []).unwrap();
            assert!(image(&pinned, folder.path()) == before, "{mode}");
            assert_eq!(copies_in(&copies), 1, "{mode}");
            drop(pinned);
            assert_eq!(copies_in(&copies), 0, "{mode}");
            let in_the_way = Pinned::new(&path).unwrap();
            let refused = writer.execute("INSERT INTO t(x) VALUES ('later')", []);
            assert!(refused.is_err(), "{mode}: what this is for");
            drop(in_the_way);
        }
    }

    #[test]
    fn a_database_with_a_log_is_read_where_it_is() {
        let (folder, path, copies) = ground("WAL");
        let writer = impatient(&path);
        let pinned = Pinned::beside_writers(&path, &copies).unwrap();
        let before = image(&pinned, folder.path());
        writer.execute("INSERT INTO t(x) VALUES ('now')", []).unwrap();
        assert!(image(&pinned, folder.path()) == before);
        assert_eq!(copies_in(&copies), 0);
    }

    #[test]
    fn a_compact_copy_is_of_the_pinned_moment_and_the_database_is_copied_for_it_only_beside_a_writer() {
        for mode in ["WAL", "DELETE"] {
            let (folder, path, copies) = ground(mode);
            let writer = impatient(&path);
            writer.execute_batch("DELETE FROM t WHERE id % 3 = 0").unwrap();
            // As the script does it.
            let wanted = |name: &str, from: &Path| {
                let target = folder.path().join(name);
                let db = Connection::open(from).unwrap();
                db.execute("VACUUM INTO ?1", [target.to_str().unwrap()]).unwrap();
                std::fs::read(target).unwrap()
            };
            let before = wanted("before", &path);
            let pinned = Pinned::beside_writers(&path, &copies).unwrap();
            let compact = || {
                let mut by_copy = false;
                let compact = pinned.compact(&copies, || {
                    by_copy = true;
                    Progress::hidden()
                });
                (std::fs::read(compact.unwrap()).unwrap(), by_copy)
            };
            let (made, by_copy) = compact();
            assert!(made == before && !by_copy, "{mode}");
            writer.execute("INSERT INTO t(x) VALUES ('now')", []).unwrap();
            let (made, by_copy) = compact();
            assert!(made == before, "{mode}");
            assert_eq!(by_copy, mode == "WAL", "a private copy stays as it is");
            assert!(wanted("after", &path) != before, "{mode}: what this is for");
        }
    }

    #[test]
    fn a_copy_beside_a_writer_without_a_pause_is_one_moment_and_comes_to_an_end() {
        let (folder, path, copies) = ground("DELETE");
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let db = Connection::open(&path).unwrap();
                db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                // Two rows at a time: half of them would be a moment that never was.
                while !stop.load(Ordering::SeqCst) {
                    db.execute_batch(
                        "BEGIN IMMEDIATE; INSERT INTO t(x) VALUES ('left'), ('right');
                         UPDATE t SET x = hex(randomblob(500)) WHERE id IN (7, 1007, 2007, 3007); COMMIT;",
                    )
                    .unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                    // Without a breath nobody else would ever be let in, by any way of reading.
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
            let _stop = Stop(&stop);
            for _ in 0..2 {
                let before = written.load(Ordering::SeqCst);
                while written.load(Ordering::SeqCst) == before {
                    std::thread::yield_now();
                }
                let pinned = Pinned::beside_writers(&path, &copies).unwrap();
                pinned.integrity_check().unwrap();
                let count = |what: &str| -> u64 {
                    let query = format!("SELECT count(*) FROM t WHERE x = '{what}'");
                    pinned.connection().query_row(&query, [], |row| row.get(0)).unwrap()
                };
                assert_eq!(count("left"), count("right"));
                assert!(count("left") > before);
            }
        });
        drop(folder);
    }
}
