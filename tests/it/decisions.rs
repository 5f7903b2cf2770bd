//! The three-way decision from the outside: what push and pull do in each case, with their exit codes.

use crate::common::{backups, rows, titles_anywhere};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::S3Server;

const NOW: i64 = 1_760_000_000;

fn machine(name: &str, server: &S3Server, observations: usize) -> Machine {
    let machine = Machine::new(name, server);
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(observations);
    machine
}

/// A copy of a machine's database on another machine, as people made them by hand before.
fn copy_database(from: &Machine, to: &Machine) {
    let source = rusqlite::Connection::open(from.db_path()).unwrap();
    std::fs::create_dir_all(to.path(".claude-mem")).unwrap();
    source.execute("VACUUM INTO ?1", [to.db_path().to_str().unwrap()]).unwrap();
}

#[test]
fn a_primary_that_comes_from_python_pushes_without_ceremony() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    PythonNode::new(&server, "mem", "alpha").push(&alpha.db_path(), NOW);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
    alpha.db().add_observations(3);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(13));
}

#[test]
fn rows_recorded_before_the_first_membridge_push_go_up_too() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    PythonNode::new(&server, "mem", "alpha").push(&alpha.db_path(), NOW);
    alpha.db().add_observations(3);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("compared row by row")
        .stdout_has("PUSH COMPLETE");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(13));
}

#[test]
fn the_first_push_of_a_stranger_never_replaces_anything() {
    let server = S3Server::start();
    machine("alpha", &server, 10).cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    let before = python_node::read(&server, "mem").unwrap();
    let stranger = machine("stranger", &server, 8);
    let refused = stranger.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run();
    refused.assert_code(4).stdout_has("8 observations here").stdout_has("10 in the bucket");
    refused.stdout_has("only here: 8 observations").stdout_has("only there: 10 observations");
    refused.stdout_has("FORCE_PUSH=1 membridge push_sqlite").stdout_has("membridge pull_sqlite");
    assert_eq!(python_node::read(&server, "mem").unwrap(), before);
}

#[test]
fn force_push_overwrites_and_keeps_what_it_overwrote() {
    let server = S3Server::start();
    machine("alpha", &server, 10).cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    let before = Machine::new("reader", &server);
    before.cmd("pull_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    let stranger = machine("stranger", &server, 8);
    let forced = stranger.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").env("FORCE_PUSH", "1").run();
    forced.assert_code(0).stdout_has("PUSH COMPLETE").stdout_has("commit 2");
    // The history keeps what was overwritten (F08).
    let file = stranger.path("before.db");
    stranger.cmd("restore 1 --to").arg(&file).run().assert_code(0);
    assert_eq!(rows(&file), rows(&before.db_path()));
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(8));
}

#[test]
fn a_machine_that_is_behind_pushes_nothing_and_is_told_to_pull() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_observations(5);
    alpha.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run().assert_code(0);
    let push = beta.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run();
    push.assert_code(0).stdout_has("nothing of ours to push").stdout_has("membridge pull_sqlite");
    // Also when the record is lost: the rows say the same.
    std::fs::remove_dir_all(beta.path(".membridge/records")).unwrap();
    let push = beta.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "0").run();
    push.assert_code(0).stdout_has("nothing of ours to push");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(15));
}

#[test]
fn without_a_record_a_subset_is_fast_forwarded_and_a_superset_is_kept() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    let subset = Machine::new("subset", &server);
    copy_database(&alpha, &subset);
    alpha.db().add_observations(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let superset = Machine::new("superset", &server);
    copy_database(&alpha, &superset);
    superset.db().add_session("more").add_observations(2);
    let before = rows(&superset.db_path());

    subset.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(rows(&subset.db_path()), rows(&alpha.db_path()));
    superset.cmd("pull_sqlite").run().assert_code(0).stdout_has("nothing to pull");
    assert_eq!(rows(&superset.db_path()), before);
}

#[test]
fn exit_2_a_primary_never_pulls_over_its_own_database() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let python = Machine::new("python", &server);
    copy_database(&alpha, &python);
    python.db().add_observations(4);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), NOW, python_node::Stop::Never);
    let before = rows(&alpha.db_path());
    let refused = alpha.cmd("pull_sqlite").run();
    refused.assert_code(2).stdout_has("is primary").stdout_has("ALLOW_PRIMARY_PULL_OVERRIDE=1");
    assert_eq!(rows(&alpha.db_path()), before);
    assert!(backups(&alpha).is_empty());
    alpha.cmd("pull_sqlite").env("ALLOW_PRIMARY_PULL_OVERRIDE", "yes").run().assert_code(0);
    assert_eq!(rows(&alpha.db_path()), rows(&python.db_path()));
}

#[test]
fn exit_2_also_when_both_sides_changed_and_the_override_backs_up_first() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let python = Machine::new("python", &server);
    copy_database(&alpha, &python);
    python.db().add_observations(4);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), NOW, python_node::Stop::Never);
    alpha.db().add_session("mine").add_observations(3);
    let mine = claude_mem::titles(alpha.db_path());
    alpha.cmd("pull_sqlite").run().assert_code(2);
    alpha.cmd("push_sqlite").run().assert_code(4).stdout_has("diverged");
    alpha
        .cmd("pull_sqlite")
        .env("ALLOW_PRIMARY_PULL_OVERRIDE", "1")
        .run()
        .assert_code(0)
        .stdout_has("restore-backup");
    let everywhere = titles_anywhere(&alpha);
    assert!(mine.iter().all(|title| everywhere.contains(title)));
}

#[test]
fn exit_3_a_secondary_never_pushes_unless_told() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    beta.db().add_session("mine").add_observations(2);
    let before = python_node::read(&server, "mem").unwrap();
    let refused = beta.cmd("push_sqlite").run();
    refused
        .assert_code(3)
        .stdout_has("role=secondary")
        .stdout_has("alpha")
        .stdout_has("ALLOW_SECONDARY_PUSH=1");
    assert_eq!(python_node::read(&server, "mem").unwrap(), before);
    beta.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(PythonNode::new(&server, "mem", "x").remote_observations(), Some(12));
}

#[test]
fn exit_4_without_roles_nobody_can_say_whose_version_counts() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").env("LEADERSHIP_ENABLED", "off").run().assert_code(0);
    let beta = machine("beta", &server, 5);
    let before = rows(&beta.db_path());
    beta.cmd("pull_sqlite").env("LEADERSHIP_ENABLED", "off").run().assert_code(4).stdout_has("diverged");
    assert_eq!(rows(&beta.db_path()), before);
    assert!(
        server.keys("projects/6fe2e0f6071ac2bb/leadership/").is_empty(),
        "no lease is written with roles off"
    );
}

#[test]
fn a_restored_backup_is_compared_before_anything_is_overwritten() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = machine("beta", &server, 6);
    let mine = rows(&beta.db_path());
    let name = {
        let report = beta.cmd("pull_sqlite --json").run().json();
        let path = std::path::PathBuf::from(report["backup"].as_str().unwrap());
        path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    };
    beta.cmd("restore-backup").run().assert_code(0).stdout_has(&name).stdout_has("6 observations");
    beta.cmd("restore-backup nope").run().assert_code(1).stdout_has("no backup named 'nope'");
    let theirs = rows(&beta.db_path());
    beta.cmd(&format!("restore-backup {name}")).run().assert_code(0).stdout_has("RESTORE COMPLETE");
    assert_eq!(rows(&beta.db_path()), mine);
    assert_eq!(backups(&beta).len(), 2, "what was there is backed up");
    // Its rows are not the bucket's: a push must not take them for the next version of it.
    beta.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(4);
    let listed = beta.cmd("restore-backup --json").run().json();
    let newest = std::path::Path::new(listed["backups"][0]["folder"].as_str().unwrap()).join("claude-mem.db");
    assert_eq!(rows(&newest), theirs);
}

#[test]
fn sync_pulls_then_pushes_and_starts_an_empty_bucket() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 4);
    let first = alpha.cmd("sync --json").run();
    first.assert_code(0);
    assert_eq!(
        (first.json()["pulled"].as_str(), first.json()["pushed"].as_str()),
        (Some("nothing_there"), Some("pushed"))
    );
    let beta = Machine::new("beta", &server);
    let second = beta.cmd("sync --json").run();
    second.assert_code(0);
    assert_eq!(
        (second.json()["pulled"].as_str(), second.json()["pushed"].as_str()),
        (Some("pulled"), Some("refused_secondary"))
    );
    assert_eq!(rows(&alpha.db_path()), rows(&beta.db_path()));
}

#[test]
fn a_damaged_record_is_set_aside_and_costs_one_comparison() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 10);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let record = alpha.files().into_iter().find(|file| file.starts_with(".membridge/records/")).unwrap();
    alpha.write(&record, "{\"schema\": ");
    alpha.db().add_observations(1);
    alpha
        .cmd("push_sqlite")
        .run()
        .assert_code(0)
        .stdout_has("WARNING")
        .stdout_has("damaged")
        .stdout_has("PUSH COMPLETE");
    assert!(alpha.path(&format!("{record}.damaged")).exists());
}
