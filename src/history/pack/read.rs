//! Reads packs that anybody may have written, and applies them to an image.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::{
    Content, END, FRAMES, GROUP_LIMIT, GROUP_LOG, HEADER, Header, PackError, TRAILER, WINDOW_LOG, take,
    trailer_head,
};
use crate::history::pages::lock_page;
use crate::sum::Sum;

/// Where a delta finds what pages were in the parent's image.
pub trait Parent {
    /// Fills the buffer with the page.
    ///
    /// # Errors
    /// [`PackError::Reference`] where the page is not there, or not for sure; the disk's.
    fn page(&self, pgno: u32, into: &mut [u8]) -> Result<(), PackError>;
}

/// No parent: for packs that refer to none.
#[derive(Debug, Clone, Copy)]
pub struct Orphan;

impl Parent for Orphan {
    fn page(&self, pgno: u32, _: &mut [u8]) -> Result<(), PackError> {
        Err(PackError::Reference(pgno))
    }
}

/// Reads a pack, page by page.
pub struct PackReader<R: Read> {
    body: Body<R>,
    checksum: Sha256,
    announced: u32,
    wanted: [u8; 32],
    found: u32,
    last: u32,
    /// The head.
    pub header: Header,
    /// SHA-256 of the image that the pack results in.
    pub image: Sum,
}

/// What lies between head and trailer.
enum Body<R: Read> {
    /// Records, decompressed as they are asked for.
    Frames(Decoder<'static, BufReader<Take<R>>>),
    /// Groups of records, one of them decompressed.
    Groups { from: BufReader<Take<R>>, group: io::Cursor<Vec<u8>> },
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
        let mut head = Vec::new();
        Read::by_ref(&mut from).take(HEADER).read_to_end(&mut head)?;
        let (header, version) = Header::read(&head)?;
        from.seek(SeekFrom::Start(HEADER + body))?;
        let announced = u32::from_le_bytes(take(&mut from)?);
        let zeros: [u8; 4] = take(&mut from)?;
        let image: [u8; 32] = take(&mut from)?;
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
            return Err(PackError::Count { announced: full, found: announced });
        }
        from.seek(SeekFrom::Start(HEADER))?;
        let from = BufReader::new(from.take(body));
        Ok(Self {
            body: if version == FRAMES {
                let mut stream = Decoder::with_buffer(from).map_err(PackError::Compression)?;
                stream.window_log_max(WINDOW_LOG).map_err(PackError::Compression)?;
                Body::Frames(stream)
            } else {
                Body::Groups { from, group: io::Cursor::default() }
            },
            checksum: Sha256::new_with_prefix(head),
            announced,
            wanted,
            found: 0,
            last: 0,
            header,
            image: image.into(),
        })
    }

    /// Puts the next page into `page` (resized to a page) and returns its number; `None` after the last one, once the
    /// checksum fits. The parent is asked for pages behind the last one returned only: the caller may have replaced
    /// the others.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn next_page(&mut self, page: &mut Vec<u8>, parent: &impl Parent) -> Result<Option<u32>, PackError> {
        self.begin_group(parent)?;
        let mut number = [0_u8; 4];
        if !self.fill(&mut number, true)? {
            return self.end();
        }
        let pgno = u32::from_le_bytes(number);
        if self.found == self.announced {
            return Err(PackError::Count { announced: self.announced, found: self.found.saturating_add(1) });
        }
        check(self.header, pgno, self.last)?;
        page.resize(self.page_size(), 0);
        self.fill(page, false)?;
        self.checksum.update(number);
        self.checksum.update(&page);
        self.last = pgno;
        self.found += 1;
        Ok(Some(pgno))
    }

    fn page_size(&self) -> usize {
        usize::try_from(self.header.page_size).unwrap_or(0)
    }

    /// Decompresses the next group once the one before has been read.
    fn begin_group(&mut self, parent: &impl Parent) -> Result<(), PackError> {
        let page_size = self.page_size();
        let Body::Groups { from, group } = &mut self.body else {
            return Ok(());
        };
        if group.position() < group.get_ref().len() as u64 || from.fill_buf()?.is_empty() {
            return Ok(());
        }
        let count: [u8; 4] = take(from)?;
        self.checksum.update(count);
        let count = usize::try_from(u32::from_le_bytes(count)).unwrap_or(usize::MAX);
        if count.saturating_mul(page_size) > GROUP_LIMIT {
            return Err(PackError::Field("number of references"));
        }
        let mut numbers = vec![0; count * 4];
        from.read_exact(&mut numbers).map_err(|_| PackError::NotAPack)?;
        self.checksum.update(&numbers);
        let mut before = vec![0; count * page_size];
        let mut after = self.last;
        for (number, page) in numbers.as_chunks::<4>().0.iter().zip(before.chunks_exact_mut(page_size.max(1)))
        {
            let pgno = u32::from_le_bytes(*number);
            check(self.header, pgno, after)?;
            parent.page(pgno, page)?;
            after = pgno;
        }
        self.decompress(&before)
    }

    fn decompress(&mut self, before: &[u8]) -> Result<(), PackError> {
        let Body::Groups { from, group } = &mut self.body else {
            return Ok(());
        };
        let mut records = std::mem::take(group).into_inner();
        records.clear();
        let mut stream =
            Decoder::with_ref_prefix(from, before).map_err(PackError::Compression)?.single_frame();
        stream.window_log_max(GROUP_LOG).map_err(PackError::Compression)?;
        let limit = GROUP_LIMIT as u64 + 1;
        Read::by_ref(&mut stream).take(limit).read_to_end(&mut records).map_err(PackError::Compression)?;
        if records.is_empty() || records.len() > GROUP_LIMIT {
            return Err(PackError::Field("group's size"));
        }
        *group = io::Cursor::new(records);
        Ok(())
    }

    /// Fills the buffer; `false` when the stream ends before its first byte and `may_end` allows it.
    fn fill(&mut self, buffer: &mut [u8], may_end: bool) -> Result<bool, PackError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match &mut self.body {
                Body::Frames(stream) => stream.read(rest),
                Body::Groups { group, .. } => group.read(rest),
            };
            match read {
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
            return Err(PackError::Count { announced: self.announced, found: self.found });
        }
        let counts = trailer_head(self.announced, self.image);
        if self.checksum.clone().chain_update(counts).finalize().as_slice() != self.wanted {
            return Err(PackError::Checksum);
        }
        Ok(None)
    }
}

/// Whether the image can have this page, behind that other one.
fn check(header: Header, pgno: u32, after: u32) -> Result<(), PackError> {
    if pgno == 0 || pgno > header.page_count || pgno == lock_page(header.page_size) {
        return Err(PackError::OutOfRange { pgno, page_count: header.page_count });
    }
    if pgno <= after {
        return Err(PackError::NotAscending { pgno, after });
    }
    Ok(())
}

/// The file that a pack is applied to.
struct Ground<'a> {
    image: &'a File,
    page_size: u64,
}

impl Parent for Ground<'_> {
    fn page(&self, pgno: u32, into: &mut [u8]) -> Result<(), PackError> {
        let at = u64::from(pgno.saturating_sub(1)) * self.page_size;
        self.image.read_exact_at(into, at).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                PackError::Reference(pgno)
            } else {
                PackError::Io(error)
            }
        })
    }
}

/// Applies a pack to the file of its parent's image (for a full pack: to any file). The file is the new image only when
/// this succeeds and when its SHA-256 is the one announced.
///
/// # Errors
/// See [`PackError`].
pub fn apply<R: Read + Seek>(pack: &mut PackReader<R>, image: &File) -> Result<(), PackError> {
    let page_size = u64::from(pack.header.page_size);
    if pack.header.content == Content::Full {
        image.set_len(0)?;
    }
    let mut page = Vec::new();
    let ground = Ground { image, page_size };
    while let Some(pgno) = pack.next_page(&mut page, &ground)? {
        image.write_all_at(&page, u64::from(pgno - 1) * page_size)?;
    }
    // Cuts off what the parent had more; the page of the locks, when it is new, becomes zeros.
    image.set_len(page_size * u64::from(pack.header.page_count))?;
    Ok(())
}
