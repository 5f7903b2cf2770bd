//! What a replacement leaves behind, and that it holds on to: backups, logs without a database, the word to the person.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{assert_no_leftovers, assert_whole, backups, pushed, rows, titles_anywhere};
use crate::support::claude_mem;
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::s3::S3Server;

/// Alpha has pushed, beta has pulled that and recorded four of its own, alpha has pushed more: beta, a secondary, is
/// about to go back to the first commit, which has none of it.
struct Fleet {
    _server: S3Server,
    alpha: Machine,
    beta: Machine,
    /// Titles that only beta has.
    mine: Vec<String>,
}

impl Fleet {
    fn new() -> Fleet {
        let server = S3Server::start();
        let alpha = pushed(&server, 6);
        let beta = Machine::new("beta", &server);
        beta.cmd("pull_sqlite").run().assert_code(0);
        let theirs = claude_mem::titles(beta.db_path());
        beta.db().add_session("mine").add_observations(4);
        let mut mine = claude_mem::titles(beta.db_path());
        mine.retain(|title| !theirs.contains(title));
        assert_eq!(mine.len(), 4);
        let fleet = Fleet { _server: server, alpha, beta, mine };
        fleet.alpha_pushes();
        fleet
    }

    fn alpha_pushes(&self) {
        self.alpha.db().add_observations(1);
        self.alpha.cmd("push_sqlite").run().assert_code(0);
    }

    /// The backup that a restore on beta makes now: its name, as `restore-backup` takes it.
    fn replaced(&self) -> String {
        goes_back(&self.beta)
    }

    #[track_caller]
    fn nothing_is_lost(&self) {
        let everywhere = titles_anywhere(&self.beta);
        for title in &self.mine {
            assert!(everywhere.contains(title), "{title} is in no copy");
        }
    }
}

fn goes_back(machine: &Machine) -> String {
    let said = machine.cmd("restore 1 --yes --json").run();
    said.assert_code(0);
    name(&said.json()["backup"])
}

fn name(backup: &Value) -> String {
    let folder = Path::new(backup.as_str().unwrap()).parent().unwrap();
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

fn check(machine: &Machine, check: &str) -> (String, String) {
    let said = machine.cmd("doctor --json").run().json();
    let all = said["checks"].as_array().unwrap();
    let found = all.iter().find(|found| found["name"] == check).unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    (text("result"), text("text"))
}

#[test]
fn f16_the_only_copy_of_rows_outlives_any_number_of_pulls() {
    let mut fleet = Fleet::new();
    fleet.beta.set("PULL_BACKUP_MAX_COUNT", "1").set("PULL_BACKUP_MAX_DAYS", "0");
    let precious = fleet.replaced();
    for _ in 0..3 {
        fleet.alpha_pushes();
        let said = fleet.beta.cmd("pull_sqlite --json").run().json();
        assert_eq!(said["outcome"], "pulled");
        assert!(said["backup"].is_null(), "nothing is replaced: {said}");
        fleet.nothing_is_lost();
    }
    assert_eq!(backups(&fleet.beta).len(), 1);
    // Weeks later, and it is not the newest any more.
    fleet.beta.db().add_session("later").add_observations(1);
    fleet.beta.cmd("restore 1 --yes").env("MEMBRIDGE_TEST_CLOCK_OFFSET", "8640000").run().assert_code(0);
    fleet.nothing_is_lost();

    let (result, text) = check(&fleet.beta, "backups");
    assert_eq!(result, "warning");
    assert!(text.contains(&format!("{precious} (11 observations)")), "{text}");
    fleet.beta.cmd("restore-backup").run().assert_code(0).stdout_has("only copy").stdout_has("--forget NAME");
    // Put back, its rows are live: it may age as others do, and another has taken its place.
    fleet.beta.cmd(&format!("restore-backup {precious} --yes")).run().assert_code(0);
    let listed = fleet.beta.cmd("restore-backup --json").run().json();
    let all = listed["backups"].as_array().unwrap();
    let local_ahead = |wanted: &str| {
        let found = all.iter().find(|backup| backup["name"] == wanted);
        found.map(|backup| backup["local_ahead"].clone())
    };
    assert!(matches!(local_ahead(&precious), None | Some(Value::Bool(false))));
    let live = claude_mem::titles(fleet.beta.db_path());
    assert!(fleet.mine.iter().all(|title| live.contains(title)));
    // They are memory again: the other machine has them too.
    fleet.beta.cmd("sync").run().assert_code(0);
    fleet.alpha.cmd("sync").run().assert_code(0);
    let there = claude_mem::titles(fleet.alpha.db_path());
    assert!(fleet.mine.iter().all(|title| there.contains(title)));
}

#[test]
fn f16_backups_whose_rows_are_elsewhere_are_counted_beside_the_kept_one() {
    let server = S3Server::start();
    let mut alpha = pushed(&server, 6);
    alpha.set("PULL_BACKUP_MAX_COUNT", "2");
    alpha.db().add_observations(4);
    let precious = goes_back(&alpha);
    for _ in 0..5 {
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(0);
        goes_back(&alpha);
    }
    let left = backups(&alpha);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().any(|path| path.contains(&precious)), "{left:?}");
}

fn until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn f09_a_worker_that_does_not_get_ready_loses_nothing_that_it_recorded() {
    let mut fleet = Fleet::new();
    let beta = &mut fleet.beta;
    let script = beta.write("plugin/scripts/worker-service.cjs", "");
    let worker = FakeWorker::start(Behaviour {
        database: Some(beta.db_path()),
        worker_path: script.display().to_string(),
        ..Behaviour::default()
    });
    beta.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    // Started again it runs, and never answers.
    let started = beta.path("started");
    beta.write_program(".bun/bin/bun", format!("#!/bin/sh\n: > '{}'\n", started.display()));
    let pull = beta.cmd("restore 1 --yes --json").env("MEMBRIDGE_TEST_READY_MS", "3000").spawn();
    until(|| started.exists());
    let before = claude_mem::titles(beta.db_path());
    beta.db().add_session("meanwhile").add_observations(1);
    let recorded = claude_mem::titles(beta.db_path());
    assert_eq!(recorded.len(), before.len() + 1);
    let end = pull.wait();
    end.assert_code(1);
    let error = end.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("the old database was put back"), "{error}");
    assert!(
        error.contains("what was recorded in between is in a backup only: membridge restore-backup"),
        "{error}"
    );
    let everywhere = titles_anywhere(beta);
    assert!(recorded.iter().all(|title| everywhere.contains(title)));
    assert_whole(&beta.db_path());
    fleet.nothing_is_lost();
}

#[test]
fn f09_what_was_recorded_before_the_way_back_is_in_a_backup() {
    let fleet = Fleet::new();
    let beta = &fleet.beta;
    beta.cmd("sync").run().assert_code(0);
    let before = rows(&beta.db_path());
    let gate = beta.write("gate", "");
    let pull = beta
        .cmd("restore 1 --yes")
        .env("MEMBRIDGE_FAILPOINT", "pull.check=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .spawn();
    pull.wait_for_stdout("[5/6]");
    // What was installed loses a row, and somebody records one: the first makes the check fail.
    beta.db().execute("DELETE FROM observations WHERE id = 1");
    beta.db().add_session("between").add_observations(1);
    let between = claude_mem::titles(beta.db_path());
    std::fs::remove_file(&gate).unwrap();
    pull.wait()
        .assert_code(1)
        .stdout_has("the old database was put back")
        .stdout_has("recorded in between is in a backup only: membridge restore-backup");
    assert_eq!(rows(&beta.db_path()), before);
    let everywhere = titles_anywhere(beta);
    assert!(between.iter().all(|title| everywhere.contains(title)));
    assert_no_leftovers(beta);
    let listed = beta.cmd("restore-backup --json").run().json();
    let told: Vec<_> = listed["backups"].as_array().unwrap().iter().collect();
    let told: Vec<_> = told.iter().map(|backup| &backup["local_ahead"]).collect();
    assert_eq!(told, [&Value::Bool(true), &Value::Bool(false)], "the old one is live again");
    fleet.nothing_is_lost();
}

#[test]
fn f03_each_orphaned_log_is_kept_in_a_folder_of_its_own() {
    let fleet = Fleet::new();
    let name = fleet.replaced();
    let logs = ["the first log", "the second log", "the third log"];
    for (command, log) in
        [format!("restore-backup {name}"), "restore 1".to_owned(), "pull_sqlite".to_owned()].iter().zip(logs)
    {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(fleet.beta.path(&format!(".claude-mem/claude-mem.db{end}")));
        }
        fleet.beta.write(".claude-mem/claude-mem.db-wal", log);
        fleet.beta.cmd(command).run().assert_code(0).stdout_has("an old log without its database");
    }
    let mut kept: Vec<_> = fleet
        .beta
        .files()
        .into_iter()
        .filter(|file| file.starts_with(".membridge/orphans/"))
        .map(|file| std::fs::read_to_string(fleet.beta.path(&file)).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, logs);
}

#[test]
fn f03_the_hint_for_a_damaged_database_keeps_it_together_with_its_log() {
    let fleet = Fleet::new();
    let beta = &fleet.beta;
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(beta.path(&format!(".claude-mem/claude-mem.db{end}")));
    }
    beta.write(".claude-mem/claude-mem.db", "no database at all");
    beta.write(".claude-mem/claude-mem.db-wal", "rows");
    let refused = beta.cmd("pull_sqlite --json").run();
    refused.assert_code(1);
    let hints = refused.json()["hints"].clone();
    let hint = hints[0].as_str().unwrap();
    let (_, hint) = hint.split_once("bucket: ").unwrap();
    let (typed, _) = hint.split_once("; or put").unwrap();
    let typed = typed.replace("membridge", env!("CARGO_BIN_EXE_membridge"));
    beta.program("/bin/sh").arg("-c").arg(&typed).run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), rows(&fleet.alpha.db_path()));
    let kept = |name: &str| {
        let path = beta.path(&format!(".claude-mem/claude-mem.db.damaged/{name}"));
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(kept("claude-mem.db"), "no database at all");
    assert_eq!(kept("claude-mem.db-wal"), "rows");
}

/// `[1/6]` … of what was said; all of one number.
#[track_caller]
fn assert_steps(said: &Outcome, of: usize) {
    said.assert_code(0);
    let steps: Vec<_> = said
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once(']'))
        .map(|(step, _)| step.to_owned())
        .collect();
    let wanted: Vec<_> = (1..=of).map(|step| format!("{step}/{of}")).collect();
    assert_eq!(steps, wanted, "{}", said.stdout);
}

#[test]
fn each_command_that_replaces_a_database_counts_its_own_steps() {
    let fleet = Fleet::new();
    let beta = &fleet.beta;
    assert_steps(&beta.cmd("restore 1 --yes").run(), 6);
    let listed = beta.cmd("restore-backup --json").run().json();
    let name = listed["backups"][0]["name"].as_str().unwrap().to_owned();
    assert_steps(&beta.cmd(&format!("restore-backup {name} --yes")).run(), 5);
    for (command, of) in [(format!("restore-backup {name}"), 2), ("restore 1".to_owned(), 3)] {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beta.path(&format!(".claude-mem/claude-mem.db{end}")));
        }
        assert_steps(&beta.cmd(&command).run(), of);
    }
}

#[test]
fn restore_backup_reports_what_it_put_back_and_what_it_kept() {
    let fleet = Fleet::new();
    let put_back = fleet.replaced();
    let theirs = rows(&fleet.beta.db_path());
    let said = fleet.beta.cmd(&format!("restore-backup {put_back} --yes --json")).run().json();
    assert_eq!(said["name"], put_back.as_str());
    let kept = Path::new(said["backup"].as_str().unwrap());
    assert_eq!(rows(kept), theirs);
    let manifest = std::fs::read(kept.with_file_name("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["local_obs"], 6);
}

#[test]
fn what_was_recorded_here_is_in_the_log_before_a_backup_takes_its_place() {
    let fleet = Fleet::new();
    let name = fleet.replaced();
    fleet.beta.db().add_session("unsent").add_observations(2);
    let here = claude_mem::titles(fleet.beta.db_path());
    fleet.beta.cmd(&format!("restore-backup {name} --yes")).run().assert_code(0).stdout_lacks("was not sent");
    fleet.alpha.cmd("pull_sqlite").run().assert_code(0);
    let there = claude_mem::titles(fleet.alpha.db_path());
    for title in &here {
        assert!(there.contains(title), "{title} reached nobody");
    }
    // A store that does not answer leaves nobody without the backup, and says where the rows are.
    let fleet = Fleet::new();
    let name = fleet.replaced();
    fleet.beta.db().add_session("unsent").add_observations(2);
    let here = claude_mem::titles(fleet.beta.db_path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let restored = fleet
        .beta
        .cmd(&format!("restore-backup {name} --yes"))
        .env("MINIO_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .run();
    restored.assert_code(0).stdout_has("was not sent").stdout_has("RESTORE COMPLETE");
    let kept = titles_anywhere(&fleet.beta);
    assert!(here.iter().all(|title| kept.contains(title)), "{here:?} in {kept:?}");
}
