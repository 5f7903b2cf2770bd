//! The second half of a pull: the database changes hands. Quiesce the worker, back up and replace under one write
//! lock, check, let the worker go on — or put the old database back. It is told what to install, and asks the bucket
//! nothing.

use std::path::{Path, PathBuf};

use super::backups::{self, Backup, BackupManifest};
use super::fetch::Image;
use super::plan::Pull;
use super::pull::Decision;
use super::record::{Base, Pending, RecordFile};
use super::remote::Head;
use super::rows;
use super::session::Session;
use crate::database::install::{self, Swapped};
use crate::database::{self, Counts, DatabaseError, Facts, files};
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::pagemap::FreshMap;
use crate::storage::{Digests, records};
use crate::ui::Report;
use crate::worker::{self, Quiesced, WorkerError};

/// No database here yet (F36).
pub(super) async fn install_first(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
) -> CommandResult<Report> {
    record.begin(Pending::Pull)?;
    let live = session.database.clone();
    let aside = session
        .config
        .paths
        .state
        .join("orphans")
        .join(session.context.now().as_second().to_string());
    let Image { path, facts, map, .. } = image;
    database::blocking(move || install::place(path, &live, &aside)).await?;
    failpoint::reach("pull.placed");
    session
        .ui
        .step("6/7", format!("Installed: {}", session.database.display()));
    finish(session, record, head, &facts.digest, facts.counts, map, None)
}

/// Replaces the database that is here by what the bucket holds.
pub(super) async fn replace(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
    decision: &Decision,
) -> CommandResult<Report> {
    let diverged = decision.plan == Pull::Diverged;
    let exchange = Exchange {
        image: &image,
        remote_sha256: &head.sha256,
        // A fast-forward was decided about rows that both sides know; a worker may have written since.
        only_over: decision
            .local
            .as_ref()
            .filter(|_| !diverged)
            .map(|facts| facts.digest.clone()),
        local_ahead: diverged,
    };
    let done = hand_over(session, record, &exchange).await?;
    if diverged {
        session.ui.warn(format!(
            "the local database had memories that the bucket lacks{}; they are in {}",
            rows::only(decision.comparison.as_ref()),
            done.backup.display()
        ));
        session.ui.line(format!(
            "  → put it back with: membridge restore-backup {}",
            done.backup_name()
        ));
    }
    finish(
        session,
        record,
        head,
        &image.facts.digest,
        done.counts,
        image.map,
        Some(&done.backup),
    )
}

/// A database that is to take the place of the local one.
pub(super) struct Exchange<'a> {
    /// The new one, checked.
    pub(super) image: &'a Image,
    /// For the backup's manifest: the checksum of where it came from.
    pub(super) remote_sha256: &'a str,
    /// Only when the local database still has this content digest.
    pub(super) only_over: Option<String>,
    /// For the backup's manifest: what is replaced holds rows that are nowhere else.
    pub(super) local_ahead: bool,
}

/// The new database is in place and the worker goes on.
pub(super) struct HandedOver {
    /// The backup of the old one.
    pub(super) backup: PathBuf,
    /// Rows now.
    pub(super) counts: Counts,
}

impl HandedOver {
    /// The name that `restore-backup` takes.
    pub(super) fn backup_name(&self) -> String {
        self.backup
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// Stops the worker, backs up, replaces, checks, lets the worker go on; on any failure the old database is there.
pub(super) async fn hand_over(
    session: &Session,
    record: &mut RecordFile,
    exchange: &Exchange<'_>,
) -> CommandResult<HandedOver> {
    let quiesced = worker::quiesce(&session.config, &session.context).await?;
    let restart = !session.config.worker.leave_stopped;
    session.ui.step(
        "4/7",
        if quiesced.was_running.is_some() {
            "Worker: stopped"
        } else {
            "Worker: not running"
        },
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
        session.ui.warn(format!(
            "{left} queued events of unknown sessions are in the backup only"
        ));
    }
    vectors(session, exchange, &backup);
    failpoint::reach("pull.replaced");
    let facts = restart_or_roll_back(session, quiesced, restart, exchange.image, &backup).await?;
    failpoint::reach("pull.resumed");
    backups::retain(
        &session.config.paths.pull_backups(),
        session.config.backups,
        session.context.now(),
        backup.parent().unwrap_or(Path::new("/")),
    );
    Ok(HandedOver {
        backup,
        counts: facts.counts,
    })
}

/// The vector index knows rows by their ids in the database that was replaced (F17).
fn vectors(session: &Session, exchange: &Exchange<'_>, backup: &Path) {
    let folder = backup.parent().unwrap_or(Path::new("/")).join("vectors");
    if session.reset_vectors {
        match worker::reset_vectors(&session.config, &folder) {
            Ok(moved) if moved.is_empty() => session.ui.line("      vector index: there is none"),
            Ok(_) => session.ui.line(format!(
                "      vector index: moved to {}; claude-mem builds a new one",
                folder.display()
            )),
            Err(error) => session
                .ui
                .warn(format!("the vector index could not be moved away: {error}")),
        }
    } else if exchange.local_ahead && !worker::vector_stores(&session.config).is_empty() {
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
    let backup = Backup::begin(&session.config.paths.pull_backups(), session.context.now())?;
    let copy = backup.begin_database()?;
    let target = backup.folder.join(backups::DATABASE);
    let (live, new) = (session.database.clone(), image.path.to_path_buf());
    let progress = session.ui.progress("replace", image.size);
    let mut manifest = manifest(session, exchange);
    let (only_over, folder) = (exchange.only_over.clone(), backup.folder.clone());
    let vectors = session
        .config
        .paths
        .home
        .join(".claude-mem/vector-db/chroma.sqlite3");
    let swapped = database::blocking(move || {
        let unfinished = copy.to_path_buf();
        let approve = |old: &Facts| {
            let backup = Backup { folder };
            let copy = backup.seal(copy)?;
            let digests = Digests::of_file(&copy).map_err(|error| DatabaseError::io("read", &copy, error))?;
            (manifest.local_sha, manifest.local_obs) = (digests.sha256, old.counts.observations);
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
            session
                .ui
                .step("5/7", format!("Backup: {} ({old})", target.display()));
            session
                .ui
                .step("6/7", format!("Replaced: {}", image.facts.counts.describe()));
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

fn manifest(session: &Session, exchange: &Exchange<'_>) -> BackupManifest {
    BackupManifest {
        timestamp: records::iso(session.context.now()),
        hostname: session.config.node.host.clone(),
        reason: "pull-overwrite safety backup".to_owned(),
        local_sha: String::new(),
        remote_sha: exchange.remote_sha256.to_owned(),
        local_obs: 0,
        remote_obs: Some(exchange.image.facts.counts.observations),
        local_ahead: exchange.local_ahead,
        db_path: session.database.display().to_string(),
    }
}

/// Looks whether what is in place is good, lets the worker go on, and puts the backup back when either fails (F09).
async fn restart_or_roll_back(
    session: &Session,
    quiesced: Quiesced,
    restart: bool,
    image: &Image,
    backup: &Path,
) -> CommandResult<Facts> {
    let (live, new, wanted) = (
        session.database.clone(),
        image.path.to_path_buf(),
        image.facts.clone(),
    );
    let folder = session.config.paths.tmp();
    let checked = database::blocking(move || {
        failpoint::reach("pull.check");
        let scratch = files::temporary(&folder, "check")?;
        install::check(&live, &new, &wanted, &scratch)
    })
    .await;
    let facts = match checked {
        Ok(facts) => facts,
        Err(failure) => {
            let back = roll_back(session, backup).await;
            resume(session, quiesced, restart).await;
            return Err(rolled_back(&failure, back, backup));
        }
    };
    match quiesced.resume(restart).await {
        Ok(resumed) if resumed.restarted => {
            session.ui.step("7/7", "Worker: running again");
            Ok(facts)
        }
        Ok(_) => {
            session.ui.step("7/7", "Worker: left as it is");
            Ok(facts)
        }
        // A worker that could not even be started says nothing about the database.
        Err(error @ WorkerError::NotReady { .. }) => {
            let again = worker::quiesce(&session.config, &session.context).await;
            let back = roll_back(session, backup).await;
            if let Ok(quiesced) = again {
                resume(session, quiesced, restart).await;
            }
            Err(rolled_back(&Failure::from(error), back, backup))
        }
        Err(error) => {
            session.ui.warn(format!("{error}: {}", error.hint()));
            Ok(facts)
        }
    }
}

async fn roll_back(session: &Session, backup: &Path) -> CommandResult {
    let (from, live) = (backup.to_owned(), session.database.clone());
    database::blocking(move || install::put_back(&from, &live)).await
}

fn rolled_back(why: &Failure, back: CommandResult, backup: &Path) -> Failure {
    match back {
        Ok(()) => Failure::new(format!("{why}; the old database was put back"))
            .hint("look into the worker's log, then try again: membridge pull_sqlite"),
        Err(failure) => Failure::new(format!(
            "{why}; the old database could not be put back: {failure}"
        ))
        .hint(format!("it is whole in {}", backup.display())),
    }
}

/// Lets the worker go on after a failure; its own trouble is only reported.
async fn resume(session: &Session, quiesced: Quiesced, restart: bool) {
    if let Err(error) = quiesced.resume(restart).await {
        session.ui.warn(format!("{error}: {}", error.hint()));
    }
}

fn finish(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    digest: &str,
    counts: Counts,
    map: Option<FreshMap>,
    backup: Option<&Path>,
) -> CommandResult<Report> {
    record.record.last_pull = Some(records::iso(session.context.now()));
    record.agree(Base {
        sha256: head.sha256.clone(),
        commit: head.head_commit().map(|commit| commit.number),
        mirrored: head.mirrored,
        digest: digest.to_owned(),
        counts,
        // The files were written a moment ago: the next look reads the content once and then trusts them.
        fingerprint: None,
    })?;
    if let Some(map) = map
        && let Err(error) = map.keep(&session.page_map)
    {
        tracing::warn!(%error, "the next push will be a full one");
    }
    session.ui.line(format!("SYNC COMPLETE ({})", counts.describe()));
    let report = Report::ok("pulled")
        .with("observations", counts.observations)
        .with("sha256", head.sha256.clone());
    Ok(match backup {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    })
}
