//! Rows that arrive in numbers: how the database is written, and what one that cannot come does to the others.

use crate::common::{assert_whole, memory};
use crate::hooks::START;
use crate::support::claude_mem::{self, Version};
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::machine::Machine;
use crate::support::s3::{Op, S3Server};

fn joined(name: &str, store: &std::path::Path) -> Machine {
    let machine = Machine::new(name, store);
    machine.create_db(Version::V13_25_3).add_session(name).add_observations(1);
    machine
}

/// A machine that published this many observations.
fn published(store: &std::path::Path, observations: usize) -> Machine {
    let desk = joined("desk", store);
    desk.db().add_session("many").add_observations(observations).add_prompts(20).add_summaries(3);
    desk.cmd("sync").run().assert_code(0);
    desk
}

/// Transactions in which rows of others arrived during a sync.
fn transactions(machine: &Machine) -> usize {
    let log = machine.path("passed");
    machine.cmd("sync").env("MEMBRIDGE_FAILPOINT_LOG", &log).run().assert_code(0);
    let passed = std::fs::read_to_string(log).unwrap();
    passed.lines().filter(|step| *step == "rows.arrived").count()
}

/// Each transaction writes the log, folds it in and makes a piece of the search index; only a worker is worth that.
#[test]
fn rows_arrive_in_few_transactions_where_nobody_else_has_the_database_open() {
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 3000);
    let (alone, beside) = (joined("alone", store.path()), joined("beside", store.path()));
    let few = transactions(&alone);
    let worker = rusqlite::Connection::open(beside.db_path()).unwrap();
    let seen = |worker: &rusqlite::Connection| -> i64 {
        worker.query_row("SELECT count(*) FROM observations", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(seen(&worker), 1);
    let many = transactions(&beside);
    assert!(many >= 15, "at most 200 rows in each beside somebody: {many}");
    assert!(few * 3 <= many, "{few} alone, {many} beside somebody");
    assert_eq!(seen(&worker), 3003);
    drop(worker);
    desk.cmd("sync").run().assert_code(0);
    alone.cmd("sync").run().assert_code(0);
    for machine in [&alone, &beside] {
        assert_whole(&machine.db_path());
    }
    assert_eq!(memory(&alone.db_path()), memory(&desk.db_path()));
    assert_eq!(pieces(&alone, "beside"), 1, "found by words");
}

/// What a search for a title finds.
fn pieces(machine: &Machine, title: &str) -> usize {
    claude_mem::fts_search(machine.db_path(), title).len()
}

#[test]
fn a_row_that_the_schema_refuses_waits_and_the_others_of_its_statement_arrive() {
    let store = tempfile::tempdir().unwrap();
    let desk = joined("desk", store.path());
    desk.db().add_session("many").add_observations(300);
    let twice = "UPDATE observations SET title = 'twice' WHERE id IN (SELECT id FROM observations ORDER BY id LIMIT 2 OFFSET 100)";
    desk.db().execute(twice);
    desk.cmd("sync").run().assert_code(0);
    let laptop = joined("laptop", store.path());
    laptop.db().execute("CREATE UNIQUE INDEX only_once ON observations(title)");
    laptop.cmd("sync").run().assert_code(0).stdout_has("1 row waits: UNIQUE constraint failed");
    let titles = claude_mem::titles(laptop.db_path());
    assert_eq!(titles.len(), 302 - 1);
    assert_eq!(titles.iter().filter(|title| *title == "twice").count(), 1);
    assert_whole(&laptop.db_path());
    // It comes when nothing is in its way any more, and only it.
    laptop.db().execute("DROP INDEX only_once");
    laptop.cmd("sync").run().assert_code(0).stdout_has("received: 1 observation");
    assert_eq!(memory(&laptop.db_path()).len(), memory(&desk.db_path()).len() + 2);
    laptop.cmd("sync").run().assert_code(0).stdout_has("already up to date");
}

/// A release that does not know them takes them away, and every row that comes afterwards is in the table only.
#[test]
fn rows_that_the_search_index_does_not_take_note_of_are_named_with_what_to_do() {
    const WORDS: &str = "claude-mem's search by words does not know of it";
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 5);
    let laptop = joined("laptop", store.path());
    laptop.db().execute("DROP TRIGGER observations_ai");
    let said = laptop.cmd("sync").run();
    said.assert_code(0).stdout_has(WORDS).stdout_has("INSERT INTO observations_fts(observations_fts)");
    assert!(said.stdout.contains("6 observations arrived and"), "{said:?}");

    desk.db().execute("DELETE FROM observations WHERE id = (SELECT max(id) FROM observations)");
    desk.cmd("sync").run().assert_code(0);
    laptop.db().execute("INSERT INTO observations_fts(observations_fts) VALUES('rebuild')");
    laptop.db().execute("DROP TRIGGER observations_ad");
    laptop.cmd("sync").run().assert_code(0).stdout_has(WORDS);
}

#[test]
fn rows_of_every_release_are_in_the_search_index_when_they_have_arrived() {
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 5);
    for version in Version::ALL {
        let name = format!("{version:?}").to_lowercase().replace('_', "-");
        let machine = Machine::new(&name, store.path());
        machine.create_db(version).add_session(&name).add_observations(2).add_prompts(1).add_summaries(1);
        let said = machine.cmd("sync").run();
        said.assert_code(0).stdout_lacks("search by words");
        assert_whole(&machine.db_path());
    }
    desk.cmd("sync").run().assert_code(0).stdout_lacks("search by words");
    assert_whole(&desk.db_path());
}

#[test]
fn a_damaged_segment_is_named_until_it_changes_and_fetched_once() {
    let server = S3Server::start();
    let (desk, laptop) = (Machine::new("desk", &server), Machine::new("laptop", &server));
    for machine in [&desk, &laptop] {
        machine.create_db(Version::V13_25_3).add_session(&machine.name).add_observations(2);
        machine.cmd("sync").run().assert_code(0);
    }
    desk.cmd("sync").run().assert_code(0);
    for word in ["second", "third"] {
        desk.db().add_session(word).add_observations(3);
        desk.cmd("sync").run().assert_code(0);
    }
    let damaged = server
        .keys("")
        .into_iter()
        .find(|key| key.ends_with("/0000000002.seg"))
        .expect("the second segment of desk");
    assert!(damaged.contains("/rows/"), "{damaged}");
    let whole = server.get(&damaged).unwrap();
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    server.put(&damaged, &torn);

    let gets = |part: &str| server.count(Op::GetObject, part);
    server.reset_log();
    let said = laptop.cmd("sync").run();
    said.assert_code(0).stdout_has(&damaged).stdout_has("received: 3 observations");
    assert_eq!((gets("0000000002.seg"), gets("0000000003.seg")), (1, 1), "{:?}", server.requests());
    for _ in 0..2 {
        server.reset_log();
        laptop.cmd("sync").run().assert_code(0).stdout_has(&damaged).stdout_has("until it changes");
        assert_eq!(gets(".seg"), 0, "{:?}", server.requests());
        assert_eq!(server.count(Op::HeadObject, "0000000002.seg"), 1);
    }
    laptop.cmd("status").run().assert_code(0).stdout_has(&damaged);
    let doctor = laptop.cmd("doctor").run();
    doctor.stdout_has("segments: 1 cannot be read").stdout_has(&damaged);
    // Rows of later sessions come all the same.
    desk.db().add_session("fourth").add_observations(1);
    desk.cmd("sync").run().assert_code(0);
    server.reset_log();
    laptop.cmd("sync").run().assert_code(0).stdout_has("received: 1 observation");
    assert_eq!((gets("0000000003.seg"), gets("0000000004.seg")), (0, 1));

    server.put(&damaged, &whole);
    laptop
        .cmd("sync")
        .run()
        .assert_code(0)
        .stdout_has("received: 3 observations")
        .stdout_lacks("cannot be read");
    laptop.cmd("doctor").run().stdout_lacks("cannot be read until");
    assert_eq!(memory(&laptop.db_path()), memory(&desk.db_path()));
    server.reset_log();
    laptop.cmd("sync").run().assert_code(0).stdout_has("already up to date");
    assert_eq!((gets(".seg"), server.count(Op::HeadObject, ".seg")), (0, 0));
}

/// A machine that has synced once, and the worker of this release that runs on it.
fn with_worker(name: &str, store: &std::path::Path, release: &str) -> (Machine, FakeWorker) {
    let mut machine = joined(name, store);
    machine.cmd("sync").run().assert_code(0);
    let worker = FakeWorker::start(Behaviour {
        version: release.to_owned(),
        database: Some(machine.db_path()),
        ..Behaviour::default()
    });
    machine.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    (machine, worker)
}

fn observations(machine: &Machine) -> i64 {
    claude_mem::counts(machine.db_path()).observations
}

/// It answers 500 to whoever meets a lock, and what it was told is lost.
#[test]
fn an_old_worker_is_stopped_for_rows_that_arrive_but_not_in_the_middle_of_a_session() {
    let store = tempfile::tempdir().unwrap();
    let desk = joined("desk", store.path());
    desk.cmd("sync").run().assert_code(0);
    let (board, worker) = with_worker("board", store.path(), "13.10.1");
    desk.db().add_session("news").add_observations(4);
    desk.cmd("sync").run().assert_code(0);
    board.db().add_session("own").add_observations(1);
    for wish in ["turn", "start"] {
        board.cmd(&format!("sync --for {wish}")).run().assert_code(0);
        assert!(worker.alive(), "{wish}");
        assert_eq!(observations(&board), 3, "{wish}");
    }
    // What was recorded there is not held up.
    desk.cmd("sync").run().assert_code(0).stdout_has("received: 1 observation");
    board.cmd("sync --for end").run().assert_code(0);
    assert!(!worker.alive());
    assert_eq!(observations(&board), 7);
    assert!(!board.path(".claude-mem/spawn.lock").exists());
    assert_eq!(memory(&board.db_path()), memory(&desk.db_path()));
}

/// A session may stay open for days.
#[test]
fn rows_that_wait_for_the_end_of_a_session_are_named_wherever_a_person_looks() {
    const WORDS: &str = "rows of other machines wait since";
    let store = tempfile::tempdir().unwrap();
    let desk = joined("desk", store.path());
    desk.cmd("sync").run().assert_code(0);
    let (board, _worker) = with_worker("board", store.path(), "13.10.1");
    desk.db().add_session("news").add_observations(4);
    desk.cmd("sync").run().assert_code(0);
    board.cmd("status").run().stdout_lacks(WORDS);
    board.cmd("sync --for turn").run().assert_code(0).stdout_lacks(WORDS);
    for command in ["status", "doctor"] {
        board.cmd(command).run().stdout_has(WORDS).stdout_has("membridge sync");
    }
    // At the start of a session it is said when they have waited for an hour.
    let start = || board.cmd("hook session-start").stdin(START).run();
    start().assert_code(0).stdout_lacks(WORDS);
    let records = board.path(".membridge/records");
    let record = std::fs::read_dir(records).unwrap().next().unwrap().unwrap().path();
    let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    noted["postponed_at"] = (noted["postponed_at"].as_i64().unwrap() - 3_700).into();
    std::fs::write(&record, noted.to_string()).unwrap();
    start().assert_code(0).stdout_has("systemMessage").stdout_has(WORDS).stdout_has("1 hour ago");
    start().assert_code(0).stdout_lacks("systemMessage");
    board.cmd("sync").run().assert_code(0).stdout_has("received: 4 observations");
    start().assert_code(0);
    for command in ["status", "doctor"] {
        board.cmd(command).run().stdout_lacks(WORDS);
    }
}

#[test]
fn a_worker_that_waits_for_locks_goes_on_while_rows_arrive() {
    let store = tempfile::tempdir().unwrap();
    let desk = joined("desk", store.path());
    desk.cmd("sync").run().assert_code(0);
    let (board, worker) = with_worker("board", store.path(), "13.10.2");
    desk.db().add_session("news").add_observations(4);
    desk.cmd("sync").run().assert_code(0);
    board.cmd("sync --for turn").run().assert_code(0);
    assert_eq!(observations(&board), 6);
    // Beside a rollback journal nobody can wait.
    let database = rusqlite::Connection::open(board.db_path()).unwrap();
    database.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    drop(database);
    desk.db().add_session("more").add_observations(4);
    desk.cmd("sync").run().assert_code(0);
    board.cmd("sync --for turn").run().assert_code(0);
    assert!(worker.alive());
    assert_eq!(observations(&board), 6);
    board.cmd("sync --dry-run").run().assert_code(0).stdout_has("received: 4 observations");
    assert!(worker.alive(), "a rehearsal stops nobody");
    board
        .cmd("sync")
        .run()
        .assert_code(0)
        .stdout_has("the worker is stopped")
        .stdout_has("received: 4 observations");
    assert!(!worker.alive());
    assert_eq!(observations(&board), 10);
    assert_whole(&board.db_path());
}

#[test]
fn an_old_worker_is_stopped_for_rows_that_are_put_back() {
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 20);
    let (board, worker) = with_worker("board", store.path(), "13.10.1");
    let before = memory(&board.db_path());
    desk.cmd("sync").run().assert_code(0);
    board.db().execute("DELETE FROM observations");
    board.cmd("sync").run().assert_code(0).stdout_has("membridge sync --put-back");
    assert!(worker.alive(), "nothing was written");
    board.cmd("sync --put-back").run().assert_code(0).stdout_has("the worker is stopped");
    assert!(!worker.alive());
    assert_eq!(memory(&board.db_path()), before);
    board.cmd("sync").run().assert_code(0).stdout_has("already up to date");
}

/// Nothing is read or written before it: the twin that others know would be taken for a deletion.
#[test]
fn an_old_worker_is_stopped_for_twins_that_an_upgrade_has_merged_but_not_in_the_middle_of_a_session() {
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 8);
    let (board, worker) = with_worker("board", store.path(), "13.10.1");
    board.db().execute(
        "INSERT INTO observations(memory_session_id, project, type, title, narrative, created_at, created_at_epoch)
         SELECT memory_session_id, project, type, title, narrative, created_at, created_at_epoch + 1 FROM observations",
    );
    for machine in [&board, &desk, &board] {
        machine.cmd("sync").run().assert_code(0);
    }
    // Of twins the lowest id stays; the smallest uid is the other's, of some of them.
    let merge = "DELETE FROM observations WHERE id NOT IN
                   (SELECT min(id) FROM observations GROUP BY memory_session_id, title, narrative);
                 CREATE TABLE later(id INTEGER); DROP TABLE later;";
    board.db().execute(merge);
    board.cmd("sync --for turn").run().assert_code(0);
    assert!(worker.alive());
    desk.cmd("sync").run().assert_code(0).stdout_has("already up to date");
    board.cmd("sync").run().assert_code(0).stdout_has("the worker is stopped");
    assert!(!worker.alive());
    desk.db().execute(merge);
    for machine in [&desk, &board, &desk] {
        machine.cmd("sync").run().assert_code(0);
    }
    assert_eq!((observations(&desk), observations(&board)), (10, 10));
    assert_eq!(memory(&board.db_path()), memory(&desk.db_path()));
}

/// It would be given up for what never came.
#[test]
fn an_old_worker_is_left_alone_where_nothing_arrives() {
    let store = tempfile::tempdir().unwrap();
    let (board, worker) = with_worker("board", store.path(), "10.6.3");
    board.db().add_session("own").add_observations(1);
    board.cmd("sync").run().assert_code(0).stdout_has("sending: 1 observation");
    board.cmd("sync").run().assert_code(0).stdout_has("already up to date");
    assert!(worker.alive());
}

fn backups(machine: &Machine) -> Vec<String> {
    let files = machine.files().into_iter();
    files.filter(|file| file.contains("pull-overwrite/") && file.ends_with("claude-mem.db")).collect()
}

#[test]
fn a_database_with_memory_of_its_own_is_backed_up_once_before_the_first_rows_of_others() {
    let store = tempfile::tempdir().unwrap();
    let desk = published(store.path(), 5);
    assert!(backups(&desk).is_empty(), "nothing arrived there");
    let laptop = joined("laptop", store.path());
    let before = memory(&laptop.db_path());
    laptop.cmd("sync --dry-run").run().assert_code(0);
    assert!(backups(&laptop).is_empty());
    laptop.cmd("sync").run().assert_code(0).stdout_has("Backup: ").stdout_has("received: 6 observations");
    let [backup] = &backups(&laptop)[..] else { panic!("{:?}", backups(&laptop)) };
    assert_eq!(memory(&laptop.path(backup)), before);
    // A lost shadow makes a first sync again, and no second backup.
    std::fs::remove_dir_all(laptop.path(".membridge/rows")).unwrap();
    laptop.cmd("sync").run().assert_code(0).stdout_lacks("Backup: ");
    assert_eq!(backups(&laptop).len(), 1);
    let name = backup.rsplit('/').nth(1).unwrap().to_owned();
    laptop.cmd(&format!("restore-backup {name} --add-only --yes")).run().assert_code(0);
}

#[test]
fn a_first_database_brings_no_queue_and_is_not_renamed_by_the_folders_of_this_machine() {
    let store = tempfile::tempdir().unwrap();
    let desk = joined("desk", store.path());
    desk.db().add_pending(3);
    desk.cmd("sync").run().assert_code(0);
    let laptop = Machine::new("laptop", store.path());
    let marker = laptop.path(".claude-mem/.cwd-remap-applied-v1");
    laptop.cmd("sync --dry-run").run().assert_code(0);
    assert!(!marker.exists());
    laptop.cmd("sync").run().assert_code(0);
    assert!(marker.exists() && backups(&laptop).is_empty());
    let waiting = claude_mem::dump(laptop.db_path(), "SELECT count(*) FROM pending_messages");
    assert_eq!(waiting, claude_mem::dump(laptop.db_path(), "SELECT 0"));
    assert_eq!(memory(&laptop.db_path()), memory(&desk.db_path()));
    assert_eq!(
        claude_mem::dump(desk.db_path(), "SELECT count(*) FROM pending_messages WHERE 1"),
        claude_mem::dump(desk.db_path(), "SELECT 3")
    );
}
