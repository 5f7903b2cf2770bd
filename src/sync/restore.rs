//! The story of a restore: an image of the history takes the place of the local database, exactly as a pull would do
//! it: fetched and checked, worker quiesced, backed up, replaced in one transaction, checked again. The bucket is not
//! touched; the next push makes the restored state its newest commit.

use std::path::{Path, PathBuf};

use super::exchange::{self, Heard};
use super::gate;
use super::record::RecordFile;
use super::session::Session;
use super::wish::Wish;
use crate::config::Config;
use crate::database::changes;
use crate::database::code::Admits;
use crate::database::facts::{self, Facts};
use crate::database::{self, DatabaseError, files, install as into, tables};
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::history::fetch::Fetch;
use crate::history::{Commit, fetch as history};
use crate::install::{Incoming, Steps, image};
use crate::outcome::Outcome;
use crate::rows::Tally;
use crate::sum::Sum;
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// Restores a commit into the live database.
///
/// # Errors
/// Whatever failed; the local database is then as it was.
pub async fn restore(session: &Session, record: &mut RecordFile, commit: &Commit) -> CommandResult<Report> {
    may_come_back(&session.config, commit, commit.schema_version).await?;
    let present = session.has_database();
    let of = if present { 6 } else { 3 };
    let only_over = if present { Some(in_the_log(session).await?) } else { None };
    let when = session.bucket.context.clock().when_said(&commit.time);
    session.ui.step(&format!("1/{of}"), format!("History: commit {}, made {when}", commit.number));
    let image = image::of_commit(&session.landing(session.admits().await?), commit, false).await?;
    session.ui.step(
        &format!("2/{of}"),
        format!("Fetched and checked: {} ({})", image.facts.counts.describe(), human_bytes(image.size)),
    );
    may_come_back(&session.config, commit, image.facts.schema_version).await?;
    let gone = agreed(session, &image.path).await?;
    let _critical = session.bucket.context.critical();
    let base = record.record.base.as_ref().map(|base| base.commit);
    let incoming = Incoming { image, only_over, base };
    let done = session.door(Steps { first: 3, of }).install(incoming).await?;
    failpoint::reach("restore.replaced");
    record.let_go(gone)?;
    // Where there was no database nobody was asked about rows that go: the log brings the newest.
    if present {
        exchange::restored(session).await?;
    } else {
        session.ui.step("3/3", format!("Installed: {}", session.database.display()));
    }
    session.ui.line(format!("RESTORE COMPLETE (commit {})", commit.number));
    session.ui.line("  → send it to the other machines with: membridge sync");
    let report = Report::ok(Outcome::Restored)
        .with("number", commit.number)
        .with("observations", commit.counts.observations)
        .with("sha256", commit.sha256.to_string());
    Ok(match done.backup {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    })
}

/// Sends what was recorded here before any of it is replaced; the content digest of what is in the log then. Rows go out
/// twice: what is recorded while the digest is taken is not in it, and has to be in the log all the same.
///
/// # Errors
/// The store is not the one that this machine knows; whatever an exchange meets.
pub(super) async fn in_the_log(session: &Session) -> CommandResult<Sum> {
    let nodes = gate::store_is_known(session).await?;
    let mut rows = exchange::open(session).await?;
    let heard = Heard { nodes: Some(nodes), ..Heard::default() };
    exchange::rows(session, &mut rows, Wish::Whole, (heard, true), |_| {}).await?;
    let digest = session.read_local().await?.facts.digest;
    exchange::rows(session, &mut rows, Wish::Whole, (Heard::default(), false), |_| {}).await?;
    Ok(digest)
}

/// Asks before memory goes: what an earlier state lacks is deleted on every machine by the next sync. How many observations
/// that are.
///
/// # Errors
/// The person does not want it, or cannot be asked.
pub(super) async fn agreed(session: &Session, image: &Path) -> CommandResult<u64> {
    if session.add_only || !session.has_database() {
        return Ok(0);
    }
    let (live, image, tmp) = (session.database.clone(), image.to_owned(), session.config.paths.tmp());
    let changes = database::blocking(move || {
        let scratch = files::temporary(&tmp, "diff")?;
        changes::between(&live, &image, &scratch, 0)
    })
    .await?;
    let (mut back, mut gone) = (Tally::default(), Tally::default());
    for change in &changes {
        back.add_many(&change.table, change.added);
        gone.add_many(&change.table, change.removed);
    }
    if gone.total() == 0 {
        return Ok(0);
    }
    let brings =
        if back.total() == 0 { String::new() } else { format!("; it brings {} back", back.describe()) };
    let what =
        format!("this removes {} here, and by the next sync on every machine{brings}", gone.describe());
    if session.yes {
        session.ui.line(what);
        return Ok(gone.observations());
    }
    match session.ui.confirm(&format!("{what}. Go on?")) {
        Some(true) => Ok(gone.observations()),
        Some(false) => {
            Err(Failure::of(Code::Refused, "not restored: the answer was no; nothing was changed"))
        }
        None => Err(Failure::of(Code::Refused, format!("not restored: {what}, and nobody can be asked"))
            .hint("when that is meant: the same command with --yes")
            .hint("to bring rows back and remove none: the same command with --add-only")),
    }
}

/// The full name of a file that is to be written: one that is not there, in a folder that is.
///
/// # Errors
/// Something is there already; there is no such folder.
pub fn free_name(file: &Path) -> CommandResult<PathBuf> {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::of(Code::AlreadyThere, format!("{} is there already", file.display()))
            .hint("name a file that is not there; a live database is restored without --to"));
    }
    let file = std::path::absolute(file).map_err(|error| DatabaseError::io("find", file, error))?;
    let folder = into::folder_of(&file);
    if !folder.is_dir() {
        return Err(Failure::of(Code::LocalFile, format!("there is no folder {}", folder.display())));
    }
    Ok(file)
}

/// Writes a commit's image into a new file, once it has proved to be whole; `fetch` works in the folder of that file.
///
/// # Errors
/// Whatever failed; no file of that name is then there, unless somebody else made one meanwhile.
pub async fn to_file(fetch: Fetch<'_>, commit: &Commit, file: &Path) -> CommandResult<Facts> {
    let fetched = history::image(fetch, commit, None).await?;
    let target = file.to_owned();
    let facts = database::blocking(move || {
        let facts = into::inspect(&fetched.path, &Admits::Any)?;
        files::sync_file(&fetched.path)?;
        (fetched.path.persist_noclobber(&target))
            .map_err(|error| DatabaseError::io("write", &target, error.error))?;
        files::sync_folder(&into::folder_of(&target))?;
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
    let here = schema_here(config).await?;
    gate::schema(schema, commit.claude_mem_version.as_deref(), version.as_deref(), here)
}

/// The schema version of the database that is here: how far its claude-mem had come when it last ran.
async fn schema_here(config: &Config) -> CommandResult<Option<i64>> {
    let path = config.database.clone();
    if !path.exists() {
        return Ok(None);
    }
    database::blocking(move || {
        let connection = database::open_read_only(&path)?;
        facts::schema_version(&connection, &tables::tables(&connection, &path)?, &path)
    })
    .await
}
