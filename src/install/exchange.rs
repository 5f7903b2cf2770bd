//! A database changes hands: quiesce the worker, back up and replace under one write lock, check, let the worker go on —
//! or put the old database back (`way_back`).

use std::path::{Path, PathBuf};

use super::backups::{self, Backup};
use super::door::{Door, Incoming, Installed};
use super::proof;
use super::way_back::roll_back;
use crate::amount::count;
use crate::database::install::{self, Swapped};
use crate::database::{self, Facts, files};
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::sum::Sum;
use crate::worker::{self, Quiesced, WorkerError};

/// Stops the worker, backs up, replaces, checks, lets the worker go on. On any failure the old database is there.
pub(super) async fn exchange(door: &Door<'_>, incoming: Incoming) -> CommandResult<Installed> {
    let in_history = match incoming.base {
        Some(number) => proof::restorable(door, number).await,
        None => None,
    };
    let quiesced = worker::quiesce(door.config, &door.bucket.context).await?;
    let said = if quiesced.was_running.is_some() { "Worker: stopped" } else { "Worker: not running" };
    door.ui.step(&door.steps.label(0), said);
    failpoint::reach("pull.quiesced");
    let (backup, swapped) = match back_up_and_replace(door, &incoming, in_history).await {
        Ok(done) => done,
        Err(failure) => {
            // Nothing was changed; the worker goes on as before.
            resume(door, quiesced).await;
            return Err(failure);
        }
    };
    conclude(door, &incoming, quiesced, backup, swapped).await
}

/// The new database is written: check it, let the worker go on, keep or remove the backup.
async fn conclude(
    door: &Door<'_>,
    incoming: &Incoming,
    quiesced: Quiesced,
    backup: PathBuf,
    swapped: Swapped,
) -> CommandResult<Installed> {
    if swapped.queue_left > 0 {
        let left = count(swapped.queue_left, "queued event", "queued events");
        door.ui.warn(format!("{left} of unknown sessions: in the backup only"));
    }
    vectors(door, &backup);
    failpoint::reach("pull.replaced");
    let facts = match check(door, incoming).await {
        Ok(facts) => facts,
        Err(failure) => {
            let failure = roll_back(door, incoming, &backup, failure).await;
            resume(door, quiesced).await;
            return Err(failure);
        }
    };
    let trouble = let_go_on(door, incoming, quiesced, &backup).await?;
    failpoint::reach("pull.resumed");
    let folder = install::folder_of(&backup);
    let image = incoming.image.of_commit.then_some(&*incoming.image.path);
    proof::forget(door, image, &folder).await;
    Ok(Installed { backup: Some(backup), counts: facts.counts, trouble })
}

/// The vector index knows rows by their ids in the database that was replaced (F17).
fn vectors(door: &Door<'_>, backup: &Path) {
    let folder = install::folder_of(backup).join("vectors");
    if door.reset_vectors {
        match worker::reset_vectors(door.config, &folder) {
            Ok(moved) if moved.is_empty() => door.ui.line("      vector index: there is none"),
            Ok(_) => door.ui.line(format!(
                "      vector index: moved to {}; claude-mem builds a new one",
                folder.display()
            )),
            Err(error) => door.ui.warn(format!("the vector index could not be moved away: {error}")),
        }
    } else if !worker::vector_stores(door.config).is_empty() {
        door.ui.warn(
            "the vector index belongs to the rows that were replaced: semantic search may find others until it is \
             rebuilt; next time: --reset-vectors",
        );
    }
}

/// Backs up and replaces, under one write lock.
async fn back_up_and_replace(
    door: &Door<'_>,
    incoming: &Incoming,
    in_history: Option<Sum>,
) -> CommandResult<(PathBuf, Swapped)> {
    let image = &incoming.image;
    failpoint::reach("pull.before-swap");
    let backup = Backup::begin(&door.config.paths.pull_backups(), door.bucket.context.now())?;
    let copy = backup.begin_database()?;
    let target = backup.folder.join(backups::DATABASE);
    let (live, new) = (door.database.to_owned(), image.path.to_path_buf());
    let progress = door.ui.progress("replace", image.size);
    let mut manifest = door.manifest(incoming);
    let (only_over, folder) = (incoming.only_over, backup.folder.clone());
    let vectors = door.config.paths.home.join(".claude-mem/vector-db/chroma.sqlite3");
    let swapped = database::blocking(move || {
        let unfinished = copy.to_path_buf();
        let approve = |old: &Facts| {
            let backup = Backup { folder };
            manifest.local_ahead = in_history != Some(old.digest);
            backup.add_vectors(&vectors);
            backup.finish(copy, &mut manifest, old.counts.observations)?;
            Ok(only_over.is_none_or(|digest| digest == old.digest))
        };
        let swapped = install::swap(&live, &new, &unfinished, approve, &progress);
        progress.done();
        swapped
    })
    .await;
    let failure = match swapped {
        Ok(swapped) if swapped.replaced => {
            let (old, new) = (swapped.old.counts.describe(), image.facts.counts.describe());
            door.ui.step(&door.steps.label(1), format!("Backup: {} ({old})", target.display()));
            door.ui.step(&door.steps.label(2), format!("Replaced: {new}"));
            return Ok((target, swapped));
        }
        Ok(_) => {
            Failure::of(Code::Changed, "new memories were recorded here meanwhile; nothing was replaced")
                .hint("type the same command again: it sends them first")
        }
        Err(failure) => failure,
    };
    backup.discard();
    Err(failure)
}

/// Looks whether what is in place is good (F09).
async fn check(door: &Door<'_>, incoming: &Incoming) -> CommandResult<Facts> {
    let image = &incoming.image;
    let (live, new, wanted) = (door.database.to_owned(), image.path.to_path_buf(), image.facts.clone());
    let folder = door.config.paths.tmp();
    database::blocking(move || {
        failpoint::reach("pull.check");
        let scratch = files::temporary(&folder, "check")?;
        install::check(&live, &new, &wanted, &scratch)
    })
    .await
}

/// Starts the worker again. One that runs and does not get ready cannot live with the new database: the old one comes
/// back, and what was recorded meanwhile goes into a backup. One that cannot even be started says nothing about the
/// database; that is returned as trouble.
async fn let_go_on(
    door: &Door<'_>,
    incoming: &Incoming,
    quiesced: Quiesced,
    backup: &Path,
) -> CommandResult<Option<String>> {
    let step = door.steps.label(3);
    match quiesced.resume(!door.config.worker.leave_stopped).await {
        Ok(resumed) => {
            let said = if resumed.restarted { "Worker: running again" } else { "Checked: it is whole" };
            door.ui.step(&step, said);
            Ok(None)
        }
        Err(error @ WorkerError::NotReady { .. }) => {
            let again = worker::quiesce(door.config, &door.bucket.context).await;
            let failure = roll_back(door, incoming, backup, error.into()).await;
            if let Ok(quiesced) = again {
                resume(door, quiesced).await;
            }
            Err(failure)
        }
        Err(error) => {
            let said = format!("{error}: {}", error.hint());
            door.ui.warn(&said);
            Ok(Some(said))
        }
    }
}

/// Lets the worker go on after a failure; its own trouble is only reported.
async fn resume(door: &Door<'_>, quiesced: Quiesced) {
    if let Err(error) = quiesced.resume(!door.config.worker.leave_stopped).await {
        door.ui.warn(format!("{error}: {}", error.hint()));
    }
}
