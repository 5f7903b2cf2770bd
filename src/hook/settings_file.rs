//! Writes into a settings file that belongs to a person: backup first, whole or not at all, link and mode kept, and
//! nothing that another program writes at the same time lost.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::failpoint;

/// Why the file was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Somebody else wrote it since it was read.
    #[error("it was changed by another program in the same moment")]
    Changed,
    /// It cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The file's text; empty when there is none.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is a link that leads nowhere: what it should lead to may be on a disk that is
/// not there now, and must not be replaced.
pub fn read(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(target) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("it is a link to {}, and that is not there", target.display()),
            )),
            Err(_) => Ok(String::new()),
        },
        read => read,
    }
}

/// Replaces the file's text, which was `before` when it was read, and returns where the old one is kept (`None`: there
/// was none). The stamp makes the backup's name.
///
/// # Errors
/// The file is as it was then, or as somebody else has made it.
pub fn replace(path: &Path, before: &str, text: &str, stamp: &str) -> Result<Option<PathBuf>, ReplaceError> {
    // Dotfile managers link it: the link stays, the file behind it changes.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode()).ok();
    let mut file = tempfile::Builder::new().prefix(".settings").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    }
    file.as_file().sync_all()?;
    let backup = match mode {
        Some(_) => Some(back_up(&path, before, stamp)?),
        None => None,
    };
    failpoint::reach("settings_before_swap");
    let swapped = match backup {
        Some(_) => swap(file.into_temp_path(), &path, before),
        None => file.persist_noclobber(&path).map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => ReplaceError::Changed,
            _ => error.error.into(),
        }),
    };
    if let (Err(_), Some(backup)) = (&swapped, &backup) {
        // Of a text that is still there, or that is the other program's to keep.
        let _ = std::fs::remove_file(backup);
    }
    swapped?;
    File::open(folder)?.sync_all()?;
    Ok(backup)
}

/// Keeps the text that will go. It may hold tokens: the copy is never more open than the original, nor an existing one
/// overwritten.
fn back_up(path: &Path, before: &str, stamp: &str) -> Result<PathBuf, ReplaceError> {
    if read(path)? != before {
        return Err(ReplaceError::Changed);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let backup = free_name(folder, &format!("{name}.membridge-backup-{stamp}"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "a thousand backups of one second"))?;
    let mut copy = tempfile::Builder::new().prefix(".backup").tempfile_in(folder)?;
    copy.write_all(before.as_bytes())?;
    copy.as_file().sync_all()?;
    copy.persist_noclobber(&backup).map_err(|error| error.error)?;
    Ok(backup)
}

/// Puts the new file in the place of the old one, which is looked at once more when nobody can write it by its name
/// any more: what another program wrote a moment ago goes back to its place.
fn swap(new: tempfile::TempPath, path: &Path, before: &str) -> Result<(), ReplaceError> {
    let exchange = || renameat_with(CWD, &*new, CWD, path, RenameFlags::EXCHANGE);
    match exchange() {
        Ok(()) if read(&new)? == before => Ok(()),
        Ok(()) => {
            exchange().map_err(io::Error::from)?;
            Err(ReplaceError::Changed)
        }
        // Network file systems cannot exchange two names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if read(path)? == before => {
            new.persist(path).map_err(|error| error.error.into())
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Err(ReplaceError::Changed),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// A name that is not taken: two edits may fall into one second, and the first backup is the one that matters.
fn free_name(folder: &Path, name: &str) -> Option<PathBuf> {
    let more = (2..1000).map(|count| folder.join(format!("{name}-{count}")));
    std::iter::once(folder.join(name)).chain(more).find(|path| path.symlink_metadata().is_err())
}

#[cfg(test)]
mod tests {
    use super::{ReplaceError, read, replace, swap};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_link_the_mode_and_the_old_text_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("dotfiles.json"), home.path().join("settings.json"));
        std::fs::write(&real, "old").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let backup = replace(&link, "old", "new", "1").unwrap().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!((read(&link).unwrap().as_str(), read(&backup).unwrap().as_str()), ("new", "old"));
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&real), mode(&backup)), (0o640, 0o600));
        // A second one within the same second must not cost the first backup.
        let second = replace(&link, "new", "newer", "1").unwrap().unwrap();
        assert_eq!(read(&backup).unwrap(), "old");
        assert_eq!(read(&second).unwrap(), "new");
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".claude/settings.json");
        assert_eq!(read(&path).unwrap(), "");
        assert_eq!(replace(&path, "", "{}", "1").unwrap(), None);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_another_program_wrote_meanwhile_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("settings.json");
        std::fs::write(&path, "theirs").unwrap();
        assert!(matches!(replace(&path, "read before", "ours", "1"), Err(ReplaceError::Changed)));
        // Between the last look and the rename.
        let new = tempfile::Builder::new().tempfile_in(home.path()).unwrap();
        std::fs::write(new.path(), "ours").unwrap();
        assert!(matches!(swap(new.into_temp_path(), &path, "read before"), Err(ReplaceError::Changed)));
        assert_eq!(read(&path).unwrap(), "theirs");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_taken_for_no_file() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("settings.json");
        std::os::unix::fs::symlink("/nonexistent/claude.json", &link).unwrap();
        let problem = read(&link).unwrap_err().to_string();
        assert_eq!(problem, "it is a link to /nonexistent/claude.json, and that is not there");
    }
}
