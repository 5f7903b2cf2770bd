//! Gathers what the checks judge, from whatever configuration there is: files, the database, the worker, the bucket.
//! Read-only towards all of them (F42); the one exception is the capability probe, made only when it is asked for.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::hooks::HookSettings;
use crate::config::{self, Config, ConfigError, Paths, Settings, StoreConfig};
use crate::context::Context;
use crate::database::look::look;
use crate::database::{self, DatabaseError, Facts, facts, files, install};
use crate::error::Failure;
use crate::hook::Journal;
use crate::hook::journal::LastResults;
use crate::identity::{Node, Project};
use crate::storage::keys::Keys;
use crate::storage::probe::{Capability, Verdict};
use crate::storage::records::{self, LeaseRecord, LockRecord};
use crate::storage::{Entry, Store, StoreError, StoreErrorKind};
use crate::sync::backups::{self, Listed};
use crate::sync::record::{RecordFile, SyncRecord};
use crate::sync::remote::{self, Head};
use crate::sync::state::{self, Seen, State};
use crate::worker::find::Site;
use crate::worker::{WorkerState, probe_site};

/// How long one question to the store may take, with its retries.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that was asked for.
#[derive(Debug)]
pub enum Asked<T> {
    /// It was not, and why.
    Not(&'static str),
    /// It did not come.
    Failed(Failure),
    /// It came.
    Got(T),
}

impl<T> Asked<T> {
    /// What came, when it came.
    pub fn got(&self) -> Option<&T> {
        match self {
            Self::Got(value) => Some(value),
            Self::Not(_) | Self::Failed(_) => None,
        }
    }
}

/// What doctor is asked to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// Do not ask the store.
    pub no_network: bool,
    /// Try the store's conditional writes now.
    pub probe: bool,
}

/// A local file or folder of ours that should be private.
#[derive(Debug)]
pub struct Private {
    /// Which.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Whether it belongs to the user who runs us.
    pub ours: bool,
    /// Whether it is a folder.
    pub folder: bool,
}

/// The local database.
#[derive(Debug)]
pub enum Local {
    /// CLAUDE_MEM_DB is not set.
    NotConfigured,
    /// There is none.
    Missing(PathBuf),
    /// It cannot be used.
    Broken(Failure),
    /// It passed SQLite's full check.
    Sound(Box<Sound>),
}

/// A database in order.
#[derive(Debug)]
pub struct Sound {
    /// The real file.
    pub path: PathBuf,
    /// What is in it.
    pub facts: Facts,
    /// Bytes, with the log.
    pub size: u64,
}

/// The bucket, and our project in it.
#[derive(Debug)]
pub struct Bucket {
    /// Endpoint and bucket, or the directory.
    pub name: Option<String>,
    /// A directory store has a probe verdict by construction.
    pub directory: bool,
    /// Whether it can be used at all.
    pub reach: Asked<()>,
    /// Seconds that the store's clock is ahead of ours.
    pub skew: i64,
    /// What its conditional writes are worth; `None`: nobody has found out yet.
    pub verdict: Asked<Option<Verdict>>,
    /// The lock.
    pub lock: Asked<Option<LockRecord>>,
    /// The lease.
    pub lease: Asked<Option<LeaseRecord>>,
    /// The database there.
    pub head: Asked<Option<Head>>,
    /// All objects of the project.
    pub objects: Asked<Vec<Entry>>,
    /// Canonical ids of other projects that hold a database; asked for only when ours holds none.
    pub others: Asked<Vec<String>>,
}

/// Everything that the checks judge.
pub struct Evidence {
    /// The time by the store's clock, seconds since 1970.
    pub now: i64,
    /// Settings as texts.
    pub settings: Settings,
    /// Why config.env is not part of the settings, when it is there and cannot be used.
    pub file_problem: Option<ConfigError>,
    /// What is missing or malformed.
    pub problems: Vec<ConfigError>,
    /// The whole configuration, when it is sound.
    pub config: Option<Config>,
    /// The project, when it is named.
    pub project: Option<Project>,
    /// Who we are.
    pub node: Option<Node>,
    /// Files that should be private.
    pub private: Vec<Private>,
    /// The local database.
    pub local: Local,
    /// Bytes free where the database lies.
    pub free: Option<u64>,
    /// Temporary files of dead runs.
    pub leftovers: usize,
    /// claude-mem's files on this machine; `None` where the worker's settings are malformed.
    pub site: Option<Site>,
    /// The worker.
    pub worker: WorkerState,
    /// Hooks in Claude Code's settings.
    pub hooks: HookSettings,
    /// What the hooks did last.
    pub results: LastResults,
    /// Safety backups of pulls.
    pub backups: Vec<Listed>,
    /// What was agreed on at the last sync.
    pub record: Option<SyncRecord>,
    /// The bucket.
    pub bucket: Bucket,
}

impl Evidence {
    /// Where both sides stand, as far as both are known.
    pub fn state(&self) -> Option<State> {
        let head = self.bucket.head.got()?;
        let seen = match &self.local {
            Local::Sound(sound) => Some(Seen::from(&sound.facts)),
            Local::Missing(_) => None,
            Local::Broken(_) | Local::NotConfigured => return None,
        };
        let base = self
            .record
            .as_ref()
            .and_then(|record| record.base_for(head.as_ref().map(|head| head.sha256.as_str())));
        Some(state::judge(base.as_ref(), seen.as_ref(), head.as_ref()))
    }

    /// claude-mem's version: what runs, else what is installed.
    pub fn claude_mem(&self) -> Option<String> {
        let running = self.worker.running().and_then(|worker| worker.version.clone());
        running.or_else(|| self.site.as_ref()?.installed_version())
    }
}

/// Gathers everything.
pub async fn gather(
    settings: Settings,
    file_problem: Option<ConfigError>,
    context: &Arc<Context>,
    scope: Scope,
) -> Evidence {
    let paths = Paths::new(&settings);
    let (config, problems) = configuration(&settings);
    let project = config::project(&settings).ok();
    let database = settings.get("CLAUDE_MEM_DB").map(PathBuf::from);
    let store_config = config::store(&settings).ok();
    let store = match &store_config {
        None => Asked::Not("the store is not configured"),
        Some(config) => match Store::open(config, context) {
            Ok(store) => Asked::Got(store),
            Err(error) => Asked::Failed(error.into()),
        },
    };
    let directory = matches!(store_config, Some(StoreConfig::Dir(_)));
    let bucket = ask_bucket(&store, directory, project.as_ref(), &paths, context, scope).await;
    let worker_config = config::worker(&settings);
    let site = worker_config.as_ref().ok().map(|worker| {
        let path = database
            .clone()
            .unwrap_or_else(|| paths.home.join(".claude-mem/claude-mem.db"));
        Site::new(&paths, worker, &path)
    });
    let worker = match &site {
        Some(site) => probe_site(site).await,
        None => WorkerState::Absent,
    };
    let claude_dir = worker_config.map_or_else(|_| paths.home.join(".claude"), |worker| worker.claude_dir);
    let record = match (&store, &project, &database) {
        (Asked::Got(store), Some(project), Some(database)) => files::resolve(database)
            .ok()
            .and_then(|real| RecordFile::peek(&paths.state, &store.name(), &project.cid, &real)),
        _ => None,
    };
    let folder = database
        .as_deref()
        .and_then(|path| Some(install::folder_of(&files::resolve(path).ok()?)));
    let ours = [paths.tmp(), paths.state.join("records")];
    let swept = ours
        .iter()
        .chain(folder.iter())
        .map(|folder| files::leftovers(folder));
    Evidence {
        now: context.server_now().as_second(),
        private: private_files(&settings, &paths),
        leftovers: swept.sum(),
        free: folder
            .as_deref()
            .and_then(|folder| files::free_space(folder).ok()),
        local: read_database(database).await,
        hooks: HookSettings::read(&claude_dir.join("settings.json"), &paths.home),
        results: Journal::of(&paths.home).last_results(),
        backups: backups::list(&paths.pull_backups()),
        node: config::node(&settings).ok(),
        settings,
        file_problem,
        problems,
        config,
        project,
        site,
        worker,
        record,
        bucket,
    }
}

/// The configuration when it is sound, and everything that is wrong with it when it is not.
fn configuration(settings: &Settings) -> (Option<Config>, Vec<ConfigError>) {
    let whole = match Config::new(settings) {
        Ok(config) => return (Some(config), Vec::new()),
        Err(error) => error,
    };
    let mut problems: Vec<ConfigError> = Vec::new();
    let directory = settings
        .get("MINIO_ENDPOINT")
        .is_some_and(|url| url.starts_with("file://"));
    let needed: &[&'static str] = if directory {
        &["MINIO_ENDPOINT", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB"]
    } else {
        &config::REQUIRED
    };
    problems.extend(needed.iter().filter_map(|name| settings.require(name).err()));
    let parts = [
        config::store(settings).err(),
        config::node(settings).err(),
        config::worker(settings).err(),
        Some(whole),
    ];
    for problem in parts.into_iter().flatten() {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    (None, problems)
}

fn private_files(settings: &Settings, paths: &Paths) -> Vec<Private> {
    let uid = nix::unistd::getuid().as_raw();
    let looked_at = settings.file.iter().cloned().chain([paths.state.clone()]);
    looked_at
        .filter_map(|path| {
            let meta = std::fs::metadata(&path).ok()?;
            Some(Private {
                mode: meta.mode() & 0o777,
                ours: meta.uid() == uid,
                folder: meta.is_dir(),
                path,
            })
        })
        .collect()
}

async fn read_database(path: Option<PathBuf>) -> Local {
    let Some(path) = path else {
        return Local::NotConfigured;
    };
    let real = match files::resolve(&path) {
        Ok(real) if !real.exists() => return Local::Missing(path),
        Ok(real) => real,
        Err(error) => return Local::Broken(error.into()),
    };
    let file = real.clone();
    match database::blocking(move || inspect(&file)).await {
        Ok(facts) => Local::Sound(Box::new(Sound {
            size: files::size_with_wal(&real),
            path: real,
            facts,
        })),
        Err(failure) => Local::Broken(failure),
    }
}

fn inspect(path: &Path) -> Result<Facts, DatabaseError> {
    look(path, |connection| {
        database::integrity_check(connection, path)?;
        facts::read(connection, path)
    })
}

async fn ask_bucket(
    store: &Asked<Store>,
    directory: bool,
    project: Option<&Project>,
    paths: &Paths,
    context: &Arc<Context>,
    scope: Scope,
) -> Bucket {
    let mut bucket = Bucket {
        name: store.got().map(Store::name),
        directory,
        reach: Asked::Not("the store is not configured"),
        skew: 0,
        verdict: Asked::Not("the store cannot be used"),
        lock: Asked::Not("the store cannot be used"),
        lease: Asked::Not("the store cannot be used"),
        head: Asked::Not("the store cannot be used"),
        objects: Asked::Not("the store cannot be used"),
        others: Asked::Not("not asked for"),
    };
    let store = match store {
        Asked::Got(store) => store,
        Asked::Not(_) => return bucket,
        Asked::Failed(failure) => {
            bucket.reach = Asked::Failed(repeat(failure));
            return bucket;
        }
    };
    let capability = Capability::new(store, &paths.state);
    if scope.no_network {
        const OFFLINE: &str = "--no-network";
        bucket.reach = Asked::Not(OFFLINE);
        bucket.verdict = Asked::Got(capability.remembered(store, context));
        bucket.lock = Asked::Not(OFFLINE);
        bucket.lease = Asked::Not(OFFLINE);
        bucket.head = Asked::Not(OFFLINE);
        bucket.objects = Asked::Not(OFFLINE);
        return bucket;
    }
    bucket.reach = ask(store, store.check()).await;
    bucket.skew = context.skew_seconds();
    if bucket.reach.got().is_none() {
        return bucket;
    }
    bucket.verdict = Asked::Got(capability.remembered(store, context));
    let Some(project) = project else {
        const NAMELESS: &str = "CLAUDE_PROJECT_ID is not set";
        bucket.lock = Asked::Not(NAMELESS);
        bucket.lease = Asked::Not(NAMELESS);
        bucket.head = Asked::Not(NAMELESS);
        bucket.objects = Asked::Not(NAMELESS);
        return bucket;
    };
    let keys = Keys::new(&project.cid);
    let (lock_key, lease_key, root) = (keys.lock(), keys.lease(), keys.root());
    let (lock, lease, head, objects) = tokio::join!(
        ask(store, records::read::<LockRecord>(store, &lock_key)),
        ask(store, records::read::<LeaseRecord>(store, &lease_key)),
        ask(store, remote::read(store, &keys, None)),
        ask(store, store.list(&root)),
    );
    bucket.skew = context.skew_seconds();
    bucket.lock = without_etag(lock);
    bucket.lease = without_etag(lease);
    if let Asked::Got(None) = head {
        bucket.others = match ask(store, store.list("projects/")).await {
            Asked::Got(entries) => Asked::Got(databases(&entries)),
            Asked::Failed(failure) => Asked::Failed(failure),
            Asked::Not(why) => Asked::Not(why),
        };
    }
    bucket.head = head;
    bucket.objects = objects;
    if scope.probe {
        let probed = ask(store, capability.probe_now(store, &keys, context)).await;
        bucket.verdict = match probed {
            Asked::Got(verdict) => Asked::Got(Some(verdict)),
            Asked::Failed(failure) => Asked::Failed(failure),
            Asked::Not(why) => Asked::Not(why),
        };
    }
    bucket
}

/// The canonical ids of the projects that hold a database.
fn databases(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| {
            let rest = entry.key.strip_prefix("projects/")?;
            rest.strip_suffix("/sqlite/claude-mem.db").map(str::to_owned)
        })
        .collect()
}

fn without_etag<T, E>(asked: Asked<Option<(T, E)>>) -> Asked<Option<T>> {
    match asked {
        Asked::Got(found) => Asked::Got(found.map(|(record, _)| record)),
        Asked::Failed(failure) => Asked::Failed(failure),
        Asked::Not(why) => Asked::Not(why),
    }
}

/// One question to the store, with an end.
async fn ask<T, E: Into<Failure>>(store: &Store, question: impl Future<Output = Result<T, E>>) -> Asked<T> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Asked::Got(answer),
        Ok(Err(error)) => Asked::Failed(error.into()),
        Err(_) => {
            let detail = format!("no answer within {} s", PATIENCE.as_secs());
            Asked::Failed(StoreError::new(StoreErrorKind::Interrupted, store.name(), "ask", detail).into())
        }
    }
}

fn repeat(failure: &Failure) -> Failure {
    Failure {
        exit: failure.exit,
        message: failure.message.clone(),
        hints: failure.hints.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::databases;
    use crate::storage::Entry;

    #[test]
    fn other_projects_are_known_by_their_database() {
        let entries: Vec<_> = [
            "projects/aa/sqlite/claude-mem.db",
            "projects/aa/sqlite/claude-mem.db.sha256",
            "projects/bb/locks/active.lock",
            "projects/cc/sqlite/claude-mem.db",
            "elsewhere/dd/sqlite/claude-mem.db",
        ]
        .into_iter()
        .map(|key| Entry {
            key: key.to_owned(),
            size: 1,
            modified: 0,
        })
        .collect();
        assert_eq!(databases(&entries), ["aa", "cc"]);
    }
}
