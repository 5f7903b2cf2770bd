//! What Python nodes depend on, from the outside: what they wrote is taken over, and what we write is what they read.
//! contract_settings.rs: what people and scripts depend on.

use crate::common::{backups, memory, now, rows};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{self, Lock, PythonNode, Role, Stop};
use crate::support::s3::S3Server;

const ROOT: &str = "projects/6fe2e0f6071ac2bb/";

pub(super) fn machine(name: &str, server: &S3Server) -> Machine {
    let machine = Machine::new(name, server);
    machine
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(12)
        .add_summaries(2)
        .add_prompts(3);
    machine
}

#[test]
fn a_bucket_written_by_a_python_node_is_pulled() {
    let server = S3Server::start();
    let python = machine("python", &server);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), now(), Stop::Never);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(rows(&beta.db_path()), rows(&python.db_path()));
    // And a second machine that has the older half of it.
    let gamma = Machine::new("gamma", &server);
    gamma.cmd("pull_sqlite").run().assert_code(0);
    python.db().add_observations(4);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), now(), Stop::Never);
    PythonNode::new(&server, "mem", "python").write_lease("python", 1, now(), false);
    gamma.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(rows(&gamma.db_path()), rows(&python.db_path()));
}

#[test]
fn f21_a_torn_python_push_is_an_error_and_the_next_push_mends_it() {
    for stop in [Stop::AfterDb, Stop::AfterSha256] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server);
        let node = PythonNode::new(&server, "mem", "alpha");
        node.write(&alpha.db_path(), now(), Stop::Never);
        alpha.db().add_observations(2);
        let torn = matches!(stop, Stop::AfterDb);
        node.write(&alpha.db_path(), now(), stop);
        let beta = Machine::new("beta", &server);
        let pulled = beta.cmd("pull_sqlite").run();
        // After the checksum the database and its checksum agree again; the manifest is behind, and not believed.
        pulled.assert_code(i32::from(torn));
        if torn {
            pulled.stdout_has("a push was cut off");
            assert!(!beta.db_path().exists());
        } else {
            assert_eq!(claude_mem::counts(beta.db_path()).observations, 14);
        }
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
        beta.cmd("pull_sqlite").run().assert_code(0);
        assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    }
}

#[test]
fn what_we_write_is_what_a_python_node_reads() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let node = PythonNode::new(&server, "mem", "python");
    let copy = alpha.path("python/claude-mem.db");
    node.pull(&copy).unwrap();
    assert_eq!(rows(&copy), rows(&alpha.db_path()));
    assert_eq!(node.remote_observations(), Some(12));
    assert_eq!(node.role(now()), Role::Secondary);
    assert!(matches!(node.lock(now()), Lock::Free | Lock::Stale), "a released lock stops nobody");
    let bytes = server.get(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap();
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    assert_eq!(bytes[18..20], [1, 1], "a rollback-journal header");
}

#[test]
fn the_script_on_the_same_machine_finds_nothing_to_push() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.db().add_observations(200).execute("DELETE FROM observations WHERE id % 7 = 3");
    alpha.cmd("push_sqlite").run().assert_code(0);
    let announced = server.get(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap();
    assert!(python_node::snapshot(&alpha.db_path()) == announced, "what it would push is what is there");
}

/// The fields of a JSON object in the bucket, in their order.
fn fields(server: &S3Server, key: &str) -> Vec<String> {
    let text = server.text(key);
    assert!(text.starts_with("{\n  \""), "two-space indent: {text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_objects_of_a_push_have_the_keys_texts_and_shapes_of_the_contract() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    alpha.set("MEMBRIDGE_NODE_ID", "rack/1:alpha");
    alpha.cmd("push_sqlite").run().assert_code(0);

    let keys = server.keys(ROOT);
    let plain: Vec<_> = keys
        .iter()
        .map(|key| key.trim_start_matches(ROOT))
        .filter(|key| !key.starts_with("membridge/commits/") && !key.starts_with("membridge/packs/"))
        .filter(|key| !key.starts_with("membridge/rows/") && !key.starts_with("membridge/nodes/"))
        .filter(|key| !key.starts_with("leadership/audit/"))
        .collect();
    assert_eq!(
        plain,
        [
            "leadership/lease.json",
            "locks/active.lock",
            "membridge/store.json",
            "sqlite/claude-mem.db",
            "sqlite/claude-mem.db.sha256",
            "sqlite/manifest.json"
        ]
    );
    let audits: Vec<_> = keys.iter().filter(|key| key.contains("leadership/audit/")).collect();
    let [audit] = audits.as_slice() else { panic!("one audit record: {audits:?}") };
    assert!(audit.ends_with("Z-rack_1_alpha.json"), "{audit}");
    let stamp =
        audit.trim_start_matches(ROOT).trim_start_matches("leadership/audit/").split('-').next().unwrap();
    assert_eq!(stamp.len(), "20260102T030405Z".len());

    let sha = server.text(&format!("{ROOT}sqlite/claude-mem.db.sha256"));
    let (hex, rest) = sha.split_at(64);
    assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest == "  claude-mem.db\n", "{sha:?}");

    let manifest = fields(&server, &format!("{ROOT}sqlite/manifest.json"));
    let wanted = [
        "project",
        "canonical_id",
        "timestamp",
        "source_host",
        "db_size",
        "sha256",
        "observations",
        "session_summaries",
        "user_prompts",
        "tables",
    ];
    assert_eq!(manifest[..wanted.len()], wanted);
    let text: serde_json::Value =
        serde_json::from_str(&server.text(&format!("{ROOT}sqlite/manifest.json"))).unwrap();
    assert_eq!(text["observations"], 12);
    assert_eq!(text["sha256"], hex);
    assert!(text["timestamp"].as_str().unwrap().ends_with("+00:00"));

    let lock = fields(&server, &format!("{ROOT}locks/active.lock"));
    assert_eq!(lock[..4], ["hostname", "timestamp", "project", "canonical_id"]);
    let lock: serde_json::Value =
        serde_json::from_str(&server.text(&format!("{ROOT}locks/active.lock"))).unwrap();
    assert_eq!((lock["hostname"].as_str(), lock["timestamp"].as_i64()), (Some("alpha"), Some(0)), "released");

    let lease = fields(&server, &format!("{ROOT}leadership/lease.json"));
    let wanted = [
        "canonical_id",
        "primary_node_id",
        "issued_at",
        "expires_at",
        "lease_seconds",
        "epoch",
        "policy",
        "issued_by",
        "needs_ui_selection",
    ];
    assert_eq!(lease[..wanted.len()], wanted);
    let lease: serde_json::Value =
        serde_json::from_str(&server.text(&format!("{ROOT}leadership/lease.json"))).unwrap();
    assert_eq!(lease["policy"], "primary_authoritative");
    assert_eq!((lease["epoch"].as_i64(), lease["needs_ui_selection"].as_bool()), (Some(1), Some(true)));
    let record: serde_json::Value = serde_json::from_str(&server.text(audit)).unwrap();
    assert_eq!(record["event"], "lease_written");
    assert_eq!(record["primary_node_id"], "rack/1:alpha");
}

#[test]
fn a_configured_primary_needs_no_selection_and_makes_others_secondary() {
    let server = S3Server::start();
    let mut beta = machine("beta", &server);
    beta.set("PRIMARY_NODE_ID", "alpha");
    beta.cmd("push_sqlite").run().assert_code(3);
    let lease = server.text(&format!("{ROOT}leadership/lease.json"));
    assert!(
        lease.contains("\"primary_node_id\": \"alpha\"") && !lease.contains("needs_ui_selection"),
        "{lease}"
    );
    beta.cmd("leadership_info")
        .run()
        .assert_code(0)
        .stdout_has("role: secondary")
        .stdout_has("primary: alpha")
        .stdout_has("epoch: 1");
    machine("alpha", &server).cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn the_codes_of_two_machines_that_both_record_are_the_contracts_and_both_have_all() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    beta.db().add_session("beta").add_observations(2);
    beta.cmd("push_sqlite").run().assert_code(3).stdout_has("its rows are shared all the same");
    beta.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(0);
    alpha.db().add_session("alpha").add_observations(3);
    let refused = alpha.cmd("pull_sqlite").run();
    refused.assert_code(2).stdout_has("received: 2 observations").stdout_has("membridge push_sqlite");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    beta.cmd("pull_sqlite").run().assert_code(0);
    for machine in [&alpha, &beta] {
        assert_eq!(claude_mem::counts(machine.db_path()).observations, 17, "{}", machine.name);
    }
    assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()));
}

#[test]
fn a_foreign_lock_is_respected_until_its_ttl_and_grace_are_over() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    let node = PythonNode::new(&server, "mem", "python-host");
    let bucket = python_node::read(&server, "mem").unwrap();

    node.write_lock(now() - 100);
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1);
    let line = refused
        .stdout
        .lines()
        .find(|line| line.contains("LOCK ACTIVE — held by python-host for "))
        .expect("the pinned words");
    let age: i64 = line.split(" for ").nth(1).unwrap().split('s').next().unwrap().parse().unwrap();
    assert!((100..130).contains(&age), "{line}");
    node.write_lock(now() - 7230);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("LOCK ACTIVE — held by python-host")
        .stdout_has("grace");
    assert_eq!(python_node::read(&server, "mem").unwrap(), bucket);
    // A pull takes no lock.
    Machine::new("beta", &server).cmd("pull_sqlite").run().assert_code(0);

    node.write_lock(now() - 7300);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    node.write_lock(now() - 5);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
    // Our own host name in a Python lock is ours.
    PythonNode::new(&server, "mem", "alpha").write_lock(now() - 5);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
}

#[test]
fn a_pull_from_an_empty_bucket_says_so_and_changes_nothing() {
    let server = S3Server::start();
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(1).stdout_has("nothing to pull").stdout_has("mem");
    assert!(!beta.db_path().exists());
    let gamma = machine("gamma", &server);
    let before = rows(&gamma.db_path());
    gamma.cmd("pull_sqlite").run().assert_code(1);
    assert_eq!(rows(&gamma.db_path()), before);
    assert!(backups(&gamma).is_empty() && server.keys("").is_empty());
}
