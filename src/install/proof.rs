//! Whether every row of a backup is elsewhere for good: as a whole in a commit whose packs are all there, or row by row in an
//! image that the history has just given us whole. Nobody's word counts, least of all a manifest's (F58). What cannot be
//! found out counts as no.

use std::path::Path;

use super::backups::{self, Backup};
use super::door::Door;
use crate::database::{self, DatabaseError, changes, facts, files, open_read_only};
use crate::failpoint;
use crate::history::{Commit, log, retention};
use crate::sum::Sum;

/// The content digest of a commit that can be restored: it is there, and so are its packs.
pub(super) async fn restorable(door: &Door<'_>, number: u64) -> Option<Sum> {
    let commit = match log::get(door.bucket, number).await {
        Ok(commit) => commit?,
        Err(error) => {
            tracing::debug!(%error, number, "the commit cannot be read");
            return None;
        }
    };
    has_packs(door, &commit).await.then_some(commit.content_digest)
}

/// Removes the backups that are too old or too many and whose rows are all proved to be elsewhere: never the one `made`
/// just now. `image`: what was installed, where it is the image of a commit.
pub(super) async fn forget(door: &Door<'_>, image: Option<&Path>, made: &Path) {
    let root = door.config.paths.pull_backups();
    let listed = backups::list_of(&root, door.database);
    let candidates = backups::candidates(listed, door.config.backups, door.bucket.context.now());
    for backup in candidates.into_iter().filter(|backup| backup.folder != made) {
        let database = backup.folder.join(backups::DATABASE);
        // A copy that was never finished is a copy of what is still there.
        let unfinished = !backup.told || !database.exists();
        if unfinished || is_elsewhere(door, &database, image).await {
            Backup { folder: backup.folder }.discard();
        } else {
            tracing::info!(
                name = backup.name,
                "the backup stays: not all of its rows are proved to be elsewhere"
            );
        }
    }
}

/// Whether every row of the database at `backup` is elsewhere.
async fn is_elsewhere(door: &Door<'_>, backup: &Path, image: Option<&Path>) -> bool {
    if failpoint::planted("backup retention") {
        return true;
    }
    let proved = match image {
        Some(image) => is_part_of(door, backup, image).await,
        None => false,
    };
    proved || is_a_commit(door, backup).await
}

/// Row by row, contents included.
pub(super) async fn is_part_of(door: &Door<'_>, backup: &Path, image: &Path) -> bool {
    let (old, new, tmp) = (backup.to_owned(), image.to_owned(), door.config.paths.tmp());
    let compared = database::blocking(move || {
        let scratch = files::temporary(&tmp, "proof")?;
        let changes = changes::between(&old, &new, &scratch, 0)?;
        Ok(changes.iter().all(|change| change.changed == 0 && change.removed == 0))
    })
    .await;
    compared.unwrap_or(false)
}

/// As a whole: some commit that is kept has the same content.
async fn is_a_commit(door: &Door<'_>, backup: &Path) -> bool {
    let path = backup.to_owned();
    let read =
        move || -> Result<Sum, DatabaseError> { Ok(facts::read(&open_read_only(&path)?, &path)?.digest) };
    let Ok(digest) = database::blocking(read).await else {
        return false;
    };
    let walked = match log::head(door.bucket, None).await {
        Ok(Some(head)) => log::walk(door.bucket, &head, usize::MAX).await,
        _ => return false,
    };
    let found = walked.ok().and_then(|all| all.into_iter().find(|commit| commit.content_digest == digest));
    match found {
        Some(commit) => has_packs(door, &commit).await,
        None => false,
    }
}

async fn has_packs(door: &Door<'_>, commit: &Commit) -> bool {
    retention::has_packs(door.bucket, commit).await.unwrap_or(false)
}
