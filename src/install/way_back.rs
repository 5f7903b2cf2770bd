//! The way back, when what was installed turned out wrong: the old database returns, and what was recorded in between is
//! kept in a backup of its own. Nobody may assume that what is in place is still what was put there.

use std::path::Path;

use super::backups::{self, Backup, name_of};
use super::door::{Door, Incoming, restore_backup};
use crate::database::code::Admits;
use crate::database::{self, DatabaseError, changes, files, install, snapshot};
use crate::error::{Code, CommandResult, Failure};
use crate::ui::Progress;

/// Puts `backup` back, because of `why`; returns what the command ends with.
pub(super) async fn roll_back(door: &Door<'_>, incoming: &Incoming, backup: &Path, why: Failure) -> Failure {
    match put_back(door, incoming, backup).await {
        Ok(kept) => {
            // Its rows are live again.
            backups::settle(&install::folder_of(backup));
            let kept = kept.map_or(String::new(), |name| {
                format!("; what was recorded in between is in a backup only: {}", restore_backup(&name))
            });
            Failure::of(Code::Worker, format!("{why}; the old database was put back{kept}"))
                .hint("look into the worker's log, then try again: membridge pull_sqlite")
        }
        Err(failure) => Failure::of(
            Code::DatabaseDamaged,
            format!("{why}; the old database could not be put back: {failure}"),
        )
        .hint(format!("it is whole in {}", backup.display())),
    }
}

/// Returns the name of the backup of what was recorded in between, where anything was.
async fn put_back(door: &Door<'_>, incoming: &Incoming, backup: &Path) -> CommandResult<Option<String>> {
    let between = Backup::begin(&door.config.paths.pull_backups(), door.bucket.context.now())?;
    let copy = between.begin_database()?;
    let mut manifest = door.manifest(incoming);
    let (from, live, tmp) = (backup.to_owned(), door.database.to_owned(), door.config.paths.tmp());
    let (installed, folder) = (incoming.image.path.to_path_buf(), between.folder.clone());
    let done = database::blocking(move || {
        let mut kept = None;
        install::put_back(&from, &live, || {
            // Whatever state it is in: page by page, before anything is said about it.
            snapshot::Pinned::new(&live)?.copy_to(&copy, &Progress::hidden())?;
            if !has_more(&copy, &installed, &tmp) {
                return Ok(());
            }
            let between = Backup { folder };
            let observations =
                install::inspect(&copy, &Admits::Any).map_or(0, |facts| facts.counts.observations);
            let path = between.finish(copy, &mut manifest, observations)?;
            kept = Some(name_of(&path));
            Ok(())
        })?;
        Ok(kept)
    })
    .await;
    if !between.folder.join(backups::DATABASE).exists() {
        between.discard();
    }
    done
}

/// Whether `now` has rows that `installed` lacks. Where that cannot be told, it has.
fn has_more(now: &Path, installed: &Path, tmp: &Path) -> bool {
    let compared = || -> Result<bool, DatabaseError> {
        let scratch = files::temporary(tmp, "compare")?;
        let changes = changes::between(installed, now, &scratch, 0)?;
        Ok(changes.iter().any(|change| change.added > 0))
    };
    compared().unwrap_or(true)
}
