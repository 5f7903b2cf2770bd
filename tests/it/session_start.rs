//! The hook that pulls when a session starts: where it pulls, and how long it keeps a session waiting.

use std::time::{Duration, Instant};

use super::hooks::{BlackHole, START, log, log_has, runs, silent, until};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Meeting, Op, S3Server};

#[test]
fn f13_session_start_pulls_at_the_start_and_only_there() {
    let store = tempfile::tempdir().unwrap();
    let alpha = Machine::new("alpha", store.path());
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);

    let beta = Machine::new("beta", store.path());
    for source in ["clear", "compact"] {
        silent(&beta, "hook session-start", &START.replace("startup", source));
        assert!(!beta.db_path().exists());
    }
    assert_eq!(log(&beta).matches("outcome=skipped").count(), 2);
    silent(&beta, "hook session-start", START);
    until("the pull", || log_has(&beta, "event=session-start outcome=") && !runs(&beta));
    until("the result", || beta.path(".membridge/last-result.json").exists());
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 5);
}

#[test]
fn a_session_waits_no_longer_than_the_deadline_for_a_pull() {
    let hole = BlackHole::new();
    let machine = Machine::new("alpha", hole.store());
    let started = Instant::now();
    silent(&machine, "hook session-start", START);
    let took = started.elapsed();
    // 8 s for the pull; the rest is what starting two processes takes on a busy machine.
    assert!(took < Duration::from_secs(11), "{took:?}");
    drop(hole);
    until("the end of the pull", || log_has(&machine, "event=session-start outcome=failed"));
}

#[test]
fn f13_of_sessions_that_start_during_a_long_push_one_waits_and_none_pulls_later() {
    let store = tempfile::tempdir().unwrap();
    let alpha = Machine::new("alpha", store.path());
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", store.path());
    silent(&beta, "hook session-start", START);
    until("the pull", || beta.path(".membridge/last-result.json").exists());
    until("its end", || !runs(&beta));
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);

    // Somebody runs for longer than a session waits.
    let folder = std::fs::read_dir(beta.path(".membridge/hooks")).unwrap();
    let running = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "running"))
        .unwrap();
    let running = std::fs::File::open(running).unwrap();
    running.lock().unwrap();
    let starts: Vec<_> = (0..4).map(|_| beta.cmd("hook session-start").stdin(START).spawn()).collect();
    for start in starts {
        start.wait().assert_code(0);
    }
    until("the one that waited", || log_has(&beta, "outcome=skipped"));
    assert_eq!(log(&beta).matches("outcome=coalesced").count(), 3);
    drop(running);
    // Nobody is left behind who would still sync for a start that is over; the turn's own sync brings the row.
    silent(&beta, "hook stop", START);
    until("the sync after the turn", || log_has(&beta, "event=stop outcome=synced"));
    assert_eq!(log(&beta).matches("event=session-start outcome=synced").count(), 1, "{}", log(&beta));
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 6);
}

#[test]
fn a_session_asks_for_the_records_of_all_machines_at_once() {
    let server = S3Server::start();
    let machines = ["alpha", "beta", "gamma", "delta"].map(|name| Machine::new(name, &server));
    for machine in &machines {
        machine.create_db(Version::V13_25_3).add_session(&machine.name).add_observations(1);
        machine.cmd("push_sqlite").run();
    }
    let [waits, others @ ..] = &machines;
    waits.cmd("sync").run().assert_code(0);
    for other in others {
        other.db().add_observations(1);
        other.cmd("sync --for turn").run().assert_code(0);
    }
    // Each answer comes when all three were asked for: on a slow line a session would wait for one after the other.
    let _together = server.fault(Fault::Together(Meeting::of(3)).on(Op::GetObject).key("membridge/nodes/"));
    waits.cmd("sync --for start").run().assert_code(0);
    assert_eq!(claude_mem::counts(waits.db_path()).observations, 7);
}

/// alpha and beta, in step; then alpha records one observation and shares it.
fn one_segment_is_new(server: &S3Server) -> Machine {
    let [alpha, beta] = ["alpha", "beta"].map(|name| Machine::new(name, server));
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    for _ in 0..2 {
        alpha.db().add_observations(1);
        alpha.cmd("sync --for turn").run().assert_code(0);
        if claude_mem::counts(beta.db_path()).observations == 5 {
            beta.cmd("sync").run().assert_code(0);
        }
    }
    beta
}

#[test]
fn a_session_waits_for_one_answer_where_one_segment_is_new() {
    let server = S3Server::start();
    let beta = one_segment_is_new(&server);
    // Neither is answered before both were asked for.
    let meeting = Meeting::of(2);
    let _listing = server.fault(Fault::Together(meeting.clone()).on(Op::ListObjects).key("membridge/nodes/"));
    let _segment = server.fault(Fault::Together(meeting).on(Op::GetObject).key("membridge/rows/"));
    let (told, here) = std::sync::mpsc::channel();
    let database = beta.db_path();
    server.before_next(Op::GetObject, "membridge/nodes/", move || {
        told.send(claude_mem::counts(database).observations).unwrap();
    });
    server.reset_log();
    beta.cmd("sync --for start").run().assert_code(0);
    assert_eq!(here.recv().unwrap(), 7, "the row is here before a third answer is waited for");
    let asked: Vec<Op> = server.requests().iter().map(|request| request.op).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    // Without news it is the listing, and a segment that is not there.
    server.clear_hook();
    server.reset_log();
    beta.cmd("sync --for start").run().assert_code(0);
    let asked: Vec<u16> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.contains(&404), "{asked:?}");
}

#[test]
fn f55_what_was_asked_ahead_of_a_store_that_is_not_ours_is_not_taken_in() {
    let server = S3Server::start();
    let beta = one_segment_is_new(&server);
    for key in server.keys("").iter().filter(|key| key.contains("membridge/nodes/")) {
        server.remove(key);
    }
    let identity = server.keys("").into_iter().find(|key| key.ends_with("membridge/store.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&server.text(&identity)).unwrap();
    record["id"] = "0".repeat(32).into();
    server.put(&identity, record.to_string());
    server.reset_log();
    beta.cmd("sync --for start").run().assert_code(1).stdout_has("is another one");
    assert!(server.requests().iter().any(|request| request.key.contains("membridge/rows/")));
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 6);
    assert!(server.requests().iter().all(|request| !request.op.writes()));
}

#[test]
fn segments_are_asked_for_while_others_are_still_under_way() {
    let server = S3Server::start();
    let [alpha, beta] = ["alpha", "beta"].map(|name| Machine::new(name, &server));
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    for _ in 0..4 {
        alpha.db().add_observations(1);
        alpha.cmd("sync --for turn").run().assert_code(0);
    }
    let _together = server.fault(Fault::Together(Meeting::of(4)).on(Op::GetObject).key("membridge/rows/"));
    beta.cmd("sync --for turn").run().assert_code(0);
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 9);
}
