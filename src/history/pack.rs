//! The pack: pages of a database image in one object, all of them or those that differ from the parent's. Its bytes
//! are described in docs/format.md. A delta is compressed with what its pages were before in sight, where the writer
//! knows that. The reader trusts nothing: what it allocates is bounded by constants, and it stops at the first record
//! that is out of order, out of range or too much.

mod read;
mod write;

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

pub use read::{Orphan, PackReader, Parent, apply};
pub use write::PackWriter;

use super::pages::lock_page;
use crate::sum::Sum;

const MAGIC: [u8; 8] = *b"MBPACK\r\n";
const END: [u8; 8] = *b"\nMBPEND\n";
/// Records in one run of zstd frames. All full packs, and the deltas of early builds.
const FRAMES: u16 = 1;
/// Records in groups, each with the pages of the parent that its frame refers to. Deltas.
const GROUPS: u16 = 2;
/// Magic, version, kind, zero, page size, page count, zero, parent.
const HEADER: u64 = 8 + 2 + 1 + 1 + 4 + 4 + 4 + 32;
/// Records, zero, SHA-256 of the image, checksum, end mark.
const TRAILER: u64 = 4 + 4 + 32 + 32 + 8;
/// zstd looks back at most 2^20 bytes, so that a reader needs little memory.
const WINDOW_LOG: u32 = 20;
/// The records of a group, and the pages that it refers to, are at most this many bytes each.
const GROUP_LOG: u32 = 21;
const GROUP_LIMIT: usize = 1 << GROUP_LOG;

/// Which pages a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All.
    Full,
    /// Those that differ from the parent's image.
    Delta,
}

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
    /// A page is described by what it was before, and that is not known here.
    #[error("it needs page {0} as the parent's image has it, and that is not here")]
    Reference(u32),
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
    Delta(Sum),
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
    /// What is written today.
    fn version(self) -> u16 {
        match self.content {
            Content::Full => FRAMES,
            Content::Delta(_) => GROUPS,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let (kind, parent) = match self.content {
            Content::Full => (1_u8, [0; 32]),
            Content::Delta(parent) => (2, *parent.bytes()),
        };
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.version().to_le_bytes());
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&self.page_count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&parent);
        bytes
    }

    /// The head, and its version.
    fn read(mut from: &[u8]) -> Result<(Self, u16), PackError> {
        let from = &mut from;
        let magic: [u8; 8] = take(from)?;
        if magic != MAGIC {
            return Err(PackError::NotAPack);
        }
        let version = u16::from_le_bytes(take(from)?);
        if ![FRAMES, GROUPS].contains(&version) {
            return Err(PackError::Version(version));
        }
        let [kind, zero] = take(from)?;
        let page_size = u32::from_le_bytes(take(from)?);
        let page_count = u32::from_le_bytes(take(from)?);
        let zeros: [u8; 4] = take(from)?;
        let parent: [u8; 32] = take(from)?;
        let content = match kind {
            1 if parent == [0; 32] && version == FRAMES => Content::Full,
            2 => Content::Delta(parent.into()),
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
        let header = Self { content, page_size, page_count };
        Ok((header, version))
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

/// The part of the trailer that the checksum covers, after the header and the uncompressed stream.
fn trailer_head(records: u32, image: Sum) -> Vec<u8> {
    let mut bytes = records.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(image.bytes());
    bytes
}

#[cfg(test)]
#[path = "pack_hostile_tests.rs"]
mod hostile_tests;
#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
