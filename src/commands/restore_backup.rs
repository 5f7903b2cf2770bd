//! `restore-backup [NAME]`: lists the safety backups of pulls, or puts one back.

use serde_json::{Value, json};

use super::run::Run;
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::database::{self, files, look};
use crate::error::CommandResult;
use crate::install::backups;
use crate::outcome::Outcome;
use crate::sync::restore_backup;
use crate::ui::{Report, human_bytes};
use crate::visible::shell_path;

pub(super) async fn run(
    run: &Run,
    name: Option<String>,
    means: RestoreArgs,
    dry_run: bool,
) -> CommandResult<Report> {
    match name {
        Some(name) if dry_run => preview(run, &name),
        Some(name) => {
            let (mut session, mut record) = super::sync::session(run).await?;
            session.means(means.into());
            restore_backup::restore(&session, &mut record, &name).await
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
    let (mut all, mut any_precious) = (Vec::new(), false);
    for backup in &listed {
        let size = backup.size.map_or("no database".to_owned(), human_bytes);
        let rows = backup.manifest.as_ref().map(|manifest| manifest.local_obs);
        let precious = backup.is_precious() && backup.size.is_some();
        let kept = if precious { "  kept for good" } else { "" };
        run.ui.line(format!("{}  {}  {size}{kept}", backup.name, backup.describe()));
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
        run.ui.line(format!(
            "kept for good: may be the only copy of some rows; when you want nothing of it any more: rm -r {}/NAME",
            shell_path(&root)
        ));
    }
    Ok(Report::ok(Outcome::Listed).with("backups", Value::Array(all)))
}
