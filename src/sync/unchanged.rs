//! When a push has nothing to send: the files or the memory in them are as both sides last agreed, and the bucket has
//! not been emptied or put back since. Changes nothing.

use super::push::Style;
use super::record::{Base, SyncRecord};
use super::session::{LocalState, Session};
use crate::database::{Counts, Facts, files};
use crate::error::CommandResult;
use crate::history::log;
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::ui::Report;

/// The files were not written to since the last sync, and the bucket still holds what both sides agreed on: a few small
/// requests, no SQLite work.
pub(super) async fn nothing_written(
    session: &Session,
    record: &SyncRecord,
    style: Style,
) -> CommandResult<Option<Report>> {
    let Some(base) = record.base.as_ref().filter(|_| record.pending.is_none()) else {
        return Ok(None);
    };
    if !session.untouched(base) {
        return Ok(None);
    }
    let same = match style {
        // What a Python node pushes meanwhile is for the pull of the next session; a turn has nothing to send for it.
        Style::Background => log::head(&session.bucket, base.commit)
            .await?
            .is_some_and(|commit| Some(commit.number) == base.commit && commit.sha256 == base.sha256),
        Style::Whole => {
            let head = head::read(&session.bucket, record.knows()).await?;
            let head = head.filter(|head| head.mirrored() && head.is(&base.sha256));
            match &head {
                Some(head) => session.mirror(Some(record)).is_in_place(head).await?,
                None => false,
            }
        }
    };
    if !same {
        return Ok(None);
    }
    tracing::info!("snapshot skipped: the files are as they were at the last sync");
    Ok(Some(up_to_date(session, &base.counts)))
}

/// The files were written to, but no memory changed (a checkpoint, the worker's housekeeping): the new fingerprint
/// is remembered.
pub(super) fn same_content(base: Option<Base>, local: &LocalState, head: Option<&Head>) -> Option<Base> {
    let head = head?;
    base.filter(|base| base.digest == local.facts.digest && head.is(&base.sha256))?;
    tracing::info!("snapshot skipped: the content is as it was at the last sync");
    Some(base_of(head, &local.facts, local.fingerprint.clone()))
}

/// What both sides agree on when the bucket's head holds these facts.
pub(super) fn base_of(head: &Head, facts: &Facts, fingerprint: Option<files::Fingerprint>) -> Base {
    Base {
        sha256: head.sha256().unwrap_or_default().to_owned(),
        commit: head.commit().map(|commit| commit.number),
        mirrored: head.mirrored(),
        digest: facts.digest.clone(),
        counts: facts.counts,
        fingerprint,
    }
}

/// Says so.
pub(super) fn up_to_date(session: &Session, counts: &Counts) -> Report {
    session.ui.line(format!("already up to date ({})", counts.describe()));
    Report::ok(Outcome::UpToDate).with("observations", counts.observations)
}
