//! A head that did not grow out of the last sync: a bucket that was emptied or filled anew, a Python node that pushed
//! from an old copy, objects that nobody announces. "Nothing changed here" is then no reason to take it.

use crate::common::{COMMITS, now, rows, titles_anywhere};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::python_node::{self, PythonNode, Stop};
use crate::support::s3::{Handle, S3Server};

/// A machine without roles: nothing but the rows decides.
pub(super) fn bare(name: &str, server: &S3Server) -> Machine {
    let mut machine = Machine::new(name, server);
    machine.set("LEADERSHIP_ENABLED", "0");
    machine
}

/// The same with a memory of its own.
pub(super) fn machine(name: &str, server: &S3Server, observations: usize) -> Machine {
    let machine = bare(name, server);
    machine.create_db(Version::V13_25_3).add_session(name).add_observations(observations);
    machine
}

pub(super) fn push(machine: &Machine) -> Outcome {
    let outcome = machine.cmd("push_sqlite").run();
    outcome.assert_code(0);
    outcome
}

/// Until there is nothing more to say: the files are known to be as they were.
pub(super) fn settle(machine: &Machine) {
    for _ in 0..2 {
        push(machine).stdout_has("already up to date");
    }
}

fn empty(server: &S3Server) {
    for key in server.keys("projects/") {
        server.remove(&key);
    }
}

/// The observations of a kept commit.
pub(super) fn restored(machine: &Machine, number: u64) -> Vec<String> {
    let file = machine.path(&format!("commit-{number}.db"));
    machine.cmd(&format!("restore {number} --to")).arg(&file).run().assert_code(0);
    claude_mem::titles(&file)
}

/// A Python node's three objects, without its lock: it began before ours was taken by force.
pub(super) fn python_writes(server: &Handle, database: &std::path::Path, stop: Stop) {
    let lock = server.get(&python_node::key("mem", "locks/active.lock"));
    PythonNode::new(server, "mem", "beta").write(database, now(), stop);
    match lock {
        Some(lock) => server.put(&python_node::key("mem", "locks/active.lock"), lock),
        None => drop(server.remove(&python_node::key("mem", "locks/active.lock"))),
    }
}

#[test]
fn an_emptied_bucket_gets_everything_again() {
    for command in ["push_sqlite", "push_sqlite --background", "sync"] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        settle(&alpha);
        empty(&server);
        alpha.cmd(command).run().assert_code(0).stdout_has("PUSH COMPLETE");
        assert_eq!(restored(&alpha, 1).len(), 10, "{command}");
    }
}

#[test]
fn what_others_put_into_an_emptied_bucket_does_not_replace_a_larger_memory() {
    // With fewer pushes than before, with as many, and with more.
    for pushes in [1, 2, 4] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        alpha.db().add_observations(1);
        push(&alpha).stdout_has("commit 2");
        settle(&alpha);
        empty(&server);
        let beta = machine("beta", &server, 2);
        push(&beta);
        for _ in 1..pushes {
            beta.db().add_observations(1);
            push(&beta);
        }
        let before = rows(&alpha.db_path());
        for command in ["pull_sqlite", "push_sqlite", "push_sqlite --background", "sync"] {
            alpha
                .cmd(command)
                .run()
                .assert_code(4)
                .stdout_has("only here: 11 observations")
                .stdout_has("only there:");
            assert_eq!(rows(&alpha.db_path()), before, "{command}, {pushes} pushes");
        }
    }
}

#[test]
fn a_python_push_from_an_old_copy_does_not_take_rows_away() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    // A Python node takes the copy, and does not see what a hook pushes behind it.
    let python = PythonNode::new(&server, "mem", "beta");
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("claude-mem.db");
    std::fs::write(&theirs, python.read().unwrap()).unwrap();
    alpha.db().add_observations(5);
    alpha.cmd("push_sqlite --background").run().assert_code(0);
    claude_mem::MemDb::open(&theirs, "beta").add_session("theirs").add_observations(1);
    python_writes(&server, &theirs, Stop::Never);

    let before = rows(&alpha.db_path());
    for command in ["pull_sqlite", "push_sqlite", "sync"] {
        alpha
            .cmd(command)
            .run()
            .assert_code(4)
            .stdout_has("only here: 5 observations")
            .stdout_has("only there: 1 observations");
        assert_eq!(rows(&alpha.db_path()), before, "{command}");
    }
    // Where the Python node has everything of ours, its push is taken as it always was.
    let gamma = bare("gamma", &server);
    gamma.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(claude_mem::titles(gamma.db_path()).len(), 11);
}

#[test]
fn a_push_on_top_of_such_a_python_push_does_not_take_them_away_either() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    let gamma = bare("gamma", &server);
    gamma.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_observations(5);
    push(&alpha).stdout_has("commit 2");
    settle(&alpha);
    // A Python node has the first ten and one of its own; gamma takes its push, and pushes on top of it.
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("claude-mem.db");
    std::fs::copy(gamma.db_path(), &theirs).unwrap();
    claude_mem::MemDb::open(&theirs, "beta").add_session("theirs").add_observations(1);
    python_writes(&server, &theirs, Stop::Never);
    gamma.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    gamma.db().add_observations(1);
    push(&gamma).stdout_has("commit 4");
    let before = rows(&alpha.db_path());
    alpha.cmd("pull_sqlite").run().assert_code(4).stdout_has("only here: 5 observations");
    assert_eq!(rows(&alpha.db_path()), before);
    assert_eq!(restored(&alpha, 2).len(), 15, "and the bucket has them still");
}

#[test]
fn a_python_push_that_only_changed_contents_is_taken() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    settle(&alpha);
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("claude-mem.db");
    std::fs::write(&theirs, python_node::read(&server, "mem").unwrap()).unwrap();
    let there = rusqlite::Connection::open(&theirs).unwrap();
    there.execute("UPDATE sdk_sessions SET status = 'completed'", []).unwrap();
    drop(there);
    python_writes(&server, &theirs, Stop::Never);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("the bucket is ahead");
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(
        claude_mem::dump(alpha.db_path(), "SELECT DISTINCT status FROM sdk_sessions"),
        claude_mem::dump(&theirs, "SELECT DISTINCT status FROM sdk_sessions")
    );
}

#[test]
fn a_database_that_nobody_announces_is_not_overlooked() {
    let server = S3Server::start();
    let beta = machine("beta", &server, 6);
    python_writes(&server, &beta.db_path(), Stop::AfterDb);
    let alpha = machine("alpha", &server, 3);
    let fresh = bare("fresh", &server);
    for machine in [&alpha, &fresh] {
        machine.cmd("pull_sqlite").run().assert_code(1).stdout_has("nothing announces it");
    }
    alpha.cmd("push_sqlite").run().assert_code(4).stdout_has("only there: 6 observations");
    alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0);
    assert_eq!(restored(&alpha, 1), claude_mem::titles(beta.db_path()));
    assert_eq!(restored(&alpha, 2).len(), 3);
}

#[test]
fn f21_a_copy_that_was_cut_off_is_not_taken_for_a_python_push() {
    for failpoint in ["mirror.database", "mirror.checksum"] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        alpha.db().add_observations(5);
        alpha.cmd("push_sqlite --background").run().assert_code(0);
        alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", failpoint).run().assert_code(128 + 9);
        server.set_clock_offset(7200 + 60 + 30);
        push(&alpha);
        let beta = Machine::new("beta", &server);
        std::fs::write(
            beta.write("seen.db", ""),
            python_node::read(&server, "mem").expect("the copy is whole again"),
        )
        .unwrap();
        assert_eq!(claude_mem::titles(beta.path("seen.db")).len(), 15, "{failpoint}");
        assert_eq!(server.keys(COMMITS).len(), 2, "{failpoint}: nothing was adopted");
    }
}

#[test]
fn f21_a_copy_that_somebody_half_overwrote_is_written_again_and_kept() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    settle(&alpha);
    let beta = machine("beta", &server, 7);
    python_writes(&server, &beta.db_path(), Stop::AfterDb);
    alpha
        .cmd("push_sqlite --dry-run")
        .run()
        .assert_code(0)
        .stdout_has("would bring the copy for Python nodes up to date");
    push(&alpha).stdout_has("is kept as");
    assert_eq!(python_node::read(&server, "mem").map(drop), Ok(()));
    let kept = server.keys("projects/6fe2e0f6071ac2bb/membridge/overwritten/");
    assert_eq!(kept.len(), 1);
    assert_eq!(server.get(&kept[0]).unwrap(), python_node::snapshot(&beta.db_path()));
    // The announcements gone: they come again.
    for name in ["sqlite/claude-mem.db.sha256", "sqlite/manifest.json"] {
        server.remove(&python_node::key("mem", name));
    }
    push(&alpha);
    assert_eq!(python_node::read(&server, "mem").map(drop), Ok(()));
}

#[test]
fn a_secondary_that_must_give_way_keeps_its_rows_in_a_backup() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server, 10);
    push(&alpha);
    settle(&alpha);
    empty(&server);
    let mut beta = machine("beta", &server, 2);
    beta.set("LEADERSHIP_ENABLED", "1");
    push(&beta);
    alpha.set("LEADERSHIP_ENABLED", "1");
    let mine = claude_mem::titles(alpha.db_path());
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("restore-backup");
    let everywhere = titles_anywhere(&alpha);
    assert!(mine.iter().all(|title| everywhere.contains(title)));
}
