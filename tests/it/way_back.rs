//! Back to Python at any moment: whatever membridge has done to a bucket, the script can go on with it, and membridge
//! after the script. The reader follows the script's rules and shares no code with membridge.

use crate::common::{now, rows};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::python_node::{Lock, PythonNode, Role};
use crate::support::s3::S3Server;

const ROOT: &str = "projects/6fe2e0f6071ac2bb/";
/// What a Python node knows of a project.
const MIRROR: [&str; 3] = ["sqlite/claude-mem.db", "sqlite/claude-mem.db.sha256", "sqlite/manifest.json"];

fn etags(server: &S3Server) -> Vec<Option<String>> {
    MIRROR.iter().map(|name| server.etag(&format!("{ROOT}{name}"))).collect()
}

/// The machine as it would be with the old script: its host name, its node id, its database.
fn as_python(server: &S3Server, machine: &Machine) -> PythonNode {
    PythonNode::new(server, "mem", &machine.name)
}

/// A Python node elsewhere finds exactly these rows, in objects that agree with each other.
#[track_caller]
fn python_reads(server: &S3Server, machine: &Machine) {
    let reader = PythonNode::new(server, "mem", "reader");
    let copy = machine.path("python/claude-mem.db");
    reader.pull(&copy).unwrap();
    assert_eq!(rows(&copy), rows(&machine.db_path()));
    let count = rusqlite::Connection::open(machine.db_path())
        .unwrap()
        .query_row("SELECT count(*) FROM observations", [], |row| row.get(0))
        .unwrap();
    assert_eq!(reader.remote_observations(), Some(count));
}

#[test]
fn the_script_goes_on_after_any_push_and_membridge_after_the_script() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(20).add_prompts(3);
    for round in 1..=3 {
        // A history grows beside what Python sees.
        alpha.db().add_observations(2);
        let pushed = alpha.cmd("push_sqlite").run();
        pushed.assert_code(0).stdout_has(&format!("commit {round}"));
        python_reads(&server, &alpha);

        // The same machine with the old script: still primary, not locked out, and its push is taken.
        let script = as_python(&server, &alpha);
        assert_eq!(script.role(now()), Role::Primary);
        assert_ne!(script.lock(now()), Lock::Held("alpha".to_owned()));
    }
    let script = as_python(&server, &alpha);
    alpha.db().add_observations(4);
    assert_eq!(script.push(&alpha.db_path(), now()), 0);
    python_reads(&server, &alpha);

    // And back to membridge: the script's push becomes a part of the history, and nothing is pulled over it.
    alpha.cmd("pull_sqlite").run().assert_code(2);
    alpha.db().add_observations(1);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("the push of alpha became commit 4")
        .stdout_has("commit 5");
    python_reads(&server, &alpha);
    alpha.cmd("verify --all").run().assert_code(0);
}

#[test]
fn a_copy_that_was_switched_off_is_whole_again_after_mirror_on_and_one_push() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(20);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("mirror off").run().assert_code(0);
    let old = etags(&server);
    for _ in 0..3 {
        db.add_observations(5);
        alpha.cmd("push_sqlite").run().assert_code(0);
        assert_eq!(etags(&server), old, "left alone while it is off");
    }
    let reader = PythonNode::new(&server, "mem", "reader");
    assert_eq!(reader.remote_observations(), Some(20), "old, but whole");
    assert!(reader.read().is_ok());

    alpha.cmd("mirror on").run().assert_code(0);
    alpha.cmd("push_sqlite --dry-run").run().assert_code(0);
    assert_eq!(etags(&server), old, "a dry run writes nothing");
    // Nothing is new here, and the copy is written all the same.
    alpha.cmd("push_sqlite").run().assert_code(0);
    for (before, after) in old.iter().zip(etags(&server)) {
        assert_ne!(before, &after);
    }
    python_reads(&server, &alpha);
    assert_eq!(as_python(&server, &alpha).push(&alpha.db_path(), now()), 0);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
}
