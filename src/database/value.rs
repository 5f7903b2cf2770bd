//! One value of a row: as SQLite has it, as JSON holds it, and what of it is hashed. Knows no column.

use std::fmt;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value of a column. NULL is no value: the column is absent.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT, as the bytes that are stored: half an emoji is content like any other.
    Text(Vec<u8>),
    /// BLOB.
    Blob(Vec<u8>),
}

impl Value {
    /// A value that SQLite gave; `None` for NULL.
    pub fn of(value: ValueRef<'_>) -> Option<Self> {
        match value {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(Self::Integer(number)),
            ValueRef::Real(number) => Some(Self::Real(number)),
            ValueRef::Text(text) => Some(Self::Text(text.to_vec())),
            ValueRef::Blob(blob) => Some(Self::Blob(blob.to_vec())),
        }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// What is hashed: a letter for the type, and the bytes.
    pub(super) fn hashed<T>(&self, visit: impl FnOnce(u8, &[u8]) -> T) -> T {
        match self {
            Self::Integer(number) => visit(1, &number.to_le_bytes()),
            Self::Real(number) => visit(2, &number.to_bits().to_le_bytes()),
            Self::Text(text) => visit(3, text),
            Self::Blob(blob) => visit(4, blob),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// How JSON holds what it has no type for.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Coded {
    /// Text that is not UTF-8, as base64.
    Text(String),
    /// Bytes, as base64.
    Blob(String),
    /// A number that is no integer, in decimal: JSON readers do not agree on its last bit.
    Real(String),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use aws_smithy_types::base64::encode;
        match self {
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Real(number) => Coded::Real(number.to_string()).serialize(serializer),
            Self::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => Coded::Text(encode(text)).serialize(serializer),
            },
            Self::Blob(blob) => Coded::Blob(encode(blob)).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsItComes)
    }
}

/// Takes each of the forms as it comes: an untagged enum would try one after the other, and make an error's text for each.
struct AsItComes;

impl<'de> Visitor<'de> for AsItComes {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, a text, or what is coded as one")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::Integer).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let decode = |text: String| aws_smithy_types::base64::decode(text).map_err(A::Error::custom);
        Ok(match Coded::deserialize(MapAccessDeserializer::new(map))? {
            Coded::Text(text) => Value::Text(decode(text)?),
            Coded::Blob(blob) => Value::Blob(decode(blob)?),
            Coded::Real(number) => Value::Real(number.parse().map_err(A::Error::custom)?),
        })
    }
}
