//! SIGKILL at every step of a push, of a sync and of a first pull. After it the local database is whole and no memory is
//! lost; the next normal run finishes the work, publishes nothing twice and leaves no temporary file.

use crate::common::{assert_no_leftovers, assert_whole, failpoints, memory, rows};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node;
use crate::support::s3::S3Server;

const SIGKILL: i32 = 128 + 9;

/// Alpha has pushed twelve observations and recorded three more since.
fn alpha_with_news(server: &S3Server) -> Machine {
    let alpha = Machine::new("alpha", server);
    alpha
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(12)
        .add_summaries(2)
        .add_prompts(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(3);
    alpha
}

#[test]
fn a_push_killed_anywhere_leaves_a_bucket_that_the_next_push_completes() {
    let server = S3Server::start();
    let points = failpoints(&alpha_with_news(&server), "push_sqlite");
    assert!(points.len() >= 12, "{points:?}");
    for point in &points {
        let server = S3Server::start();
        let alpha = alpha_with_news(&server);
        let before = python_node::read(&server, "mem").unwrap();
        let here = rows(&alpha.db_path());

        alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        assert_eq!(rows(&alpha.db_path()), here, "{point}: a push never changes the local database");
        assert_whole(&alpha.db_path());
        // A Python node reads the old one, the new one, or sees that they do not match: never a wrong one.
        if let Ok(bytes) = python_node::read(&server, "mem")
            && bytes != before
        {
            let copy = alpha.write("python-read.db", bytes);
            assert_eq!(claude_mem::counts(&copy).observations, 15, "{point}");
        }

        alpha.cmd("push_sqlite").run().assert_code(0);
        assert_no_leftovers(&alpha);
        let beta = Machine::new("beta", &server);
        beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
        assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()), "{point}");
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
        let commits = server.keys(&python_node::key("mem", "membridge/commits/"));
        assert_eq!(commits.len(), 2, "{point}: one commit for one change");
        let newest: serde_json::Value = serde_json::from_str(&server.text(&commits[1])).unwrap();
        assert_eq!(newest["kind"], "delta", "{point}");
        alpha.cmd("verify --all").run().assert_code(0);
    }
}

/// Beta has what alpha pushed first; alpha has pushed more since, changed one row and deleted another.
fn beta_behind(server: &S3Server) -> (Machine, Machine) {
    let alpha = alpha_with_news(server);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().execute("UPDATE observations SET narrative = 'anew' WHERE id = 2");
    alpha.db().execute("DELETE FROM observations WHERE id = 3");
    alpha.cmd("push_sqlite").run().assert_code(0);
    (alpha, beta)
}

/// … and beta has recorded memories of its own.
fn both_have_news(server: &S3Server) -> (Machine, Machine) {
    let (alpha, beta) = beta_behind(server);
    beta.db().add_session("mine").add_observations(4);
    (alpha, beta)
}

/// Beta's sync, killed at each point that it passes: the next one finishes it, and both machines hold the same.
#[track_caller]
fn a_sync_killed_anywhere(make: impl Fn(&S3Server) -> (Machine, Machine), passes: &[&str]) {
    let server = S3Server::start();
    let points = failpoints(&make(&server).1, "sync");
    for point in passes {
        assert!(points.iter().any(|passed| passed == point), "{point} is not among {points:?}");
    }
    for point in &points {
        let server = S3Server::start();
        let (alpha, beta) = make(&server);
        let mut all = claude_mem::titles(alpha.db_path());
        all.extend(claude_mem::titles(beta.db_path()));

        beta.cmd("sync").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        assert_whole(&beta.db_path());
        for machine in [&beta, &alpha, &beta] {
            machine.cmd("sync").run().assert_code(0);
            assert_whole(&machine.db_path());
            assert_no_leftovers(machine);
        }
        assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()), "{point}");
        let there = claude_mem::titles(beta.db_path());
        let deleted =
            all.iter().filter(|title| !there.contains(title)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(deleted.len(), 1, "{point}: only what alpha deleted is gone: {deleted:?}");
        let segments = |server: &S3Server| server.keys(&python_node::key("mem", "membridge/rows/")).len();
        let before = segments(&server);
        for machine in [&alpha, &beta] {
            machine.cmd("sync").run().assert_code(0).stdout_has("already up to date");
        }
        assert_eq!(segments(&server), before, "{point}: nothing is published twice");
    }
}

#[test]
fn a_sync_that_collects_killed_anywhere_loses_nothing() {
    a_sync_killed_anywhere(beta_behind, &["rows.arriving", "rows.arrived", "rows.entered"]);
}

#[test]
fn a_sync_that_collects_and_publishes_killed_anywhere_loses_nothing() {
    let publishes =
        ["rows.outbox", "rows.segment-put", "rows.published", "rows.published-entered", "rows.finished"];
    a_sync_killed_anywhere(both_have_news, &publishes);
}

#[test]
fn a_first_pull_killed_anywhere_is_finished_by_the_next() {
    let server = S3Server::start();
    alpha_with_news(&server).cmd("push_sqlite").run().assert_code(0);
    let points = failpoints(&Machine::new("beta", &server), "pull_sqlite");
    assert!(points.iter().any(|point| point == "sync.placed"), "{points:?}");
    for point in &points {
        let beta = Machine::new("beta", &server);
        beta.cmd("pull_sqlite").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        beta.cmd("pull_sqlite").run().assert_code(0);
        assert_whole(&beta.db_path());
        assert_eq!(claude_mem::counts(beta.db_path()).observations, 15, "{point}");
        assert_no_leftovers(&beta);
    }
}
