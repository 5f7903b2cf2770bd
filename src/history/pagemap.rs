//! The hashes of all pages of one image, on the local disk: what a push compares with to know which pages changed,
//! without asking the bucket. Streamed, 16 bytes a page. Lost, stale or damaged it is simply not there.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::pages::{PageHash, Shape};
use super::references::{Collector, References};
use crate::database::{DatabaseError, files};
use crate::sum::Sum;

const MAGIC: [u8; 8] = *b"MBPAGES\n";
const VERSION: u32 = 1;
/// Magic, version, page size, page count, cookie, SHA-256 of the image, checksum.
const HEADER: usize = 8 + 4 * 4 + 32 + 32;
/// What the checksum covers of the header.
const CHECKED: usize = HEADER - 32;

/// A page map that is being read, from its first page on.
#[derive(Debug)]
pub struct PageMap {
    entries: BufReader<File>,
    left: u32,
    /// What its index pages were, where that was kept.
    pub references: Option<References>,
    /// What the image looks like.
    pub shape: Shape,
    /// SHA-256 of the image.
    pub sha256: Sum,
}

impl PageMap {
    /// Opens the map, when it is whole and of the image with this checksum.
    pub fn open(path: &Path, image: Sum) -> Option<Self> {
        match Self::read(path) {
            Ok(map) if map.sha256 == image => Some(map),
            Ok(map) => {
                tracing::debug!(of = %map.sha256, wanted = %image, "the page map is stale");
                None
            }
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "no page map");
                None
            }
        }
    }

    /// Opens the map of whichever image it is of.
    ///
    /// # Errors
    /// It cannot be read, or is not whole.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bad = |problem: &'static str| io::Error::new(io::ErrorKind::InvalidData, problem);
        let mut file = File::open(path)?;
        let mut header = [0_u8; HEADER];
        file.read_exact(&mut header)?;
        let (checked, checksum) = header.split_at(CHECKED);
        let (magic, rest) = checked.split_at(MAGIC.len());
        let (numbers, sha256) = rest.split_at(16);
        let sha256: [u8; 32] = sha256.try_into().map_err(|_| bad("a short header"))?;
        let numbers: Vec<u32> =
            numbers.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let [version, page_size, page_count, cookie] = numbers[..] else {
            return Err(bad("a short header"));
        };
        if magic != MAGIC || version != VERSION {
            return Err(bad("not a page map of this version"));
        }
        if file.metadata()?.len() != HEADER as u64 + 16 * u64::from(page_count) {
            return Err(bad("the length does not fit the page count"));
        }
        // One extra read of a small file, so that no damaged hash ever hides a changed page.
        let mut hasher = Sha256::new();
        let mut entries = BufReader::with_capacity(32 * 1024, file);
        io::copy(&mut entries, &mut HashWriter(&mut hasher))?;
        hasher.update(checked);
        if hasher.finalize().as_slice() != checksum {
            return Err(bad("the checksum does not fit"));
        }
        entries.seek(SeekFrom::Start(HEADER as u64))?;
        Ok(Self {
            entries,
            left: page_count,
            references: References::open(path),
            shape: Shape { page_size, page_count, cookie },
            sha256: sha256.into(),
        })
    }

    /// The hash of the next page; `None` behind the last one.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn next_hash(&mut self) -> io::Result<Option<PageHash>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        let mut hash = [0; 16];
        self.entries.read_exact(&mut hash)?;
        self.left = left;
        Ok(Some(hash))
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A page map that is being written.
#[derive(Debug)]
pub struct MapWriter {
    file: BufWriter<File>,
    path: TempPath,
    image: Sha256,
    checksum: Sha256,
    references: Collector,
    pages: u32,
}

impl MapWriter {
    /// Starts a map in a private temporary file. Index pages go to `references`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(folder: &Path, references: Collector) -> Result<Self, DatabaseError> {
        let path = files::temporary(folder, "pagemap")?;
        let begin = || -> io::Result<BufWriter<File>> {
            let file = std::fs::OpenOptions::new().write(true).open(&path)?;
            let mut file = BufWriter::with_capacity(32 * 1024, file);
            file.write_all(&[0; HEADER])?;
            Ok(file)
        };
        let file = begin().map_err(|error| DatabaseError::io("write", &path, error))?;
        Ok(Self { file, path, image: Sha256::new(), checksum: Sha256::new(), references, pages: 0 })
    }

    /// What the page was in the image before, if that is known for sure. `hash` is what the map of that image says.
    pub fn before(&self, pgno: u32, page_size: u32, hash: PageHash) -> Option<Vec<u8>> {
        self.references.before(pgno, page_size, hash)
    }

    /// Adds the next page of the image; returns its hash.
    ///
    /// # Errors
    /// The disk's.
    pub fn page(&mut self, page: &[u8]) -> Result<PageHash, DatabaseError> {
        let hash = super::pages::hash(page);
        self.pages += 1;
        self.references.page(self.pages, page);
        self.image.update(page);
        self.checksum.update(hash);
        self.file.write_all(&hash).map_err(|error| DatabaseError::io("write", &self.path, error))?;
        Ok(hash)
    }

    /// Ends the map of an image that looks like `shape`.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(self, shape: Shape) -> Result<FreshMap, DatabaseError> {
        let sha256 = Sum::end(self.image);
        let (path, file, checksum) = (self.path, self.file, self.checksum);
        let references = self.references;
        let end = || -> io::Result<()> {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let mut header = Vec::with_capacity(HEADER);
            header.extend_from_slice(&MAGIC);
            for number in [VERSION, shape.page_size, shape.page_count, shape.cookie] {
                header.extend_from_slice(&number.to_le_bytes());
            }
            header.extend_from_slice(sha256.bytes());
            let mut checksum = checksum;
            checksum.update(&header);
            header.extend_from_slice(&checksum.finalize());
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)
        };
        end().map_err(|error| DatabaseError::io("write", &path, error))?;
        Ok(FreshMap { path, references, shape, sha256 })
    }
}

/// A whole map that nobody uses yet: it is kept when its image is a commit.
#[derive(Debug)]
pub struct FreshMap {
    path: TempPath,
    references: Collector,
    /// What the image looks like.
    pub shape: Shape,
    /// SHA-256 of the image.
    pub sha256: Sum,
}

impl FreshMap {
    /// Puts the map, and the index pages, where the next push looks for them. Not synced: a map that a power cut damaged is not there.
    ///
    /// # Errors
    /// The state directory cannot be written; the next push is then a full one, so a warning is enough.
    pub fn keep(self, path: &Path) -> Result<(), DatabaseError> {
        let fail = |error| DatabaseError::io("keep the page map as", path, error);
        let folder = path.parent().unwrap_or(Path::new("/"));
        crate::private_files::make_private_folder(folder).map_err(fail)?;
        self.path.persist(path).map_err(|error| fail(error.error))?;
        self.references.keep(path, self.shape.bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Collector, MapWriter, PageMap};
    use crate::failpoint::cases;
    use crate::history::pages::{Shape, hash};
    use crate::sum::Sum;
    use proptest::prelude::*;

    fn write(folder: &std::path::Path, pages: &[Vec<u8>]) -> (std::path::PathBuf, Sum) {
        let mut writer = MapWriter::create(folder, Collector::off()).unwrap();
        for page in pages {
            assert_eq!(writer.page(page).unwrap(), hash(page));
        }
        let fresh = writer
            .finish(Shape { page_size: 512, page_count: u32::try_from(pages.len()).unwrap(), cookie: 7 })
            .unwrap();
        let sha256 = fresh.sha256;
        let path = folder.join("maps/a.map");
        fresh.keep(&path).unwrap();
        (path, sha256)
    }

    #[test]
    fn a_map_is_read_as_written_and_only_for_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let pages: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_le_bytes().repeat(128)).collect();
        let (path, sha256) = write(folder.path(), &pages);
        let mut map = PageMap::open(&path, sha256).unwrap();
        assert_eq!((map.shape.page_count, map.shape.cookie), (300, 7));
        for page in &pages {
            assert_eq!(map.next_hash().unwrap(), Some(hash(page)));
        }
        assert_eq!(map.next_hash().unwrap(), None);
        assert!(PageMap::open(&path, Sum::of("another")).is_none(), "stale");
        assert!(PageMap::open(&folder.path().join("none"), sha256).is_none());
    }

    proptest! {
        #![proptest_config(cases(200))]
        #[test]
        fn a_damaged_map_is_no_map(at in any::<prop::sample::Index>(), flip in 1_u8..=255, cut in any::<prop::sample::Index>()) {
            let folder = tempfile::tempdir().unwrap();
            let pages: Vec<Vec<u8>> = (0..9_u32).map(|n| n.to_le_bytes().repeat(128)).collect();
            let (path, sha256) = write(folder.path(), &pages);
            let whole = std::fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            *at.get_mut(&mut damaged) ^= flip;
            std::fs::write(&path, &damaged).unwrap();
            prop_assert!(PageMap::open(&path, sha256).is_none());
            std::fs::write(&path, &whole[..cut.index(whole.len())]).unwrap();
            prop_assert!(PageMap::open(&path, sha256).is_none());
        }
    }
}
