//! The second half of a pull: what was decided is done, said and recorded. How a database changes hands is in
//! `hand_over`.

use super::exchange::{Exchange, HandedOver, Reason, Steps};
use super::fetch::Image;
use super::hand_over::{hand_over, in_history, place};
use super::plan::Pull;
use super::pull::Decision;
use super::record::{Base, Pending, RecordFile};
use super::remote::Head;
use super::rows;
use super::session::Session;
use crate::database::Counts;
use crate::error::CommandResult;
use crate::failpoint;
use crate::history::pagemap::FreshMap;
use crate::storage::records;
use crate::ui::Report;

/// The outcome of a pull that replaced rows which the bucket lacks.
const DIVERGED: &str = "replaced_diverged";

/// No database here yet (F36).
pub(super) async fn install_first(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
) -> CommandResult<Report> {
    record.begin(Pending::Pull)?;
    let Image { path, facts, map, .. } = image;
    let ui = &session.ui;
    ui.step("4/7", "Worker: not asked, it has no database to hold on to");
    ui.step("5/7", "Backup: none, there is nothing to save");
    place(session, path).await?;
    failpoint::reach("pull.placed");
    ui.step("6/7", format!("Installed: {}", session.database.display()));
    ui.step("7/7", "Worker: left as it is");
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
    // A Python node's push says nothing of what it was made from: the old copy stays for a while.
    let in_history = match head.head_commit() {
        Some(_) => in_history(session, record).await,
        None => None,
    };
    let exchange = Exchange {
        image: &image,
        remote_sha256: &head.sha256,
        // A fast-forward was decided about rows that both sides know; a worker may have written since.
        only_over: decision.local.as_ref().filter(|_| !diverged).map(|facts| facts.digest.clone()),
        reason: if diverged { Reason::Diverged } else { Reason::FastForward },
        in_history,
        steps: Steps { first: 4, of: 7 },
    };
    let done = hand_over(session, record, &exchange).await?;
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
    let report = finish(session, record, head, &image.facts.digest, done.counts, image.map, Some(&done))?;
    Ok(if warnings.is_empty() { report } else { report.with("warning", warnings.join("; ")) })
}

fn finish(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    digest: &str,
    counts: Counts,
    map: Option<FreshMap>,
    done: Option<&HandedOver>,
) -> CommandResult<Report> {
    record.record.last_pull = Some(records::iso(session.bucket.context.now()));
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
    let diverged = done.is_some_and(|done| done.local_ahead);
    let report = Report::ok(if diverged { DIVERGED } else { "pulled" })
        .with("observations", counts.observations)
        .with("sha256", head.sha256.clone());
    Ok(match done.and_then(|done| done.backup.as_ref()) {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    })
}
