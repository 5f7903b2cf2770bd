//! What this machine saw of a project: the newest commit and each writer's newest segment. A bucket that was put back, or
//! in which an object was exchanged, is told by it. The decision is pure; the file is ours alone (0600).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::private_files::write_private;

/// One object that was seen and was authentic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// SHA-256 of the stored bytes, 64 hex digits.
    pub sha256: String,
}

/// How what is there stands to what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was seen before.
    First,
    /// The same object.
    Same,
    /// A newer one.
    Newer,
    /// An older one: the bucket was put back, or somebody withholds what is new.
    Back,
    /// Another object under the number that was seen: the bucket was changed.
    Exchanged,
}

/// Compares the newest object that is there with the newest that was seen.
pub fn judge(seen: Option<&Seen>, there: &Seen) -> Standing {
    match seen {
        None => Standing::First,
        Some(seen) if there.number > seen.number => Standing::Newer,
        Some(seen) if there.number < seen.number => Standing::Back,
        Some(seen) if there.sha256 == seen.sha256 => Standing::Same,
        Some(_) => Standing::Exchanged,
    }
}

/// Everything that was seen of one project in one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The public name of the key with which the project is sealed; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The newest commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Seen>,
    /// The newest segment of each writer.
    #[serde(default)]
    pub writers: BTreeMap<String, Seen>,
}

impl Memory {
    /// Reads it; nothing was seen where there is no file.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood: going on as if nothing had been seen would be what somebody
    /// wants who put the bucket back.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read?,
        };
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self).map_err(io::Error::other)?)
    }

    /// Notes the newest commit. What is older than what was seen is not noted.
    pub fn note_commit(&mut self, there: Seen) -> Standing {
        note(&mut self.commit, there)
    }

    /// Notes a writer's newest segment, likewise.
    pub fn note_segment(&mut self, writer: &str, there: Seen) -> Standing {
        let mut seen = self.writers.remove(writer);
        let standing = note(&mut seen, there);
        if let Some(seen) = seen {
            self.writers.insert(writer.to_owned(), seen);
        }
        standing
    }
}

fn note(seen: &mut Option<Seen>, there: Seen) -> Standing {
    let standing = judge(seen.as_ref(), &there);
    if matches!(standing, Standing::First | Standing::Newer) {
        *seen = Some(there);
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::{Memory, Seen, Standing, judge};

    fn seen(number: u64, sha256: &str) -> Seen {
        Seen { number, sha256: sha256.to_owned() }
    }

    #[test]
    fn what_is_there_is_judged_by_what_was_seen() {
        let table = [
            (None, (1, "a"), Standing::First),
            (Some((5, "a")), (5, "a"), Standing::Same),
            (Some((5, "a")), (6, "b"), Standing::Newer),
            (Some((5, "a")), (4, "a"), Standing::Back),
            (Some((5, "a")), (5, "b"), Standing::Exchanged),
        ];
        for (known, there, standing) in table {
            let known = known.map(|(number, sha256)| seen(number, sha256));
            assert_eq!(judge(known.as_ref(), &seen(there.0, there.1)), standing, "{known:?} {there:?}");
        }
    }

    #[test]
    fn nothing_older_is_ever_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal/memory.json");
        let mut memory = Memory::read(&path).unwrap();
        assert_eq!(memory, Memory::default());
        let steps = [
            (5, "a", Standing::First),
            (4, "x", Standing::Back),
            (5, "x", Standing::Exchanged),
            (7, "b", Standing::Newer),
            (7, "b", Standing::Same),
        ];
        for (number, sha256, standing) in steps {
            assert_eq!(memory.note_commit(seen(number, sha256)), standing);
            assert_eq!(memory.note_segment("w", seen(number, sha256)), standing);
        }
        memory.write(&path).unwrap();
        let again = Memory::read(&path).unwrap();
        assert_eq!(again, memory);
        assert_eq!(again.commit, Some(seen(7, "b")));
        assert_eq!(again.writers.get("w"), Some(&seen(7, "b")));
        std::fs::write(&path, "{").unwrap();
        assert!(Memory::read(&path).is_err());
    }
}
