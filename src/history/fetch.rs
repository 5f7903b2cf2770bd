//! Brings an image back: downloads the packs of a commit's chain and applies them to a private file, on top of the
//! local database where its pages are still those of a commit in the chain. What comes out has the SHA-256 that the
//! commit recorded, or nothing comes out. Touches nothing that is live.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::commit::{Commit, Link};
use super::pack::{self, Content, PackReader};
use super::pagemap::{FreshMap, MapWriter, PageMap};
use super::pages::{self, Shape};
use super::references::{Collector, References};
use super::{HistoryError, blocking};
use crate::database::snapshot::Pinned;
use crate::database::{DatabaseError, files};
use crate::failpoint;
use crate::progress::Progress;
use crate::seal::{Opened, Sealed};
use crate::storage::{Bucket, Sink};
use crate::sum::Sum;

/// Pages of the local database that may differ from the base before its copy is not worth while. A worker's
/// housekeeping rewrites some; most of them are in the delta as well.
const DRIFT: usize = 1024;

/// Images up to this size are nothing to worry about (bytes).
const SMALL: u64 = 128 << 20;
/// How many times its packs an image may be, beyond that: texts shrink to a fifth, and free pages vanish.
const GROWTH: u64 = 64;

/// An image with the checksum that its commit recorded.
#[derive(Debug)]
pub struct Fetched {
    /// The file; it vanishes with this.
    pub path: TempPath,
    /// Its page map, to be kept once the image is installed.
    pub map: FreshMap,
    /// Bytes that were downloaded.
    pub downloaded: u64,
    /// Whether the local database was the ground it was built on.
    pub by_delta: bool,
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

/// The local database as the ground of a delta.
#[derive(Debug)]
pub struct Base {
    /// The database at one moment.
    pub pinned: Pinned,
    /// The pages of the commit that was last installed or pushed here.
    pub map: PageMap,
}

/// Fetches the image of a commit: by delta on top of `base` where that leads to it, else by its whole chain.
///
/// # Errors
/// The store's; a chain that does not result in the image; no space.
pub async fn image(fetch: Fetch<'_>, commit: &Commit, base: Option<Base>) -> Result<Fetched, HistoryError> {
    refuse_a_bomb(commit)?;
    if let Some(base) = base
        && let Some(links) = commit.links_after(base.map.sha256)
    {
        match by_delta(fetch, commit, base, links).await {
            Ok(Some(fetched)) => return Ok(fetched),
            Ok(None) => {}
            // A delta that does not fit here is no reason to give up: the whole chain decides.
            Err(error) if error.is_damage() => tracing::info!(%error, "the delta did not fit"),
            Err(error) => return Err(error),
        }
    }
    let references = Collector::new(fetch.scratch, None);
    by_chain(fetch, commit, references).await
}

/// Downloads and applies the whole chain. The image is for looking at: what a later delta could need is not collected.
///
/// # Errors
/// As [`image`].
pub async fn whole(fetch: Fetch<'_>, commit: &Commit) -> Result<Fetched, HistoryError> {
    refuse_a_bomb(commit)?;
    by_chain(fetch, commit, Collector::off()).await
}

/// Fetches an image to look at, on top of that of an earlier commit where a delta leads from there.
///
/// # Errors
/// As [`image`].
pub async fn after(
    fetch: Fetch<'_>,
    commit: &Commit,
    before: Option<&Fetched>,
) -> Result<Fetched, HistoryError> {
    let ground = before.and_then(|before| Some((before.path.to_path_buf(), before.map.read()?)));
    let base = match ground {
        None => None,
        Some((path, map)) => {
            let pinned = blocking(move || Ok(Pinned::new(&path)?)).await?;
            Some(Base { pinned, map })
        }
    };
    match base {
        Some(base) => image(fetch, commit, Some(base)).await,
        None => whole(fetch, commit).await,
    }
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

async fn by_chain(fetch: Fetch<'_>, commit: &Commit, references: Collector) -> Result<Fetched, HistoryError> {
    let folder = fetch.folder.to_owned();
    let needed = commit.image_bytes();
    let path = blocking(move || {
        let path = files::temporary(&folder, "image")?;
        files::require_space(&folder, needed)?;
        Ok(path)
    })
    .await?;
    let links: Vec<&Link> = commit.chain.iter().collect();
    let (path, _, downloaded) = apply_all(fetch, commit, &links, None, path, BTreeSet::new()).await?;
    let map = verify(fetch, path.to_path_buf(), commit, references).await?;
    Ok(Fetched { path, map, downloaded, by_delta: false })
}

/// `None` when the local database is too far from the base.
async fn by_delta(
    fetch: Fetch<'_>,
    commit: &Commit,
    base: Base,
    links: &[Link],
) -> Result<Option<Fetched>, HistoryError> {
    if base.map.shape.page_size != commit.page_size {
        return Ok(None);
    }
    let before = base.map.sha256;
    let (folder, needed) = (fetch.folder.to_owned(), commit.image_bytes());
    let copied = blocking(move || {
        let mut base = base;
        let references = base.map.references.take();
        files::require_space(&folder, needed.max(base.map.shape.bytes()))?;
        let copied = copy_base(base, references.as_ref(), &folder)?;
        Ok(copied.map(|(path, drifted)| (path, drifted, references)))
    })
    .await?;
    let Some((path, drifted, references)) = copied else {
        return Ok(None);
    };
    failpoint::reach("history.base-copied");
    let links: Vec<&Link> = links.iter().collect();
    let (path, drifted, downloaded) = apply_all(fetch, commit, &links, Some(before), path, drifted).await?;
    if drifted.iter().any(|pgno| *pgno <= commit.page_count) {
        tracing::info!(pages = drifted.len(), "pages changed here that the delta does not bring");
        return Ok(None);
    }
    let references = Collector::new(fetch.scratch, references);
    let map = verify(fetch, path.to_path_buf(), commit, references).await?;
    Ok(Some(Fetched { path, map, downloaded, by_delta: true }))
}

/// Copies the pinned pages into a private file, as long as they are those of the map or can be had from the references.
/// Returns the numbers of those that are not; `None` when there are too many.
fn copy_base(
    base: Base,
    references: Option<&References>,
    folder: &Path,
) -> Result<Option<(TempPath, BTreeSet<u32>)>, HistoryError> {
    let Base { pinned, mut map } = base;
    let (page_size, _) = pages::size(&pinned)?;
    if page_size != map.shape.page_size {
        return Ok(None);
    }
    let path = files::temporary(folder, "image")?;
    let fail = |error| HistoryError::from(DatabaseError::io("write", &path, error));
    let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(fail)?;
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    let mut drifted = BTreeSet::new();
    let shape = pages::for_each(&pinned, Some(map.shape.cookie), |pgno, page| {
        if drifted.len() > DRIFT {
            return Ok(());
        }
        // A map that cannot be read any more knows nothing.
        let known = map.next_hash().unwrap_or_default();
        if known == Some(pages::hash(page)) {
            return out.write_all(page).map_err(fail);
        }
        let agreed =
            references.zip(known).and_then(|(references, known)| references.page(pgno, page_size, known));
        if agreed.is_none() {
            drifted.insert(pgno);
        }
        out.write_all(agreed.as_deref().unwrap_or(page)).map_err(fail)
    })?;
    out.flush().map_err(fail)?;
    // Pages that the local database lost.
    let lost = shape.page_count.saturating_add(1)..=map.shape.page_count;
    drifted.extend(lost.take(DRIFT + 1));
    if drifted.len() > DRIFT {
        return Ok(None);
    }
    Ok(Some((path, drifted)))
}

/// Downloads and applies packs in their order. `before` is the image that the file holds.
async fn apply_all(
    fetch: Fetch<'_>,
    commit: &Commit,
    links: &[&Link],
    before: Option<Sum>,
    path: TempPath,
    drifted: BTreeSet<u32>,
) -> Result<(TempPath, BTreeSet<u32>, u64), HistoryError> {
    let (mut path, mut drifted, mut downloaded) = (path, drifted, 0_u64);
    let mut before = before;
    for link in links {
        let packed = download(fetch, commit, link).await?;
        downloaded += link.size;
        failpoint::reach("history.pack-fetched");
        let (wanted, page_size) = ((*link).clone(), commit.page_size);
        let parent = before.take();
        (path, drifted) = blocking(move || {
            apply_one(packed, &wanted, parent, page_size, &path, &mut drifted)?;
            Ok((path, drifted))
        })
        .await?;
        before = Some(link.image);
    }
    fetch.progress.done();
    Ok((path, drifted, downloaded))
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
    drifted: &mut BTreeSet<u32>,
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
    pack::apply(&mut pack, &file, drifted).map_err(broken)?;
    // A page that a smaller image does not have is nobody's any more.
    drifted.retain(|pgno| *pgno <= header.page_count);
    Ok(())
}

/// Hashes the finished image, and makes its page map on the way.
async fn verify(
    fetch: Fetch<'_>,
    path: PathBuf,
    commit: &Commit,
    references: Collector,
) -> Result<FreshMap, HistoryError> {
    let (page_size, page_count) = (commit.page_size, commit.page_count);
    let (wanted, number) = (commit.sha256, commit.number);
    let scratch = fetch.scratch.to_owned();
    let map =
        blocking(move || map_of(&path, page_size, page_count, MapWriter::create(&scratch, references)?))
            .await?;
    let found = map.sha256;
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
