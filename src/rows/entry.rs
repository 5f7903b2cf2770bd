//! What the shadow says of one row, and how it lies in it. Types and their columns; decides nothing.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::stamp::{Stamp, Writer};
use crate::database::content::{Columns, Print, Reference, Uid};

/// How many earlier contents of a row are remembered, 16 bytes each.
const EARLIER: usize = 8;

/// What a row said when it last travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// This.
    Print([u8; 16]),
    /// Something else than now, whatever it was.
    Stale,
    /// Nobody knows: the database went back.
    Unknown,
}

impl Seen {
    /// Whether it is exactly this.
    pub fn is(self, print: Print) -> bool {
        self == Self::Print(print.0)
    }
}

impl From<Print> for Seen {
    fn from(print: Print) -> Self {
        Self::Print(print.0)
    }
}

impl ToSql for Seen {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Print(print) => ValueRef::Blob(print),
            Self::Stale => ValueRef::Null,
            Self::Unknown => ValueRef::Blob(&[]),
        }))
    }
}

impl FromSql for Seen {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value {
            ValueRef::Null => Self::Stale,
            ValueRef::Blob([]) => Self::Unknown,
            value => Self::Print(<[u8; 16]>::column_result(value)?),
        })
    }
}

impl ToSql for Writer {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Id(id) => ValueRef::Blob(id),
            Self::Python => ValueRef::Blob(&[]),
        }))
    }
}

impl FromSql for Writer {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Blob([]) => Ok(Self::Python),
            value => <[u8; 16]>::column_result(value).map(Self::Id),
        }
    }
}

/// Why a row travels although nobody changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mark {
    /// It does not.
    #[default]
    None,
    /// A session that was deleted elsewhere, and is kept because rows hang on it.
    Kept,
    /// The log's content was completed with ours.
    Filled,
}

/// What the shadow is to say of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Table.
    pub table: String,
    /// Which row.
    pub uid: Uid,
    /// Its local id; none where it is deleted, or known but not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lid: Option<i64>,
    /// Digest, with a session's state where it is at home.
    pub seen: Seen,
    /// Digest without the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare: Option<[u8; 16]>,
    /// Key.
    pub key: Uid,
    /// Keys that it had before.
    pub keys: Vec<Uid>,
    /// Birth instant.
    pub birth: i64,
    /// The version.
    pub stamp: Stamp,
    /// Deleted.
    pub dead: bool,
    /// See [`Mark`].
    pub mark: Mark,
    /// A session's home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Writer>,
    /// A session's state as the last record said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Columns>,
    /// Columns that this claude-mem does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Columns>,
    /// What twins have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<Uid>,
    /// The session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Reference>,
    /// What the row said that was found here, where the log took its place: should it come back, it is an old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<[u8; 16]>,
}

/// What the shadow says of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// See [`Entry`]; `keys` are left out, they are asked for.
    pub entry: Entry,
    /// Vanished in mass.
    pub held: bool,
    /// Digests of contents that were replaced, the newest first.
    was: Vec<u8>,
}

/// The digests of what a row said before, once it is as `entry` says. `known`: as it was.
pub fn replaced(known: Option<&Known>, entry: &Entry) -> Vec<u8> {
    let was = known.map_or_else(Vec::new, |known| earlier(&known.was, known.entry.seen, entry.seen));
    match entry.before {
        Some(before) => earlier(&was, Seen::Print(before), entry.seen),
        None => was,
    }
}

impl Known {
    /// Whether it once said exactly this.
    pub fn once_said(&self, print: Print) -> bool {
        self.was.as_chunks::<16>().0.contains(&print.0)
    }
}

/// The columns of [`Known`].
pub const KNOWN: &str = "tab, uid, lid, seen, bare, key, birth, ms, counter, writer, dead, mark, home, state, extra, twin, of, held, was";

/// Reads them.
///
/// # Errors
/// SQLite's; what cannot be read.
pub fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let entry = Entry {
        table: row.get(0)?,
        uid: row.get(1)?,
        lid: row.get(2)?,
        seen: row.get(3)?,
        bare: row.get(4)?,
        key: row.get(5)?,
        keys: Vec::new(),
        birth: row.get(6)?,
        stamp: Stamp(row.get(7)?, row.get(8)?, row.get(9)?),
        dead: row.get(10)?,
        mark: match row.get(11)? {
            1 => Mark::Kept,
            2 => Mark::Filled,
            _ => Mark::None,
        },
        home: row.get(12)?,
        state: json(row, 13)?,
        extra: json(row, 14)?,
        twin: row.get(15)?,
        of: json(row, 16)?,
        before: None,
    };
    Ok(Known { entry, held: row.get(17)?, was: row.get(18)? })
}

/// Reads a value that lies as JSON.
///
/// # Errors
/// SQLite's; what cannot be read.
pub fn json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    let Some(text) = row.get_ref(index)?.as_bytes_or_null()? else {
        return Ok(None);
    };
    let broken = |error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
    };
    serde_json::from_slice(text).map_err(broken)
}

/// Writes a value as JSON.
///
/// # Errors
/// It cannot be written.
pub fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// What was done to the live database with an arriving record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Nothing: it said the same.
    Nothing,
    /// The row is new.
    New,
    /// The row has other content now.
    Changed,
    /// The row went.
    Deleted,
    /// The row was to go, and stays.
    Kept,
}

/// The digests of earlier contents, where `now` takes the place of `before`.
fn earlier(was: &[u8], before: Seen, now: Seen) -> Vec<u8> {
    match before {
        Seen::Print(print) if before != now => {
            let kept = was.len().min((EARLIER - 1) * 16);
            [&print[..], was.get(..kept).unwrap_or_default()].concat()
        }
        _ => was.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, earlier};

    #[test]
    fn the_last_eight_contents_are_remembered() {
        let print = |n: u8| Seen::Print([n; 16]);
        let mut was = Vec::new();
        for n in 0..12 {
            was = earlier(&was, print(n), print(n + 1));
        }
        assert_eq!(was.len(), 8 * 16);
        assert_eq!((was[0], was[7 * 16]), (11, 4));
        assert_eq!(earlier(&was, print(12), print(12)), was, "the same again");
        assert_eq!(earlier(&was, Seen::Unknown, print(13)), was, "nobody knows");
        assert_eq!(earlier(&was, Seen::Stale, print(13)), was);
    }
}
