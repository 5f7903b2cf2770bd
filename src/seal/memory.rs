//! What this machine saw of a project: the newest commit and each writer's newest segment. A bucket that was put back, or
//! in which an object was exchanged, is told by it. The decision is pure; the file is ours alone (0600).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::key::{KeyId, Keyring};
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
        /// The public names of the keys before it, which open what is older.
        #[serde(default)]
        older: Vec<String>,
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
    /// What this machine has published may be of the time before the key, also where the note does not name it: it was
    /// under way when the project was sealed. Until everything of ours is sealed anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

impl Memory {
    /// Reads it; nothing was seen where there is no file.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood: going on as if nothing had been seen would be what somebody
    /// wants who put the bucket back.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            read => read?,
        };
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// The project is sealed with the first of these keys, as its note says.
    pub fn sealed_with(&mut self, ring: &Keyring, vouched: Vouched) {
        let key_id = ring.current().id().to_string();
        self.anew |= !matches!(&self.known, Some(Known::Sealed { key_id: known, .. }) if *known == key_id);
        let older = ring.all().skip(1).map(|key| key.id().to_string()).collect();
        self.known = Some(Known::Sealed { key_id, vouched, older });
    }

    /// What the project's note vouched for, where it is known and these are its keys.
    pub fn vouched_for(&self, ring: &Keyring) -> Option<&Vouched> {
        let Some(Known::Sealed { key_id, vouched, older }) = &self.known else {
            return None;
        };
        let here = |id: &String| KeyId::parse(id).is_some_and(|id| ring.find(id).is_some());
        (KeyId::parse(key_id) == Some(ring.current().id()) && older.iter().all(here)).then_some(vouched)
    }

    /// With what another process noted: the newer of each.
    fn merged(&self, other: Self) -> Self {
        let newer = |a: Option<Seen>, b: Option<Seen>| a.into_iter().chain(b).max_by_key(|seen| seen.number);
        let mut writers = other.writers;
        for (writer, ours) in &self.writers {
            let theirs = writers.remove(writer);
            writers.extend(newer(theirs, Some(ours.clone())).map(|seen| (writer.clone(), seen)));
        }
        Self {
            known: other.known,
            commit: newer(other.commit, self.commit.clone()),
            writers,
            anew: self.anew && other.anew,
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self).map_err(io::Error::other)?)
    }
}

/// What one run knows of it. What is new is kept when the run ends: whoever is killed sees it again.
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
    pub fn commit(&self, there: &Seen, prev: Option<Sum>) -> Standing {
        note(&mut self.lock().commit, there, prev)
    }

    /// Judges a writer's segment, likewise. That an older one is read again says nothing.
    pub fn segment(&self, writer: &str, there: &Seen, prev: Option<Sum>) -> Standing {
        let mut memory = self.lock();
        let mut seen = memory.writers.get(writer).cloned();
        let standing = note(&mut seen, there, prev);
        memory.writers.extend(seen.map(|seen| (writer.to_owned(), seen)));
        standing
    }

    /// The newest commit that was seen.
    pub fn newest(&self) -> Option<Seen> {
        self.lock().commit.clone()
    }

    /// The number of a writer's newest segment that was seen.
    pub fn newest_of(&self, writer: &str) -> Option<u64> {
        self.lock().writers.get(writer).map(|seen| seen.number)
    }

    /// Another store has taken the place of the one of which this was seen.
    pub fn forget(&self) {
        let mut memory = self.lock();
        memory.commit = None;
        memory.writers.clear();
    }

    /// Whether what this machine has published is to be sealed anew.
    pub fn is_anew(&self) -> bool {
        self.lock().anew
    }

    /// It is.
    pub fn sealed_anew(&self) {
        self.lock().anew = false;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        let ours = self.memory.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Another process of this machine may have seen more meanwhile, or brought another key.
        let Ok(kept) = Memory::read(path) else { return };
        if kept.known != ours.known {
            return;
        }
        let merged = ours.merged(kept.clone());
        if merged != kept
            && let Err(error) = merged.write(path)
        {
            tracing::warn!(%error, path = %path.display(), "what was seen of the bucket is not kept");
        }
    }
}

/// What is older than what was seen is not noted.
fn note(seen: &mut Option<Seen>, there: &Seen, prev: Option<Sum>) -> Standing {
    if let Some(seen) = seen
        && seen.number.checked_add(1) == Some(there.number)
        && prev != Some(seen.sha256)
    {
        return Standing::Exchanged;
    }
    let standing = judge(seen.as_ref(), there);
    if matches!(standing, Standing::First | Standing::Newer) {
        *seen = Some(there.clone());
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::{Keyring, Known, Memory, Seen, Standing, Vouched, Watch, judge};
    use crate::seal::MasterKey;
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
            assert_eq!(watch.commit(&seen(number, sha256), prev.map(Sum::of)), standing, "{number} {sha256}");
            assert_eq!(watch.segment("w", &seen(number, sha256), prev.map(Sum::of)), standing);
        }
        assert_eq!((watch.newest(), watch.newest_of("w")), (Some(seen(9, "c")), Some(9)));
        drop(watch);
        let kept = Memory::read(&path).unwrap();
        assert_eq!(kept.commit, Some(seen(9, "c")));
        assert_eq!(kept.writers.get("w"), Some(&seen(9, "c")));
        // Whoever only looks judges as well, and keeps nothing.
        let look = Watch::new(Memory::read(&path).unwrap(), None);
        assert_eq!(look.commit(&seen(10, "d"), Some(Sum::of("c"))), Standing::Newer);
        drop(look);
        assert_eq!(Memory::read(&path).unwrap().commit, Some(seen(9, "c")));
        // Two processes at once: the newer of each stays.
        let (first, second) = (Memory::read(&path).unwrap(), Memory::read(&path).unwrap());
        let (first, second) = (Watch::new(first, Some(path.clone())), Watch::new(second, Some(path.clone())));
        first.commit(&seen(12, "e"), None);
        second.segment("v", &seen(1, "f"), None);
        drop((first, second));
        let kept = Memory::read(&path).unwrap();
        assert_eq!((kept.commit, kept.writers.len()), (Some(seen(12, "e")), 2));
        std::fs::write(&path, "{").unwrap();
        assert!(Memory::read(&path).is_err());
    }

    #[test]
    fn a_new_key_means_that_what_was_published_is_sealed_anew_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        let mut memory = Memory { known: Some(Known::Open), ..Memory::default() };
        let ring = |byte| Keyring::new(MasterKey::new([byte; 32]));
        memory.sealed_with(&ring(1), Vouched::default());
        assert!(memory.anew);
        memory.write(&path).unwrap();
        let watch = Watch::new(Memory::read(&path).unwrap(), Some(path.clone()));
        assert!(watch.is_anew());
        watch.sealed_anew();
        drop(watch);
        let mut memory = Memory::read(&path).unwrap();
        memory.sealed_with(&ring(1), Vouched::default());
        assert!(!memory.anew, "the same key again");
        let both = ring(1).led_by(MasterKey::new([2; 32]));
        memory.sealed_with(&both, Vouched::default());
        assert!(memory.anew);
        // Whoever lacks one of them asks for it.
        for (ring, known) in [(&both, true), (&ring(2), false), (&ring(1), false)] {
            assert_eq!(memory.vouched_for(ring).is_some(), known);
        }
    }
}
