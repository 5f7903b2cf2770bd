//! Where a download goes, and the digests of what went through. Knows files and hashes only.

use std::io;
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::context::hex;
use crate::progress::{Bars, Progress};
use crate::sum::Sum;

/// Size and digests of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Bytes.
    pub size: u64,
    /// Its checksum.
    pub sha256: Sum,
    /// MD5, 32 hex digits: what most stores answer as the etag of an object that was put in one piece.
    pub md5: String,
}

impl Digests {
    /// Reads a file once, 64 KiB at a time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of(std::fs::File::open(path)?)
    }

    /// The same for an open file, from where it stands.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(mut file: std::fs::File) -> io::Result<Self> {
        use std::io::Read;
        let (mut sha256, mut md5, mut size) = (Sha256::new(), Md5::new(), 0_u64);
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let chunk = buffer.get(..count).unwrap_or_default();
            sha256.update(chunk);
            md5.update(chunk);
            size += count as u64;
        }
        Ok(Self { size, sha256: Sum::end(sha256), md5: hex(&md5.finalize()) })
    }
}

/// Counts and hashes what goes through on its way to another writer.
#[derive(Debug)]
pub struct Tee<W> {
    to: W,
    size: u64,
    sha256: Sha256,
    md5: Md5,
}

impl<W> Tee<W> {
    /// On the way to `to`.
    pub fn new(to: W) -> Self {
        Self { to, size: 0, sha256: Sha256::new(), md5: Md5::new() }
    }

    /// The writer, and what went through.
    pub fn finish(self) -> (W, Digests) {
        let digests =
            Digests { size: self.size, sha256: Sum::end(self.sha256), md5: hex(&self.md5.finalize()) };
        (self.to, digests)
    }
}

impl<W: io::Write> io::Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        let taken = bytes.get(..count).unwrap_or_default();
        self.sha256.update(taken);
        self.md5.update(taken);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A file that a download is written to, hashed on the way; or the hash alone.
#[derive(Debug)]
pub struct Sink {
    /// `None`: only the checksum is wanted.
    file: Option<tokio::fs::File>,
    sha256: Sha256,
    written: u64,
    limit: u64,
    progress: Progress,
    /// Where the size is not known before the answer, the bar is made then.
    bars: Bars,
}

impl Sink {
    /// Writes into `file` from its start; more than `limit` bytes are an error.
    pub fn new(file: std::fs::File, limit: u64, progress: Progress) -> Self {
        Self { file: Some(tokio::fs::File::from_std(file)), progress, ..Self::hashing(limit) }
    }

    /// Writes into `file`, and draws a bar once the store has said how much comes.
    pub fn drawing(file: std::fs::File, limit: u64, bars: Bars) -> Self {
        Self { bars, ..Self::new(file, limit, Progress::hidden()) }
    }

    /// The store has said how many bytes there are in all.
    pub fn expect(&mut self, total: u64) {
        if self.bars.are_drawn() && self.written == 0 {
            self.progress = self.bars.bytes("download", total);
        }
    }

    /// Keeps nothing but the checksum of what comes; more than `limit` bytes are an error.
    pub fn hashing(limit: u64) -> Self {
        let (progress, bars) = (Progress::hidden(), Bars::default());
        Self { file: None, sha256: Sha256::new(), written: 0, limit, progress, bars }
    }

    /// SHA-256 of what came so far.
    pub fn sha256(&self) -> Sum {
        Sum::end(self.sha256.clone())
    }

    /// Bytes so far: where a cut download goes on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// The file cannot be written, or the limit is passed.
    pub async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.written += chunk.len() as u64;
        if self.written > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the object is larger than the {} bytes that were announced", self.limit),
            ));
        }
        if let Some(file) = &mut self.file {
            file.write_all(chunk).await?;
        }
        self.sha256.update(chunk);
        self.progress.add(chunk.len() as u64);
        Ok(())
    }

    /// Throws away what came so far, because the object changed under the download.
    ///
    /// # Errors
    /// The file cannot be truncated.
    pub async fn restart(&mut self) -> io::Result<()> {
        use tokio::io::AsyncSeekExt;
        if let Some(file) = &mut self.file {
            file.flush().await?;
            file.set_len(0).await?;
            file.seek(io::SeekFrom::Start(0)).await?;
        }
        self.sha256 = Sha256::new();
        self.written = 0;
        self.progress.set(0);
        Ok(())
    }

    /// Syncs the file to the disk; returns its size and SHA-256.
    ///
    /// # Errors
    /// The last bytes cannot be written.
    pub async fn finish(mut self) -> io::Result<(u64, Sum)> {
        if let Some(file) = &mut self.file {
            file.flush().await?;
            file.sync_all().await?;
        }
        self.progress.done();
        Ok((self.written, Sum::end(self.sha256)))
    }
}
