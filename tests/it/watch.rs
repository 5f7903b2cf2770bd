//! `watch`: changes go out, others' pushes come in, and it ends when it is told to.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::{Op, S3Server};

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn observations(path: &Path) -> i64 {
    if path.exists() { claude_mem::counts(path).observations } else { 0 }
}

#[test]
fn changes_go_out_and_come_in_and_sigterm_ends_it_cleanly() {
    let store = tempfile::tempdir().unwrap();
    let mut alpha = Machine::new("alpha", store.path());
    alpha.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "0").set("LEADERSHIP_ENABLED", "0");
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(3);
    let mut beta = Machine::new("beta", store.path());
    beta.set("LEADERSHIP_ENABLED", "0");

    let out = alpha.cmd("watch --settle 0 --every 3600").timeout(Duration::from_mins(5)).spawn();
    out.wait_for_stdout("sent 3 observations");
    let incoming = beta.cmd("watch --settle 3600 --every 1").timeout(Duration::from_mins(5)).spawn();
    until("the first rows", || observations(&beta.db_path()) == 3);
    db.add_observations(4);
    until("the rows that came later", || observations(&beta.db_path()) == 7);

    for running in [out, incoming] {
        running.sigterm();
        let outcome = running.wait();
        outcome.assert_code(0).stdout_has("stopped").stdout_lacks("ERROR");
    }
    // Nothing is held: somebody else can push at once.
    db.add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
}

#[test]
fn a_store_that_cannot_be_reached_does_not_end_it() {
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().join("not-mounted-yet");
    let machine = Machine::new("alpha", folder.as_path());
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let running = machine
        .cmd("watch --settle 0 --every 1")
        .env("MINIO_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("MINIO_ACCESS_KEY", "key")
        .env("MINIO_SECRET_KEY", "secret")
        .timeout(Duration::from_mins(5))
        .spawn();
    running.wait_for_stdout("not synced");
    assert!(!running.ended());
    running.sigterm();
    running.wait().assert_code(0);
}

#[test]
fn looks_that_find_nothing_to_do_are_not_reported() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    beta.db().add_observations(1);
    let watching = beta.cmd("watch --settle 0 --every 1").timeout(Duration::from_mins(5)).spawn();
    watching.wait_for_stdout("sent 1 observation");
    server.reset_log();
    until("four looks", || server.count(Op::ListObjects, "membridge/nodes/") >= 4);
    watching.sigterm();
    let said = watching.wait();
    said.assert_code(0);
    let lines = said.stdout.lines().count();
    assert_eq!(lines, 4, "watching, sent, stopping, stopped: {}", said.stdout);
}
