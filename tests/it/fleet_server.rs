//! `membridge server`: jobs that no restart loses, roles that are the lease's, old and new ones together.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::with_memory;
use crate::support::fleet::{ADMIN_KEY, AGENT_KEY, Daemon, StandIn, ask, until};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

const CID: &str = "6fe2e0f6071ac2bb";

fn desk() -> (S3Server, Machine) {
    let store = S3Server::start();
    let machine = Machine::new("desk", &store);
    (store, machine)
}

/// An agent whose push waits until `go` is there.
fn slow_agent(machine: &mut Machine) -> Daemon {
    machine.set("MEMBRIDGE_AGENT_SCRIPTS", "1");
    let [started, go] = ["started", "go"].map(|name| machine.path(name).display().to_string());
    let script =
        format!("#!/bin/sh\ntouch {started}; while [ ! -e {go} ]; do sleep 0.05; done; echo pushed\n");
    machine.write_program(".claude-mem-minio/bin/claude-mem-push", script);
    Daemon::agent(machine, "--no-watch")
}

fn enter(server: &Daemon, agent: &str) {
    server.post("/projects", &json!({"name": "mem"})).expect(201);
    server.post("/agents", &json!({"name": "a1", "url": agent})).expect(201);
}

/// Asks for a push without waiting for its end.
fn ask_for_a_push(server: &Daemon) -> std::thread::JoinHandle<Option<u16>> {
    let at = server.at;
    std::thread::spawn(move || {
        let headers = [("X-MEMBRIDGE-ADMIN", ADMIN_KEY), ("Content-Type", "application/json")];
        let answer = ask(at, "POST", "/sync/push", &headers, Some(r#"{"project":"mem","agent":"a1"}"#));
        answer.ok().map(|answer| answer.status)
    })
}

fn newest(server: &Daemon) -> Value {
    server.get("/jobs?limit=1").expect(200)[0].clone()
}

#[test]
fn a_push_through_server_and_agent_ends_in_the_job_list() {
    let (store, desk) = desk();
    let alpha = Machine::new("alpha", &store);
    with_memory(&alpha);
    let agent = Daemon::agent(&alpha, "--no-watch");
    let server = Daemon::server(&desk, "");
    enter(&server, &format!("{}/", agent.url()));
    let wish = json!({"project": "mem", "agent": "a1"});
    let pushed = server.post("/sync/push", &wish).expect(200);
    assert_eq!((pushed["ok"].as_bool(), pushed["detail"].as_str()), (Some(true), Some("push completed")));
    let job = server.get(&format!("/jobs/{}", pushed["job_id"].as_str().unwrap())).expect(200);
    assert_eq!((job["status"].as_str(), job["returncode"].as_i64()), (Some("completed"), Some(0)));
    assert!(job["stdout"].as_str().unwrap().contains("PUSH COMPLETE"), "{job}");
    assert_eq!(server.get("/agents").expect(200)[0]["status"], "online");
    // The server reads the same bucket: the machine's project is in its list, under its name.
    server.delete("/projects/mem").expect(204);
    let projects = server.get("/projects").expect(200);
    assert_eq!((projects[0]["name"].as_str(), projects[0]["source"].as_str()), (Some("mem"), Some("bucket")));
    agent.stop();
    assert_eq!(
        server.post("/sync/pull", &wish).expect(502)["detail"]
            .as_str()
            .unwrap()
            .find("Agent 'a1' unreachable at"),
        Some(0)
    );
    assert_eq!(newest(&server)["status"], "error");
    assert_eq!(server.get("/agents").expect(200)[0]["status"], "offline");
}

#[test]
fn f01_of_the_fleet_a_restart_of_the_server_loses_neither_entries_nor_jobs() {
    let (_store, mut desk) = desk();
    let agent = slow_agent(&mut desk);
    for how in ["stopped", "killed"] {
        let server = Daemon::server(&desk, "");
        if how == "stopped" {
            enter(&server, &agent.url());
            server.post("/agent/heartbeat", &json!({"node_id": "pi", "canonical_id": CID})).expect(200);
        }
        let asked = ask_for_a_push(&server);
        until("the job to run", || desk.path("started").exists());
        assert_eq!(newest(&server)["status"], "pending", "{how}");
        if how == "stopped" {
            server.tell_to_stop();
            server.wait();
        } else {
            server.kill();
        }
        let _ = asked.join();
        let server = Daemon::server(&desk, "");
        assert_eq!(newest(&server)["status"], "pending", "{how}: it runs still");
        assert_eq!(server.get("/agents").expect(200)[0]["name"], "a1");
        let nodes = server.get(&format!("/projects/{CID}/nodes")).expect(200);
        assert_eq!(nodes[0]["node_id"], "pi", "{how}");
        std::fs::write(desk.path("go"), "").unwrap();
        until("its end to be known", || newest(&server)["status"] == "completed");
        assert_eq!(newest(&server)["stdout"], "pushed\n");
        std::fs::remove_file(desk.path("go")).unwrap();
        std::fs::remove_file(desk.path("started")).unwrap();
        server.stop();
    }
}

#[test]
fn a_job_that_nobody_remembers_does_not_stay_pending() {
    let (_store, mut desk) = desk();
    let agent = slow_agent(&mut desk);
    let server = Daemon::server(&desk, "");
    enter(&server, &agent.url());
    let asked = ask_for_a_push(&server);
    until("the job to run", || desk.path("started").exists());
    server.kill();
    let _ = asked.join();
    // A power cut on the agent's side: what ran there is not known any more.
    agent.kill();
    std::fs::write(desk.path("go"), "").unwrap();
    let at = StandIn::answering(404, &json!({"detail": "Not Found"}));
    let book = desk.path("membridge/server/data/fleet.json");
    let mut entries: Value = serde_json::from_slice(&std::fs::read(&book).unwrap()).unwrap();
    entries["agents"][0]["url"] = at.url().into();
    std::fs::write(&book, entries.to_string()).unwrap();
    let server = Daemon::server(&desk, "");
    until("its end to be known", || newest(&server)["status"] == "error");
    assert!(newest(&server)["detail"].as_str().unwrap().starts_with("interrupted: "));
}

#[test]
fn an_agent_of_the_python_product_is_asked_as_before() {
    let (_store, desk) = desk();
    let old = StandIn::answering(
        200,
        &json!({"ok": false, "action": "push", "project": "mem", "canonical_id": CID, "hostname": "pi",
            "detail": "push failed", "dryrun": false, "stdout": "out\n", "stderr": "oops\n", "returncode": 3}),
    );
    let server = Daemon::server(&desk, "");
    enter(&server, &old.url());
    let pushed = server.post("/sync/push", &json!({"project": "mem", "agent": "a1"})).expect(200);
    assert_eq!((pushed["ok"].as_bool(), pushed["canonical_id"].as_str()), (Some(false), Some(CID)));
    let asked = old.seen().remove(0);
    assert_eq!(
        (asked.line.as_str(), asked.body["project"].as_str()),
        ("POST /sync/push HTTP/1.1", Some("mem"))
    );
    assert!(asked.head.to_lowercase().contains(&format!("x-membridge-agent: {AGENT_KEY}")), "{}", asked.head);
    let job = newest(&server);
    assert_eq!((job["status"].as_str(), job["returncode"].as_i64()), (Some("failed"), Some(3)));
    assert_eq!(job["stderr"], "oops\n");
}

#[test]
fn an_agent_that_says_where_it_is_needs_no_entry() {
    let (store, desk) = desk();
    let server = Daemon::server(&desk, "");
    let mut alpha = Machine::new("alpha", &store);
    with_memory(&alpha);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    alpha.set("MEMBRIDGE_SERVER_URL", server.url()).set("MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS", "1");
    alpha.set("MEMBRIDGE_AGENT_URL", format!("http://{closed}"));
    let run = alpha.cmd(&format!("agent --listen {closed} --no-watch")).env("MEMBRIDGE_AGENT_KEY", AGENT_KEY);
    let agent = Daemon::start(run.spawn(), Some(("X-MEMBRIDGE-AGENT", AGENT_KEY)));
    agent.post("/register_project", &json!({"project_id": "mem"})).expect(200);
    until("the agent to be known", || {
        let agents = server.get("/agents").expect(200);
        agents[0]["source"] == "heartbeat" && server.get("/projects").expect(200)[0]["name"] == "mem"
    });
    let pushed = server.post("/sync/push", &json!({"project": "mem", "agent": "alpha"})).expect(200);
    assert_eq!(pushed["ok"], true, "{pushed}");
}

#[test]
fn f02_of_the_fleet_a_choice_is_the_lease_and_all_obey() {
    let (store, desk) = desk();
    let [alpha, beta] = ["alpha", "beta"].map(|name| Machine::new(name, &store));
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    let servers = [Daemon::server(&desk, ""), Daemon::server(&Machine::new("shelf", &store), "")];
    let leadership = format!("/projects/{CID}/leadership");
    let before = servers[0].get(&leadership).expect(200);
    assert_eq!(
        (before["preferred_primary"].as_str(), before["primary_node_id"].as_str()),
        (Some("alpha"), Some("alpha"))
    );
    let chosen = servers[0]
        .post(&format!("{leadership}/select"), &json!({"primary_node_id": "beta", "lease_seconds": 600}))
        .expect(200);
    assert_eq!((chosen["was"].as_str(), chosen["lease_seconds"].as_i64()), (Some("alpha"), Some(600)));
    assert!(chosen["epoch"].as_i64() > before["epoch"].as_i64());
    // The machines obey, and each server shows it once it has looked.
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(3);
    beta.cmd("leadership_info").run().assert_code(0).stdout_has("beta");
    until("the other server to show it", || {
        servers.iter().all(|server| server.get(&leadership).expect(200)["preferred_primary"] == "beta")
    });
    let beat = json!({"node_id": "alpha", "canonical_id": CID});
    assert_eq!(servers[0].post("/agent/heartbeat", &beat).expect(200)["role"], "secondary");
    let audit = store.keys(&format!("projects/{CID}/leadership/audit/")).len();
    assert!(audit >= 2, "{audit}");
}

#[test]
fn of_two_choices_at_once_one_wins_and_one_is_told() {
    let (store, desk) = desk();
    let servers = [Daemon::server(&desk, ""), Daemon::server(&Machine::new("shelf", &store), "")];
    let path = format!("/projects/{CID}/leadership/select");
    for round in 0..3 {
        let seen = servers[0].get(&format!("/projects/{CID}/leadership")).expect(200)["epoch"].clone();
        // A server may show what was true some seconds ago: this is what both screens show.
        let seen = if round == 0 { seen } else { json!(round) };
        let both: Vec<_> = servers
            .iter()
            .zip(["alpha", "beta"])
            .map(|(server, node)| {
                let (at, path) = (server.at, path.clone());
                let body = json!({"primary_node_id": node, "expected_epoch": seen}).to_string();
                std::thread::spawn(move || {
                    let headers = [("X-MEMBRIDGE-ADMIN", ADMIN_KEY), ("Content-Type", "application/json")];
                    ask(at, "POST", &path, &headers, Some(&body)).unwrap()
                })
            })
            .collect();
        let answers: Vec<_> = both.into_iter().map(|asked| asked.join().unwrap()).collect();
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{answers:?}");
        let told = answers.iter().find(|answer| answer.status == 409).unwrap().json();
        assert!(told["detail"].as_str().unwrap().contains("has been chosen anew meanwhile"), "{told}");
    }
}

#[test]
fn without_a_store_roles_are_not_given_and_it_is_said() {
    let (store, mut desk) = desk();
    let path = format!("/projects/{CID}/leadership");
    let choice = json!({"primary_node_id": "alpha"});
    desk.unset("MINIO_ENDPOINT");
    let server = Daemon::server(&desk, "");
    let refused = server.post(&format!("{path}/select"), &choice).expect(503);
    assert!(refused["detail"].as_str().unwrap().contains("MINIO_ENDPOINT not set"), "{refused}");
    assert!(server.get(&path).expect(200)["store_error"].as_str().unwrap().contains("MINIO_ENDPOINT"));
    let beat = json!({"node_id": "pi", "canonical_id": CID});
    assert_eq!(server.post("/agent/heartbeat", &beat).expect(200)["role"], "unknown");
    server.stop();
    drop(store);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    desk.set("MINIO_ENDPOINT", format!("http://{closed}"));
    let server = Daemon::server(&desk, "");
    server.post(&format!("{path}/select"), &choice).expect(502);
    assert!(server.get(&path).expect(200)["store_error"].is_string());
}

#[test]
fn f05_of_the_fleet_a_node_is_shown_as_it_was_last_heard() {
    let (_store, desk) = desk();
    let server = Daemon::server(&desk, "");
    let nodes = || server.get(&format!("/projects/{CID}/nodes")).expect(200)[0].clone();
    let mut first = Value::Null;
    for (seen, observations) in [(1_000.5, 5), (1_001.5, 7)] {
        let beat = json!({"node_id": "pi", "canonical_id": CID, "project_id": "mem", "obs_count": observations,
            "last_seen": seen, "ip_addrs": ["10.0.0.2"]});
        server.post("/agent/heartbeat", &beat).expect(200);
        if first.is_null() {
            first = nodes();
        }
    }
    // An agent 0.4.0 says less every time.
    server
        .post("/agent/heartbeat", &json!({"node_id": "pi", "canonical_id": CID, "last_seen": 1_003}))
        .expect(200);
    let last = nodes();
    assert_eq!((last["last_seen"].as_f64(), last["obs_count"].as_i64()), (Some(1_003.0), Some(7)));
    assert_eq!(last["registered_at"], first["registered_at"]);
    assert_eq!(server.get("/projects").expect(200)[0]["name"], "mem");
}

#[test]
fn what_is_blooms_says_that_it_comes_later() {
    let (_store, desk) = desk();
    let server = Daemon::server(&desk, "");
    for path in ["/api/runtime/llm-tasks", "/api/runtime/workers/1/agent-health", "/api/membridge/projects"] {
        let told = server.get(path).expect(501)["detail"].clone();
        assert!(told.as_str().unwrap().contains("is not part of this version"), "{path}: {told}");
        server.post(path, &json!({})).expect(501);
        server.raw("GET", path, &[], None).expect(401);
    }
}

#[test]
fn pages_hear_of_what_happens() {
    let (_store, desk) = desk();
    let server = Daemon::server(&desk, "");
    let mut stream = TcpStream::connect(server.at).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: x\r\nX-MEMBRIDGE-ADMIN: {ADMIN_KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut hear = |words: &str| {
        let mut chunk = [0; 1024];
        while !seen.contains(words) {
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the stream ended after {seen}");
            seen += &String::from_utf8_lossy(&chunk[..count]);
        }
    };
    hear("event: resync");
    server.post("/agent/heartbeat", &json!({"node_id": "pi", "canonical_id": CID})).expect(200);
    hear("event: node\ndata: {\"canonical_id\":\"6fe2e0f6071ac2bb\",\"node_id\":\"pi\"");
    enter(&server, "http://127.0.0.1:1");
    server.post("/sync/push", &json!({"project": "mem", "agent": "a1"})).expect(502);
    hear("\"status\":\"pending\"");
    hear("\"status\":\"error\"");
    // Open streams do not hold a server that is told to end.
    server.stop();
}

#[test]
fn what_comes_from_outside_has_bounds() {
    let (_store, desk) = desk();
    let server = Daemon::server(&desk, "");
    let keyed = [("X-MEMBRIDGE-ADMIN", ADMIN_KEY), ("Content-Type", "application/json")];
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    server.raw("POST", "/projects", &keyed, Some(&large)).expect(413);
    let long = json!({"name": "x".repeat(129)});
    assert_eq!(server.post("/projects", &long).expect(422)["detail"][0]["type"], "string_too_long");
    // A key lets through what only lacks its content type: docs of the Python product taught it.
    let without = [("X-MEMBRIDGE-ADMIN", ADMIN_KEY)];
    server.raw("POST", "/projects", &without, Some("{\"name\": \"curl\"}")).expect(201);
    let named = server.raw("GET", "/health", &[("X-Request-ID", "my-id-<x>")], None);
    assert_eq!(named.header("x-request-id"), Some("my-id-<x>"));
    let page = server.raw("GET", "/static/ui.html", &[], None);
    let etag = page.header("etag").unwrap().to_owned();
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'sha256-"));
    assert_eq!(server.raw("GET", "/static/ui.html", &[("If-None-Match", &etag)], None).status, 304);
    for _ in 0..10 {
        server.raw("GET", "/jobs", &[("X-MEMBRIDGE-ADMIN", "guess")], None).expect(401);
    }
    let limited = server.get("/jobs");
    assert_eq!(limited.status, 429);
    assert!(limited.header("retry-after").is_some());
    server.raw("GET", "/health", &[], None).expect(200);
    let access = server.log().into_iter().find(|line| line["request_id"] == "my-id-<x>").unwrap();
    assert!(access["msg"].as_str().unwrap().starts_with("GET /health 200 "), "{access}");
}
