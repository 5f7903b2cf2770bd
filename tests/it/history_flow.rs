//! Pushes as commits: small on the wire, adopted from Python nodes, with a copy for them that may lag or be switched
//! off.

use crate::common::{COMMITS, assert_whole, memory, now, rows};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::python_node::{self, PythonNode, Stop};
use crate::support::s3::{Op, S3Server};

fn alpha(server: &S3Server, observations: usize) -> Machine {
    let alpha = Machine::new("alpha", server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(observations).add_prompts(3);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("commit 1");
    alpha
}

fn newest_commit(server: &S3Server) -> serde_json::Value {
    serde_json::from_str(&server.text(server.keys(COMMITS).last().unwrap())).unwrap()
}

#[test]
fn with_the_mirror_off_a_session_costs_its_changed_pages_both_ways() {
    let server = S3Server::start();
    let alpha = alpha(&server, 3000);
    let whole = server.size(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap();
    alpha.cmd("mirror off").run().assert_code(0).stdout_has("mirror: off");
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);

    alpha.db().add_observations(40);
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("commit 2");
    let sent: u64 = server.requests().iter().map(|request| request.bytes_in).sum();
    assert!(sent < whole / 10, "{sent} bytes sent for 40 observations in a database of {whole}");
    assert_eq!(newest_commit(&server)["kind"], "delta");
    assert_eq!(server.count(Op::PutObject, "sqlite/"), 0, "the copy is left alone");

    server.reset_log();
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    let received: u64 = server.requests().iter().map(|request| request.bytes_out).sum();
    assert!(received < whole / 10, "{received} bytes received");
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
    assert_whole(&beta.db_path());

    alpha.cmd("mirror on").run().assert_code(0);
    alpha.cmd("mirror status").run().assert_code(0).stdout_has("mirror: on").stdout_has("behind");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
    alpha.cmd("mirror status").run().assert_code(0).stdout_has("up to date");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(3040));
}

#[test]
fn f08_a_python_push_in_between_is_adopted_and_listed() {
    let server = S3Server::start();
    let alpha = alpha(&server, 10);
    let python = Machine::new("python", &server);
    python.cmd("pull_sqlite").run().assert_code(0);
    python.db().add_session("there").add_observations(4);
    let theirs = rows(&python.db_path());
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), now() - 8000, Stop::Never);

    // A reader sees it at once, adopted or not.
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), memory(&python.db_path()));
    alpha.cmd("pull_sqlite").env("ALLOW_PRIMARY_PULL_OVERRIDE", "1").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("the push of python became commit 2")
        .stdout_has("commit 3");
    alpha.cmd("history").run().assert_code(0).stdout_has("python");
    let file = alpha.path("adopted.db");
    alpha.cmd("restore 2 --to").arg(&file).run().assert_code(0);
    assert_eq!(rows(&file), theirs);
    alpha.cmd("verify --all").run().assert_code(0);
    // A node that needs the copy has just been seen.
    alpha.cmd("mirror off").run().assert_code(1).stdout_has("python has pushed with the Python script");
    alpha.cmd("mirror off --force").run().assert_code(0);
    // The next pushes do not take the adopted copy for a new push.
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("commit 4").stdout_lacks("became");
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
}

#[test]
fn thirty_pushes_from_two_nodes_can_all_be_restored() {
    let server = S3Server::start();
    let alpha = alpha(&server, 30);
    let beta = Machine::new("beta", &server);
    for round in 0..15 {
        alpha.db().add_observations(1 + round % 4);
        alpha.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
        beta.cmd("pull_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
        beta.db().add_observations(1 + round % 3);
        beta.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
        alpha.cmd("pull_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    }
    assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()));
    assert_eq!(server.keys(COMMITS).len(), 31);
    alpha.cmd("verify --all").run().assert_code(0);
    assert!(newest_commit(&server)["chain"].as_array().unwrap().len() < 31, "chains start anew");
}

#[test]
fn f17_the_vector_index_is_reported_and_moved_away_on_request() {
    let server = S3Server::start();
    let alpha = alpha(&server, 10);
    alpha.db().add_observations(1);
    alpha.write(".claude-mem/chroma/index.bin", "vectors");
    alpha
        .cmd("restore 1 --yes")
        .run()
        .assert_code(0)
        .stdout_has("vector index")
        .stdout_has("--reset-vectors");
    assert!(alpha.path(".claude-mem/chroma/index.bin").exists(), "only on request");
    alpha.db().add_observations(1);
    alpha.cmd("restore 1 --yes --reset-vectors").run().assert_code(0).stdout_has("vector index: moved to");
    assert!(!alpha.path(".claude-mem/chroma").exists());
    assert!(alpha.files().iter().any(|file| file.ends_with("vectors/chroma/index.bin")));
}
