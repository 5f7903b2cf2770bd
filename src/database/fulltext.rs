//! Observations by their words, asked of claude-mem's own search index (FTS5). Reads only.

use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::DatabaseError;
use super::tables::columns;

/// Words around what was found, in the excerpt.
const AROUND: u32 = 16;
/// The longest text of a hit (characters).
const LONGEST: usize = 300;

/// An observation that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its id in this database: what claude-mem cites as `#id`.
    pub id: i64,
    /// When it was recorded, milliseconds since 1970.
    pub created_at_epoch: i64,
    /// claude-mem's project.
    pub project: String,
    /// Its type: `bugfix`, `decision`, …
    pub kind: String,
    /// Its title.
    pub title: String,
    /// The words around what was found.
    pub excerpt: String,
}

/// FTS5's language for: all of these words, each a phrase, one that ends in `*` with any ending. `None`: there is nothing to
/// look for.
pub fn query(words: &[String]) -> Option<String> {
    let phrase = |word: &String| {
        let (text, any_ending) = match word.strip_suffix('*') {
            Some(text) => (text, "*"),
            None => (word.as_str(), ""),
        };
        let sought = text.chars().any(char::is_alphanumeric);
        sought.then(|| format!("\"{}\"{any_ending}", text.replace('"', "\"\"").replace('\0', " ")))
    };
    let phrases: Vec<String> = words.iter().filter_map(phrase).collect();
    if phrases.is_empty() { None } else { Some(phrases.join(" ")) }
}

/// Whether the database has the index.
///
/// # Errors
/// See [`DatabaseError`].
pub fn is_there(connection: &Connection, path: &Path) -> Result<bool, DatabaseError> {
    let found = columns(connection, "main", "observations_fts");
    Ok(!found.map_err(|error| DatabaseError::sqlite("search in", path, error))?.is_empty())
}

/// The observations that match best, at most `limit`; where `only` is given, those of this project.
///
/// # Errors
/// See [`DatabaseError`].
pub fn hits(
    connection: &Connection,
    path: &Path,
    query: &str,
    only: Option<&str>,
    limit: u32,
) -> Result<Vec<Hit>, DatabaseError> {
    let find = || -> rusqlite::Result<Vec<Hit>> {
        let sql = format!(
            "SELECT o.id, o.created_at_epoch, o.project, o.type, o.title, \
                    snippet(observations_fts, -1, '', '', '…', {AROUND}) \
             FROM main.observations_fts JOIN main.observations AS o ON o.id = observations_fts.rowid \
             WHERE observations_fts MATCH ?1 AND (?2 IS NULL OR o.project = ?2) ORDER BY rank, o.id DESC LIMIT ?3"
        );
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(params![query, only, limit], hit)?;
        rows.collect()
    };
    find().map_err(|error| DatabaseError::sqlite("search in", path, error))
}

fn hit(row: &Row<'_>) -> rusqlite::Result<Hit> {
    let text = |at| Ok::<_, rusqlite::Error>(tidy(row.get_ref(at)?.as_bytes_or_null().ok().flatten()));
    Ok(Hit {
        id: row.get(0)?,
        created_at_epoch: row.get_ref(1)?.as_i64().unwrap_or(0),
        project: text(2)?,
        kind: text(3)?,
        title: text(4)?,
        excerpt: text(5)?,
    })
}

/// One line, whatever is in it.
fn tidy(text: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

/// Whether an observation of another database is in this one too: recorded in the same moment, with the same title.
///
/// # Errors
/// See [`DatabaseError`].
pub fn holds(connection: &Connection, path: &Path, hit: &Hit) -> Result<bool, DatabaseError> {
    let find = || -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(
            "SELECT title FROM main.observations WHERE created_at_epoch = ?1 AND type = ?2",
        )?;
        let mut rows = statement.query(params![hit.created_at_epoch, hit.kind])?;
        while let Some(row) = rows.next()? {
            if tidy(row.get_ref(0)?.as_bytes_or_null().ok().flatten()) == hit.title {
                return Ok(true);
            }
        }
        Ok(false)
    };
    find().map_err(|error| DatabaseError::sqlite("search in", path, error))
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn words_become_phrases_that_all_have_to_be_there() {
        let table: [(&[&str], Option<&str>); 7] = [
            (&["lock"], Some("\"lock\"")),
            (&["lock", "OR", "lease*"], Some("\"lock\" \"OR\" \"lease\"*")),
            (&["stale lock"], Some("\"stale lock\"")),
            (&["a\"b", "NEAR(x)"], Some("\"a\"\"b\" \"NEAR(x)\"")),
            (&["сад"], Some("\"сад\"")),
            (&["--", "x"], Some("\"x\"")),
            (&["*", "", "-"], None),
        ];
        for (words, wanted) in table {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(query(&words).as_deref(), wanted, "{words:?}");
        }
    }
}
