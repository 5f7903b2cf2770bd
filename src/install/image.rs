//! An image on its way in: fetched into a private file and checked, before anything that is live is touched (F09).

use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::database::code::Admits;
use crate::database::{DatabaseError, Facts, files, install};
use crate::failpoint;
use crate::history::fetch::Fetch;
use crate::history::pagemap::FreshMap;
use crate::history::references::Collector;
use crate::history::{self, Commit, HistoryError};
use crate::storage::Bucket;
use crate::sum::Sum;
use crate::ui::Ui;

/// A checked image.
#[derive(Debug)]
pub struct Image {
    /// The file; it vanishes with this.
    pub path: TempPath,
    /// What is in it.
    pub facts: Facts,
    /// Bytes.
    pub size: u64,
    /// Of the commit's image or of the object that it came from; `None` where it came from neither.
    pub sha256: Option<Sum>,
    /// It is a commit's, whole: what is in it can be restored.
    pub of_commit: bool,
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
    /// The live database, beside which there has to be room.
    pub database: &'a Path,
    /// Which code it may bring along.
    pub admits: Admits,
}

impl Landing<'_> {
    fn require_room(&self, commit: &Commit) -> Result<(), DatabaseError> {
        let here = files::size_with_wal(self.database);
        files::require_space(self.folder, files::room_for(commit.image_bytes(), here))
    }
}

/// The image of a commit, by its whole chain. `newest`: a delta of the next push may be made against it.
///
/// # Errors
/// The store's; a chain that does not result in the image; a database that is damaged or not claude-mem's; no space.
pub async fn of_commit(landing: &Landing<'_>, commit: &Commit, newest: bool) -> Result<Image, HistoryError> {
    landing.require_room(commit)?;
    let progress = landing.ui.progress("download", commit.chain_bytes());
    let scratch = &landing.scratch;
    let fetch = Fetch { bucket: landing.bucket, folder: landing.folder, scratch, progress: &progress };
    let references = newest.then(|| Collector::new(scratch, None));
    failpoint::reach("fetch.download");
    let fetched = history::fetch::image(fetch, commit, references).await?;
    history::fetch::sync(&fetched).await?;
    failpoint::reach("fetch.downloaded");
    tracing::info!(bytes = fetched.downloaded, "image fetched");
    let facts = inspect(landing, &fetched.path, commit).await?;
    failpoint::reach("fetch.inspected");
    Ok(Image {
        path: fetched.path,
        facts,
        size: commit.image_bytes(),
        sha256: Some(commit.sha256),
        of_commit: true,
        map: fetched.map,
    })
}

/// Checks the image of a commit, and whether it holds what the commit says: decisions were made by that.
async fn inspect(landing: &Landing<'_>, path: &Path, commit: &Commit) -> Result<Facts, HistoryError> {
    let (image, admits) = (path.to_owned(), landing.admits.clone());
    let content = |problem: String| {
        // Our temporary file says nothing to anybody.
        let problem = problem.replace(&path.display().to_string(), "the file");
        HistoryError::Content { what: format!("the image of commit {}", commit.number), problem }
    };
    let facts = match history::blocking(move || Ok(install::inspect(&image, &admits)?)).await {
        Err(HistoryError::Database(
            error @ (DatabaseError::Damaged { .. }
            | DatabaseError::Excess { .. }
            | DatabaseError::MissingTables { .. }),
        )) => return Err(content(error.to_string())),
        other => other?,
    };
    match lie(&facts, commit) {
        None => Ok(facts),
        Some(lie) => Err(content(lie)),
    }
}

/// What a commit says of its image that is not so.
fn lie(facts: &Facts, commit: &Commit) -> Option<String> {
    let version = |version: Option<i64>| version.map_or("none".to_owned(), |version| version.to_string());
    if facts.counts != commit.counts {
        return Some(format!(
            "it holds {}, its commit says {}",
            facts.counts.describe(),
            commit.counts.describe()
        ));
    }
    if facts.schema_version != commit.schema_version {
        let (is, said) = (version(facts.schema_version), version(commit.schema_version));
        return Some(format!("its schema version is {is}, its commit says {said}"));
    }
    // Commits from before the row log name no vector, and their digests are made in another way.
    let same = commit.seen.is_empty() || facts.digest == commit.content_digest;
    (!same).then(|| "its rows have another digest than its commit says".to_owned())
}
