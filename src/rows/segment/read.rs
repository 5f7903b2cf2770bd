//! Reads segments that anybody may have written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::{
    BODY_LIMIT, END, FRONT, HEADER_LIMIT, LINE_LIMIT, LINES_LIMIT, MAGIC, SegmentError, TRAILER, VERSION,
    WINDOW_LOG, counts, take,
};
use crate::rows::header::Header;

/// The bytes of a segment as its writer prepared them. What comes out of the bucket becomes this by being opened; a
/// reader takes nothing else, so that sealed bytes cannot be read by mistake.
#[derive(Debug)]
pub struct Opened<R = File>(R);

impl<R: Read + Seek> Opened<R> {
    /// Bytes that were not sealed.
    pub fn in_the_clear(from: R) -> Self {
        Self(from)
    }
}

/// What decompresses the body.
type Body<R> = BufReader<Decoder<'static, BufReader<Take<R>>>>;

/// Reads a segment, line by line.
pub struct SegmentReader<R: Read = File> {
    body: Body<R>,
    checksum: Sha256,
    /// The trailer's part that the checksum covers.
    counts: Vec<u8>,
    wanted: [u8; 32],
    lines: u64,
    bytes: u64,
    lines_read: u64,
    bytes_read: u64,
    /// The header.
    pub header: Header,
}

impl<R: Read + Seek> SegmentReader<R> {
    /// Reads what is around the body. The lines that follow are not proved to be whole before the last one has been
    /// read: who acts on them takes [`SegmentReader::verified`].
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn open(opened: Opened<R>) -> Result<Self, SegmentError> {
        let mut from = opened.0;
        let length = from.seek(SeekFrom::End(0))?;
        from.seek(SeekFrom::Start(0))?;
        let head = head(&mut from, length)?;
        let start = head.len() as u64;
        let body = length.checked_sub(start + TRAILER).ok_or(SegmentError::NotASegment)?;
        from.seek(SeekFrom::Start(start + body))?;
        let lines = u64::from_le_bytes(take(&mut from)?);
        let bytes = u64::from_le_bytes(take(&mut from)?);
        let sum: [u8; 32] = take(&mut from)?;
        let wanted = take(&mut from)?;
        let end: [u8; 8] = take(&mut from)?;
        if end != END {
            return Err(SegmentError::NotASegment);
        }
        if lines > LINES_LIMIT {
            return Err(SegmentError::Field("number of lines"));
        }
        if bytes > BODY_LIMIT {
            return Err(SegmentError::Field("number of bytes"));
        }
        if Sha256::digest(&head).as_slice() != sum {
            return Err(SegmentError::Checksum);
        }
        let header = Header::parse(head.get(16..).unwrap_or_default())?;
        from.seek(SeekFrom::Start(start))?;
        let from = BufReader::new(from.take(body));
        let mut stream = Decoder::with_buffer(from).map_err(SegmentError::Compression)?.single_frame();
        stream.window_log_max(WINDOW_LOG).map_err(SegmentError::Compression)?;
        Ok(Self {
            body: BufReader::new(stream),
            checksum: Sha256::new(),
            counts: counts(lines, bytes, &sum),
            wanted,
            lines,
            bytes,
            lines_read: 0,
            bytes_read: 0,
            header,
        })
    }

    /// Reads it once to its end, and stands at its first line again: every line that follows is its writer's.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn verified(opened: Opened<R>) -> Result<Self, SegmentError> {
        let mut reader = Self::open(opened)?;
        let mut line = Vec::new();
        while reader.next_line(&mut line)? {}
        let from = reader.body.into_inner().finish().into_inner().into_inner();
        Self::open(Opened(from))
    }

    /// Lines that it announces.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Puts the next line, without its end, into `line`; `false` after the last one, once the checksum fits.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, SegmentError> {
        line.clear();
        let number = self.lines_read.saturating_add(1);
        let left = self.bytes.saturating_sub(self.bytes_read);
        let limit = left.min(LINE_LIMIT as u64).saturating_add(1);
        let read = Read::by_ref(&mut self.body).take(limit).read_until(b'\n', line);
        let read = read.map_err(SegmentError::Compression)? as u64;
        if read == 0 {
            return self.end().map(|()| false);
        }
        if read > left || self.lines_read == self.lines {
            return Err(self.count());
        }
        if read > LINE_LIMIT as u64 {
            return Err(SegmentError::LongLine(number));
        }
        self.checksum.update(&line);
        self.bytes_read += read;
        self.lines_read = number;
        if line.pop() != Some(b'\n') || line.is_empty() {
            return Err(SegmentError::NotALine(number));
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<(), SegmentError> {
        if self.lines_read != self.lines || self.bytes_read != self.bytes {
            return Err(self.count());
        }
        // Whatever follows the frame is nobody's.
        if !self.body.get_mut().get_mut().fill_buf()?.is_empty() {
            return Err(SegmentError::Field("body's end"));
        }
        if self.checksum.clone().chain_update(&self.counts).finalize().as_slice() != self.wanted {
            return Err(SegmentError::Checksum);
        }
        Ok(())
    }

    fn count(&self) -> SegmentError {
        SegmentError::Count { lines: self.lines, bytes: self.bytes }
    }
}

/// The bytes before the body, in a file of so many bytes.
fn head(from: &mut impl Read, length: u64) -> Result<Vec<u8>, SegmentError> {
    if length < FRONT + TRAILER {
        return Err(SegmentError::NotASegment);
    }
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
    let announced = u32::from_le_bytes(take(from)?);
    let size = usize::try_from(announced).ok().filter(|size| (2..=HEADER_LIMIT).contains(size));
    let size = size.ok_or(SegmentError::Field("header's length"))?;
    if u64::from(announced) > length - FRONT - TRAILER {
        return Err(SegmentError::NotASegment);
    }
    let mut json = vec![0; size];
    from.read_exact(&mut json).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SegmentError::NotASegment,
        _ => error.into(),
    })?;
    super::front(&json)
}
