//! The vector store of claude-mem: bound to the row ids of one database, rebuilt by claude-mem when it is gone.
//! Reported after a foreign database came in; moved away only when asked (F17).

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::facts::VECTOR_STORES;
use super::find::Site;
use crate::config::Config;

/// The parts of the vector store that exist on this machine.
pub fn vector_stores(config: &Config) -> Vec<PathBuf> {
    stores(&Site::of(config).data_dir)
}

fn stores(data_dir: &Path) -> Vec<PathBuf> {
    VECTOR_STORES
        .iter()
        .map(|name| data_dir.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

/// Moves the vector store into `backup_dir` (made, mode 0700), so that claude-mem builds a new one. The worker must
/// be stopped. Returns what was moved; nothing to move is no error.
///
/// # Errors
/// A part cannot be moved; parts moved before it stay moved. `backup_dir` must be on the same file system: a vector
/// store is too large to copy within a worker's downtime.
pub fn reset_vectors(config: &Config, backup_dir: &Path) -> io::Result<Vec<PathBuf>> {
    reset(&Site::of(config).data_dir, backup_dir)
}

fn reset(data_dir: &Path, backup_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let found = stores(data_dir);
    if found.is_empty() {
        return Ok(found);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(backup_dir)?;
    let mut moved = Vec::new();
    for path in found {
        let Some(name) = path.file_name() else { continue };
        let target = backup_dir.join(name);
        if target.symlink_metadata().is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} exists already", target.display()),
            ));
        }
        std::fs::rename(&path, &target)?;
        moved.push(target);
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::{reset, stores};

    #[test]
    fn f17_the_vector_store_is_moved_whole_and_nothing_else_is() {
        let home = tempfile::tempdir().unwrap();
        let (data, backup) = (home.path().join("data"), home.path().join("backups/vectors"));
        std::fs::create_dir_all(data.join("chroma/index")).unwrap();
        std::fs::write(data.join("chroma/index/a"), "a").unwrap();
        std::fs::write(data.join("chroma-sync-state.json"), "{}").unwrap();
        std::fs::write(data.join("claude-mem.db"), "db").unwrap();
        assert_eq!(stores(&data).len(), 2);
        assert_eq!(reset(&data, &backup).unwrap().len(), 2);
        assert_eq!(std::fs::read(backup.join("chroma/index/a")).unwrap(), b"a");
        assert!(stores(&data).is_empty() && data.join("claude-mem.db").exists());
        assert!(reset(&data, &backup).unwrap().is_empty());
    }

    #[test]
    fn a_second_reset_never_overwrites_the_first() {
        let home = tempfile::tempdir().unwrap();
        let backup = home.path().join("backup");
        for text in ["first", "second"] {
            std::fs::write(home.path().join("chroma-sync-state.json"), text).unwrap();
            assert_eq!(reset(home.path(), &backup).is_ok(), text == "first");
        }
        assert_eq!(std::fs::read(backup.join("chroma-sync-state.json")).unwrap(), b"first");
    }
}
