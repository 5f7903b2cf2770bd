//! `restore-backup [NAME]`: lists the safety backups of pulls, puts one back, or deletes one.

use serde_json::{Value, json};

use super::run::{Run, seal};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::database::{self, files, look};
use crate::error::{Code, CommandResult, Failure};
use crate::install::backups;
use crate::outcome::Outcome;
use crate::sync::{Session, restore_backup};
use crate::ui::{Report, Tone, human_bytes};

pub(super) async fn run(
    run: &Run,
    name: Option<String>,
    means: RestoreArgs,
    dry_run: bool,
    forgotten: Option<String>,
) -> CommandResult<Report> {
    if let Some(name) = forgotten {
        return forget(run, &name, means.yes, dry_run).await;
    }
    match name {
        Some(name) if dry_run => preview(run, &name),
        Some(name) => {
            // The backup is here: neither a store nor the fleet's key is needed to put it back. What is here is only sent
            // where the machine may take part.
            let (config, mut bucket) = run.reach()?;
            let joined = seal(&config, &bucket, true).await.map(|seal| bucket.seal = seal);
            let (mut session, mut record) = Session::open(config, bucket, run.ui.clone()).await?;
            session.means(means.into());
            restore_backup::restore(&session, &mut record, &name, joined).await
        }
        None => list(run),
    }
}

/// What putting a backup back would do; the backup is looked into, and nothing is left beside it.
fn preview(run: &Run, name: &str) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let root = config.paths.pull_backups();
    let listed = backups::list_of(&root, &config.database);
    let Some(backup) = listed.iter().find(|backup| backup.name == name) else {
        return Err(restore_backup::unknown(name, &listed, &root));
    };
    let path = backup.folder.join(backups::DATABASE);
    let facts = look::look(&path, |connection| {
        database::integrity_check(connection, &path)?;
        database::facts::read(connection, &path)
    })?;
    let what = if files::has_content(&config.database) {
        format!("back up {} and replace it by", config.database.display())
    } else {
        format!("install {} with", config.database.display())
    };
    run.ui.line(format!("DRY RUN: would {what} backup {name} ({})", facts.counts.describe()));
    Ok(Report::ok(Outcome::WouldRestore)
        .with("dry_run", true)
        .with("observations", facts.counts.observations))
}

fn row(name: &str, when: &str, holds: &str, size: &str, kept: &str) -> String {
    format!("{name:<18}  {when:<13}  {holds:>20}  {size:>9}  {kept}").trim_end().to_owned()
}

/// Deletes a backup that nobody wants any more; asks first where it may be the only copy of some rows.
async fn forget(run: &Run, name: &str, yes: bool, dry_run: bool) -> CommandResult<Report> {
    let (session, _record) = super::sync::session(run).await?;
    let root = session.config.paths.pull_backups();
    let listed = backups::list_of(&root, &session.database);
    let Some(backup) = listed.iter().find(|backup| backup.name == name) else {
        return Err(restore_backup::unknown(name, &listed, &root));
    };
    let what = format!("{name} ({})", backup.describe());
    if dry_run {
        run.ui.line(format!("DRY RUN: would delete backup {what}"));
        return Ok(Report::ok(Outcome::WouldRemove).with("dry_run", true).with("name", name));
    }
    if backup.is_precious() && !yes {
        let question = format!("backup {what} may be the only copy of some rows. Delete it?");
        match run.ui.confirm(&question) {
            Some(true) => {}
            Some(false) => return Err(Failure::of(Code::Refused, "not deleted: the answer was no")),
            None => {
                let why =
                    format!("not deleted: {what} may be the only copy of some rows, and nobody can be asked");
                return Err(Failure::of(Code::Refused, why)
                    .hint(format!("when that is meant: membridge restore-backup --forget {name} --yes")));
            }
        }
    }
    backups::forget(backup).map_err(|error| {
        Failure::of(Code::LocalFile, format!("cannot delete {}: {error}", backup.folder.display()))
    })?;
    run.ui.line(format!("deleted: backup {what}"));
    Ok(Report::ok(Outcome::Removed).with("name", name))
}

fn list(run: &Run) -> CommandResult<Report> {
    let config = Config::new(&run.settings)?;
    let root = config.paths.pull_backups();
    let listed = backups::list_of(&root, &config.database);
    if listed.is_empty() {
        run.ui.line(format!("no backups of {} in {}", config.database.display(), root.display()));
    }
    let others = backups::list(&root).len().saturating_sub(listed.len());
    if others > 0 {
        run.ui.line(format!("{others} of other databases (CLAUDE_MEM_DB) are not shown"));
    }
    if !listed.is_empty() {
        run.ui.toned(Tone::Faint, row("name", "made", "holds", "size", "").trim_end(), "");
    }
    let clock = run.context.clock();
    let (mut all, mut any_precious) = (Vec::new(), false);
    for backup in &listed {
        let size = backup.size.map_or("no database".to_owned(), human_bytes);
        let rows = backup.manifest.as_ref().map(|manifest| manifest.local_obs);
        let precious = backup.is_precious() && backup.size.is_some();
        let kept = if precious { "only copy" } else { "" };
        let when = backup.at().map_or(String::new(), |at| clock.briefly(at));
        run.ui.line(row(&backup.name, &when, &backup.describe(), &size, kept));
        all.push(json!({
            "name": backup.name,
            "observations": rows,
            "bytes": backup.size,
            "folder": backup.folder,
            "local_ahead": backup.local_ahead,
        }));
        any_precious |= precious;
    }
    if !listed.is_empty() {
        run.ui.line("put one back with: membridge restore-backup NAME");
    }
    if any_precious {
        run.ui.line("only copy, of some rows perhaps: it is kept until you say otherwise");
        run.ui.line("  → membridge restore-backup --forget NAME");
    }
    Ok(Report::ok(Outcome::Listed).with("backups", Value::Array(all)))
}
