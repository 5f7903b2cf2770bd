//! The pages of a database, read through SQLite inside one read transaction while others write: no copy on the disk,
//! and flat memory. A page here is byte for byte the page of the image that `Pinned::copy_to` writes. Knows bytes only.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::DatabaseError;
use super::snapshot::{Pinned, normalise_header};

/// SQLite keeps its locks on this byte of a database file; the page that holds it has no content.
const PENDING_BYTE: u64 = 1 << 30;
/// Where the schema cookie stands in the first page.
const COOKIE: std::ops::Range<usize> = 40..44;

/// The number of the page that is never used, in a database of this page size.
pub fn lock_page(page_size: u32) -> u32 {
    u32::try_from(PENDING_BYTE / u64::from(page_size.max(1))).unwrap_or(u32::MAX).saturating_add(1)
}

/// What an image looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages.
    pub page_count: u32,
    /// The schema cookie in its header.
    pub cookie: u32,
}

impl Shape {
    /// Bytes of the image.
    pub fn bytes(self) -> u64 {
        u64::from(self.page_size) * u64::from(self.page_count)
    }
}

/// Bytes of a page and number of pages, at the pinned moment.
///
/// # Errors
/// SQLite's own.
pub fn size(pinned: &Pinned) -> Result<(u32, u32), DatabaseError> {
    let ask = |pragma: &str| {
        pinned
            .connection()
            .query_row(pragma, [], |row| row.get::<_, u32>(0))
            .map_err(|error| DatabaseError::sqlite("read", pinned.path(), error))
    };
    Ok((ask("PRAGMA page_size")?, ask("PRAGMA page_count")?))
}

/// Calls `visit` with each page's number and content, in order. `cookie` replaces the schema cookie of the header,
/// for the comparison with an image that was installed through the backup API (which raises it).
///
/// # Errors
/// SQLite's own; whatever `visit` returns.
pub fn for_each<E: From<DatabaseError>>(
    pinned: &Pinned,
    cookie: Option<u32>,
    mut visit: impl FnMut(u32, &[u8]) -> Result<(), E>,
) -> Result<Shape, E> {
    let path = pinned.path();
    let fail = |error| DatabaseError::sqlite("read the pages of", path, error);
    let damaged = |problem: String| DatabaseError::Damaged { path: path.to_owned(), problem };
    let (page_size, page_count) = size(pinned)?;
    let mut shape = Shape { page_size, page_count, cookie: 0 };
    let mut statement =
        pinned.connection().prepare("SELECT pgno, data FROM sqlite_dbpage").map_err(|error| {
            // `cargo install` from elsewhere does not see .cargo/config.toml.
            if error.to_string().contains("no such table: sqlite_dbpage") {
                let doing = "use SQLite's page table (build membridge inside its source tree) for";
                return DatabaseError::sqlite(doing, path, error);
            }
            fail(error)
        })?;
    let mut rows = statement.query([]).map_err(fail)?;
    let mut number = 0;
    while let Some(row) = rows.next().map_err(fail)? {
        number += 1;
        let pgno: u32 = row.get(0).map_err(fail)?;
        let page = row
            .get_ref(1)
            .map_err(fail)?
            .as_blob()
            .map_err(|error| damaged(format!("page {number}: {error}")))?;
        if pgno != number || u32::try_from(page.len()) != Ok(page_size) {
            return Err(damaged(format!("page {pgno} came in the place of page {number}")).into());
        }
        if number == 1 {
            let mut first = page.to_vec();
            normalise_header(&mut first, cookie);
            shape.cookie = cookie_of(&first);
            visit(1, &first)?;
        } else {
            visit(number, page)?;
        }
    }
    if number != page_count || page_count == 0 {
        return Err(damaged(format!("{number} of {page_count} pages could be read")).into());
    }
    Ok(shape)
}

/// Whether a file holds just these pages: the same database byte for byte, but for what a header says of its moment. Then
/// what is known of the one is true of the other.
///
/// # Errors
/// SQLite's own; the file cannot be read.
pub fn are_those_of(pinned: &Pinned, image: &Path) -> Result<bool, DatabaseError> {
    let fail = |error| DatabaseError::io("read", image, error);
    let (page_size, page_count) = size(pinned)?;
    let file = File::open(image).map_err(fail)?;
    if file.metadata().map_err(fail)?.len() != (Shape { page_size, page_count, cookie: 0 }).bytes() {
        return Ok(false);
    }
    let mut file = BufReader::with_capacity(128 * 1024, file);
    let mut there = vec![0; usize::try_from(page_size).unwrap_or(0)];
    let compared = for_each(pinned, Some(0), |number, page| {
        file.read_exact(&mut there).map_err(fail)?;
        if number == 1 {
            normalise_header(&mut there, Some(0));
        }
        // Nothing counts in the page of the locks.
        if there == page || number == lock_page(page_size) { Ok(()) } else { Err(Unlike::Differs) }
    });
    match compared {
        Ok(_) => Ok(true),
        Err(Unlike::Differs) => Ok(false),
        Err(Unlike::Unread(error)) => Err(error),
    }
}

/// Why a comparison ended early.
enum Unlike {
    Differs,
    Unread(DatabaseError),
}

impl From<DatabaseError> for Unlike {
    fn from(error: DatabaseError) -> Self {
        Self::Unread(error)
    }
}

/// The schema cookie in a first page; 0 where the page is too short to have one.
pub fn cookie_of(first: &[u8]) -> u32 {
    first.get(COOKIE).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::{are_those_of, for_each, lock_page};
    use crate::database::snapshot::Pinned;
    use crate::database::{DatabaseError, files};
    use crate::progress::Progress;
    use rusqlite::Connection;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn make(path: &Path, mode: &str, page_size: u32) {
        let db = Connection::open(path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode={mode};
             CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t(x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000)
             INSERT INTO t SELECT i, hex(randomblob(40)) FROM n;
             DELETE FROM t WHERE id % 7 = 0;"
        ))
        .unwrap();
    }

    fn image_by_pages(pinned: &Pinned) -> Vec<u8> {
        let mut image = Vec::new();
        let shape = for_each(pinned, None, |_, page| {
            image.extend_from_slice(page);
            Ok::<_, DatabaseError>(())
        })
        .unwrap();
        assert_eq!(shape.bytes(), image.len() as u64);
        image
    }

    fn image_by_copy(pinned: &Pinned, folder: &Path) -> Vec<u8> {
        let path = files::temporary(folder, "image").unwrap();
        pinned.copy_to(&path, &Progress::hidden()).unwrap();
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn the_pages_are_those_of_the_copy_in_every_journal_mode_and_page_size() {
        for (mode, page_size) in
            [("WAL", 4096), ("DELETE", 4096), ("TRUNCATE", 512), ("WAL", 1024), ("WAL", 65536)]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.db");
            make(&path, mode, page_size);
            // A connection that stays keeps frames in the log.
            let holder = Connection::open(&path).unwrap();
            holder
                .execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE t SET x = 'held' WHERE id = 1;")
                .unwrap();
            let pinned = Pinned::new(&path).unwrap();
            assert!(image_by_pages(&pinned) == image_by_copy(&pinned, folder.path()), "{mode} {page_size}");
        }
    }

    #[test]
    fn the_pages_are_those_of_the_copy_under_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        make(&path, "WAL", 4096);
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let db = Connection::open(&path).unwrap();
                db.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    db.execute("INSERT INTO t(x) VALUES (hex(randomblob(2000)))", []).unwrap();
                    written.fetch_add(1, Ordering::SeqCst);
                }
            });
            for _ in 0..4 {
                let before = written.load(Ordering::SeqCst);
                let pinned = Pinned::new(&path).unwrap();
                // The writer has to get ahead of the pinned moment, or the test shows nothing.
                while written.load(Ordering::SeqCst) < before + 20 {
                    std::thread::yield_now();
                }
                let pages = image_by_pages(&pinned);
                assert!(pages == image_by_copy(&pinned, folder.path()));
                let file = folder.path().join("check.db");
                std::fs::write(&file, &pages).unwrap();
                let verdict: String = Connection::open(&file)
                    .unwrap()
                    .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(verdict, "ok");
            }
            stop.store(true, Ordering::SeqCst);
        });
    }

    #[test]
    fn a_file_is_a_copy_or_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        make(&path, "WAL", 4096);
        let pinned = Pinned::new(&path).unwrap();
        let copy = files::temporary(folder.path(), "copy").unwrap();
        pinned.copy_to(&copy, &Progress::hidden()).unwrap();
        assert!(are_those_of(&pinned, &copy).unwrap());
        let whole = std::fs::read(&copy).unwrap();
        // The schema cookie and the counters are no content.
        for (at, same) in [(43, true), (27, true), (99, true), (19, true), (60, false), (4096, false)] {
            let mut other = whole.clone();
            other[at] ^= 1;
            std::fs::write(&copy, &other).unwrap();
            assert_eq!(are_those_of(&pinned, &copy).unwrap(), same, "{at}");
        }
        let mut last = whole.clone();
        *last.last_mut().unwrap() ^= 1;
        for other in [&last[..], &whole[..whole.len() - 4096], &[&whole[..], &[0; 4096]].concat()] {
            std::fs::write(&copy, other).unwrap();
            assert!(!are_those_of(&pinned, &copy).unwrap());
        }
        assert!(are_those_of(&pinned, &folder.path().join("none")).is_err());
    }

    #[test]
    fn the_page_of_the_locks_follows_the_page_size() {
        let table = [(512, 2_097_153), (4096, 262_145), (65536, 16_385)];
        for (page_size, number) in table {
            assert_eq!(lock_page(page_size), number, "{page_size}");
        }
    }
}
