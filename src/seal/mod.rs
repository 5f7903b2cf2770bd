//! Sealing: whoever has the bucket but not the fleet's key can read nothing of the memory, and make nothing that a
//! machine accepts. Keys, cipher and macs over bytes, readers and files. Knows nothing of stores, of what the sealed
//! bytes mean, or of the person. The bytes are described in docs/format.md, "Sealed objects".

mod base32;
mod cipher;
mod envelope;
mod error;
mod key;
mod mac;
mod memory;
mod passphrase;
mod place;
mod refused;
mod signed;
mod vouched;
mod words;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::sync::Arc;

use crate::sum::Sum;

pub use cipher::{HEADER, Opener, Sealer, is_sealed, open_bytes, seal_bytes};
pub use envelope::Envelope;
pub use error::SealError;
pub use key::{KeyError, KeyId, Keyring, MasterKey};
pub use mac::Mac;
pub use memory::{Known, Memory, Seen, Standing, Watch, judge};
pub use passphrase::{MIN_PASSPHRASE, ROUNDS, Wrapped};
pub use place::Place;
pub use refused::Refused;
pub use vouched::Vouched;
pub use words::fingerprint;

/// Something as it lies in the bucket: bytes, or a file. Nobody can look into it; it has to be opened first.
#[derive(Debug)]
pub struct Sealed<T>(T);

impl<T> Sealed<T> {
    /// What came from the bucket.
    pub fn from_bucket(stored: T) -> Self {
        Self(stored)
    }

    /// For whoever carries it to the bucket, or hashes it.
    pub fn stored(&self) -> &T {
        &self.0
    }

    /// The same, for good.
    pub fn into_stored(self) -> T {
        self.0
    }
}

/// What came out of something sealed and is authentic; in a project without a key, what lay there in the clear. Only this
/// module makes one.
#[derive(Debug)]
pub struct Opened<T>(T);

impl<T> Opened<T> {
    /// The content.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The content, looked at.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Whether and with what a project is sealed.
#[derive(Debug, Clone, Default)]
pub enum Seal {
    /// Everything is in the clear, as without this module.
    #[default]
    Off,
    /// Everything that is written is sealed, and nothing else is accepted.
    On(Arc<Fleet>),
}

/// What a machine of a sealed project knows.
#[derive(Debug)]
pub struct Fleet {
    /// Its keys.
    pub keys: Keyring,
    /// Objects of the time before the present key.
    pub vouched: Vouched,
    /// What was seen of the bucket.
    pub watch: Watch,
    /// What was met there and not believed.
    pub refused: Refused,
}

impl Seal {
    /// Sealed with these keys; `vouched` is what the project's note says.
    pub fn on(keys: Keyring, vouched: Vouched, watch: Watch) -> Self {
        Self::On(Arc::new(Fleet { keys, vouched, watch, refused: Refused::default() }))
    }

    /// The key for new objects, where the project is sealed.
    pub fn key(&self) -> Option<&MasterKey> {
        match self {
            Self::Off => None,
            Self::On(fleet) => Some(fleet.keys.current()),
        }
    }

    /// Whether the project is sealed.
    pub fn is_on(&self) -> bool {
        self.key().is_some()
    }

    /// Whether an object is of the time before the present key.
    pub fn is_older(&self, place: Place<'_>) -> bool {
        match self {
            Self::Off => false,
            Self::On(fleet) => fleet.vouched.names(place),
        }
    }

    /// Whether an object that begins with these bytes may go up: sealed with the present key, or in the clear where nothing
    /// is sealed.
    pub fn may_leave(&self, front: &[u8]) -> bool {
        match self.key() {
            None => !is_sealed(front),
            Some(key) => is_sealed(front) && cipher::key_of(front).is_ok_and(|id| id == key.id()),
        }
    }

    /// A small object that is JSON (a commit, a node record) as it goes into the bucket. `salt`: 32 fresh random bytes.
    ///
    /// # Errors
    /// More bytes than an object may have.
    pub fn seal_record(
        &self,
        plain: Vec<u8>,
        cid: &str,
        place: Place<'_>,
        salt: [u8; 32],
    ) -> Result<Sealed<Vec<u8>>, SealError> {
        let Some(key) = self.key() else {
            return Ok(Sealed(plain));
        };
        let sealed = seal_bytes(&plain, key, cid, place, salt)?;
        let envelope = Envelope::around(&sealed, key.id(), place.number());
        Ok(Sealed(serde_json::to_vec(&envelope).map_err(io::Error::from)?))
    }

    /// Opens such an object.
    ///
    /// # Errors
    /// It is not authentic, or sealed with another key; or not sealed where it should be, or the other way round.
    pub fn open_record(
        &self,
        stored: Sealed<Vec<u8>>,
        cid: &str,
        place: Place<'_>,
    ) -> Result<Opened<Vec<u8>>, SealError> {
        let stored = stored.0;
        let sealed = match Envelope::parse(&stored) {
            Some(envelope) => Some(envelope.content().ok_or(SealError::NotAuthentic)?),
            None => None,
        };
        let key = sealed.as_deref().map(cipher::key_of).transpose()?;
        if self.accepts(key, place, || Sum::of(&stored))? {
            return Ok(Opened(stored));
        }
        let (Self::On(fleet), Some(sealed)) = (self, sealed) else {
            return Err(SealError::NotSealed);
        };
        open_bytes(&sealed, &fleet.keys, cid, place).map(Opened)
    }

    /// Opens a file from the bucket into another one, 64 KiB at a time; in a project without a key it is that file itself.
    /// `sum`: of the stored file. `into`: an empty file of ours. Both stand at their start afterwards.
    ///
    /// # Errors
    /// See [`Seal::open_record`]; the disk's.
    pub fn open_file(
        &self,
        stored: Sealed<File>,
        sum: Sum,
        cid: &str,
        place: Place<'_>,
        into: impl FnOnce() -> io::Result<File>,
    ) -> Result<Opened<File>, SealError> {
        let mut stored = stored.0;
        stored.seek(SeekFrom::Start(0))?;
        let mut from = BufReader::new(&stored);
        let front = from.fill_buf()?;
        let key = if is_sealed(front) { Some(cipher::key_of(front)?) } else { None };
        if self.accepts(key, place, || sum)? {
            stored.seek(SeekFrom::Start(0))?;
            return Ok(Opened(stored));
        }
        let Self::On(fleet) = self else {
            return Err(SealError::NotSealed);
        };
        let mut opener = Opener::new(from, &fleet.keys, cid, place)?;
        let mut into = into()?;
        io::copy(&mut opener, &mut into).map_err(SealError::from_read)?;
        into.seek(SeekFrom::Start(0))?;
        Ok(Opened(into))
    }

    /// Whether an object is taken as it lies there; `false`: it has to be opened. `key`: with which it is sealed.
    fn accepts(
        &self,
        key: Option<KeyId>,
        place: Place<'_>,
        sum: impl FnOnce() -> Sum,
    ) -> Result<bool, SealError> {
        let fleet = match (self, key) {
            (Self::Off, None) => return Ok(true),
            (Self::Off, Some(key)) => return Err(SealError::NoKey(key)),
            (Self::On(fleet), _) => fleet,
        };
        if key == Some(fleet.keys.current().id()) {
            return Ok(false);
        }
        if let Some(key) = key.filter(|key| fleet.keys.find(*key).is_none()) {
            return Err(SealError::OtherKey(key));
        }
        // Older than the present key: a pack's checksum stands in an authentic commit, the others' in the project's note.
        match (key, fleet.vouched.holds(place, sum)) {
            (key, true) => Ok(key.is_none()),
            (Some(_), false) => Err(SealError::NotAuthentic),
            (None, false) => Err(SealError::NotSealed),
        }
    }

    /// A writer that seals on the way to `out`; see [`Writing::finish`].
    ///
    /// # Errors
    /// `out`'s.
    pub fn writer<W: Write>(
        &self,
        out: W,
        cid: &str,
        place: Place<'_>,
        salt: [u8; 32],
    ) -> io::Result<Writing<W>> {
        Ok(match self {
            Self::Off => Writing::Clear(out),
            Self::On(fleet) => {
                Writing::Sealed(Box::new(Sealer::new(out, fleet.keys.current(), cid, place, salt)?))
            }
        })
    }
}

/// What somebody needs who seals objects away from where chance is: one draw of it, a salt for each.
#[derive(Debug)]
pub struct Sealing {
    seal: Seal,
    cid: String,
    drawn: [u8; 32],
    uses: u8,
}

impl Sealing {
    /// `drawn`: 32 fresh random bytes.
    pub fn new(seal: Seal, cid: &str, drawn: [u8; 32]) -> Self {
        Self { seal, cid: cid.to_owned(), drawn, uses: 0 }
    }

    /// See [`Seal::writer`].
    ///
    /// # Errors
    /// `out`'s; the 256th object.
    pub fn writer<W: Write>(&mut self, out: W, place: Place<'_>) -> io::Result<Writing<W>> {
        self.uses = self.uses.checked_add(1).ok_or_else(|| io::Error::other("too many objects"))?;
        let salt = key::derive(&[self.uses], &self.drawn, b"salt");
        self.seal.writer(out, &self.cid, place, salt)
    }
}

/// See [`Seal::writer`].
#[derive(Debug)]
pub enum Writing<W> {
    /// Without a key.
    Clear(W),
    /// With one.
    Sealed(Box<Sealer<W>>),
}

impl<W: Write> Writing<W> {
    /// Writes the last chunk, without which nobody can open it; returns what was written to.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Clear(out) => Ok(out),
            Self::Sealed(sealer) => sealer.finish(),
        }
    }
}

impl<W: Write> Write for Writing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(out) => out.write(bytes),
            Self::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(out) => out.flush(),
            Self::Sealed(out) => out.flush(),
        }
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
