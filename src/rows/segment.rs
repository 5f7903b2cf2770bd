//! The segment: lines of one writer in one object, with a header that says whose they are. Its bytes are described in
//! docs/format.md. What a line means is not known here. The reader trusts nothing: what it allocates is bounded by
//! constants, and it stops at the first thing that is out of place.

mod read;
mod write;

use std::io::{self, Read};

use crate::seal::SealError;

pub use read::SegmentReader;
pub use write::{Effort, Prepared, SegmentWriter};

const MAGIC: [u8; 8] = *b"MBROWS\r\n";
const END: [u8; 8] = *b"\nMBREND\n";
/// The only version of the container there is.
const VERSION: u16 = 1;
/// zstd looks back at most 2^20 bytes, so that a reader needs little memory.
const WINDOW_LOG: u32 = 20;

/// The longest header in bytes: a fleet of a thousand writers needs a quarter of it.
pub const HEADER_LIMIT: usize = 256 << 10;
/// The longest line in bytes.
pub const LINE_LIMIT: usize = 32 << 20;
/// Bytes of all lines of a segment that a reader takes.
pub const BODY_LIMIT: u64 = 256 << 20;
/// Lines of a segment that a reader takes.
pub const LINES_LIMIT: u64 = 1 << 20;
/// Bytes of a segment that a reader downloads: one line that does not compress, and what is around it.
pub const SIZE_LIMIT: u64 = 48 << 20;
/// Bytes that a writer packs into a segment before it begins another.
pub const TARGET: u64 = 8_000_000;
/// Bytes of lines that a writer puts into a segment before it begins another, however well they pack.
pub const BODY_TARGET: u64 = 64 << 20;

/// What is wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It is something else, or was cut off.
    #[error("it is not a segment, or only a part of one")]
    NotASegment,
    /// A newer membridge wrote it.
    #[error("its version {0} is not known to this membridge")]
    Version(u16),
    /// A newer membridge wrote its lines.
    #[error("its schema {0} is not known to this membridge")]
    Schema(u32),
    /// The header cannot be used.
    #[error("its header cannot be used: {0}")]
    Header(String),
    /// A field of the front or the trailer makes no sense.
    #[error("its {0} makes no sense")]
    Field(&'static str),
    /// zstd cannot read it.
    #[error("it cannot be decompressed: {0}")]
    Compression(io::Error),
    /// A line that is empty, has no end, or holds one in its middle.
    #[error("its line {0} is not a line")]
    NotALine(u64),
    /// A line that is longer than anything we write or keep in memory.
    #[error("its line {0} is longer than {LINE_LIMIT} bytes")]
    LongLine(u64),
    /// More lines, or bytes of them, than any writer puts into one.
    #[error("it holds more than a segment may")]
    TooMuch,
    /// More or fewer lines, or bytes of them, than it says at its end.
    #[error("it does not hold the {lines} lines of {bytes} bytes that it should")]
    Count {
        /// What it says.
        lines: u64,
        /// What it says.
        bytes: u64,
    },
    /// Head or body have another checksum.
    #[error("its checksum does not fit its content")]
    Checksum,
    /// It is not authentic, or not sealed as it should be.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The local disk.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl SegmentError {
    /// Whether the trouble lies in this machine and not in the bytes: the same segment may be read a moment later.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Seal(SealError::Io(_)))
    }

    /// Whether the bytes themselves are wrong, whatever key or membridge reads them.
    pub fn is_in_the_bytes(&self) -> bool {
        let elsewhere = matches!(self, Self::Version(_) | Self::Schema(_));
        let key = matches!(self, Self::Seal(error) if !matches!(error, SealError::NotAuthentic));
        !self.is_local() && !elsewhere && !key
    }
}

/// The next bytes of a fixed-size field.
fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], SegmentError> {
    let mut bytes = [0; N];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SegmentError::NotASegment),
        Err(error) => Err(error.into()),
    }
}

/// Everything before the body.
fn front(header: &[u8]) -> Result<Vec<u8>, SegmentError> {
    let length = u32::try_from(header.len()).ok().filter(|_| header.len() <= HEADER_LIMIT);
    let length = length.ok_or(SegmentError::Field("header's length"))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(header);
    Ok(bytes)
}

/// The part of the trailer that the checksum of the body covers.
fn counts(lines: u64, bytes: u64, head: &[u8]) -> Vec<u8> {
    [&lines.to_le_bytes()[..], &bytes.to_le_bytes(), head].concat()
}

#[cfg(test)]
#[path = "segment_hostile_tests.rs"]
mod hostile_tests;
#[cfg(test)]
#[path = "segment_tests.rs"]
pub(super) mod tests;
