//! Writes into a settings file that belongs to a person: backup first, whole or not at all, link and mode kept.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file's text; empty when there is none.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Replaces the file's text and returns where the old one is kept (`None`: there was none). The stamp makes the
/// backup's name.
///
/// # Errors
/// The backup or the file cannot be written; the file is as it was then.
pub fn replace(path: &Path, text: &str, stamp: &str) -> io::Result<Option<PathBuf>> {
    // Dotfile managers link it: the link stays, the file behind it changes.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode()).ok();
    let backup = mode.and_then(|_| free_name(folder, &format!("{name}.membridge-backup-{stamp}")));
    if let Some(backup) = &backup {
        // The file may hold tokens: the copy is never more open than the original, nor an existing one overwritten.
        let mut copy = tempfile::Builder::new().prefix(".backup").tempfile_in(folder)?;
        io::copy(&mut File::open(&path)?, &mut copy)?;
        copy.as_file().sync_all()?;
        copy.persist_noclobber(backup).map_err(|error| error.error)?;
    }
    let mut file = tempfile::Builder::new().prefix(".settings").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
    }
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()?;
    Ok(backup)
}

/// A name that is not taken: two edits may fall into one second, and the first backup is the one that matters.
fn free_name(folder: &Path, name: &str) -> Option<PathBuf> {
    let more = (2..1000).map(|count| folder.join(format!("{name}-{count}")));
    std::iter::once(folder.join(name)).chain(more).find(|path| path.symlink_metadata().is_err())
}

#[cfg(test)]
mod tests {
    use super::{read, replace};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_link_the_mode_and_the_old_text_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("dotfiles.json"), home.path().join("settings.json"));
        std::fs::write(&real, "old").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let backup = replace(&link, "new", "1").unwrap().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!((read(&link).unwrap().as_str(), read(&backup).unwrap().as_str()), ("new", "old"));
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&real), mode(&backup)), (0o640, 0o600));
        // A second one within the same second must not cost the first backup.
        let second = replace(&link, "newer", "1").unwrap().unwrap();
        assert_eq!(read(&backup).unwrap(), "old");
        assert_eq!(read(&second).unwrap(), "new");
    }

    #[test]
    fn a_missing_file_is_made_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".claude/settings.json");
        assert_eq!(read(&path).unwrap(), "");
        assert_eq!(replace(&path, "{}", "1").unwrap(), None);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
