//! What push and pull share: the database of this machine under the local file lock, the last-sync record, the
//! project's place in the bucket. Opens things; decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::record::{self, RecordFile, SyncRecord};
use crate::config::Config;
use crate::context::hex;
use crate::database::code::Admits;
use crate::database::files;
use crate::database::look::look;
use crate::database::tables::tables;
use crate::database::{Counts, Facts, facts, install, snapshot};
use crate::error::{Code, CommandResult, Failure};
use crate::install::backups;
use crate::install::image::Landing;
use crate::install::{Door, Steps};
use crate::leadership::Leadership;
use crate::lock::Lock;
use crate::lock::local::{self, LocalLock};
use crate::python::Head;
use crate::python::Mirror;
use crate::storage::Bucket;
use crate::ui::Ui;
use crate::visible::shell_path;
use crate::worker;

/// How long one process of this machine waits for another.
const LOCAL_WAIT: Duration = Duration::from_mins(1);

/// One run's hold on the local side.
pub struct Session {
    /// The configuration.
    pub config: Config,
    /// The project's place in the store.
    pub bucket: Bucket,
    /// The person.
    pub ui: Ui,
    /// The real file of the database, links followed.
    pub database: PathBuf,
    /// See [`local::machine_token`].
    pub machine: String,
    /// Take the archive's lock from whoever holds it.
    pub take_lock: bool,
    /// The store was emptied or replaced on purpose.
    pub new_store: bool,
    /// What vanished in mass was deleted on purpose.
    pub accept_deletions: bool,
    /// What vanished in mass is to come back.
    pub put_back: bool,
    /// A restore brings rows back and removes none.
    pub add_only: bool,
    /// What a restore removes is agreed to.
    pub yes: bool,
    /// Move the vector index away when the database is replaced (F17).
    pub reset_vectors: bool,
    /// A person takes whatever code an image brings along (F60).
    pub accept_schema: bool,
    /// Where the page map of the last synced image is kept.
    pub page_map: PathBuf,
    /// Where what is fetched comes down: beside the database that it may replace, or away from it for a mere look.
    pub landing: PathBuf,
    /// The copies of a rehearsal, gone with the session; `None`: this is no rehearsal.
    pub rehearsal: Option<tempfile::TempDir>,
    /// Held while anything may be changed, given back on drop.
    local: Option<LocalLock>,
}

/// The local database at one moment.
#[derive(Debug)]
pub struct LocalState {
    /// The moment, held.
    pub pinned: snapshot::Pinned,
    /// What was in it.
    pub facts: Facts,
}

/// See [`Session::facts_for_people`].
#[derive(Debug)]
pub struct ForPeople {
    /// claude-mem's version, where known.
    pub claude_mem: Option<String>,
    /// The highest schema version of the database.
    pub schema: Option<i64>,
    /// Rows by table.
    pub counts: BTreeMap<String, u64>,
}

/// What a person means by putting an earlier state in place.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// See [`Session::add_only`].
    pub add_only: bool,
    /// See [`Session::yes`].
    pub yes: bool,
    /// See [`Session::reset_vectors`].
    pub reset_vectors: bool,
    /// See [`Session::accept_schema`].
    pub accept_schema: bool,
}

impl Session {
    /// For a restore.
    pub fn means(&mut self, means: Means) {
        (self.add_only, self.yes) = (means.add_only, means.yes);
        (self.reset_vectors, self.accept_schema) = (means.reset_vectors, means.accept_schema);
    }

    /// Takes the local file lock, sweeps up after killed runs, loads the record.
    ///
    /// # Errors
    /// The state directory cannot be used, or another process of this machine stays at work.
    pub async fn open(config: Config, bucket: Bucket, ui: Ui) -> CommandResult<(Self, RecordFile)> {
        let state = config.paths.state.clone();
        let state_error = |error: std::io::Error| {
            if crate::private_files::lacks_locks(&error) {
                return Failure::of(
                    Code::NoLocks,
                    format!("{}: this file system has no locks between processes", state.display()),
                )
                .hint("keep our state on a disk of this machine: MEMBRIDGE_STATE_DIR=/path/to/a/folder");
            }
            Failure::of(
                Code::LocalFile,
                format!("cannot use the state directory {}: {error}", state.display()),
            )
            .hint(format!("it must be a folder of yours: ls -ld {}", shell_path(&state)))
            .hint("or keep our state elsewhere: MEMBRIDGE_STATE_DIR=/path/to/a/folder")
        };
        crate::private_files::make_private_folder(&state).map_err(state_error)?;
        let database = files::resolve(&config.database)?;
        let id = Sha256::digest(database.as_os_str().as_encoded_bytes());
        let path = state.join("locks").join(format!("{}.lock", hex(id.get(..8).unwrap_or_default())));
        let local = LocalLock::acquire(&path, LOCAL_WAIT).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => Failure::of(
                Code::LocalBusy,
                format!(
                    "another membridge process of this machine has been working on {} for more than {} s",
                    database.display(),
                    LOCAL_WAIT.as_secs()
                ),
            )
            .hint(format!("wait for it, or see which: fuser -v {}", shell_path(&path))),
            _ => state_error(error),
        })?;
        crate::database::mend(&database);
        files::sweep(&config.paths.tmp());
        files::sweep(&state.join("records"));
        files::sweep(&state.join("rows"));
        files::sweep(&install::folder_of(&database));
        backups::sweep(&config.paths.pull_backups());
        let machine = local::machine_token(&state, &bucket.context).map_err(state_error)?;
        let record = RecordFile::load(
            &state,
            &bucket.store.name(),
            &config.project.name,
            &config.project.cid,
            &database,
        )?;
        if let Some(damaged) = &record.damaged {
            ui.warn(damaged);
        }
        let landing = install::folder_of(&database);
        let mut session = Self::assemble(config, bucket, ui, database, machine, landing);
        session.local = Some(local);
        Ok((session, record))
    }

    fn assemble(
        config: Config,
        bucket: Bucket,
        ui: Ui,
        database: PathBuf,
        machine: String,
        landing: PathBuf,
    ) -> Self {
        let page_map =
            config.paths.page_map(&record::id(&bucket.store.name(), &config.project.cid, &database));
        Self {
            config,
            bucket,
            ui,
            database,
            machine,
            page_map,
            landing,
            take_lock: false,
            new_store: false,
            accept_deletions: false,
            put_back: false,
            add_only: false,
            yes: false,
            reset_vectors: false,
            accept_schema: false,
            rehearsal: None,
            local: None,
        }
    }

    /// The door into the live database; `steps` for the report.
    pub fn door(&self, steps: Steps) -> Door<'_> {
        Door {
            config: &self.config,
            bucket: &self.bucket,
            ui: &self.ui,
            database: &self.database,
            reset_vectors: self.reset_vectors,
            steps,
        }
    }

    /// Which code an image may bring along that comes to live here.
    ///
    /// # Errors
    /// The local database cannot be read.
    pub async fn admits(&self) -> CommandResult<Admits> {
        if self.accept_schema {
            return Ok(Admits::Any);
        }
        let path = self.database.clone();
        crate::database::blocking(move || Admits::of(&path)).await
    }

    /// Where an image of the bucket comes down.
    pub fn landing(&self, admits: Admits) -> Landing<'_> {
        Landing {
            bucket: &self.bucket,
            ui: &self.ui,
            folder: &self.landing,
            scratch: self.config.paths.tmp(),
            database: &self.database,
            admits,
        }
    }

    /// The copy for Python nodes, and what `record` remembers of it.
    pub fn mirror<'a>(&'a self, record: Option<&'a SyncRecord>) -> Mirror<'a> {
        let note = record.and_then(|record| record.mirror.as_ref());
        Mirror { config: &self.config, bucket: &self.bucket, ui: &self.ui, note }
    }

    /// Whether there is a database here.
    pub fn has_database(&self) -> bool {
        files::has_content(&self.database)
    }

    /// Leadership of this project, as this node sees it.
    pub fn leadership(&self) -> Leadership<'_> {
        Leadership::of(&self.config, &self.bucket)
    }

    /// A request for the project's lock.
    pub fn lock(&self) -> Lock<'_> {
        let lock = Lock::of(&self.config, &self.bucket, &self.machine);
        Lock { force: lock.force || self.take_lock, ..lock }
    }

    /// Whether `at` (seconds since 1970) is more than `limit` seconds ago, or in the future of a clock that was set back.
    pub fn is_older(&self, at: i64, limit: i64) -> bool {
        let age = self.bucket.context.now().as_second().saturating_sub(at);
        !(0..limit).contains(&age)
    }

    /// Rows of the local database.
    ///
    /// # Errors
    /// See [`crate::database::DatabaseError`].
    pub async fn counts(&self) -> CommandResult<Counts> {
        let path = self.database.clone();
        crate::database::blocking(move || look(&path, |connection| facts::counts(connection, &path))).await
    }

    /// What this machine's record says of the database and its worker.
    ///
    /// # Errors
    /// See [`crate::database::DatabaseError`].
    pub async fn facts_for_people(&self) -> CommandResult<ForPeople> {
        let claude_mem = worker::local_version(&self.config, &worker::probe(&self.config).await);
        let path = self.database.clone();
        let read = crate::database::blocking(move || {
            look(&path, |connection| {
                let tables = tables(connection, &path)?;
                Ok((facts::counts(connection, &path)?, facts::schema_version(connection, &tables, &path)?))
            })
        });
        let (counts, schema) = read.await?;
        Ok(ForPeople { claude_mem, schema, counts: counts.by_table() })
    }

    /// Whether there is a database with anything in it.
    ///
    /// # Errors
    /// See [`crate::database::DatabaseError`].
    pub async fn has_memory(&self) -> CommandResult<bool> {
        Ok(self.has_database() && self.counts().await?.any())
    }

    /// Whether the local database has just the content of the bucket's image.
    ///
    /// # Errors
    /// See [`crate::database::DatabaseError`].
    pub async fn holds_just(&self, head: &Head) -> CommandResult<bool> {
        let Some(theirs) = head.digest() else {
            return Ok(false);
        };
        Ok(self.read_local().await?.facts.digest == theirs)
    }

    /// The local database pinned, and what is in it.
    ///
    /// # Errors
    /// See [`crate::database::DatabaseError`].
    pub async fn read_local(&self) -> CommandResult<LocalState> {
        let (path, folder) = (self.database.clone(), self.config.paths.tmp());
        let bars = self.ui.bars();
        let (pinned, facts) = crate::database::blocking(move || {
            let pinned = snapshot::Pinned::beside_writers(&path, &folder)?;
            let facts = pinned.facts_shown(&bars)?;
            Ok((pinned, facts))
        })
        .await?;
        Ok(LocalState { pinned, facts })
    }
}
