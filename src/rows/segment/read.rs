//! Reads segments that anybody may have written, from their first byte to their last.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::{
    BODY_LIMIT, END, HEADER_LIMIT, LINE_LIMIT, LINES_LIMIT, MAGIC, SegmentError, VERSION, WINDOW_LOG, counts,
    take,
};
use crate::rows::header::Header;
use crate::seal::Opened;

/// What decompresses the body, and holds what follows it.
type Body<R> = BufReader<Decoder<'static, BufReader<R>>>;

/// Reads a segment, line by line.
pub struct SegmentReader<R: Read = File> {
    body: Body<R>,
    checksum: Sha256,
    /// SHA-256 of everything before the body.
    head: [u8; 32],
    lines: u64,
    bytes: u64,
    /// The header.
    pub header: Header,
}

impl SegmentReader {
    /// Reads the file once to its end, and stands at its first line again: header and lines are their writer's.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn proved(opened: Opened<File>) -> Result<Self, SegmentError> {
        let mut file = opened.into_inner();
        Self::begin(file.try_clone()?)?.prove()?;
        file.seek(SeekFrom::Start(0))?;
        Self::begin(file)
    }

    /// Stands at its first line again.
    ///
    /// # Errors
    /// The disk's.
    pub fn rewound(self) -> Result<Self, SegmentError> {
        let mut file = self.body.into_inner().finish().into_inner();
        file.seek(SeekFrom::Start(0))?;
        Self::begin(file)
    }
}

impl<R: Read> SegmentReader<R> {
    /// Reads what is before the body. Neither this nor the lines that follow are proved before the last one was read.
    pub(super) fn begin(mut from: R) -> Result<Self, SegmentError> {
        let head = head(&mut from)?;
        let header = Header::parse(head.get(16..).unwrap_or_default())?;
        let from = BufReader::new(from);
        let mut stream = Decoder::with_buffer(from).map_err(SegmentError::Compression)?.single_frame();
        stream.window_log_max(WINDOW_LOG).map_err(SegmentError::Compression)?;
        Ok(Self {
            body: BufReader::new(stream),
            checksum: Sha256::new(),
            head: Sha256::digest(&head).into(),
            lines: 0,
            bytes: 0,
            header,
        })
    }

    /// Reads the rest. Returns the number of lines.
    pub(super) fn prove(mut self) -> Result<u64, SegmentError> {
        let mut line = Vec::new();
        while self.next_line(&mut line)? {}
        Ok(self.lines)
    }

    /// Puts the next line, without its end, into `line`; `false` after the last one, once everything fits. Not to be
    /// asked again after that.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, SegmentError> {
        line.clear();
        let limit = LINE_LIMIT as u64 + 1;
        let read = Read::by_ref(&mut self.body).take(limit).read_until(b'\n', line);
        let read = read.map_err(SegmentError::Compression)? as u64;
        if read == 0 {
            return self.end().map(|()| false);
        }
        self.lines += 1;
        self.bytes += read;
        if read == limit {
            return Err(SegmentError::LongLine(self.lines));
        }
        if self.lines > LINES_LIMIT || self.bytes > BODY_LIMIT {
            return Err(SegmentError::TooMuch);
        }
        self.checksum.update(&line);
        if line.pop() != Some(b'\n') || line.is_empty() {
            return Err(SegmentError::NotALine(self.lines));
        }
        Ok(true)
    }

    /// Reads the trailer and compares it with what came before.
    fn end(&mut self) -> Result<(), SegmentError> {
        let from = self.body.get_mut().get_mut();
        let lines = u64::from_le_bytes(take(from)?);
        let bytes = u64::from_le_bytes(take(from)?);
        let head: [u8; 32] = take(from)?;
        let wanted: [u8; 32] = take(from)?;
        let end: [u8; 8] = take(from)?;
        if end != END || !from.fill_buf()?.is_empty() {
            return Err(SegmentError::NotASegment);
        }
        if (lines, bytes) != (self.lines, self.bytes) {
            return Err(SegmentError::Count { lines, bytes });
        }
        let body = self.checksum.clone().chain_update(counts(lines, bytes, &head)).finalize();
        if head != self.head || body.as_slice() != wanted {
            return Err(SegmentError::Checksum);
        }
        Ok(())
    }
}

/// The bytes before the body.
fn head(from: &mut impl Read) -> Result<Vec<u8>, SegmentError> {
    let magic: [u8; 8] = take(from)?;
    if magic != MAGIC {
        return Err(SegmentError::NotASegment);
    }
    let version = u16::from_le_bytes(take(from)?);
    if version != VERSION {
        return Err(SegmentError::Version(version));
    }
    let zeros: [u8; 2] = take(from)?;
    if zeros != [0; 2] {
        return Err(SegmentError::Field("reserved field"));
    }
    let size = usize::try_from(u32::from_le_bytes(take(from)?)).ok();
    let size = size.filter(|size| *size <= HEADER_LIMIT).ok_or(SegmentError::Field("header's length"))?;
    let mut json = vec![0; size];
    from.read_exact(&mut json).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SegmentError::NotASegment,
        _ => error.into(),
    })?;
    super::front(&json)
}
