//! Reads packs that anybody may have written, and applies them to an image.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::{Content, END, HEADER, Header, PackError, TRAILER, WINDOW_LOG, take, trailer_head};
use crate::history::pages::lock_page;

/// Reads a pack, page by page.
pub struct PackReader<R: Read> {
    stream: Decoder<'static, BufReader<Take<R>>>,
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
        let mut stream = Decoder::new(from.take(body)).map_err(PackError::Compression)?;
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
