//! An open claude-mem database to write rows into, whatever its release: a row's columns
//! are matched by name with those that the table has.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::prose;
use super::rows::{self, Random, Row, Session};

/// A connection set up as claude-mem sets up its own.
pub struct Tables {
    pub db: Connection,
    columns: HashMap<&'static str, Vec<String>>,
}

pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch("PRAGMA foreign_keys=ON; PRAGMA synchronous=NORMAL;")?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Bytes of the database.
pub fn size(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|bytes| bytes as u64)
}

impl Tables {
    pub fn open(path: &Path) -> rusqlite::Result<Tables> {
        Ok(Tables { db: connect(path)?, columns: HashMap::new() })
    }

    /// True when the release has this table.
    pub fn has(&mut self, table: &'static str) -> rusqlite::Result<bool> {
        Ok(!self.columns_of(table)?.is_empty())
    }

    fn columns_of(&mut self, table: &'static str) -> rusqlite::Result<&Vec<String>> {
        if !self.columns.contains_key(table) {
            let mut query = self.db.prepare("SELECT name FROM pragma_table_info(?1)")?;
            let names = query.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
            self.columns.insert(table, names);
        }
        Ok(&self.columns[table])
    }

    /// Inserts and returns the id.
    pub fn insert(&mut self, table: &'static str, row: Row) -> rusqlite::Result<i64> {
        let known = self.columns_of(table)?;
        let (names, values): (Vec<&str>, Vec<Value>) =
            row.into_iter().filter(|(name, _)| known.iter().any(|known| known == name)).unzip();
        let marks = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT INTO {table} ({}) VALUES ({marks})", names.join(", "));
        self.db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(self.db.last_insert_rowid())
    }

    /// The number that the next row of a table gets, also after deletions.
    pub fn next_number(&self, table: &str) -> rusqlite::Result<i64> {
        let used =
            self.db.query_row("SELECT max(seq) FROM sqlite_sequence WHERE name=?1", [table], |row| {
                row.get::<_, Option<i64>>(0)
            })?;
        Ok(used.unwrap_or(0) + 1)
    }

    pub fn add_session(&mut self, label: &str, name: &str) -> rusqlite::Result<Session> {
        let number = self.next_number("sdk_sessions")?;
        let db_id = self.insert("sdk_sessions", rows::session(label, name, number))?;
        let (content_id, memory_id) = (rows::content_id(label, name), rows::memory_id(label, name));
        Ok(Session { db_id, content_id, memory_id })
    }

    /// The newest session that `label` made here; makes one when there is none.
    pub fn session(&mut self, label: &str) -> rusqlite::Result<Session> {
        let found = self.db.prepare_cached(
            "SELECT id, content_session_id, memory_session_id FROM sdk_sessions
             WHERE memory_session_id LIKE ?1 || '-memory-%' ORDER BY id DESC LIMIT 1",
        )?;
        let mut found = found;
        let session = found
            .query_row(params![label], |row| {
                Ok(Session { db_id: row.get(0)?, content_id: row.get(1)?, memory_id: row.get(2)? })
            })
            .optional()?;
        drop(found);
        match session {
            Some(session) => Ok(session),
            None => self.add_session(label, "1"),
        }
    }

    /// One observation of `label`; returns its title.
    pub fn add_observation(&mut self, label: &str) -> rusqlite::Result<String> {
        let session = self.session(label)?;
        let number = self.next_number("observations")?;
        self.insert("observations", rows::observation(label, number, &session, ""))?;
        Ok(rows::title(label, number))
    }

    /// A session of `label` with eight prompts, forty observations and a summary, all in prose.
    pub fn live_session(&mut self, label: &str) -> rusqlite::Result<()> {
        let number = self.next_number("sdk_sessions")?;
        let mut random = Random::new(&format!("{label} prose"), number);
        let name = number.to_string();
        let row = prose::rewrite(rows::session(label, &name, number), &mut random);
        let session = Session {
            db_id: self.insert("sdk_sessions", row)?,
            content_id: rows::content_id(label, &name),
            memory_id: rows::memory_id(label, &name),
        };
        for _ in 0..8 {
            let number = self.next_number("user_prompts")?;
            let row = prose::rewrite(rows::prompt(label, number, &session), &mut random);
            self.insert("user_prompts", row)?;
            for _ in 0..5 {
                let number = self.next_number("observations")?;
                let row = prose::rewrite(rows::observation(label, number, &session, ""), &mut random);
                self.insert("observations", row)?;
            }
        }
        let number = self.next_number("session_summaries")?;
        let row = prose::rewrite(rows::summary(label, number, &session), &mut random);
        self.insert("session_summaries", row)?;
        Ok(())
    }
}
