//! What the worker is doing: whether one runs for our database, its version, its queue and its rows. Asks, and touches
//! nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::find::{PidFile, Site};
use super::http::Endpoint;
use super::process::Process;
use crate::config::Config;

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
    pub(super) process: Process,
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
        let database = stats.pointer("/database/path").and_then(Value::as_str).map(PathBuf::from);
        if let Some(database) = database.filter(|path| !same_file(path, &site.database)) {
            foreign.get_or_insert(WorkerState::Foreign { port: endpoint.port, database });
            continue;
        }
        let told = health.get("pid").and_then(Value::as_i64);
        let told = told.and_then(|pid| i32::try_from(pid).ok()).and_then(Process::find);
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
pub(super) fn silent(site: &Site) -> Option<Process> {
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
    let count = |name: &str| stats.pointer(&format!("/database/{name}")).and_then(Value::as_i64);
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

pub(super) async fn ready(endpoint: &Endpoint) -> bool {
    endpoint.get("/api/readiness").await.is_ok_and(|answer| answer.ok())
}

pub(super) async fn queue_depth(endpoint: &Endpoint) -> Option<u64> {
    ask(endpoint, "/api/processing-status").await?.get("queueDepth")?.as_u64()
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
