//! The agent: its settings, what it remembers, and the work that it was asked for. Knows no route and no heartbeat.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::child::{self, Done};
use super::projects::Projects;
use super::results::Results;
use super::settings::AgentSettings;
use super::sync::{self, End, Turns, Wish};
use crate::config::{Environment, Settings};
use crate::context::Context;
use crate::http::client::Client;
use crate::http::log::{Level, Log};
use crate::identity::{Node, canonical_id};

/// The version of the interface, which callers of the Python agent read.
pub const API_VERSION: &str = "0.4.0";

/// Within this time a job has ended, one way or the other.
pub const LONGEST_JOB: Duration = sync::LIMIT.saturating_add(child::GRACE);

/// Jobs that run or wait at once; more is no fleet.
pub(super) const JOBS: u32 = 64;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) settings: AgentSettings,
    pub(super) environment: Environment,
    pub(super) context: Arc<Context>,
    pub(super) log: Log,
    pub(super) node: Node,
    pub(super) projects: Projects,
    pub(super) results: Results,
    pub(super) turns: Turns,
    pub(super) jobs: Arc<Semaphore>,
    pub(super) client: Client,
    pub(super) started: Duration,
}

impl Agent {
    /// An agent with these settings; `node` is who the machine is.
    pub fn new(
        settings: AgentSettings,
        environment: Environment,
        context: Arc<Context>,
        log: Log,
        node: Node,
    ) -> Self {
        Self {
            projects: Projects::read(settings.projects_file.clone()),
            results: Results::new(settings.results.clone()),
            turns: Turns::default(),
            jobs: Arc::new(Semaphore::new(JOBS as usize)),
            client: Client::default(),
            started: context.uptime(),
            settings,
            environment,
            context,
            log,
            node,
        }
    }

    /// Seconds since 1970, as the contract writes times.
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit an f64")]
    pub(super) fn now(&self) -> f64 {
        self.context.now().as_microsecond() as f64 / 1e6
    }

    /// What config.env says now; it may be written while we run.
    fn person(&self) -> Option<Settings> {
        let file = self.settings.config_env.as_path();
        let none = std::collections::BTreeMap::new();
        file.is_file().then(|| Settings::load(&none, &self.environment, Some(file)).ok()).flatten()
    }

    /// Where claude-mem's database is.
    pub(super) fn database(&self) -> PathBuf {
        let told = match self.person() {
            Some(settings) => settings.get("CLAUDE_MEM_DB").map(PathBuf::from),
            None => self.environment.get("CLAUDE_MEM_DB").map(PathBuf::from),
        };
        let home = self.environment.home().unwrap_or(std::path::Path::new("/"));
        told.unwrap_or_else(|| home.join(".claude-mem/claude-mem.db"))
    }

    /// Does what was asked for, to its end: also when whoever asked has hung up. Its result is kept under `id`.
    pub(super) async fn fulfil(
        self: &Arc<Self>,
        wish: Wish,
        id: Option<String>,
    ) -> Result<Value, sync::NoScript> {
        if self.settings.dry_run {
            return Ok(sync::answer(&wish, &self.node.host, &End::Dry, &[]));
        }
        let job = sync::job(&self.settings, &wish)?;
        if let Some(id) = &id {
            self.results.begin(id);
        }
        let agent = Arc::clone(self);
        let failed = wish.clone();
        let work = tokio::spawn(async move {
            let _busy = agent.jobs.acquire().await;
            let end = agent.turns.run(&canonical_id(&wish.project), &job).await;
            agent.conclude(&wish, id.as_deref(), end)
        });
        Ok(work.await.unwrap_or_else(|error| {
            let end = End::NotStarted(std::io::Error::other(error.to_string()));
            sync::answer(&failed, &self.node.host, &end, &[])
        }))
    }

    fn conclude(&self, wish: &Wish, id: Option<&str>, end: std::io::Result<Done>) -> Value {
        let end = end.map_or_else(End::NotStarted, End::Ran);
        let secrets: Vec<String> = self.settings.secrets.iter().cloned().chain(self.stored_keys()).collect();
        let answer = sync::answer(wish, &self.node.host, &end, &secrets);
        if let Some(error) = id.and_then(|id| self.results.end(id, &answer).err()) {
            let words = format!("the result of a job could not be kept: {error}");
            self.log.line(Level::Warning, "membridge.agent", &words, "-");
        }
        answer
    }

    /// The store's keys, which a script may print.
    fn stored_keys(&self) -> impl Iterator<Item = String> + use<> {
        let settings = self.person();
        let names = ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"];
        names.into_iter().filter_map(move |name| settings.as_ref()?.get(name).map(str::to_owned))
    }
}
