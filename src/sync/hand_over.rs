//! A database changes hands: quiesce the worker, back up and replace under one write lock, check, let the worker go on —
//! or put the old database back (`roll_back`). It is told what to install and why.

use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::backups::{self, Backup, BackupManifest};
use super::exchange::{Exchange, HandedOver, Reason};
use super::fetch::Image;
use super::record::{Pending, RecordFile};
use super::roll_back::roll_back;
use super::session::Session;
use crate::database::install::{self, Swapped};
use crate::database::{self, DatabaseError, Facts, files};
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::log;
use crate::storage::{Digests, records};
use crate::worker::{self, Quiesced, WorkerError};

/// The content digest of the last synced state, where a commit that the bucket still holds has the same. An old
/// database with this digest is nowhere only here. Whatever cannot be found out counts as no.
pub(super) async fn in_history(session: &Session, record: &RecordFile) -> Option<String> {
    let base = record.record.base.as_ref()?;
    let commit = match log::get(&session.bucket, base.commit?).await {
        Ok(commit) => commit?,
        Err(error) => {
            tracing::debug!(%error, "the commit of the last sync cannot be read");
            return None;
        }
    };
    (commit.sha256 == base.sha256 && commit.content_digest == base.digest).then_some(commit.content_digest)
}

/// Puts a first database in place. What lies about of a lost one goes into a folder of its own each time.
pub(super) async fn place(session: &Session, image: TempPath) -> CommandResult {
    let live = session.database.clone();
    let orphans = session.config.paths.state.join("orphans");
    let aside = orphans.join(session.bucket.context.now().as_second().to_string());
    let kept = database::blocking(move || install::place(image, &live, &aside)).await?;
    if let Some(folder) = kept {
        session
            .ui
            .warn(format!("an old log without its database lay here; it is kept in {}", folder.display()));
    }
    Ok(())
}

/// Stops the worker, backs up, replaces, checks, lets the worker go on. On any failure the old database is there.
pub(super) async fn hand_over(
    session: &Session,
    record: &mut RecordFile,
    exchange: &Exchange<'_>,
) -> CommandResult<HandedOver> {
    let quiesced = worker::quiesce(&session.config, &session.bucket.context).await?;
    let restart = !session.config.worker.leave_stopped;
    session.ui.step(
        &exchange.steps.label(0),
        if quiesced.was_running.is_some() { "Worker: stopped" } else { "Worker: not running" },
    );
    failpoint::reach("pull.quiesced");
    let (backup, swapped) = match back_up_and_replace(session, record, exchange).await {
        Ok(done) => done,
        Err(failure) => {
            // Nothing was changed; the worker goes on as before.
            resume(session, quiesced, restart).await;
            return Err(failure);
        }
    };
    if swapped.queue_left > 0 {
        let left = swapped.queue_left;
        session.ui.warn(format!("{left} queued events of unknown sessions are in the backup only"));
    }
    vectors(session, exchange, &backup);
    failpoint::reach("pull.replaced");
    let facts = match check(session, exchange.image).await {
        Ok(facts) => facts,
        Err(failure) => {
            let failure = roll_back(session, exchange, &backup, failure).await;
            resume(session, quiesced, restart).await;
            return Err(failure);
        }
    };
    let trouble = let_go_on(session, quiesced, restart, exchange, &backup).await?;
    failpoint::reach("pull.resumed");
    let in_history = exchange.in_history.as_deref() == Some(swapped.old.digest.as_str());
    // Once everything has passed, a full copy of what the bucket holds is only a full disk.
    let needless = exchange.reason == Reason::FastForward
        && in_history
        && swapped.queue_left == 0
        && trouble.is_none()
        && !session.reset_vectors;
    let folder = install::folder_of(&backup);
    if needless {
        Backup { folder: folder.clone() }.discard();
        session.ui.line("      the backup is removed again: all of it is in the bucket's history too");
    }
    backups::retain(
        &session.config.paths.pull_backups(),
        session.config.backups,
        session.bucket.context.now(),
        &folder,
    );
    Ok(HandedOver {
        backup: (!needless).then_some(backup),
        local_ahead: exchange.reason.local_ahead(in_history),
        counts: facts.counts,
        trouble,
    })
}

/// The vector index knows rows by their ids in the database that was replaced (F17).
fn vectors(session: &Session, exchange: &Exchange<'_>, backup: &Path) {
    let folder = install::folder_of(backup).join("vectors");
    if session.reset_vectors {
        match worker::reset_vectors(&session.config, &folder) {
            Ok(moved) if moved.is_empty() => session.ui.line("      vector index: there is none"),
            Ok(_) => session.ui.line(format!(
                "      vector index: moved to {}; claude-mem builds a new one",
                folder.display()
            )),
            Err(error) => session.ui.warn(format!("the vector index could not be moved away: {error}")),
        }
    } else if exchange.reason != Reason::FastForward && !worker::vector_stores(&session.config).is_empty() {
        session.ui.warn(
            "the vector index belongs to the rows that were replaced: semantic search may find others until it is \
             rebuilt; next time: membridge pull_sqlite --reset-vectors",
        );
    }
}

/// Backs up and replaces, under one write lock.
async fn back_up_and_replace(
    session: &Session,
    record: &mut RecordFile,
    exchange: &Exchange<'_>,
) -> CommandResult<(PathBuf, Swapped)> {
    let image = exchange.image;
    record.begin(Pending::Pull)?;
    failpoint::reach("pull.before-swap");
    let backup = Backup::begin(&session.config.paths.pull_backups(), session.bucket.context.now())?;
    let copy = backup.begin_database()?;
    let target = backup.folder.join(backups::DATABASE);
    let (live, new) = (session.database.clone(), image.path.to_path_buf());
    let progress = session.ui.progress("replace", image.size);
    let mut manifest = manifest(session, exchange);
    let (only_over, folder) = (exchange.only_over.clone(), backup.folder.clone());
    let (reason, in_history) = (exchange.reason, exchange.in_history.clone());
    let vectors = session.config.paths.home.join(".claude-mem/vector-db/chroma.sqlite3");
    let swapped = database::blocking(move || {
        let unfinished = copy.to_path_buf();
        let approve = |old: &Facts| {
            let backup = Backup { folder };
            let copy = backup.seal(copy)?;
            manifest.local_ahead = reason.local_ahead(in_history.as_ref() == Some(&old.digest));
            manifest.holds(&copy, old.counts.observations)?;
            backup.add_vectors(&vectors);
            backup.describe(&manifest)?;
            Ok(only_over.is_none_or(|digest| digest == old.digest))
        };
        let swapped = install::swap(&live, &new, &unfinished, approve, &progress);
        progress.done();
        swapped
    })
    .await;
    let failure = match swapped {
        Ok(swapped) if swapped.replaced => {
            let old = swapped.old.counts.describe();
            session.ui.step(&exchange.steps.label(1), format!("Backup: {} ({old})", target.display()));
            session.ui.step(&exchange.steps.label(2), format!("Replaced: {}", image.facts.counts.describe()));
            return Ok((target, swapped));
        }
        Ok(_) => {
            Failure::new("new memories were recorded here while the pull was prepared; nothing was replaced")
                .hint("try again: membridge pull_sqlite")
        }
        Err(failure) => failure,
    };
    backup.discard();
    record.record.pending = None;
    record.save()?;
    Err(failure)
}

/// A manifest without the facts of the copy that it is for.
pub(super) fn manifest(session: &Session, exchange: &Exchange<'_>) -> BackupManifest {
    BackupManifest {
        timestamp: records::iso(session.bucket.context.now()),
        hostname: session.config.node.host.clone(),
        reason: "pull-overwrite safety backup".to_owned(),
        local_sha: String::new(),
        remote_sha: exchange.remote_sha256.to_owned(),
        local_obs: 0,
        remote_obs: Some(exchange.image.facts.counts.observations),
        local_ahead: true,
        db_path: session.database.display().to_string(),
    }
}

impl BackupManifest {
    /// Adds what the finished copy is.
    pub(super) fn holds(&mut self, copy: &Path, observations: u64) -> Result<(), DatabaseError> {
        let digests = Digests::of_file(copy).map_err(|error| DatabaseError::io("read", copy, error))?;
        (self.local_sha, self.local_obs) = (digests.sha256, observations);
        Ok(())
    }
}

/// Looks whether what is in place is good (F09).
async fn check(session: &Session, image: &Image) -> CommandResult<Facts> {
    let (live, new, wanted) = (session.database.clone(), image.path.to_path_buf(), image.facts.clone());
    let folder = session.config.paths.tmp();
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
    session: &Session,
    quiesced: Quiesced,
    restart: bool,
    exchange: &Exchange<'_>,
    backup: &Path,
) -> CommandResult<Option<String>> {
    let step = exchange.steps.label(3);
    match quiesced.resume(restart).await {
        Ok(resumed) if resumed.restarted => {
            session.ui.step(&step, "Worker: running again");
            Ok(None)
        }
        Ok(_) => {
            session.ui.step(&step, "Worker: left as it is");
            Ok(None)
        }
        Err(error @ WorkerError::NotReady { .. }) => {
            let again = worker::quiesce(&session.config, &session.bucket.context).await;
            let failure = roll_back(session, exchange, backup, error.into()).await;
            if let Ok(quiesced) = again {
                resume(session, quiesced, restart).await;
            }
            Err(failure)
        }
        Err(error) => {
            let said = format!("{error}: {}", error.hint());
            session.ui.warn(&said);
            Ok(Some(said))
        }
    }
}

/// Lets the worker go on after a failure; its own trouble is only reported.
async fn resume(session: &Session, quiesced: Quiesced, restart: bool) {
    if let Err(error) = quiesced.resume(restart).await {
        session.ui.warn(format!("{error}: {}", error.hint()));
    }
}
