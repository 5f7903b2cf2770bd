//! The content digest: one number for all memory in a database. It does not depend on the SQLite version, on row
//! order, column order, row ids or page layout, nor on what the worker does by itself, so that two machines with
//! the same memory agree on it (F31). A fold over the one stream of rows ([`rows`]), which says what counts as memory.
//!
//! Tables that a later claude-mem adds count as content until we know better: a false "changed" costs an
//! upload, a false "same" would cost a memory. That goes for those too whose rows travel in images only.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::DatabaseError;
use super::content::{Content, Part, Uid};
use super::rows::{self, Told};
use super::shape::Shapes;
use super::tables::{columns, quote};
use crate::progress::Progress;
use crate::sum::Sum;

/// The digest of all memory rows. One pass, flat memory.
///
/// # Errors
/// SQLite's own.
pub fn content(connection: &Connection, path: &Path) -> Result<Sum, DatabaseError> {
    content_shown(connection, path, &Progress::hidden())
}

/// The same, with each row counted into a bar.
///
/// # Errors
/// SQLite's own.
pub fn content_shown(
    connection: &Connection,
    path: &Path,
    progress: &Progress,
) -> Result<Sum, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("read the rows of", path, error);
    let mut sums: BTreeMap<String, RowSum> = BTreeMap::new();
    for_each_digest(connection, |table, digest| {
        progress.add(1);
        match sums.get_mut(table) {
            Some(sum) => sum.add(digest),
            None => sums.entry(table.to_owned()).or_default().add(digest),
        }
    })
    .map_err(fail)?;
    let mut whole = Sha256::new();
    for (table, sum) in sums {
        whole.update(table.as_bytes());
        whole.update([0]);
        whole.update(sum.rows.to_le_bytes());
        whole.update(sum.bytes());
    }
    Ok(Sum::end(whole))
}

/// Calls `visit` with the table of each row and the digest of its content.
fn for_each_digest(connection: &Connection, mut visit: impl FnMut(&str, Sum)) -> rusqlite::Result<()> {
    let shapes = Shapes::read(connection)?;
    rows::digests(connection, &shapes, |shape, digest| {
        visit(&shape.name, digest);
        Ok::<_, rusqlite::Error>(())
    })?;
    for table in &shapes.images_only {
        as_it_lies(connection, table, |digest| {
            visit(table, digest);
            Ok(())
        })?;
    }
    Ok(())
}

/// Calls `visit` with the table of each row, what tells it from the table's others, the digest of its content, and that
/// itself where its rows travel.
///
/// # Errors
/// SQLite's own; what `visit` returns.
pub fn for_each_row(
    connection: &Connection,
    mut visit: impl FnMut(&str, Uid, Sum, Option<&Content>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let shapes = Shapes::read(connection)?;
    rows::stream(connection, &shapes, |shape, Told { key, content }| {
        visit(&shape.name, key, content.digest(true), Some(&content))
    })?;
    for table in &shapes.images_only {
        as_it_lies(connection, table, |digest| {
            visit(table, Uid::of(table, [Some(Part::Bytes(digest.bytes()))]), digest, None)
        })?;
    }
    Ok(())
}

/// The digests of the rows of a table of which it is not declared what they point to: of everything in them.
fn as_it_lies(
    connection: &Connection,
    table: &str,
    mut visit: impl FnMut(Sum) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut names = columns(connection, "main", table)?;
    names.sort();
    let list = names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
    let mut statement = connection.prepare(&format!("SELECT {list} FROM main.{}", quote(table)))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut hasher = Sha256::new();
        for (index, name) in names.iter().enumerate() {
            hash_value(&mut hasher, name, row.get_ref(index)?);
        }
        visit(Sum::end(hasher))?;
    }
    Ok(())
}

/// Adds one value under its column's name; NULL adds nothing.
fn hash_value(hasher: &mut Sha256, name: &str, value: ValueRef<'_>) {
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => return,
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    hasher.update((name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update([tag]);
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// A sum of row digests modulo 2^256: the same for every order of the same rows, and, other than XOR, not
/// blind to a row that is there twice.
#[derive(Debug, Default)]
struct RowSum {
    words: [u64; 4],
    rows: u64,
}

impl RowSum {
    fn add(&mut self, digest: Sum) {
        let mut carry = false;
        for (word, bytes) in self.words.iter_mut().zip(digest.bytes().as_chunks::<8>().0) {
            let (sum, first) = word.overflowing_add(u64::from_le_bytes(*bytes));
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = first || second;
        }
        self.rows += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::content;
    use crate::sum::Sum;
    use rusqlite::Connection;
    use std::path::Path;

    fn digest(sql: &str) -> Sum {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        content(&connection, Path::new("x")).unwrap()
    }

    #[test]
    fn only_memory_changes_the_digest() {
        let base = "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'a', 10), (2, 'b', 20);";
        let same = [
            ("row order", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'b', 20), (2, 'a', 10);"),
            ("column order", "CREATE TABLE observations(epoch INTEGER, title TEXT, id INTEGER PRIMARY KEY);
             INSERT INTO observations(id, title, epoch) VALUES(7, 'a', 10), (9, 'b', 20);"),
            ("an added empty column", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER, metadata TEXT);
             INSERT INTO observations(title, epoch) VALUES('a', 10), ('b', 20);"),
            ("housekeeping", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER, relevance_count INTEGER DEFAULT 3, sync_rev TEXT DEFAULT '1');
             INSERT INTO observations(title, epoch) VALUES('a', 10), ('b', 20);
             CREATE TABLE pending_messages(x); INSERT INTO pending_messages VALUES(1);
             CREATE TABLE sync_outbox(x); INSERT INTO sync_outbox VALUES(1);
             CREATE TABLE schema_versions(version); INSERT INTO schema_versions VALUES(4);"),
            ("an empty table", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'a', 10), (2, 'b', 20); CREATE TABLE tool_uses(x);"),
        ];
        let other = [
            ("a changed value", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'a', 10), (2, 'c', 20);"),
            ("a row twice", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'a', 10), (2, 'b', 20), (3, 'b', 20), (4, 'b', 20);"),
            ("another type", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch TEXT);
             INSERT INTO observations VALUES(1, 'a', '10'), (2, 'b', '20');"),
            ("a moved boundary", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'b', 10), (2, 'a', 20);"),
            ("a row in a table we do not know", "CREATE TABLE observations(id INTEGER PRIMARY KEY, title TEXT, epoch INTEGER);
             INSERT INTO observations VALUES(1, 'a', 10), (2, 'b', 20); CREATE TABLE notes(x); INSERT INTO notes VALUES('n');"),
        ];
        for (name, sql) in same {
            assert_eq!(digest(sql), digest(base), "{name}");
        }
        for (name, sql) in other {
            assert_ne!(digest(sql), digest(base), "{name}");
        }
    }
}
