//! `membridge agent`: hooks register, the fleet asks for pushes and pulls, and whatever goes wrong is told.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::with_memory;
use crate::support::fleet::{AGENT_KEY, Daemon, StandIn, ask, until};
use crate::support::machine::Machine;

fn machine() -> (tempfile::TempDir, Machine) {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    (store, machine)
}

/// A machine whose wrapper scripts are this one.
fn with_script(machine: &Machine, script: &str) {
    for action in ["push", "pull", "doctor"] {
        machine.write_program(&format!(".claude-mem-minio/bin/claude-mem-{action}"), script);
    }
}

#[test]
fn a_push_and_a_pull_through_the_agent_are_the_ordinary_ones() {
    let (store, alpha) = machine();
    with_memory(&alpha);
    let agent = Daemon::agent(&alpha, "--no-watch");
    let pushed = agent.post("/sync/push", &json!({"project": "mem"})).expect(200);
    assert_eq!((pushed["ok"].as_bool(), pushed["detail"].as_str()), (Some(true), Some("push completed")));
    assert_eq!((pushed["returncode"].as_i64(), pushed["hostname"].as_str()), (Some(0), Some("alpha")));
    assert_eq!(pushed["canonical_id"], "6fe2e0f6071ac2bb");
    assert!(pushed["stdout"].as_str().unwrap().contains("PUSH COMPLETE"), "{pushed}");
    let beta = Machine::new("beta", store.path());
    let other = Daemon::agent(&beta, "--no-watch");
    let pulled = other.post("/pull", &json!({"project": "mem"})).expect(200);
    assert_eq!(pulled["ok"], true, "{pulled}");
    assert!(beta.db_path().is_file());
    // A project that is not there is an answer too.
    let failed = other.post("/push", &json!({"project": "garden\u{1}"})).expect(200);
    assert_eq!((failed["ok"].as_bool(), failed["returncode"].as_i64()), (Some(false), Some(1)), "{failed}");
    let doctor = other.get("/doctor?project=mem").expect(200);
    assert!(doctor["stdout"].as_str().unwrap().contains("STATUS"), "{doctor}");
    agent.stop();
    other.stop();
}

#[test]
fn hooks_register_without_a_key_and_pages_do_not() {
    let (_store, alpha) = machine();
    let agent = Daemon::agent(&alpha, "--no-watch");
    let json = ("Content-Type", "application/json");
    let body = r#"{"project_id": "сад"}"#;
    let register = |headers: &[(&str, &str)]| agent.raw("POST", "/register_project", headers, Some(body));
    let registered = register(&[json]).expect(200);
    assert_eq!(registered["canonical_id"], "e4b16ee4be9e8cde");
    for headers in [
        vec![],
        vec![json, ("Origin", "https://example.org")],
        vec![json, ("Host", "example.org:8001")],
        vec![json, ("X-Forwarded-For", "10.0.0.1")],
        vec![json, ("X-MEMBRIDGE-AGENT", "wrong")],
        vec![("Content-Type", "text/plain")],
    ] {
        register(&headers).expect(401);
    }
    let listed = agent.raw("GET", "/projects", &[], None).expect(200);
    assert_eq!(listed[0]["project_id"], "сад");
    assert_eq!(listed.as_array().unwrap().len(), 1);
    agent.raw("POST", "/push", &[json], Some(r#"{"project": "mem"}"#)).expect(401);
    agent.stop();
    // The list outlives the agent.
    let agent = Daemon::agent(&alpha, "--no-watch");
    assert_eq!(agent.get("/health").expect(200)["projects_count"], 1);
}

#[test]
fn f27_of_the_fleet_no_child_and_no_output_holds_a_key() {
    let (_store, mut alpha) = machine();
    alpha.set("MEMBRIDGE_AGENT_SCRIPTS", "1").set("MEMBRIDGE_ADMIN_KEY", "the-admin-key");
    alpha.set("MINIO_SECRET_KEY", "the-secret-of-the-store");
    with_script(
        &alpha,
        "#!/bin/sh\necho \"$*\"; echo ADMIN=${MEMBRIDGE_ADMIN_KEY-unset} AGENT=${MEMBRIDGE_AGENT_KEY-unset} \
         PROJECT=$CLAUDE_PROJECT_ID CID=${CLAUDE_CANONICAL_PROJECT_ID-unset} NO=${MEMBRIDGE_NO_RESTART_WORKER-unset} \
         $MINIO_SECRET_KEY; printf '\\377\\n' >&2; exit 3\n",
    );
    let agent = Daemon::agent(&alpha, "--no-watch");
    let answer = agent.post("/pull", &json!({"project": "$(touch pwned) x"})).expect(200);
    let expected =
        "--project $(touch pwned) x\nADMIN=unset AGENT=unset PROJECT=$(touch pwned) x CID=unset NO=1 ***\n";
    assert_eq!(answer["stdout"], expected);
    assert_eq!((answer["ok"].as_bool(), answer["returncode"].as_i64()), (Some(false), Some(3)));
    assert_eq!(answer["stderr"], "\u{fffd}\n");
    let answer = agent.post("/pull", &json!({"project": "a", "no_restart_worker": false})).expect(200);
    assert!(answer["stdout"].as_str().unwrap().contains("NO=unset"), "{answer}");
    assert!(!alpha.path("pwned").exists());
}

#[test]
fn f04_of_the_fleet_health_answers_while_a_job_runs_and_a_restart_keeps_its_result() {
    let (_store, mut alpha) = machine();
    alpha.set("MEMBRIDGE_AGENT_SCRIPTS", "1");
    let go = alpha.path("go");
    let started = alpha.path("started");
    with_script(
        &alpha,
        &format!(
            "#!/bin/sh\ntouch {}; while [ ! -e {} ]; do sleep 0.05; done; echo done\n",
            started.display(),
            go.display()
        ),
    );
    let agent = Daemon::agent(&alpha, "--no-watch");
    let at = agent.at;
    let id = "00000000000000aa";
    let asked = std::thread::spawn(move || {
        let body = json!({"project": "mem", "job_id": id}).to_string();
        let headers = [("X-MEMBRIDGE-AGENT", AGENT_KEY), ("Content-Type", "application/json")];
        ask(at, "POST", "/push", &headers, Some(&body))
    });
    until("the job to run", || started.exists());
    let before = Instant::now();
    agent.get("/health").expect(200);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert_eq!(agent.get(&format!("/jobs/{id}")).expect(200)["status"], "running");
    // Told to end while the job runs: it ends after the job, whose result the next one knows.
    agent.tell_to_stop();
    std::fs::write(&go, "").unwrap();
    agent.wait();
    let _ = asked.join();
    let agent = Daemon::agent(&alpha, "--no-watch");
    let job = agent.get(&format!("/jobs/{id}")).expect(200);
    assert_eq!(
        (job["status"].as_str(), job["result"]["stdout"].as_str()),
        (Some("finished"), Some("done\n"))
    );
    agent.get("/jobs/00000000000000ab").expect(404);
}

#[test]
fn heartbeats_name_each_project_and_carry_what_an_old_server_understands() {
    let (_store, mut alpha) = machine();
    with_memory(&alpha);
    let server = StandIn::old_server();
    alpha.set("MEMBRIDGE_SERVER_URL", server.url()).set("MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS", "1");
    alpha.set("MEMBRIDGE_SERVER_ADMIN_KEY", "the-admin-key");
    let agent = Daemon::agent(&alpha, "--no-watch");
    until("a beat of the node", || !server.seen().is_empty());
    let first = server.seen().remove(0);
    assert_eq!(first.line, "POST /agent/heartbeat HTTP/1.1");
    assert!(first.head.to_lowercase().contains("x-membridge-admin: the-admin-key"), "{}", first.head);
    assert_eq!((first.body["node_id"].as_str(), first.body["obs_count"].as_i64()), (Some("alpha"), Some(5)));
    assert!(first.body["project_id"].is_null() && first.body["ip_addrs"][0] == "127.0.0.1", "{}", first.body);
    agent.post("/register_project", &json!({"project_id": "mem"})).expect(200);
    let of_mem = |seen: &crate::support::fleet::Seen| seen.body["canonical_id"] == "6fe2e0f6071ac2bb";
    until("a beat of the project", || server.seen().iter().any(of_mem));
    let log = agent.log();
    assert!(log.iter().all(|line| !line.to_string().contains("the-admin-key")), "{log:?}");
}

#[test]
fn a_server_that_is_away_is_named_once() {
    let (_store, mut alpha) = machine();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    alpha.set("MEMBRIDGE_SERVER_URL", format!("http://{closed}"));
    alpha.set("MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS", "1");
    let agent = Daemon::agent(&alpha, "--no-watch");
    until("a failure", || agent.log().iter().any(|line| line["logger"] == "membridge.agent.heartbeat"));
    let line = agent.log().into_iter().find(|line| line["logger"] == "membridge.agent.heartbeat").unwrap();
    assert_eq!(line["level"], "WARNING");
    assert!(line["msg"].as_str().unwrap().starts_with("heartbeat to http://127.0.0.1:"), "{line}");
}

#[test]
fn silent_connections_do_not_stop_health() {
    let (_store, alpha) = machine();
    let agent = Daemon::agent(&alpha, "--no-watch");
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(agent.at).unwrap()).collect();
    let before = Instant::now();
    for _ in 0..5 {
        assert_eq!(agent.get("/health").expect(200)["status"], "ok");
    }
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    drop(silent);
}

#[test]
fn one_daemon_serves_and_watches() {
    let (store, alpha) = machine();
    with_memory(&alpha);
    let agent = Daemon::agent(&alpha, "");
    let pushed = || {
        let anywhere = walk(store.path());
        anywhere.iter().any(|path| path.contains("/membridge/"))
    };
    until("what was recorded to be in the store", pushed);
    agent.get("/health").expect(200);
    agent.stop();
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_record_in_the_bucket_says_where_an_agent_can_be_asked_while_it_runs() {
    let (_store, mut alpha) = machine();
    with_memory(&alpha);
    let state = alpha.path("state of ours");
    alpha.set("MEMBRIDGE_STATE_DIR", state.display().to_string());
    alpha.set("MEMBRIDGE_AGENT_URL", "http://alpha.example:8001/");
    let agent = Daemon::agent(&alpha, "--no-watch");
    let told = || {
        let outcome = alpha.cmd("nodes --json").run();
        outcome.assert_code(0);
        let nodes: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        nodes["nodes"][0]["agent_url"].clone()
    };
    let id = "00000000000000aa";
    agent.post("/push", &json!({"project": "mem", "job_id": id})).expect(200);
    assert_eq!(told(), "http://alpha.example:8001");
    // Whatever it keeps lies where our state lies.
    agent.post("/register_project", &json!({"project_id": "mem"})).expect(200);
    assert!(
        state.join("agent_projects.json").is_file() && state.join(format!("agent-jobs/{id}.json")).is_file()
    );
    assert!(!alpha.path(".membridge").exists(), "{:?}", alpha.files());
    // Killed or stopped: the next sync that somebody types says so.
    agent.kill();
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(told(), serde_json::Value::Null);
}

#[test]
fn nobody_listens_to_the_world_without_a_key() {
    let (_store, alpha) = machine();
    let outcome = alpha.cmd("agent --listen 0.0.0.0:0").run();
    outcome.assert_code(1).stdout_has("is not loopback, and MEMBRIDGE_AGENT_KEY is not set");
    let outcome =
        alpha.cmd("agent --listen 0.0.0.0:0").env("MEMBRIDGE_AGENT_KEY", "k").env("MEMBRIDGE_DEV", "1").run();
    outcome.assert_code(1).stdout_has("MEMBRIDGE_DEV=1 asks nobody for a key");
    let agent = Daemon::start(alpha.cmd("agent --listen 127.0.0.1:0 --no-watch").spawn(), None);
    let refused = agent.get("/status?project=mem").expect(500);
    assert_eq!(refused["detail"], "MEMBRIDGE_AGENT_KEY not configured on agent");
}
