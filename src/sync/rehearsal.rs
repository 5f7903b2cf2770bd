//! `--dry-run`: the same story on a copy of the database and of our own state, against a store that only rehearses writes.
//! What it says is what a real run would do, because it is the real run. Knows nothing of the story.

use std::path::Path;

use super::record::{self, RecordFile};
use super::session::Session;
use crate::config::Config;
use crate::database::files;
use crate::database::snapshot::Pinned;
use crate::error::{Code, CommandResult, Failure};
use crate::private_files::make_private_folder;
use crate::progress::Progress;
use crate::rows;
use crate::storage::Bucket;
use crate::ui::Ui;

/// What of our state a sync goes by.
const FOLDERS: [&str; 5] = ["records", "rows", "stores", "probe", "pagemaps"];
/// The same, single files.
const FILES: [&str; 1] = ["installation-id"];

/// Opens a session for a rehearsal. Nothing that was there before is changed, not even by a lease or a probe; the copies
/// vanish with the session.
///
/// # Errors
/// The copies do not fit on the disk, or what is to be copied cannot be read.
pub async fn open(mut config: Config, mut bucket: Bucket, ui: Ui) -> CommandResult<(Session, RecordFile)> {
    bucket.rehearse();
    let fail = |error: std::io::Error| {
        Failure::of(Code::LocalFile, format!("cannot make a copy for the rehearsal: {error}"))
    };
    let scratch = tempfile::tempdir().map_err(fail)?;
    let real = files::resolve(&config.database)?;
    let (state, copy) = (scratch.path().join("state"), scratch.path().join("claude-mem.db"));
    copy_state(&config.paths.state, &state).map_err(fail)?;
    if real.exists() {
        let (from, to, tmp) = (real.clone(), copy.clone(), scratch.path().to_owned());
        crate::database::blocking(move || {
            files::require_space(&tmp, files::size_with_wal(&from).saturating_mul(2))?;
            std::fs::File::create(&to)
                .map_err(|error| crate::database::DatabaseError::io("make", &to, error))?;
            Pinned::beside_writers(&from, &tmp)?.copy_to(&to, &Progress::hidden())
        })
        .await?;
    }
    let (store, cid) = (bucket.store.name(), config.project.cid.clone());
    record::rename(&state, &store, &cid, &real, &copy);
    rows::places::rename(&state, &store, &cid, &real, &copy);
    (config.paths.state, config.database) = (state, copy);
    ui.line("dry run: nothing is written; a real run would say this:");
    let (mut session, record) = Session::open(config, bucket, ui).await?;
    session.rehearsal = Some(scratch);
    Ok((session, record))
}

fn copy_state(from: &Path, to: &Path) -> std::io::Result<()> {
    make_private_folder(to)?;
    for name in FILES {
        copy_if_there(&from.join(name), &to.join(name))?;
    }
    for name in FOLDERS {
        let Ok(entries) = std::fs::read_dir(from.join(name)) else { continue };
        make_private_folder(&to.join(name))?;
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            copy_if_there(&entry.path(), &to.join(name).join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A file that vanishes meanwhile was a temporary one.
fn copy_if_there(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::copy(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
