//! What a server holds, and what it knows of projects, nodes and agents by putting that together. Answers nobody.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::settings::ServerSettings;
use crate::config::{LeadershipConfig, StoreConfig};
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::fleet::beats::{Beat, Beats};
use crate::fleet::book::{AgentStatus, Book};
use crate::fleet::jobs::Jobs;
use crate::fleet::nodes::{self, NodeView};
use crate::fleet::survey::{Known, Survey};
use crate::http::client::Client;
use crate::http::events::Events;
use crate::http::log::Log;
use crate::identity::{Node, Project, canonical_id};

pub(super) const LOGGER: &str = "membridge.server";

/// What the machine's own configuration gives the server; all of it may be missing.
#[derive(Debug)]
pub struct Surroundings {
    /// Where the fleet's memory is; `None`: no store is configured, and why.
    pub store: Result<StoreConfig, String>,
    /// For terms that the server writes.
    pub leadership: LeadershipConfig,
    /// Our state directory.
    pub state: PathBuf,
    /// The file with the fleet's key, where there is one.
    pub key: PathBuf,
    /// Who the server is.
    pub node: Node,
    /// The project of this machine.
    pub project: Option<Project>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub(super) settings: ServerSettings,
    pub(super) context: Arc<Context>,
    pub(super) log: Log,
    pub(super) surroundings: Surroundings,
    pub(super) survey: Option<Survey>,
    pub(super) book: Book,
    pub(super) jobs: Jobs,
    pub(super) events: Events,
    pub(super) client: Client,
    beats: Mutex<Beats>,
}

/// A project as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProjectView {
    /// Its name; its id where nobody has written a name down.
    pub name: String,
    /// Its canonical id.
    pub canonical_id: String,
    /// When somebody entered it here.
    pub created_at: Option<f64>,
    /// When a node of it was heard last.
    pub last_seen: Option<f64>,
    /// How many nodes it has.
    pub nodes_count: usize,
    /// `manual`, `heartbeat` or `bucket`.
    pub source: &'static str,
}

/// An agent that can be asked, or could be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// How it was.
    pub status: AgentStatus,
    /// Seconds since 1970.
    pub registered_at: f64,
    /// When it last answered, or was heard.
    pub last_seen: Option<f64>,
    /// `manual` or `heartbeat`.
    pub source: &'static str,
}

impl Server {
    /// Opens what it keeps.
    ///
    /// # Errors
    /// Its files cannot be read or made.
    pub fn open(
        settings: ServerSettings,
        surroundings: Surroundings,
        context: Arc<Context>,
        log: Log,
    ) -> Result<Self, Failure> {
        let file = |name: &str| settings.data.join(name);
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::of(Code::LocalFile, format!("{what}: {error}")).hint(
                "the server keeps its files in MEMBRIDGE_DATA_DIR; to begin anew, move that folder away",
            )
        };
        let jobs = Jobs::open(&file("jobs.db")).map_err(|error| failed("jobs", &error))?;
        let book = file("fleet.json");
        let shown = book.display().to_string();
        let book = Book::open(book).map_err(|error| failed(&shown, &error))?;
        let survey = surroundings.store.as_ref().ok().map(|store| {
            let (state, key) = (surroundings.state.clone(), surroundings.key.clone());
            Survey::new(store.clone(), state, key, Arc::clone(&context))
        });
        Ok(Self {
            beats: Mutex::new(Beats::read(&file("beats.json"))),
            settings,
            context,
            log,
            surroundings,
            survey,
            book,
            jobs,
            events: Events::default(),
            client: Client::default(),
        })
    }

    /// Seconds since 1970, as the contract writes times.
    #[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit an f64")]
    pub(super) fn now(&self) -> f64 {
        self.context.now().as_microsecond() as f64 / 1e6
    }

    pub(super) fn beats(&self) -> std::sync::MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bucket says of a project.
    pub(super) async fn known(&self, cid: &str) -> Known {
        match &self.survey {
            Some(survey) => survey.of(cid).await,
            None => Known::default(),
        }
    }

    /// The nodes of a project, by what is known of it.
    pub(super) fn nodes(&self, cid: &str, known: &Known) -> Vec<NodeView> {
        let beats = self.beats().of(cid);
        nodes::merge(cid, beats, &known.notes, known.lease.as_ref())
    }

    /// All projects: those that somebody entered, those that nodes name, those in the bucket.
    pub(super) async fn projects(&self) -> Vec<ProjectView> {
        let in_bucket = match &self.survey {
            Some(survey) => survey.projects().await,
            None => Vec::new(),
        };
        let mut found = Vec::new();
        for entry in self.book.projects() {
            found.push(self.project(entry.name, entry.canonical_id, Some(entry.created_at), "manual"));
        }
        for (cid, name) in self.heard_projects() {
            if found.iter().all(|known| known.canonical_id != cid) {
                found.push(self.project(name, cid, None, "heartbeat"));
            }
        }
        let ours = self.surroundings.project.iter().map(|project| project.cid.clone());
        for cid in ours.chain(in_bucket) {
            if found.iter().all(|known| known.canonical_id != cid) {
                let name = self.name_of(&cid).await;
                found.push(self.project(name, cid, None, "bucket"));
            }
        }
        found
    }

    /// The projects that nodes name. A name whose id it is beats one that is only said to be.
    fn heard_projects(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        let beats = self.beats();
        let mut by_age: Vec<&Beat> = beats.all().collect();
        by_age.sort_by(|a, b| a.registered_at.total_cmp(&b.registered_at));
        for beat in by_age {
            let Some(name) = &beat.project_id else { continue };
            match found.iter_mut().find(|(cid, _)| *cid == beat.canonical_id) {
                Some((cid, known)) if canonical_id(known) != *cid => known.clone_from(name),
                Some(_) => {}
                None => found.push((beat.canonical_id.clone(), name.clone())),
            }
        }
        found
    }

    async fn name_of(&self, cid: &str) -> String {
        let ours = self.surroundings.project.as_ref().filter(|project| project.cid == cid);
        let name = match ours {
            Some(project) => Some(project.name.clone()),
            None => self.known(cid).await.name,
        };
        name.unwrap_or_else(|| cid.to_owned())
    }

    fn project(
        &self,
        name: String,
        cid: String,
        created_at: Option<f64>,
        source: &'static str,
    ) -> ProjectView {
        let known = self.survey.as_ref().map(|survey| survey.remembered(&cid).0).unwrap_or_default();
        let heard = self.beats().of(&cid).iter().map(|beat| beat.heard_at).reduce(f64::max);
        let nodes_count = self.nodes(&cid, &known).len();
        ProjectView { name, canonical_id: cid, created_at, last_seen: heard, nodes_count, source }
    }

    /// The agents that can be asked: those that somebody entered, and those whose heartbeats say where they are.
    pub(super) fn agents(&self) -> Vec<AgentView> {
        let mut found: Vec<AgentView> = (self.book.agents().into_iter())
            .map(|entry| AgentView {
                name: entry.name,
                url: entry.url,
                status: entry.status,
                registered_at: entry.registered_at,
                last_seen: entry.last_seen,
                source: "manual",
            })
            .collect();
        for beat in self.beats().all() {
            let Some(url) = &beat.agent_url else { continue };
            if found.iter().all(|known| known.name != beat.node_id) {
                found.push(AgentView {
                    name: beat.node_id.clone(),
                    url: url.clone(),
                    status: AgentStatus::Unknown,
                    registered_at: beat.registered_at,
                    last_seen: Some(beat.heard_at),
                    source: "heartbeat",
                });
            }
        }
        found
    }
}
