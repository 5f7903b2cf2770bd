//! Reads a file of claude-mem's export, row by row, whatever its order and however large it is. Knows no database.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::DatabaseError;
use crate::error::{Code, Failure};
use crate::progress::Progress;

/// A list of rows in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `sessions`.
    Sessions,
    /// `observations`.
    Observations,
    /// `summaries`.
    Summaries,
    /// `prompts`.
    Prompts,
}

impl List {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "sessions" => Self::Sessions,
            "observations" => Self::Observations,
            "summaries" => Self::Summaries,
            "prompts" => Self::Prompts,
            _ => return None,
        })
    }

    /// The table that its rows are of.
    pub fn table(self) -> &'static str {
        match self {
            Self::Sessions => "sdk_sessions",
            Self::Observations => "observations",
            Self::Summaries => "session_summaries",
            Self::Prompts => "user_prompts",
        }
    }
}

/// Why a file cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// It is no JSON.
    #[error("{} is not an export of claude-mem's: {error}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        error: serde_json::Error,
    },
    /// It is JSON of something else.
    #[error("{} is not an export of claude-mem's: it has neither sessions nor observations, summaries or prompts", .0.display())]
    NotAnExport(PathBuf),
    /// claude-mem wrote it with `--allow-partial`, and takes it in no more than we do.
    #[error("{} is a partial export: it lacks the sessions that its rows belong to", .0.display())]
    Partial(PathBuf),
    /// The database's.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Database(error) => error.into(),
            ImportError::Partial(_) => {
                Self::from_error(Code::LocalFile, error).hint("export it again without --allow-partial")
            }
            ImportError::File { .. } => {
                Self::from_error(Code::LocalFile, error).hint("name the file of an export: membridge import FILE")
            }
            _ => Self::from_error(Code::LocalFile, error)
                .hint("make one where the memory is: membridge export FILE, or claude-mem's scripts/export-memories.ts"),
        }
    }
}

/// What is done with a row: `None` is an element that is no row.
pub type Visit<'v> = dyn FnMut(List, Option<&Map<String, Value>>) -> Result<(), DatabaseError> + 'v;

/// Calls `visit` with each row of the wanted lists, in the order of the file.
///
/// # Errors
/// The file's; what `visit` returned.
pub fn read(
    file: &Path,
    wanted: &[List],
    progress: &Progress,
    visit: &mut Visit<'_>,
) -> Result<(), ImportError> {
    let opened = File::open(file).map_err(|error| ImportError::File { path: file.to_owned(), error })?;
    let mut reader = serde_json::Deserializer::from_reader(BufReader::with_capacity(
        64 * 1024,
        Counted { file: opened, progress },
    ));
    let mut whole = Whole { wanted, visit, stopped: None, lists: 0, partial: false };
    let ended = reader.deserialize_map(&mut whole).and_then(|()| reader.end());
    if let Some(error) = whole.stopped {
        return Err(error.into());
    }
    if whole.partial {
        return Err(ImportError::Partial(file.to_owned()));
    }
    match ended {
        Err(error) if error.is_io() => Err(ImportError::File { path: file.to_owned(), error: error.into() }),
        Err(error) => Err(ImportError::Json { path: file.to_owned(), error }),
        Ok(()) if whole.lists == 0 => Err(ImportError::NotAnExport(file.to_owned())),
        Ok(()) => Ok(()),
    }
}

/// A file whose bytes are counted.
struct Counted<'p> {
    file: File,
    progress: &'p Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// The object that a file is.
struct Whole<'w, 'v> {
    wanted: &'w [List],
    visit: &'w mut Visit<'v>,
    /// What ended the reading from within.
    stopped: Option<DatabaseError>,
    lists: u32,
    partial: bool,
}

impl<'de> Visitor<'de> for &mut Whole<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with lists of rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let list = List::of(&name);
            self.lists += u32::from(list.is_some());
            match list.filter(|list| self.wanted.contains(list)) {
                Some(list) => map.next_value_seed(Rows { list, whole: self })?,
                None if name == "metadata" => {
                    let metadata: Value = map.next_value()?;
                    if metadata.get("partial") == Some(&Value::Bool(true)) {
                        self.partial = true;
                    }
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

/// One list of rows.
struct Rows<'r, 'w, 'v> {
    list: List,
    whole: &'r mut Whole<'w, 'v>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Value>()? {
            if let Err(error) = (self.whole.visit)(self.list, row.as_object()) {
                self.whole.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ImportError, List, read};
    use crate::progress::Progress;

    fn rows(text: &str) -> Result<Vec<(List, bool)>, ImportError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut seen = Vec::new();
        let wanted = [List::Sessions, List::Prompts];
        read(file.path(), &wanted, &Progress::hidden(), &mut |list, row| {
            seen.push((list, row.is_some()));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn rows_are_read_whatever_stands_around_them() {
        let seen = rows(
            r#"{"later": [{"x": [1, {}]}], "prompts": [{"a": 1}, 7], "observations": [{}], "sessions": null,
                "metadata": {"partial": false}}"#,
        );
        assert_eq!(seen.unwrap(), [(List::Prompts, true), (List::Prompts, false)]);
    }

    #[test]
    fn what_is_no_export_is_refused() {
        for text in ["", "[]", "{", "{\"prompts\": [{}]", "{\"prompts\": 7}", "{\"sessions\": []} x"] {
            assert!(matches!(rows(text), Err(ImportError::Json { .. })), "{text}");
        }
        assert!(matches!(rows("{\"a\": 1}"), Err(ImportError::NotAnExport(_))));
        let partial = r#"{"sessions": [], "metadata": {"partial": true, "importable": false}}"#;
        assert!(matches!(rows(partial), Err(ImportError::Partial(_))));
        let deep = format!("{{\"prompts\": [{}", "[".repeat(100_000));
        assert!(matches!(rows(&deep), Err(ImportError::Json { .. })));
    }
}
