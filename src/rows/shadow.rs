//! Our own record of the database, row by row: which local id is which uid, what each row said when it last travelled, and
//! everything that is under way. A journal in the sense that what it promises is on the disk before the act; lost, it is
//! made anew by a first sync. SQL and types only: decides nothing.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::{KNOWN, json, known, replaced, to_json};
use super::lines::Lines;
use super::stamp::{Clock, Stamp, Writer};

pub use super::entry::{Did, Entry, Known, Mark, Seen};
use crate::database::content::{Columns, Uid};
use crate::private_files::{make_private_folder, write_private};

/// The layout below. A shadow of another one is made anew.
const LAYOUT: i64 = 1;

const TABLES: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows(id INTEGER PRIMARY KEY, tab TEXT NOT NULL, uid BLOB NOT NULL, lid INTEGER, seen BLOB, bare BLOB, key BLOB NOT NULL,
  birth INTEGER NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL, writer BLOB NOT NULL, dead INTEGER NOT NULL DEFAULT 0,
  held INTEGER NOT NULL DEFAULT 0, mark INTEGER NOT NULL DEFAULT 0, home BLOB, state TEXT, extra TEXT, twin BLOB, of TEXT,
  was BLOB NOT NULL DEFAULT x'');
CREATE UNIQUE INDEX rows_uid ON rows(uid, tab);
CREATE INDEX rows_lid ON rows(tab, lid) WHERE lid IS NOT NULL;
CREATE INDEX rows_kept ON rows(uid) WHERE mark = 1;
CREATE INDEX rows_held ON rows(tab) WHERE held;
CREATE TABLE keys(key BLOB NOT NULL, tab TEXT NOT NULL, uid BLOB NOT NULL, PRIMARY KEY(key, tab, uid)) WITHOUT ROWID;
CREATE INDEX keys_uid ON keys(uid, tab);
CREATE TABLE writers(writer BLOB PRIMARY KEY, number INTEGER NOT NULL, ahead INTEGER NOT NULL DEFAULT 0, node TEXT) WITHOUT ROWID;
CREATE TABLE highs(tab TEXT PRIMARY KEY, high INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE waiting(tab TEXT NOT NULL, uid BLOB NOT NULL, ms INTEGER NOT NULL, counter INTEGER NOT NULL, writer BLOB NOT NULL,
  reason TEXT NOT NULL, record BLOB NOT NULL, PRIMARY KEY(uid, tab)) WITHOUT ROWID;
CREATE TABLE arriving(id INTEGER PRIMARY KEY, did INTEGER NOT NULL, entry TEXT NOT NULL);
CREATE TABLE outgoing(id INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE unembedded(tab TEXT NOT NULL, lid INTEGER NOT NULL, PRIMARY KEY(tab, lid)) WITHOUT ROWID;
";

/// Something went wrong with the shadow.
#[derive(Debug, thiserror::Error)]
#[error("our own record of the rows: {0}")]
pub struct ShadowError(#[from] pub rusqlite::Error);

type Result<T> = std::result::Result<T, ShadowError>;

/// The shadow of one database.
#[derive(Debug)]
pub struct Shadow {
    /// The connection.
    pub db: Connection,
    /// What packs records on their way.
    pub lines: Lines,
}

impl Shadow {
    /// Opens the shadow, or makes it: anew where the one there cannot be used, which is moved away.
    ///
    /// # Errors
    /// The folder cannot be written, or SQLite's.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_private_folder(folder)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        match Self::try_open(path) {
            Ok(shadow) => Ok(shadow),
            Err(ShadowError(error)) if unusable(&error) => {
                tracing::warn!(path = %path.display(), %error, "rows: the shadow cannot be used and is made anew");
                for suffix in ["", "-wal", "-shm"] {
                    let file = crate::database::files::beside(path, suffix);
                    let _ = std::fs::rename(
                        &file,
                        crate::database::files::beside(path, &format!(".damaged{suffix}")),
                    );
                }
                Self::try_open(path)
            }
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path) -> Result<Self> {
        // SQLite would let others read it; its log gets the rights of the file.
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let db = crate::database::open_own(path)?;
        db.set_prepared_statement_cache_capacity(64);
        db.busy_timeout(crate::database::BUSY)?;
        // Keys come in no order: what is sought by them in the scratch tables has to be at hand, or each row is read anew.
        db.execute_batch(
            "PRAGMA cache_size = -1500; PRAGMA temp_store = FILE; PRAGMA temp.cache_size = -3000; PRAGMA mmap_size = 0;",
        )?;
        let layout: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if layout == 0 {
            db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            db.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {LAYOUT}; COMMIT;"))?;
        } else if layout != LAYOUT {
            return Err(ShadowError(rusqlite::Error::InvalidQuery));
        }
        Ok(Self { db, lines: Lines::default() })
    }

    /// Runs `work` as one transaction.
    ///
    /// # Errors
    /// Its own, and the commit's; then nothing was changed.
    pub fn transaction<T, E: From<ShadowError>>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let sql = |error| E::from(ShadowError(error));
        // Dropped without a commit, also by a panic of a test, it rolls back.
        let transaction = self.db.unchecked_transaction().map_err(sql)?;
        let done = work()?;
        transaction.commit().map_err(sql)?;
        Ok(done)
    }

    /// A remembered value.
    ///
    /// # Errors
    /// SQLite's; a value of another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let mut statement = self.db.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| json(row, 0)).optional()?.flatten())
    }

    /// Remembers a value.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut statement = self.db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
        statement.execute(params![name, to_json(value)?])?;
        Ok(())
    }

    /// Forgets a value.
    ///
    /// # Errors
    /// SQLite's.
    pub fn unset(&self, name: &str) -> Result<()> {
        self.db.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    /// Whether a value is remembered as `true`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.get(name)?.unwrap_or(false))
    }

    /// Our clock.
    ///
    /// # Errors
    /// SQLite's.
    pub fn clock(&self) -> Result<Clock> {
        let (ms, counter) = self.get("clock")?.unwrap_or_default();
        Ok(Clock { ms, counter })
    }

    /// Keeps our clock.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set_clock(&self, clock: Clock) -> Result<()> {
        self.set("clock", &(clock.ms, clock.counter))
    }

    /// A row by its uid.
    ///
    /// # Errors
    /// SQLite's.
    pub fn by_uid(&self, table: &str, uid: Uid) -> Result<Option<Known>> {
        let sql = format!("SELECT {KNOWN} FROM rows WHERE uid = ?1 AND tab = ?2");
        Ok(self.db.prepare_cached(&sql)?.query_row(params![uid, table], known).optional()?)
    }

    /// The uid of a row that is here, by its local id.
    ///
    /// # Errors
    /// SQLite's.
    pub fn uid_of(&self, table: &str, lid: i64) -> Result<Option<Uid>> {
        let mut statement = self.db.prepare_cached("SELECT uid FROM rows WHERE tab = ?1 AND lid = ?2")?;
        Ok(statement.query_row(params![table, lid], |row| row.get(0)).optional()?)
    }

    /// The local id of a row that is here.
    ///
    /// # Errors
    /// SQLite's.
    pub fn lid_of(&self, table: &str, uid: Uid) -> Result<Option<i64>> {
        let mut statement =
            self.db.prepare_cached("SELECT lid FROM rows WHERE uid = ?1 AND tab = ?2 AND lid IS NOT NULL")?;
        Ok(statement.query_row(params![uid, table], |row| row.get(0)).optional()?)
    }

    /// All rows of a table that are here, above a local id and in their order.
    ///
    /// # Errors
    /// SQLite's; what `visit` returns.
    pub fn walk(&self, table: &str, above: i64) -> Result<Walk<'_>> {
        let sql = format!("SELECT {KNOWN} FROM rows WHERE tab = ?1 AND lid > ?2 ORDER BY lid");
        let statement = self.db.prepare(&sql)?;
        Ok(Walk { statement, table: table.to_owned(), above })
    }

    /// Enters a row as it is now. What it said before is remembered.
    ///
    /// # Errors
    /// SQLite's.
    pub fn enter(&self, entry: &Entry) -> Result<()> {
        let old = self.by_uid(&entry.table, entry.uid)?;
        let was = replaced(old.as_ref(), entry);
        let mark = match entry.mark {
            Mark::None => 0,
            Mark::Kept => 1,
            Mark::Filled => 2,
        };
        let optional = |columns: &Option<Columns>| columns.as_ref().map(to_json).transpose();
        // A local id is one row's only; below 1 it says that there is no row.
        if let Some(lid) = entry.lid.filter(|lid| *lid > 0) {
            self.db
                .prepare_cached("UPDATE rows SET lid = NULL WHERE tab = ?1 AND lid = ?2 AND uid <> ?3")?
                .execute(params![entry.table, lid, entry.uid])?;
        }
        let mut statement = self.db.prepare_cached(
            "INSERT INTO rows(tab, uid, lid, seen, bare, key, birth, ms, counter, writer, dead, mark, home, state, extra, twin, of, was) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
             ON CONFLICT(uid, tab) DO UPDATE SET lid = ?3, seen = ?4, bare = ?5, key = ?6, birth = ?7, ms = ?8, counter = ?9, \
             writer = ?10, dead = ?11, held = 0, mark = ?12, home = ?13, state = ?14, extra = ?15, twin = ?16, of = ?17, was = ?18",
        )?;
        let Stamp(ms, counter, writer) = entry.stamp;
        statement.execute(params![
            entry.table,
            entry.uid,
            entry.lid,
            entry.seen,
            entry.bare,
            entry.key,
            entry.birth,
            ms,
            counter,
            writer,
            entry.dead,
            mark,
            entry.home,
            optional(&entry.state)?,
            optional(&entry.extra)?,
            entry.twin,
            entry.of.as_ref().map(to_json).transpose()?,
            was,
        ])?;
        for key in entry.keys.iter().chain(Some(&entry.key)) {
            self.learn_key(&entry.table, *key, entry.uid)?;
        }
        Ok(())
    }

    /// Remembers that a row has or had a key. Its first one is its uid, and needs no remembering.
    ///
    /// # Errors
    /// SQLite's.
    pub fn learn_key(&self, table: &str, key: Uid, uid: Uid) -> Result<()> {
        if key != uid {
            self.db
                .prepare_cached("INSERT OR IGNORE INTO keys VALUES (?1, ?2, ?3)")?
                .execute(params![key, table, uid])?;
        }
        Ok(())
    }

    /// The keys that a row has or had, but for its first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keys_of(&self, table: &str, uid: Uid) -> Result<Vec<Uid>> {
        let mut statement =
            self.db.prepare_cached("SELECT key FROM keys WHERE uid = ?1 AND tab = ?2 ORDER BY key")?;
        let keys = statement.query_map(params![uid, table], |row| row.get(0))?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }

    /// Sets the version of a row that was refused, so that ours gets a greater one.
    ///
    /// # Errors
    /// SQLite's.
    pub fn raise(&self, table: &str, uid: Uid, stamp: Stamp) -> Result<()> {
        let mut statement = self.db.prepare_cached(
            "UPDATE rows SET ms = ?3, counter = ?4, writer = ?5 WHERE uid = ?1 AND tab = ?2",
        )?;
        statement.execute(params![uid, table, stamp.0, stamp.1, stamp.2])?;
        Ok(())
    }

    /// Ties a known row to another local id.
    ///
    /// # Errors
    /// SQLite's.
    pub fn relink(&self, table: &str, uid: Uid, lid: Option<i64>) -> Result<()> {
        self.db
            .prepare_cached("UPDATE rows SET lid = NULL WHERE tab = ?1 AND lid = ?2 AND uid <> ?3")?
            .execute(params![table, lid, uid])?;
        self.db
            .prepare_cached("UPDATE rows SET lid = ?3, held = 0 WHERE uid = ?1 AND tab = ?2")?
            .execute(params![uid, table, lid])?;
        Ok(())
    }
}

/// Rows in the order of their local ids.
pub struct Walk<'s> {
    statement: rusqlite::Statement<'s>,
    table: String,
    above: i64,
}

impl Walk<'_> {
    /// Begins to read.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rows(&mut self) -> Result<impl Iterator<Item = rusqlite::Result<Known>> + '_> {
        Ok(self.statement.query_map(params![self.table, self.above], known)?)
    }
}

fn unusable(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    matches!(error, rusqlite::Error::InvalidQuery)
        || matches!(error.sqlite_error_code(), Some(Code::NotADatabase | Code::DatabaseCorrupt))
}

/// The writer id of an installation lies in a file of its own, so that it outlives a lost shadow.
pub fn read_writer(path: &Path) -> Option<Writer> {
    let text = std::fs::read_to_string(path).ok()?;
    text.trim().parse().ok().filter(|writer| *writer != Writer::Python)
}

/// Keeps the writer id.
///
/// # Errors
/// The file system's.
pub fn write_writer(path: &Path, writer: Writer) -> std::io::Result<()> {
    write_private(path, format!("{writer}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::Shadow;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_ours_alone_and_made_anew_where_it_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows").join("x.sqlite");
        let shadow = Shadow::open(&path).unwrap();
        shadow.set("word", &"kept").unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&path.with_extension("sqlite-wal")), 0o600);
        drop(shadow);
        assert_eq!(Shadow::open(&path).unwrap().get::<String>("word").unwrap().as_deref(), Some("kept"));
        std::fs::write(&path, "no database at all, but long enough to look like a file").unwrap();
        assert_eq!(Shadow::open(&path).unwrap().get::<String>("word").unwrap(), None);
        assert!(path.with_extension("sqlite.damaged").exists());
    }
}
