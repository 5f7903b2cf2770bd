//! `push_sqlite`, `pull_sqlite` and `sync`: open a session, tell the story.

use super::run::Run;
use crate::cli::PullArgs;
use crate::error::CommandResult;
use crate::exit::ExitCode;
use crate::outcome::Outcome;
use crate::python::head;
use crate::sync::{Session, pull, push};
use crate::ui::Report;

pub(super) async fn session(run: &Run) -> CommandResult<(Session, crate::sync::record::RecordFile)> {
    let (config, bucket) = run.open()?;
    Session::open(config, bucket, run.ui.clone()).await
}

pub(super) async fn push(run: &Run, style: push::Style) -> CommandResult<Report> {
    let (session, mut record) = session(run).await?;
    push::push(&session, &mut record, style).await
}

pub(super) async fn pull(run: &Run, args: PullArgs) -> CommandResult<Report> {
    let (mut session, mut record) = session(run).await?;
    (session.reset_vectors, session.accept_schema) = (args.reset_vectors, args.accept_schema);
    pull::pull(&session, &mut record).await
}

/// Pull, then push. An empty bucket is no reason not to push into it, and a secondary has done its part when it has
/// pulled; every other refusal ends it.
pub(super) async fn sync(run: &Run) -> CommandResult<Report> {
    let (session, mut record) = session(run).await?;
    let mut warning = None;
    let mut pulled = Outcome::NothingThere;
    let head = head::read(&session.bucket, record.record.knows()).await?;
    if head.is_some() {
        let mut report = pull::pull(&session, &mut record).await?;
        warning = report.facts.remove("warning");
        pulled = report.outcome;
    }
    if !session.database.exists() {
        return Ok(Report::ok(Outcome::NothingToSync).with("pulled", pulled));
    }
    let report = match push::push(&session, &mut record, push::Style::Whole).await {
        Ok(report) => {
            let pushed = report.outcome;
            Report { outcome: Outcome::Synced, ..report }.with("pulled", pulled).with("pushed", pushed)
        }
        Err(failure) if failure.exit == ExitCode::SecondaryRefusesPush => {
            run.ui.line(format!("not pushed: {}", failure.message));
            // Without rows of its own a secondary has nothing to decide.
            if pulled == Outcome::LocalAhead {
                for hint in &failure.hints {
                    run.ui.line(format!("  → {hint}"));
                }
            }
            Report::ok(Outcome::Synced).with("pulled", pulled).with("pushed", Outcome::RefusedSecondary)
        }
        // What the pull had to say is not less true for it.
        Err(failure) => {
            return Err(match warning.as_ref().and_then(serde_json::Value::as_str) {
                Some(warning) => failure.hint(warning),
                None => failure,
            });
        }
    };
    Ok(match warning {
        Some(warning) => report.with("warning", warning),
        None => report,
    })
}
