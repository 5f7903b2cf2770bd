//! The agent's routes: each reads its request, asks the agent, and writes the contract's answer.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::projects::Told;
use super::results::{Known, is_id};
use super::sync::{Action, NoScript, Wish};
use super::{API_VERSION, Agent, facts};
use crate::http::answer::{Handled, Refusal, nothing, ok, wrong_method};
use crate::http::fields::{Fields, problem};
use crate::http::given::{Given, Name, Query};
use crate::http::openapi::{self, RouteLine};
use crate::identity::canonical_id;
use crate::visible::shell_path;

type Agents = State<Arc<Agent>>;

/// Longer names are refused everywhere in the fleet.
const LONGEST_NAME: usize = 128;

/// The routes of the interface, for /openapi.json.
const ROUTES: &[RouteLine] = &[
    ("/health", &["get"]),
    ("/status", &["get"]),
    ("/pull", &["post"]),
    ("/sync/pull", &["post"]),
    ("/push", &["post"]),
    ("/sync/push", &["post"]),
    ("/doctor", &["get", "post"]),
    ("/jobs/{id}", &["get"]),
    ("/register_project", &["post"]),
    ("/projects", &["get"]),
    ("/system-info", &["get"]),
    ("/self-update", &["post"]),
    ("/restart", &["post"]),
    ("/uninstall", &["post"]),
    ("/clone", &["post"]),
    ("/repos", &["get"]),
    ("/execute-task", &["post"]),
    ("/sessions", &["get"]),
    ("/sessions/{id}", &["get"]),
];

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route(
            "/openapi.json",
            get(|| async { ok(&openapi::document("Membridge Agent", API_VERSION, ROUTES)) }),
        )
        .route("/status", get(status))
        .route("/pull", post(pull))
        .route("/sync/pull", post(pull))
        .route("/push", post(push))
        .route("/sync/push", post(push))
        .route("/doctor", get(doctor_by_query).post(doctor))
        .route("/jobs/{id}", get(job))
        .route("/register_project", post(register))
        .route("/projects", get(projects))
        .route("/system-info", get(system_info))
        .route("/self-update", post(process_control))
        .route("/restart", post(process_control))
        .route("/uninstall", post(process_control))
        .route("/clone", post(|| later("Cloning repositories")))
        .route("/repos", get(|| later("The list of repositories")))
        .route("/execute-task", post(|| later("Running tasks")))
        .route("/sessions", get(|| later("The list of sessions")))
        .route("/sessions/{id}", get(|| later("The list of sessions")))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent)
}

fn later(what: &'static str) -> std::future::Ready<Refusal> {
    std::future::ready(Refusal::later(what))
}

async fn process_control(State(agent): Agents) -> Refusal {
    if agent.settings.process_control {
        return Refusal::later("Process control");
    }
    let words = "Process control is disabled. Set MEMBRIDGE_ALLOW_PROCESS_CONTROL=1 to enable.";
    Refusal::new(StatusCode::FORBIDDEN, words)
}

async fn health(State(agent): Agents) -> Handled {
    let settings = &agent.settings;
    ok(&json!({
        "status": "ok",
        "service": "membridge-agent",
        "version": API_VERSION,
        "membridge_version": env!("CARGO_PKG_VERSION"),
        "git_version": Value::Null,
        "git_commit": Value::Null,
        "hostname": agent.node.host,
        "node_id": agent.node.id,
        "os_info": facts::os(&agent.node.host),
        "arch": std::env::consts::ARCH,
        "python": Value::Null,
        "init_system": facts::init_system(),
        "dryrun": settings.dry_run,
        "allow_process_control": settings.process_control,
        "hooks_bin": settings.hooks_bin,
        "config_env": settings.config_env,
        "agent_dir": settings.agent_dir,
        "heartbeat_interval": settings.interval.as_secs(),
        "server_url": settings.server_url,
        "runtime_url": settings.runtime_url,
        "projects_count": agent.projects.all().len(),
        "uptime_seconds": agent.context.uptime().saturating_sub(agent.started).as_secs(),
        "disk": facts::disk(agent.environment.home().unwrap_or(Path::new("/"))),
        "capabilities": {
            "self_update": false,
            "restart": false,
            "uninstall": false,
            "clone": false,
            "sync": true,
            "process_control": settings.process_control,
        },
    }))
}

async fn status(State(agent): Agents, Query(query): Query) -> Handled {
    let mut fields = Fields::of_query(&query);
    let project = fields.text("project", 1, LONGEST_NAME);
    fields.end()?;
    let config_env = agent.settings.config_env.is_file();
    let database = agent.database();
    let detail = if config_env {
        "Agent ready".to_owned()
    } else {
        let file = agent.settings.config_env.display();
        format!("config.env not found at {file}. To make it: membridge config init")
    };
    ok(&json!({
        "ok": config_env,
        "project": project,
        "canonical_id": canonical_id(&project),
        "hostname": agent.node.host,
        "detail": detail,
        "dryrun": agent.settings.dry_run,
        "config_env_exists": config_env,
        "hooks_bin_exists": agent.settings.hooks_bin.is_dir(),
        "db_exists": database.is_file(),
        "db_path": database,
    }))
}

async fn pull(State(agent): Agents, Given(body): Given) -> Handled {
    fulfil(&agent, Action::Pull, Fields::of_body(&body)).await
}

async fn push(State(agent): Agents, Given(body): Given) -> Handled {
    fulfil(&agent, Action::Push, Fields::of_body(&body)).await
}

async fn doctor(State(agent): Agents, Given(body): Given) -> Handled {
    fulfil(&agent, Action::Doctor, Fields::of_body(&body)).await
}

async fn doctor_by_query(State(agent): Agents, Query(query): Query) -> Handled {
    fulfil(&agent, Action::Doctor, Fields::of_query(&query)).await
}

async fn fulfil(agent: &Arc<Agent>, action: Action, mut fields: Fields<'_>) -> Handled {
    let project = fields.text("project", 1, LONGEST_NAME);
    let no_restart_worker = action == Action::Pull && fields.flag("no_restart_worker", true);
    let id = fields.optional_text("job_id").filter(|id| is_id(id));
    fields.end()?;
    let answer = agent.fulfil(Wish { action, project, no_restart_worker }, id).await;
    match answer {
        Ok(answer) => ok(&answer),
        Err(NoScript(script)) => {
            let bin = shell_path(&agent.settings.hooks_bin);
            let script = script.display();
            Err(Refusal::internal(format!(
                "Script not found: {script}. Install hooks first: cp hooks/* {bin}/"
            )))
        }
    }
}

/// How a job ended that the server has lost sight of.
async fn job(State(agent): Agents, Name(id): Name) -> Handled {
    match agent.results.of(&id) {
        Known::Running => ok(&json!({"job_id": id, "status": "running", "result": Value::Null})),
        Known::Ended(result) => ok(&json!({"job_id": id, "status": "finished", "result": result})),
        Known::Unknown => Err(Refusal::not_found(format!("Job '{id}' not found"))),
    }
}

async fn register(State(agent): Agents, Given(body): Given) -> Handled {
    let told = told(&body)?;
    let cid = canonical_id(&told.project_id);
    let project = told.project_id.clone();
    let count = agent.projects.see(told, agent.now());
    let count =
        count.map_err(|error| Refusal::internal(format!("The project could not be noted: {error}")))?;
    ok(&json!({"ok": true, "project_id": project, "canonical_id": cid, "projects_count": count}))
}

/// What a hook says; an id that is not the name's leads nowhere [25].
fn told(body: &Map<String, Value>) -> Result<Told, Refusal> {
    let mut fields = Fields::of_body(body);
    let project_id = fields.text("project_id", 1, LONGEST_NAME);
    let given = fields.optional_text("canonical_id");
    let told = Told { path: fields.optional_text("path"), notes: fields.optional_text("notes"), project_id };
    fields.end()?;
    match given.filter(|cid| !cid.is_empty() && *cid != canonical_id(&told.project_id)) {
        None => Ok(told),
        Some(cid) => Err(Refusal::Fields(vec![problem(
            "value_error",
            &json!(["body", "canonical_id"]),
            "Value error, canonical_id is not that of project_id",
            &cid.into(),
        )])),
    }
}

async fn projects(State(agent): Agents) -> Handled {
    ok(&agent.projects.all())
}

async fn system_info(State(agent): Agents) -> Handled {
    let settings = &agent.settings;
    let disk = facts::disk(agent.environment.home().unwrap_or(Path::new("/")));
    let seconds = agent.context.uptime().as_secs();
    ok(&json!({
        "hostname": agent.node.host,
        "node_id": agent.node.id,
        "os": facts::os(&agent.node.host),
        "arch": std::env::consts::ARCH,
        "python": Value::Null,
        "init_system": facts::init_system(),
        "agent_version": API_VERSION,
        "agent_dir": settings.agent_dir,
        "repos_base": settings.repos_base,
        "uptime": format!("up {} minutes", seconds / 60),
        "memory_mb": facts::memory(),
        "disk_gb": {"total": disk.get("total_gb"), "free": disk.get("free_gb")},
        "claude_cli": Value::Null,
    }))
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::{Map, Value, json};

    #[test]
    fn f25_of_the_fleet_a_foreign_id_is_refused() {
        let body = |value: Value| -> Map<String, Value> { serde_json::from_value(value).unwrap() };
        let table = [
            (json!({"project_id": "mem"}), true),
            (json!({"project_id": "mem", "canonical_id": "6fe2e0f6071ac2bb"}), true),
            (json!({"project_id": "mem", "canonical_id": null}), true),
            (json!({"project_id": "mem", "canonical_id": "../../evil"}), false),
            (json!({"project_id": ""}), false),
            (json!({"project_id": "x".repeat(129)}), false),
            (json!({}), false),
        ];
        for (value, taken) in table {
            assert_eq!(told(&body(value.clone())).is_ok(), taken, "{value}");
        }
    }
}
