//! Writes packs: pages in, compressed as hard as their number is worth.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::{Content, END, GROUP_LOG, Header, WINDOW_LOG, trailer_head};
use crate::history::pages::lock_page;
use crate::sum::Sum;

/// How hard zstd tries, and with how much memory (powers of two): level 19 would take 83 MB for an endless stream.
#[derive(Debug, Clone, Copy)]
struct Effort {
    level: i32,
    window_log: u32,
    /// Entries of the hash and the chain table, 4 bytes each.
    tables_log: Option<u32>,
}

/// For a full pack.
const FULL: Effort = Effort { level: 3, window_log: WINDOW_LOG, tables_log: None };
/// For the first group of a delta. Most deltas are small, go over slow lines, and are worth half a second.
const DELTA: Effort = Effort { level: 19, window_log: GROUP_LOG, tables_log: Some(18) };
/// For the other groups of a large one.
const LARGE_DELTA: Effort = Effort { level: 6, window_log: GROUP_LOG, tables_log: Some(18) };
/// A group ends with the record that makes it this many bytes.
const GROUP: usize = 1 << 20;

/// Writes a pack, page by page.
pub struct PackWriter<W: Write> {
    body: Body<W>,
    checksum: Sha256,
    header: Header,
    records: u32,
}

/// What lies between head and trailer.
enum Body<W: Write> {
    /// A full pack's records are compressed as they come.
    Frame(Encoder<'static, W>),
    /// A delta's are collected until they are a group.
    Groups { to: W, group: Group, effort: Effort },
}

/// Records that become one frame.
#[derive(Default)]
struct Group {
    records: Vec<u8>,
    /// Numbers of the pages in `before`, as they are written.
    references: Vec<u8>,
    /// What these pages were in the parent's image.
    before: Vec<u8>,
}

fn frame<W: Write>(to: W, effort: Effort, before: &[u8]) -> io::Result<Encoder<'_, W>> {
    let mut stream = Encoder::with_ref_prefix(to, effort.level, before)?;
    stream.window_log(effort.window_log)?;
    if let Some(log) = effort.tables_log {
        stream.set_parameter(CParameter::HashLog(log))?;
        stream.set_parameter(CParameter::ChainLog(log))?;
    }
    Ok(stream)
}

impl Group {
    fn is_full(&self) -> bool {
        self.records.len() >= GROUP
    }

    /// Writes what there is, and empties it. The checksum covers the references too.
    fn write<W: Write>(&mut self, to: &mut W, checksum: &mut Sha256, effort: Effort) -> io::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(self.references.len() / 4).map_err(io::Error::other)?;
        for bytes in [&count.to_le_bytes()[..], &self.references] {
            checksum.update(bytes);
            to.write_all(bytes)?;
        }
        checksum.update(&self.records);
        let mut stream = frame(to, effort, &self.before)?;
        stream.set_pledged_src_size(Some(self.records.len() as u64))?;
        stream.write_all(&self.records)?;
        stream.finish()?;
        for buffer in [&mut self.records, &mut self.references, &mut self.before] {
            buffer.clear();
        }
        Ok(())
    }
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(mut to: W, header: Header) -> io::Result<Self> {
        let head = header.to_bytes();
        to.write_all(&head)?;
        let body = match header.content {
            Content::Full => Body::Frame(frame(to, FULL, &[])?),
            Content::Delta(_) => Body::Groups { to, group: Group::default(), effort: DELTA },
        };
        Ok(Self { body, checksum: Sha256::new_with_prefix(&head), header, records: 0 })
    }

    /// Adds a page. The caller's order is ascending; the page of the locks is left out here. `before` is what the page
    /// was in the parent's image, where the caller has that for sure: a wrong one makes a pack that nobody can read.
    ///
    /// # Errors
    /// The disk's.
    pub fn page(&mut self, pgno: u32, page: &[u8], before: Option<&[u8]>) -> io::Result<()> {
        if pgno == lock_page(self.header.page_size) {
            return Ok(());
        }
        let number = pgno.to_le_bytes();
        match &mut self.body {
            Body::Frame(stream) => {
                for bytes in [&number[..], page] {
                    self.checksum.update(bytes);
                    stream.write_all(bytes)?;
                }
            }
            Body::Groups { to, group, effort } => {
                if let Some(before) = before {
                    group.references.extend_from_slice(&number);
                    group.before.extend_from_slice(before);
                }
                group.records.extend_from_slice(&number);
                group.records.extend_from_slice(page);
                if group.is_full() {
                    group.write(to, &mut self.checksum, *effort)?;
                    *effort = LARGE_DELTA;
                }
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Pages so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Ends the pack; `image` is the SHA-256 of the image that it results in.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self, image: Sum) -> io::Result<W> {
        let mut to = match self.body {
            Body::Frame(stream) => stream.finish()?,
            Body::Groups { mut to, mut group, effort } => {
                group.write(&mut to, &mut self.checksum, effort)?;
                to
            }
        };
        let counts = trailer_head(self.records, image);
        to.write_all(&counts)?;
        to.write_all(&self.checksum.chain_update(&counts).finalize())?;
        to.write_all(&END)?;
        to.flush()?;
        Ok(to)
    }
}
