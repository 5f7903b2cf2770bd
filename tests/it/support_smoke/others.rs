//! The Python script's side of the bucket, and the claude-mem worker.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::claude_mem::{self, MemDb, Version};
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::python_node::{self, Lock, PythonNode, Role, Stop};
use crate::support::s3::S3Server;

const NOW: i64 = 1_767_322_800;

#[test]
fn python_objects_have_their_formats() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let db = MemDb::create(folder.path().join("db"), Version::V10_3_3);
    db.add_observations(3).add_prompts(2);
    let node = PythonNode { node_id: "pi/4:a".to_owned(), ..PythonNode::new(&server, "сад", "pi") };
    assert_eq!(node.push(db.path(), NOW), 0);
    let prefix = "projects/e4b16ee4be9e8cde/";
    let names: Vec<String> = server.keys("").iter().map(|key| key.replace(prefix, "")).collect();
    assert_eq!(
        names,
        [
            "leadership/audit/20260102T030000Z-pi_4_a.json",
            "leadership/lease.json",
            "locks/active.lock",
            "sqlite/claude-mem.db",
            "sqlite/claude-mem.db.sha256",
            "sqlite/manifest.json",
        ]
    );
    assert_eq!(
        server.text(&node.key("locks/active.lock")),
        "{\n  \"hostname\": \"pi\",\n  \"timestamp\": 1767322800,\n  \"project\": \"\\u0441\\u0430\\u0434\",\n  \
         \"canonical_id\": \"e4b16ee4be9e8cde\"\n}"
    );
    let manifest: serde_json::Value =
        serde_json::from_str(&server.text(&node.key("sqlite/manifest.json"))).expect("JSON");
    assert_eq!((manifest["observations"].as_i64(), manifest["user_prompts"].as_i64()), (Some(3), Some(2)));
    assert_eq!(manifest["timestamp"], "2026-01-02T03:00:00+00:00");
    let copy = folder.path().join("pulled/copy.db");
    node.pull(&copy).expect("a pull");
    assert_eq!(claude_mem::titles(&copy), db.observation_titles());
    for (project, id) in [("mem", "6fe2e0f6071ac2bb"), ("garden-seedling", "aeeafec3a5b5710f")] {
        assert_eq!(python_node::canonical_id(project), id);
    }
}

#[test]
fn python_rules_for_lock_lease_and_torn_pushes() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let db = MemDb::create(folder.path().join("db"), Version::V10_3_3);
    let (first, second) = (PythonNode::new(&server, "mem", "one"), PythonNode::new(&server, "mem", "two"));
    assert_eq!(second.lock(NOW), Lock::Free);
    assert_eq!(first.push(db.path(), NOW), 0);
    assert_eq!((first.lock(NOW), second.lock(NOW + 7260)), (Lock::Ours, Lock::Held("one".to_owned())));
    assert_eq!(second.lock(NOW + 7261), Lock::Stale);
    assert_eq!(second.push(db.path(), NOW + 10), 3);
    assert_eq!(first.role(NOW + 3600), Role::Secondary);
    let configured = PythonNode { primary_node_id: "two".to_owned(), ..second.clone() };
    assert_eq!(configured.role(NOW + 3600), Role::Primary);
    assert!(server.text(&second.key("leadership/lease.json")).contains("\"epoch\": 2"));
    assert_eq!(configured.push(db.path(), NOW + 3601), 1);

    db.add_observations(1);
    first.write(db.path(), NOW + 20, Stop::AfterDb);
    assert!(python_node::read(&server, "mem").expect_err("torn").contains("SHA256 mismatch"));
    python_node::push(&server, "mem", "one", db.path(), NOW + 30);
    python_node::read(&server, "mem").expect("whole again");
}

fn ask(worker: &FakeWorker, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", worker.port())).expect("connect");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_worker_answers_and_shuts_down() {
    let worker = FakeWorker::start(Behaviour { queue: 1, ready: false, ..Behaviour::default() });
    assert!(ask(&worker, "GET /api/readiness").starts_with("HTTP/1.1 503"));
    worker.behave(|behaviour| behaviour.ready = true);
    assert!(ask(&worker, "GET /api/readiness").starts_with("HTTP/1.1 200"));
    assert!(ask(&worker, "GET /api/health").contains(&format!("\"pid\":{}", worker.pid())));
    assert!(ask(&worker, "GET /api/processing-status").contains("\"queueDepth\":1"));
    assert!(ask(&worker, "GET /api/processing-status").contains("\"queueDepth\":0"));
    assert!(worker.alive());
    assert!(ask(&worker, "POST /api/admin/shutdown").starts_with("HTTP/1.1 200"));
    worker.wait_gone();
    assert!(worker.was_asked("POST /api/admin/shutdown"));
}
