//! A push that writes nothing but its pack and its commit: three requests from the lock to the confirmed commit, and
//! nothing is lost where what it rests on has changed meanwhile (F18, F20, F24).

use std::time::Duration;

use crate::common::{COMMITS, restored};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::process::Running;
use crate::support::python_node::{self, PythonNode, Stop};
use crate::support::s3::{Op, S3Server};

/// Two machines in step, without a copy for Python nodes and without leadership; one new row each.
fn two_without_mirror(server: &S3Server) -> (Machine, Machine) {
    let machine = |name: &str| {
        let mut machine = Machine::new(name, server);
        machine.set("CLAUDE_PROJECT_ID", "mem").set("LEADERSHIP_ENABLED", "0");
        machine
    };
    let alpha = machine("alpha");
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(300);
    alpha.cmd("mirror off").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = machine("beta");
    beta.cmd("pull_sqlite").run().assert_code(0);
    for machine in [&alpha, &beta] {
        machine.db().add_session(&machine.name).add_observations(3);
    }
    (alpha, beta)
}

fn commits(server: &S3Server) -> usize {
    server.keys(COMMITS).len()
}

#[track_caller]
fn head_is(reader: &str, server: &S3Server, machine: &Machine) {
    let mut reader = Machine::new(reader, server);
    reader.set("CLAUDE_PROJECT_ID", "mem").set("LEADERSHIP_ENABLED", "0");
    reader.cmd("pull_sqlite").run().assert_code(0);
    let sorted = |machine: &Machine| {
        let mut titles = claude_mem::titles(machine.db_path());
        titles.sort();
        titles
    };
    assert_eq!(sorted(&reader), sorted(machine));
}

fn stopped_at(machine: &Machine, failpoint: &str) -> Running {
    let push = machine.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", format!("{failpoint}=stop")).spawn();
    push.wait_stopped();
    push
}

#[test]
fn three_requests_lie_between_the_lock_and_a_confirmed_commit() {
    let server = S3Server::start();
    let (alpha, _) = two_without_mirror(&server);
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    let asked: Vec<String> = server
        .requests()
        .iter()
        .map(|request| {
            let (_, name) = request.key.split_once("6fe2e0f6071ac2bb/").unwrap();
            let name = name.rsplit_once('/').map_or(name, |(folder, _)| folder);
            format!("{} {name}", request.method)
        })
        .collect();
    let locked = asked.iter().position(|line| line == "GET membridge/claims/lock").unwrap();
    assert_eq!(
        asked[locked + 1..],
        [
            "PUT membridge/packs",
            "PUT membridge/commits",
            "GET membridge/commits",
            "GET membridge/commits",
            "PUT locks",
        ],
        "{asked:#?}"
    );
    // Before: the machines and their news; our segment and our record; the mirror's setting, the announcements for Python
    // nodes, the head; the four of the lock.
    assert_eq!(locked + 1, 14, "{asked:#?}");
    head_is("reader", &server, &alpha);
}

#[test]
fn f18_a_holder_that_was_really_held_up_asks_again_and_does_not_commit() {
    let server = S3Server::start();
    let (mut alpha, mut beta) = two_without_mirror(&server);
    for machine in [&mut alpha, &mut beta] {
        machine.set("LOCK_TTL_SECONDS", "2").set("STALE_LOCK_GRACE_SECONDS", "0");
    }
    for failpoint in ["push.locked", "push.before-upload", "history.pack-confirmed"] {
        let before = commits(&server);
        let stopped = stopped_at(&alpha, failpoint);
        std::thread::sleep(Duration::from_millis(3500));
        stopped.sigcont();
        stopped.wait().assert_code(1).stdout_has("its time ran out while this process was held up");
        assert_eq!(commits(&server), before, "{failpoint}");
    }
    beta.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 306, "its rows came by the log all the same");
    alpha.cmd("pull_sqlite").run().assert_code(0);
    head_is("reader", &server, &alpha);
}

#[test]
fn f18_a_commit_made_meanwhile_takes_the_number() {
    for failpoint in ["push.snapshot", "push.locked", "push.before-upload", "push.verified"] {
        let server = S3Server::start();
        let (alpha, beta) = two_without_mirror(&server);
        let stopped = stopped_at(&alpha, failpoint);
        beta.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
        // Its number is taken: it collects, and archives what the newest commit has not.
        stopped.let_go().assert_code(0).stdout_has("another machine archived first");
        head_is("reader", &server, &alpha);
        assert_eq!(claude_mem::counts(alpha.db_path()).observations, 306);
    }
}

#[test]
fn f20_a_python_push_made_meanwhile_is_kept_and_found_by_the_next_command() {
    let server = S3Server::start();
    let (alpha, beta) = two_without_mirror(&server);
    let stopped = stopped_at(&alpha, "push.verified");
    let theirs = claude_mem::titles(beta.db_path());
    PythonNode::new(&server, "mem", "beta").write(
        &beta.db_path(),
        jiff::Timestamp::now().as_second() - 9000,
        Stop::Never,
    );
    stopped.sigcont();
    stopped.wait().assert_code(0);
    // Both pushes are there: one as a commit, the other as what Python nodes announce, newer than any commit.
    assert_eq!(commits(&server), 2);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("the push of beta is taken in");
    assert_eq!(restored(&alpha, 3), theirs);
    let here = claude_mem::titles(alpha.db_path());
    assert!(theirs.iter().all(|title| here.contains(title)));
    head_is("reader", &server, &alpha);
    python_node::read(&server, "mem").expect("the copy is whole");
}

#[test]
fn f24_a_hand_over_during_a_slow_push_is_noticed() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    // A third of the lock's life is how long an answer holds.
    alpha.set("LOCK_TTL_SECONDS", "6").set("CLAUDE_PROJECT_ID", "mem");
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(300);
    alpha.cmd("mirror off").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    let stopped = stopped_at(&alpha, "sync.gated");
    let mut beta = Machine::new("beta", &server);
    beta.set("CLAUDE_PROJECT_ID", "mem");
    beta.cmd("promote").run().assert_code(0);
    std::thread::sleep(Duration::from_millis(2500));
    stopped.sigcont();
    stopped.wait().assert_code(1).stdout_has("the lease went to beta");
    assert_eq!(commits(&server), 1);
    assert_eq!(server.count(Op::PutObject, "membridge/commits/0000000002"), 0);
}
