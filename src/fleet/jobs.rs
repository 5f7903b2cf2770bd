//! The jobs of this server, in the jobs.db that the Python server made: same file, same table, so that either can go on
//! with the other's. Knows no HTTP and starts nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::database;
use crate::private_files::make_private_folder;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY,
        action TEXT NOT NULL,
        project TEXT NOT NULL,
        agent TEXT NOT NULL,
        canonical_id TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        detail TEXT,
        stdout TEXT,
        stderr TEXT,
        returncode INTEGER,
        dryrun INTEGER DEFAULT 0,
        created_at REAL NOT NULL,
        finished_at REAL,
        request_id TEXT
    );
    CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (created_at);
";

const COLUMNS: &str = "id, action, project, agent, canonical_id, status, detail, stdout, stderr, returncode, dryrun, \
     created_at, finished_at, request_id";

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// 16 hex digits.
    pub id: String,
    /// `pull` or `push`.
    pub action: String,
    /// The project's name.
    pub project: String,
    /// The agent's name.
    pub agent: String,
    /// The project's canonical id.
    pub canonical_id: String,
    /// `pending`, `completed`, `failed` or `error`.
    pub status: String,
    /// One line for people.
    pub detail: Option<String>,
    /// What the command printed.
    pub stdout: Option<String>,
    /// The same of stderr.
    pub stderr: Option<String>,
    /// Its exit code.
    pub returncode: Option<i64>,
    /// Nothing was done.
    pub dryrun: bool,
    /// Seconds since 1970.
    pub created_at: f64,
    /// Seconds since 1970.
    pub finished_at: Option<f64>,
    /// The request that asked for it.
    pub request_id: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ending {
    /// `completed`, `failed` or `error`.
    pub status: &'static str,
    /// One line for people.
    pub detail: String,
    /// What the command printed.
    pub stdout: Option<String>,
    /// The same of stderr.
    pub stderr: Option<String>,
    /// Its exit code.
    pub returncode: Option<i64>,
    /// Nothing was done.
    pub dryrun: bool,
}

/// What is wrong with jobs.db.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// Its folder cannot be made.
    #[error("cannot make the folder of {}: {error}", path.display())]
    Folder {
        /// The database.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// SQLite's own.
    #[error("cannot use {}: {error}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// The thread that asked it is gone.
    #[error("interrupted")]
    Interrupted,
}

/// The database; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Jobs {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Jobs {
    /// Opens or makes it.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub fn open(path: &Path) -> Result<Self, JobsError> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_private_folder(folder).map_err(|error| JobsError::Folder { path: path.to_owned(), error })?;
        let fail = |error| JobsError::Sqlite { path: path.to_owned(), error };
        let connection = database::open_own(path).map_err(fail)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        // A board's card: a job whose last write was lost by a power cut is asked about again.
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(fail)?;
        connection.pragma_update(None, "cache_size", -512).map_err(fail)?;
        connection.execute_batch(SCHEMA).map_err(fail)?;
        Ok(Self { path: path.to_owned(), connection: Arc::new(Mutex::new(connection)) })
    }

    /// Enters a new one.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub async fn add(&self, job: Job) -> Result<(), JobsError> {
        self.with(move |connection| {
            connection
                .execute(
                    "INSERT INTO jobs (id, action, project, agent, canonical_id, status, dryrun, created_at, request_id) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    params![
                        job.id,
                        job.action,
                        job.project,
                        job.agent,
                        job.canonical_id,
                        job.status,
                        job.dryrun,
                        job.created_at,
                        job.request_id
                    ],
                )
                .map(drop)
        })
        .await
    }

    /// Writes down how one ended. One that has ended already stays as it is.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub async fn end(&self, id: &str, ending: Ending, now: f64) -> Result<(), JobsError> {
        let id = id.to_owned();
        self.with(move |connection| {
            connection
                .execute(
                    "UPDATE jobs SET status = ?2, detail = ?3, stdout = ?4, stderr = ?5, returncode = ?6, dryrun = ?7, \
                     finished_at = ?8 WHERE id = ?1 AND status = 'pending'",
                    params![
                        id,
                        ending.status,
                        ending.detail,
                        ending.stdout,
                        ending.stderr,
                        ending.returncode,
                        ending.dryrun,
                        now
                    ],
                )
                .map(drop)
        })
        .await
    }

    /// The newest, of one project where it is named.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub async fn newest(&self, limit: i64, project: Option<String>) -> Result<Vec<Job>, JobsError> {
        self.with(move |connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE ?2 IS NULL OR project = ?2 ORDER BY created_at DESC, rowid DESC LIMIT ?1"
            ))?;
            query.query_map(params![limit, project], read)?.collect()
        })
        .await
    }

    /// One.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub async fn get(&self, id: &str) -> Result<Option<Job>, JobsError> {
        let id = id.to_owned();
        self.with(move |connection| {
            let mut query =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
            query.query_map(params![id], read)?.next().transpose()
        })
        .await
    }

    /// Those that have not ended as far as this database knows.
    ///
    /// # Errors
    /// See [`JobsError`].
    pub async fn pending(&self) -> Result<Vec<Job>, JobsError> {
        self.with(|connection| {
            let mut query = connection.prepare(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE status = 'pending' ORDER BY created_at"
            ))?;
            query.query_map([], read)?.collect()
        })
        .await
    }

    /// SQLite waits for disks: not on the thread that answers.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JobsError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            work(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let done = done.await.map_err(|_| JobsError::Interrupted)?;
        done.map_err(|error| JobsError::Sqlite { path: self.path.clone(), error })
    }
}

/// A row, whatever another program left in it.
fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let optional = |at: usize| -> rusqlite::Result<Option<String>> {
        Ok(match row.get_ref(at)? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        })
    };
    let text = |at| optional(at).map(Option::unwrap_or_default);
    Ok(Job {
        id: text(0)?,
        action: text(1)?,
        project: text(2)?,
        agent: text(3)?,
        canonical_id: text(4)?,
        status: text(5)?,
        detail: optional(6)?,
        stdout: optional(7)?,
        stderr: optional(8)?,
        returncode: row.get(9).unwrap_or_default(),
        dryrun: row.get::<_, Option<i64>>(10).unwrap_or_default().is_some_and(|dry| dry != 0),
        created_at: row.get(11).unwrap_or_default(),
        finished_at: row.get(12).unwrap_or_default(),
        request_id: optional(13)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Ending, Job, Jobs};

    fn job(id: &str, project: &str, at: f64) -> Job {
        Job {
            id: id.to_owned(),
            action: "push".to_owned(),
            project: project.to_owned(),
            agent: "a1".to_owned(),
            canonical_id: "6fe2e0f6071ac2bb".to_owned(),
            status: "pending".to_owned(),
            detail: None,
            stdout: None,
            stderr: None,
            returncode: None,
            dryrun: false,
            created_at: at,
            finished_at: None,
            request_id: Some("r".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_job_ends_once_and_the_newest_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/jobs.db");
        let jobs = Jobs::open(&path).unwrap();
        for (id, project, at) in [("a", "mem", 1.0), ("b", "garden", 2.0), ("c", "mem", 2.0)] {
            jobs.add(job(id, project, at)).await.unwrap();
        }
        let done = Ending { status: "completed", detail: "push completed".into(), ..Ending::default() };
        jobs.end("a", done, 3.0).await.unwrap();
        jobs.end("a", Ending { status: "error", ..Ending::default() }, 4.0).await.unwrap();
        let a = Jobs::open(&path).unwrap().get("a").await.unwrap().unwrap();
        assert_eq!((a.status.as_str(), a.finished_at), ("completed", Some(3.0)));
        let ids = async |limit, project: Option<&str>| -> Vec<String> {
            let found = jobs.newest(limit, project.map(str::to_owned)).await.unwrap();
            found.into_iter().map(|job| job.id).collect()
        };
        assert_eq!(ids(50, None).await, ["c", "b", "a"]);
        assert_eq!(ids(1, Some("mem")).await, ["c"]);
        assert_eq!(ids(50, Some("nothing")).await, [""; 0]);
        assert_eq!(jobs.pending().await.unwrap().len(), 2);
        assert_eq!(jobs.get("nothing").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_database_of_the_python_server_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let python = rusqlite::Connection::open(&path).unwrap();
        python
            .execute_batch(
                "CREATE TABLE jobs (id TEXT PRIMARY KEY, action TEXT, project TEXT, agent TEXT, canonical_id TEXT, \
                 status TEXT DEFAULT 'pending', detail TEXT, stdout TEXT, stderr TEXT, returncode INTEGER, \
                 dryrun INTEGER, created_at REAL, finished_at REAL, request_id TEXT); \
                 INSERT INTO jobs (id, action, project, agent, canonical_id, status, stdout, dryrun, created_at) \
                 VALUES ('old', 'pull', 'mem', 'a1', 'x', 'completed', x'ff41', 1, 5.5);",
            )
            .unwrap();
        drop(python);
        let jobs = Jobs::open(&path).unwrap();
        let old = jobs.get("old").await.unwrap().unwrap();
        assert_eq!((old.dryrun, old.created_at, old.stdout.as_deref()), (true, 5.5, Some("\u{fffd}A")));
        jobs.add(job("new", "mem", 6.0)).await.unwrap();
        assert_eq!(jobs.newest(1, None).await.unwrap()[0].id, "new");
    }
}
