//! Brings an image back: downloads the packs of a commit's chain and applies them to a private file. What comes out has
//! the SHA-256 that the commit recorded, or nothing comes out. Touches nothing that is live.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::commit::{Commit, Link};
use super::pack::{self, Content, PackReader};
use super::pagemap::{FreshMap, MapWriter};
use super::pages::{self, Shape};
use super::references::Collector;
use super::{HistoryError, blocking};
use crate::database::{DatabaseError, files};
use crate::failpoint;
use crate::progress::Progress;
use crate::seal::{Opened, Sealed};
use crate::storage::{Bucket, Sink};
use crate::sum::Sum;

/// Images up to this size are nothing to worry about (bytes).
const SMALL: u64 = 128 << 20;
/// How many times its packs an image may be, beyond that: texts shrink to a fifth, and free pages vanish.
const GROWTH: u64 = 64;

/// An image with the checksum that its commit recorded.
#[derive(Debug)]
pub struct Fetched {
    /// The file; it vanishes with this.
    pub path: TempPath,
    /// Its checksum.
    pub sha256: Sum,
    /// Its page map, where one was wanted: to be kept once the image is installed.
    pub map: Option<FreshMap>,
    /// Bytes that were downloaded.
    pub downloaded: u64,
}

/// Where packs come from, where temporary files may be, and who watches.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Where the packs lie.
    pub bucket: &'a Bucket,
    /// Where the image goes: beside the database, so that it can be renamed into place.
    pub folder: &'a Path,
    /// Where packs and the page map go: our own temporary folder.
    pub scratch: &'a Path,
    /// Bytes of packs.
    pub progress: &'a Progress,
}

/// Downloads and applies the whole chain. `references`: a page map is wanted, and they collect what the delta of a later
/// push could need of the image.
///
/// # Errors
/// The store's; a chain that does not result in the image; no space.
pub async fn image(
    fetch: Fetch<'_>,
    commit: &Commit,
    references: Option<Collector>,
) -> Result<Fetched, HistoryError> {
    refuse_a_bomb(commit)?;
    on_top(fetch, commit, &commit.chain, None, references).await
}

/// Fetches an image to look at, on top of that of an earlier commit where deltas lead from there.
///
/// # Errors
/// As [`image`].
pub async fn after(
    fetch: Fetch<'_>,
    commit: &Commit,
    before: Option<&Fetched>,
) -> Result<Fetched, HistoryError> {
    refuse_a_bomb(commit)?;
    if let Some(before) = before
        && let Some(links) = commit.links_after(before.sha256)
    {
        match on_top(fetch, commit, links, Some(before), None).await {
            // A delta that does not fit is no reason to give up: the whole chain decides.
            Err(error) if error.is_damage() => tracing::info!(%error, "the delta did not fit"),
            end => return end,
        }
    }
    on_top(fetch, commit, &commit.chain, None, None).await
}

/// Applies packs in their order, to a copy of the image `before` or to nothing.
async fn on_top(
    fetch: Fetch<'_>,
    commit: &Commit,
    links: &[Link],
    before: Option<&Fetched>,
    references: Option<Collector>,
) -> Result<Fetched, HistoryError> {
    let (folder, needed) = (fetch.folder.to_owned(), commit.image_bytes());
    let ground = before.map(|before| before.path.to_path_buf());
    let mut path = blocking(move || {
        let path = files::temporary(&folder, "image")?;
        files::require_space(&folder, needed)?;
        if let Some(ground) = ground {
            std::fs::copy(&ground, &path).map_err(|error| DatabaseError::io("copy", &ground, error))?;
        }
        Ok(path)
    })
    .await?;
    let (mut parent, mut downloaded) = (before.map(|before| before.sha256), 0);
    for link in links {
        let packed = download(fetch, commit, link).await?;
        downloaded += link.size;
        failpoint::reach("history.pack-fetched");
        let (wanted, page_size) = (link.clone(), commit.page_size);
        path = blocking(move || {
            apply_one(packed, &wanted, parent, page_size, &path)?;
            Ok(path)
        })
        .await?;
        parent = Some(link.image);
    }
    fetch.progress.done();
    let map = verify(fetch, path.to_path_buf(), commit, references).await?;
    Ok(Fetched { path, sha256: commit.sha256, map, downloaded })
}

/// A few bytes in the bucket must not cost a board its disk.
fn refuse_a_bomb(commit: &Commit) -> Result<(), HistoryError> {
    let (image, packs) = (commit.image_bytes(), commit.chain_bytes());
    if image <= SMALL || image <= packs.saturating_mul(GROWTH) {
        return Ok(());
    }
    Err(HistoryError::Content {
        what: format!("the image of commit {}", commit.number),
        problem: format!("{packs} bytes of packs would grow to {image}"),
    })
}

/// Downloads one pack of a commit's chain, compares its size and checksum, and opens it where it is sealed.
pub(super) async fn download(
    fetch: Fetch<'_>,
    commit: &Commit,
    link: &Link,
) -> Result<Opened<File>, HistoryError> {
    let key = fetch.bucket.keys.pack(link.pack);
    files::require_space(fetch.scratch, link.size)?;
    let path = files::temporary(fetch.scratch, "pack")?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(|error| DatabaseError::io("write", &path, error))?;
    let mut sink = Sink::new(file, link.size, fetch.progress.clone());
    if fetch.bucket.store.download(&key, &mut sink).await?.is_none() {
        return Err(HistoryError::Gone { key, wanted_by: format!("commit {}", commit.number) });
    }
    let (size, sha256) = sink.finish().await.map_err(|error| DatabaseError::io("write", &path, error))?;
    if size != link.size || sha256 != link.pack {
        return Err(HistoryError::Content {
            what: format!("{key} at {}", fetch.bucket.store.name()),
            problem: format!("its sha256 is {sha256}, its size {size}"),
        });
    }
    let (scratch, place) = (fetch.scratch.to_owned(), commit.place_of(link));
    let (seal, cid) = (fetch.bucket.seal.clone(), fetch.bucket.keys.project().to_owned());
    blocking(move || {
        let file = File::open(&path).map_err(|error| DatabaseError::io("read", &path, error))?;
        let into = || tempfile::tempfile_in(&scratch);
        let opened = seal.open_file(Sealed::from_bucket(file), sha256, &cid, place, into);
        opened.map_err(|error| HistoryError::Sealed { what: key, error })
    })
    .await
}

/// Applies one downloaded pack to the file of its parent's image.
pub(super) fn apply_one(
    packed: Opened<File>,
    link: &Link,
    parent: Option<Sum>,
    page_size: u32,
    image: &Path,
) -> Result<(), HistoryError> {
    let broken = |error| HistoryError::Pack { what: format!("pack {}", link.pack), error };
    let out_of_place = |problem: &str| HistoryError::Content {
        what: format!("pack {}", link.pack),
        problem: problem.to_owned(),
    };
    let mut pack = PackReader::open(packed.into_inner()).map_err(broken)?;
    let header = pack.header;
    let fits = match (header.content, parent) {
        (Content::Full, None) => true,
        (Content::Delta(of), Some(parent)) => of == parent,
        _ => false,
    };
    if !fits {
        return Err(out_of_place("it does not follow the pack before it"));
    }
    if header.page_size != page_size {
        return Err(out_of_place("its pages have another size than the commit's"));
    }
    if pack.image != link.image {
        return Err(out_of_place("it does not result in the image of its commit"));
    }
    // What a small pack can blow itself up to is bounded by the disk.
    let folder = image.parent().unwrap_or(Path::new("/"));
    let there = std::fs::metadata(image).map_or(0, |meta| meta.len());
    let grows = (u64::from(header.page_size) * u64::from(header.page_count)).saturating_sub(there);
    files::require_space(folder, grows)?;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .map_err(|error| DatabaseError::io("write", image, error))?;
    pack::apply(&mut pack, &file).map_err(broken)
}

/// Hashes the finished image, and makes its page map on the way where one is wanted.
async fn verify(
    fetch: Fetch<'_>,
    path: PathBuf,
    commit: &Commit,
    references: Option<Collector>,
) -> Result<Option<FreshMap>, HistoryError> {
    let (page_size, page_count) = (commit.page_size, commit.page_count);
    let (wanted, number) = (commit.sha256, commit.number);
    let scratch = fetch.scratch.to_owned();
    let (found, map) = blocking(move || {
        let Some(references) = references else {
            let sum = File::open(&path).and_then(Sum::of_all);
            return Ok((sum.map_err(|error| DatabaseError::io("read", &path, error))?, None));
        };
        let map = map_of(&path, page_size, page_count, MapWriter::create(&scratch, references)?)?;
        Ok((map.sha256, Some(map)))
    })
    .await?;
    if found == wanted {
        return Ok(map);
    }
    Err(HistoryError::Content {
        what: format!("the image of commit {number}"),
        problem: format!("its sha256 is {found} instead of {wanted}"),
    })
}

/// The page map of an image file.
fn map_of(
    path: &Path,
    page_size: u32,
    page_count: u32,
    mut writer: MapWriter,
) -> Result<FreshMap, HistoryError> {
    let fail = |error| DatabaseError::io("read", path, error);
    let mut file = File::open(path).map_err(fail)?;
    let mut page = vec![0; usize::try_from(page_size).unwrap_or(0)];
    let mut shape = Shape { page_size, page_count, cookie: 0 };
    if file.metadata().map_err(fail)?.len() != shape.bytes() {
        return Err(HistoryError::Content {
            what: "an image".to_owned(),
            problem: "it has another size than its commit says".to_owned(),
        });
    }
    for number in 0..page_count {
        file.read_exact(&mut page).map_err(fail)?;
        if number == 0 {
            shape.cookie = pages::cookie_of(&page);
        }
        writer.page(&page)?;
    }
    Ok(writer.finish(shape)?)
}

/// Syncs an image to the disk before it is installed or handed to a person.
///
/// # Errors
/// The disk's.
pub async fn sync(fetched: &Fetched) -> Result<(), HistoryError> {
    let path = fetched.path.to_path_buf();
    blocking(move || Ok(files::sync_file(&path)?)).await
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
pub(super) mod tests;
