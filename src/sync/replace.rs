//! The second half of a pull: what was decided is done, said and recorded. How a database changes hands is the business
//! of `install`.

use super::plan::Pull;
use super::pull::Decision;
use super::record::{Base, Pending, RecordFile};
use super::rows;
use super::session::Session;
use crate::error::CommandResult;
use crate::failpoint;
use crate::history::log;
use crate::install::{Image, Incoming, Installed, Steps, Why};
use crate::outcome::Outcome;
use crate::python::Head;
use crate::storage::records;
use crate::ui::Report;

/// Lets an image into the live database, with the intention on record: after a kill nobody knows what both sides agree
/// on.
pub(super) async fn install(
    session: &Session,
    record: &mut RecordFile,
    steps: Steps,
    incoming: Incoming,
) -> CommandResult<Installed> {
    let before = record.record.pending.clone();
    record.begin(Pending::Pull)?;
    match session.door(steps).install(incoming).await {
        Ok(installed) => Ok(installed),
        Err(not) => {
            if not.untouched {
                record.record.pending = before;
                record.save()?;
            }
            Err(not.failure)
        }
    }
}

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

/// No database here yet (F36).
pub(super) async fn install_first(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
) -> CommandResult<Report> {
    let ui = &session.ui;
    ui.step("4/7", "Worker: not asked, it has no database to hold on to");
    ui.step("5/7", "Backup: none, there is nothing to save");
    let done = let_in(session, record, head, image, Why::FastForward, None, None).await?;
    failpoint::reach("pull.placed");
    ui.step("6/7", format!("Installed: {}", session.database.display()));
    ui.step("7/7", "Worker: left as it is");
    Ok(complete(session, Outcome::Pulled, head, &done))
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
    let why = if diverged { Why::Diverged } else { Why::FastForward };
    // A Python node's push says nothing of what it was made from: the old copy stays for a while.
    let in_history = match head.commit() {
        Some(_) => in_history(session, record).await,
        None => None,
    };
    // A fast-forward was decided about rows that both sides know; a worker may have written since.
    let only_over = decision.local.as_ref().filter(|_| !diverged).map(|facts| facts.digest.clone());
    let done = let_in(session, record, head, image, why, only_over, in_history).await?;
    if diverged && let Some(backup) = &done.backup {
        session.ui.warn(format!(
            "the local database had memories that the bucket lacks{}; they are in {}",
            rows::only(decision.comparison.as_ref()),
            backup.display()
        ));
        session.ui.line(format!("  → put it back with: {}", done.way_back()));
    }
    let kept = diverged.then(|| {
        format!("memories recorded here were not in the bucket and are in a backup only: {}", done.way_back())
    });
    let warnings: Vec<String> = kept.into_iter().chain(done.trouble.clone()).collect();
    let report =
        complete(session, if diverged { Outcome::ReplacedDiverged } else { Outcome::Pulled }, head, &done);
    Ok(if warnings.is_empty() { report } else { report.with("warning", warnings.join("; ")) })
}

/// Through the door, and on record as what both sides agree on.
async fn let_in(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    mut image: Image,
    why: Why,
    only_over: Option<String>,
    in_history: Option<String>,
) -> CommandResult<Installed> {
    let (map, digest, sha256) = (image.map.take(), image.facts.digest.clone(), image.sha256.clone());
    let incoming = Incoming { image, why, only_over, in_history };
    let done = install(session, record, Steps { first: 4, of: 7 }, incoming).await?;
    record.record.last_pull = Some(records::iso(session.bucket.context.now()));
    record.agree(Base {
        sha256,
        commit: head.commit().map(|commit| commit.number),
        mirrored: head.mirrored(),
        digest,
        counts: done.counts,
        // The files were written a moment ago: the next look reads the content once and then trusts them.
        fingerprint: None,
    })?;
    if let Some(map) = map
        && let Err(error) = map.keep(&session.page_map)
    {
        tracing::warn!(%error, "the next push will be a full one");
    }
    Ok(done)
}

fn complete(session: &Session, outcome: Outcome, head: &Head, done: &Installed) -> Report {
    session.ui.line(format!("SYNC COMPLETE ({})", done.counts.describe()));
    let report =
        Report::ok(outcome).with("observations", done.counts.observations).with("sha256", head.sha256());
    match &done.backup {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    }
}
