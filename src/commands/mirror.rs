//! `mirror on|off|status`: whether the bucket keeps a whole copy of the database for nodes that still run the Python
//! script. One setting for all machines, kept in the bucket.

use super::run::Run;
use crate::cli::MirrorAction;
use crate::error::{Code, CommandResult, Failure};
use crate::history::{Commit, log};
use crate::outcome::Outcome;
use crate::python::head::{self, Head, Known};
use crate::python::setting;
use crate::storage::Bucket;
use crate::ui::Report;

/// A Python node that pushed within so many days is still about.
const QUIET_DAYS: i64 = 30;
/// Commits that are looked through for pushes of Python nodes.
const LOOK_BACK: usize = 200;

pub(super) async fn run(run: &Run, action: MirrorAction) -> CommandResult<Report> {
    let (on, force) = match action {
        MirrorAction::Status => {
            let (_, bucket) = run.open_to_read().await?;
            return status(run, &bucket).await;
        }
        MirrorAction::On => (true, false),
        MirrorAction::Off { force } => (false, force),
    };
    let (config, bucket) = run.open_known().await?;
    if on && bucket.seal.is_on() {
        return Err(Failure::of(
            Code::Refused,
            "this project is sealed: a copy for Python nodes would show everybody the memory",
        )
        .hint("install membridge on that machine instead (MIGRATION.md)"));
    }
    if !on && !force {
        nobody_needs_it(run, &bucket).await?;
    }
    setting::write(&bucket, setting::Change::Mirror(on), &config.node.id).await?;
    let word = if on { "on" } else { "off" };
    run.ui.line(format!("mirror: {word}, for every machine of project {}", config.project.name));
    if on {
        run.ui.line("the next push of any machine brings the copy up to date: membridge push_sqlite");
    } else {
        run.ui.line("the copy that is there stays as it is; Python nodes will not see newer memory");
    }
    Ok(Report::ok(Outcome::Set).with("mirror", word))
}

async fn status(run: &Run, bucket: &Bucket) -> CommandResult<Report> {
    let setting = setting::read(bucket).await?;
    let head = head::read(bucket, Known::default()).await?;
    let word = if setting.is_on() { "on" } else { "off" };
    let by = if setting.changed_by.is_empty() {
        "the default".to_owned()
    } else {
        format!("set by {} {}", setting.changed_by, run.context.clock().when_said(&setting.changed_at))
    };
    run.ui.line(format!("mirror: {word} ({by})"));
    let mirrored = head.as_ref().is_some_and(|head| head.mirrored() || head.commit().is_none());
    let copy = match &head {
        None => "the bucket holds nothing yet",
        Some(_) if mirrored => "the copy for Python nodes is up to date",
        Some(_) => "the copy for Python nodes is behind",
    };
    run.ui.line(copy);
    Ok(Report::ok(Outcome::Shown).with("mirror", word).with("mirrored", mirrored))
}

/// Refuses while a Python node has pushed lately: it would go on from an old copy.
pub(super) async fn nobody_needs_it(run: &Run, bucket: &Bucket) -> CommandResult {
    let Some(head) = head::read(bucket, Known::default()).await? else {
        return Ok(());
    };
    let by_python = match &head {
        Head::Commit(head) => {
            let commits = log::walk(bucket, &head.commit, LOOK_BACK).await?;
            newest_adopted(&commits, run.context.server_now().as_second())
        }
        Head::Foreign(_) => Some(head.source().to_owned()),
    };
    match by_python {
        None => Ok(()),
        Some(host) => Err(Failure::of(Code::Refused, format!(
            "the mirror stays on: {host} has pushed with the Python script within the last {QUIET_DAYS} days"
        ))
        .hint("install membridge there (MIGRATION.md), or switch it off all the same: membridge mirror off --force")),
    }
}

/// The host of the newest push of a Python node that is not older than [`QUIET_DAYS`].
fn newest_adopted(commits: &[Commit], now: i64) -> Option<String> {
    let young = |commit: &&Commit| {
        commit.at().is_none_or(|at| now.saturating_sub(at.as_second()) <= QUIET_DAYS * 86_400)
    };
    commits
        .iter()
        .filter(young)
        .find_map(|commit| commit.adopted_from.as_ref())
        .map(|adopted| adopted.host.clone())
}
