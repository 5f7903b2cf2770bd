//! What the index pages of the last image were, on the local disk. New rows put a few bytes each into many pages of an
//! index; a delta that shows what such a page was before needs to carry these bytes only. Never needed: a page counts
//! when it has the hash that the page map names, so a lost, torn or outdated file costs bytes on the wire and nothing
//! else. The file has page N where the image has it, and holes between (docs/format.md).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::pages::{self, PageHash};
use crate::database::files;

/// Bytes of changed pages that are remembered until the image is a commit. The rest is caught up with next time.
const ROOM: usize = 2 << 20;

/// The pages of the last image.
#[derive(Debug)]
pub struct References(File);

impl References {
    /// Opens what is beside this page map.
    pub fn open(map: &Path) -> Option<Self> {
        File::open(beside(map)).ok().map(Self)
    }

    /// The page with this hash, if that is what is here.
    pub fn page(&self, pgno: u32, page_size: u32, hash: PageHash) -> Option<Vec<u8>> {
        let mut page = vec![0; usize::try_from(page_size).ok()?];
        self.0.read_exact_at(&mut page, offset(pgno, page_size)).ok()?;
        (is_index(&page) && pages::hash(&page) == hash).then_some(page)
    }

    fn has(&self, pgno: u32, page: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.resize(page.len(), 0);
        let size = u32::try_from(page.len()).unwrap_or(0);
        self.0.read_exact_at(buffer, offset(pgno, size)).is_ok() && buffer == page
    }
}

fn beside(map: &Path) -> PathBuf {
    map.with_extension("pages")
}

fn offset(pgno: u32, page_size: u32) -> u64 {
    u64::from(pgno.saturating_sub(1)) * u64::from(page_size)
}

/// Interior and leaf pages of an index: <https://www.sqlite.org/fileformat2.html#b_tree_pages>.
fn is_index(page: &[u8]) -> bool {
    matches!(page.first(), Some(2 | 10))
}

/// Takes the index pages of a new image as it goes by.
#[derive(Debug)]
pub struct Collector(State);

#[derive(Debug)]
enum State {
    /// Nobody will ask for them.
    Off,
    /// There is no file yet: all go into a new one.
    All { file: File, path: TempPath },
    /// Those that the file does not have.
    Changed { references: References, pages: Vec<(u32, Vec<u8>)>, room: usize, buffer: Vec<u8> },
}

impl Collector {
    /// Collects nothing.
    #[cfg(test)]
    pub fn off() -> Self {
        Self(State::Off)
    }

    /// Collects for the file that `references` is, or for a new one, which is made in `folder`.
    pub fn new(folder: &Path, references: Option<References>) -> Self {
        if let Some(references) = references {
            return Self(State::Changed { references, pages: Vec::new(), room: ROOM, buffer: Vec::new() });
        }
        let file = files::temporary(folder, "pages").and_then(|path| {
            let file = std::fs::OpenOptions::new().write(true).open(&path);
            file.map(|file| State::All { file, path })
                .map_err(|error| crate::database::DatabaseError::io("write pages in", folder, error))
        });
        Self(file.unwrap_or_else(|error| {
            tracing::debug!(%error, "index pages are not kept");
            State::Off
        }))
    }

    /// What the page was in the last image, if that is known for sure.
    pub fn before(&self, pgno: u32, page_size: u32, hash: PageHash) -> Option<Vec<u8>> {
        match &self.0 {
            State::Changed { references, .. } => references.page(pgno, page_size, hash),
            State::Off | State::All { .. } => None,
        }
    }

    /// Looks at a page of the new image.
    pub fn page(&mut self, pgno: u32, page: &[u8]) {
        if !is_index(page) {
            return;
        }
        match &mut self.0 {
            State::Off => {}
            State::All { file, .. } => {
                let at = offset(pgno, u32::try_from(page.len()).unwrap_or(0));
                if let Err(error) = file.write_all_at(page, at) {
                    tracing::debug!(%error, "index pages are not kept");
                    self.0 = State::Off;
                }
            }
            State::Changed { references, pages, room, buffer } => {
                if page.len() <= *room && !references.has(pgno, page, buffer) {
                    *room -= page.len();
                    pages.push((pgno, page.to_vec()));
                }
            }
        }
    }

    /// Keeps what was collected beside the page map, which is that of the same image, `bytes` long.
    pub fn keep(self, map: &Path, bytes: u64) {
        let path = beside(map);
        let kept = match self.0 {
            State::Off => Ok(()),
            State::All { path: made, .. } => made.persist(&path).map_err(|error| error.error),
            State::Changed { pages, .. } => update(&path, &pages, bytes),
        };
        if let Err(error) = kept {
            tracing::debug!(%error, path = %path.display(), "index pages are not kept");
        }
    }
}

fn update(path: &Path, pages: &[(u32, Vec<u8>)], bytes: u64) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    }
    for (pgno, page) in pages {
        file.write_all_at(page, offset(*pgno, u32::try_from(page.len()).unwrap_or(0)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Collector, References, beside};
    use crate::history::pages::hash;

    fn page(kind: u8, fill: u8) -> Vec<u8> {
        let mut page = vec![fill; 512];
        page[0] = kind;
        page
    }

    #[test]
    fn index_pages_are_known_until_they_change_and_only_by_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("a.map");
        assert!(References::open(&map).is_none());
        let mut first = Collector::new(folder.path(), None);
        for (pgno, kind) in [(1, 13), (2, 10), (3, 5), (4, 2)] {
            first.page(pgno, &page(kind, 1));
        }
        first.keep(&map, 4 * 512);

        let known = |pgno, page: &[u8]| {
            let references = References::open(&map).unwrap();
            references.page(pgno, 512, hash(page)).as_deref() == Some(page)
        };
        assert!(known(2, &page(10, 1)) && known(4, &page(2, 1)));
        assert!(!known(1, &page(13, 1)), "a table's");
        assert!(!known(3, &page(5, 1)), "a table's");
        assert!(!known(2, &page(10, 2)), "another content");
        assert!(!known(9, &page(10, 1)), "behind the end");

        let mut second = Collector::new(folder.path(), References::open(&map));
        second.page(2, &page(10, 2));
        second.page(4, &page(2, 1));
        assert_eq!(second.before(2, 512, hash(&page(10, 1))), Some(page(10, 1)), "not kept yet");
        second.keep(&map, 3 * 512);
        assert!(known(2, &page(10, 2)) && !known(2, &page(10, 1)));
        assert!(!known(4, &page(2, 1)), "the image became shorter");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(beside(&map)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_does_not_fit_is_caught_up_with_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("a.map");
        std::fs::write(beside(&map), "").unwrap();
        let pages: Vec<Vec<u8>> =
            (0..48_u8).map(|fill| [page(10, fill), vec![fill; 65536 - 512]].concat()).collect();
        let missing = || {
            let references = References::open(&map).unwrap();
            (1..)
                .zip(&pages)
                .filter(|(pgno, page)| references.page(*pgno, 65536, hash(page)).is_none())
                .count()
        };
        for left in [16, 0] {
            let mut collector = Collector::new(folder.path(), References::open(&map));
            (1..).zip(&pages).for_each(|(pgno, page)| collector.page(pgno, page));
            collector.keep(&map, 48 * 65536);
            assert_eq!(missing(), left);
        }
    }
}
