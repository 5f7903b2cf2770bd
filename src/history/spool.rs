//! Makes a pack of a pinned database in one pass: image checksum, page hashes, and the pages that the parent's image
//! does not have. A delta writes its changed pages, compressed, and the new page map to the disk; no copy of the image.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::TempPath;

use super::HistoryError;
use super::pack::{Content, Header, Kind, PackWriter};
use super::pagemap::{FreshMap, MapWriter, PageMap};
use super::pages::{self, Shape};
use super::references::Collector;
use crate::database::snapshot::Pinned;
use crate::database::{DatabaseError, files};
use crate::progress::Progress;
use crate::seal::{Place, Sealing, Writing};
use crate::storage::{Digests, Tee};
use crate::sum::Sum;

/// A pack in a private temporary file, sealed where the project is, and what it is a pack of.
#[derive(Debug)]
pub struct Spooled {
    /// The pack; it vanishes with this.
    pub path: TempPath,
    /// Its size and digests.
    pub digests: Digests,
    /// All pages, or those that the parent's image lacks.
    pub kind: Kind,
    /// Pages in the pack.
    pub pages: u32,
    /// What the image looks like.
    pub shape: Shape,
    /// SHA-256 of the image.
    pub sha256: Sum,
    /// The image's page map, to be kept once the image is a commit.
    pub map: FreshMap,
}

/// How a pass ended.
enum Pass {
    Done(Box<Spooled>),
    /// A delta that would hold more than half of the pages, or whose parent map broke.
    TakeAll,
}

/// Makes a pack of the pinned database: of the pages that differ from the image of `parent`, or of all where there is
/// no parent, where its pages have another size, or where more than half of the pages changed.
///
/// # Errors
/// SQLite's and the disk's.
pub fn spool(
    pinned: &Pinned,
    parent: Option<PageMap>,
    folder: &Path,
    progress: &Progress,
    mut sealing: Sealing,
) -> Result<Spooled, HistoryError> {
    let (page_size, page_count) = pages::size(pinned)?;
    let parent = parent.filter(|map| map.shape.page_size == page_size);
    if let Some(map) = parent
        && let Pass::Done(spooled) =
            pass(pinned, Some(map), (page_size, page_count), folder, progress, &mut sealing)?
    {
        return Ok(*spooled);
    }
    files::require_space(folder, u64::from(page_size) * u64::from(page_count))?;
    match pass(pinned, None, (page_size, page_count), folder, progress, &mut sealing)? {
        Pass::Done(spooled) => Ok(*spooled),
        Pass::TakeAll => Err(HistoryError::Content {
            what: pinned.path().display().to_string(),
            problem: "a full pack cannot be too large a delta".to_owned(),
        }),
    }
}

fn pass(
    pinned: &Pinned,
    mut parent: Option<PageMap>,
    (page_size, page_count): (u32, u32),
    folder: &Path,
    progress: &Progress,
    sealing: &mut Sealing,
) -> Result<Pass, HistoryError> {
    let kind = if parent.is_some() { Kind::Delta } else { Kind::Full };
    let content = match &parent {
        None => Content::Full,
        Some(map) => Content::Delta(map.sha256),
    };
    let path = files::temporary(folder, "pack")?;
    let fail = |error| HistoryError::from(DatabaseError::io("write", &path, error));
    let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(fail)?;
    let header = Header { content, page_size, page_count };
    let place = match content {
        Content::Full => Place::Pack { parent: None },
        Content::Delta(parent) => Place::Pack { parent: Some(parent) },
    };
    let file = Tee::new(BufWriter::with_capacity(64 * 1024, file));
    let file = sealing.writer(file, place).map_err(fail)?;
    let mut pack = PackWriter::new(file, header).map_err(fail)?;
    let references = parent.as_mut().and_then(|parent| parent.references.take());
    let mut map = MapWriter::create(folder, Collector::new(folder, references))?;
    let mut gave_up = false;
    progress.set(0);
    let shape = pages::for_each(pinned, None, |pgno, page| -> Result<(), HistoryError> {
        if gave_up {
            return Ok(());
        }
        let hash = map.page(page)?;
        let known = match &mut parent {
            None => None,
            Some(parent) => match parent.next_hash() {
                Ok(known) => known,
                Err(error) => {
                    tracing::debug!(%error, "the page map broke: all pages are taken");
                    gave_up = true;
                    return Ok(());
                }
            },
        };
        if known != Some(hash) {
            let before = known.and_then(|known| map.before(pgno, page_size, known));
            pack.page(pgno, page, before.as_deref()).map_err(fail)?;
        }
        if kind == Kind::Delta && pack.records() > page_count / 2 && page_count > 64 {
            gave_up = true;
        }
        progress.add(u64::from(page_size));
        Ok(())
    })?;
    if gave_up {
        return Ok(Pass::TakeAll);
    }
    let map = map.finish(shape)?;
    let pages = pack.records();
    let file = pack.finish(map.sha256).and_then(Writing::finish).map_err(fail)?;
    let (file, digests) = file.finish();
    flush(file).map_err(fail)?;
    progress.done();
    Ok(Pass::Done(Box::new(Spooled { path, digests, kind, pages, shape, sha256: map.sha256, map })))
}

/// The pack is read once more, by the upload, and then thrown away: it need not survive a power cut.
fn flush(mut file: BufWriter<File>) -> std::io::Result<()> {
    file.flush()
}

#[cfg(test)]
#[path = "spool_tests.rs"]
pub(super) mod tests;
