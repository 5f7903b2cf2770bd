//! Puts a safety backup of an earlier pull back, itself backed up first. The last-sync record is dropped: what the
//! bucket holds was not here when the backup was made, so the next push or pull compares the rows.

use super::record::RecordFile;
use super::session::Session;
use crate::database::{self, DatabaseError, files, install as into, snapshot};
use crate::error::{Code, CommandResult, Failure};
use crate::install::backups::{self, Listed, name_of};
use crate::install::{Image, Incoming, Steps};
use crate::outcome::Outcome;
use crate::sum::Sum;
use crate::ui::{Progress, Report};

/// Restores the backup of that name; `joined`: whether this machine may take part in the project, or why that is not known.
///
/// # Errors
/// There is no such backup; it is damaged; whatever the replacement meets. The local database is then as it was.
pub async fn restore(
    session: &Session,
    record: &mut RecordFile,
    name: &str,
    joined: CommandResult,
) -> CommandResult<Report> {
    let root = session.config.paths.pull_backups();
    let listed = backups::list_of(&root, &session.database);
    let Some(backup) = listed.iter().find(|backup| backup.name == name) else {
        return Err(unknown(name, &listed, &root));
    };
    let image = image(session, backup).await?;
    let counts = image.facts.counts;
    let present = session.has_database();
    let of = if present { 5 } else { 2 };
    session.ui.step(&format!("1/{of}"), format!("Backup {name}: checked ({})", counts.describe()));
    let only_over = if present { sent(session, joined).await } else { None };
    let gone = super::restore::agreed(session, &image.path).await?;
    let _critical = session.bucket.context.critical();
    let base = record.record.base.take().map(|base| base.commit);
    record.save()?;
    let incoming = Incoming { image, only_over, base };
    let done = session.door(Steps { first: 2, of }).install(incoming).await?;
    record.let_go(gone)?;
    if present {
        super::exchange::restored(session).await?;
    } else {
        session.ui.step("2/2", format!("Installed: {}", session.database.display()));
    }
    // All of it is live now.
    backups::settle(&backup.folder);
    let mut report =
        Report::ok(Outcome::Restored).with("name", name).with("observations", counts.observations);
    if let Some(kept) = &done.backup {
        session.ui.line(format!("what was here is kept as {}", name_of(kept)));
        report = report.with("backup", kept.display().to_string());
    }
    session.ui.line(format!("RESTORE COMPLETE ({})", counts.describe()));
    Ok(report)
}

/// Sends what was recorded here before any of it is replaced, as a restore of a commit does; what the database holds then. A
/// store that does not answer, or a database that cannot be read, is no reason to leave a person without the backup.
async fn sent(session: &Session, joined: CommandResult) -> Option<Sum> {
    let sent = match joined {
        Ok(()) => super::restore::in_the_log(session).await,
        Err(failure) => Err(failure),
    };
    match sent {
        Ok(digest) => Some(digest),
        Err(failure) => {
            session.ui.warn(format!(
                "what was recorded here since the last sync was not sent ({failure}); the copy that is kept of it has it"
            ));
            None
        }
    }
}

/// A copy of the backup beside the database: the backup stays as it is, whatever happens.
async fn image(session: &Session, backup: &Listed) -> CommandResult<Image> {
    let (source, folder) = (backup.folder.join(backups::DATABASE), into::folder_of(&session.database));
    let (admits, here) = (session.admits().await?, files::size_with_wal(&session.database));
    database::blocking(move || {
        files::require_space(&folder, files::room_for(files::size_with_wal(&source), here))?;
        let path = files::temporary(&folder, "restore")?;
        snapshot::Pinned::new(&source)?.copy_to(&path, &Progress::hidden())?;
        let facts = into::inspect(&path, &admits)?;
        let size = std::fs::metadata(&path).map_err(|error| DatabaseError::io("read", &path, error))?.len();
        Ok(Image { path, facts, size, sha256: None, of_commit: false, map: None })
    })
    .await
}

pub(crate) fn unknown(name: &str, listed: &[Listed], root: &std::path::Path) -> Failure {
    let newest = listed
        .first()
        .map_or("there is none yet".to_owned(), |backup| format!("the newest is {}", backup.name));
    Failure::of(Code::NotFound, format!("no backup named '{name}' in {}; {newest}", root.display()))
        .hint("see all of them: membridge restore-backup")
}
