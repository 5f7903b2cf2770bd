//! What this machine saw of a project: the newest commit and each writer's newest segment. A bucket that was put back, or
//! in which an object was exchanged, is told by it. The decision is pure; the file is ours alone (0600).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::vouched::Vouched;
use crate::private_files::write_private;
use crate::sum::Sum;

/// One object that was seen and was authentic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// Of the stored bytes.
    pub sha256: Sum,
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

/// How a project is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// It is not.
    Open,
    /// By its note.
    Sealed {
        /// The public name of its key.
        key_id: String,
        /// What the note vouches for.
        vouched: Vouched,
    },
}

/// Everything that was seen of one project in one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// How the project's note was found; absent while nobody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
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
}

/// What is older than what was seen is not noted.
fn note(seen: &mut Option<Seen>, there: &Seen) -> Standing {
    let standing = judge(seen.as_ref(), there);
    if matches!(standing, Standing::First | Standing::Newer) {
        *seen = Some(there.clone());
    }
    standing
}

/// What one run knows of it, and where it is kept.
#[derive(Debug, Default)]
pub struct Watch {
    memory: Mutex<Memory>,
    /// `None`: this run only looks.
    path: Option<PathBuf>,
}

impl Watch {
    /// Goes on from what was read; `path` is where what is new is kept.
    pub fn new(memory: Memory, path: Option<PathBuf>) -> Self {
        Self { memory: Mutex::new(memory), path }
    }

    /// Judges the newest commit, and notes it where it is newer than what was seen. `prev`: what it says of the one
    /// before it.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn commit(&self, there: &Seen, prev: Option<Sum>) -> io::Result<Standing> {
        self.note(|memory| match &memory.commit {
            Some(seen) if seen.number + 1 == there.number && prev != Some(seen.sha256) => Standing::Exchanged,
            _ => note(&mut memory.commit, there),
        })
    }

    /// Judges a writer's newest segment, likewise.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn segment(&self, writer: &str, there: &Seen, prev: Option<Sum>) -> io::Result<Standing> {
        self.note(|memory| {
            let mut seen = memory.writers.get(writer).cloned();
            if let Some(seen) = &seen
                && seen.number + 1 == there.number
                && prev != Some(seen.sha256)
            {
                return Standing::Exchanged;
            }
            let standing = note(&mut seen, there);
            memory.writers.extend(seen.map(|seen| (writer.to_owned(), seen)));
            standing
        })
    }

    /// The newest commit that was seen.
    pub fn newest(&self) -> Option<Seen> {
        self.lock().commit.clone()
    }

    /// Where it is kept; empty for a run that only looks.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    fn note(&self, judge: impl FnOnce(&mut Memory) -> Standing) -> io::Result<Standing> {
        let mut memory = self.lock();
        let standing = judge(&mut memory);
        if let Some(path) = &self.path
            && matches!(standing, Standing::First | Standing::Newer)
        {
            memory.write(path)?;
        }
        Ok(standing)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Seen, Standing, Watch, judge};
    use crate::sum::Sum;

    fn seen(number: u64, sha256: &str) -> Seen {
        Seen { number, sha256: Sum::of(sha256) }
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
        assert_eq!(Memory::read(&path).unwrap(), Memory::default());
        let watch = Watch::new(Memory::default(), Some(path.clone()));
        // number, checksum, what it says of the one before → how it stands
        let steps = [
            (5, "a", None, Standing::First),
            (4, "x", None, Standing::Back),
            (5, "x", None, Standing::Exchanged),
            (6, "y", Some("x"), Standing::Exchanged),
            (6, "b", Some("a"), Standing::Newer),
            (9, "c", Some("z"), Standing::Newer),
            (9, "c", Some("z"), Standing::Same),
        ];
        for (number, sha256, prev, standing) in steps {
            assert_eq!(
                watch.commit(&seen(number, sha256), prev.map(Sum::of)).unwrap(),
                standing,
                "{number} {sha256}"
            );
            assert_eq!(watch.segment("w", &seen(number, sha256), prev.map(Sum::of)).unwrap(), standing);
        }
        let kept = Memory::read(&path).unwrap();
        assert_eq!((kept.commit, watch.newest()), (Some(seen(9, "c")), Some(seen(9, "c"))));
        assert_eq!(kept.writers.get("w"), Some(&seen(9, "c")));
        // Whoever only looks judges as well, and keeps nothing.
        let look = Watch::new(Memory::read(&path).unwrap(), None);
        assert_eq!(look.commit(&seen(10, "d"), Some(Sum::of("c"))).unwrap(), Standing::Newer);
        assert_eq!(Memory::read(&path).unwrap().commit, Some(seen(9, "c")));
        std::fs::write(&path, "{").unwrap();
        assert!(Memory::read(&path).is_err());
    }
}
