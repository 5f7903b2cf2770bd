//! What people do to their machines without meaning anything by it: old files put back, claude-mem installed anew, the wrong
//! machine first, a hand-over to one that is behind. No command that is named leads in a circle, and all memory is everywhere.

use crate::common::{assert_whole, backups, memory};
use crate::hooks::START;
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

fn machine(name: &str, server: &S3Server, observations: usize) -> Machine {
    let machine = Machine::new(name, server);
    if observations > 0 {
        machine.create_db(Version::V13_25_3).add_session(name).add_observations(observations);
    }
    machine
}

fn observations(machine: &Machine) -> i64 {
    claude_mem::counts(machine.db_path()).observations
}

/// After each has typed `sync` once more, all hold the same so many.
#[track_caller]
fn all_hold(machines: &[&Machine], wanted: i64) {
    for _ in 0..2 {
        for machine in machines {
            machine.cmd("sync").run().assert_code(0);
        }
    }
    let all = memory(&machines[0].db_path());
    for machine in machines {
        assert_eq!(observations(machine), wanted, "{}", machine.name);
        assert!(memory(&machine.db_path()) == all, "{}", machine.name);
        assert_whole(&machine.db_path());
    }
}

/// A copy of the database as it is now.
fn save(machine: &Machine) -> std::path::PathBuf {
    let open = rusqlite::Connection::open(machine.db_path()).unwrap();
    open.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let copy = machine.path("saved.db");
    std::fs::copy(machine.db_path(), &copy).unwrap();
    copy
}

fn remove(machine: &Machine) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", machine.db_path().display()));
    }
}

fn put_back(machine: &Machine, copy: &std::path::Path) {
    remove(machine);
    std::fs::copy(copy, machine.db_path()).unwrap();
}

#[test]
fn an_old_file_on_the_primary_gets_the_memory_back_by_any_command() {
    for command in ["push_sqlite", "pull_sqlite", "sync"] {
        let server = S3Server::start();
        let desk = machine("desk", &server, 10);
        desk.cmd("sync").run().assert_code(0);
        let old = save(&desk);
        desk.db().add_session("more").add_observations(40);
        desk.cmd("push_sqlite").run().assert_code(0);
        put_back(&desk, &old);
        assert_eq!(observations(&desk), 10);
        desk.cmd(command).run().assert_code(0).stdout_has("an older file of the database was put back here");
        all_hold(&[&desk], 50);
    }
}

#[test]
fn an_old_file_on_a_secondary_takes_nothing_from_anybody() {
    let server = S3Server::start();
    let fleet = [("desk", 10), ("laptop", 0), ("board", 0)];
    let [desk, laptop, board] = fleet.map(|(name, rows)| machine(name, &server, rows));
    desk.cmd("sync").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    let old = save(&laptop);
    desk.db().add_session("more").add_observations(8);
    for machine in [&desk, &laptop, &board] {
        machine.cmd("sync").run().assert_code(0);
    }
    put_back(&laptop, &old);
    laptop.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(0);
    assert_eq!(observations(&laptop), 18);
    all_hold(&[&desk, &laptop, &board], 18);
}

#[test]
fn claude_mem_installed_anew_has_the_memory_of_the_fleet_and_its_own() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 40), machine("laptop", &server, 0));
    desk.cmd("sync").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    remove(&laptop);
    laptop.create_db(Version::V13_25_3).add_session("anew").add_observations(2);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(observations(&laptop), 42);
    all_hold(&[&desk, &laptop], 42);
}

#[test]
fn who_is_promoted_while_it_is_behind_catches_up_by_its_own_push() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 20), machine("laptop", &server, 0));
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    desk.db().add_session("last").add_observations(3);
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("promote").run().assert_code(0);
    laptop.db().add_session("new").add_observations(2);
    laptop.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    all_hold(&[&laptop, &desk], 25);
}

#[test]
fn the_lock_of_the_dead_is_overridden_by_what_the_hint_names_and_nothing_else_is() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 20), machine("laptop", &server, 0));
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    desk.db().add_session("last").add_observations(3);
    desk.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "push.before-release").run().assert_code(137);
    laptop.cmd("promote").run().assert_code(0);
    laptop.db().add_session("new").add_observations(2);
    laptop.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE").stdout_has("--take-lock");
    laptop.cmd("push_sqlite --take-lock").run().assert_code(0);
    all_hold(&[&laptop, &desk], 25);
}

#[test]
fn sessions_on_a_secondary_leave_no_pile_of_backups() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 40), machine("laptop", &server, 0));
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    for _ in 0..4 {
        for machine in [&desk, &laptop] {
            machine.db().add_observations(1);
            machine.cmd("sync --for end").run().assert_code(0);
        }
    }
    all_hold(&[&desk, &laptop], 48);
    assert!(backups(&laptop).is_empty() && backups(&desk).is_empty());
}

#[test]
fn without_roles_two_machines_that_both_record_come_together() {
    let server = S3Server::start();
    let [desk, laptop] = [("desk", 20), ("laptop", 0)].map(|(name, rows)| {
        let mut machine = machine(name, &server, rows);
        machine.set("LEADERSHIP_ENABLED", "0");
        machine
    });
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    for machine in [&desk, &laptop] {
        machine.db().add_session(&format!("work on {}", machine.name)).add_observations(1);
    }
    for command in ["push_sqlite", "pull_sqlite"] {
        for machine in [&desk, &laptop] {
            machine.cmd(command).run().assert_code(0);
        }
    }
    all_hold(&[&desk, &laptop], 22);
}

#[test]
fn the_machine_with_little_may_come_first() {
    let server = S3Server::start();
    let (board, desk) = (machine("board", &server, 3), machine("desk", &server, 500));
    board.cmd("push_sqlite").run().assert_code(0);
    desk.cmd("push_sqlite").run().assert_code(3).stdout_has("its rows are shared all the same");
    desk.cmd("hook session-start").stdin(START).run().assert_code(0);
    assert_eq!(observations(&desk), 503);
    all_hold(&[&board, &desk], 503);
}

#[test]
fn what_the_primary_changed_while_others_pushed_is_everywhere() {
    let server = S3Server::start();
    let (desk, laptop) = (machine("desk", &server, 20), machine("laptop", &server, 0));
    desk.db().add_summaries(1);
    desk.cmd("push_sqlite").run().assert_code(0);
    laptop.cmd("pull_sqlite").run().assert_code(0);
    laptop.db().add_session("b").add_observations(1);
    laptop.cmd("push_sqlite").env("ALLOW_SECONDARY_PUSH", "1").run().assert_code(0);
    desk.db().execute("UPDATE session_summaries SET learned = 'only desk knows' WHERE id = 1");
    desk.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    all_hold(&[&desk, &laptop], 21);
    let told = claude_mem::dump(laptop.db_path(), "SELECT learned FROM session_summaries");
    assert!(told.iter().any(|row| row.contains("only desk knows")), "{told:?}");
}
