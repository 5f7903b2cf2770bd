//! Gathers what the checks judge, from whatever configuration there is: files, the database, the worker, and, through
//! questions.rs, the bucket. Read-only towards all of them (F42).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::questions::{Answers, Asked, Scope, ask_bucket};
use crate::amount::Clock;
use crate::config::{self, Config, ConfigError, Paths, Settings, StoreConfig};
use crate::context::Context;
use crate::database::look::look;
use crate::database::{self, DatabaseError, Facts, facts, files, install};
use crate::error::Failure;
use crate::hook::settings::{self as hook_settings, HookSettings};
use crate::identity::{Node, Project};
use crate::install::backups::{self, Listed};
use crate::jobs::Journal;
use crate::jobs::journal::LastResults;
use crate::lock::local::known_machine_token;
use crate::rows::glance::glance;
use crate::rows::{self, Tally};
use crate::storage::Store;
use crate::sync::outlook::Outlook;
use crate::sync::record::{RecordFile, SyncRecord};
use crate::sync::renamed::{self, Renamed};
use crate::visible::shell_path;
use crate::worker::find::Site;
use crate::worker::{WorkerState, probe_site};

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

/// Why others can read, or write, what is in the store.
#[derive(Debug)]
pub struct Exposed {
    /// In words.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Exposed {
    fn of(store: &StoreConfig) -> Option<Self> {
        match store {
            StoreConfig::S3(_) if store.is_private() => None,
            StoreConfig::S3(_) => Some(Self {
                why: config::PLAIN_HTTP.to_owned(),
                remedy: "use https://, or a tunnel to the store: ssh -L, WireGuard".to_owned(),
            }),
            StoreConfig::Dir(root) => {
                let mode = std::fs::metadata(root).ok()?.mode();
                (mode & 0o002 != 0).then(|| Self {
                    why: "every user of this machine may write into it: remove memory, and make it up"
                        .to_owned(),
                    remedy: format!("chmod o-w {}", shell_path(root)),
                })
            }
        }
    }
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
    /// Search indexes that are damaged over whole rows.
    pub damaged: Vec<String>,
}

/// Everything that the checks judge.
pub struct Evidence {
    /// The time by the store's clock, seconds since 1970.
    pub now: i64,
    /// The same, for people.
    pub clock: Clock,
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
    /// Tells locks of this machine, empty where it has none: see [`crate::lock::local::machine_token`].
    pub machine: String,
    /// What was agreed on at the last sync.
    pub record: Option<SyncRecord>,
    /// The project has another name than it had.
    pub renamed: Option<Renamed>,
    /// How this machine stands in the row log; `None`: it has never synced.
    pub standing: Option<rows::Standing>,
    /// Rows that have not been published.
    pub unsent: Tally,
    /// The bucket.
    pub bucket: Answers,
    /// Who else can read or write what is in the store, and what to do about it.
    pub exposed: Option<Exposed>,
}

impl Evidence {
    /// Whether the memory is safe and everywhere, as far as both sides are known.
    pub fn outlook(&self) -> Option<Outlook> {
        let nodes = self.bucket.nodes.got()?;
        let observations = match &self.local {
            Local::Sound(sound) => Some(sound.facts.counts.observations),
            Local::Missing(_) => None,
            Local::Broken(_) | Local::NotConfigured => return None,
        };
        Some(Outlook {
            observations,
            unsent: self.unsent.clone(),
            standing: self.standing.clone(),
            nodes: Some(nodes.clone()),
            archived: self.bucket.head.got().is_some_and(Option::is_some),
            excludes: self.config.as_ref().is_some_and(|config| !config.rows.excluded.is_empty()),
        })
    }

    /// Whether there is a database here that rows can come into.
    pub fn has_database(&self) -> bool {
        matches!(self.local, Local::Sound(_))
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
    let record = match (&store, &project, &database) {
        (Asked::Got(store), Some(project), Some(database)) => files::resolve(database)
            .ok()
            .and_then(|real| RecordFile::peek(&paths.state, &store.name(), &project.cid, &real)),
        _ => None,
    };
    let renamed = match (&store, &project, &database) {
        (Asked::Got(store), Some(project), Some(database)) => {
            files::resolve(database).ok().and_then(|real| {
                let records = RecordFile::all(&paths.state, &store.name(), &real);
                renamed::judge(&records, &project.name, context.now().as_second())
            })
        }
        _ => None,
    };
    let (standing, unsent) = match (&store, &project, &database) {
        (Asked::Got(store), Some(project), Some(database)) => files::resolve(database)
            .ok()
            .and_then(|real| glance(&paths.state, &store.name(), &project.cid, &real).ok())
            .unwrap_or_default(),
        _ => (None, Tally::default()),
    };
    let directory = matches!(store_config, Some(StoreConfig::Dir(_)));
    let bucket =
        ask_bucket(store, directory, project.as_ref(), record.as_ref(), &paths, context, scope).await;
    let worker_config = config::worker(&settings);
    let site = worker_config.as_ref().ok().map(|worker| {
        let path = database.clone().unwrap_or_else(|| paths.home.join(".claude-mem/claude-mem.db"));
        Site::new(&paths, worker, &path)
    });
    let worker = match &site {
        Some(site) => probe_site(site).await,
        None => WorkerState::Absent,
    };
    let claude_dir = worker_config.map_or_else(|_| paths.home.join(".claude"), |worker| worker.claude_dir);
    let folder = database.as_deref().and_then(|path| Some(install::folder_of(&files::resolve(path).ok()?)));
    let ours = [paths.tmp(), paths.state.join("records")];
    let swept = ours.iter().chain(folder.iter()).map(|folder| files::leftovers(folder));
    Evidence {
        standing,
        unsent,
        now: context.server_now().as_second(),
        clock: context.clock(),
        private: private_files(&settings, &paths),
        leftovers: swept.sum(),
        free: folder.as_deref().and_then(|folder| files::free_space(folder).ok()),
        local: read_database(database.clone()).await,
        hooks: HookSettings::read(
            &claude_dir.join("settings.json"),
            &paths.home,
            Path::new(hook_settings::MANAGED),
        ),
        machine: known_machine_token(&paths.state, context).unwrap_or_default(),
        results: Journal::of(&paths).last_results(),
        backups: match &database {
            Some(database) => backups::list_of(&paths.pull_backups(), database),
            None => backups::list(&paths.pull_backups()),
        },
        node: config::node(&settings).ok(),
        settings,
        file_problem,
        problems,
        config,
        project,
        site,
        worker,
        record,
        renamed,
        bucket,
        exposed: store_config.as_ref().and_then(Exposed::of),
    }
}

/// The configuration when it is sound, and everything that is wrong with it when it is not.
fn configuration(settings: &Settings) -> (Option<Config>, Vec<ConfigError>) {
    let whole = match Config::new(settings) {
        Ok(config) => return (Some(config), Vec::new()),
        Err(error) => error,
    };
    let mut problems: Vec<ConfigError> = Vec::new();
    let directory = settings.get("MINIO_ENDPOINT").is_some_and(|url| url.starts_with("file://"));
    let needed: &[&'static str] =
        if directory { &["MINIO_ENDPOINT", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB"] } else { &config::REQUIRED };
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
            Some(Private { mode: meta.mode() & 0o777, ours: meta.uid() == uid, folder: meta.is_dir(), path })
        })
        .collect()
}

async fn read_database(path: Option<PathBuf>) -> Local {
    let Some(path) = path else {
        return Local::NotConfigured;
    };
    let real = match files::resolve(&path) {
        Ok(real) if !files::has_content(&real) => return Local::Missing(path),
        Ok(real) => real,
        Err(error) => return Local::Broken(error.into()),
    };
    let file = real.clone();
    match database::blocking(move || inspect(&file)).await {
        Ok((facts, damaged)) => {
            Local::Sound(Box::new(Sound { size: files::size_with_wal(&real), path: real, facts, damaged }))
        }
        Err(failure) => Local::Broken(failure),
    }
}

fn inspect(path: &Path) -> Result<(Facts, Vec<String>), DatabaseError> {
    look(path, |connection| {
        let damaged = database::integrity_check(connection, path)?;
        Ok((facts::read(connection, path)?, damaged))
    })
}
