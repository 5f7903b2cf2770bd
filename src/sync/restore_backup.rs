//! Puts a safety backup of an earlier pull back, itself backed up first. The last-sync record is dropped: what the
//! bucket holds was not here when the backup was made, so the next push or pull compares the rows.

use super::backups::{self, Listed};
use super::fetch::Image;
use super::record::RecordFile;
use super::replace::{Exchange, hand_over};
use super::session::Session;
use crate::database::{self, DatabaseError, files, install, snapshot};
use crate::error::{CommandResult, Failure};
use crate::ui::{Progress, Report};

/// Restores the backup of that name.
///
/// # Errors
/// There is no such backup; it is damaged; whatever the replacement meets. The local database is then as it was.
pub async fn restore(session: &Session, record: &mut RecordFile, name: &str) -> CommandResult<Report> {
    let root = session.config.paths.pull_backups();
    let listed = backups::list(&root);
    let Some(backup) = listed.iter().find(|backup| backup.name == name) else {
        return Err(unknown(name, &listed, &root));
    };
    let (source, folder) = (
        backup.folder.join(backups::DATABASE),
        install::folder_of(&session.database),
    );
    let image = database::blocking(move || {
        files::require_space(&folder, files::size_with_wal(&source).saturating_mul(3))?;
        let path = files::temporary(&folder, "restore")?;
        // A copy: the backup stays as it is, whatever happens.
        snapshot::Pinned::new(&source)?.copy_to(&path, &Progress::hidden())?;
        let facts = install::inspect(&path)?;
        let size = std::fs::metadata(&path)
            .map_err(|error| DatabaseError::io("read", &path, error))?
            .len();
        Ok(Image {
            path,
            facts,
            size,
            sha256: String::new(),
            map: None,
        })
    })
    .await?;
    let _critical = session.context.critical();
    record.record.base = None;
    record.save()?;
    let counts = image.facts.counts;
    if session.database.exists() {
        let exchange = Exchange {
            image: &image,
            remote_sha256: "",
            only_over: None,
            local_ahead: true,
        };
        let done = hand_over(session, record, &exchange).await?;
        session
            .ui
            .line(format!("what was here is kept as {}", done.backup_name()));
    } else {
        let live = session.database.clone();
        let aside = session.config.paths.state.join("orphans");
        database::blocking(move || install::place(image.path, &live, &aside)).await?;
    }
    record.record.pending = None;
    record.save()?;
    session
        .ui
        .line(format!("RESTORE COMPLETE ({})", counts.describe()));
    Ok(Report::ok("restored")
        .with("backup", name)
        .with("observations", counts.observations))
}

pub(crate) fn unknown(name: &str, listed: &[Listed], root: &std::path::Path) -> Failure {
    let newest = listed.first().map_or("there is none yet".to_owned(), |backup| {
        format!("the newest is {}", backup.name)
    });
    Failure::new(format!(
        "no backup named '{name}' in {}; {newest}",
        root.display()
    ))
    .hint("see all of them: membridge restore-backup")
}
