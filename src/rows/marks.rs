//! How far one has come, in the shadow: the highest ids that were given, the segments that were read, the batch that is
//! arriving. SQL and types only: decides nothing.

use rusqlite::{OptionalExtension, params};

use super::entry::{Did, Entry, json, to_json};
use super::shadow::{Shadow, ShadowError};
use super::stamp::Writer;

type Result<T> = std::result::Result<T, ShadowError>;

impl Shadow {
    /// The highest id that was given in a table when it was last read.
    ///
    /// # Errors
    /// SQLite's.
    pub fn high(&self, table: &str) -> Result<i64> {
        let mut statement = self.db.prepare_cached("SELECT high FROM highs WHERE tab = ?1")?;
        Ok(statement.query_row([table], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Keeps the highest id of a table.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set_high(&self, table: &str, high: i64) -> Result<()> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO highs VALUES (?1, ?2)")?
            .execute(params![table, high])?;
        Ok(())
    }

    /// Puts entries into a table of things under way.
    ///
    /// # Errors
    /// SQLite's.
    pub fn note_arriving(&self, did: Did, entry: &Entry) -> Result<()> {
        let mut statement = self.db.prepare_cached("INSERT INTO arriving(did, entry) VALUES (?1, ?2)")?;
        statement.execute(params![did as i64, to_json(entry)?])?;
        Ok(())
    }

    /// The batch that was arriving when a run was cut off.
    ///
    /// # Errors
    /// SQLite's.
    pub fn arriving(&self) -> Result<Vec<(Did, Entry)>> {
        let mut statement = self.db.prepare_cached("SELECT did, entry FROM arriving ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let did = match row.get(0)? {
                1 => Did::New,
                2 => Did::Changed,
                3 => Did::Deleted,
                4 => Did::Kept,
                _ => Did::Nothing,
            };
            Ok(json(row, 1)?.map(|entry| (did, entry)))
        })?;
        Ok(rows.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?)
    }

    /// Up to which number the segments of a writer are here.
    ///
    /// # Errors
    /// SQLite's.
    pub fn collected(&self, writer: Writer) -> Result<u64> {
        let mut statement = self.db.prepare_cached("SELECT number FROM writers WHERE writer = ?1")?;
        Ok(statement.query_row([writer], |row| row.get(0)).optional()?.unwrap_or(0))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn set_collected(&self, writer: Writer, number: u64) -> Result<()> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO writers(writer, number) VALUES (?1, ?2) ON CONFLICT(writer) DO UPDATE SET number = ?2",
        )?;
        statement.execute(params![writer, number])?;
        Ok(())
    }
}
