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

/// A restore sends everything that is here, and somebody records a row before it is replaced.
#[test]
fn f02_a_row_that_is_recorded_while_a_restore_is_prepared_stops_it() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);

    let (gate, log) = (alpha.write("gate", ""), alpha.path("passed"));
    let running = alpha
        .cmd("restore 1 --yes")
        .env("MEMBRIDGE_FAILPOINT", "pull.before-swap=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .env("MEMBRIDGE_FAILPOINT_LOG", &log)
        .spawn();
    until_passed(&log, "pull.before-swap");
    alpha.db().add_session("mine").add_observations(1);
    let mine = rows(&alpha.db_path());
    std::fs::remove_file(&gate).unwrap();
    running
        .wait()
        .assert_code(1)
        .stdout_has("nothing was replaced")
        .stdout_has("type the same command again")
        .stdout_lacks("RESTORE COMPLETE");
    assert_eq!(rows(&alpha.db_path()), mine);
    assert_eq!(backups(&alpha), Vec::<String>::new(), "of what was not replaced");
    assert_no_leftovers(&alpha);
    // The next one has sent the row.
    alpha.cmd("restore 1 --yes").run().assert_code(0).stdout_has("this removes 2 observations, 1 session");
    assert_eq!(backups(&alpha).len(), 1);
}
