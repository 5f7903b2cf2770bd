//! The code in a database: triggers, views, virtual tables, constraints and indexes that compute. It would run in whatever
//! opens the file, claude-mem's worker first (F60), so that an image brings none along that is not known: to the database
//! that is here, or as the work of a claude-mem release. Reads statements and compares them; runs none.

use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::DatabaseError;
use super::files;
use super::look::look;
use super::tables::CORE_TABLES;
use crate::context::hex;

/// Objects that a schema may have: claude-mem's has less than a hundred.
const MAX_OBJECTS: u64 = 2_000;
/// Bytes of one statement.
const MAX_STATEMENT: u64 = 100_000;
/// How many unknown ones are named.
const NAMED: usize = 5;
/// Characters of a statement that a person is shown.
const SHOWN: usize = 80;
/// The code of claude-mem 4 to 13.25.3, from its source and its packages: what it is, and the digest of its statement.
const KNOWN: &str = include_str!("code/known.txt");

/// Something that is run when the database is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// What it is, for people: `trigger observations_ai`.
    pub name: String,
    /// Its statement in the one form that all spellings of it have.
    statement: String,
}

/// Which code a database may bring along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admits {
    /// Any: it is only looked at, or a person has said so.
    Any,
    /// What the database that is here has too, and what claude-mem's releases make.
    Known(Vec<Code>),
}

impl Admits {
    /// What the database at `path` has; nothing where there is none.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn of(path: &Path) -> Result<Self, DatabaseError> {
        if !files::has_content(path) {
            return Ok(Self::Known(Vec::new()));
        }
        look(path, |connection| read(connection, path)).map(Self::Known)
    }

    /// Refuses what is not known, by name.
    ///
    /// # Errors
    /// [`DatabaseError::UnknownCode`].
    pub fn judge(&self, image: &[Code]) -> Result<(), DatabaseError> {
        let Self::Known(here) = self else {
            return Ok(());
        };
        let unknown = unknown(image, here);
        if unknown.is_empty() {
            return Ok(());
        }
        let more = unknown.len().saturating_sub(NAMED);
        let mut names: Vec<String> = unknown.iter().take(NAMED).map(|code| code.name.clone()).collect();
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        Err(DatabaseError::UnknownCode(names.join(", ")))
    }
}

/// Reads the code of the main schema.
///
/// # Errors
/// SQLite's own; a schema that no claude-mem would make.
pub fn read(connection: &Connection, path: &Path) -> Result<Vec<Code>, DatabaseError> {
    let fail = |error| DatabaseError::sqlite("read the schema of", path, error);
    let excess = |problem: String| DatabaseError::Excess { path: path.to_owned(), problem };
    let (objects, longest): (u64, Option<u64>) = connection
        .query_row("SELECT count(*), max(length(sql)) FROM sqlite_schema", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(fail)?;
    if objects > MAX_OBJECTS {
        return Err(excess(format!("its schema has {objects} objects")));
    }
    if longest.is_some_and(|longest| longest > MAX_STATEMENT) {
        return Err(excess("its schema has a statement of more than 100,000 characters".to_owned()));
    }
    let list = || -> rusqlite::Result<Vec<Code>> {
        let mut statement = connection
            .prepare("SELECT name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1")?;
        let mut rows = statement.query([])?;
        let mut code = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, table, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            code.extend(code_of(&name, &table, &sql));
        }
        Ok(code)
    };
    list().map_err(fail)
}

/// The code of `image` that neither the database that is `here` nor a claude-mem release has.
fn unknown<'a>(image: &'a [Code], here: &[Code]) -> Vec<&'a Code> {
    let known = |code: &Code| {
        let digest = hex(Sha256::digest(&code.statement).get(..16).unwrap_or_default());
        KNOWN.lines().filter_map(|line| line.split('\t').nth(1)).any(|known| known == digest)
    };
    image.iter().filter(|code| !here.contains(code) && !known(code)).collect()
}

/// What of one object is code. What kind it is says its statement, for that is what SQLite runs.
fn code_of(name: &str, table: &str, sql: &str) -> Vec<Code> {
    let tokens = tokens(sql);
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let whole = |kind: &str| vec![Code { name: format!("{kind} {name}"), statement: words.join(" ") }];
    match words.as_slice() {
        ["create", "table", rest @ ..] => parts(rest)
            .into_iter()
            .map(|part| Code { name: format!("table {name}: {}", shown(&part)), statement: part })
            .collect(),
        ["create", "index", rest @ ..] if !computes(rest) => Vec::new(),
        ["create", "unique", "index", rest @ ..] if !computes(rest) && !CORE_TABLES.contains(&table) => {
            Vec::new()
        }
        ["create", "index", ..] | ["create", "unique", "index", ..] => whole("index"),
        ["create", "virtual", "table", ..] => whole("virtual table"),
        ["create", "trigger", ..] => whole("trigger"),
        ["create", "view", ..] => whole("view"),
        _ => whole("object"),
    }
}

/// An index over more than whole columns of all rows: behind the name of its table, a list of plain columns.
fn computes(words: &[&str]) -> bool {
    let list = words.iter().position(|word| *word == "(").map_or(0, |at| at.saturating_add(1));
    let plain = |word: &&str| *word == "," || word.chars().all(|c| c.is_alphanumeric() || c == '_');
    !matches!(words.get(list..).and_then(|rest| rest.split_last()), Some((&")", columns)) if columns.iter().all(plain))
}

/// The computed parts of a table's definition: constraints, defaults and columns in brackets.
fn parts(words: &[&str]) -> Vec<String> {
    let opens = |at: usize| words.get(at.saturating_add(1)) == Some(&"(");
    let computed =
        |(at, word): (usize, &&str)| (["check", "as", "default"].contains(word) && opens(at)).then_some(at);
    words
        .iter()
        .enumerate()
        .filter_map(computed)
        .map(|at| bracketed(words.get(at..).unwrap_or_default()))
        .collect()
}

/// The words up to where their first bracket closes.
fn bracketed(words: &[&str]) -> String {
    let mut depth = 0_u32;
    let mut part = Vec::new();
    for word in words {
        part.push(*word);
        match *word {
            "(" => depth += 1,
            ")" if depth <= 1 => break,
            ")" => depth -= 1,
            _ => {}
        }
    }
    part.join(" ")
}

fn shown(statement: &str) -> String {
    match statement.char_indices().nth(SHOWN) {
        None => statement.to_owned(),
        Some((end, _)) => format!("{}…", statement.get(..end).unwrap_or_default()),
    }
}

/// The words of a statement as every spelling of it has them: unquoted names and keywords in lower case, no comments, no
/// `IF NOT EXISTS`, no semicolon behind it.
fn tokens(sql: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' => quoted(rest, '\''),
            '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = behind;
        if !(first.is_whitespace() || token.starts_with("--") || token.starts_with("/*")) {
            tokens.push(plain(token));
        }
    }
    while tokens.last().is_some_and(|token| token == ";") {
        tokens.pop();
    }
    let optional = tokens.windows(3).take(6).position(|words| words == ["if", "not", "exists"]);
    if let Some(at) = optional {
        tokens.drain(at..at.saturating_add(3));
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// Bytes up to the quote that ends what begins with one; a doubled quote is a part of it.
fn quoted(text: &str, quote: char) -> usize {
    let mut ends = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = ends.next() {
        if c == quote && ends.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// A name without quotes where it needs none; anything else as it is, words in lower case.
fn plain(token: &str) -> String {
    let inner = ['"', '`'].into_iter().find_map(|quote| token.strip_prefix(quote)?.strip_suffix(quote));
    let inner = inner.or_else(|| token.strip_prefix('[')?.strip_suffix(']'));
    match inner {
        Some(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            name.to_ascii_lowercase()
        }
        Some(_) => token.to_owned(),
        None if token.starts_with('\'') => token.to_owned(),
        None => token.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_statement_has_the_same_words() {
        let same = [
            "CREATE TRIGGER t AFTER INSERT ON o BEGIN INSERT INTO f(a) VALUES ('X''y'); END",
            "create trigger IF NOT EXISTS \"t\" after insert on [o] -- why\n begin /* here */ insert into `f` (a) values('X''y') ; end ;",
        ];
        assert_eq!(tokens(same[0]), tokens(same[1]));
        for other in [
            same[0].replace("'X''y'", "'x''y'"),
            same[0].replace("'X''y'", "\"X\""),
            same[0].replace("; END", "; SELECT 1; END"),
        ] {
            assert_ne!(tokens(same[0]), tokens(&other), "{other}");
        }
        for unfinished in ["'", "\"", "[", "/*", "--", "é'", "`a``"] {
            tokens(unfinished);
        }
    }

    #[test]
    fn what_is_code_and_what_is_not() {
        for (table, sql, code) in [
            ("t", "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT DEFAULT 'x' NOT NULL, c DEFAULT 0)", vec![]),
            (
                "t",
                "CREATE TABLE t(a CHECK (length(a) > (1)), b)",
                vec!["table n: check ( length ( a ) > ( 1 ) )"],
            ),
            ("t", "CREATE TABLE t(a, b AS (hex(a)) STORED)", vec!["table n: as ( hex ( a ) )"]),
            ("t", "CREATE TABLE t(a DEFAULT (random()))", vec!["table n: default ( random ( ) )"]),
            ("t", "CREATE INDEX i ON t(a, b COLLATE NOCASE DESC)", vec![]),
            ("t", "CREATE INDEX i ON t(hex(a))", vec!["index n"]),
            ("t", "CREATE INDEX i ON t(a) WHERE hex(a) > 1", vec!["index n"]),
            ("t", "CREATE UNIQUE INDEX i ON t(a)", vec![]),
            ("observations", "CREATE UNIQUE INDEX i ON observations(project)", vec!["index n"]),
            ("t", "CREATE VIEW n AS SELECT 1", vec!["view n"]),
            ("t", "CREATE VIRTUAL TABLE n USING fts5(a)", vec!["virtual table n"]),
            ("t", "/* */CREATE/**/TRIGGER n AFTER INSERT ON t BEGIN SELECT 1; END", vec!["trigger n"]),
            ("t", "SELECT 1", vec!["object n"]),
        ] {
            let found = code_of("n", table, sql);
            let names: Vec<&str> = found.iter().map(|code| code.name.as_str()).collect();
            assert_eq!(names, code, "{sql}");
        }
    }

    #[test]
    fn what_is_here_already_is_known_and_so_is_what_a_release_makes() {
        let theirs = code_of("v", "v", "CREATE VIEW v AS SELECT 1");
        assert_eq!(unknown(&theirs, &[]).len(), 1);
        assert!(unknown(&theirs, &theirs).is_empty());
        let release = code_of(
            "user_prompts_ai",
            "user_prompts",
            "CREATE TRIGGER user_prompts_ai AFTER INSERT ON user_prompts BEGIN
               INSERT INTO user_prompts_fts(rowid, prompt_text) VALUES (new.id, new.prompt_text);
             END",
        );
        assert!(unknown(&release, &[]).is_empty());
        let changed = code_of(
            "user_prompts_ai",
            "user_prompts",
            "CREATE TRIGGER user_prompts_ai AFTER INSERT ON user_prompts BEGIN DELETE FROM user_prompts; END",
        );
        assert_eq!(unknown(&changed, &release).len(), 1);
    }
}
