//! The ways in which rows get lost, by their ids in docs/failures.md: each of these fails when the guard is taken out.
//! Here: what must not be pushed or pulled, and what need not be. losing_rows_files.rs: the files of a replacement.

use crate::common::{assert_no_leftovers, assert_whole, backups, memory, pushed, rows};
use crate::support::claude_mem::{self, MemDb, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::S3Server;

/// A second machine that has pulled it.
pub(super) fn pulled(server: &S3Server) -> Machine {
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    beta
}

#[test]
fn f02_a_pull_never_overwrites_rows_that_were_not_pushed() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    beta.db().add_session("mine").add_observations(5);
    let before = rows(&beta.db_path());
    // Nothing new in the bucket: the rows here stay, and go out.
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("sending: 5 observations, 1 session");
    assert_eq!(rows(&beta.db_path()), before);
    // Something new on both sides: both are everywhere after, and nothing was replaced.
    alpha.db().add_observations(1);
    beta.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 1 observation\n");
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 1 observation\n");
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 17);
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
    assert!(backups(&beta).is_empty(), "nothing was taken from it");
}

#[test]
fn f09_a_damaged_or_foreign_database_in_the_bucket_never_reaches_the_live_one() {
    let server = S3Server::start();
    pushed(&server, 30);
    let beta = pulled(&server);
    let before = rows(&beta.db_path());
    let good = server.get(&python_node::key("mem", "sqlite/claude-mem.db")).unwrap();
    let mut torn = good.clone();
    torn[40_000..60_000].fill(0x5a);
    let other = MemDb::create_as(beta.path("other.db"), Version::V13_25_3, "o");
    other.execute("DROP TRIGGER observations_ai; DROP TRIGGER observations_ad; DROP TRIGGER observations_au; DROP TABLE observations_fts; DROP TABLE observations");
    claude_mem::dump(other.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let foreign = std::fs::read(other.path()).unwrap();
    let table: [(&str, Vec<u8>, &str); 5] = [
        ("truncated", good[..good.len() / 2].to_vec(), "cannot be used"),
        ("overwritten pages", torn, "cannot be used"),
        ("not SQLite", b"<html>sign in</html>".to_vec(), "not a readable SQLite database"),
        ("empty", Vec::new(), "too short"),
        ("without a core table", foreign, "no table observations"),
    ];
    for (name, bytes, said) in table {
        let sha = python_node_sha(&bytes);
        server.put(&python_node::key("mem", "sqlite/claude-mem.db"), &bytes);
        server
            .put(&python_node::key("mem", "sqlite/claude-mem.db.sha256"), format!("{sha}  claude-mem.db\n"));
        beta.cmd("pull_sqlite").run().assert_code(1).stdout_has(said).stdout_lacks("SYNC COMPLETE");
        assert_eq!(rows(&beta.db_path()), before, "{name}");
        assert!(backups(&beta).is_empty(), "{name}: nothing was replaced, nothing is to be kept");
        assert_no_leftovers(&beta);
    }
}

fn python_node_sha(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    membridge::context::hex(&Sha256::digest(bytes))
}

#[test]
fn f31_a_primary_is_up_to_date_after_its_own_push() {
    let server = S3Server::start();
    let alpha = pushed(&server, 20);
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
    // Housekeeping of the worker is no change either: the files differ, the memory does not.
    alpha.db().add_pending(3);
    alpha.db().execute("UPDATE observations SET relevance_count = relevance_count + 1");
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
    let beta = pulled(&server);
    server.reset_log();
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
    assert!(server.requests().iter().all(|request| request.bytes_out < 4096), "nothing is downloaded again");
}

#[test]
fn f31_a_second_push_with_nothing_new_takes_no_snapshot() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20);
    let push = || alpha.cmd("push_sqlite").env("MEMBRIDGE_LOG", "info").run();
    push().assert_code(0).stderr_has("snapshot taken");
    push().assert_code(0).stdout_has("already up to date").stderr_lacks("snapshot taken");
    server.reset_log();
    push().assert_code(0).stdout_has("already up to date").stderr_lacks("snapshot taken");
    // A person's push looks at the lease and at the copy for Python nodes too; a hook's at the rows only.
    let asked = server.requests();
    assert!(asked.len() <= 8, "a push without news: {asked:?}");
    server.reset_log();
    alpha.cmd("sync --for turn").run().assert_code(0);
    let asked = server.requests();
    assert!(asked.len() <= 2, "a hook's sync without news: {asked:?}");
}

#[test]
fn f44_rows_of_a_newer_claude_mem_come_in_and_its_image_does_not() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let install = |machine: &Machine| {
        let folder = ".claude/plugins/cache/thedotmack/claude-mem/10.3.3";
        machine.write(&format!("{folder}/package.json"), "{\"version\": \"10.3.3\"}");
        machine.write(&format!("{folder}/scripts/worker-service.cjs"), "");
    };
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V10_3_3).add_session("old").add_observations(3);
    install(&beta);
    let schema =
        |machine: &Machine| claude_mem::dump(machine.db_path(), "SELECT name, sql FROM sqlite_schema");
    let before = schema(&beta);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 10 observations");
    assert_eq!(schema(&beta), before, "rows come, the tables stay as its claude-mem made them");
    assert_whole(&beta.db_path());
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 3 observations");
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
    // A whole database of the newer one would be unreadable to the older.
    let whole = rows(&beta.db_path());
    let refused = beta.cmd("restore 1 --yes").run();
    refused.assert_code(1).stdout_has("schema 52").stdout_has("10.3.3").stdout_has("update claude-mem");
    assert_eq!(rows(&beta.db_path()), whole);
    let gamma = Machine::new("gamma", &server);
    install(&gamma);
    let refused = gamma.cmd("pull_sqlite").run();
    refused.assert_code(1).stdout_has("schema 52").stdout_has("10.3.3").stdout_has("update claude-mem");
    assert!(!gamma.db_path().exists());
    assert_no_leftovers(&gamma);

    // The other direction: a new claude-mem migrates what an old one wrote.
    let server = S3Server::start();
    let old = Machine::new("old", &server);
    old.create_db(Version::V10_3_3).add_session("one").add_observations(9);
    old.cmd("push_sqlite").run().assert_code(0);
    let new = Machine::new("new", &server);
    new.write(
        ".claude/plugins/cache/thedotmack/claude-mem/13.25.3/package.json",
        "{\"version\": \"13.25.3\"}",
    );
    new.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(rows(&new.db_path()), rows(&old.db_path()));
}

#[test]
fn f44_without_a_known_claude_mem_the_local_database_says_how_far_it_has_come() {
    let server = S3Server::start();
    pushed(&server, 10);
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V10_6_3).add_session("old").add_observations(3);
    beta.cmd("restore 1 --yes").run().assert_code(1).stdout_has("schema 52").stdout_has("schema 23");
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 10 observations");
}

#[test]
fn f45_a_database_that_lost_most_of_its_rows_is_not_pushed() {
    let server = S3Server::start();
    let alpha = pushed(&server, 40);
    let before = python_node::read(&server, "mem").unwrap();
    alpha.db().execute("DELETE FROM observations WHERE id > 15");
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has("15 observations").stdout_has("40").stdout_has("FORCE_PUSH=1");
    assert_eq!(python_node::read(&server, "mem").unwrap(), before);
    alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(15));
    // Half is not more than half.
    alpha.db().execute("DELETE FROM observations WHERE id > 8");
    alpha.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn f45_a_restore_that_did_not_happen_lets_nothing_go() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    alpha.db().add_session("more").add_observations(60);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // The backup that comes first finds no place.
    let backups = alpha.path(".claude-mem/backups");
    let _ = std::fs::remove_dir_all(&backups);
    alpha.write(".claude-mem/backups", "in the way");
    alpha.cmd("restore 1 --yes").run().assert_code(1);
    alpha.db().execute("DELETE FROM observations WHERE id IN (SELECT id FROM observations LIMIT 60)");
    alpha.cmd("push_sqlite").run().assert_code(1).stdout_has("more than half are missing");
}

#[test]
fn f45_what_others_deleted_long_ago_excuses_no_loss_after_a_promotion() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    alpha.db().add_session("more").add_observations(60);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    // Beta hears of sixty that go, and of sixty that come.
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    alpha.cmd("sync").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    server.set_clock_offset(3600);
    alpha.db().add_session("again").add_observations(60);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    beta.cmd("promote").run().assert_code(0);
    beta.db().execute("DELETE FROM observations WHERE id IN (SELECT id FROM observations LIMIT 60)");
    beta.cmd("push_sqlite").run().assert_code(1).stdout_has("more than half are missing");
}

#[test]
fn f45_what_went_on_purpose_is_archived_by_whoever_archives_and_the_guard_stays() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    for typed_on in [&alpha, &beta] {
        alpha.db().add_session("more").add_observations(60);
        alpha.cmd("push_sqlite").run().assert_code(0);
        beta.cmd("sync").run().assert_code(0);
        typed_on.cmd("restore 1 --yes").run().assert_code(0).stdout_has("this removes 6");
        for machine in [typed_on, &alpha, &beta] {
            machine.cmd("sync").run().assert_code(0);
        }
        assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()));
        assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(10));
        // Nobody asked for this.
        alpha.db().execute("DELETE FROM observations WHERE id IN (SELECT id FROM observations LIMIT 6)");
        alpha.cmd("push_sqlite").run().assert_code(1).stdout_has("more than half are missing");
        alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run().assert_code(0);
        beta.cmd("sync").run().assert_code(0);
        alpha.db().add_session("again").add_observations(6);
        alpha.cmd("push_sqlite").run().assert_code(0);
    }
}
