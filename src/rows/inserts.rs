//! New rows of one table that go in together. SQLite writes the search index out before each statement that fires its
//! triggers: a statement for each row would make as many pieces of the index as there are rows, all to be merged again.
//! Knows values and ids; what is to be written is decided elsewhere.

use rusqlite::types::Null;
use rusqlite::{ErrorCode, ToSql};

use super::live::Live;
use crate::database::content::Value;
use crate::database::tables::quote;

/// The most rows of one statement, bytes of their values, and values: SQLite binds 32,766.
pub const ROWS: usize = 512;
const BYTES: usize = 512 << 10;
const VALUES: usize = 30_000;

/// What goes into the columns of a row; `None`: NULL.
pub type Values = Vec<(String, Option<Value>)>;

/// Rows that have an id already and are not written yet. Lives no longer than the write lock under which the ids were
/// taken.
#[derive(Debug, Default)]
pub struct Inserts {
    table: String,
    next: Option<i64>,
    groups: Vec<Group>,
    rows: usize,
    bytes: usize,
    values: usize,
}

/// Rows that name the same columns.
#[derive(Debug)]
struct Group {
    columns: Vec<String>,
    rows: Vec<(i64, Vec<Option<Value>>)>,
}

impl Inserts {
    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether rows of this table can join those that are held.
    pub fn are_of(&self, table: &str) -> bool {
        self.rows == 0 || self.table == table
    }

    /// Whether it is time to write; `most`: rows.
    pub fn are_enough(&self, most: usize) -> bool {
        self.rows >= most || self.bytes >= BYTES || self.values >= VALUES
    }

    /// Holds a row, and says which id it gets.
    ///
    /// # Errors
    /// SQLite's.
    pub fn hold(&mut self, live: &Live, table: &str, values: Values) -> rusqlite::Result<i64> {
        if self.table != table {
            (self.table, self.next) = (table.to_owned(), None);
        }
        let lid = match self.next {
            Some(next) => next,
            None => next_id(live, table)?,
        };
        self.next = Some(lid.saturating_add(1));
        self.rows += 1;
        self.values += values.len() + 1;
        self.bytes += values.iter().filter_map(|(_, value)| value.as_ref()).map(size).sum::<usize>();
        let (columns, values): (Vec<String>, Vec<Option<Value>>) = values.into_iter().unzip();
        match self.groups.iter_mut().find(|group| group.columns == columns) {
            Some(group) => group.rows.push((lid, values)),
            None => self.groups.push(Group { columns, rows: vec![(lid, values)] }),
        }
        Ok(lid)
    }

    /// Whether a row that is held says all of this.
    pub fn say(&self, what: [(&str, &Value); 2]) -> bool {
        self.groups.iter().any(|group| {
            let at = what.map(|(name, _)| group.columns.iter().position(|column| column == name));
            let says = |row: &[Option<Value>]| {
                at.iter().zip(what).all(|(at, (_, value))| {
                    at.and_then(|at| row.get(at)).is_some_and(|there| there.as_ref() == Some(value))
                })
            };
            at.iter().all(Option::is_some) && group.rows.iter().any(|(_, row)| says(row))
        })
    }

    /// Writes all rows, or none of them: `false`, where the schema does not take one. None is held afterwards.
    ///
    /// # Errors
    /// SQLite's.
    pub fn write(&mut self, live: &Live) -> rusqlite::Result<bool> {
        let held = std::mem::take(self);
        live.db.prepare_cached("SAVEPOINT many")?.execute([])?;
        let all = held.groups.iter().try_fold(true, |all, group| Ok(all && group.write(live, &held.table)?));
        match all {
            Ok(true) => {
                live.db.prepare_cached("RELEASE many")?.execute([])?;
                (self.table, self.next) = (held.table, held.next);
                return Ok(true);
            }
            _ => live.db.execute_batch("ROLLBACK TO many; RELEASE many")?,
        }
        match all {
            Err(error) if !is_constraint(&error) => Err(error),
            refused => {
                tracing::debug!(?refused, rows = held.rows, "rows: one of these is not taken");
                Ok(false)
            }
        }
    }
}

impl Group {
    /// Whether all of them were taken; a trigger may leave one out without a word.
    fn write(&self, live: &Live, table: &str) -> rusqlite::Result<bool> {
        let names = self.columns.iter().map(|name| quote(name));
        let names = ["rowid".to_owned()].into_iter().chain(names).collect::<Vec<_>>().join(", ");
        let row = format!("(?{})", ", ?".repeat(self.columns.len()));
        let rows = vec![row; self.rows.len()].join(", ");
        let sql = format!("INSERT INTO main.{}({names}) VALUES {rows}", quote(table));
        let mut bound: Vec<&dyn ToSql> = Vec::with_capacity(self.rows.len() * (self.columns.len() + 1));
        for (lid, values) in &self.rows {
            bound.push(lid);
            let values = values.iter();
            bound.extend(values.map(|value| value.as_ref().map_or(&Null as &dyn ToSql, |value| value)));
        }
        Ok(live.db.prepare(&sql)?.execute(bound.as_slice())? == self.rows.len())
    }
}

/// Whether the schema refused a row.
pub fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// The id that SQLite would give: above every one that is there, and above every one that was given.
fn next_id(live: &Live, table: &str) -> rusqlite::Result<i64> {
    let sql = format!("SELECT max(rowid) FROM main.{}", quote(table));
    let there: Option<i64> = live.db.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    let given = live.sequences()?.get(table).copied();
    Ok(there.unwrap_or(0).max(given.unwrap_or(0)).saturating_add(1))
}

fn size(value: &Value) -> usize {
    match value {
        Value::Integer(_) | Value::Real(_) => 8,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
    }
}
