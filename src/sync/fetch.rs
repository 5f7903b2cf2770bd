//! Fetches the database of the bucket into a private file where the session says, checked on the way: free space,
//! size, checksum, SQLite's integrity, claude-mem's tables (F09). Touches nothing that is live.

use tempfile::TempPath;

use super::remote::Head;
use super::session::Session;
use crate::database::{self, Facts, files, install, snapshot};
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::fetch::{Base, Fetch};
use crate::history::pagemap::{FreshMap, PageMap};
use crate::history::{self, Commit, HistoryError};
use crate::storage::Sink;

/// A checked image of what the bucket holds.
#[derive(Debug)]
pub struct Image {
    /// The file; it vanishes with this.
    pub path: TempPath,
    /// What is in it.
    pub facts: Facts,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the commit's image or of the object that it came from.
    pub sha256: String,
    /// The page map of a commit's image, to be kept once it is installed.
    pub map: Option<FreshMap>,
}

/// Fetches and checks the database that is the bucket's head.
///
/// # Errors
/// It is missing, does not match its checksum, is damaged, or does not fit on the disk.
pub async fn image(session: &Session, head: &Head) -> CommandResult<Image> {
    if head.sha256.is_empty() {
        return Err(unannounced(session));
    }
    let Some(commit) = head.head_commit() else {
        return download(session, Some(&head.sha256)).await;
    };
    match of_commit(session, commit).await {
        Ok(image) => Ok(image),
        // The mirror for Python nodes is another copy of the same rows.
        Err(error) if error.is_damage() && head.mirrored => {
            session.ui.warn(format!("{error}; the copy for Python nodes is used instead"));
            let copy = download(session, head.announced.as_deref()).await?;
            Ok(Image { sha256: head.sha256.clone(), ..copy })
        }
        Err(error) => Err(error.into()),
    }
}

/// Fetches whatever whole database is the head, announced or not: a Python push that was cut off between the database
/// and its checksum left one (F21). Good for asking which rows are in it, never for installing it.
///
/// # Errors
/// As [`image`], without the checksum of a Python node.
pub async fn whatever_is_there(session: &Session, head: Option<&Head>) -> CommandResult<Image> {
    match head {
        Some(head) if head.is_commit => image(session, head).await,
        _ => download(session, None).await,
    }
}

/// By delta onto the local database where that leads to it, else by the commit's whole chain.
async fn of_commit(session: &Session, commit: &Commit) -> Result<Image, HistoryError> {
    let folder = session.landing.clone();
    let scratch = session.config.paths.tmp();
    let (database, page_map) = (session.database.clone(), session.page_map.clone());
    let copies = scratch.clone();
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
    let progress = session.ui.progress("download", commit.chain_bytes());
    let fetch = Fetch { bucket: &session.bucket, folder: &folder, scratch: &scratch, progress: &progress };
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

async fn download(session: &Session, announced: Option<&str>) -> CommandResult<Image> {
    let key = session.bucket.keys.database();
    let meta = session.bucket.store.head(&key).await?.ok_or_else(|| missing(session, &key))?;
    let folder = &session.landing;
    let path = files::temporary(folder, "pull")?;
    // The image, once more as a write-ahead log while it is installed, and the backup of what is here.
    let needed = meta.size.saturating_mul(2).saturating_add(files::size_with_wal(&session.database));
    files::require_space(folder, needed)?;

    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(|error| database::DatabaseError::io("open", &path, error))?;
    let progress = session.ui.progress("download", meta.size);
    let mut sink = Sink::new(file, meta.size.saturating_add(1), progress);
    failpoint::reach("fetch.download");
    session.bucket.store.download(&key, &mut sink).await?.ok_or_else(|| missing(session, &key))?;
    let written = sink.finish().await;
    let (size, sha256) = written.map_err(|error| database::DatabaseError::io("write", &path, error))?;
    if let Some(announced) = announced
        && sha256 != announced
    {
        return Err(Failure::new(format!(
            "{key} at {} has checksum {}, its announcement says {}: somebody is pushing, or a push was cut off",
            session.bucket.store.name(),
            short(&sha256),
            short(announced)
        ))
        .hint("try again in a minute")
        .hint("when it stays so, push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"));
    }
    failpoint::reach("fetch.downloaded");
    let checked = path.to_path_buf();
    let facts = database::blocking(move || install::inspect(&checked)).await.map_err(|failure| {
        // Our temporary file says nothing to anybody, and what would mend a local file does not mend the bucket.
        let problem = failure.message.replace(&path.display().to_string(), &key);
        Failure::new(format!("the database in the bucket cannot be used: {problem}"))
            .hint("push again from a machine that has the memory: FORCE_PUSH=1 membridge push_sqlite")
    })?;
    failpoint::reach("fetch.inspected");
    Ok(Image { path, facts, size, sha256, map: None })
}

fn unannounced(session: &Session) -> Failure {
    Failure::new(format!(
        "{} is at {}, but nothing announces it: somebody is pushing, or the push of a Python node was cut off",
        session.bucket.keys.database(),
        session.bucket.store.name()
    ))
    .hint("try again in a minute; when it stays so, push again from the machine that pushed it")
}

fn missing(session: &Session, key: &str) -> Failure {
    Failure::new(format!("{key} is not there, although {} announces it", session.bucket.store.name()))
        .hint("push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite")
}

/// The first digits of a checksum, as people compare them.
pub fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
