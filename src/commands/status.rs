//! `status`: one question, is my memory safe and everywhere, and a few short lines. No download, no full check: doctor does
//! those. Changes nothing. What it looks at: look.rs; what of it is shown: shown.rs; for prompts: oneline.rs.

mod look;
mod oneline;
mod shown;

use std::time::Duration;

use super::run::{Run, seal};
use crate::cli::StatusOptions;
use crate::error::{Code, CommandResult, Failure};
use crate::jobs::Journal;
use crate::outcome::Outcome;
use crate::ui::Report;

use shown::Shown;

/// How long the store may take; status is a glance, and says calmly that the store does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(run: &Run, options: StatusOptions) -> CommandResult<Report> {
    if options.oneline {
        return oneline::run(run).await;
    }
    let (config, mut bucket) = run.reach()?;
    bucket.store.leave_no_trace();
    let mut here = look::here(&config, &bucket.store.name()).await?;
    let look = async {
        bucket.seal = seal(&config, &bucket, false).await?;
        look::there(&config, &bucket, here.record.as_ref()).await
    };
    let there = match tokio::time::timeout(PATIENCE, look).await {
        Ok(there) => there,
        Err(_) => Err(Failure::of(
            Code::StoreUnreachable,
            format!("{} did not answer within {} s", bucket.store.name(), PATIENCE.as_secs()),
        )),
    };
    here.outlook.nodes = there.as_ref().ok().map(|there| there.nodes.clone());
    here.outlook.archived = there.as_ref().is_ok_and(|there| there.head.is_some());
    let report = Report::ok(Outcome::Shown)
        .with("project_name", config.project.name.clone())
        .with("canonical_project_id", config.project.cid.clone())
        .with("node_id", config.node.id.clone())
        .with("store", bucket.store.name());
    let mut shown = Shown::new(run, &config, report);
    shown.answer(&here.outlook);
    if let Some(trouble) = &here.trouble {
        shown.database(trouble);
    }
    shown.machines(&here.outlook);
    shown.last_sync(&here.outlook, here.record.as_ref());
    shown.waiting(&here.outlook, here.record.as_ref());
    match &there {
        Ok(there) => {
            shown.archive(there);
            shown.lock(there);
            shown.ignored(there);
            shown.privacy();
        }
        Err(failure) => shown.store(failure),
    }
    shown.hooks(&Journal::of(&config.paths).last_results());
    shown.ids(&here.outlook, there.as_ref().ok());
    Ok(shown.end())
}
