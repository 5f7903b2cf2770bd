//! `push_sqlite`, `pull_sqlite` and `sync`: open a session, tell the story.

use super::Run;
use crate::error::CommandResult;
use crate::exit::ExitCode;
use crate::sync::{Session, pull, push, remote};
use crate::ui::Report;

pub(super) async fn session(run: &Run) -> CommandResult<(Session, crate::sync::record::RecordFile)> {
    let (config, store) = run.open()?;
    Session::open(config, store, std::sync::Arc::clone(&run.context), run.ui.clone()).await
}

pub(super) async fn push(run: &Run, style: push::Style) -> CommandResult<Report> {
    let (session, mut record) = session(run).await?;
    push::push(&session, &mut record, style).await
}

pub(super) async fn pull(run: &Run, reset_vectors: bool) -> CommandResult<Report> {
    let (mut session, mut record) = session(run).await?;
    session.reset_vectors = reset_vectors;
    pull::pull(&session, &mut record).await
}

/// Pull, then push. An empty bucket is no reason not to push into it, and a secondary has done its part when it has
/// pulled; every other refusal ends it.
pub(super) async fn sync(run: &Run) -> CommandResult<Report> {
    let (session, mut record) = session(run).await?;
    let pulled = match remote::read(&session.store, &session.keys, Some(&record.record)).await? {
        None => "nothing_there".into(),
        Some(_) => pull::pull(&session, &mut record)
            .await?
            .facts
            .remove("outcome")
            .unwrap_or_default(),
    };
    if !session.database.exists() {
        return Ok(Report::ok("nothing_to_sync").with("pulled", pulled));
    }
    match push::push(&session, &mut record, push::Style::Whole).await {
        Ok(mut report) => {
            let pushed = report.facts.remove("outcome").unwrap_or_default();
            report.facts.insert("outcome".into(), "synced".into());
            Ok(report.with("pulled", pulled).with("pushed", pushed))
        }
        Err(failure) if failure.exit == ExitCode::SecondaryRefusesPush => {
            run.ui.line(format!("not pushed: {}", failure.message));
            // Without rows of its own a secondary has nothing to decide.
            if pulled == "local_ahead" {
                for hint in &failure.hints {
                    run.ui.line(format!("  → {hint}"));
                }
            }
            Ok(Report::ok("synced")
                .with("pulled", pulled)
                .with("pushed", "refused_secondary"))
        }
        Err(failure) => Err(failure),
    }
}
