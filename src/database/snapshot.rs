//! A consistent snapshot of a database that others write to meanwhile. One read transaction pins it; what is
//! said about it and what is copied come from that same transaction.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{DatabaseError, Facts, facts, files, integrity_check, open_read_only};
use crate::ui::Progress;

/// Pages per step of a copy: small enough to show progress, large enough not to matter.
const STEP: i32 = 512;

/// A database as it was at one moment, for as long as this lives.
#[derive(Debug)]
pub struct Pinned {
    connection: Connection,
    path: PathBuf,
}

impl Pinned {
    /// Pins the present state. Never blocks a writer in WAL mode.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn new(path: &Path) -> Result<Self, DatabaseError> {
        let connection = open_read_only(path)?;
        // Without this first read the backup would start over whenever somebody writes (585 times in 20 s, seen).
        connection
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
            .map_err(|error| DatabaseError::sqlite("read", path, error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
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

    /// SQLite's full check.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn integrity_check(&self) -> Result<(), DatabaseError> {
        integrity_check(&self.connection, &self.path)
    }

    /// Copies it page by page into an existing empty file and gives the header's volatile fields fixed values, so
    /// that the same content always makes the same image. Synced to the disk.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn copy_to(&self, image: &Path, progress: &Progress) -> Result<(), DatabaseError> {
        let cookie: u32 = self
            .connection
            .query_row("PRAGMA schema_version", [], |row| row.get(0))
            .map_err(|error| DatabaseError::sqlite("read", &self.path, error))?;
        copy_pages(&self.connection, &self.path, image, progress)?;
        fix_header(image, cookie).map_err(|error| DatabaseError::io("finish", image, error))?;
        files::sync_file(image)
    }
}

fn copy_pages(
    source: &Connection,
    path: &Path,
    image: &Path,
    progress: &Progress,
) -> Result<(), DatabaseError> {
    let fail = |error| DatabaseError::sqlite("copy", path, error);
    let mut target = Connection::open(image).map_err(|error| DatabaseError::sqlite("open", image, error))?;
    // A fresh file of our own: a crash leaves nothing that anybody would read.
    target
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000;")
        .map_err(fail)?;
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
                    return Err(rusqlite::Error::SqliteFailure(
                        rusqlite::ffi::Error::new(code),
                        None,
                    ));
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

/// Makes the object that Python nodes read: a compact copy, without free pages, of an image. Synced to the disk.
///
/// # Errors
/// See [`DatabaseError`].
pub fn vacuum_into(image: &Path, target: &Path) -> Result<(), DatabaseError> {
    let connection = open_read_only(image)?;
    let name = target.to_str().ok_or_else(|| {
        DatabaseError::io(
            "name",
            target,
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "not UTF-8"),
        )
    })?;
    connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| DatabaseError::sqlite("compact", image, error))?;
    files::sync_file(target)
}
