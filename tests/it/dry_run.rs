//! `--dry-run` says what push, pull and sync would do, with their exit codes, and changes nothing anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::history_commands::commit;
use crate::support::claude_mem::{MemDb, Version};
use crate::support::machine::{Machine, Store};
use crate::support::process::Outcome;
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::{Op, S3Server};

/// Everything that a run could change: files with content, mode and time, folders (but the one for temporary files)
/// with theirs, and objects with their etags.
fn everything(machine: &Machine, server: &S3Server) -> BTreeMap<String, String> {
    let mut all = tree(machine.home());
    let objects = server.keys("").into_iter().map(|key| {
        let etag = server.etag(&key).unwrap();
        (format!("s3:{key}"), etag)
    });
    all.extend(objects);
    all
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let content = if meta.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else {
            format!("{:x?}", Sha256::digest(std::fs::read(&path).unwrap()))
        };
        // SQLite's index of a log that is there already counts its readers.
        let time =
            if name.ends_with("-shm") || name == "tmp" { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        found.insert(name, format!("{content} {:o} {time:?}", meta.mode()));
    }
    found
}

/// Runs the command and proves that it read only.
#[track_caller]
fn dry(machine: &Machine, server: &S3Server, command: &str) -> Outcome {
    let before = everything(machine, server);
    server.reset_log();
    let outcome = machine.cmd(command).arg("--dry-run").run();
    for request in server.requests() {
        let reads = !request.op.writes();
        assert!(reads, "{command} --dry-run sent {request:?}\n{outcome:?}");
    }
    let after = everything(machine, server);
    assert_eq!(before, after, "{command} --dry-run changed something\n{outcome:?}");
    outcome
}

#[test]
fn a_dry_run_on_a_fresh_machine_and_an_empty_bucket() {
    let server = S3Server::start();
    let empty = Machine::new("empty", &server);
    dry(&empty, &server, "push_sqlite").assert_code(1);
    dry(&empty, &server, "pull_sqlite").assert_code(1).stdout_has("nothing to pull");
    dry(&empty, &server, "sync").assert_code(0);

    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20);
    dry(&alpha, &server, "push_sqlite")
        .assert_code(0)
        .stdout_has("no lease yet")
        .stdout_has("DRY RUN: would upload: 20 observations");
    dry(&alpha, &server, "sync").assert_code(0).stdout_has("DRY RUN: would upload: 20 observations");
}

#[test]
fn a_dry_run_says_what_the_real_run_then_does() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(20);
    alpha.cmd("push_sqlite").run().assert_code(0);
    dry(&alpha, &server, "push_sqlite").assert_code(0).stdout_has("already up to date");
    dry(&alpha, &server, "pull_sqlite").assert_code(0).stdout_has("already up to date");

    let beta = Machine::new("beta", &server);
    dry(&beta, &server, "pull_sqlite")
        .assert_code(0)
        .stdout_has("DRY RUN: would install")
        .stdout_has("20 observations, pushed by alpha");
    beta.cmd("pull_sqlite").run().assert_code(0);

    db.add_observations(5);
    dry(&alpha, &server, "pull_sqlite").assert_code(0).stdout_has("nothing to pull");
    dry(&alpha, &server, "push_sqlite").assert_code(0).stdout_has("would upload: 25 observations");
    alpha.cmd("push_sqlite").run().assert_code(0);
    dry(&beta, &server, "push_sqlite").assert_code(3).stdout_has("push refused");
    dry(&beta, &server, "sync")
        .assert_code(0)
        .stdout_has("would back up")
        .stdout_has("replace it by 25 observations");
    let json = dry(&beta, &server, "--json pull_sqlite").json();
    assert_eq!(json["outcome"], "would_pull");
    assert_eq!(json["dry_run"], true);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
}

#[test]
fn a_shadow_run_beside_python_compares_the_rows_and_names_its_lock() {
    let server = S3Server::start();
    let beta = Machine::new("beta", &server);
    let db = beta.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(10);
    // A Python node pushed the same ten rows and five more, and its lock is still there.
    let folder = tempfile::tempdir().unwrap();
    let theirs = MemDb::create_as(folder.path().join("claude-mem.db"), Version::V13_25_3, "beta");
    theirs.add_session("one").add_observations(15);
    let now = jiff::Timestamp::now().as_second();
    let gamma = PythonNode::new(&server, "mem", "gamma");
    assert_eq!(gamma.push(theirs.path(), now), 0);
    dry(&beta, &server, "pull_sqlite")
        .assert_code(0)
        .stdout_has("compared row by row")
        .stdout_has("would back up");
    dry(&beta, &server, "push_sqlite").assert_code(3).stdout_has("gamma is primary");

    // Everything of gamma's is here too, and more: a push would have to wait for gamma's lock.
    db.add_observations(10);
    let outcome = dry(&beta, &server, "--allow-secondary-push push_sqlite");
    outcome.assert_code(1).stdout_has("LOCK ACTIVE — held by gamma");
    assert!(gamma.read().is_ok());
}

#[test]
fn a_dry_run_refuses_with_the_exit_codes_of_the_real_run() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("a").add_observations(10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V13_25_3).add_session("b").add_observations(10);
    beta.cmd("push_sqlite")
        .env("ALLOW_SECONDARY_PUSH", "1")
        .arg("--dry-run")
        .run()
        .assert_code(4)
        .stdout_has("diverged");
    // A primary whose rows are not what the bucket holds is not overwritten.
    let node = PythonNode::new(&server, "mem", "gamma");
    let now = jiff::Timestamp::now().as_second();
    node.write(beta.db_path().as_path(), now, python_node::Stop::Never);
    dry(&alpha, &server, "pull_sqlite").assert_code(2).stdout_has("pull refused");
}

#[test]
fn a_dry_run_of_a_restore_names_the_push_and_the_backup() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(20);
    commit(&alpha, &Store::from(&server), "2026-01-01T00:00:00Z");
    db.add_observations(5);
    commit(&alpha, &Store::from(&server), "2026-01-02T00:00:00Z");
    dry(&alpha, &server, "restore 1")
        .assert_code(0)
        .stdout_has("DRY RUN: would back up")
        .stdout_has("commit 1 of")
        .stdout_has("20 observations");
    dry(&alpha, &server, "restore 7").assert_code(1);
    let file = alpha.path("old.db").display().to_string();
    dry(&alpha, &server, &format!("restore head --to {file}")).assert_code(0).stdout_has("25 observations");
    dry(&alpha, &server, "restore-backup 20200101-000000").assert_code(1);
    alpha.cmd("restore 1").run().assert_code(0).stdout_has("RESTORE COMPLETE");
    let backups = alpha.cmd("--json restore-backup").run().json();
    let name = backups["backups"][0]["name"].as_str().unwrap().to_owned();
    dry(&alpha, &server, &format!("restore-backup {name}")).assert_code(0).stdout_has("25 observations");
}

/// A machine with the plugin of an old claude-mem, which knows no schema above 23.
fn with_an_old_claude_mem(name: &str, server: &S3Server) -> Machine {
    let machine = Machine::new(name, server);
    machine.write(
        ".claude/plugins/cache/thedotmack/claude-mem/10.6.3/package.json",
        "{\"version\": \"10.6.3\"}",
    );
    machine.write(".claude/plugins/cache/thedotmack/claude-mem/10.6.3/scripts/worker-service.cjs", "");
    machine
}

#[test]
fn f44_a_dry_run_says_that_the_schema_is_too_new() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20);
    commit(&alpha, &Store::from(&server), "2026-01-01T00:00:00Z");
    let refused = |outcome: &Outcome| {
        outcome
            .assert_code(1)
            .stdout_has("schema 52")
            .stdout_has("update claude-mem")
            .stdout_lacks("DRY RUN");
    };
    // Without a database of its own: the plugin says how far it has come, and the push its schema.
    let beta = with_an_old_claude_mem("beta", &server);
    for command in ["pull_sqlite", "sync", "restore 1"] {
        refused(&dry(&beta, &server, command));
        assert_eq!(server.count(Op::GetObject, "packs/"), 0, "downloaded for {command}");
    }
    // What is written into a file endangers no claude-mem.
    let file = beta.path("old.db").display().to_string();
    dry(&beta, &server, &format!("restore 1 --to {file}")).assert_code(0);

    // A Python node says no schema: its database is asked, and leaves nothing behind.
    let server = S3Server::start();
    PythonNode::new(&server, "mem", "gamma").write(&alpha.db_path(), 1, python_node::Stop::Never);
    let mut beta = with_an_old_claude_mem("beta", &server);
    refused(&dry(&beta, &server, "pull_sqlite"));
    assert!(!beta.path(".claude-mem").exists());
    beta.create_db(Version::V10_6_3).add_session("old").add_observations(3);
    beta.set("ALLOW_PRIMARY_PULL_OVERRIDE", "1");
    refused(&dry(&beta, &server, "pull_sqlite"));
    // As the real run.
    refused(&beta.cmd("pull_sqlite").run());
}

#[test]
fn a_dry_run_leaves_a_directory_store_alone() {
    let folder = tempfile::tempdir().unwrap();
    let alpha = Machine::new("alpha", folder.path());
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(20);
    let still = |command: &str, code: i32| {
        let before = (tree(folder.path()), tree(alpha.home()));
        let outcome = alpha.cmd(command).arg("--dry-run").run();
        outcome.assert_code(code);
        assert_eq!((tree(folder.path()), tree(alpha.home())), before, "{outcome:?}");
    };
    still("push_sqlite", 0);
    still("pull_sqlite", 1);
    still("sync", 0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    db.add_observations(3);
    for command in ["push_sqlite", "pull_sqlite", "sync", "restore 1"] {
        still(command, 0);
    }
}
