//! An image on its way in: fetched into a private file and checked, before anything that is live is touched (F09).

use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::database::{Facts, install, snapshot};
use crate::failpoint;
use crate::history::fetch::{Base, Fetch};
use crate::history::pagemap::{FreshMap, PageMap};
use crate::history::{self, Commit, HistoryError};
use crate::storage::Bucket;
use crate::ui::{Progress, Ui};

/// A checked image.
#[derive(Debug)]
pub struct Image {
    /// The file; it vanishes with this.
    pub path: TempPath,
    /// What is in it.
    pub facts: Facts,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the commit's image or of the object that it came from; empty where it came from neither.
    pub sha256: String,
    /// The page map of a commit's image, to be kept once it is installed.
    pub map: Option<FreshMap>,
}

/// Where an image comes down.
#[derive(Clone)]
pub struct Landing<'a> {
    /// The project's place in the store.
    pub bucket: &'a Bucket,
    /// The person.
    pub ui: &'a Ui,
    /// Where the image goes: beside the database that it may replace, or away from it for a mere look.
    pub folder: &'a Path,
    /// Where packs and page maps go on the way.
    pub scratch: PathBuf,
    /// The live database, whose pages may be a part of the image.
    pub database: &'a Path,
    /// The page map of the last image that was pushed or installed here.
    pub page_map: &'a Path,
}

impl<'a> Landing<'a> {
    fn fetch(&'a self, progress: &'a Progress) -> Fetch<'a> {
        Fetch { bucket: self.bucket, folder: self.folder, scratch: &self.scratch, progress }
    }
}

/// By delta onto the local database where that leads to it, else by the commit's whole chain.
///
/// # Errors
/// The store's; a chain that does not result in the image; a database that is damaged or not claude-mem's; no space.
pub async fn of_commit(landing: &Landing<'_>, commit: &Commit) -> Result<Image, HistoryError> {
    let (database, page_map) = (landing.database.to_owned(), landing.page_map.to_owned());
    let copies = landing.scratch.clone();
    let base = history::blocking(move || {
        let Some(map) = PageMap::open_any(&page_map) else {
            return Ok(None);
        };
        if !database.exists() {
            return Ok(None);
        }
        Ok(Some(Base { pinned: snapshot::Pinned::beside_writers(&database, &copies)?, map }))
    })
    .await?;
    let progress = landing.ui.progress("download", commit.chain_bytes());
    let fetch = landing.fetch(&progress);
    failpoint::reach("fetch.download");
    let fetched = history::fetch::image(fetch, commit, base).await?;
    history::fetch::sync(&fetched).await?;
    progress.done();
    failpoint::reach("fetch.downloaded");
    tracing::info!(bytes = fetched.downloaded, delta = fetched.by_delta, "image fetched");
    let path = fetched.path.to_path_buf();
    let facts = history::blocking(move || Ok(install::inspect(&path)?)).await?;
    failpoint::reach("fetch.inspected");
    Ok(Image {
        path: fetched.path,
        facts,
        size: commit.image_bytes(),
        sha256: commit.sha256.clone(),
        map: Some(fetched.map),
    })
}

/// An earlier commit's image, by its whole chain.
///
/// # Errors
/// As [`of_commit`].
pub async fn of_past(landing: &Landing<'_>, commit: &Commit) -> Result<Image, HistoryError> {
    let progress = landing.ui.progress("download", commit.chain_bytes());
    let fetched = history::fetch::whole(landing.fetch(&progress), commit).await?;
    history::fetch::sync(&fetched).await?;
    failpoint::reach("restore.fetched");
    let path = fetched.path.to_path_buf();
    let facts = history::blocking(move || Ok(install::inspect(&path)?)).await?;
    // Not the head's: a delta of the next push is made against the head.
    Ok(Image {
        path: fetched.path,
        facts,
        size: commit.image_bytes(),
        sha256: commit.sha256.clone(),
        map: None,
    })
}

/// The first digits of a checksum, as people compare them.
pub fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
