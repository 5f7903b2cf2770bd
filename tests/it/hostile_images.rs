//! Databases in the bucket that somebody made to do harm (F60): nothing in them runs here, none of it comes to live in the
//! person's database, and what they ask for ends in words: exit code, memory and time are bounded, the live database is
//! untouched, signals are obeyed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use membridge::config::StoreConfig;
use membridge::context::Context;
use membridge::database::snapshot::Pinned;
use membridge::database::{self, Counts, Facts, facts};
use membridge::history::commit::{Author, Commit};
use membridge::history::log;
use membridge::history::spool::spool;
use membridge::progress::Progress;
use membridge::storage::{Bucket, Store};
use membridge::sum::Sum;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::common::{assert_no_leftovers, assert_whole, memory, rows};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::python_node;

/// What a restore or a pull may allocate, in kilobytes: the kernel refuses more.
const MEMORY: u32 = 64 << 10;

/// A bucket in a folder, a machine that is in step with it, and the image that is to be forged.
struct Trap {
    _folder: tempfile::TempDir,
    store: PathBuf,
    victim: Machine,
    image: PathBuf,
    /// The command that takes what was laid out.
    taking: RefCell<String>,
}

impl Trap {
    /// The image has a row more than the victim.
    fn new() -> Trap {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let mut victim = Machine::new("victim", store.as_path());
        victim.set("LEADERSHIP_ENABLED", "0");
        victim
            .create_db(Version::V13_25_3)
            .add_session("one")
            .add_observations(20)
            .add_prompts(3)
            .add_pending(1);
        victim.cmd("push_sqlite").run().assert_code(0);
        let image = folder.path().join("image.db");
        std::fs::copy(victim.db_path(), &image).unwrap();
        let db = Connection::open(&image).unwrap();
        db.execute_batch("PRAGMA journal_mode = DELETE").unwrap();
        drop(db);
        claude_mem::MemDb::open(&image, "evil").add_session("evil").add_observations(1);
        Trap { _folder: folder, store, victim, image, taking: RefCell::default() }
    }

    /// Does something to the image that SQLite lets anybody do who has the file.
    fn forge(&self, sql: &str) -> &Trap {
        let db = Connection::open(&self.image).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true).unwrap();
        db.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {sql}")).unwrap();
        self
    }

    /// Makes the image the newest commit of the bucket.
    fn commit(&self, change: impl FnOnce(&mut Commit)) -> &Trap {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let context = Arc::new(Context::default());
        let store = Store::open(&StoreConfig::Dir(self.store.clone()), &context).unwrap();
        let scratch = self.victim.home().join("../forge");
        std::fs::create_dir_all(&scratch).unwrap();
        let bucket = Bucket::new(store, &python_node::canonical_id("mem"), context, &scratch);
        runtime.block_on(async {
            let parent = log::head(&bucket, None).await.unwrap().unwrap();
            let (image, sealing) = (Pinned::new(&self.image).unwrap(), bucket.sealing().unwrap());
            let pack = spool(&image, None, &scratch, &Progress::hidden(), sealing).unwrap();
            log::upload_pack(&bucket, &pack, &Progress::hidden()).await.unwrap();
            let author = Author {
                node_id: "evil".into(),
                host: "evil".into(),
                token: "1".repeat(32),
                ..Author::default()
            };
            let mut commit = Commit::following(Some(&parent), &pack, &self.facts(&parent), author);
            change(&mut commit);
            log::create(&bucket, &commit).await.unwrap();
            self.taking.replace(format!("restore {} --yes", commit.number));
        });
        self
    }

    /// What is in the image, where that can be told; else what an honest one would hold.
    fn facts(&self, parent: &Commit) -> Facts {
        let read = database::open_read_only(&self.image).and_then(|db| facts::read(&db, &self.image));
        read.unwrap_or_else(|_| Facts {
            counts: Counts { observations: 21, ..parent.counts },
            tables: Vec::new(),
            schema_version: parent.schema_version,
            digest: [0; 32].into(),
        })
    }

    /// Leaves the image where a Python node leaves its database.
    fn announce(&self) -> &Trap {
        let bytes = std::fs::read(&self.image).unwrap();
        let sha256 = Sum::of(&bytes).to_string();
        let put = |name: &str, bytes: &[u8]| {
            let path = self.store.join(python_node::key("mem", name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        self.taking.replace("pull_sqlite".to_owned());
        put("sqlite/claude-mem.db", &bytes);
        put("sqlite/claude-mem.db.sha256", format!("{sha256}  claude-mem.db\n").as_bytes());
        put("sqlite/manifest.json", format!(r#"{{"sha256": "{sha256}", "source_host": "evil"}}"#).as_bytes());
        self
    }

    /// Takes it, with so much memory and no more.
    fn take(&self, flags: &str) -> Outcome {
        let told = format!(
            "ulimit -d {MEMORY} && exec {} {} {flags}",
            env!("CARGO_BIN_EXE_membridge"),
            self.taking.borrow()
        );
        self.victim.program("/bin/sh").arg("-c").arg(told).timeout(Duration::from_mins(1)).run()
    }

    /// Refused in words, and nothing of it came here.
    #[track_caller]
    fn is_refused(&self, name: &str, words: &str) {
        let before = whole(&self.victim.db_path());
        let end = self.take("");
        assert_eq!(end.code, 1, "{name}: {end:?}");
        assert!(end.stdout.contains(words), "{name}: {words}: {end:?}");
        assert!(!end.stdout.contains('\u{1b}') && !end.stderr.contains('\u{1b}'), "{name}");
        assert!(!end.stdout.contains(".membridge-"), "{name}: a file of ours that is gone: {end:?}");
        assert_eq!(whole(&self.victim.db_path()), before, "{name}: the live database");
        assert_whole(&self.victim.db_path());
        assert_no_leftovers(&self.victim);
    }
}

/// Rows, queue and schema.
fn whole(database: &Path) -> Vec<String> {
    let mut all = rows(database);
    all.extend(claude_mem::dump(database, "SELECT * FROM pending_messages ORDER BY id"));
    all.extend(claude_mem::dump(database, "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"));
    all
}

const ENDLESS: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";

#[test]
fn f60_an_honest_image_of_any_release_comes_in() {
    for version in Version::ALL {
        let folder = tempfile::tempdir().unwrap();
        let alpha = Machine::new("alpha", folder.path());
        alpha.create_db(version).add_session("one").add_observations(3);
        alpha.cmd("push_sqlite").run().assert_code(0);
        let beta = Machine::new("beta", folder.path());
        beta.cmd("pull_sqlite").run().assert_code(0);
        assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()), "{}", version.number());
    }
    let trap = Trap::new();
    trap.commit(|_| {}).take("").assert_code(0);
    assert_eq!(claude_mem::counts(trap.victim.db_path()).observations, 21);
}

#[test]
fn f60_code_that_nobody_knows_is_refused_by_name() {
    for (name, sql) in [
        (
            "trigger evil",
            "CREATE TRIGGER evil BEFORE INSERT ON observations BEGIN SELECT raise(ABORT, 'no memory for you'); END",
        ),
        (
            "trigger evil",
            "CREATE TRIGGER evil AFTER DELETE ON pending_messages BEGIN DELETE FROM observations; END",
        ),
        (
            "trigger evil",
            &format!(
                "CREATE TRIGGER evil AFTER DELETE ON pending_messages BEGIN SELECT count(*) FROM ({ENDLESS}); END"
            ),
        ),
        (
            "trigger evil",
            "CREATE TABLE bomb(x); CREATE TRIGGER evil AFTER DELETE ON pending_messages BEGIN INSERT INTO bomb WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000) SELECT zeroblob(1000000) FROM c; END",
        ),
        (
            "trigger observations_ai",
            "DROP TRIGGER observations_ai; CREATE TRIGGER observations_ai AFTER INSERT ON observations BEGIN UPDATE observations SET narrative = 'mine' WHERE id = new.id; END",
        ),
        ("view v", &format!("CREATE VIEW v AS {ENDLESS}")),
        (
            "virtual table q",
            &format!(
                "CREATE VIEW w AS {ENDLESS}; CREATE VIRTUAL TABLE q USING fts5(x, content='w', content_rowid='x')"
            ),
        ),
        ("virtual table q", "CREATE VIRTUAL TABLE q USING fts4(content='observations', title)"),
        (
            "virtual table rt",
            "CREATE VIRTUAL TABLE rt USING rtree(id, a, b); INSERT INTO rt VALUES (1, 1, 2); UPDATE rt_node SET data = x'ffff00ff'",
        ),
        (
            "virtual table q",
            "INSERT INTO sqlite_schema VALUES ('table', 'q', 'q', 0, 'CREATE VIRTUAL TABLE q USING fts5(a, tokenize=''evil'')')",
        ),
        (
            "virtual table q",
            "INSERT INTO sqlite_schema VALUES ('table', 'q', 'q', 0, 'CREATE VIRTUAL TABLE q USING csv(filename=''/etc/passwd'')')",
        ),
        (
            "virtual table q",
            "INSERT INTO sqlite_schema VALUES ('table', 'q', 'q', 0, 'CREATE VIRTUAL TABLE q USING sqlite_dbpage')",
        ),
        (
            "table z: check",
            "CREATE TABLE z(x CHECK (length(hex(zeroblob(400000000))) > 0)); INSERT INTO z VALUES (1)",
        ),
        (
            "table z: check",
            "CREATE TABLE z(x CHECK (replace(hex(zeroblob(2000)), '0', 'a') NOT LIKE '%a%a%a%a%a%a%a%a%a%a%ab')); INSERT INTO z VALUES (1)",
        ),
        ("table z: as", "CREATE TABLE z(x, y AS (hex(zeroblob(400000000))) NOT NULL); "),
        ("table z: default", "CREATE TABLE z(x DEFAULT (hex(randomblob(9))))"),
        ("index zi", "CREATE TABLE z(x); CREATE INDEX zi ON z(length(hex(zeroblob(300000000))))"),
        (
            "index one_each",
            "DELETE FROM observations WHERE id > 1; CREATE UNIQUE INDEX one_each ON observations(project)",
        ),
        (
            "table observations: check",
            "UPDATE sqlite_schema SET sql = replace(sql, 'title TEXT', 'title TEXT CHECK (0)') WHERE name = 'observations'",
        ),
        (
            "view user_prompts",
            "DROP TABLE user_prompts_fts; DROP TABLE user_prompts; CREATE VIEW user_prompts AS SELECT 1 AS id, 'x' AS content_session_id, 1 AS prompt_number, 'p' AS prompt_text, 1 AS created_at_epoch",
        ),
        (
            "virtual table observations",
            "DROP TABLE observations_fts; DROP TABLE observations; CREATE VIRTUAL TABLE observations USING fts5(title)",
        ),
    ] {
        let trap = Trap::new();
        trap.forge(sql).commit(|_| {}).is_refused(name, name);
    }
}

#[test]
fn f60_of_a_python_nodes_image_the_rows_come_in_and_no_code() {
    for sql in [
        "CREATE TRIGGER evil AFTER INSERT ON observations BEGIN DELETE FROM observations; END",
        "CREATE VIEW v AS SELECT 1",
    ] {
        let trap = Trap::new();
        let schema =
            |database: &Path| claude_mem::dump(database, "SELECT type, name, sql FROM sqlite_schema");
        let before = schema(&trap.victim.db_path());
        trap.forge(sql).announce().take("").assert_code(0);
        assert_eq!(schema(&trap.victim.db_path()), before, "{sql}");
        assert_eq!(claude_mem::counts(trap.victim.db_path()).observations, 21, "{sql}");
    }
}

#[test]
fn f60_a_view_in_the_place_of_a_table_of_a_python_node_is_not_read() {
    let view = format!(
        "DROP TABLE user_prompts_fts; DROP TABLE user_prompts; CREATE VIEW user_prompts AS SELECT x AS id, 'x' AS content_session_id, x AS prompt_number, 'p' AS prompt_text, 1 AS created_at_epoch FROM ({ENDLESS})"
    );
    let trap = Trap::new();
    trap.forge(&view).announce().is_refused("view user_prompts", "user_prompts");
}

#[test]
fn f60_a_schema_that_sqlite_cannot_read_is_refused_in_words() {
    for (name, sql) in [
        ("no statement", "UPDATE sqlite_schema SET sql = NULL WHERE name = 'user_prompts'"),
        (
            "garbage",
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE user_prompts(\u{1b}[31m' WHERE name = 'user_prompts'",
        ),
        ("page 0", "UPDATE sqlite_schema SET rootpage = 0 WHERE name = 'user_prompts'"),
        (
            "a page that is not there",
            "UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 'user_prompts'",
        ),
        (
            "a page of two tables",
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'observations') WHERE name = 'user_prompts'",
        ),
        (
            "two tables of one name",
            "INSERT INTO sqlite_schema SELECT * FROM sqlite_schema WHERE name = 'observations'",
        ),
    ] {
        let trap = Trap::new();
        trap.forge(sql).announce().is_refused(name, "cannot be used");
    }
}

#[test]
fn f60_a_schema_without_measure_is_refused() {
    let tables = (0..2_500).map(|n| format!("CREATE TABLE t{n}(x);")).collect::<Vec<_>>().concat();
    let long = format!("CREATE TABLE z(x DEFAULT '{}')", "x".repeat(200_000));
    for (name, sql, words) in [
        ("many tables", tables.as_str(), "its schema has 25"),
        ("a long statement", long.as_str(), "more than 100,000 characters"),
    ] {
        let trap = Trap::new();
        trap.forge(&format!("BEGIN; {sql}; COMMIT")).commit(|_| {}).is_refused(name, words);
    }
}

#[test]
fn f60_a_commit_that_says_something_else_than_its_image_holds_is_refused() {
    type Lie = fn(&mut Commit);
    let lies: [(&str, Lie); 4] = [
        ("its commit says 999 observations", |commit| commit.counts.observations = 999),
        ("schema version", |commit| commit.schema_version = Some(1)),
        ("schema version", |commit| commit.schema_version = None),
        ("another digest", |commit| {
            commit.content_digest = [0xab; 32].into();
            commit.seen.insert("ab".repeat(16), 1);
        }),
    ];
    for (words, lie) in lies {
        let trap = Trap::new();
        trap.commit(lie).is_refused(words, words);
    }
}

#[test]
fn f60_a_few_bytes_in_the_bucket_cost_neither_memory_nor_the_disk() {
    for (name, size, words) in [
        ("a row of 300 MB", 300_000_000, "would grow to"),
        ("a row of 70 MB", 70_000_000, "asks for more than a claude-mem database needs"),
    ] {
        let trap = Trap::new();
        trap.forge(&format!("CREATE TABLE big(x); INSERT INTO big VALUES (zeroblob({size}))")).commit(|_| {});
        let packs = trap.store.join(python_node::key("mem", "membridge/packs"));
        let packed: u64 =
            std::fs::read_dir(packs).unwrap().map(|pack| pack.unwrap().metadata().unwrap().len()).sum();
        assert!(packed < 1 << 20, "{name}: {packed}: small in the bucket");
        trap.is_refused(name, words);
    }
}

#[test]
fn f60_a_person_may_take_it_all_the_same() {
    let trap = Trap::new();
    trap.forge("CREATE VIEW v AS SELECT count(*) FROM observations")
        .commit(|_| {})
        .is_refused("view v", "--accept-schema");
    trap.take("--accept-schema").assert_code(0);
    assert_eq!(claude_mem::counts(trap.victim.db_path()).observations, 21);
    // What is here now is known here.
    trap.forge("DELETE FROM user_prompts WHERE id = 1").commit(|_| {});
    trap.take("").assert_code(0);
}

#[test]
fn f60_a_first_sync_takes_it_when_it_is_told_to() {
    let trap = Trap::new();
    trap.forge("CREATE VIEW v AS SELECT count(*) FROM observations").commit(|_| {});
    let mut fresh = Machine::new("fresh", trap.store.as_path());
    fresh.set("LEADERSHIP_ENABLED", "0");
    let refused = fresh.cmd("pull_sqlite").run();
    refused.assert_code(1).stdout_has("view v").stdout_has("membridge sync --accept-schema");
    assert!(!fresh.db_path().exists());
    fresh.cmd("sync --accept-schema").run().assert_code(0);
    assert_eq!(claude_mem::counts(fresh.db_path()).observations, 21);
}

#[test]
fn f60_what_was_accepted_still_runs_within_bounds() {
    for (name, sql, words) in [
        (
            "memory",
            "CREATE TABLE z(x); CREATE INDEX zi ON z(length(hex(zeroblob(60000000)))); ",
            "asks for more",
        ),
        (
            "size",
            "CREATE TABLE z(x); CREATE INDEX zi ON z(length(hex(zeroblob(300000000)))); ",
            "asks for more",
        ),
    ] {
        let trap = Trap::new();
        // The rows come in by the back door: an index that was there would have been computed here too.
        trap.forge(&format!("{sql} PRAGMA journal_mode = MEMORY;"));
        trap.forge("UPDATE sqlite_schema SET sql = 'CREATE INDEX zi ON z(x)' WHERE name = 'zi'");
        trap.forge("INSERT INTO z VALUES (1)");
        let back =
            format!("UPDATE sqlite_schema SET sql = '{}' WHERE name = 'zi'", sql.split("; ").nth(1).unwrap());
        trap.forge(&back).commit(|_| {});
        let end = trap.take("--accept-schema");
        assert_eq!(end.code, 1, "{name}: {end:?}");
        assert!(end.stdout.contains(words), "{name}: {end:?}");
    }
}

#[test]
fn f60_a_signal_ends_the_reading_of_a_hostile_image() {
    let trap = Trap::new();
    trap.forge("CREATE TABLE z(x); CREATE INDEX zi ON z(x); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) INSERT INTO z SELECT i FROM c");
    trap.forge("UPDATE sqlite_schema SET sql = 'CREATE INDEX zi ON z(length(hex(zeroblob(1000000))))' WHERE name = 'zi'");
    trap.commit(|_| {});
    let running = trap.victim.cmd(&format!("{} --accept-schema", trap.taking.borrow())).spawn();
    running.wait_for_stdout("[1/6]");
    let asked = Instant::now();
    running.sigterm();
    let end = running.wait();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_ne!(end.code, 0, "{end:?}");
    assert_no_leftovers(&trap.victim);
    assert_eq!(claude_mem::counts(trap.victim.db_path()).observations, 20);
}
