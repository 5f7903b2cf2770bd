//! `history`, `restore`, `diff` and `verify`: what the bucket's past holds, and bringing it back.

use std::path::Path;

use serde_json::{Value, json};

use super::past::{self, Past};
use super::run::Run;
use crate::amount::{Clock, count};
use crate::cli::RestoreArgs;
use crate::database::changes::TableChange;
use crate::database::{files, install};
use crate::error::{Code, CommandResult, Failure};
use crate::history::{Commit, log, verify};
use crate::outcome::Outcome;
use crate::rows;
use crate::sync::{Session, restore};
use crate::ui::{Report, Tone, human_bytes};

/// `history [--limit N]`: the newest pushes, newest first.
pub(super) async fn history(run: &Run, limit: usize) -> CommandResult<Report> {
    let past = Past::open(run).await?;
    let Some(head) = log::head(&past.bucket, None).await? else {
        run.ui.line("no history yet: the next push begins it");
        return Ok(Report::ok(Outcome::Empty).with("commits", Value::Array(Vec::new())));
    };
    // One more than is shown, so that the last line has a change too.
    let commits = log::walk(&past.bucket, &head, limit.saturating_add(1)).await?;
    let observations = if run.verbose { observations(run, &past, &commits).await? } else { Vec::new() };
    run.ui.toned(Tone::Faint, HEAD, "");
    let mut listed = Vec::new();
    for (index, commit) in commits.iter().take(limit).enumerate() {
        let change = change(commit, commits.get(index + 1));
        run.ui.line(row(commit, change, &past.clock));
        if run.verbose {
            let when = past.clock.when_said(&commit.time);
            run.ui.line(format!("       {when}, {}", commit.counts.describe_rest()));
        }
        let told = observations.get(index).and_then(Option::as_ref);
        if let Some(told) = told {
            past::show_titles(&run.ui, told, "       ");
        }
        listed.push(json!({
            "number": commit.number,
            "time": commit.time,
            "node_id": commit.node_id,
            "host": commit.author(),
            "counts": commit.counts,
            "observations_change": change,
            "bytes": commit.pack_size,
            "image_bytes": commit.image_bytes(),
            "kind": log::describe(commit.kind),
            "sha256": commit.sha256,
            "epoch": commit.epoch,
            "adopted": commit.adopted_from.is_some(),
            "titles": told.map(|told| &told.titles),
        }));
    }
    Ok(Report::ok(Outcome::Shown).with("head", head.number).with("commits", Value::Array(listed)))
}

/// What stands above the rows of `history`.
const HEAD: &str = "    #  when           machine            observations   change      sent  kind";

/// Longer names are cut (characters): a row has 80 columns.
const NAME: usize = 18;

fn row(commit: &Commit, change: Option<i64>, clock: &Clock) -> String {
    let when = clock.briefly_said(&commit.time);
    let name: String = commit.author().chars().take(NAME).collect();
    let change = change.filter(|change| *change != 0).map_or(String::new(), |change| format!("{change:+}"));
    let (observations, sent) = (commit.counts.observations, human_bytes(commit.pack_size));
    let kind = if commit.adopted_from.is_some() { "python" } else { log::describe(commit.kind) };
    let number = format!("#{}", commit.number);
    format!("{number:>5}  {when:<13}  {name:<NAME$} {observations:>12} {change:>8} {sent:>9}  {kind}")
}

/// What came, changed and went of the observations with each of these commits, which are the newest first; `None` where the
/// commit before is not kept or nothing differs. Each image is made of the one before.
async fn observations(run: &Run, past: &Past, commits: &[Commit]) -> CommandResult<Vec<Option<TableChange>>> {
    let oldest_first: Vec<&Commit> = commits.iter().rev().collect();
    let progress = run.ui.progress("download", past::download(&oldest_first));
    let (mut told, mut before) = (Vec::new(), None);
    for commit in oldest_first {
        let image = past.image(commit, before.as_ref(), &progress).await?;
        let changes = match &before {
            Some(before) => past.changes(before, &image, past::titles(false)).await?,
            None => Vec::new(),
        };
        told.push(changes.into_iter().find(|change| change.table == "observations"));
        before = Some(image);
    }
    told.reverse();
    Ok(told)
}

/// How many observations came (or went) with a commit; `None` when the one before is not kept.
fn change(commit: &Commit, before: Option<&Commit>) -> Option<i64> {
    let count = |commit: &Commit| i64::try_from(commit.counts.observations).ok();
    let old = match (before, commit.parent) {
        (Some(before), _) => count(before)?,
        (None, None) => 0,
        (None, Some(_)) => return None,
    };
    count(commit)?.checked_sub(old)
}

/// `restore N|TIME`.
pub(super) async fn restore(run: &Run, what: &str, means: RestoreArgs) -> CommandResult<Report> {
    let commit = Past::open(run).await?.find(what).await?;
    let (config, bucket) = run.open().await?;
    let (mut session, mut record) = Session::open(config, bucket, run.ui.clone()).await?;
    session.means(means.into());
    restore::restore(&session, &mut record, &commit).await
}

/// `restore … --dry-run`: which push it would be and what would become of it; downloads no image, changes nothing.
pub(super) async fn restore_preview(run: &Run, what: &str, to: Option<&Path>) -> CommandResult<Report> {
    let past = Past::open(run).await?;
    let commit = past.find(what).await?;
    if to.is_none() {
        restore::may_come_back(&past.config, &commit, commit.schema_version).await?;
    }
    let target = match to {
        Some(file) => format!("write {} with", file.display()),
        None if files::has_content(&past.config.database) => {
            format!("back up {} and replace it by", past.config.database.display())
        }
        None => format!("install {} with", past.config.database.display()),
    };
    run.ui.line(format!(
        "DRY RUN: would {target} commit {}, made {} ({}; download {})",
        commit.number,
        past.clock.when_said(&commit.time),
        commit.counts.describe(),
        human_bytes(commit.chain_bytes())
    ));
    Ok(Report::ok(Outcome::WouldRestore)
        .with("dry_run", true)
        .with("number", commit.number)
        .with("observations", commit.counts.observations)
        .with("sha256", commit.sha256.to_string()))
}

/// `restore N|TIME --to FILE`.
pub(super) async fn restore_to(run: &Run, what: &str, file: &Path) -> CommandResult<Report> {
    let past = Past::open(run).await?;
    let file = restore::free_name(file)?;
    let commit = past.find(what).await?;
    let progress = run.ui.progress("download", commit.chain_bytes());
    let facts = restore::to_file(past.fetch(&install::folder_of(&file), &progress), &commit, &file).await?;
    run.ui.line(format!(
        "commit {}, made {}, restored to {} ({})",
        commit.number,
        past.clock.when_said(&commit.time),
        file.display(),
        facts.counts.describe()
    ));
    Ok(Report::ok(Outcome::Restored)
        .with("number", commit.number)
        .with("sha256", commit.sha256.to_string())
        .with("file", file.display().to_string()))
}

/// `diff A B`: rows added, changed and removed on the way from A to B, by table.
pub(super) async fn diff(run: &Run, from: &str, to: &str) -> CommandResult<Report> {
    let past = Past::open(run).await?;
    let (older, newer) = (past.find(from).await?, past.find(to).await?);
    let progress = run.ui.progress("download", past::download(&[&older, &newer]));
    let a = past.image(&older, None, &progress).await?;
    let b = past.image(&newer, Some(&a), &progress).await?;
    let changes = past.changes(&a, &b, past::titles(run.verbose)).await?;
    run.ui.line(format!(
        "from commit {}, made {}, to commit {}, made {}",
        older.number,
        past.clock.when_said(&older.time),
        newer.number,
        past.clock.when_said(&newer.time)
    ));
    if changes.is_empty() {
        run.ui.line("the same memories");
    }
    for change in &changes {
        run.ui.line(format!(
            "{}: {} added, {} changed, {} removed",
            rows::called(&change.table),
            change.added,
            change.changed,
            change.removed
        ));
        past::show_titles(&run.ui, change, "    ");
    }
    let tables = serde_json::to_value(&changes).unwrap_or_default();
    Ok(Report::ok(if changes.is_empty() { Outcome::Same } else { Outcome::Different })
        .with("from", older.number)
        .with("to", newer.number)
        .with("tables", tables))
}

/// `verify [--all]`: downloads, decodes and hashes what is kept.
pub(super) async fn verify(run: &Run, all: bool) -> CommandResult<Report> {
    let past = Past::open(run).await?;
    let tmp = past.config.paths.tmp();
    let progress = run.ui.progress("verify", 0);
    let verified = verify::verify(past.fetch(&tmp, &progress), all).await?;
    for problem in &verified.problems {
        run.ui.line(format!("DAMAGED: {problem}"));
    }
    let looked = format!(
        "{}, {}, {}",
        count(verified.commits as u64, "commit", "commits"),
        count(verified.packs as u64, "pack", "packs"),
        human_bytes(verified.bytes)
    );
    if !verified.problems.is_empty() {
        let failure = Failure::of(
            Code::HistoryDamaged,
            format!(
                "{} in the history ({looked} looked at): {}",
                count(verified.problems.len() as u64, "problem", "problems"),
                verified.problems.join("; ")
            ),
        );
        return Err(failure
            .hint("the local databases are not affected; push again from a machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"));
    }
    run.ui.line(if verified.commits == 0 {
        "nothing to verify: the store keeps no push yet".to_owned()
    } else if all {
        format!("verified: {looked}: every push that is kept can be restored as it was")
    } else {
        format!("verified: {looked}: the newest push can be restored as it was (every one: membridge verify --all)")
    });
    Ok(Report::ok(Outcome::Verified)
        .with("commits", verified.commits)
        .with("packs", verified.packs)
        .with("bytes", verified.bytes))
}

#[cfg(test)]
mod tests {
    use super::{HEAD, row};
    use crate::amount::Clock;
    use crate::history::commit::tests::sample;

    #[test]
    fn a_row_fits_a_terminal_and_stands_under_its_head() {
        let clock = Clock::new("2026-11-26T00:00:00Z".parse().unwrap(), jiff::tz::TimeZone::UTC);
        let mut commit = sample(12, 0);
        "2022-11-26T00:00:00+00:00".clone_into(&mut commit.time);
        commit.node_id = "a name that is longer than anybody's".to_owned();
        commit.host.clone_from(&commit.node_id);
        commit.counts.observations = 999_999_999;
        let line = row(&commit, Some(-9_999_999), &clock);
        assert!(line.len() <= 80, "{} {line}", line.len());
        assert_eq!(line.find("1461 days ago"), HEAD.find("when"), "{line}");
        assert_eq!(line.find("a name"), HEAD.find("machine"), "{line}");
        let end = |text: &str, word: &str| text.find(word).map(|at| at + word.len());
        assert_eq!(end(&line, "999999999"), end(HEAD, "observations"), "{line}");
        assert_eq!(end(&line, "-9999999"), end(HEAD, "change"), "{line}");
    }
}
