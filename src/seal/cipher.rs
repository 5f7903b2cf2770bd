//! The cipher: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as in age, 64 KiB chunks of ChaCha20-Poly1305 (RFC 8439)
//! under a key that only this object has. Streams both ways; what it holds is one chunk. A reader gets no byte before
//! its tag was checked.

use std::io::{self, BufRead, Read, Write};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::SealError;
use super::key::{KeyId, Keyring, MasterKey, derive};
use super::place::Place;

const MAGIC: [u8; 8] = *b"MBSEAL\r\n";
const VERSION: u16 = 1;
/// Bytes of the header: magic, version, kind, zero, key id, salt.
pub const HEADER: usize = 8 + 2 + 1 + 1 + 16 + 32;
/// Bytes of a chunk but for the last one.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
/// The info of the derivation of an object's own key.
const OBJECT: &[u8] = b"object";

/// Whether these bytes open as a sealed object does. Says nothing about their authenticity.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The key that sealed these bytes, by their header.
pub(super) fn key_of(bytes: &[u8]) -> Result<KeyId, SealError> {
    match bytes.first_chunk() {
        Some(header) => Header::read(header).map(|header| header.key),
        None => Err(SealError::NotAuthentic),
    }
}

/// The clear part of a sealed object.
#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u8,
    key: KeyId,
    salt: [u8; 32],
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[self.kind, 0]);
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&self.salt);
        bytes
    }

    fn read(bytes: &[u8; HEADER]) -> Result<Self, SealError> {
        let (magic, rest) = bytes.split_first_chunk().ok_or(SealError::NotSealed)?;
        let (version, rest) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        let ([kind, zero], rest) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        let (key, rest) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        let salt = rest.first_chunk().ok_or(SealError::NotSealed)?;
        if *magic != MAGIC {
            return Err(SealError::NotSealed);
        }
        match u16::from_le_bytes(*version) {
            VERSION if *zero == 0 => Ok(Self { kind: *kind, key: KeyId(*key), salt: *salt }),
            VERSION => Err(SealError::NotAuthentic),
            other => Err(SealError::Version(other)),
        }
    }
}

/// An object's own key, the bytes that every tag covers, and the number of the next chunk.
#[derive(Debug)]
struct Stream {
    key: LessSafeKey,
    covered: Vec<u8>,
    counter: u64,
}

impl Stream {
    fn new(master: &MasterKey, cid: &str, place: Place<'_>, header: Header) -> Result<Self, SealError> {
        let key = derive(&header.salt, &master.subkey(place.label()), OBJECT);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| SealError::TooLarge)?;
        let mut covered = header.to_bytes();
        covered.extend_from_slice(&place.context(cid));
        Ok(Self { key: LessSafeKey::new(key), covered, counter: 0 })
    }

    /// The nonce of the next chunk: its number, and whether it is the last. No object's key sees one twice.
    fn nonce(&mut self, last: bool) -> Result<Nonce, SealError> {
        let mut nonce = [0; 12];
        for (to, from) in nonce.iter_mut().skip(3).zip(self.counter.to_be_bytes()) {
            *to = from;
        }
        if let Some(flag) = nonce.last_mut() {
            *flag = u8::from(last);
        }
        self.counter = self.counter.checked_add(1).ok_or(SealError::TooLarge)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        let covered = Aad::from(&self.covered);
        self.key.seal_in_place_append_tag(nonce, covered, chunk).map_err(|_| SealError::TooLarge)
    }

    /// Opens a chunk in place; how long what is in it is.
    fn open(&mut self, chunk: &mut [u8], last: bool) -> Result<usize, SealError> {
        let nonce = self.nonce(last)?;
        let covered = Aad::from(&self.covered);
        let plain = self.key.open_in_place(nonce, covered, chunk).map_err(|_| SealError::NotAuthentic)?;
        Ok(plain.len())
    }
}

/// Seals what is written to it. [`Sealer::finish`] makes it whole.
#[derive(Debug)]
pub struct Sealer<W> {
    out: W,
    stream: Stream,
    chunk: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    /// Writes the header. `salt` is 32 fresh random bytes: two objects with one salt and one key would show where they differ.
    ///
    /// # Errors
    /// `out`'s.
    pub fn new(mut out: W, key: &MasterKey, cid: &str, place: Place<'_>, salt: [u8; 32]) -> io::Result<Self> {
        let header = Header { kind: place.kind(), key: key.id(), salt };
        let stream = Stream::new(key, cid, place, header).map_err(io::Error::other)?;
        out.write_all(&header.to_bytes())?;
        Ok(Self { out, stream, chunk: Vec::with_capacity(CHUNK + TAG) })
    }

    pub(super) fn put(&mut self, last: bool) -> io::Result<()> {
        self.stream.seal(&mut self.chunk, last).map_err(io::Error::other)?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Writes the last chunk.
    ///
    /// # Errors
    /// `out`'s.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for the next byte: it may be the last one.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.put(false)?;
        }
        let (taken, _) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// What is in an unfinished chunk cannot be flushed.
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Opens what it reads. Every trouble but the source's own is a [`SealError`] inside of the `io::Error`.
#[derive(Debug)]
pub struct Opener<R> {
    from: R,
    stream: Stream,
    chunk: Vec<u8>,
    /// What of the chunk is open and not given out yet.
    at: usize,
    end: usize,
    /// The last chunk was opened, or one was refused.
    done: bool,
}

impl<R: BufRead> Opener<R> {
    /// Reads the header and finds the key.
    ///
    /// # Errors
    /// Not sealed, sealed with a key that is not on the ring, another kind of object.
    pub fn new(mut from: R, keys: &Keyring, cid: &str, place: Place<'_>) -> Result<Self, SealError> {
        let mut bytes = Vec::with_capacity(HEADER);
        (&mut from).take(HEADER as u64).read_to_end(&mut bytes)?;
        let header = match bytes.first_chunk() {
            Some(header) => Header::read(header)?,
            None if is_sealed(&bytes) => return Err(SealError::NotAuthentic),
            None => return Err(SealError::NotSealed),
        };
        let key = keys.find(header.key).ok_or(SealError::OtherKey(header.key))?;
        if header.kind != place.kind() {
            return Err(SealError::NotAuthentic);
        }
        let stream = Stream::new(key, cid, place, header)?;
        Ok(Self { from, stream, chunk: Vec::new(), at: 0, end: 0, done: false })
    }

    /// Reads and opens the next chunk.
    fn next_chunk(&mut self) -> Result<(), SealError> {
        // Whatever happens below, a chunk that was refused is not tried again.
        self.done = true;
        (self.at, self.end) = (0, 0);
        let first = self.stream.counter == 0;
        self.chunk.clear();
        let limit = (CHUNK + TAG) as u64;
        (&mut self.from).take(limit).read_to_end(&mut self.chunk)?;
        let last = self.from.fill_buf()?.is_empty();
        let end = self.stream.open(&mut self.chunk, last)?;
        // An empty chunk is the whole of an empty object; anywhere else nobody writes one.
        if end == 0 && !first {
            return Err(SealError::NotAuthentic);
        }
        (self.end, self.done) = (end, last);
        Ok(())
    }
}

impl<R: BufRead> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end && !self.done {
            self.next_chunk().map_err(|error| match error {
                SealError::Io(error) => error,
                error => io::Error::new(io::ErrorKind::InvalidData, error),
            })?;
        }
        let open = self.chunk.get(self.at..self.end).unwrap_or_default();
        let count = open.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(open) {
            *to = *from;
        }
        self.at += count;
        Ok(count)
    }
}

/// The sealed bytes of a small object.
///
/// # Errors
/// Never for what fits into memory.
pub fn seal_bytes(
    plain: &[u8],
    key: &MasterKey,
    cid: &str,
    place: Place<'_>,
    salt: [u8; 32],
) -> Result<Vec<u8>, SealError> {
    let mut sealer = Sealer::new(Vec::new(), key, cid, place, salt)?;
    sealer.write_all(plain)?;
    Ok(sealer.finish()?)
}

/// What is in the sealed bytes of a small object.
///
/// # Errors
/// See [`SealError`].
pub fn open_bytes(stored: &[u8], keys: &Keyring, cid: &str, place: Place<'_>) -> Result<Vec<u8>, SealError> {
    let mut opener = Opener::new(stored, keys, cid, place)?;
    let mut plain = Vec::new();
    opener.read_to_end(&mut plain).map_err(SealError::from_read)?;
    Ok(plain)
}

impl SealError {
    /// What a reader of something sealed said: its own errors as they were, the source's as they are.
    pub fn from_read(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::Io(error),
        }
    }
}
