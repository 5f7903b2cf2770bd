//! SIGKILL at every step of a push and of a pull. After it the local database is the old or the new one, whole; no
//! memory is in no copy; the next normal run finishes the work and leaves no temporary file.

use crate::common::{assert_no_leftovers, assert_whole, failpoints, rows, titles_anywhere};
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
        assert_eq!(rows(&beta.db_path()), here, "{point}");
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
        let commits = server.keys(&python_node::key("mem", "membridge/commits/"));
        assert_eq!(commits.len(), 2, "{point}: one commit for one change");
        let newest: serde_json::Value = serde_json::from_str(&server.text(&commits[1])).unwrap();
        assert_eq!(newest["kind"], "delta", "{point}");
        alpha.cmd("verify --all").run().assert_code(0);
    }
}

/// Beta has what alpha pushed first; alpha has pushed more since.
fn beta_behind(server: &S3Server) -> Machine {
    let alpha = alpha_with_news(server);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta
}

/// … and beta has recorded memories of its own.
fn beta_diverged(server: &S3Server) -> Machine {
    let beta = beta_behind(server);
    beta.db().add_session("mine").add_observations(4);
    beta
}

#[track_caller]
fn a_pull_killed_anywhere(make: impl Fn(&S3Server) -> Machine) {
    let server = S3Server::start();
    let points = failpoints(&make(&server), "pull_sqlite");
    assert!(points.len() >= 12, "{points:?}");
    assert!(points.iter().any(|point| point == "history.base-copied"), "by delta: {points:?}");
    for point in &points {
        let server = S3Server::start();
        let beta = make(&server);
        let (old, old_titles) = (rows(&beta.db_path()), claude_mem::titles(beta.db_path()));
        let bucket = server.get(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap();
        let new = rows(&beta.write("bucket.db", &bucket));

        beta.cmd("pull_sqlite").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        assert_whole(&beta.db_path());
        let now = rows(&beta.db_path());
        assert!(now == old || now == new, "{point}: neither the old nor the new database");

        beta.cmd("pull_sqlite").run().assert_code(0);
        assert_whole(&beta.db_path());
        assert_eq!(rows(&beta.db_path()), new, "{point}");
        let everywhere = titles_anywhere(&beta);
        for title in &old_titles {
            assert!(everywhere.contains(title), "{point}: {title} is in no copy");
        }
        assert_no_leftovers(&beta);
        assert_eq!(server.get(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap(), bucket, "{point}");
    }
}

#[test]
fn a_fast_forward_killed_anywhere_loses_nothing() {
    a_pull_killed_anywhere(beta_behind);
}

#[test]
fn a_replacement_of_diverged_rows_killed_anywhere_loses_nothing() {
    a_pull_killed_anywhere(beta_diverged);
}

#[test]
fn a_first_pull_killed_anywhere_is_finished_by_the_next() {
    let server = S3Server::start();
    alpha_with_news(&server).cmd("push_sqlite").run().assert_code(0);
    let points = failpoints(&Machine::new("beta", &server), "pull_sqlite");
    assert!(points.iter().any(|point| point == "pull.placed"), "{points:?}");
    for point in &points {
        let beta = Machine::new("beta", &server);
        beta.cmd("pull_sqlite").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        beta.cmd("pull_sqlite").run().assert_code(0);
        assert_whole(&beta.db_path());
        assert_eq!(claude_mem::counts(beta.db_path()).observations, 15, "{point}");
        assert_no_leftovers(&beta);
    }
}
