//! What a row says, apart from how one database stores it: values by column name, references by what they point to.
//! Equal contents have equal digests on every machine. Pure; knows no SQL, and not who has which row.

use std::collections::BTreeMap;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

pub use super::uid::{Part, Reference, Uid};
pub use super::value::Value;
use crate::sum::Sum;

/// Columns that only the machine on which a session was born digests.
pub const STATE: [&str; 3] = ["status", "completed_at", "completed_at_epoch"];

/// Marks values of [`STATE`] in a digest.
pub const STATE_TAG: u8 = 0x10;

/// Columns by name.
pub type Columns = BTreeMap<String, Value>;

/// The name under which a child names its session.
pub const SESSION: &str = "session";

/// Everything that travels of one row.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Content {
    /// What is memory; NULL and declared defaults are absent.
    pub columns: Columns,
    /// What it points to: `session`, or the column of a declared foreign key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refs: BTreeMap<String, Reference>,
    /// Local names that are written where a row is new and fill what is NULL, but are not memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub carried: Columns,
    /// A session's [`STATE`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: Columns,
}

/// A digest that stays on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print(pub [u8; 16]);

impl ToSql for Print {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl rusqlite::types::FromSql for Print {
    fn column_result(value: ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

/// Makes a [`Print`] from parts that come in the order of [`Content`]: columns, references, state, each by name.
#[derive(Debug, Default)]
pub struct Printer(Vec<u8>);

impl Printer {
    /// Adds one value as it lies in the database; NULL adds nothing. `tag`: 0, or [`STATE_TAG`].
    pub fn value(&mut self, name: &str, value: ValueRef<'_>, tag: u8) {
        let name = name.as_bytes();
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(number) => self.add(name, 1 | tag, &number.to_le_bytes()),
            ValueRef::Real(number) => self.add(name, 2 | tag, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => self.add(name, 3 | tag, text),
            ValueRef::Blob(blob) => self.add(name, 4 | tag, blob),
        }
    }

    /// Adds a reference.
    pub fn reference(&mut self, name: &str, reference: &Reference) {
        let (tag, bytes) = reference.hashed();
        self.add(name.as_bytes(), tag, bytes);
    }

    fn add(&mut self, name: &[u8], tag: u8, bytes: &[u8]) {
        self.0.extend_from_slice(&(name.len() as u64).to_le_bytes());
        self.0.extend_from_slice(name);
        self.0.push(tag);
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The digest of what was added; the printer is empty again.
    pub fn finish(&mut self, with_state: bool) -> Print {
        if with_state {
            self.0.push(0xff);
        }
        let print = Print(XxHash3_128::oneshot(&self.0).to_le_bytes());
        self.0.clear();
        print
    }

    /// The digest of what was added as [`Content::digest`] makes it; the printer is empty again.
    pub fn sum(&mut self) -> Sum {
        let sum = Sum::of(&self.0);
        self.0.clear();
        sum
    }
}

impl Content {
    /// Hands every digested part to `add`, in one order on every machine.
    fn parts(&self, with_state: bool, mut add: impl FnMut(&[u8], u8, &[u8])) {
        for (name, value) in &self.columns {
            value.hashed(|tag, bytes| add(name.as_bytes(), tag, bytes));
        }
        for (name, reference) in &self.refs {
            let (tag, bytes) = reference.hashed();
            add(name.as_bytes(), tag, bytes);
        }
        for (name, value) in self.state.iter().filter(|_| with_state) {
            value.hashed(|tag, bytes| add(name.as_bytes(), tag | STATE_TAG, bytes));
        }
    }

    /// The fast digest of the memory in it; `with_state`: where the session was born, its state too.
    pub fn print(&self, with_state: bool) -> Print {
        let mut printer = Printer::default();
        self.parts(with_state, |name, tag, bytes| printer.add(name, tag, bytes));
        printer.finish(with_state)
    }

    /// The digest of the memory in it that readers of the bucket may compare: SHA-256. `with_state`: a session's state too.
    pub fn digest(&self, with_state: bool) -> Sum {
        let mut printer = Printer::default();
        self.parts(with_state, |name, tag, bytes| printer.add(name, tag, bytes));
        printer.sum()
    }

    /// The session that it belongs to.
    pub fn session(&self) -> Option<&Reference> {
        self.refs.get(SESSION)
    }

    /// One column.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.columns.get(name)
    }

    /// What the row is called, where people read it.
    pub fn title(&self) -> Option<String> {
        let names = ["title", "custom_title", "request", "prompt_text", "user_prompt", "tool_name"];
        match names.into_iter().find_map(|name| self.get(name))? {
            Value::Text(text) => {
                Some(String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(80).collect())
            }
            _ => None,
        }
    }
}

/// The key of a row. `declared`: the key columns of a table that we do not know; empty: its whole content.
pub fn key(table: &str, content: &Content, declared: &[String]) -> Uid {
    let column = |name: &str| content.get(name).map(Part::Value);
    let session = content.session().map(Part::Reference);
    let of = |parts: &[Option<Part<'_>>]| Uid::of(table, parts.iter().copied());
    match table {
        "sdk_sessions" => {
            let id = column("content_session_id");
            let manual = matches!(content.get("content_session_id"), Some(Value::Text(text)) if text.starts_with(b"manual-content"));
            // A manual session has the same name everywhere, and claude-mem turns its platform back and forth.
            let platform = if manual { Part::Bytes(b"manual-content") } else { Part::Bytes(b"claude") };
            let platform = if manual { Some(platform) } else { column("platform_source").or(Some(platform)) };
            of(&[platform, id])
        }
        "user_prompts" => of(&[session, column("prompt_number"), column("created_at_epoch")]),
        "session_summaries" => of(&[session, column("created_at_epoch"), column("prompt_number")]),
        "observations" => of(&[session, column("created_at_epoch"), column("type"), column("title")]),
        "tool_uses" => of(&[session, column("tool_use_id")]),
        _ if declared.is_empty() => Uid::of(table, [Some(Part::Bytes(content.digest(false).bytes()))]),
        _ => Uid::of(
            table,
            declared.iter().map(|name| column(name).or(content.refs.get(name).map(Part::Reference))),
        ),
    }
}

/// A key that is taken, told apart by the content.
pub fn extended(table: &str, key: Uid, content: &Content, attempt: u32) -> Uid {
    let (digest, attempt) = (content.digest(false), attempt.to_le_bytes());
    Uid::of(
        table,
        [Some(Part::Bytes(&key.0)), Some(Part::Bytes(digest.bytes())), Some(Part::Bytes(&attempt))],
    )
}

/// The birth instant of a row, as a number whatever it is stored as.
pub fn birth(value: Option<&Value>) -> i64 {
    match value {
        None => 0,
        Some(Value::Integer(number)) => *number,
        Some(other) => {
            let Uid(bytes) = Uid::of("birth", [Some(Part::Value(other))]);
            i64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Part, Reference, SESSION, Uid, Value, key};

    fn content(columns: &[(&str, Value)]) -> Content {
        let columns = columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Content { columns, ..Content::default() }
    }

    #[test]
    fn a_value_comes_back_from_json_as_it_went() {
        let table = [
            (Value::Integer(i64::MIN), "-9223372036854775808"),
            (Value::Integer(7), "7"),
            (Value::Real(0.1), r#"{"real":"0.1"}"#),
            (Value::Real(f64::INFINITY), r#"{"real":"inf"}"#),
            (Value::text("a\"\0\u{1F600}"), "\"a\\\"\\u0000\u{1F600}\""),
            (Value::Text(vec![b'a', 0xed, 0xa0, 0xbd]), r#"{"text":"Ye2gvQ=="}"#),
            (Value::Blob(vec![0, 255]), r#"{"blob":"AP8="}"#),
        ];
        for (value, json) in table {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<Value>(json).unwrap(), value);
        }
        for bad in [
            "null",
            "true",
            "[]",
            "{}",
            "1.5",
            "9223372036854775808",
            r#"{"blob":"?"}"#,
            r#"{"x":1}"#,
            r#"{"text":"Ye2gvQ==","blob":"AP8="}"#,
        ] {
            assert!(serde_json::from_str::<Value>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contents_that_differ_have_other_digests() {
        let base = content(&[("a", Value::text("x")), ("b", Value::text("y"))]);
        let others = [
            content(&[("a", Value::text("x"))]),
            content(&[("a", Value::text("xb")), ("b", Value::text("y"))]),
            content(&[("a", Value::Blob(b"x".to_vec())), ("b", Value::text("y"))]),
            Content { refs: [(SESSION.to_owned(), Reference::Text(b"s".to_vec()))].into(), ..base.clone() },
        ];
        for other in others {
            assert_ne!(base.print(false), other.print(false), "{other:?}");
            assert_ne!(base.digest(false), other.digest(false), "{other:?}");
        }
        let state = Content { state: [("status".to_owned(), Value::text("done"))].into(), ..base.clone() };
        assert_eq!(base.print(false), state.print(false));
        assert_ne!(base.print(true), state.print(true));
    }

    #[test]
    fn keys_name_a_row_the_same_everywhere() {
        let session = |platform: Option<&str>, id: &str| {
            let mut row = content(&[("content_session_id", Value::text(id))]);
            if let Some(platform) = platform {
                row.columns.insert("platform_source".to_owned(), Value::text(platform));
            }
            key("sdk_sessions", &row, &[])
        };
        assert_eq!(session(None, "c"), session(Some("claude"), "c"), "the default of later schemas");
        assert_ne!(session(Some("cursor"), "c"), session(None, "c"));
        assert_eq!(session(Some("cursor"), "manual-content-x"), session(None, "manual-content-x"));
        assert_ne!(
            Uid::of("t", [None, Some(Part::Bytes(b"x"))]),
            Uid::of("t", [Some(Part::Bytes(b"x")), None])
        );
        let note = content(&[("slug", Value::text("s")), ("body", Value::text("b"))]);
        let edited = content(&[("slug", Value::text("s")), ("body", Value::text("c"))]);
        assert_eq!(key("notes", &note, &["slug".to_owned()]), key("notes", &edited, &["slug".to_owned()]));
        assert_ne!(key("notes", &note, &[]), key("notes", &edited, &[]));
    }
}
