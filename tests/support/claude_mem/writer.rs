//! Programs that hold a claude-mem database while membridge works on it: one that writes
//! without pause, and one that only keeps its WAL connection open.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::table::Tables;

struct Shared {
    stop: AtomicBool,
    /// Rows that it may have written by now.
    allowed: AtomicUsize,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    acknowledged: Vec<String>,
    errors: Vec<String>,
}

/// Inserts one observation per transaction from a thread of its own.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Writes as fast as SQLite lets it; the database grows by several MB a second.
    pub fn start(path: impl AsRef<Path>, label: &str) -> Writer {
        Writer::with(path, label, Duration::ZERO, usize::MAX)
    }

    /// Writes one row, waits, and so on, up to as many as [`Writer::allow`] says: on a slow machine a test that runs longer
    /// has no more rows for it.
    pub fn paced(path: impl AsRef<Path>, label: &str, pause: Duration) -> Writer {
        Writer::with(path, label, pause, 1)
    }

    fn with(path: impl AsRef<Path>, label: &str, pause: Duration, allowed: usize) -> Writer {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            allowed: AtomicUsize::new(allowed),
            progress: Mutex::default(),
            changed: Condvar::new(),
        });
        let (for_thread, path, label) = (Arc::clone(&shared), path.as_ref().to_owned(), label.to_owned());
        let thread = std::thread::spawn(move || run(&for_thread, &path, &label, pause));
        let writer = Writer { shared, thread: Some(thread) };
        writer.wait_for(1);
        writer
    }

    /// Lets a paced writer write so many rows more.
    pub fn allow(&self, rows: usize) {
        self.shared.allowed.fetch_add(rows, Ordering::SeqCst);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Titles whose transaction has committed so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.shared.progress.lock().expect("the writer's progress").acknowledged.clone()
    }

    /// Waits until this many rows are committed.
    pub fn wait_for(&self, rows: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut progress = self.shared.progress.lock().expect("the writer's progress");
        while progress.acknowledged.len() < rows {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the writer got no {rows} rows in: {:?}", progress.errors);
            progress = self.shared.changed.wait_timeout(progress, left).expect("the writer's progress").0;
        }
    }

    /// Stops, and returns the committed titles. Panics when the writer met an error other
    /// than a busy database.
    pub fn stop(self) -> Vec<String> {
        let (acknowledged, errors) = self.stop_with_errors();
        assert!(errors.is_empty(), "the writer met errors: {errors:?}");
        acknowledged
    }

    /// Stops, and returns the committed titles and the errors.
    pub fn stop_with_errors(mut self) -> (Vec<String>, Vec<String>) {
        self.end();
        let mut progress = self.shared.progress.lock().expect("the writer's progress");
        (std::mem::take(&mut progress.acknowledged), std::mem::take(&mut progress.errors))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the writer's thread");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Shared, path: &Path, label: &str, pause: Duration) {
    let mut tables = Tables::open(path).expect("the writer opens the database");
    let mut rows = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if rows >= shared.allowed.load(Ordering::SeqCst) {
            std::thread::park();
            continue;
        }
        let written = write_one(&mut tables, label);
        rows += usize::from(written.is_ok());
        {
            let mut progress = shared.progress.lock().expect("the writer's progress");
            match written {
                Ok(title) => progress.acknowledged.push(title),
                Err(error) if busy(&error) => {}
                Err(error) if progress.errors.len() < 20 => progress.errors.push(error.to_string()),
                Err(_) => {}
            }
        }
        shared.changed.notify_all();
        if !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
    }
}

fn write_one(tables: &mut Tables, label: &str) -> rusqlite::Result<String> {
    tables.db.execute_batch("BEGIN IMMEDIATE")?;
    let added = tables.add_observation(label);
    let ended = match &added {
        Ok(_) => tables.db.execute_batch("COMMIT"),
        Err(_) => Ok(()),
    };
    if !tables.db.is_autocommit() {
        tables.db.execute_batch("ROLLBACK")?;
    }
    ended.and(added)
}

fn busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Keeps a WAL connection open, with rows that are in the `-wal` file only.
pub struct IdleHolder {
    _db: Connection,
}

impl IdleHolder {
    /// Adds `rows` observations that are not checkpointed, then holds the connection.
    pub fn with_rows(path: impl AsRef<Path>, label: &str, rows: usize) -> IdleHolder {
        let mut tables = Tables::open(path.as_ref()).expect("open the database");
        tables
            .db
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;")
            .expect("switch automatic checkpoints off");
        for _ in 0..rows {
            tables.add_observation(label).expect("add an observation");
        }
        IdleHolder { _db: tables.db }
    }
}
