//! Writes segments: lines in, compressed on the way to the disk; the header, which counts them, goes in front at the end.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{SpooledTempFile, TempPath};
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::{BODY_TARGET, END, LINE_LIMIT, SegmentError, TARGET, WINDOW_LOG, counts, front};
use crate::database::files;
use crate::private_files::make_private_folder;
use crate::rows::header::Header;
use crate::seal::{Place, Seal};
use crate::storage::{Digests, Tee};

/// What one segment of a session needs stays in memory until its header is known; more goes to the disk.
const IN_MEMORY: usize = 256 << 10;
/// What zstd may hold back before it hands it on (bytes).
const HELD_BACK: u64 = 256 << 10;
/// Entries of zstd's hash and chain table, a power of two, 4 bytes each: level 9 would take 12 MB.
const TABLES_LOG: u32 = 18;

/// How hard zstd tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For what a person waits for.
    Usual,
    /// For what is written once and read for years.
    Base,
}

impl Effort {
    fn level(self) -> i32 {
        match self {
            Self::Usual => 3,
            Self::Base => 9,
        }
    }
}

/// A segment in a private temporary file, ready to be put.
#[derive(Debug)]
pub struct Prepared {
    /// The file, 0600; it vanishes with this.
    pub path: TempPath,
    /// Its size and digests.
    pub digests: Digests,
    /// Its header.
    pub header: Header,
    /// Lines in it.
    pub lines: u64,
}

/// Counts what goes through.
struct Counter {
    to: SpooledTempFile,
    size: u64,
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a segment, line by line.
pub struct SegmentWriter {
    folder: PathBuf,
    stream: Encoder<'static, Counter>,
    body: Sha256,
    lines: u64,
    bytes: u64,
}

impl SegmentWriter {
    /// Begins a segment; `folder` is our own, for temporary files.
    ///
    /// # Errors
    /// The folder cannot be made; zstd cannot begin.
    pub fn new(folder: &Path, effort: Effort) -> Result<Self, SegmentError> {
        make_private_folder(folder)?;
        let to = Counter { to: tempfile::spooled_tempfile_in(IN_MEMORY, folder), size: 0 };
        let mut stream = Encoder::new(to, effort.level())?;
        stream.window_log(WINDOW_LOG)?;
        stream.set_parameter(CParameter::HashLog(TABLES_LOG))?;
        stream.set_parameter(CParameter::ChainLog(TABLES_LOG))?;
        Ok(Self { folder: folder.to_owned(), stream, body: Sha256::new(), lines: 0, bytes: 0 })
    }

    /// Whether another line of so many bytes belongs into this segment; otherwise it is time to finish it and to begin
    /// the next one. The first line always fits.
    pub fn fits(&self, line: usize) -> bool {
        let line = line as u64;
        self.lines == 0 || (self.packed() + HELD_BACK + line <= TARGET && self.bytes + line < BODY_TARGET)
    }

    /// Adds a line, given without its end.
    ///
    /// # Errors
    /// A line that no reader would take; the disk's.
    pub fn line(&mut self, line: &[u8]) -> Result<(), SegmentError> {
        let number = self.lines + 1;
        if line.is_empty() || line.contains(&b'\n') {
            return Err(SegmentError::NotALine(number));
        }
        if line.len() >= LINE_LIMIT {
            return Err(SegmentError::LongLine(number));
        }
        for bytes in [line, b"\n"] {
            self.body.update(bytes);
            self.stream.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        }
        self.lines = number;
        Ok(())
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes that were packed so far; zstd may hold back some more.
    pub fn packed(&self) -> u64 {
        self.stream.get_ref().size
    }

    /// Ends the segment, puts its header in front, and seals it where the project is sealed. `salt`: fresh random bytes.
    ///
    /// # Errors
    /// A header that no reader would take; the disk's.
    pub fn finish(self, header: Header, seal: &Seal, salt: [u8; 32]) -> Result<Prepared, SegmentError> {
        header.flaw().map_or(Ok(()), |flaw| Err(SegmentError::Header(flaw.to_owned())))?;
        let json = serde_json::to_vec(&header).map_err(io::Error::from)?;
        let head = front(&json)?;
        let mut body = self.stream.finish()?.to;
        body.seek(SeekFrom::Start(0))?;
        let path = files::temporary(&self.folder, "segment").map_err(io::Error::other)?;
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        let out = Tee::new(file);
        let place = Place::Segment { writer: &header.writer, number: header.number };
        let mut out = seal.writer(out, &header.project, place, salt)?;
        out.write_all(&head)?;
        io::copy(&mut body, &mut out)?;
        let counts = counts(self.lines, self.bytes, &Sha256::digest(&head));
        out.write_all(&counts)?;
        out.write_all(&self.body.chain_update(&counts).finalize())?;
        out.write_all(&END)?;
        let (_, digests) = out.finish()?.finish();
        Ok(Prepared { path, digests, header, lines: self.lines })
    }
}
