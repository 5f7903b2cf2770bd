//! What names a row on every machine, and what points to one. Knows no table.

use std::fmt;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::value::Value;
use crate::context::{from_hex, hex};

/// A key, or the uid of a row: its key at its birth. 16 bytes of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub [u8; 16]);

impl Uid {
    /// Hashes a table's name and parts; an absent part is one too.
    pub fn of<'a>(table: &str, parts: impl IntoIterator<Item = Option<Part<'a>>>) -> Self {
        let mut hasher = Sha256::new();
        let mut add = |tag: u8, bytes: &[u8]| {
            hasher.update([tag]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(0, table.as_bytes());
        for part in parts {
            match part {
                None => add(0xff, &[]),
                Some(Part::Value(value)) => value.hashed(&mut add),
                Some(Part::Bytes(bytes)) => add(3, bytes),
                Some(Part::Reference(reference)) => {
                    let (tag, bytes) = reference.hashed();
                    add(tag, bytes);
                }
            }
        }
        Self(hasher.finalize().first_chunk().copied().unwrap_or_default())
    }
}

/// One part of a key.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A column's value.
    Value(&'a Value),
    /// A text or a digest.
    Bytes(&'a [u8]),
    /// What a reference points to.
    Reference(&'a Reference),
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| D::Error::custom("a uid is 32 hex digits"))
    }
}

impl ToSql for Uid {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl rusqlite::types::FromSql for Uid {
    fn column_result(value: ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

/// What a row points to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// Another row that travels.
    Uid(Uid),
    /// A name whose row is not there.
    Text(Vec<u8>),
}

impl Reference {
    pub(super) fn hashed(&self) -> (u8, &[u8]) {
        match self {
            Self::Uid(uid) => (5, &uid.0),
            Self::Text(text) => (6, text),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CodedReference {
    Uid(Uid),
    Text(Value),
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uid(uid) => CodedReference::Uid(*uid),
            Self::Text(text) => CodedReference::Text(Value::Text(text.clone())),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match CodedReference::deserialize(deserializer)? {
            CodedReference::Uid(uid) => Ok(Self::Uid(uid)),
            CodedReference::Text(Value::Text(text)) => Ok(Self::Text(text)),
            CodedReference::Text(_) => Err(D::Error::custom("a reference is a uid or a text")),
        }
    }
}
