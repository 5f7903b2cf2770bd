//! The pack: pages of a database image in one object, all of them or those that differ from the parent's. Its bytes
//! are described in docs/format.md. The reader trusts nothing: it allocates one page, and stops at the first record
//! that is out of order, out of range or too much.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::FileExt;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::pages::lock_page;
use crate::context::hex;
use crate::storage::Digests;

const MAGIC: [u8; 8] = *b"MBPACK\r\n";
const END: [u8; 8] = *b"\nMBPEND\n";
const VERSION: u16 = 1;
/// Magic, version, kind, zero, page size, page count, zero, parent.
const HEADER: u64 = 8 + 2 + 1 + 1 + 4 + 4 + 4 + 32;
/// Records, zero, SHA-256 of the image, checksum, end mark.
const TRAILER: u64 = 4 + 4 + 32 + 32 + 8;
/// zstd looks back at most 2^20 bytes, so that a reader needs little memory.
const WINDOW_LOG: u32 = 20;
/// How hard zstd tries: level and window. For a full pack, for the first [`SMALL`] bytes of a delta, and for the rest
/// of a large one. Most deltas are small, go over slow lines, and are worth half a second (-12 %); the small window
/// keeps the highest level within 6 MB of memory.
const FULL: (i32, u32) = (3, WINDOW_LOG);
const DELTA: (i32, u32) = (19, 18);
const LARGE_DELTA: (i32, u32) = (6, WINDOW_LOG);
const SMALL: u64 = 768 << 10;

/// What is wrong with a pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is something else, or was cut off.
    #[error("it is not a pack, or only a part of one")]
    NotAPack,
    /// A newer membridge wrote it.
    #[error("its version {0} is not known to this membridge")]
    Version(u16),
    /// A field of the header or trailer makes no sense.
    #[error("its {0} makes no sense")]
    Field(&'static str),
    /// zstd cannot read it.
    #[error("it cannot be decompressed: {0}")]
    Compression(io::Error),
    /// A page that the image cannot have.
    #[error("it holds page {pgno} of an image of {page_count} pages")]
    OutOfRange {
        /// The page.
        pgno: u32,
        /// Pages of the image.
        page_count: u32,
    },
    /// Pages out of order, or one twice.
    #[error("it holds page {pgno} after page {after}")]
    NotAscending {
        /// The page.
        pgno: u32,
        /// The one before.
        after: u32,
    },
    /// A full pack without all pages, or other than the announced number.
    #[error("it holds {found} pages instead of {announced}")]
    Count {
        /// Announced, or needed for a full image.
        announced: u32,
        /// Found.
        found: u32,
    },
    /// Head, pages and trailer have another checksum.
    #[error("its checksum does not fit its content")]
    Checksum,
    /// The local disk.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Which pages a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// All pages of the image.
    Full,
    /// The pages that differ from the image with this SHA-256.
    Delta([u8; 32]),
}

/// The head of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Full or delta.
    pub content: Content,
    /// Bytes of a page: a power of two from 512 to 65536.
    pub page_size: u32,
    /// Pages of the image that the pack results in.
    pub page_count: u32,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let (kind, parent) = match self.content {
            Content::Full => (1_u8, [0; 32]),
            Content::Delta(parent) => (2, parent),
        };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&self.page_count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&parent);
        bytes
    }

    fn read(from: &mut impl Read) -> Result<Self, PackError> {
        let magic: [u8; 8] = take(from)?;
        if magic != MAGIC {
            return Err(PackError::NotAPack);
        }
        let version = u16::from_le_bytes(take(from)?);
        if version != VERSION {
            return Err(PackError::Version(version));
        }
        let [kind, zero] = take(from)?;
        let page_size = u32::from_le_bytes(take(from)?);
        let page_count = u32::from_le_bytes(take(from)?);
        let zeros: [u8; 4] = take(from)?;
        let parent: [u8; 32] = take(from)?;
        let content = match kind {
            1 if parent == [0; 32] => Content::Full,
            2 => Content::Delta(parent),
            _ => return Err(PackError::Field("kind")),
        };
        if zero != 0 || zeros != [0; 4] {
            return Err(PackError::Field("reserved field"));
        }
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(PackError::Field("page size"));
        }
        if page_count == 0 || page_count == u32::MAX {
            return Err(PackError::Field("page count"));
        }
        Ok(Self {
            content,
            page_size,
            page_count,
        })
    }

    /// How many pages a full pack holds: all but the one of SQLite's locks.
    fn pages_of_a_full_pack(self) -> u32 {
        self.page_count - u32::from(self.page_count >= lock_page(self.page_size))
    }
}

/// The next bytes of a fixed-size field.
fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], PackError> {
    let mut bytes = [0; N];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(PackError::NotAPack),
        Err(error) => Err(error.into()),
    }
}

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

/// The part of the trailer that the checksum covers, after the header and the uncompressed stream.
fn trailer_head(records: u32, image: &[u8; 32]) -> Vec<u8> {
    let mut bytes = records.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(image);
    bytes
}

/// Writes a pack, page by page.
pub struct PackWriter<W: Write> {
    /// `None` only between two frames.
    stream: Option<zstd::stream::write::Encoder<'static, Tee<W>>>,
    /// Bytes that still go into the frame of a small delta; `None` when there is no next frame.
    small: Option<u64>,
    checksum: Sha256,
    header: Header,
    records: u32,
}

fn frame<W: Write>(
    to: Tee<W>,
    (level, window_log): (i32, u32),
) -> io::Result<zstd::stream::write::Encoder<'static, Tee<W>>> {
    let mut stream = zstd::stream::write::Encoder::new(to, level)?;
    stream.window_log(window_log)?;
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

/// Reads a pack, page by page.
pub struct PackReader<R: Read> {
    stream: zstd::stream::read::Decoder<'static, BufReader<Take<R>>>,
    checksum: Sha256,
    announced: u32,
    wanted: [u8; 32],
    found: u32,
    last: u32,
    /// The head.
    pub header: Header,
    /// SHA-256 of the image that the pack results in.
    pub image: [u8; 32],
}

impl<R: Read + Seek> PackReader<R> {
    /// Reads head and trailer.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn open(mut from: R) -> Result<Self, PackError> {
        let length = from.seek(SeekFrom::End(0))?;
        let body = length.checked_sub(HEADER + TRAILER).ok_or(PackError::NotAPack)?;
        from.seek(SeekFrom::Start(0))?;
        let header = Header::read(&mut from)?;
        from.seek(SeekFrom::Start(HEADER + body))?;
        let announced = u32::from_le_bytes(take(&mut from)?);
        let zeros: [u8; 4] = take(&mut from)?;
        let image = take(&mut from)?;
        let wanted = take(&mut from)?;
        let end: [u8; 8] = take(&mut from)?;
        if end != END {
            return Err(PackError::NotAPack);
        }
        if zeros != [0; 4] {
            return Err(PackError::Field("reserved field"));
        }
        let full = header.pages_of_a_full_pack();
        if announced > full || (header.content == Content::Full && announced != full) {
            return Err(PackError::Count {
                announced: full,
                found: announced,
            });
        }
        from.seek(SeekFrom::Start(HEADER))?;
        let mut stream = zstd::stream::read::Decoder::new(from.take(body)).map_err(PackError::Compression)?;
        stream
            .window_log_max(WINDOW_LOG)
            .map_err(PackError::Compression)?;
        Ok(Self {
            stream,
            checksum: Sha256::new_with_prefix(header.to_bytes()),
            announced,
            wanted,
            found: 0,
            last: 0,
            header,
            image,
        })
    }

    /// Puts the next page into `page` (resized to a page) and returns its number; `None` after the last one, once the
    /// checksum fits.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, PackError> {
        let mut number = [0_u8; 4];
        if !self.fill(&mut number, true)? {
            return self.end();
        }
        let pgno = u32::from_le_bytes(number);
        if self.found == self.announced {
            return Err(PackError::Count {
                announced: self.announced,
                found: self.found.saturating_add(1),
            });
        }
        if pgno == 0 || pgno > self.header.page_count || pgno == lock_page(self.header.page_size) {
            return Err(PackError::OutOfRange {
                pgno,
                page_count: self.header.page_count,
            });
        }
        if pgno <= self.last {
            return Err(PackError::NotAscending {
                pgno,
                after: self.last,
            });
        }
        page.resize(usize::try_from(self.header.page_size).unwrap_or(0), 0);
        self.fill(page, false)?;
        self.checksum.update(number);
        self.checksum.update(&page);
        self.last = pgno;
        self.found += 1;
        Ok(Some(pgno))
    }

    /// Fills the buffer; `false` when the stream ends before its first byte and `may_end` allows it.
    fn fill(&mut self, buffer: &mut [u8], may_end: bool) -> Result<bool, PackError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 && may_end => return Ok(false),
                Ok(0) => return Err(PackError::NotAPack),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PackError::Compression(error)),
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<Option<u32>, PackError> {
        if self.found != self.announced {
            return Err(PackError::Count {
                announced: self.announced,
                found: self.found,
            });
        }
        let counts = trailer_head(self.announced, &self.image);
        if self.checksum.clone().chain_update(counts).finalize().as_slice() != self.wanted {
            return Err(PackError::Checksum);
        }
        Ok(None)
    }
}

/// Applies a pack to the file of its parent's image (for a full pack: to any file). `touched` hears of every page.
/// The file is the new image only when this succeeds, and when its SHA-256 is the one announced.
///
/// # Errors
/// See [`PackError`].
pub fn apply<R: Read + Seek>(
    pack: &mut PackReader<R>,
    image: &File,
    mut touched: impl FnMut(u32),
) -> Result<(), PackError> {
    let page_size = u64::from(pack.header.page_size);
    if pack.header.content == Content::Full {
        image.set_len(0)?;
    }
    let mut page = Vec::new();
    while let Some(pgno) = pack.next_page(&mut page)? {
        image.write_all_at(&page, u64::from(pgno - 1) * page_size)?;
        touched(pgno);
    }
    // Cuts off what the parent had more; the page of the locks, when it is new, becomes zeros.
    image.set_len(page_size * u64::from(pack.header.page_count))?;
    Ok(())
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
