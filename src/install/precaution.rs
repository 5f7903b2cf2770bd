//! One verified backup of a database that had memory of its own, before rows of others arrive in it for the first time.

use std::path::{Path, PathBuf};

use super::backups::{self, Backup, BackupManifest};
use crate::config::Config;
use crate::context::Context;
use crate::database::{self, files, install};
use crate::error::CommandResult;
use crate::storage::records;

/// What its manifest says.
const REASON: &str = "before the first rows of other machines";

/// Backs the database up, once; returns where the backup is, where it was made now.
///
/// # Errors
/// It cannot be written, or does not hold what the database holds. Nothing is left of it then.
pub async fn before_first_arrival(
    config: &Config,
    context: &Context,
    database: &Path,
) -> CommandResult<Option<PathBuf>> {
    let root = config.paths.pull_backups();
    let made = |backup: &backups::Listed| {
        backup.size.is_some() && backup.manifest.as_ref().is_some_and(|manifest| manifest.reason == REASON)
    };
    if backups::list_of(&root, database).iter().any(made) {
        return Ok(None);
    }
    let mut manifest = BackupManifest {
        timestamp: records::iso(context.now()),
        hostname: config.node.host.clone(),
        reason: REASON.to_owned(),
        local_sha: String::new(),
        remote_sha: String::new(),
        local_obs: 0,
        remote_obs: None,
        // Nothing takes their place: its rows stay in the database.
        local_ahead: false,
        db_path: database.display().to_string(),
    };
    let (live, at) = (database.to_owned(), context.now());
    let made = database::blocking(move || {
        files::require_space(&install::folder_of(&live), files::size_with_wal(&live))?;
        let backup = Backup::begin(&root, at)?;
        let done = (|| {
            let copy = backup.begin_database()?;
            let facts = install::back_up(&live, &copy)?;
            backup.finish(copy, &mut manifest, facts.counts.observations)
        })();
        if done.is_err() {
            backup.discard();
        }
        done
    });
    made.await.map(Some)
}
