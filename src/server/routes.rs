//! The server's routes: each reads its request, asks the server, and writes the contract's answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::routing::{any, delete, get, post};
use serde_json::json;

use super::settings::API_VERSION;
use super::state::{ProjectView, Server};
use super::work::{Wish, refusal};
use super::{page, select};
use crate::fleet::beats::Beat;
use crate::fleet::book::{AgentEntry, AgentStatus, ProjectEntry};
use crate::fleet::nodes::role;
use crate::http::answer::{Handled, Refusal, empty, json as answer, nothing, ok, wrong_method};
use crate::http::door::RequestId;
use crate::http::fields::Fields;
use crate::http::given::{Given, Name, Query};
use crate::http::openapi::{self, RouteLine};
use crate::identity::canonical_id;

type Servers = State<Arc<Server>>;

/// Longer names are refused everywhere in the fleet.
const LONGEST_NAME: usize = 128;

/// More addresses than a node has.
const MOST_ADDRESSES: usize = 32;

/// The routes of the interface, for /openapi.json.
const ROUTES: &[RouteLine] = &[
    ("/health", &["get"]),
    ("/projects", &["get", "post"]),
    ("/projects/{name}", &["delete"]),
    ("/agents", &["get", "post"]),
    ("/agents/{name}", &["delete"]),
    ("/sync/pull", &["post"]),
    ("/sync/push", &["post"]),
    ("/jobs", &["get"]),
    ("/jobs/{job_id}", &["get"]),
    ("/agent/heartbeat", &["post"]),
    ("/projects/{cid}/nodes", &["get"]),
    ("/projects/{cid}/leadership", &["get"]),
    ("/projects/{cid}/leadership/select", &["post"]),
    ("/events", &["get"]),
];

pub(super) fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route(
            "/openapi.json",
            get(|| async { ok(&openapi::document("Membridge Control Plane", API_VERSION, ROUTES)) }),
        )
        .route("/ui", get(page::ui))
        .route("/static/ui.html", get(page::page))
        .route("/events", get(events))
        .route("/projects", get(projects).post(add_project))
        .route("/projects/{name}", delete(remove_project))
        .route("/projects/{name}/nodes", get(select::nodes))
        .route("/projects/{name}/leadership", get(select::leadership))
        .route("/projects/{name}/leadership/select", post(select::select))
        .route("/agents", get(agents).post(add_agent))
        .route("/agents/{name}", delete(remove_agent))
        .route("/sync/pull", post(pull))
        .route("/sync/push", post(push))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job))
        .route("/agent/heartbeat", post(heartbeat))
        .route("/api/runtime/{*rest}", any(|| later("BLOOM's task queue")))
        .route("/api/membridge/{*rest}", any(|| later("BLOOM's task queue")))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(server)
}

fn later(what: &'static str) -> std::future::Ready<Refusal> {
    std::future::ready(Refusal::later(what))
}

async fn health(State(server): Servers) -> Handled {
    let named = server.book.projects().len();
    ok(&json!({
        "status": "ok",
        "service": "membridge-control-plane",
        "version": API_VERSION,
        "membridge_version": env!("CARGO_PKG_VERSION"),
        "projects": named,
        "agents": server.agents().len(),
        "store": server.survey.is_some(),
    }))
}

async fn events(State(server): Servers) -> Handled {
    server.events.listen()
}

async fn projects(State(server): Servers) -> Handled {
    ok(&server.projects().await)
}

async fn add_project(State(server): Servers, Given(body): Given) -> Handled {
    let mut fields = Fields::of_body(&body);
    let name = fields.text("name", 1, LONGEST_NAME);
    fields.end()?;
    let cid = canonical_id(&name);
    let entry = ProjectEntry { name: name.clone(), canonical_id: cid.clone(), created_at: server.now() };
    let created_at = entry.created_at;
    if !server.book.add_project(entry).map_err(unwritten)? {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("Project '{name}' already exists")));
    }
    server.events.tell("project", &json!({"name": name}));
    let nodes = server.beats().of(&cid);
    let view = ProjectView {
        name,
        canonical_id: cid,
        created_at: Some(created_at),
        last_seen: nodes.iter().map(|beat| beat.heard_at).reduce(f64::max),
        nodes_count: nodes.len(),
        source: "manual",
    };
    Ok(answer(StatusCode::CREATED, &view))
}

async fn remove_project(State(server): Servers, Name(name): Name) -> Handled {
    if !server.book.remove_project(&name).map_err(unwritten)? {
        return Err(Refusal::not_found(format!("Project '{name}' not found")));
    }
    server.events.tell("project", &json!({"name": name}));
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn agents(State(server): Servers) -> Handled {
    ok(&server.agents())
}

async fn add_agent(State(server): Servers, Given(body): Given) -> Handled {
    let mut fields = Fields::of_body(&body);
    let name = fields.text("name", 1, LONGEST_NAME);
    let url = fields.text("url", 0, 2048);
    fields.end()?;
    let entry = AgentEntry {
        name: name.clone(),
        url: url.trim_end_matches('/').to_owned(),
        status: AgentStatus::Unknown,
        registered_at: server.now(),
        last_seen: None,
    };
    if !server.book.add_agent(entry.clone()).map_err(unwritten)? {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("Agent '{name}' already registered")));
    }
    server.events.tell("agent", &json!({"name": name, "status": entry.status}));
    Ok(answer(StatusCode::CREATED, &entry))
}

async fn remove_agent(State(server): Servers, Name(name): Name) -> Handled {
    if !server.book.remove_agent(&name).map_err(unwritten)? {
        return Err(Refusal::not_found(format!("Agent '{name}' not found")));
    }
    server.events.tell("agent", &json!({"name": name}));
    Ok(empty(StatusCode::NO_CONTENT))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it away")]
fn unwritten(error: std::io::Error) -> Refusal {
    Refusal::internal(format!("The entry could not be written down: {error}"))
}

async fn pull(State(server): Servers, id: Extension<RequestId>, Given(body): Given) -> Handled {
    sync(&server, "pull", id.0, Fields::of_body(&body)).await
}

async fn push(State(server): Servers, id: Extension<RequestId>, Given(body): Given) -> Handled {
    sync(&server, "push", id.0, Fields::of_body(&body)).await
}

async fn sync(server: &Arc<Server>, action: &'static str, id: RequestId, mut fields: Fields<'_>) -> Handled {
    let project = fields.any_text("project");
    let agent = fields.any_text("agent");
    fields.end()?;
    let known = server.projects().await.into_iter().find(|known| known.name == project);
    let known = known.ok_or_else(|| Refusal::not_found(format!("Project '{project}' not found")))?;
    let agents = server.agents();
    let agent = agents
        .into_iter()
        .find(|known| known.name == agent)
        .ok_or_else(|| Refusal::not_found(format!("Agent '{agent}' not found")))?;
    let wish = Wish { action, project, canonical_id: known.canonical_id, agent, request_id: id.0 };
    ok(&server.fulfil(wish).await?)
}

async fn jobs(State(server): Servers, Query(query): Query) -> Handled {
    let mut fields = Fields::of_query(&query);
    let limit = fields.int("limit", 1, 200, 50);
    let project = fields.optional_text("project");
    fields.end()?;
    ok(&server.jobs.newest(limit, project).await.map_err(|error| refusal(&error))?)
}

async fn job(State(server): Servers, Name(id): Name) -> Handled {
    let job = server.jobs.get(&id).await.map_err(|error| refusal(&error))?;
    match job {
        Some(job) => ok(&job),
        None => Err(Refusal::not_found(format!("Job '{id}' not found"))),
    }
}

async fn heartbeat(State(server): Servers, Given(body): Given) -> Handled {
    let now = server.now();
    let mut fields = Fields::of_body(&body);
    let beat = Beat {
        node_id: fields.text("node_id", 0, LONGEST_NAME),
        canonical_id: fields.text("canonical_id", 0, LONGEST_NAME),
        obs_count: fields.optional_int("obs_count"),
        db_sha: fields.optional_text("db_sha"),
        last_seen: fields.optional_float("last_seen").unwrap_or(now),
        heard_at: now,
        registered_at: now,
        ip_addrs: fields.texts("ip_addrs").into_iter().take(MOST_ADDRESSES).collect(),
        project_id: fields.optional_text("project_id").map(cut),
        agent_version: fields.optional_text("agent_version").map(cut),
        agent_url: fields.optional_text("agent_url").map(cut),
    };
    fields.end()?;
    let (cid, node) = (beat.canonical_id.clone(), beat.node_id.clone());
    let role = server.role(&cid, &node);
    if server.beats().note(beat) {
        server.events.tell("node", &json!({"canonical_id": cid, "node_id": node, "role": role}));
    }
    ok(&json!({"ok": true, "role": role, "canonical_id": cid}))
}

/// A text of a beat that is kept in memory.
fn cut(text: String) -> String {
    if text.len() <= LONGEST_NAME { text } else { text.chars().take(LONGEST_NAME).collect() }
}

impl Server {
    /// The role that the lease gives a node, as far as is known. A beat never waits for the store: it starts the asking.
    fn role(self: &Arc<Self>, cid: &str, node: &str) -> &'static str {
        let Some(survey) = &self.survey else {
            return "unknown";
        };
        let (known, due) = survey.remembered(cid);
        if due {
            let (server, cid) = (Arc::clone(self), cid.to_owned());
            tokio::spawn(async move { server.known(&cid).await });
        }
        role(known.lease.as_ref(), node)
    }
}
