//! What is recorded anywhere is everywhere: a fleet in its default configuration, machines that both had memory before they
//! met, vanished rows, stores that are not the one that they were. rows_model proves the same over random lives.

use crate::common::{assert_whole, memory};
use crate::sealed::{joined, key_of, seal_it};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::python_node::{PythonNode, Stop};
use crate::support::s3::{Fault, Op, S3Server};
use crate::support::terminal::Shown;

fn machine(name: &str, server: &S3Server, observations: usize) -> Machine {
    let machine = Machine::new(name, server);
    machine.create_db(Version::V13_25_3).add_session(name).add_observations(observations).add_prompts(2);
    machine
}

fn observations(machine: &Machine) -> i64 {
    claude_mem::counts(machine.db_path()).observations
}

#[test]
fn in_the_default_configuration_what_secondaries_record_is_everywhere() {
    let server = S3Server::start();
    let fleet = [machine("desk", &server, 10), machine("pi", &server, 5), machine("board", &server, 3)];
    for round in 0..3 {
        for machine in &fleet {
            machine.db().add_session(&format!("{}-{round}", machine.name)).add_observations(2);
            machine.cmd("sync --for turn").run().assert_code(0);
        }
    }
    for machine in &fleet {
        machine.cmd("sync --for start").run().assert_code(0);
    }
    let all = memory(&fleet[0].db_path());
    assert_eq!(observations(&fleet[0]), 10 + 5 + 3 + 3 * 3 * 2);
    for machine in &fleet {
        assert_eq!(memory(&machine.db_path()), all, "{}", machine.name);
        assert_whole(&machine.db_path());
    }
}

#[test]
fn two_machines_that_both_had_memory_have_both_after_a_sync_each() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 300), machine("laptop", &server, 40));
    desk.cmd("sync").run().assert_code(0).stdout_has("sending: 300 observations");
    laptop.cmd("sync").run().assert_code(0).stdout_has("received: 300 observations");
    desk.cmd("sync").run().assert_code(0).stdout_has("received: 40 observations");
    assert_eq!((observations(&desk), observations(&laptop)), (340, 340));
    assert_eq!(memory(&desk.db_path()), memory(&laptop.db_path()));
    for machine in [&desk, &laptop] {
        machine.cmd("sync").run().assert_code(0).stdout_has("already up to date");
    }
}

#[test]
fn a_dry_run_says_what_the_real_one_says_and_changes_nothing() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 30), machine("laptop", &server, 4));
    desk.cmd("sync").run().assert_code(0);
    let (keys, before, files) = (server.keys(""), memory(&laptop.db_path()), laptop.files());
    laptop
        .cmd("sync --dry-run")
        .run()
        .assert_code(0)
        .stdout_has("received: 30 observations")
        .stdout_has("sending: 4 observations");
    assert_eq!(server.keys(""), keys);
    assert_eq!(memory(&laptop.db_path()), before);
    assert_eq!(laptop.files(), files);
    laptop
        .cmd("sync")
        .run()
        .assert_code(0)
        .stdout_has("received: 30 observations")
        .stdout_has("sending: 4 observations");
}

#[test]
fn rows_that_vanish_in_mass_are_held_until_a_person_says_what_is_meant() {
    for (flag, left) in [("--put-back", 80), ("--accept-deletions", 2)] {
        let server = S3Server::start();
        let (desk, laptop) = (machine("desk", &server, 80), Machine::new("laptop", &server));
        desk.cmd("sync").run().assert_code(0);
        laptop.cmd("pull_sqlite").run().assert_code(0);
        desk.db().execute("DELETE FROM observations WHERE id > 2");
        desk.cmd("sync").run().stdout_has("--put-back").stdout_has("--accept-deletions");
        laptop.cmd("pull_sqlite").run().assert_code(0);
        assert_eq!(observations(&laptop), 80, "nothing was deleted elsewhere");
        desk.cmd(&format!("sync {flag}")).run().assert_code(0);
        laptop.cmd("pull_sqlite").run().assert_code(0);
        assert_eq!((observations(&desk), observations(&laptop)), (left, left), "{flag}");
        assert_eq!(memory(&desk.db_path()), memory(&laptop.db_path()), "{flag}");
    }
}

#[test]
fn a_death_while_vanished_rows_are_put_back_leaves_none_behind() {
    for failpoint in ["rows.asked", "rows.segment-read", "rows.arriving", "rows.arrived"] {
        let server = S3Server::start();
        let (desk, laptop) = (machine("desk", &server, 80), Machine::new("laptop", &server));
        desk.cmd("sync").run().assert_code(0);
        laptop.cmd("pull_sqlite").run().assert_code(0);
        desk.db().execute("DELETE FROM observations WHERE id > 2");
        desk.cmd("sync --for turn").run().assert_code(0);
        desk.cmd("sync").run();
        desk.cmd("sync --put-back").env("MEMBRIDGE_FAILPOINT", failpoint).run().assert_code(137);
        desk.cmd("sync --for whole").run().assert_code(0);
        assert_eq!(observations(&desk), 80, "{failpoint}");
        assert_eq!(memory(&desk.db_path()), memory(&laptop.db_path()), "{failpoint}");
    }
}

/// Observations of one session, instant, type and title are told apart by what they say, in the order in which they are met.
#[test]
fn twins_that_are_put_back_are_there_once_wherever_the_run_dies() {
    for failpoint in ["rows.arriving", "rows.arrived", "rows.entered"] {
        let server = S3Server::start();
        let (desk, laptop) = (machine("desk", &server, 12), Machine::new("laptop", &server));
        desk.db().execute(
            "INSERT INTO observations(memory_session_id, project, type, title, narrative, created_at, created_at_epoch, content_hash)
             SELECT memory_session_id, project, type, title, 'the other', created_at, created_at_epoch, 'x' || id FROM observations",
        );
        desk.cmd("sync").run().assert_code(0);
        laptop.cmd("pull_sqlite").run().assert_code(0);
        desk.db().execute("DELETE FROM observations");
        desk.cmd("sync").run().stdout_has("membridge sync --put-back");
        desk.cmd("sync --put-back").env("MEMBRIDGE_FAILPOINT", failpoint).run().assert_code(137);
        for machine in [&desk, &laptop] {
            machine.cmd("sync --for whole").run().assert_code(0);
            assert_eq!(observations(machine), 24, "{failpoint}: {}", machine.name);
        }
        assert_eq!(memory(&desk.db_path()), memory(&laptop.db_path()), "{failpoint}");
    }
}

#[test]
fn what_a_python_node_pushed_is_fetched_once_also_where_nobody_archives() {
    let server = S3Server::start();
    let mut alpha = machine("alpha", &server, 5);
    alpha.set("MEMBRIDGE_EXCLUDE_PROJECTS", "secret*");
    alpha.cmd("sync").run().assert_code(0);
    let python = machine("python", &server, 4);
    let then = jiff::Timestamp::now().as_second() - 9000;
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), then, Stop::Never);
    server.reset_log();
    alpha.cmd("sync").run().assert_code(0).stdout_has("the push of python is taken in");
    assert_eq!(observations(&alpha), 9);
    for _ in 0..3 {
        alpha.cmd("sync").run().assert_code(0).stdout_lacks("taken in");
    }
    assert_eq!(
        server.count(Op::GetObject, "sqlite/claude-mem.db"),
        server.count(Op::GetObject, "claude-mem.db.sha256") + 1
    );
    assert!(
        server.keys("projects/").iter().all(|key| !key.contains("/commits/")),
        "no image of what is excluded"
    );
    // A newer push is another image.
    python.db().add_observations(2);
    PythonNode::new(&server, "mem", "python").write(&python.db_path(), then + 60, Stop::Never);
    alpha.cmd("sync").run().assert_code(0).stdout_has("the push of python is taken in");
    assert_eq!(observations(&alpha), 11);
}

#[test]
fn a_store_that_is_not_the_one_it_was_gets_nothing_until_a_person_says_that_it_is_meant() {
    let server = S3Server::start();
    let desk = machine("desk", &server, 6);
    desk.cmd("sync").run().assert_code(0);
    server.clear();
    desk.db().add_observations(1);
    for command in ["sync", "push_sqlite", "pull_sqlite", "promote", "demote other", "mirror off --force"] {
        desk.cmd(command)
            .run()
            .assert_code(1)
            .stdout_has("is empty")
            .stdout_has("membridge sync --new-store");
        assert!(server.keys("").is_empty(), "{command}: {:?}", server.keys(""));
    }
    desk.cmd("sync --new-store").run().assert_code(0);
    let laptop = Machine::new("laptop", &server);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(observations(&laptop), 7);
    // Another store in its place is no better.
    let other = S3Server::start();
    machine("stranger", &other, 3).cmd("sync").run().assert_code(0);
    server.clear();
    for key in other.keys("") {
        server.put(&key, other.get(&key).unwrap());
    }
    desk.cmd("sync").run().assert_code(1).stdout_has("is another one").stdout_has("--new-store");
    assert_eq!(observations(&desk), 7);
}

#[test]
fn what_others_do_after_a_restore_is_not_undone_by_it() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 4);
    alpha.cmd("sync").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("sync").run().assert_code(0);
    alpha.db().add_session("later").add_observations(2);
    for machine in [&alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
    }
    alpha.cmd("restore 1 --yes").run().assert_code(0).stdout_has("this removes 2 observations, 1 session");
    // Before alpha syncs again: what nobody had when the person at alpha was asked.
    beta.db().add_session("meanwhile").add_observations(3);
    beta.db().execute("UPDATE observations SET narrative = 'changed meanwhile' WHERE id = 1");
    beta.db().execute("DELETE FROM observations WHERE id = 2");
    for machine in [&beta, &alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
    }
    let changed = "SELECT count(*) FROM observations WHERE narrative = 'changed meanwhile'";
    for machine in [&alpha, &beta] {
        assert_eq!(observations(machine), 3 + 3, "{}: one deleted, two removed, three new", machine.name);
        assert_eq!(claude_mem::dump(machine.db_path(), changed), ["1"], "{}", machine.name);
    }
}

#[test]
fn a_restore_onto_a_machine_that_lost_its_database_removes_nothing_anywhere() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 4);
    alpha.cmd("sync").run().assert_code(0);
    alpha.db().add_session("later").add_observations(2);
    alpha.cmd("sync").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("sync").run().assert_code(0);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", alpha.db_path().display()));
    }
    // Nobody is asked here, because nothing is replaced.
    alpha.cmd("restore 1").run().assert_code(0);
    for machine in [&alpha, &beta] {
        machine.cmd("sync").run().assert_code(0);
        assert_eq!(observations(machine), 6, "{}", machine.name);
    }
}

#[test]
fn a_backup_that_only_adds_removes_nothing_that_was_not_sent_yet() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 4);
    alpha.cmd("sync").run().assert_code(0);
    alpha.db().add_session("later").add_observations(2);
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    alpha.db().add_session("unsent").add_observations(3);
    let backups = alpha.cmd("restore-backup --json").run().json();
    let name = backups["backups"][0]["name"].as_str().unwrap().to_owned();
    alpha.cmd(&format!("restore-backup {name} --add-only")).run().assert_code(0);
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(observations(&alpha), 4 + 2 + 3);
    let beta = Machine::new("beta", &server);
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(observations(&beta), 9);
}

/// Beta, which collected alpha's forty observations, has six pairs of observations that differ in their text alone; alpha
/// has them too.
fn with_pairs(server: &S3Server, sealed: bool) -> (Machine, Machine) {
    let alpha = machine("alpha", server, 40);
    if sealed {
        seal_it(&alpha);
    }
    alpha.cmd("sync").run().assert_code(0);
    let beta = if sealed { joined(server, "beta", &key_of(&alpha)) } else { Machine::new("beta", server) };
    beta.cmd("sync").run().assert_code(0);
    beta.db().add_session("pairs").add_observations(6).execute(
        "INSERT INTO observations(memory_session_id, project, type, title, narrative, created_at, created_at_epoch)
         SELECT memory_session_id, project, type, title, narrative || ' twin', created_at, created_at_epoch
         FROM observations ORDER BY id DESC LIMIT 6",
    );
    for machine in [&beta, &alpha] {
        machine.cmd("sync").run().assert_code(0);
        assert_eq!(observations(machine), 40 + 12);
    }
    (alpha, beta)
}

/// The pairs go with a restore; the name of the copy that it made.
fn pairs_go(machine: &Machine) -> String {
    let restored = machine.cmd("restore 1 --yes --json").run().json();
    let folder = std::path::Path::new(restored["backup"].as_str().unwrap()).parent().unwrap().to_owned();
    machine.cmd("sync").run().assert_code(0);
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The pairs come back with the copy, without a word to the store; meanwhile the other machine changes one of each.
fn pairs_come_back(server: &S3Server, here: &Machine, there: &Machine, copy: &str) {
    there.db().execute(
        "UPDATE observations SET subtitle = 'changed' WHERE id > 40 AND narrative NOT LIKE '% twin'",
    );
    let down = server.fault(Fault::Disconnect);
    here.cmd(&format!("restore-backup {copy} --yes")).run().assert_code(0);
    drop(down);
}

/// All have all texts, each once.
#[track_caller]
fn all_texts_are_there(here: &Machine, there: &Machine) {
    for machine in [here, there, here, there] {
        machine.cmd("sync").run().assert_code(0);
    }
    let texts = "SELECT count(*), count(DISTINCT narrative) FROM observations";
    for machine in [here, there] {
        assert_eq!(claude_mem::dump(machine.db_path(), texts), ["52 | 52"], "{}", machine.name);
    }
    assert_eq!(memory(&here.db_path()), memory(&there.db_path()));
}

#[test]
fn of_two_rows_of_one_key_that_are_put_back_each_is_taken_for_itself() {
    // Where they were born, and where they came to: each numbers them in an order of its own.
    for born_here in [true, false] {
        let server = S3Server::start();
        let (alpha, beta) = with_pairs(&server, false);
        let (here, there) = if born_here { (&beta, &alpha) } else { (&alpha, &beta) };
        let copy = pairs_go(here);
        pairs_come_back(&server, here, there, &copy);
        all_texts_are_there(here, there);
    }
}

fn segments(server: &S3Server) -> usize {
    let rows = server.keys("").into_iter().filter(|key| key.contains("/membridge/rows/"));
    rows.count()
}

#[test]
fn of_two_rows_of_one_key_each_is_taken_for_itself_when_the_log_has_folded_away_what_they_said() {
    for born_here in [true, false] {
        let server = S3Server::start();
        let (alpha, beta) = with_pairs(&server, true);
        let (here, there) = if born_here { (&beta, &alpha) } else { (&alpha, &beta) };
        let copy = pairs_go(here);
        // A new key: each machine says anew what it stands for, and what was there before goes a day later.
        here.cmd("key rotate").run().assert_code(0);
        here.cmd("sync").run().assert_code(0);
        let before = segments(&server);
        server.age(2 * 86_400);
        server.set_clock_offset(2 * 86_400);
        here.cmd("sync").run().assert_code(0);
        assert!(segments(&server) < before, "{} of {before} segments", segments(&server));
        pairs_come_back(&server, here, there, &copy);
        there.cmd("key import").stdin(format!("{}\n", key_of(here))).run().assert_code(0);
        all_texts_are_there(here, there);
    }
}

#[test]
fn a_restore_that_removes_rows_asks_first() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server, 3);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_session("later").add_observations(2);
    alpha.cmd("sync").run().assert_code(0);
    let before = memory(&alpha.db_path());
    alpha
        .cmd("restore 1")
        .run()
        .assert_code(1)
        .stdout_has("not restored: this removes 2 observations, 1 session here")
        .stdout_has("--yes")
        .stdout_has("--add-only");
    assert_eq!(memory(&alpha.db_path()), before);
    for (answer, code, left) in [("n", 1, 5), ("y", 0, 3)] {
        let mut terminal = alpha.cmd("restore 1").at_terminal(100, Shown::Both);
        terminal.wait_for("Go on?").type_keys(&format!("{answer}\n"));
        assert_eq!(terminal.wait().code, code, "{answer}");
        assert_eq!(observations(&alpha), left, "{answer}");
    }
}

#[test]
fn a_fold_of_what_is_known_already_is_nothing_that_another_machine_archived_first() {
    let server = S3Server::start();
    let (alpha, beta) = (machine("alpha", &server, 1), Machine::new("beta", &server));
    for _ in 0..16 {
        alpha.db().add_observations(1);
        alpha.cmd("sync --for turn").run().assert_code(0);
    }
    beta.cmd("sync").run().assert_code(0);
    // All that beta has collected is folded, and archived with the fold.
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().execute("UPDATE observations SET subtitle = 'later' WHERE id = 1");
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.cmd("promote").run().assert_code(0);
    beta.db().add_session("here").add_observations(1);
    beta.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
}
