//! The story of a replacement: keep claude-mem from starting its worker, let the queue drain, stop the worker, prove
//! that it is gone — and afterwards start it as it was and wait until it is ready. Only a worker of our own database
//! is touched; one that answers on the same port for another database is left alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::WorkerError;
use super::find::{PidFile, Site};
use super::http::Endpoint;
use super::process::Process;
use super::spawn_lock::SpawnLock;
use super::start::Launch;
use crate::config::Config;
use crate::context::Context;

/// The worker says nothing by itself; it is asked again after this long.
const POLL: Duration = Duration::from_millis(200);

/// How often a worker that came back is stopped before we give up.
const ROUNDS: usize = 3;

/// Row counts as `/api/stats` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Observations.
    pub observations: Option<i64>,
    /// Sessions.
    pub sessions: Option<i64>,
    /// Session summaries.
    pub summaries: Option<i64>,
}

/// A worker of our database.
#[derive(Debug)]
pub struct RunningWorker {
    /// Its pid.
    pub pid: i32,
    /// Where it answers; `None` when it does not.
    pub endpoint: Option<Endpoint>,
    /// claude-mem's version, as it says.
    pub version: Option<String>,
    /// Whether `/api/readiness` says so: the only honest signal.
    pub ready: bool,
    /// Events it has not written yet.
    pub queue_depth: Option<u64>,
    /// Rows that it sees.
    pub counts: Option<Counts>,
    /// Its script, as it says.
    pub script: Option<PathBuf>,
    /// The program that runs it.
    pub program: Option<PathBuf>,
    pub(super) environment: Vec<(OsString, OsString)>,
    process: Process,
}

/// What there is of a worker.
#[derive(Debug)]
pub enum WorkerState {
    /// None runs for our database.
    Absent,
    /// One runs, and answers or not (see `endpoint`).
    Running(Box<RunningWorker>),
    /// The port is taken by the worker of another database.
    Foreign {
        /// The port.
        port: u16,
        /// The database, as it says.
        database: PathBuf,
    },
}

impl WorkerState {
    /// The worker, when one runs.
    pub fn running(&self) -> Option<&RunningWorker> {
        match self {
            Self::Running(worker) => Some(worker),
            Self::Absent | Self::Foreign { .. } => None,
        }
    }
}

/// Looks for the worker and changes nothing.
pub async fn probe(config: &Config) -> WorkerState {
    probe_site(&Site::of(config)).await
}

/// The version of claude-mem on this machine: what runs, else what is installed.
pub fn local_version(config: &Config, state: &WorkerState) -> Option<String> {
    let running = state.running().and_then(|worker| worker.version.clone());
    running.or_else(|| Site::of(config).installed_version())
}

/// [`probe`] for half a configuration.
pub async fn probe_site(site: &Site) -> WorkerState {
    let mut foreign = None;
    for endpoint in site.endpoints() {
        let Some(health) = ask(&endpoint, "/api/health").await else {
            continue;
        };
        let stats = ask(&endpoint, "/api/stats").await.unwrap_or_default();
        let database = stats
            .pointer("/database/path")
            .and_then(Value::as_str)
            .map(PathBuf::from);
        if let Some(database) = database.filter(|path| !same_file(path, &site.database)) {
            foreign.get_or_insert(WorkerState::Foreign {
                port: endpoint.port,
                database,
            });
            continue;
        }
        let told = health.get("pid").and_then(Value::as_i64);
        let told = told
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Process::find);
        if let Some(process) = told.or_else(|| silent(site)) {
            return WorkerState::Running(Box::new(describe(endpoint, process, &health, &stats).await));
        }
    }
    match silent(site) {
        Some(process) => WorkerState::Running(Box::new(RunningWorker::mute(process))),
        None => foreign.unwrap_or(WorkerState::Absent),
    }
}

/// A worker that answers on no port that we know: named by the pid file, or holding the database open.
fn silent(site: &Site) -> Option<Process> {
    let named = match site.pid_file() {
        PidFile::Says { pid, start_ticks, .. } => Process::find_worker(pid)
            .filter(|process| start_ticks.is_none_or(|ticks| ticks == process.start_ticks())),
        PidFile::Missing | PidFile::Damaged => None,
    };
    named.or_else(|| Process::workers_holding(&site.database).into_iter().next())
}

impl RunningWorker {
    fn mute(process: Process) -> Self {
        Self {
            pid: process.pid(),
            endpoint: None,
            version: None,
            ready: false,
            queue_depth: None,
            counts: None,
            script: None,
            program: process.program(),
            environment: process.environment(),
            process,
        }
    }
}

async fn describe(endpoint: Endpoint, process: Process, health: &Value, stats: &Value) -> RunningWorker {
    let text = |name: &str| health.get(name).and_then(Value::as_str).map(str::to_owned);
    let count = |name: &str| {
        stats
            .pointer(&format!("/database/{name}"))
            .and_then(Value::as_i64)
    };
    let counts = stats.get("database").map(|_| Counts {
        observations: count("observations"),
        sessions: count("sessions"),
        summaries: count("summaries"),
    });
    RunningWorker {
        version: text("version"),
        script: text("workerPath").map(PathBuf::from),
        ready: ready(&endpoint).await,
        queue_depth: queue_depth(&endpoint).await,
        counts,
        endpoint: Some(endpoint),
        ..RunningWorker::mute(process)
    }
}

async fn ask(endpoint: &Endpoint, path: &str) -> Option<Value> {
    let answer = endpoint.get(path).await.ok()?;
    answer.json().filter(|value| answer.ok() && value.is_object())
}

async fn ready(endpoint: &Endpoint) -> bool {
    endpoint
        .get("/api/readiness")
        .await
        .is_ok_and(|answer| answer.ok())
}

async fn queue_depth(endpoint: &Endpoint) -> Option<u64> {
    ask(endpoint, "/api/processing-status")
        .await?
        .get("queueDepth")?
        .as_u64()
}

/// Whether two paths name one file, which may not exist yet.
fn same_file(left: &Path, right: &Path) -> bool {
    let resolved = |path: &Path| {
        path.canonicalize().ok().or_else(|| {
            let parent = path.parent()?.canonicalize().ok()?;
            Some(parent.join(path.file_name()?))
        })
    };
    match (resolved(left), resolved(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// The worker is stopped and stays stopped as far as claude-mem can be kept from starting it. Dropping it gives
/// spawn.lock back and starts nothing.
#[derive(Debug)]
pub struct Quiesced {
    /// The worker that ran.
    pub was_running: Option<RunningWorker>,
    /// Whether its queue was empty when it was stopped; `true` when none ran.
    pub drained: bool,
    site: Site,
    _lock: SpawnLock,
}

/// How the worker is after a replacement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumed {
    /// It ran before and runs again.
    pub restarted: bool,
    /// Its version.
    pub version: Option<String>,
    /// The rows that it sees.
    pub counts: Option<Counts>,
}

/// Stops the worker, when one runs, and keeps claude-mem from starting another.
///
/// # Errors
/// spawn.lock cannot be had, or the worker does not stop or does not stay stopped. Nothing is held then.
pub async fn quiesce(config: &Config, context: &Context) -> Result<Quiesced, WorkerError> {
    quiesce_site(Site::of(config), context).await
}

/// [`quiesce`] for half a configuration.
///
/// # Errors
/// As for [`quiesce`].
pub async fn quiesce_site(site: Site, context: &Context) -> Result<Quiesced, WorkerError> {
    let lock = take_lock(&site, context).await?;
    let mut quiesced = Quiesced {
        was_running: None,
        drained: true,
        site,
        _lock: lock,
    };
    for _ in 0..ROUNDS {
        let WorkerState::Running(worker) = probe_site(&quiesced.site).await else {
            return Ok(quiesced);
        };
        let drained = drain(&worker, quiesced.site.patience.drain).await;
        stop(&worker, &quiesced.site).await?;
        if quiesced.was_running.is_none() {
            quiesced.drained = drained;
            quiesced.was_running = Some(*worker);
        }
    }
    if quiesced.recheck() {
        return Err(WorkerError::ComesBack);
    }
    Ok(quiesced)
}

async fn take_lock(site: &Site, context: &Context) -> Result<SpawnLock, WorkerError> {
    let path = || site.data_dir.join("spawn.lock");
    let patience = site.patience.spawn_lock;
    let deadline = Instant::now() + patience;
    loop {
        match SpawnLock::take(&site.data_dir, context.now()) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if Instant::now() >= deadline => {
                return Err(WorkerError::Starting {
                    path: path(),
                    seconds: patience.as_secs(),
                });
            }
            Ok(None) => sleep(POLL).await,
            Err(error) => {
                return Err(WorkerError::SpawnLock {
                    path: path(),
                    problem: error.to_string(),
                });
            }
        }
    }
}

/// Waits until nothing is queued; `false` when something still is. A worker that cannot say has no queue in memory.
async fn drain(worker: &RunningWorker, patience: Duration) -> bool {
    let Some(endpoint) = &worker.endpoint else {
        return true;
    };
    let deadline = Instant::now() + patience;
    loop {
        match queue_depth(endpoint).await {
            None | Some(0) => return true,
            Some(_) if Instant::now() >= deadline => return false,
            Some(_) => sleep(POLL).await,
        }
    }
}

async fn stop(worker: &RunningWorker, site: &Site) -> Result<(), WorkerError> {
    let process = &worker.process;
    let patience = site.patience;
    if let Some(endpoint) = &worker.endpoint {
        let asked = endpoint.post("/api/admin/shutdown", &json!({})).await;
        // A connection that breaks is how some releases agree; the process is what counts, for the port closes
        // before the database does.
        let refused = matches!(&asked, Ok(answer) if !answer.ok());
        if !refused && process.ended(patience.shutdown).await {
            return Ok(());
        }
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        process.signal(signal).map_err(|error| WorkerError::DoesNotStop {
            pid: worker.pid,
            problem: error.to_string(),
        })?;
        if process.ended(patience.terminate).await {
            return Ok(());
        }
    }
    Err(WorkerError::DoesNotStop {
        pid: worker.pid,
        problem: "it is still there after SIGKILL".to_owned(),
    })
}

impl Quiesced {
    /// Whether a worker came back although we hold spawn.lock: releases before 13.5.6 ignore it. Asks the process
    /// table, so it costs milliseconds; ask again after a replacement.
    pub fn recheck(&self) -> bool {
        silent(&self.site).is_some()
    }

    /// Starts the worker if it ran before and `restart` says so, waits until it is ready, and gives spawn.lock back.
    ///
    /// # Errors
    /// It cannot be started ([`WorkerError::NoScript`], [`WorkerError::NoRuntime`], [`WorkerError::Start`]: no word
    /// about the database), or it does not get ready ([`WorkerError::NotReady`]: then the database may be the
    /// reason; `quiesce` again before putting the old one back).
    pub async fn resume(self, restart: bool) -> Result<Resumed, WorkerError> {
        let Some(ran) = self.was_running.as_ref().filter(|_| restart) else {
            return Ok(Resumed::default());
        };
        // Some hook may have been faster than we are.
        if !self.recheck() {
            Launch::of(&self.site, ran)?.start().await?;
        }
        let patience = self.site.patience.ready;
        let deadline = Instant::now() + patience;
        loop {
            if let WorkerState::Running(worker) = self.find_again(ran).await
                && worker.ready
            {
                return Ok(Resumed {
                    restarted: true,
                    version: worker.version.clone(),
                    counts: worker.counts,
                });
            }
            if Instant::now() >= deadline {
                return Err(WorkerError::NotReady {
                    seconds: patience.as_secs(),
                });
            }
            sleep(POLL).await;
        }
    }

    /// Where it was before is where it is most likely now.
    async fn find_again(&self, ran: &RunningWorker) -> WorkerState {
        if let Some(endpoint) = &ran.endpoint
            && !ready(endpoint).await
        {
            return WorkerState::Absent;
        }
        probe_site(&self.site).await
    }
}

#[cfg(test)]
mod tests {
    use super::same_file;

    #[test]
    fn one_file_is_known_by_any_of_its_paths() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, home.path().join("link")).unwrap();
        let linked = home.path().join("link/claude-mem.db");
        assert!(same_file(&real.join("claude-mem.db"), &linked));
        assert!(!same_file(&real.join("other.db"), &linked));
        std::fs::write(&linked, "").unwrap();
        assert!(same_file(&real.join("claude-mem.db"), &linked));
        assert!(same_file("/nowhere/a".as_ref(), "/nowhere/a".as_ref()));
        assert!(!same_file("/nowhere/a".as_ref(), "/nowhere/b".as_ref()));
    }
}
