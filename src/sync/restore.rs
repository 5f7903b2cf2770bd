//! The story of a restore: an image of the history takes the place of the local database, exactly as a pull would do
//! it: fetched and checked, worker quiesced, backed up, replaced in one transaction, checked again. The bucket is not
//! touched; the next push makes the restored state its newest commit.

use std::path::{Path, PathBuf};

use super::exchange::{Exchange, Reason, Steps};
use super::fetch::Image;
use super::gate;
use super::hand_over::{hand_over, in_history, place};
use super::record::RecordFile;
use super::remote::Head;
use super::session::Session;
use crate::config::Config;
use crate::database::facts::Facts;
use crate::database::{self, DatabaseError, files, install};
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::fetch::Fetch;
use crate::history::{Commit, fetch as history};
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// Restores a commit into the live database.
///
/// # Errors
/// Whatever failed; the local database is then as it was.
pub async fn restore(session: &Session, record: &mut RecordFile, commit: &Commit) -> CommandResult<Report> {
    may_come_back(&session.config, commit, commit.schema_version).await?;
    let present = session.database.exists();
    let of = if present { 6 } else { 3 };
    session.ui.step(&format!("1/{of}"), format!("History: commit {} of {}", commit.number, commit.time));
    let image = image(session, commit).await?;
    session.ui.step(
        &format!("2/{of}"),
        format!("Fetched and checked: {} ({})", image.facts.counts.describe(), human_bytes(image.size)),
    );
    let head = Head::announced(commit.sha256.clone(), None);
    may_come_back(&session.config, commit, image.facts.schema_version).await?;
    let _critical = session.bucket.context.critical();
    let backup = if present {
        replace(session, record, &head, &image, Steps { first: 3, of }).await?
    } else {
        place(session, image.path).await?;
        session.ui.step("3/3", format!("Installed: {}", session.database.display()));
        None
    };
    session.ui.line(format!("RESTORE COMPLETE (commit {})", commit.number));
    session.ui.line("  → send it to the other machines with: membridge push_sqlite");
    let report = Report::ok("restored")
        .with("number", commit.number)
        .with("observations", commit.counts.observations)
        .with("sha256", commit.sha256.clone());
    Ok(match backup {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    })
}

/// The full name of a file that is to be written: one that is not there, in a folder that is.
///
/// # Errors
/// Something is there already; there is no such folder.
pub fn free_name(file: &Path) -> CommandResult<PathBuf> {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} is there already", file.display()))
            .hint("name a file that is not there; a live database is restored without --to"));
    }
    let file = std::path::absolute(file).map_err(|error| DatabaseError::io("find", file, error))?;
    let folder = install::folder_of(&file);
    if !folder.is_dir() {
        return Err(Failure::new(format!("there is no folder {}", folder.display())));
    }
    Ok(file)
}

/// Writes a commit's image into a new file, once it has proved to be whole; `fetch` works in the folder of that file.
///
/// # Errors
/// Whatever failed; no file of that name is then there, unless somebody else made one meanwhile.
pub async fn to_file(fetch: Fetch<'_>, commit: &Commit, file: &Path) -> CommandResult<Facts> {
    let fetched = history::whole(fetch, commit).await?;
    let target = file.to_owned();
    let facts = database::blocking(move || {
        let facts = install::inspect(&fetched.path)?;
        files::sync_file(&fetched.path)?;
        (fetched.path.persist_noclobber(&target))
            .map_err(|error| DatabaseError::io("write", &target, error.error))?;
        files::sync_folder(&install::folder_of(&target))?;
        Ok(facts)
    })
    .await?;
    Ok(facts)
}

/// Whether this machine may take a commit back: its claude-mem must know the schema that the commit has.
///
/// # Errors
/// Built-in Cloud Sync is on, or the schema is newer than what the local claude-mem knows.
pub async fn may_come_back(config: &Config, commit: &Commit, schema: Option<i64>) -> CommandResult {
    gate::store_is_ours_to_sync(&Site::of(config))?;
    let version = worker::local_version(config, &worker::probe(config).await);
    gate::schema(schema, commit.claude_mem_version.as_deref(), version.as_deref(), None)
}

/// The commit's image beside the live database, whole and claude-mem's.
async fn image(session: &Session, commit: &Commit) -> CommandResult<Image> {
    let folder = install::folder_of(&session.database);
    let scratch = session.config.paths.tmp();
    let progress = session.ui.progress("download", commit.chain_bytes());
    let fetch = Fetch { bucket: &session.bucket, folder: &folder, scratch: &scratch, progress: &progress };
    let fetched = history::whole(fetch, commit).await?;
    history::sync(&fetched).await?;
    failpoint::reach("restore.fetched");
    let path = fetched.path.to_path_buf();
    let facts = database::blocking(move || install::inspect(&path)).await?;
    Ok(Image {
        path: fetched.path,
        facts,
        size: commit.image_bytes(),
        sha256: commit.sha256.clone(),
        // Not the head's: a delta of the next push is made against the head.
        map: None,
    })
}

async fn replace(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: &Image,
    steps: Steps,
) -> CommandResult<Option<PathBuf>> {
    // What both sides agreed on stays so: the restored rows are a change of ours.
    let (base, pending) = (record.record.base.clone(), record.record.pending.clone());
    let exchange = Exchange {
        image,
        remote_sha256: &head.sha256,
        only_over: None,
        reason: Reason::Restore,
        in_history: in_history(session, record).await,
        steps,
    };
    let done = hand_over(session, record, &exchange).await?;
    failpoint::reach("restore.replaced");
    record.record.base = base.map(|base| super::record::Base { fingerprint: None, ..base });
    record.record.pending = pending;
    record.save()?;
    Ok(done.backup)
}
