//! When a push has nothing to send: the files or the memory in them are as both sides last agreed. Asks the bucket one
//! question at most; changes nothing.

use super::push::Style;
use super::record::{Base, RecordFile};
use super::remote::Head;
use super::session::{LocalState, Session};
use crate::database::{Counts, Facts, files};
use crate::error::CommandResult;
use crate::history::log;
use crate::ui::Report;

/// The files were not written to since the last sync, and nobody has committed: one request, no SQLite work.
pub(super) async fn nothing_written(
    session: &Session,
    record: &RecordFile,
    style: Style,
) -> CommandResult<Option<Report>> {
    let Some(base) = record
        .record
        .base
        .as_ref()
        .filter(|_| record.record.pending.is_none())
    else {
        return Ok(None);
    };
    let Some(number) = base
        .commit
        .filter(|_| base.mirrored || style == Style::Background)
    else {
        return Ok(None);
    };
    if !session.untouched(base)
        || log::get(&session.store, &session.keys, number.saturating_add(1))
            .await?
            .is_some()
    {
        return Ok(None);
    }
    tracing::info!("snapshot skipped: the files are as they were at the last sync");
    Ok(Some(up_to_date(session, &base.counts)))
}

/// The files were written to, but no memory changed (a checkpoint, the worker's housekeeping): the new fingerprint
/// is remembered.
pub(super) fn same_content(base: Option<Base>, local: &LocalState, head: Option<&Head>) -> Option<Base> {
    let head = head?;
    base.filter(|base| base.digest == local.facts.digest && base.sha256 == head.sha256)?;
    tracing::info!("snapshot skipped: the content is as it was at the last sync");
    Some(base_of(head, &local.facts, local.fingerprint.clone()))
}

/// What both sides agree on when the bucket's head holds these facts.
pub(super) fn base_of(head: &Head, facts: &Facts, fingerprint: Option<files::Fingerprint>) -> Base {
    Base {
        sha256: head.sha256.clone(),
        commit: head.head_commit().map(|commit| commit.number),
        mirrored: head.mirrored,
        digest: facts.digest.clone(),
        counts: facts.counts,
        fingerprint,
    }
}

/// Says so.
pub(super) fn up_to_date(session: &Session, counts: &Counts) -> Report {
    session
        .ui
        .line(format!("already up to date ({})", counts.describe()));
    Report::ok("up_to_date").with("observations", counts.observations)
}
