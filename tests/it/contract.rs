//! What Python nodes and people's habits depend on, from the outside: what Python nodes wrote is taken over, and what
//! we write is what they read; names, words, numbers and orders that people and scripts depend on.

use crate::common::{backups, rows};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{self, Lock, PythonNode, Role, Stop};
use crate::support::s3::S3Server;

const ROOT: &str = "projects/6fe2e0f6071ac2bb/";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn machine(name: &str, server: &S3Server) -> Machine {
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
    beta.cmd("pull_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("SYNC COMPLETE");
    assert_eq!(rows(&beta.db_path()), rows(&python.db_path()));
    // And a second machine that has the older half of it.
    let gamma = Machine::new("gamma", &server);
    gamma.cmd("pull_sqlite").run().assert_code(0);
    python.db().add_observations(4);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), now(), Stop::Never);
    PythonNode::new(&server, "mem", "python").write_lease("python", 1, now(), false);
    gamma
        .cmd("pull_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("SYNC COMPLETE");
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
        alpha
            .cmd("push_sqlite")
            .run()
            .assert_code(0)
            .stdout_has("PUSH COMPLETE");
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
    assert!(
        matches!(node.lock(now()), Lock::Free | Lock::Stale),
        "a released lock stops nobody"
    );
    let bytes = server
        .get(&python_node::key("mem", "sqlite/claude-mem.db"))
        .unwrap();
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    assert_eq!(bytes[18..20], [1, 1], "a rollback-journal header");
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
        .filter(|key| !key.starts_with("leadership/audit/"))
        .collect();
    assert_eq!(
        plain,
        [
            "leadership/lease.json",
            "locks/active.lock",
            "sqlite/claude-mem.db",
            "sqlite/claude-mem.db.sha256",
            "sqlite/manifest.json"
        ]
    );
    let audits: Vec<_> = keys
        .iter()
        .filter(|key| key.contains("leadership/audit/"))
        .collect();
    let [audit] = audits.as_slice() else {
        panic!("one audit record: {audits:?}")
    };
    assert!(audit.ends_with("Z-rack_1_alpha.json"), "{audit}");
    let stamp = audit
        .trim_start_matches(ROOT)
        .trim_start_matches("leadership/audit/")
        .split('-')
        .next()
        .unwrap();
    assert_eq!(stamp.len(), "20260102T030405Z".len());

    let sha = server.text(&format!("{ROOT}sqlite/claude-mem.db.sha256"));
    let (hex, rest) = sha.split_at(64);
    assert!(
        hex.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest == "  claude-mem.db\n",
        "{sha:?}"
    );

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
    assert_eq!(
        (lock["hostname"].as_str(), lock["timestamp"].as_i64()),
        (Some("alpha"), Some(0)),
        "released"
    );

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
    assert_eq!(
        (lease["epoch"].as_i64(), lease["needs_ui_selection"].as_bool()),
        (Some(1), Some(true))
    );
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
    let age: i64 = line
        .split(" for ")
        .nth(1)
        .unwrap()
        .split('s')
        .next()
        .unwrap()
        .parse()
        .unwrap();
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
    Machine::new("beta", &server)
        .cmd("pull_sqlite")
        .run()
        .assert_code(0);

    node.write_lock(now() - 7300);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("PUSH COMPLETE");
    node.write_lock(now() - 5);
    alpha.db().add_observations(1);
    alpha
        .cmd("push_sqlite")
        .env("FORCE_PUSH", "1")
        .run()
        .assert_code(0)
        .stdout_has("PUSH COMPLETE");
    // Our own host name in a Python lock is ours.
    PythonNode::new(&server, "mem", "alpha").write_lock(now() - 5);
    alpha.db().add_observations(1);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("PUSH COMPLETE");
}

#[test]
fn the_first_missing_variable_is_named_in_the_order_of_the_contract() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let all = [
        "MINIO_ENDPOINT",
        "MINIO_ACCESS_KEY",
        "MINIO_SECRET_KEY",
        "MINIO_BUCKET",
        "CLAUDE_PROJECT_ID",
        "CLAUDE_MEM_DB",
    ];
    for name in all.iter().rev() {
        // Set but empty counts as unset.
        alpha.set(name, "");
        for command in ["push_sqlite", "pull_sqlite", "leadership_info", "sync"] {
            let out = alpha.cmd(command).run();
            out.assert_code(1);
            assert_eq!(
                out.stdout.lines().next(),
                Some(format!("ERROR: {name} not set").as_str()),
                "{out:?}"
            );
        }
    }
}

#[test]
fn print_project_needs_the_name_only() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    alpha
        .unset("MINIO_ENDPOINT")
        .set("CLAUDE_PROJECT_ID", "сад")
        .set("CLAUDE_CANONICAL_PROJECT_ID", "ffff");
    let out = alpha.cmd("print_project").run();
    out.assert_code(0);
    assert_eq!(
        out.stdout,
        "project_name: сад\ncanonical_project_id: e4b16ee4be9e8cde\n"
    );
    for name in ["it's \"quoted\" $(x) `y`", "a\\b", "-n"] {
        let out = alpha.cmd("print-project").env("CLAUDE_PROJECT_ID", name).run();
        out.assert_code(0).stdout_has(&format!("project_name: {name}\n"));
    }
}

#[test]
fn bad_usage_is_exit_1_and_help_is_exit_0() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    for words in ["", "nonsense", "push_sqlite --nonsense", "push_sqlite extra"] {
        alpha.cmd(words).run().assert_code(1);
    }
    for words in ["--help", "--version", "push_sqlite --help"] {
        alpha.cmd(words).run().assert_code(0);
    }
}

#[test]
fn settings_come_from_flag_environment_file_default_in_this_order() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let id = |out: crate::support::process::Outcome| {
        out.assert_code(0)
            .stdout
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("project_name: ")
            .to_owned()
    };
    alpha.write(
        ".claude-mem-minio/config.env",
        "# my machine\nexport CLAUDE_PROJECT_ID=\"from file\"\n",
    );
    assert_eq!(id(alpha.cmd("print_project").run()), "mem");
    alpha.unset("CLAUDE_PROJECT_ID");
    assert_eq!(id(alpha.cmd("print_project").run()), "from file");
    assert_eq!(
        id(alpha
            .cmd("print_project --project flag")
            .env("CLAUDE_PROJECT_ID", "env")
            .run()),
        "flag"
    );
    let other = alpha.write("other.env", "CLAUDE_PROJECT_ID=other");
    assert_eq!(
        id(alpha
            .cmd("print_project")
            .env("MEMBRIDGE_CONFIG_ENV", &other)
            .run()),
        "other"
    );
    let third = alpha.write("dir/config.env", "CLAUDE_PROJECT_ID=third");
    assert_eq!(
        id(alpha
            .cmd("print_project")
            .env("MEMBRIDGE_DIR", third.parent().unwrap())
            .run()),
        "third"
    );
    assert_eq!(
        id(alpha
            .cmd("print_project")
            .arg("--config")
            .arg(&third)
            .env("MEMBRIDGE_CONFIG_ENV", &other)
            .run()),
        "third"
    );
    // The shipped example holds $HOME unexpanded.
    alpha.unset("CLAUDE_MEM_DB");
    alpha.write(
        ".claude-mem-minio/config.env",
        "CLAUDE_PROJECT_ID=mem\nCLAUDE_MEM_DB=$HOME/.claude-mem/claude-mem.db\n",
    );
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.write(
        ".claude-mem-minio/config.env",
        "CLAUDE_PROJECT_ID=mem\n\nCLAUDE_MEM_DB=$(echo /tmp/x)\n",
    );
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("config.env line 3")
        .stdout_has("command substitution");
    alpha
        .cmd("push_sqlite")
        .env("MEMBRIDGE_CONFIG_ENV", "/nonexistent/x.env")
        .run()
        .assert_code(1)
        .stdout_has("/nonexistent/x.env");
}

#[test]
fn bad_values_name_their_variable() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    let table = [
        ("LOCK_TTL_SECONDS", "two hours"),
        ("LOCK_TTL_SECONDS", "0"),
        ("LOCK_TTL_SECONDS", "99999999999999999999"),
        ("STALE_LOCK_GRACE_SECONDS", "-1"),
        ("LEADERSHIP_LEASE_SECONDS", "1.5"),
        ("PULL_BACKUP_MAX_DAYS", "x"),
        ("PULL_BACKUP_MAX_COUNT", "0"),
        ("CLAUDE_MEM_WORKER_PORT", "70000"),
        ("FORCE_PUSH", "maybe"),
        ("LEADERSHIP_ENABLED", "2"),
        ("ALLOW_SECONDARY_PUSH", "ja"),
        ("MINIO_ENDPOINT", "ftp://x"),
        ("MINIO_ENDPOINT", "https://"),
        ("MINIO_ENDPOINT", "file://relative"),
        ("CLAUDE_MEM_DB", "/"),
    ];
    for (name, value) in table {
        let out = alpha.cmd("push_sqlite").env(name, value).run();
        out.assert_code(1).stdout_has(&format!("ERROR: {name}='{value}'"));
    }
    for yes in ["1", "true", "YES", "On"] {
        alpha
            .cmd("push_sqlite")
            .env("FORCE_PUSH", yes)
            .run()
            .assert_code(0);
    }
    let bytes: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff, 0xfe]);
    alpha
        .cmd("push_sqlite")
        .env("CLAUDE_PROJECT_ID", bytes)
        .run()
        .assert_code(1)
        .stdout_has("CLAUDE_PROJECT_ID")
        .stdout_has("UTF-8");
}

#[test]
fn a_pull_from_an_empty_bucket_says_so_and_changes_nothing() {
    let server = S3Server::start();
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("nothing to pull")
        .stdout_has("mem");
    assert!(!beta.db_path().exists());
    let gamma = machine("gamma", &server);
    let before = rows(&gamma.db_path());
    gamma.cmd("pull_sqlite").run().assert_code(1);
    assert_eq!(rows(&gamma.db_path()), before);
    assert!(backups(&gamma).is_empty() && server.keys("").is_empty());
}

#[test]
fn secrets_are_in_no_output() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server);
    let secret = "sEcReT-very-long-0123456789";
    alpha.set("MINIO_SECRET_KEY", secret);
    for command in [
        "push_sqlite",
        "pull_sqlite",
        "doctor",
        "leadership_info",
        "push_sqlite --json",
    ] {
        let out = alpha.cmd(command).env("MEMBRIDGE_LOG", "trace").run();
        out.never_says(secret);
    }
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("SignatureDoesNotMatch")
        .stdout_has("MINIO_SECRET_KEY");
    alpha
        .cmd("push_sqlite")
        .env("MINIO_ACCESS_KEY", "nobody")
        .run()
        .assert_code(1)
        .stdout_has("InvalidAccessKeyId");
}
