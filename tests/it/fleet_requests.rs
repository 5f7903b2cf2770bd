//! The requests that were sent to the Python product's server and agent, sent to ours: each answer must hold what the
//! recorded one holds. Where ours differs on purpose, the difference stands in a list with its reason, and must show.
//! The recordings are tests/data/fleet-answers; the numbers in brackets are the faults of the original that are not kept.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::fleet::{Answer, Daemon, ask};
use crate::support::machine::Machine;

/// One recorded request and its answer.
#[derive(Clone, Debug)]
struct Recorded {
    method: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    answer: String,
    status: u16,
    location: String,
    content_type: String,
}

impl Recorded {
    /// How the lists below name it.
    fn name(&self) -> String {
        let key = match self.headers.iter().find(|(name, _)| name.starts_with("X-MEMBRIDGE")) {
            Some((_, key)) => format!(" key={key}"),
            None => String::new(),
        };
        let body = self.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
        format!("{} {}{key}{body}", self.method, self.path)
    }
}

fn recorded(file: &str) -> Vec<Recorded> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/fleet-answers").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for part in text.split("\n>>> ").map(|part| part.trim_start_matches(">>> ")) {
        let Some((request, rest)) = part.split_once('\n') else { continue };
        let Some((answer, end)) = rest.split_once("    [") else { continue };
        let end = end.split(']').next().unwrap();
        let field = |name: &str| -> String {
            let rest = end.split(&format!(" {name}=")).nth(1).unwrap_or_default();
            let rest = rest.split(" allow=").next().unwrap().split(" loc=").next().unwrap();
            rest.split(" xrid=").next().unwrap().to_owned()
        };
        let (line, body) = match request.split_once(" -d ") {
            Some((line, body)) => (line, Some(body.to_owned())),
            None => (request, None),
        };
        let mut words = line.split(" -H ");
        let mut first = words.next().unwrap().split(' ');
        let (method, url) = (first.next().unwrap(), first.next().unwrap());
        let Some((host, path)) = url.trim_start_matches("http://").split_once('/') else { continue };
        let headers = words.filter_map(|header| header.trim_end_matches(" -o /dev/null").split_once(':'));
        found.push(Recorded {
            method: method.to_owned(),
            port: host.rsplit(':').next().unwrap().parse().unwrap(),
            path: format!("/{path}"),
            headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
            body,
            answer: answer.trim_end().to_owned(),
            status: end.split(' ').next().unwrap().parse().unwrap(),
            location: field("loc"),
            content_type: field("ct"),
        });
    }
    found
}

/// A difference that is meant.
struct Meant {
    /// The name of the request; with a star at its end, how it begins.
    request: &'static str,
    /// Our status.
    status: u16,
    /// What our answer holds.
    holds: &'static str,
    /// Why.
    why: &'static str,
}

impl Meant {
    fn speaks_of(&self, name: &str) -> bool {
        match self.request.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.request,
        }
    }
}

const fn meant(request: &'static str, status: u16, holds: &'static str, why: &'static str) -> Meant {
    Meant { request, status, holds, why }
}

/// Fields that differ from machine to machine: they must be there, whatever they say.
const OWN: [&str; 13] = [
    "hostname",
    "node_id",
    "os",
    "arch",
    "python",
    "init_system",
    "uptime",
    "memory_mb",
    "disk_gb",
    "claude_cli",
    "agent_version",
    "created_at",
    "registered_at",
];

/// The daemons of a scene, and what in the recording stands for them.
struct Scene<'a> {
    server: Option<&'a Daemon>,
    agent: &'a Daemon,
    home: String,
    ids: Vec<(String, String)>,
}

impl Scene<'_> {
    /// Sends a request as it was recorded.
    fn send(&self, request: &Recorded) -> Answer {
        let daemon = match (request.port, self.server) {
            (8000 | 18700, Some(server)) => server,
            _ => self.agent,
        };
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut headers = headers;
        // What curl sends with -d unless told otherwise.
        let form = "application/x-www-form-urlencoded";
        if request.body.is_some() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            headers.push(("Content-Type", form));
        }
        let body = request.body.as_ref().map(|body| {
            let agent = self.agent.at.to_string();
            body.replace("127.0.0.1:8001", &agent).replace("127.0.0.1:18701", &agent)
        });
        let path = &request.path;
        ask(daemon.at, &request.method, path, &headers, body.as_deref())
            .unwrap_or_else(|error| panic!("{}: {error}", request.name()))
    }

    /// Our text with the recording's names for what differs from run to run.
    fn renamed(&self, text: &str, port: u16) -> String {
        let agent_port = if port < 9000 { 8001 } else { 18701 };
        let mut text = text.replace(&self.agent.at.to_string(), &format!("127.0.0.1:{agent_port}"));
        if let Some(server) = self.server {
            text = text.replace(&server.at.to_string(), &format!("127.0.0.1:{}", agent_port - 1));
        }
        for (ours, theirs) in &self.ids {
            text = text.replace(ours, theirs);
        }
        text.replace(&self.home, "/home/user")
    }

    /// What our answer lacks of the recorded one.
    fn lacks(&self, request: &Recorded, ours: &Answer) -> Option<String> {
        if ours.status != request.status {
            return Some(format!("status {}, recorded {}", ours.status, request.status));
        }
        if ours.header("x-request-id").is_none() {
            return Some("no X-Request-ID".to_owned());
        }
        let location = self.renamed(ours.header("location").unwrap_or_default(), request.port);
        if location != request.location {
            return Some(format!("Location {location:?}, recorded {:?}", request.location));
        }
        if !request.answer.starts_with(['{', '[']) {
            return None;
        }
        if ours.header("content-type") != Some(request.content_type.as_str()) {
            return Some(format!(
                "type {:?}, recorded {}",
                ours.header("content-type"),
                request.content_type
            ));
        }
        let body = self.renamed(&ours.body, request.port);
        let Ok(wanted) = serde_json::from_str::<Value>(&request.answer) else {
            // The recording was cut: what there is must stand at the beginning.
            let start: String = request.answer.chars().take(200).collect();
            return (!body.starts_with(&start)).then(|| format!("begins otherwise: {body}"));
        };
        let found: Value = serde_json::from_str(&body).unwrap();
        missing("", &wanted, &found)
    }
}

/// What of `wanted` is not in `found`: more is allowed.
fn missing(at: &str, wanted: &Value, found: &Value) -> Option<String> {
    let differs = || Some(format!("{at}: {found}, recorded {wanted}"));
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(name, value)| {
            let place = format!("{at}/{name}");
            let Some(ours) = found.get(name) else {
                return Some(format!("{place} is not there"));
            };
            if OWN.contains(&name.as_str()) && !value.is_null() && !(name == "node_id" && ours.is_string()) {
                return None;
            }
            missing(&place, value, ours)
        }),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let pairs = wanted.iter().zip(found).enumerate();
            pairs.into_iter().find_map(|(n, (wanted, found))| missing(&format!("{at}/{n}"), wanted, found))
        }
        // The recording was of another moment.
        (Value::Number(wanted), Value::Number(found)) if wanted.is_f64() && found.is_f64() => None,
        (Value::String(wanted), Value::String(found)) if is_id(at) && wanted.len() == found.len() => None,
        (Value::Null, _) => None,
        (wanted, found) if wanted == found => None,
        _ => differs(),
    }
}

/// Ids are drawn by lot.
fn is_id(at: &str) -> bool {
    ["/id", "/job_id", "/request_id"].iter().any(|name| at.ends_with(name))
}

/// Plays a recording and lists what differs without being meant. `before` prepares the request of that number.
fn play(rows: &[Recorded], scene: &Scene<'_>, meant: &[Meant], mut before: impl FnMut(usize)) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (n, request) in rows.iter().enumerate() {
        before(n);
        let ours = scene.send(request);
        let name = request.name();
        let difference = scene.lacks(request, &ours);
        let known = meant.iter().enumerate().find(|(_, meant)| meant.speaks_of(&name));
        match (difference, known) {
            (Some(_), Some((at, meant))) => {
                used.insert(at);
                if ours.status != meant.status || !ours.body.contains(meant.holds) {
                    wrong.push(format!("{name}: {} {}\n  ({})", ours.status, ours.body, meant.why));
                }
            }
            (Some(difference), None) => wrong.push(format!("{name}\n  {difference}")),
            (None, _) => {}
        }
    }
    for (at, meant) in meant.iter().enumerate() {
        if !used.contains(&at) {
            wrong.push(format!("listed as a difference, and is none: {} ({})", meant.request, meant.why));
        }
    }
    wrong
}

/// The script that stood for the wrapper scripts when the recordings were made.
const SCRIPT: &str = r#"#!/bin/sh
echo "argv: $0 $*"
echo "CLAUDE_PROJECT_ID=$CLAUDE_PROJECT_ID NORESTART=${MEMBRIDGE_NO_RESTART_WORKER-unset} DB=\$HOME/.claude-mem/claude-mem.db CANON=${CLAUDE_CANONICAL_PROJECT_ID-unset} ADMIN=${MEMBRIDGE_ADMIN_KEY-unset} AGENT=${MEMBRIDGE_AGENT_KEY-unset}"
case $CLAUDE_PROJECT_ID in
fail) echo oops >&2; exit 3 ;;
big) seq 1 300 ;;
bin) printf '\377\n' ;;
esac
"#;

fn write_scripts(machine: &Machine) {
    for action in ["push", "pull", "doctor"] {
        machine.write_program(&format!(".claude-mem-minio/bin/claude-mem-{action}"), SCRIPT);
    }
}

fn machine(store: &std::path::Path) -> Machine {
    let mut machine = Machine::new("node-a", store);
    machine.set("MEMBRIDGE_AGENT_SCRIPTS", "1").set("MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS", "3600");
    machine.set("MEMBRIDGE_HOSTNAME", "vm");
    machine.unset("CLAUDE_PROJECT_ID").unset("CLAUDE_MEM_DB");
    machine
}

fn start(machine: &Machine, words: &str, variables: &[(&str, &str)]) -> Daemon {
    let mut run = machine.cmd(words).timeout(std::time::Duration::from_mins(5));
    for (name, value) in variables {
        run = run.env(name, value);
    }
    Daemon::start(run.spawn(), None)
}

const AGENT: &str = "agent --listen 127.0.0.1:0 --no-watch";
const SERVER: &str = "server --listen 127.0.0.1:0";

#[test]
fn the_recordings_hold_enough() {
    let files = ["server-dev.txt", "server-dev2.txt", "agent-dev.txt", "agent-keys.txt", "keys.txt"];
    let rows: usize = files.iter().map(|file| recorded(file).len()).sum();
    assert!(rows >= 130, "only {rows} requests were found");
}

#[test]
fn the_server_answers_as_recorded() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let agent = start(&machine, AGENT, &[("MEMBRIDGE_DEV", "1")]);
    let server = start(&machine, SERVER, &[("MEMBRIDGE_DEV", "1")]);
    let home = machine.home().display().to_string();
    let scene = Scene { server: Some(&server), agent: &agent, home, ids: Vec::new() };
    let rows = [recorded("server-dev.txt"), recorded("server-dev2.txt")].concat();
    let differences = [
        meant("DELETE /projects/with%2Fslash", 204, "", "a project whose name holds a slash can be deleted"),
        meant("GET /projects", 200, "hb-only", "the project whose name holds a slash was deleted here"),
        meant("GET /jobs?limit=-1", 422, "greater_than_equal", "[14]"),
        meant(
            "POST /projects/aeeafec3a5b5710f/leadership/select {\"primary_node_id\":\"opi\",*",
            200,
            "opi is primary now (epoch 1",
            "[2] the lease is written, and the detail says so",
        ),
        meant(
            "POST /projects/zzz/leadership/select*",
            422,
            "string_pattern_mismatch",
            "[2] there is no such project, and no lease for it",
        ),
        meant("HEAD /ui", 307, "", "HEAD is answered as GET is"),
        meant(
            "POST /projects {bad",
            422,
            "json_invalid",
            "the words for what is wrong with JSON are serde's",
        ),
    ];
    let wrong = play(&rows, &scene, &differences, |_| {});
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_agent_answers_as_recorded() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let variables = [
        ("MEMBRIDGE_DEV", "1"),
        ("MEMBRIDGE_ADMIN_KEY", "adminkey-123"),
        ("MEMBRIDGE_AGENT_KEY", "agentkey-456"),
    ];
    let agent = start(&machine, AGENT, &variables);
    let home = machine.home().display().to_string();
    let scene = Scene { server: None, agent: &agent, home, ids: Vec::new() };
    let project = r#"{"project_id": "mem"}"#;
    let register = || {
        let json = [("Content-Type", "application/json")];
        ask(agent.at, "POST", "/register_project", &json, Some(project)).unwrap().expect(200);
    };
    let later = "is not part of this version of membridge";
    let empty = "string_too_short";
    let differences = [
        meant(
            "GET /status?project=mem",
            200,
            "membridge config init",
            "what makes config.env has another name",
        ),
        meant(
            "POST /sync/push {\"project\":\"\"}",
            422,
            empty,
            "an empty name would mean the project of config.env",
        ),
        meant(
            "POST /sync/push {\"project\":\"$(touch*",
            200,
            "argv: /",
            "the path in the name was renamed in the recording, not in the id that it makes",
        ),
        meant("POST /sync/push {\"project\":\"bin\"}", 200, "\u{fffd}", "[17]"),
        meant(
            "POST /register_project {\"project_id\":\"garden-seedling\",\"canonical_id\":\"../../evil\"*",
            422,
            "value_error",
            "[25]",
        ),
        meant(
            "GET /projects",
            200,
            "garden-seedling",
            "[25] the project with the foreign id is not in the list",
        ),
        meant("GET /repos*", 501, later, "comes later"),
        meant("GET /sessions*", 501, later, "comes later"),
        meant("POST /clone*", 501, later, "comes later"),
        meant("POST /execute-task*", 501, later, "comes later"),
    ];
    let wrong = play(&recorded("agent-dev.txt"), &scene, &differences, |n| match n {
        0 => {
            std::fs::create_dir_all(machine.path(".claude-mem-minio/bin")).unwrap();
            register();
        }
        2 => {
            machine.write(".claude-mem-minio/config.env", "");
            write_scripts(&machine);
        }
        _ => {}
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn keys_open_doors_as_recorded() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    write_scripts(&machine);
    machine.write(".claude-mem-minio/config.env", "");
    let keys = [("MEMBRIDGE_ADMIN_KEY", "adminkey-123"), ("MEMBRIDGE_AGENT_KEY", "agentkey-456")];
    let agent = start(&machine, AGENT, &keys);
    let server = start(&machine, SERVER, &keys);
    let home = machine.home().display().to_string();
    let scene = Scene { server: Some(&server), agent: &agent, home, ids: Vec::new() };
    let json = [("Content-Type", "application/json")];
    for project in ["mem", "garden-seedling", "other"] {
        let body = format!(r#"{{"project_id": "{project}"}}"#);
        ask(agent.at, "POST", "/register_project", &json, Some(&body)).unwrap().expect(200);
    }
    let differences = [
        meant("GET /projects key=ж", 401, "Unauthorized", "[16]"),
        meant(
            "POST /agent/heartbeat key=agentkey-456*",
            200,
            "unknown",
            "[26] an agent's key is enough for its beats",
        ),
        meant(
            "GET /projects",
            200,
            "garden-seedling",
            "[25] the recorded list holds a project with a foreign id",
        ),
        meant(
            "GET /jobs key=adminkey-123",
            200,
            "ADMIN=unset AGENT=unset",
            "[27]; the recorded list holds jobs of another run",
        ),
    ];
    let wrong = play(&recorded("keys.txt"), &scene, &differences, |_| {});
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_comes_later_says_so() {
    let store = tempfile::tempdir().unwrap();
    let machine = machine(store.path());
    let keys = [("MEMBRIDGE_AGENT_KEY", "agentkey-456"), ("MEMBRIDGE_ALLOW_PROCESS_CONTROL", "1")];
    let agent = start(&machine, AGENT, &keys);
    let home = machine.home().display().to_string();
    let scene = Scene { server: None, agent: &agent, home, ids: Vec::new() };
    let later = "is not part of this version of membridge";
    let differences = [
        meant("POST /execute-task*", 501, later, "comes later"),
        meant("GET /sessions*", 501, later, "comes later"),
        meant("POST /restart*", 501, later, "comes later"),
        meant("POST /self-update*", 501, later, "comes later; [19]"),
        meant("POST /uninstall*", 501, later, "comes later"),
        meant("GET /repos*", 501, later, "comes later"),
    ];
    let wrong = play(&recorded("agent-keys.txt"), &scene, &differences, |_| {});
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
