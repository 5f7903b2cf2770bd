//! The database object that Python nodes read and write, fetched into a private file and checked on the way: free space,
//! size, checksum, SQLite's integrity, claude-mem's tables (F09). Touches nothing that is live.

use crate::database::{self, files, install};
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::install::image::{Image, Landing};
use crate::storage::{Bucket, Sink};
use crate::sum::Sum;

/// Fetches the database object, `announced` or not: a Python push that was cut off between the database and its checksum
/// left one that nobody announces (F21), good for asking which rows are in it, never for installing it.
///
/// # Errors
/// It is missing, does not match its checksum, is damaged, or does not fit on the disk.
pub async fn download(landing: &Landing<'_>, announced: Option<Sum>) -> CommandResult<Image> {
    let key = landing.bucket.keys.database();
    let meta = landing.bucket.store.head(&key).await?.ok_or_else(|| missing(landing.bucket, &key))?;
    let folder = landing.folder;
    let path = files::temporary(folder, "pull")?;
    files::require_space(folder, files::room_for(meta.size, files::size_with_wal(landing.database)))?;

    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(|error| database::DatabaseError::io("open", &path, error))?;
    let progress = landing.ui.progress("download", meta.size);
    let mut sink = Sink::new(file, meta.size.saturating_add(1), progress);
    failpoint::reach("fetch.download");
    landing.bucket.store.download(&key, &mut sink).await?.ok_or_else(|| missing(landing.bucket, &key))?;
    let written = sink.finish().await;
    let (size, sha256) = written.map_err(|error| database::DatabaseError::io("write", &path, error))?;
    if let Some(announced) = announced
        && sha256 != announced
    {
        return Err(Failure::of(Code::BadObject, format!(
            "{key} at {} has checksum {}, its announcement says {}: somebody is pushing, or a push was cut off",
            landing.bucket.store.name(),
            sha256.short(),
            announced.short()
        ))
        .hint("try again in a minute")
        .hint("when it stays so, push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"));
    }
    failpoint::reach("fetch.downloaded");
    let (checked, admits) = (path.to_path_buf(), landing.admits.clone());
    let facts = database::blocking(move || install::inspect(&checked, &admits)).await.map_err(|failure| {
        // Our temporary file says nothing to anybody, and what would mend a local file does not mend the bucket.
        let problem = failure.message.replace(&path.display().to_string(), &key);
        Failure::of(Code::BadObject, format!("the database in the bucket cannot be used: {problem}"))
            .hint("push again from a machine that has the memory: FORCE_PUSH=1 membridge push_sqlite")
    })?;
    failpoint::reach("fetch.inspected");
    Ok(Image { path, facts, size, sha256: Some(sha256), of_commit: false, map: None })
}

fn missing(bucket: &Bucket, key: &str) -> Failure {
    Failure::of(Code::BadObject, format!("{key} is not there, although {} announces it", bucket.store.name()))
        .hint("push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite")
}
