//! One writer at a time: holders that are stopped, killed, signalled or overtaken, replies that get lost. What is in the
//! bucket afterwards is always one push, whole. fencing_races.rs: several that push at once.

use std::time::{Duration, Instant};

use crate::common::memory;
use crate::support::claude_mem::{self, Version};
use crate::support::machine::{Machine, Store};
use crate::support::process::Running;
use crate::support::python_node;
use crate::support::s3::{Fault, Op, S3Server};

/// A machine that pushes without asking who is primary.
pub(super) fn machine(name: &str, store: impl Into<Store>) -> Machine {
    let mut machine = Machine::new(name, store);
    machine.set("LEADERSHIP_ENABLED", "0");
    machine
}

/// Two machines with the same memory, which is in the bucket, and one new row each.
pub(super) fn two_in_step(server: &S3Server) -> (Machine, Machine) {
    let alpha = machine("alpha", server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = machine("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    for machine in [&alpha, &beta] {
        machine.db().add_session("two").add_observations(3);
    }
    (alpha, beta)
}

/// Titles in the bucket's database, as a Python node reads it: checksum and database agree.
fn titles_in_bucket(server: &S3Server) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("remote.db");
    let bytes = python_node::read(server, "mem").expect("a whole database");
    std::fs::write(&path, &bytes).unwrap();
    let manifest: serde_json::Value =
        serde_json::from_str(&server.text(&python_node::key("mem", "sqlite/manifest.json"))).unwrap();
    assert_eq!(manifest["db_size"].as_u64(), Some(bytes.len() as u64), "{manifest}");
    let titles = claude_mem::titles(&path);
    assert_eq!(manifest["observations"].as_u64(), Some(titles.len() as u64));
    titles
}

#[track_caller]
pub(super) fn bucket_is(server: &S3Server, machine: &Machine) {
    // Which id a row has is each machine's own business.
    let (mut there, mut here) = (titles_in_bucket(server), claude_mem::titles(machine.db_path()));
    there.sort();
    here.sort();
    assert_eq!(there, here, "the bucket holds what {} has", machine.name);
}

fn lock(server: &S3Server) -> serde_json::Value {
    serde_json::from_str(&server.text(&python_node::key("mem", "locks/active.lock"))).unwrap()
}

#[track_caller]
pub(super) fn lock_is_free(server: &S3Server) {
    let lock = lock(server);
    assert_eq!(lock["timestamp"], 0, "{lock}");
    assert_eq!(lock["state"], "released", "{lock}");
}

fn renewals(server: &S3Server) -> u64 {
    let there = server.get(&python_node::key("mem", "locks/active.lock"));
    there.and_then(|_| lock(server)["renewals"].as_u64()).unwrap_or(0)
}

fn change_lock(server: &S3Server, change: impl FnOnce(&mut serde_json::Value)) {
    let mut lock = lock(server);
    change(&mut lock);
    server.put(&python_node::key("mem", "locks/active.lock"), lock.to_string().into_bytes());
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(50);
    while !done() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn push_stopped_at(machine: &Machine, failpoint: &str) -> Running {
    let process = machine.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", format!("{failpoint}=stop")).spawn();
    process.wait_stopped();
    process
}

#[test]
fn f18_a_holder_stopped_past_its_time_does_not_commit() {
    for failpoint in
        ["push.locked", "push.before-upload", "push.verified", "mirror.database", "mirror.checksum"]
    {
        let server = S3Server::start();
        let (alpha, beta) = two_in_step(&server);
        let stopped = push_stopped_at(&alpha, failpoint);
        beta.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE — held by alpha for");
        // TTL and grace pass by the server's clock.
        server.set_clock_offset(7200 + 60 + 30);
        beta.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
        assert_eq!(
            claude_mem::counts(beta.db_path()).observations,
            26,
            "{failpoint}: alpha's rows came by the log"
        );
        bucket_is(&server, &beta);
        // Where it finds its commit's number taken, it collects and looks again, and may pass here once more.
        let end = stopped.let_go();
        match failpoint {
            "push.before-upload" => end.assert_code(1).stdout_lacks("PUSH COMPLETE"),
            // What it has collected is in the bucket already.
            "push.locked" | "push.verified" => {
                end.assert_code(0).stdout_has("another machine archived first")
            }
            // It had pushed before it was stopped; the copy for Python nodes is its successor's.
            _ => end.assert_code(0).stdout_has("left to the next push"),
        };
        alpha.cmd("push_sqlite").run().assert_code(0);
        assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()), "{failpoint}");
        lock_is_free(&server);
    }
}

#[test]
fn f18_a_holder_stopped_while_its_successor_works_does_not_commit() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_step(&server);
    let first = push_stopped_at(&alpha, "push.verified");
    server.set_clock_offset(7200 + 60 + 30);
    // The successor has looked and verified, and has not written yet.
    let second = push_stopped_at(&beta, "push.verified");
    let first = first.let_go();
    let second = second.let_go();
    // Both had verified: the commit that only one of them can make decides, and the other collects and looks again.
    first.assert_code(0);
    second.assert_code(0);
    let again = [&first, &second].map(|end| end.stdout.contains("another machine archived first"));
    assert_eq!(again.iter().filter(|again| **again).count(), 1, "{first:?}\n{second:?}");
    for machine in [&alpha, &beta] {
        machine.cmd("push_sqlite").run().assert_code(0);
        assert_eq!(claude_mem::counts(machine.db_path()).observations, 26);
    }
    bucket_is(&server, &beta);
    lock_is_free(&server);
}

#[test]
fn f18_time_that_ran_out_ends_a_push_also_when_nobody_took_over() {
    let server = S3Server::start();
    let (mut alpha, _) = two_in_step(&server);
    let before = titles_in_bucket(&server);
    alpha.set("LOCK_TTL_SECONDS", "2").set("STALE_LOCK_GRACE_SECONDS", "0");
    let stopped = push_stopped_at(&alpha, "push.before-upload");
    std::thread::sleep(Duration::from_millis(2500));
    stopped.sigcont();
    stopped.wait().assert_code(1).stdout_has("its time ran out while this process was held up");
    assert_eq!(titles_in_bucket(&server), before);
    lock_is_free(&server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    bucket_is(&server, &alpha);
}

#[test]
fn f18_a_lock_is_renewed_while_the_work_goes_on() {
    a_lock_is_renewed(&S3Server::start());
}

#[test]
fn f18_a_lock_is_renewed_with_its_claim_where_conditions_are_ignored() {
    let server = S3Server::start();
    let _ignores = server.fault(Fault::IgnoresConditions);
    a_lock_is_renewed(&server);
}

#[track_caller]
fn a_lock_is_renewed(server: &S3Server) {
    let (mut alpha, mut beta) = two_in_step(server);
    for machine in [&mut alpha, &mut beta] {
        machine.set("LOCK_TTL_SECONDS", "3").set("STALE_LOCK_GRACE_SECONDS", "0");
    }
    // The upload takes longer than the TTL.
    let slow = Fault::Latency(Duration::from_secs(5)).on(Op::PutObject).key("sqlite/claude-mem.db").next(1);
    let _slow = server.fault(slow);
    let push = alpha.cmd("push_sqlite").spawn();
    wait_until("three renewals", || renewals(server) >= 3);
    beta.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE");
    push.wait().assert_code(0);
    bucket_is(server, &alpha);
    lock_is_free(server);
}

#[test]
fn f18_a_lock_that_cannot_be_renewed_stops_the_work() {
    let server = S3Server::start();
    let (mut alpha, _) = two_in_step(&server);
    let before = titles_in_bucket(&server);
    alpha.set("LOCK_TTL_SECONDS", "3");
    // Renewals are refused from the start; the upload hangs.
    let _hang = server.fault(Fault::BlackHole.on(Op::PutObject).key("sqlite/"));
    let _refused = server.fault(Fault::SlowDown.on(Op::PutObject).key("locks/active.lock").after(1));
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("the lock was lost: it could not be renewed in time");
    assert_eq!(titles_in_bucket(&server), before);
}

#[test]
fn f18_a_lock_that_somebody_else_took_meanwhile_stops_the_work() {
    let server = S3Server::start();
    let (mut alpha, _) = two_in_step(&server);
    let before = titles_in_bucket(&server);
    alpha.set("LOCK_TTL_SECONDS", "3");
    let _hang = server.fault(Fault::BlackHole.on(Op::PutObject).key("sqlite/"));
    let push = alpha.cmd("push_sqlite").spawn();
    wait_until("a renewal", || renewals(&server) >= 1);
    change_lock(&server, |lock| {
        lock["owner"] = "somebody else's".into();
        lock["hostname"] = "gamma".into();
    });
    push.wait().assert_code(1).stdout_has("the lock was lost: gamma");
    assert_eq!(titles_in_bucket(&server), before);
    assert_eq!(lock(&server)["hostname"], "gamma", "what is somebody else's is left alone");
}

#[test]
fn f18_a_renewal_that_comes_through_late_is_still_ours() {
    let server = S3Server::start();
    let (mut alpha, _) = two_in_step(&server);
    alpha.set("LOCK_TTL_SECONDS", "3").set("STALE_LOCK_GRACE_SECONDS", "0");
    let slow = Fault::Latency(Duration::from_secs(5)).on(Op::PutObject).key("sqlite/claude-mem.db").next(1);
    let _slow = server.fault(slow);
    let push = alpha.cmd("push_sqlite").spawn();
    wait_until("a renewal", || renewals(&server) >= 1);
    // The same lock by our token, in a version that its holder does not know.
    change_lock(&server, |lock| lock["expires_at"] = 0.into());
    push.wait().assert_code(0);
    bucket_is(&server, &alpha);
    lock_is_free(&server);
}

#[test]
fn f18_lost_replies_to_any_write_of_a_push_defeat_nobody() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one");
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    let writes = server.count(Op::PutObject, "");
    assert!(writes >= 5, "lock, database, checksum, manifest, release: {writes}");
    for fault in [Fault::LostReply, Fault::LostConnection] {
        for lost in 0..writes {
            alpha.db().add_observations(1);
            let _lost = server.fault(fault.clone().on(Op::PutObject).after(lost).next(1));
            alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
            bucket_is(&server, &alpha);
            lock_is_free(&server);
        }
    }
}

#[test]
fn f18_lost_replies_to_the_lease_and_the_probe_defeat_nobody() {
    for key in ["leadership/lease.json", "membridge/probe/"] {
        let server = S3Server::start();
        let alpha = Machine::new("alpha", &server);
        alpha.create_db(Version::V13_25_3).add_session("one").add_observations(2);
        let _lost = server.fault(Fault::LostReply.on(Op::PutObject).key(key).next(1));
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("role=primary");
        bucket_is(&server, &alpha);
    }
}

#[test]
fn f18_the_lock_of_a_killed_run_is_taken_over_by_the_same_machine_only() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_step(&server);
    alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "mirror.database").run().assert_code(137);
    beta.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("left by an earlier run on this machine");
    bucket_is(&server, &alpha);
}

#[test]
fn f19_the_lock_is_released_on_error_and_on_signals() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_step(&server);
    lock_is_free(&server);
    {
        let denied = Fault::Status(403, "AccessDenied").on(Op::PutObject).key("sqlite/");
        let _denied = server.fault(denied);
        alpha.cmd("push_sqlite").run().assert_code(1);
        lock_is_free(&server);
    }
    for (failpoint, term) in [("push.locked", true), ("push.before-upload", true), ("mirror.database", false)]
    {
        let gate = alpha.write("gate", "");
        alpha.db().add_observations(1);
        let push = alpha
            .cmd("push_sqlite")
            .env("MEMBRIDGE_FAILPOINT", format!("{failpoint}=wait"))
            .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
            .env("MEMBRIDGE_FAILPOINT_LOG", alpha.path("passed"))
            .spawn();
        wait_until(failpoint, || {
            std::fs::read_to_string(alpha.path("passed"))
                .is_ok_and(|log| log.lines().any(|line| line == failpoint))
        });
        assert_eq!(lock(&server)["state"], "held");
        if term {
            push.sigterm()
        } else {
            push.sigint()
        };
        std::fs::remove_file(&gate).unwrap();
        std::fs::remove_file(alpha.path("passed")).unwrap();
        let ended = push.wait();
        ended.assert_code(if term { 143 } else { 130 });
        // The signal itself, after cleaning up: a shell that saw a number would go on with its script.
        assert_eq!(ended.signal, Some(if term { 15 } else { 2 }), "{ended:?}");
        lock_is_free(&server);
    }
    // Nobody has to wait, and the interrupted push is mended by the next one.
    alpha.cmd("push_sqlite").run().assert_code(0);
    bucket_is(&server, &alpha);
    drop(beta);
}

#[test]
fn f19_a_signal_ends_the_wait_for_the_lock() {
    let server = S3Server::start();
    let (alpha, _) = two_in_step(&server);
    let _hole = server.fault(Fault::BlackHole.on(Op::GetObject).key("locks/"));
    server.reset_log();
    let push = alpha.cmd("push_sqlite").spawn();
    wait_until("it asks for the lock", || server.count(Op::GetObject, "locks/") > 0);
    push.sigterm();
    let ended = push.wait();
    ended.assert_code(143);
    assert_eq!(ended.signal, Some(15), "it dies of the signal itself: {ended:?}");
}
