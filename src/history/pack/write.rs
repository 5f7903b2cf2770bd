//! Writes packs: pages in, compressed as hard as their number is worth, digests of the whole out.

use std::io::{self, Write};

use md5::Md5;
use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::{Content, END, Header, WINDOW_LOG, trailer_head};
use crate::context::hex;
use crate::history::pages::lock_page;
use crate::storage::Digests;

/// How hard zstd tries, and with how much memory (powers of two). A stream's length is unknown, so zstd would take the
/// tables that a level has for endless ones: 83 MB at level 19.
#[derive(Debug, Clone, Copy)]
struct Effort {
    level: i32,
    window_log: u32,
    /// Entries of the hash and the chain table, 4 bytes each.
    tables_log: Option<u32>,
}

/// For a full pack.
const FULL: Effort = Effort {
    level: 3,
    window_log: WINDOW_LOG,
    tables_log: None,
};
/// For the first [`SMALL`] bytes of a delta. Most deltas are small, go over slow lines, and are worth half a second.
const DELTA: Effort = Effort {
    level: 19,
    window_log: WINDOW_LOG,
    tables_log: Some(18),
};
/// For the rest of a large one.
const LARGE_DELTA: Effort = Effort {
    level: 6,
    window_log: WINDOW_LOG,
    tables_log: Some(18),
};
const SMALL: u64 = 768 << 10;

/// Counts and hashes what goes through on its way to the file.
struct Tee<W> {
    to: W,
    size: u64,
    sha256: Sha256,
    md5: Md5,
}

impl<W: Write> Write for Tee<W> {
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

/// Writes a pack, page by page.
pub struct PackWriter<W: Write> {
    /// `None` only between two frames.
    stream: Option<Encoder<'static, Tee<W>>>,
    /// Bytes that still go into the frame of a small delta; `None` when there is no next frame.
    small: Option<u64>,
    checksum: Sha256,
    header: Header,
    records: u32,
}

fn frame<W: Write>(to: Tee<W>, effort: Effort) -> io::Result<Encoder<'static, Tee<W>>> {
    let mut stream = Encoder::new(to, effort.level)?;
    stream.window_log(effort.window_log)?;
    if let Some(log) = effort.tables_log {
        stream.set_parameter(CParameter::HashLog(log))?;
        stream.set_parameter(CParameter::ChainLog(log))?;
    }
    Ok(stream)
}

fn between_frames() -> io::Error {
    io::Error::other("the pack ended early")
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(to: W, header: Header) -> io::Result<Self> {
        let mut tee = Tee {
            to,
            size: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
        };
        let head = header.to_bytes();
        tee.write_all(&head)?;
        let (effort, small) = match header.content {
            Content::Full => (FULL, None),
            Content::Delta(_) => (DELTA, Some(SMALL)),
        };
        Ok(Self {
            stream: Some(frame(tee, effort)?),
            small,
            checksum: Sha256::new_with_prefix(&head),
            header,
            records: 0,
        })
    }

    /// Adds a page. The caller's order is ascending; the page of the locks is left out here.
    ///
    /// # Errors
    /// The disk's.
    pub fn page(&mut self, pgno: u32, page: &[u8]) -> io::Result<()> {
        if pgno == lock_page(self.header.page_size) {
            return Ok(());
        }
        if self.small == Some(0) {
            let tee = self.stream.take().ok_or_else(between_frames)?.finish()?;
            self.stream = Some(frame(tee, LARGE_DELTA)?);
            self.small = None;
        }
        let number = pgno.to_le_bytes();
        let stream = self.stream.as_mut().ok_or_else(between_frames)?;
        for bytes in [&number[..], page] {
            self.checksum.update(bytes);
            stream.write_all(bytes)?;
        }
        self.small = self.small.map(|left| left.saturating_sub(page.len() as u64));
        self.records += 1;
        Ok(())
    }

    /// Pages so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Ends the pack; `image` is the SHA-256 of the image that it results in. Returns the digests of the whole pack.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(self, image: [u8; 32]) -> io::Result<(W, Digests)> {
        let mut tee = self.stream.ok_or_else(between_frames)?.finish()?;
        let counts = trailer_head(self.records, &image);
        tee.write_all(&counts)?;
        tee.write_all(&self.checksum.chain_update(&counts).finalize())?;
        tee.write_all(&END)?;
        tee.flush()?;
        let digests = Digests {
            size: tee.size,
            sha256: hex(&tee.sha256.finalize()),
            md5: hex(&tee.md5.finalize()),
        };
        Ok((tee.to, digests))
    }
}
