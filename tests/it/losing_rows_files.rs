//! The ways in which rows get lost with a machine's files while its database is replaced: logs, links, modes,
//! connections that stay open, backups, temporary files. Each of these fails when the guard is taken out.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::{assert_no_leftovers, assert_whole, backups, memory, pushed, rows};
use crate::losing_rows::pulled;
use crate::support::claude_mem::{self, IdleHolder, MemDb, Version};
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

#[test]
fn f03_stale_wal_beside_a_replaced_database_undoes_nothing() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    alpha.db().add_observations(7);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // An open connection keeps a log with frames of the old database alive.
    let holder = IdleHolder::with_rows(beta.db_path(), "held", 3);
    assert!(std::fs::metadata(beta.path(".claude-mem/claude-mem.db-wal")).unwrap().len() > 0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    drop(holder);
    assert_whole(&beta.db_path());
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 3 observations");
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
    // Its whole database is replaced while the log has frames.
    let holder = IdleHolder::with_rows(beta.db_path(), "again", 3);
    let one = beta.path("one.db");
    beta.cmd("restore 1 --to").arg(&one).run().assert_code(0);
    beta.cmd("restore 1 --yes").run().assert_code(0).stdout_has("RESTORE COMPLETE");
    drop(holder);
    assert_whole(&beta.db_path());
    assert_eq!(rows(&beta.db_path()), rows(&one));
}

#[test]
fn f03_an_orphaned_wal_is_not_replayed_into_a_first_pull() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = Machine::new("beta", &server);
    // A database whose main file is gone and whose log is not.
    let lost = MemDb::create_as(beta.path("elsewhere/claude-mem.db"), Version::V13_25_3, "lost");
    lost.add_session("x");
    let holder = IdleHolder::with_rows(lost.path(), "lost", 5);
    let wal = std::fs::read(beta.path("elsewhere/claude-mem.db-wal")).unwrap();
    assert!(!wal.is_empty());
    beta.write(".claude-mem/claude-mem.db-wal", &wal);
    drop(holder);
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_whole(&beta.db_path());
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    let kept = beta
        .files()
        .into_iter()
        .find(|file| file.starts_with(".membridge/orphans/") && file.ends_with("-wal"));
    assert_eq!(std::fs::read(beta.path(&kept.expect("the old log is kept"))).unwrap(), wal);
}

#[test]
fn f04_the_backup_holds_the_rows_that_were_in_the_wal_only() {
    let server = S3Server::start();
    pushed(&server, 10);
    let beta = pulled(&server);
    let holder = IdleHolder::with_rows(beta.db_path(), "walonly", 40);
    let before = claude_mem::titles(beta.db_path());
    beta.cmd("restore 1 --yes").run().assert_code(0);
    drop(holder);
    let all = backups(&beta);
    let [backup] = all.as_slice() else { panic!("one backup, not {all:?}") };
    let backup = beta.path(backup);
    assert_whole(&backup);
    assert_eq!(claude_mem::titles(&backup), before);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(backup.with_file_name("manifest.json")).unwrap()).unwrap();
    let keys: Vec<_> = manifest.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "timestamp",
        "hostname",
        "reason",
        "local_sha",
        "remote_sha",
        "local_obs",
        "remote_obs",
        "local_ahead",
        "db_path",
    ];
    assert_eq!(keys, wanted);
    assert_eq!(manifest["local_obs"], 50);
    assert_eq!(manifest["reason"], "pull-overwrite safety backup");
    assert_eq!(manifest["local_ahead"], true);
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(backup.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn f09_a_worker_that_cannot_be_started_again_says_nothing_about_the_database() {
    let server = S3Server::start();
    pushed(&server, 10);
    let mut beta = pulled(&server);
    beta.db().add_observations(4);
    let before = rows(&beta.db_path());
    let worker = FakeWorker::start(Behaviour { database: Some(beta.db_path()), ..Behaviour::default() });
    beta.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    // The script that it is restarted with is not there: the restore says so, and the new database stays.
    beta.cmd("restore 1 --yes").run().assert_code(0).stdout_has("Worker: stopped").stdout_has("COMPLETE");
    assert_ne!(rows(&beta.db_path()), before);
    assert_whole(&beta.db_path());
}

#[test]
fn f09_a_check_that_fails_after_the_replacement_puts_the_old_database_back() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    beta.db().add_observations(4);
    let before = rows(&beta.db_path());
    let gate = beta.write("gate", "");
    let running = beta
        .cmd("restore 1 --yes")
        .env("MEMBRIDGE_FAILPOINT", "pull.check=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .spawn();
    running.wait_for_stdout("[5/6]");
    // What was installed loses rows before it is looked at.
    beta.db().execute("DELETE FROM observations WHERE id > 5");
    std::fs::remove_file(&gate).unwrap();
    let end = running.wait();
    end.assert_code(1).stdout_has("the old database was put back").stdout_lacks("COMPLETE");
    assert_eq!(rows(&beta.db_path()), before);
    assert_whole(&beta.db_path());
    assert_no_leftovers(&beta);
    // And the next one does what this one could not.
    beta.cmd("restore 1 --yes").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
}

#[test]
fn f10_a_connection_that_stays_open_writes_into_the_database_that_is_there() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    alpha.db().add_observations(4);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // The worker of an old release that ignores spawn.lock: its connection survives the pull.
    let held = rusqlite::Connection::open(beta.db_path()).unwrap();
    let inode = std::fs::metadata(beta.db_path()).unwrap().ino();
    held.query_row("SELECT count(*) FROM observations", [], |_| Ok(())).unwrap();
    beta.cmd("pull_sqlite").run().assert_code(0);
    held.execute("UPDATE sdk_sessions SET custom_title = 'written afterwards'", []).unwrap();
    drop(held);
    assert_eq!(std::fs::metadata(beta.db_path()).unwrap().ino(), inode, "the file was not swapped");
    let titles = claude_mem::dump(beta.db_path(), "SELECT DISTINCT custom_title FROM sdk_sessions");
    assert!(titles.iter().all(|row| row.contains("written afterwards")), "{titles:?}");
    assert_whole(&beta.db_path());
}

#[test]
fn f15_a_link_is_followed_and_mode_and_owner_are_kept() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    alpha.db().add_observations(4);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let real = beta.path("disk/real.db");
    std::fs::create_dir_all(real.parent().unwrap()).unwrap();
    claude_mem::dump(beta.db_path(), "PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::rename(beta.db_path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, beta.db_path()).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert!(std::fs::symlink_metadata(beta.db_path()).unwrap().file_type().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(rows(&real), rows(&alpha.db_path()));
}

#[test]
fn f15_a_dangling_link_names_the_file_that_a_first_pull_makes() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = Machine::new("beta", &server);
    std::fs::create_dir_all(beta.path("disk")).unwrap();
    std::fs::create_dir_all(beta.path(".claude-mem")).unwrap();
    std::os::unix::fs::symlink(beta.path("disk/real.db"), beta.db_path()).unwrap();
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert!(std::fs::symlink_metadata(beta.db_path()).unwrap().file_type().is_symlink());
    assert_eq!(rows(&beta.path("disk/real.db")), rows(&alpha.db_path()));
}

#[test]
fn f16_retention_never_deletes_the_backup_just_made_nor_foreign_folders() {
    let server = S3Server::start();
    let mut beta = pushed(&server, 10);
    beta.set("PULL_BACKUP_MAX_COUNT", "1").set("PULL_BACKUP_MAX_DAYS", "0");
    beta.write(".claude-mem/backups/pull-overwrite/my-notes/claude-mem.db", "mine");
    beta.write(".claude-mem/backups/pull-overwrite/20200101-000000/claude-mem.db", "old");
    beta.write(
        ".claude-mem/backups/pull-overwrite/20200101-000000/manifest.json",
        r#"{"local_ahead": false}"#,
    );
    for _ in 0..3 {
        // What replaces a database leaves a copy of what was there: here of what is in the history as well.
        beta.db().add_observations(1);
        beta.cmd("push_sqlite").run().assert_code(0);
        let newest = beta.cmd("restore 1 --yes --json").run().json()["backup"].as_str().unwrap().to_owned();
        assert!(std::path::Path::new(&newest).is_file(), "the newest is kept");
    }
    // The newest, what is not ours, and what nobody can prove to be elsewhere, whatever is said about it.
    let left = backups(&beta);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().any(|path| path.contains("my-notes")));
    assert!(left.iter().any(|path| path.contains("20200101-000000")));
}

#[test]
fn f33_temporary_files_of_a_killed_run_are_swept_and_a_signal_leaves_none() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "push.compacted").run().assert_code(137);
    assert!(
        alpha.files().iter().any(|file| file.contains(".membridge-")),
        "a kill leaves what the sweep is for"
    );
    // A living process's files, and files that only look like ours, are left alone.
    let alive =
        alpha.write(&format!(".membridge/tmp/.membridge-{}-snapshot-abc.tmp", std::process::id()), "x");
    let foreign = alpha.write(".membridge/tmp/notes.tmp", "x");
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert!(alive.exists() && foreign.exists());
    std::fs::remove_file(alive).unwrap();
    std::fs::remove_file(foreign).unwrap();
    assert_no_leftovers(&alpha);

    alpha.db().add_observations(1);
    let gate = alpha.write("gate", "");
    let running = alpha
        .cmd("push_sqlite")
        .env("MEMBRIDGE_FAILPOINT", "push.compacted=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .spawn();
    running.wait_for_stdout("[2/6]");
    running.sigterm();
    running.wait().assert_code(143);
    assert_no_leftovers(&alpha);
}

#[test]
fn f36_a_first_pull_makes_the_folders_for_us_only() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = Machine::new("beta", &server);
    assert!(!beta.path(".claude-mem").exists());
    beta.cmd("pull_sqlite").run().assert_code(0);
    let mode = |path: &str| std::fs::metadata(beta.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".claude-mem"), 0o700);
    assert_eq!(mode(".claude-mem/claude-mem.db"), 0o600);
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
}

#[test]
fn the_local_queue_survives_a_pull_and_the_pushers_queue_does_not_arrive() {
    let server = S3Server::start();
    let alpha = pushed(&server, 10);
    let beta = pulled(&server);
    alpha.db().add_observations(2).add_pending(5);
    alpha.cmd("push_sqlite").run().assert_code(0);
    beta.db().execute("INSERT INTO pending_messages (session_db_id, content_session_id, message_type, created_at_epoch) SELECT id, content_session_id, 'observation', 7 FROM sdk_sessions LIMIT 1");
    beta.cmd("pull_sqlite").run().assert_code(0);
    let queue =
        claude_mem::dump(beta.db_path(), "SELECT count(*), min(created_at_epoch) FROM pending_messages");
    assert_eq!(queue.len(), 1);
    assert!(queue[0].contains('1') && queue[0].contains('7'), "{queue:?}");
    assert_whole(&beta.db_path());
}
