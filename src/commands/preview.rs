//! `push_sqlite`, `pull_sqlite` and `sync` with `--dry-run`: what they would do.

use super::run::Run;
use crate::error::{Code, CommandResult, Failure};
use crate::sync::record::SyncRecord;
use crate::sync::{Session, preview};
use crate::ui::Report;

/// A session that only looks, and the folder for what it needs on the way, gone at the end.
fn look(run: &Run) -> CommandResult<(Session, Option<SyncRecord>, tempfile::TempDir)> {
    let (config, bucket) = run.open_to_read()?;
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::of(Code::LocalFile, format!("cannot make a temporary folder: {error}")))?;
    let folder = scratch.path().to_owned();
    let (session, record) = Session::look(config, bucket, run.ui.clone(), folder)?;
    Ok((session, record, scratch))
}

pub(super) async fn push(run: &Run) -> CommandResult<Report> {
    let (session, record, _scratch) = look(run)?;
    preview::push(&session, record.as_ref()).await
}

pub(super) async fn pull(run: &Run) -> CommandResult<Report> {
    let (session, record, _scratch) = look(run)?;
    preview::pull(&session, record.as_ref()).await
}

pub(super) async fn sync(run: &Run) -> CommandResult<Report> {
    let (session, record, _scratch) = look(run)?;
    preview::sync(&session, record.as_ref()).await
}
