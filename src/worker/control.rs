//! The story of a replacement: keep claude-mem from starting its worker, let the queue drain, stop the worker, prove
//! that it is gone — and afterwards start it as it was and wait until it is ready. Only a worker of our own database
//! is touched; one that answers on the same port for another database is left alone.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::WorkerError;
use super::find::Site;
use super::probe::{Counts, RunningWorker, WorkerState, probe_site, queue_depth, ready, silent};
use super::spawn_lock::SpawnLock;
use super::start::Launch;
use crate::config::Config;
use crate::context::Context;

/// The worker says nothing by itself; it is asked again after this long.
const POLL: Duration = Duration::from_millis(200);

/// How often a worker that came back is stopped before we give up.
const ROUNDS: usize = 3;

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
    let mut quiesced = Quiesced { was_running: None, drained: true, site, _lock: lock };
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
                return Err(WorkerError::Starting { path: path(), seconds: patience.as_secs() });
            }
            Ok(None) => sleep(POLL).await,
            Err(error) => {
                return Err(WorkerError::SpawnLock { path: path(), problem: error.to_string() });
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
        process
            .signal(signal)
            .map_err(|error| WorkerError::DoesNotStop { pid: worker.pid, problem: error.to_string() })?;
        if process.ended(patience.terminate).await {
            return Ok(());
        }
    }
    Err(WorkerError::DoesNotStop { pid: worker.pid, problem: "it is still there after SIGKILL".to_owned() })
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
                return Err(WorkerError::NotReady { seconds: patience.as_secs() });
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
