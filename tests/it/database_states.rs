//! States in which people's databases are found (issue 17): left half way by a program that died, of another page size or
//! encoding, empty, on ground that cannot be written to, with a damaged search index, with tables of a plugin whose extension
//! is not here. Each comes right, or is refused with the remedy for its cause.

use std::path::Path;

use membridge::database::install;
use membridge::progress::Progress;
use rusqlite::Connection;

use crate::common::{assert_no_leftovers, assert_whole, backups, pushed, rows};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Alpha has pushed more than beta has, which is in step otherwise.
fn behind(server: &S3Server) -> (Machine, Machine) {
    let alpha = pushed(server, 12);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_observations(3);
    alpha.cmd("push_sqlite").run().assert_code(0);
    (alpha, beta)
}

/// What a writer with a rollback journal leaves that dies in its transaction.
fn cut_off(database: &Path) {
    let db = Connection::open(database).unwrap();
    db.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    db.execute_batch("UPDATE observations SET narrative = narrative || hex(randomblob(3000))").unwrap();
    db.cache_flush().unwrap();
    // As the disk looks when the power goes: a half-written file, and the journal that can undo it.
    let journal = database.with_extension("db-journal");
    assert!(std::fs::metadata(&journal).unwrap().len() > 0);
    let (half, undo) = (std::fs::read(database).unwrap(), std::fs::read(&journal).unwrap());
    db.execute_batch("ROLLBACK").unwrap();
    drop(db);
    std::fs::write(database, half).unwrap();
    std::fs::write(journal, undo).unwrap();
}

#[test]
fn f63_what_a_dead_writer_left_half_way_is_rolled_back_by_push_and_pull_and_only_named_by_doctor() {
    let server = S3Server::start();
    let (alpha, beta) = behind(&server);
    alpha.db().add_observations(1);
    let whole = rows(&alpha.db_path());
    cut_off(&alpha.db_path());
    cut_off(&beta.db_path());
    let before = std::fs::read(alpha.db_path()).unwrap();
    alpha.cmd("doctor").run().assert_code(0).stdout_has("only by somebody who may write to it");
    assert_eq!(std::fs::read(alpha.db_path()).unwrap(), before, "doctor only looks");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(rows(&alpha.db_path()), whole);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), whole);
    assert_whole(&beta.db_path());
}

#[test]
fn f63_another_page_size_is_no_obstacle_and_a_failed_pull_leaves_the_journal_mode() {
    for size in [1024, 8192, 65536] {
        let server = S3Server::start();
        let (alpha, beta) = behind(&server);
        let db = Connection::open(beta.db_path()).unwrap();
        db.execute_batch(&format!("PRAGMA journal_mode = DELETE; PRAGMA page_size = {size}; VACUUM"))
            .unwrap();
        drop(db);
        let (image, backup) = (beta.path("image.db"), beta.path("backup.db"));
        std::fs::copy(alpha.db_path(), &image).unwrap();
        std::fs::write(&backup, "").unwrap();
        let refused = install::swap(&beta.db_path(), &image, &backup, |_| Ok(false), &Progress::hidden());
        assert!(!refused.unwrap().replaced, "{size}");
        assert_eq!(claude_mem::journal_mode(beta.db_path()), "delete", "{size}");
        // Somebody else has it open, too.
        let other = Connection::open(beta.db_path()).unwrap();
        beta.cmd("restore head --yes").run().assert_code(0);
        let now: u64 = other.query_row("SELECT count(*) FROM observations", [], |row| row.get(0)).unwrap();
        assert_eq!(now, 15, "{size}");
        assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()), "{size}");
        assert_whole(&beta.db_path());
        assert_no_leftovers(&beta);
    }
}

#[test]
fn f63_texts_in_another_encoding_are_refused_in_words() {
    let server = S3Server::start();
    let (_alpha, beta) = behind(&server);
    let old = beta.db_path().with_extension("old");
    std::fs::rename(beta.db_path(), &old).unwrap();
    let db = Connection::open(beta.db_path()).unwrap();
    db.execute_batch("PRAGMA encoding = 'UTF-16le'").unwrap();
    let old = Connection::open(&old).unwrap();
    let mut tables = old
        .prepare("SELECT sql FROM sqlite_schema WHERE name IN ('sdk_sessions', 'observations', 'session_summaries', 'user_prompts', 'schema_versions')")
        .unwrap();
    for sql in tables.query_map([], |row| row.get::<_, String>(0)).unwrap() {
        db.execute_batch(&sql.unwrap()).unwrap();
    }
    drop(db);
    let end = beta.cmd("restore head --yes").run();
    end.assert_code(1).stdout_has("UTF-16le").stdout_has("UTF-8").stdout_lacks("free space");
    assert!(backups(&beta).is_empty());
}

#[test]
fn f63_a_file_of_no_bytes_is_no_database() {
    let server = S3Server::start();
    let alpha = pushed(&server, 6);
    let beta = Machine::new("beta", &server);
    beta.write(".claude-mem/claude-mem.db", "");
    beta.write(".claude-mem/claude-mem.db-wal", "a log of somebody else");
    beta.cmd("doctor").run().assert_code(0).stdout_has("there is none");
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("it is kept in");
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    assert_whole(&beta.db_path());
    assert_no_leftovers(&beta);
}

#[test]
fn f63_a_damaged_search_index_over_whole_rows_stops_nobody() {
    let server = S3Server::start();
    let (alpha, beta) = behind(&server);
    for machine in [&alpha, &beta] {
        let db = Connection::open(machine.db_path()).unwrap();
        db.execute_batch("UPDATE observations_fts_data SET block = x'00ff00ff' WHERE id > 10").unwrap();
    }
    let said = alpha.cmd("push_sqlite").env("FORCE_PUSH", "1").run();
    said.assert_code(0).stdout_has("search index observations_fts").stdout_has("'rebuild'");
    alpha.cmd("doctor").run().assert_code(0).stdout_has("all rows are whole").stdout_has("'rebuild'");
    beta.cmd("restore head --yes").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    assert_whole(&beta.db_path());
    let copy = beta.path("copy.db");
    std::fs::write(&copy, crate::support::python_node::read(&server, "mem").unwrap()).unwrap();
    assert_whole(&copy);
}

#[test]
fn f63_a_plugins_table_that_needs_an_extension_is_named() {
    let server = S3Server::start();
    let tokenizer = "INSERT INTO sqlite_schema VALUES ('table', 'icu_fts', 'icu_fts', 0, 'CREATE VIRTUAL TABLE icu_fts USING fts5(x, tokenize=''icu'')')";
    let collation = "INSERT INTO sqlite_schema SELECT 'index', 'locx', 'loc', rootpage, 'CREATE INDEX locx ON loc(n COLLATE LOCALE)' FROM sqlite_schema WHERE name = 'spare'; DELETE FROM sqlite_schema WHERE name = 'spare'";
    for (sql, words) in [(tokenizer, "icu_fts"), (collation, "table loc")] {
        let machine = Machine::new("alpha", &server);
        machine.create_db(Version::V13_25_3).add_session("one").add_observations(3);
        let db = Connection::open(machine.db_path()).unwrap();
        db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        db.execute_batch(
            "CREATE TABLE loc(n TEXT); CREATE INDEX spare ON loc(n); PRAGMA writable_schema = ON",
        )
        .unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        let end = machine.cmd("push_sqlite").run();
        end.assert_code(1).stdout_has("extension of SQLite").stdout_has(words).stdout_lacks("free space");
    }
}

#[test]
fn f63_an_empty_memory_makes_nobody_the_primary() {
    let server = S3Server::start();
    let fresh = Machine::new("fresh", &server);
    fresh.create_db(Version::V13_25_3);
    fresh.cmd("push_sqlite").run();
    let old = pushed(&server, 4);
    old.cmd("leadership_info").run().assert_code(0).stdout_has("alpha");
}

#[test]
fn f63_a_text_cut_in_the_middle_of_a_character_travels_as_it_lies() {
    let server = S3Server::start();
    let (alpha, beta) = behind(&server);
    for machine in [&alpha, &beta] {
        let db = Connection::open(machine.db_path()).unwrap();
        db.execute_batch("UPDATE observations SET title = CAST(x'637574eda0bd' AS TEXT) WHERE id = 7")
            .unwrap();
    }
    beta.db().add_observations(1);
    alpha.db().add_observations(1);
    alpha.cmd("sync").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 17);
}

#[test]
fn f58_a_backup_goes_only_when_its_rows_are_proved_to_be_elsewhere() {
    let server = S3Server::start();
    let mut alpha = pushed(&server, 5);
    alpha.set("PULL_BACKUP_MAX_COUNT", "1").set("PULL_BACKUP_MAX_DAYS", "0");
    alpha.db().add_observations(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // Each restore backs up what a commit holds: the older of the two goes.
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    alpha.cmd("restore 2 --yes").run().assert_code(0);
    assert_eq!(backups(&alpha).len(), 1, "{:?}", backups(&alpha));
    // What the Python script says of its own backup is nobody's proof, nor is a word of ours.
    let only = alpha.path("only.db");
    std::fs::copy(alpha.db_path(), &only).unwrap();
    claude_mem::MemDb::open(&only, "only").add_session("only").add_observations(1);
    let folder = ".claude-mem/backups/pull-overwrite/20200101-000000";
    alpha.write(&format!("{folder}/claude-mem.db"), std::fs::read(&only).unwrap());
    let manifest = format!(r#"{{"local_ahead": false, "db_path": "{}"}}"#, alpha.db_path().display());
    alpha.write(&format!("{folder}/manifest.json"), manifest);
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    assert!(alpha.path(&format!("{folder}/claude-mem.db")).exists(), "the only copy of a row");
    // A commit whose packs are gone proves nothing.
    for key in server.keys("projects/").into_iter().filter(|key| key.contains("/packs/")) {
        server.remove(&key);
    }
    let before = backups(&alpha).len();
    let newest =
        alpha.cmd("restore-backup --json").run().json()["backups"][0]["name"].as_str().unwrap().to_owned();
    alpha.cmd(&format!("restore-backup {newest} --yes")).run();
    assert!(backups(&alpha).len() > before);
}

#[test]
fn f58_backups_of_another_database_are_not_offered() {
    let server = S3Server::start();
    let mut alpha = pushed(&server, 5);
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha.cmd("restore 1 --yes").run().assert_code(0);
    let name =
        alpha.cmd("restore-backup --json").run().json()["backups"][0]["name"].as_str().unwrap().to_owned();
    let other = alpha.path("other/claude-mem.db");
    alpha.set("CLAUDE_MEM_DB", other.as_os_str());
    alpha.cmd("restore-backup").run().assert_code(0).stdout_lacks(&name).stdout_has("of other databases");
    alpha.cmd(&format!("restore-backup {name} --yes")).run().assert_code(1).stdout_has("no backup named");
    assert!(!other.exists());
}
