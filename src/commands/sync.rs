//! `push_sqlite`, `pull_sqlite` and `sync`: each is a wish for the one story.

use std::convert::Infallible;
use std::time::Duration;

use super::run::Run;
use crate::cli::{PullArgs, PushArgs, RestoreArgs, SyncArgs};
use crate::error::CommandResult;
use crate::sync::record::RecordFile;
use crate::sync::session::Means;
use crate::sync::{Session, Wish, rehearsal, sync};
use crate::ui::Report;

/// A store that has not answered for so long is named.
const LONG: Duration = Duration::from_secs(3);

/// What was typed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    wish: Wish,
    dry_run: bool,
    take_lock: bool,
    accept_deletions: bool,
    put_back: bool,
    new_store: bool,
    accept_schema: bool,
}

impl Asked {
    fn of(wish: Wish, dry_run: bool, take_lock: bool) -> Self {
        Self {
            wish,
            dry_run,
            take_lock,
            accept_deletions: false,
            put_back: false,
            new_store: false,
            accept_schema: false,
        }
    }

    pub(super) fn push(args: PushArgs) -> Self {
        Self::of(Wish::Push, args.plan.dry_run, args.lock.take_lock)
    }

    pub(super) fn pull(args: PullArgs) -> Self {
        Self::of(Wish::Pull, args.plan.dry_run, false)
    }

    pub(super) fn sync(args: SyncArgs) -> Self {
        Self {
            accept_deletions: args.accept_deletions,
            put_back: args.put_back,
            new_store: args.new_store,
            accept_schema: args.accept_schema,
            ..Self::of(args.wish, args.plan.dry_run, args.lock.take_lock)
        }
    }
}

impl From<RestoreArgs> for Means {
    fn from(args: RestoreArgs) -> Self {
        let RestoreArgs { add_only, yes, reset_vectors, accept_schema } = args;
        Self { add_only, yes, reset_vectors, accept_schema }
    }
}

pub(super) async fn session(run: &Run) -> CommandResult<(Session, RecordFile)> {
    let (config, bucket) = run.open().await?;
    Session::open(config, bucket, run.ui.clone()).await
}

pub(super) async fn run(run: &Run, asked: Asked) -> CommandResult<Report> {
    let report = tokio::select! {
        report = told(run, asked) => report?,
        never = say_what_is_waited_for(run) => match never {},
    };
    Ok(if asked.dry_run { report.with("dry_run", true) } else { report })
}

async fn told(run: &Run, asked: Asked) -> CommandResult<Report> {
    let (mut session, mut record) = if asked.dry_run { rehearsal(run).await? } else { session(run).await? };
    session.take_lock = asked.take_lock;
    session.new_store = asked.new_store;
    session.accept_deletions = asked.accept_deletions;
    session.put_back = asked.put_back;
    session.accept_schema = asked.accept_schema;
    sync(&session, &mut record, asked.wish).await
}

/// Where the store keeps a person waiting, they are told what for.
async fn say_what_is_waited_for(run: &Run) -> Infallible {
    let mut said = None;
    loop {
        // A wait that has become long is no event that anybody announces.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let what = run.context.waits_for(LONG);
        if let Some(what) = what.filter(|what| said.as_ref() != Some(what)) {
            run.ui.line(format!("waiting for the store: {what}"));
            said = Some(what);
        }
    }
}

async fn rehearsal(run: &Run) -> CommandResult<(Session, RecordFile)> {
    let (config, bucket) = run.open_to_rehearse().await?;
    rehearsal::open(config, bucket, run.ui.clone()).await
}
