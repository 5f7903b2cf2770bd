//! `--dry-run` says what push, pull and sync would do, with their exit codes, and changes nothing anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

use super::history_commands::commit;
use crate::support::claude_mem::{MemDb, Version};
use crate::support::machine::{Machine, Store};
use crate::support::process::Outcome;
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::S3Server;

/// Everything that a run could change: files with content, mode and time, and objects with their etags.
fn everything(machine: &Machine, server: &S3Server) -> BTreeMap<String, String> {
    let files = machine.files().into_iter().map(|name| {
        let path = machine.path(&name);
        let meta = std::fs::metadata(&path).unwrap();
        let content = Sha256::digest(std::fs::read(&path).unwrap());
        // SQLite's index of a log that is there already counts its readers.
        let time = if name.ends_with("-shm") {
            (0, 0)
        } else {
            (meta.mtime(), meta.mtime_nsec())
        };
        let text = format!("{content:x?} {:o} {time:?}", meta.mode());
        (name, text)
    });
    let objects = server.keys("").into_iter().map(|key| {
        let etag = server.etag(&key).unwrap();
        (format!("s3:{key}"), etag)
    });
    files.chain(objects).collect()
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
    assert_eq!(
        before, after,
        "{command} --dry-run changed something\n{outcome:?}"
    );
    outcome
}

#[test]
fn a_dry_run_on_a_fresh_machine_and_an_empty_bucket() {
    let server = S3Server::start();
    let empty = Machine::new("empty", &server);
    dry(&empty, &server, "push_sqlite").assert_code(1);
    dry(&empty, &server, "pull_sqlite")
        .assert_code(1)
        .stdout_has("nothing to pull");
    dry(&empty, &server, "sync").assert_code(0);

    let alpha = Machine::new("alpha", &server);
    alpha
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(20);
    dry(&alpha, &server, "push_sqlite")
        .assert_code(0)
        .stdout_has("no lease yet")
        .stdout_has("DRY RUN: would upload: 20 observations");
    dry(&alpha, &server, "sync")
        .assert_code(0)
        .stdout_has("DRY RUN: would upload: 20 observations");
}

#[test]
fn a_dry_run_says_what_the_real_run_then_does() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(20);
    alpha.cmd("push_sqlite").run().assert_code(0);
    dry(&alpha, &server, "push_sqlite")
        .assert_code(0)
        .stdout_has("already up to date");
    dry(&alpha, &server, "pull_sqlite")
        .assert_code(0)
        .stdout_has("already up to date");

    let beta = Machine::new("beta", &server);
    dry(&beta, &server, "pull_sqlite")
        .assert_code(0)
        .stdout_has("DRY RUN: would install")
        .stdout_has("20 observations, pushed by alpha");
    beta.cmd("pull_sqlite").run().assert_code(0);

    db.add_observations(5);
    dry(&alpha, &server, "pull_sqlite")
        .assert_code(0)
        .stdout_has("nothing to pull");
    dry(&alpha, &server, "push_sqlite")
        .assert_code(0)
        .stdout_has("would upload: 25 observations");
    alpha.cmd("push_sqlite").run().assert_code(0);
    dry(&beta, &server, "push_sqlite")
        .assert_code(3)
        .stdout_has("push refused");
    dry(&beta, &server, "sync")
        .assert_code(0)
        .stdout_has("would back up")
        .stdout_has("replace it by 25 observations");
    let json = dry(&beta, &server, "--json pull_sqlite").json();
    assert_eq!(json["outcome"], "would_pull");
    assert_eq!(json["dry_run"], true);
    beta.cmd("pull_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("SYNC COMPLETE");
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
    dry(&beta, &server, "push_sqlite")
        .assert_code(3)
        .stdout_has("gamma is primary");

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
    alpha
        .create_db(Version::V13_25_3)
        .add_session("a")
        .add_observations(10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V13_25_3)
        .add_session("b")
        .add_observations(10);
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
    dry(&alpha, &server, "pull_sqlite")
        .assert_code(2)
        .stdout_has("pull refused");
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
    dry(&alpha, &server, &format!("restore head --to {file}"))
        .assert_code(0)
        .stdout_has("25 observations");
    dry(&alpha, &server, "restore-backup 20200101-000000").assert_code(1);
    alpha
        .cmd("restore 1")
        .run()
        .assert_code(0)
        .stdout_has("RESTORE COMPLETE");
    let backups = alpha.cmd("--json restore-backup").run().json();
    let name = backups["backups"][0]["name"].as_str().unwrap().to_owned();
    dry(&alpha, &server, &format!("restore-backup {name}"))
        .assert_code(0)
        .stdout_has("25 observations");
}
