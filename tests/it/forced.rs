//! Forced pushes: what they mend, what they keep of that which they go over, and what even they do not overrule.

use crate::common::{COMMITS, bare, machine, memory, push, python_writes, restored, rows, settle};
use crate::support::claude_mem;
use crate::support::python_node::{self, Stop};
use crate::support::s3::{Fault, Op, S3Server};

#[test]
fn a_forced_push_mends_what_is_damaged_although_nothing_changed() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    alpha.db().add_observations(1);
    push(&alpha);
    for key in server.keys("projects/6fe2e0f6071ac2bb/membridge/packs/") {
        server.put(&key, b"damaged");
    }
    server.put(&python_node::key("mem", "sqlite/claude-mem.db.sha256"), b"");
    let damaged = alpha.cmd("verify").run();
    damaged.assert_code(1).stdout_has("FORCE_PUSH=1 membridge push_sqlite");
    alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
    alpha.cmd("verify").run().assert_code(0);
    assert_eq!(python_node::read(&server, "mem").map(drop), Ok(()));
    let beta = bare("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
}

#[test]
fn a_forced_push_never_overrules_a_store_that_does_not_answer() {
    for (fault, key) in
        [(Fault::SlowDown, "manifest.json"), (Fault::Status(403, "AccessDenied"), "claude-mem.db.sha256")]
    {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        let beta = machine("beta", &server, 7);
        python_writes(&server, &beta.db_path(), Stop::Never);
        let before = server.keys(COMMITS);
        let guard = server.fault(fault.clone().on(Op::GetObject).key(key));
        alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(1);
        drop(guard);
        assert_eq!(server.keys(COMMITS), before, "{fault:?} {key}");
        let there = python_node::read(&server, "mem").unwrap();
        assert_eq!(there, python_node::snapshot(&beta.db_path()), "{fault:?} {key}");
    }
}

#[test]
fn a_forced_push_over_announcements_that_cannot_be_read_keeps_what_they_spoke_of() {
    for (key, text) in [
        ("sqlite/manifest.json", "{\"sha256\": 5"),
        ("sqlite/claude-mem.db.sha256", ""),
        ("sqlite/claude-mem.db.sha256", "<html>"),
    ] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        let beta = machine("beta", &server, 7);
        python_writes(&server, &beta.db_path(), Stop::Never);
        server.put(&python_node::key("mem", key), text);
        alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
        assert_eq!(restored(&alpha, 2), claude_mem::titles(beta.db_path()), "{key} {text}");
        let newest = restored(&alpha, 3);
        assert!(
            claude_mem::titles(alpha.db_path()).iter().all(|title| newest.contains(title)),
            "{key} {text}"
        );
        // Our own copy under broken words is no push of anybody.
        server.put(&python_node::key("mem", key), text);
        alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("commit 4");
    }
}

#[test]
fn f47_a_python_push_in_the_middle_of_a_forced_one_is_left_for_the_next() {
    for failpoint in ["push.before-upload", "history.pack-sent", "history.committed"] {
        let server = S3Server::start();
        let alpha = machine("alpha", &server, 10);
        push(&alpha);
        let beta = bare("beta", &server);
        beta.cmd("pull_sqlite").run().assert_code(0);
        beta.db().add_session("theirs").add_observations(7);
        alpha.db().add_observations(1);
        let forced = alpha
            .cmd("push_sqlite")
            .env("FORCE_PUSH", "1")
            .env("MEMBRIDGE_FAILPOINT", format!("{failpoint}=stop"))
            .spawn();
        forced.wait_stopped();
        python_writes(&server, &beta.db_path(), Stop::Never);
        forced.sigcont();
        forced.wait();
        assert_eq!(
            python_node::read(&server, "mem").unwrap(),
            python_node::snapshot(&beta.db_path()),
            "{failpoint}"
        );
        // The next one makes a commit of it before anything goes over it.
        alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0);
        assert_eq!(restored(&alpha, 3).len(), 17, "{failpoint}");
    }
}

#[test]
fn a_damaged_newest_commit_is_mended_as_its_hint_says() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    alpha.db().add_observations(1);
    push(&alpha);
    let newest = server.keys(COMMITS).pop().unwrap();
    server.put(&newest, "{");
    alpha.cmd("push_sqlite").run().assert_code(1).stdout_has(&format!("move {newest} away"));
    alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(1).stdout_lacks("overwritten");
    server.remove(&newest);
    push(&alpha).stdout_has("commit 2");
    alpha.cmd("verify --all").run().assert_code(0);
    assert_eq!(restored(&alpha, 2).len(), 11);
}

#[test]
fn a_forced_push_does_not_take_rows_from_machines_that_did_not_change() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    push(&alpha);
    settle(&alpha);
    let stranger = machine("stranger", &server, 8);
    stranger.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("commit 2");
    stranger.db().add_observations(1);
    push(&stranger).stdout_has("commit 3");
    let mine = claude_mem::titles(alpha.db_path());
    alpha.cmd("sync").run().assert_code(0).stdout_has("9 observations");
    let here = claude_mem::titles(alpha.db_path());
    assert!(mine.iter().all(|title| here.contains(title)));
    assert_eq!(memory(&alpha.db_path()), memory(&stranger.db_path()));
}
