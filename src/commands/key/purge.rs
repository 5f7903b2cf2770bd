//! `key init --purge`: takes away what lies in the clear, or under an older key, once the newest push is sealed and proved.
//! Segments go by themselves: every machine's next whole sync makes a sealed base of them, and they follow a day later.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::super::run::Run;
use crate::error::{Code, CommandResult, Failure};
use crate::history::fetch::Fetch;
use crate::history::{HistoryError, log, verify};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::rows::log::{LogError, RowLog};
use crate::seal::{Seal, SealError};
use crate::storage::Bucket;
use crate::ui::Report;

pub(super) async fn run(run: &Run, yes: bool) -> CommandResult<Report> {
    let (config, bucket) = run.open().await?;
    let Seal::On(fleet) = &bucket.seal else {
        return Err(
            Failure::of(Code::Refused, "this project is not sealed").hint("to seal it: membridge key init")
        );
    };
    let ui = &run.ui;
    // They stand where the next push belongs, so they come first.
    let refused = refused(&bucket).await?;
    if !refused.is_empty() {
        ui.line(
            "these pushes are accepted by nobody: a machine without the key wrote them, or somebody else",
        );
        take_away(run, &bucket, &refused, yes).await?;
        if yes {
            ui.line("for what else there may be: membridge key init --purge");
        }
        return Ok(report(yes, refused.len()));
    }
    let older: BTreeSet<u64> = fleet.vouched.commits.keys().copied().collect();
    let last = older.last().copied().unwrap_or(0);
    let scratch = config.paths.tmp();
    prove(&bucket, last, &scratch).await?;
    let mut goes = for_python(&bucket).await?;
    goes.extend(pushes(&bucket, &older, last).await?);
    let rows = RowLog::new(&bucket, &scratch);
    goes.extend(names(&bucket, &rows).await?);
    take_away(run, &bucket, &goes, yes).await?;
    let left = rows.segments().await?;
    let left =
        left.iter().filter(|segment| rows.is_older_than_the_key(&segment.writer, segment.number)).count();
    if left > 0 {
        ui.line(format!("segments of before that are still there: {left}; each machine's own go a day after its next membridge sync"));
    }
    Ok(report(yes, goes.len()).with("segments_left", left))
}

fn report(yes: bool, objects: usize) -> Report {
    Report::ok(if yes { Outcome::Set } else { Outcome::Listed }).with("objects", objects)
}

async fn take_away(run: &Run, bucket: &Bucket, goes: &[String], yes: bool) -> CommandResult {
    for key in goes {
        run.ui.line(format!("{} {key}", if yes { "deleted:" } else { "would go:" }));
        if yes {
            bucket.store.delete(key).await?;
        }
    }
    if !yes && !goes.is_empty() {
        run.ui.line(format!("to delete these {} objects: membridge key init --purge --yes", goes.len()));
    }
    Ok(())
}

/// Commits that are not sealed as they should be, and that the note does not name.
async fn refused(bucket: &Bucket) -> CommandResult<Vec<String>> {
    let mut refused = Vec::new();
    for listed in log::numbers(bucket).await? {
        match log::get(bucket, listed.number).await {
            Ok(_) => {}
            Err(HistoryError::Sealed { error: SealError::NotAuthentic | SealError::NotSealed, what }) => {
                refused.push(what);
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused)
}

/// Nothing goes before what stands for it is sealed, and comes back.
async fn prove(bucket: &Bucket, last: u64, scratch: &Path) -> CommandResult {
    let not_yet = |problem: &str| {
        Failure::of(Code::Refused, format!("nothing was deleted: {problem}"))
            .hint("push from a machine that has the memory: membridge push_sqlite")
    };
    let head = log::head(bucket, None).await?.ok_or_else(|| not_yet("there is no push yet"))?;
    if head.chain.first().is_none_or(|link| link.number <= last) {
        return Err(not_yet("the newest push is not wholly sealed with the present key yet"));
    }
    let fetch = Fetch { bucket, folder: scratch, scratch, progress: &Progress::hidden() };
    let verified = verify::verify(fetch, false).await?;
    match verified.problems.first() {
        None => Ok(()),
        Some(problem) => Err(not_yet(problem)),
    }
}

/// Whole databases: the copy for Python nodes, and what forced pushes overwrote.
async fn for_python(bucket: &Bucket) -> CommandResult<Vec<String>> {
    let mut goes = Vec::new();
    let root = bucket.keys.root();
    for prefix in [format!("{root}sqlite/"), format!("{root}membridge/overwritten/")] {
        goes.extend(bucket.store.list(&prefix).await?.into_iter().map(|entry| entry.key));
    }
    Ok(goes)
}

/// Pushes of before, and the packs that only they need.
async fn pushes(bucket: &Bucket, older: &BTreeSet<u64>, last: u64) -> CommandResult<Vec<String>> {
    let (mut needed, mut theirs, mut goes) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for listed in log::numbers(bucket).await? {
        let Some(commit) = log::get(bucket, listed.number).await? else { continue };
        let packs = commit.chain.iter().map(|link| link.pack);
        if listed.number > last {
            needed.extend(packs);
        } else if older.contains(&listed.number) {
            theirs.extend(packs);
            goes.push(bucket.keys.commit(listed.number));
        }
    }
    goes.extend(theirs.difference(&needed).map(|pack| bucket.keys.pack(*pack)));
    Ok(goes)
}

/// Records with names in the clear that nobody accepts any more: of machines, which write them anew with their next sync,
/// and of who was primary.
async fn names(bucket: &Bucket, rows: &RowLog<'_>) -> CommandResult<Vec<String>> {
    let mut goes = Vec::new();
    for node in rows.nodes().await? {
        match rows.node(&node.writer).await {
            Err(LogError::Sealed { error: SealError::NotSealed, what, .. }) => goes.push(what),
            Err(error) if !error.is_damage() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    for entry in bucket.store.list(&format!("{}leadership/audit/", bucket.keys.root())).await? {
        let (signed, there) = bucket.read_signed::<Value>(&entry.key).await?;
        if signed.is_none() && there.is_some() {
            goes.push(entry.key);
        }
    }
    Ok(goes)
}
