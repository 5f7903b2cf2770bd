//! claude-mem's database as the row log sees it: beside the worker, through SQLite, nothing run that it does not need.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension};

use super::RowsError;
use super::shadow::{Shadow, ShadowError};
use crate::database::content::{Uid, Value};
use crate::database::shape::Shapes;
use crate::database::tables::quote;
use crate::database::{DatabaseError, company, open_foreign, open_read_write};

/// The project that claude-mem's own observer works in; claude-mem purges it itself.
const OBSERVER: &str = "observer-sessions";

/// The database of one run.
#[derive(Debug)]
pub struct Live {
    /// The connection.
    pub db: Connection,
    /// What is memory in it.
    pub shapes: Shapes,
    /// Its schema.
    pub schema: Schema,
    /// The search index of a table, where it has one.
    indexes: BTreeMap<String, String>,
    path: PathBuf,
    /// It keeps a log of writes, and whoever has it open a lock.
    wal: bool,
}

/// How old a database's schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Schema {
    /// The highest number in `schema_versions`.
    pub version: Option<i64>,
    /// SQLite's own counter of changes to the schema.
    pub cookie: i64,
}

impl Live {
    /// Opens the database beside its worker.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn open(path: &Path, tool_uses: bool) -> Result<Self, DatabaseError> {
        Self::of(open_read_write(path)?, path, tool_uses)
    }

    /// Opens an image for reading.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn open_image(path: &Path, tool_uses: bool) -> Result<Self, DatabaseError> {
        Self::of(open_foreign(path, false)?, path, tool_uses)
    }

    fn of(db: Connection, path: &Path, tool_uses: bool) -> Result<Self, DatabaseError> {
        let fail = |error| DatabaseError::sqlite("read the tables of", path, error);
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(fail)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true).map_err(fail)?;
        db.set_prepared_statement_cache_capacity(64);
        let mut shapes = Shapes::read(&db).map_err(fail)?;
        shapes.all.retain(|shape| tool_uses || shape.name != "tool_uses");
        let schema = schema(&db).map_err(fail)?;
        let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(fail)?;
        let indexes = indexes(&db, &shapes).map_err(fail)?;
        Ok(Self { db, shapes, schema, indexes, path: path.to_owned(), wal: mode == "wal" })
    }

    /// Whether the search index of the table knows a row; `None`: there is none. Asks for this row only.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_indexed(&self, table: &str, lid: i64) -> rusqlite::Result<Option<bool>> {
        let Some(index) = self.indexes.get(table) else {
            return Ok(None);
        };
        let sql = format!("SELECT 1 FROM main.{} WHERE id = ?1", quote(&format!("{index}_docsize")));
        Ok(Some(self.db.prepare_cached(&sql)?.query_row([lid], |_| Ok(())).optional()?.is_some()))
    }

    /// Keeps more pages at hand while nobody else has it open, so that one that is changed often is not written each time,
    /// and folds the log in less often. Beside a worker it is folded in as usual, so that the worker need not do it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn fit(&self, alone: bool) -> rusqlite::Result<()> {
        let (kilobytes, pages) = if alone { (3000, 4000) } else { (1000, 1000) };
        self.db
            .execute_batch(&format!("PRAGMA cache_size = -{kilobytes}; PRAGMA wal_autocheckpoint = {pages}"))
    }

    /// Whether it keeps a log of writes, beside which others can read and wait for their turn.
    pub fn keeps_a_log(&self) -> bool {
        self.wal
    }

    /// Whether nobody else has it open, as far as can be told.
    pub fn is_ours_alone(&self) -> bool {
        self.wal && company::is_ours_alone(&self.path)
    }

    /// The highest id that was ever given, by table.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sequences(&self) -> rusqlite::Result<BTreeMap<String, i64>> {
        let there = self.db.query_row(
            "SELECT count(*) FROM sqlite_master WHERE name = 'sqlite_sequence'",
            [],
            |row| row.get::<_, i64>(0),
        )?;
        if there == 0 {
            return Ok(BTreeMap::new());
        }
        let mut statement = self.db.prepare_cached("SELECT name, seq FROM sqlite_sequence")?;
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.unwrap_or(0))))?;
        rows.collect()
    }

    /// The project of a session.
    ///
    /// # Errors
    /// SQLite's.
    pub fn project_of(&self, session: i64) -> rusqlite::Result<Option<String>> {
        let mut statement = self.db.prepare_cached("SELECT project FROM sdk_sessions WHERE id = ?1")?;
        let project = statement.query_row([session], |row| {
            Ok(row.get_ref(0)?.as_bytes_or_null()?.map(|text| String::from_utf8_lossy(text).into_owned()))
        });
        Ok(project.optional()?.flatten())
    }
}

/// The search indexes that are over a table of memory and tell which rows they know.
fn indexes(db: &Connection, shapes: &Shapes) -> rusqlite::Result<BTreeMap<String, String>> {
    let sql = "SELECT f.name, replace(lower(f.sql), ' ', '') FROM main.sqlite_master AS f \
               JOIN main.sqlite_master AS d ON d.name = f.name || '_docsize' WHERE lower(substr(f.sql, 1, 20)) = 'create virtual table'";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let indexes: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>()?;
    let over = |table: &str| {
        let content = format!("content='{}'", table.to_lowercase());
        let found = indexes.iter().find(|(_, sql)| sql.contains("usingfts5(") && sql.contains(&content));
        found.map(|(index, _)| (table.to_owned(), index.clone()))
    };
    Ok(shapes.all.iter().filter_map(|shape| over(&shape.name)).collect())
}

fn schema(db: &Connection) -> rusqlite::Result<Schema> {
    let cookie = db.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    let there: i64 =
        db.query_row("SELECT count(*) FROM sqlite_master WHERE name = 'schema_versions'", [], |row| {
            row.get(0)
        })?;
    let version = match there {
        0 => None,
        _ => db.query_row("SELECT max(version) FROM main.schema_versions", [], |row| row.get(0))?,
    };
    Ok(Schema { version, cookie })
}

/// Which projects stay on this machine.
#[derive(Debug, Clone, Default)]
pub struct Excluded(Vec<String>);

impl Excluded {
    /// claude-mem's own project and these globs.
    pub fn new(globs: &[String]) -> Self {
        Self(globs.to_vec())
    }

    /// Whether no project was named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and those of an earlier list.
    pub fn with(&self, earlier: &[String]) -> Self {
        Self(self.0.iter().chain(earlier).cloned().collect())
    }

    /// Whether what is recorded in this project stays here.
    pub fn holds(&self, project: &str) -> bool {
        project == OBSERVER || self.0.iter().any(|glob| matches(glob.as_bytes(), project.as_bytes()))
    }

    /// The same for a value of a column.
    pub fn holds_value(&self, project: Option<&Value>) -> bool {
        matches!(project, Some(Value::Text(text)) if self.holds(&String::from_utf8_lossy(text)))
    }
}

/// `*` stands for any text, `?` for one byte.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == b'?' || text.get(from) == Some(letter) => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    at = place + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob.iter().skip(at).all(|letter| *letter == b'*')
}

/// Which local id is which uid: asked of the shadow once for each row that is pointed to.
#[derive(Debug)]
pub struct Names<'s> {
    shadow: &'s Shadow,
    known: RefCell<HashMap<String, HashMap<i64, Option<Uid>>>>,
    trouble: RefCell<Option<ShadowError>>,
}

impl<'s> Names<'s> {
    /// Nothing is known yet.
    pub fn new(shadow: &'s Shadow) -> Self {
        Self { shadow, known: RefCell::default(), trouble: RefCell::default() }
    }

    /// The uid of a row.
    pub fn get(&self, table: &str, id: i64) -> Option<Uid> {
        if let Some(uid) = self.known.borrow().get(table).and_then(|ids| ids.get(&id)) {
            return *uid;
        }
        match self.shadow.uid_of(table, id) {
            Ok(uid) => {
                self.put(table, id, uid);
                uid
            }
            Err(error) => {
                self.trouble.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    /// Sets the uid of a row, whatever the shadow says.
    pub fn set(&self, table: &str, id: i64, uid: Uid) {
        self.put(table, id, Some(uid));
    }

    fn put(&self, table: &str, id: i64, uid: Option<Uid>) {
        let mut known = self.known.borrow_mut();
        match known.get_mut(table) {
            Some(ids) => _ = ids.insert(id, uid),
            None => _ = known.insert(table.to_owned(), HashMap::from([(id, uid)])),
        }
    }

    /// What went wrong with an answer, if anything.
    ///
    /// # Errors
    /// The shadow's.
    pub fn check(&self) -> Result<(), RowsError> {
        self.trouble.borrow_mut().take().map_or(Ok(()), |error| Err(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::Excluded;

    #[test]
    fn projects_stay_here_by_name_or_glob() {
        let excluded = Excluded::new(&["/home/*/secret*".to_owned(), "b?g".to_owned()]);
        for (project, stays) in [
            ("observer-sessions", true),
            ("observer", false),
            ("/home/ann/secret", true),
            ("/home/ann/secrets/x", true),
            ("/home/secret", false),
            ("big", true),
            ("bigger", false),
            ("", false),
        ] {
            assert_eq!(excluded.holds(project), stays, "{project}");
        }
    }
}
