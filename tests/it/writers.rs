//! Writers beside pushes and pulls: nobody is held back, and what was recorded in between is never taken away.

use crate::common::{assert_no_leftovers, assert_whole, backups, rows, titles_anywhere};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Waits until a command has come to this failpoint.
fn until_passed(log: &std::path::Path, failpoint: &str) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(50);
    while !std::fs::read_to_string(log).is_ok_and(|log| log.lines().any(|line| line == failpoint)) {
        assert!(std::time::Instant::now() < limit, "never: {failpoint}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// claude-mem 12.4 to 13.10 make databases without a write-ahead log, and bun does not wait for a reader: a write that
/// met the push's read was refused, and lost with its row.
#[test]
fn a_push_holds_nobody_back_where_the_database_has_a_rollback_journal() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    let open = || rusqlite::Connection::open(alpha.db_path()).unwrap();
    open().execute_batch("PRAGMA journal_mode=DELETE").unwrap();
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);

    let gate = alpha.write("gate", "");
    let running = alpha
        .cmd("push_sqlite")
        .env("MEMBRIDGE_FAILPOINT", "push.spooled=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .spawn();
    running.wait_for_stdout("[2/6]");
    let worker = open();
    worker.busy_timeout(std::time::Duration::ZERO).unwrap();
    worker
        .execute("UPDATE observations SET title = 'renamed meanwhile' WHERE id = 1", [])
        .expect("the push is in the way");
    std::fs::remove_file(&gate).unwrap();
    running.wait().assert_code(0);
    drop(worker);

    // What was pushed is the moment before; the next push brings the rest.
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_whole(&beta.db_path());
    assert!(!titles_anywhere(&beta).contains(&"renamed meanwhile".to_owned()));
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert!(titles_anywhere(&beta).contains(&"renamed meanwhile".to_owned()));
    let mode: String = open().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "the database is left as it was");
}

/// The same for the comparison of rows, which a machine that has diverged makes after every turn.
#[test]
fn a_comparison_holds_nobody_back_where_the_database_has_a_rollback_journal() {
    for command in ["push_sqlite", "pull_sqlite"] {
        let server = S3Server::start();
        let mut alpha = Machine::new("alpha", &server);
        alpha.set("LEADERSHIP_ENABLED", "0");
        alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
        let open = || rusqlite::Connection::open(alpha.db_path()).unwrap();
        open().execute_batch("PRAGMA journal_mode=DELETE").unwrap();
        let mut stranger = Machine::new("stranger", &server);
        stranger.set("LEADERSHIP_ENABLED", "0");
        stranger.create_db(Version::V13_25_3).add_session("two").add_observations(5);
        stranger.cmd("push_sqlite").run().assert_code(0);

        let (gate, log) = (alpha.write("gate", ""), alpha.path("passed"));
        let running = alpha
            .cmd(command)
            .env("MEMBRIDGE_FAILPOINT", "compare.pinned=wait")
            .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
            .env("MEMBRIDGE_FAILPOINT_LOG", &log)
            .spawn();
        until_passed(&log, "compare.pinned");
        let worker = open();
        worker.busy_timeout(std::time::Duration::ZERO).unwrap();
        worker
            .execute("UPDATE observations SET title = 'renamed meanwhile' WHERE id = 1", [])
            .unwrap_or_else(|error| panic!("{command} is in the way: {error}"));
        std::fs::remove_file(&gate).unwrap();
        running.wait().assert_code(4);
    }
}

/// A pull decides that everything here is in the bucket, and somebody records a row before it is replaced.
#[test]
fn f02_a_row_that_is_recorded_while_a_pull_is_prepared_stops_it() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);

    let (gate, log) = (beta.write("gate", ""), beta.path("passed"));
    let running = beta
        .cmd("pull_sqlite")
        .env("MEMBRIDGE_FAILPOINT", "pull.before-swap=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .env("MEMBRIDGE_FAILPOINT_LOG", &log)
        .spawn();
    until_passed(&log, "pull.before-swap");
    beta.db().add_session("mine").add_observations(1);
    let mine = rows(&beta.db_path());
    std::fs::remove_file(&gate).unwrap();
    running
        .wait()
        .assert_code(1)
        .stdout_has("nothing was replaced")
        .stdout_has("membridge pull_sqlite")
        .stdout_lacks("SYNC COMPLETE");
    assert_eq!(rows(&beta.db_path()), mine);
    assert_eq!(backups(&beta), Vec::<String>::new(), "of what was not replaced");
    assert_no_leftovers(&beta);
    // The next one knows of the row.
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("only here: 1 observations");
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    assert_eq!(backups(&beta).len(), 1);
}
