//! claude-mem databases with the real schemas and made-up memories. Knows SQLite and
//! claude-mem's tables, nothing of membridge.

mod prose;
mod read;
mod rows;
mod schema;
mod table;
mod writer;

use std::path::{Path, PathBuf};

pub use self::read::{Counts, counts, dump, fts_ok, fts_search, integrity, journal_mode, titles};
pub use self::rows::{Random, title};
pub use self::schema::{Table, Version};
use self::table::Tables;
pub use self::writer::{IdleHolder, Writer};

/// A database on disk and the machine label that new rows carry. No connection stays open
/// between calls, so each call leaves the file checkpointed unless somebody else holds it.
#[derive(Clone, Debug)]
pub struct MemDb {
    path: PathBuf,
    label: String,
}

impl MemDb {
    /// Makes an empty database of this release, with rows of the label `local` to come.
    pub fn create(path: impl AsRef<Path>, version: Version) -> MemDb {
        MemDb::create_as(path, version, "local")
    }

    /// As `create`; rows of different labels differ in every key and text.
    pub fn create_as(path: impl AsRef<Path>, version: Version, label: &str) -> MemDb {
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("make the data directory");
        }
        assert!(!path.exists(), "{} exists", path.display());
        let db = table::connect(path).expect("make the database");
        version.schema().create(&db);
        MemDb { path: path.to_owned(), label: label.to_owned() }
    }

    /// An existing database, whichever release made it.
    pub fn open(path: impl AsRef<Path>, label: &str) -> MemDb {
        let path = path.as_ref();
        assert!(path.exists(), "{} does not exist", path.display());
        MemDb { path: path.to_owned(), label: label.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, change: impl FnOnce(&mut Tables, &str) -> rusqlite::Result<()>) -> &MemDb {
        let mut tables = Tables::open(&self.path).expect("open the database");
        tables.db.execute_batch("BEGIN IMMEDIATE").expect("begin");
        change(&mut tables, &self.label).expect("write rows");
        tables.db.execute_batch("COMMIT").expect("commit");
        self
    }

    /// Starts a session; later rows of this label belong to it.
    pub fn add_session(&self, name: &str) -> &MemDb {
        self.write(|tables, label| tables.add_session(label, name).map(drop))
    }

    pub fn add_observations(&self, count: usize) -> &MemDb {
        self.write(|tables, label| (0..count).try_for_each(|_| tables.add_observation(label).map(drop)))
    }

    pub fn add_summaries(&self, count: usize) -> &MemDb {
        self.add(count, "session_summaries", rows::summary)
    }

    pub fn add_prompts(&self, count: usize) -> &MemDb {
        self.add(count, "user_prompts", rows::prompt)
    }

    /// Messages in the worker's queue.
    pub fn add_pending(&self, count: usize) -> &MemDb {
        self.add(count, "pending_messages", rows::pending_message)
    }

    /// Tool uses that refer to the newest observation; for 13.25.3 and later only.
    pub fn add_tool_uses(&self, count: usize) -> &MemDb {
        let newest = "SELECT max(id) FROM observations";
        self.write(|tables, label| {
            assert!(tables.has("tool_uses")?, "this release has no table tool_uses");
            let session = tables.session(label)?;
            let observation = tables.db.query_row(newest, [], |row| row.get(0))?;
            for _ in 0..count {
                let number = tables.next_number("tool_uses")?;
                tables.insert("tool_uses", rows::tool_use(label, number, &session, observation))?;
            }
            Ok(())
        })
    }

    fn add(
        &self,
        count: usize,
        table: &'static str,
        row: fn(&str, i64, &rows::Session) -> rows::Row,
    ) -> &MemDb {
        self.write(|tables, label| {
            let session = tables.session(label)?;
            for _ in 0..count {
                let number = tables.next_number(table)?;
                tables.insert(table, row(label, number, &session))?;
            }
            Ok(())
        })
    }

    /// Adds observations until the file has at least `target` bytes. Most of the size is in
    /// a column without an index, so that a large database takes seconds, not minutes.
    pub fn fill_to_bytes(&self, target: u64) -> &MemDb {
        let mut tables = Tables::open(&self.path).expect("open the database");
        let mode = journal_mode(&self.path);
        let fast = "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;";
        tables.db.execute_batch(fast).expect("fast settings");
        tables.db.execute_batch("BEGIN IMMEDIATE").expect("begin");
        let padding: usize = if target > 50 << 20 { 16 << 10 } else { 2 << 10 };
        let pool = rows::padding_pool(&self.label, if target > 50 << 20 { 8 << 20 } else { 1 << 20 });
        let session = tables.session(&self.label).expect("a session");
        let mut number = tables.next_number("observations").expect("a number");
        loop {
            let size = table::size(&tables.db).expect("the size");
            if size >= target {
                break;
            }
            let missing = (target - size) as usize / (padding + 2048);
            for _ in 0..(missing / 2).clamp(1, 5000) {
                let start = number as usize * 7919 * 64 % (pool.len() - padding);
                let row = rows::observation(&self.label, number, &session, &pool[start..start + padding]);
                tables.insert("observations", row).expect("an observation");
                number += 1;
            }
        }
        tables.db.execute_batch("COMMIT").expect("commit");
        tables.db.execute_batch(&format!("PRAGMA journal_mode={mode}")).expect("restore the journal mode");
        self
    }

    /// `count` sessions as a person has them, with prose in their rows: eight prompts, five observations after each,
    /// a summary. Every row is a transaction of its own, as the worker writes them.
    pub fn live_sessions(&self, count: usize) -> &MemDb {
        let mut tables = Tables::open(&self.path).expect("open the database");
        for _ in 0..count {
            tables.live_session(&self.label).expect("write a session");
        }
        self
    }

    /// Adds such sessions until the file has at least `target` bytes; a transaction each, so that it takes seconds.
    pub fn live_to_bytes(&self, target: u64) -> &MemDb {
        let mut tables = Tables::open(&self.path).expect("open the database");
        let mode = journal_mode(&self.path);
        let fast = "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;";
        tables.db.execute_batch(fast).expect("fast settings");
        while table::size(&tables.db).expect("the size") < target {
            tables.db.execute_batch("BEGIN IMMEDIATE").expect("begin");
            tables.live_session(&self.label).expect("write a session");
            tables.db.execute_batch("COMMIT").expect("commit");
        }
        tables.db.execute_batch(&format!("PRAGMA journal_mode={mode}")).expect("restore the journal mode");
        self
    }

    /// Runs any SQL, for changes and deletions.
    pub fn execute(&self, sql: &str) -> &MemDb {
        self.write(|tables, _| tables.db.execute_batch(sql))
    }

    /// Rewrites the file, so that every page is another.
    pub fn vacuum(&self) -> &MemDb {
        let tables = Tables::open(&self.path).expect("open the database");
        tables.db.execute_batch("VACUUM").expect("vacuum");
        self
    }

    pub fn counts(&self) -> Counts {
        counts(&self.path)
    }

    pub fn observation_titles(&self) -> Vec<String> {
        titles(&self.path)
    }

    pub fn fts_search(&self, query: &str) -> Vec<i64> {
        fts_search(&self.path, query)
    }

    pub fn integrity(&self) -> String {
        integrity(&self.path)
    }
}
