//! One version of one row as the log holds it: a line of JSON. Unknown fields are ignored, so that a later membridge may
//! add some. Knows neither segments nor databases.

use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, Writer};
use crate::database::content::{Content, Reference, Uid};

/// The longest name of a table or a column (bytes), and the most columns that a record may have.
const NAME_LIMIT: usize = 200;
const COLUMN_LIMIT: usize = 400;

/// A version of a row: its content, or that it is deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The table.
    pub table: String,
    /// Which row, for ever.
    pub uid: Uid,
    /// Which version.
    pub stamp: Stamp,
    /// Its key now; of a deleted row the last one.
    pub key: Uid,
    /// The keys that it had before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Uid>,
    /// Its birth instant.
    #[serde(default)]
    pub born: i64,
    /// The session that it belongs to; of a session its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Reference>,
    /// A session's home: the installation on which it was born.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Writer>,
    /// The complete content: what is missing is NULL or the default. `None`: the row is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Says it aloud, so that a record without content is no accident.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No JSON, or not of a record.
    #[error("a line is no record: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but more or less than a record.
    #[error("a record {0}")]
    Shape(&'static str),
}

impl Record {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no record, or one beyond all measure.
    pub fn read(line: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(line)?;
        if record.deleted == record.content.is_some() {
            return Err(RecordError::Shape("has to have a content or to be deleted"));
        }
        let bad_name = |name: &String| name.is_empty() || name.len() > NAME_LIMIT || name.contains('\0');
        let contents = record.content.iter();
        let mut names = contents.flat_map(|content| {
            (content.columns.keys())
                .chain(content.refs.keys())
                .chain(content.carried.keys())
                .chain(content.state.keys())
        });
        if bad_name(&record.table) || names.any(bad_name) {
            return Err(RecordError::Shape("has a name that no table has"));
        }
        if record.content.as_ref().is_some_and(|content| content.columns.len() > COLUMN_LIMIT) {
            return Err(RecordError::Shape("has more columns than any table"));
        }
        Ok(record)
    }

    /// The line, without its end.
    ///
    /// # Errors
    /// Never for what [`Record::read`] or a database gave.
    pub fn line(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// What the row is called, where people read it.
    pub fn title(&self) -> Option<String> {
        self.content.as_ref()?.title()
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    const LINE: &str = r#"{"table":"observations","uid":"00112233445566778899aabbccddeeff","stamp":[5,1,"ffeeddccbbaa99887766554433221100"],"key":"00112233445566778899aabbccddeeff","born":1,"of":{"uid":"0123456789abcdef0123456789abcdef"},"content":{"columns":{"facts":{"text":"/w=="},"title":"T"},"refs":{"session":{"uid":"0123456789abcdef0123456789abcdef"}}}}"#;

    #[test]
    fn a_record_is_written_as_it_was_read() {
        let record = Record::read(LINE.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record.line().unwrap()).unwrap(), LINE);
        assert_eq!(record.title().unwrap(), "T");
    }

    #[test]
    fn what_is_no_record_is_refused_and_what_is_new_ignored() {
        let later = LINE.replace("\"born\":1", "\"born\":1,\"mood\":[1,{}]");
        assert_eq!(Record::read(later.as_bytes()).unwrap(), Record::read(LINE.as_bytes()).unwrap());
        let bad = [
            String::new(),
            "{}".to_owned(),
            LINE.replace("\"content\"", "\"content_\""),
            LINE.replace("\"born\":1", "\"deleted\":true"),
            LINE.replace("\"observations\"", "\"\""),
            LINE.replace("\"observations\"", &format!("\"{}\"", "x".repeat(300))),
            LINE.replace("[5,1,", "[5,"),
            LINE.replace("ffee", "FFEE"),
            format!("{}1", "[".repeat(100_000)),
        ];
        for line in bad {
            assert!(Record::read(line.as_bytes()).is_err(), "{}", line.chars().take(80).collect::<String>());
        }
    }
}
