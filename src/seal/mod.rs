//! Sealing: whoever has the bucket but not the fleet's key can read nothing of the memory, and make nothing that a
//! machine accepts. Keys, cipher and macs over bytes, readers and files. Knows nothing of stores, of what the sealed
//! bytes mean, or of the person. The bytes are described in docs/format.md, "Sealed objects".

mod base32;
mod cipher;
mod envelope;
mod key;
mod mac;
mod memory;
mod passphrase;
mod place;
mod words;

pub use cipher::{HEADER, Opener, Sealer, is_sealed, open_bytes, seal_bytes};
pub use envelope::Envelope;
pub use key::{KeyError, KeyId, Keyring, MasterKey};
pub use mac::{Mac, mac, sign};
pub use memory::{Memory, Seen, Standing, judge};
pub use passphrase::{MIN_PASSPHRASE, ROUNDS, Wrapped};
pub use place::Place;
pub use words::fingerprint;

/// What is wrong with a sealed object, or with one that should be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Changed, cut off, or made for another place, project or key.
    #[error("it is not authentic: it was changed, cut off, or belongs elsewhere")]
    NotAuthentic,
    /// In the clear, where the project is sealed.
    #[error("it is not sealed, and this project is")]
    NotSealed,
    /// Sealed, where this machine has no key at all.
    #[error("it is sealed with key {0}, and this machine has no key")]
    NoKey(KeyId),
    /// Sealed with a key that is not in the key file.
    #[error("it is sealed with key {0}, which this machine does not have")]
    OtherKey(KeyId),
    /// A newer membridge wrote it.
    #[error("it is sealed in a way (version {0}) that is not known to this membridge")]
    Version(u16),
    /// The cipher did not take its input: more bytes than one object may have.
    #[error("it is too large to be sealed")]
    TooLarge,
    /// The disk, or whatever the bytes come from.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

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
#[derive(Debug, Default)]
pub enum Seal {
    /// Everything is in the clear, as without this module.
    #[default]
    Off,
    /// Everything that is written is sealed, and nothing else is accepted.
    On(Keyring),
}

impl Seal {
    /// The key for new objects, where the project is sealed.
    pub fn key(&self) -> Option<&MasterKey> {
        match self {
            Self::Off => None,
            Self::On(keys) => Some(keys.current()),
        }
    }

    /// Makes the bytes of a small object ready for the bucket. `salt`: 32 fresh random bytes.
    ///
    /// # Errors
    /// More bytes than an object may have.
    pub fn seal(
        &self,
        plain: Vec<u8>,
        cid: &str,
        place: Place<'_>,
        salt: [u8; 32],
    ) -> Result<Sealed<Vec<u8>>, SealError> {
        match self {
            Self::Off => Ok(Sealed(plain)),
            Self::On(keys) => seal_bytes(&plain, keys.current(), cid, place, salt).map(Sealed),
        }
    }

    /// Opens the bytes of a small object.
    ///
    /// # Errors
    /// They are not authentic, or sealed with another key; or not sealed where they should be, or the other way round.
    pub fn open(
        &self,
        stored: Sealed<Vec<u8>>,
        cid: &str,
        place: Place<'_>,
    ) -> Result<Opened<Vec<u8>>, SealError> {
        match self {
            Self::Off => match cipher::key_of(&stored.0) {
                Some(id) => Err(SealError::NoKey(id)),
                None => Ok(Opened(stored.0)),
            },
            Self::On(keys) => open_bytes(&stored.0, keys, cid, place).map(Opened),
        }
    }

    /// Opens what a reader gives, 64 KiB at a time. What comes out is authentic up to where it was read; a stream that was
    /// cut off ends with an error, never with an end.
    ///
    /// # Errors
    /// As [`Seal::open`], as far as the first bytes tell.
    pub fn open_reader<R: std::io::BufRead>(
        &self,
        mut stored: Sealed<R>,
        cid: &str,
        place: Place<'_>,
    ) -> Result<Opened<Reading<R>>, SealError> {
        match self {
            Self::Off => {
                let first = stored.0.fill_buf()?;
                match cipher::key_of(first) {
                    Some(id) => Err(SealError::NoKey(id)),
                    None => Ok(Opened(Reading::Clear(stored.0))),
                }
            }
            Self::On(keys) => {
                let opener = Opener::new(stored.0, keys, cid, place)?;
                Ok(Opened(Reading::Sealed(Box::new(opener))))
            }
        }
    }

    /// A writer that seals on the way to `out`; see [`Writing::finish`].
    ///
    /// # Errors
    /// `out`'s.
    pub fn writer<W: std::io::Write>(
        &self,
        out: W,
        cid: &str,
        place: Place<'_>,
        salt: [u8; 32],
    ) -> std::io::Result<Writing<W>> {
        Ok(match self {
            Self::Off => Writing::Clear(out),
            Self::On(keys) => Writing::Sealed(Box::new(Sealer::new(out, keys.current(), cid, place, salt)?)),
        })
    }
}

/// See [`Seal::open_reader`].
#[derive(Debug)]
pub enum Reading<R> {
    /// Without a key.
    Clear(R),
    /// With one.
    Sealed(Box<Opener<R>>),
}

impl<R: std::io::BufRead> std::io::Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(from) => from.read(buffer),
            Self::Sealed(from) => from.read(buffer),
        }
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

impl<W: std::io::Write> Writing<W> {
    /// Writes the last chunk, without which nobody can open it; returns what was written to.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> std::io::Result<W> {
        match self {
            Self::Clear(out) => Ok(out),
            Self::Sealed(sealer) => sealer.finish(),
        }
    }
}

impl<W: std::io::Write> std::io::Write for Writing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(out) => out.write(bytes),
            Self::Sealed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Clear(out) => out.flush(),
            Self::Sealed(out) => out.flush(),
        }
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
