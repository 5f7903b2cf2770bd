//! A first whole sync between two machines, over both kinds of store, with writers attached.

use crate::common::rows;
use crate::support::claude_mem::{self, Version, Writer};
use crate::support::machine::{Machine, Store};
use crate::support::python_node;
use crate::support::s3::S3Server;

fn push_and_pull_over(store: &Store) {
    let alpha = Machine::new("alpha", store);
    alpha
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(40)
        .add_summaries(3)
        .add_prompts(5);
    let beta = Machine::new("beta", store);

    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("[0/6] Leadership: role=primary")
        .stdout_has("PUSH COMPLETE");
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(rows(&alpha.db_path()), rows(&beta.db_path()));
    assert!(claude_mem::fts_ok(beta.db_path()));
    assert_eq!(claude_mem::integrity(beta.db_path()), "ok");

    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
}

#[test]
fn a_push_and_a_pull_over_s3() {
    let server = S3Server::start();
    push_and_pull_over(&Store::from(&server));
}

#[test]
fn a_push_and_a_pull_over_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    push_and_pull_over(&Store::from(folder.path()));
}

#[test]
fn a_push_and_a_pull_with_writers_attached_on_both_sides() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(200).add_prompts(5);
    let writer = Writer::start(alpha.db_path(), "live-alpha");
    writer.wait_for(20);
    let before = writer.acknowledged();
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    writer.stop();

    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V13_25_3).add_session("b").add_observations(10);
    let writer = Writer::start(beta.db_path(), "live-beta");
    writer.wait_for(20);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    writer.stop();
    let titles = claude_mem::titles(beta.db_path());
    for title in &before {
        assert!(
            titles.contains(title),
            "{title} was recorded before the push and is not in the pulled database"
        );
    }
    assert_eq!(claude_mem::integrity(beta.db_path()), "ok");
    assert!(claude_mem::fts_ok(beta.db_path()));
}

/// Alpha pushed; what the archive consists of was damaged since.
fn a_damaged_archive() -> (S3Server, Machine) {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(30);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let packs = server.keys(&python_node::key("mem", "membridge/packs/"));
    assert!(!packs.is_empty());
    for pack in packs {
        let mut bytes = server.get(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        server.put(&pack, bytes);
    }
    (server, alpha)
}

#[test]
fn a_new_machine_comes_from_the_copy_for_python_nodes_where_the_archive_is_damaged() {
    let (server, alpha) = a_damaged_archive();
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0).says("the copy for Python nodes is used instead");
    assert_eq!(rows(&alpha.db_path()), rows(&beta.db_path()));
    beta.cmd("sync").run().assert_code(0);
}

#[test]
fn a_new_machine_takes_no_copy_that_is_damaged_too() {
    let (server, _alpha) = a_damaged_archive();
    let database = python_node::key("mem", "sqlite/claude-mem.db");
    let mut bytes = server.get(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    server.put(&database, bytes);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(1);
    assert!(!beta.db_path().exists(), "nothing that is damaged becomes a database");
}

#[test]
fn a_database_that_nothing_announces_is_not_taken() {
    let server = S3Server::start();
    let node = Machine::new("node", &server);
    node.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    server.put(&python_node::key("mem", "sqlite/claude-mem.db"), std::fs::read(node.db_path()).unwrap());
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite")
        .run()
        .assert_code(1)
        .stdout_has("nothing announces it")
        .stdout_has("try again in a minute");
    assert!(!beta.db_path().exists());
}
