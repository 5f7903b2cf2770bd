//! Small files and folders that are ours alone: folders 0700, files 0600, written whole or not at all. Knows nothing of
//! what is in them.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Our temporary files are called `.membridge-PID-…`, so that a later run knows whose they were.
pub const PREFIX: &str = ".membridge-";

/// Makes a folder and those above it, for us only.
///
/// # Errors
/// It cannot be made.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a lock was refused because the file system has none.
pub fn lacks_locks(error: &io::Error) -> bool {
    let none = [nix::errno::Errno::ENOLCK, nix::errno::Errno::EOPNOTSUPP, nix::errno::Errno::ENOSYS];
    error.raw_os_error().is_some_and(|code| none.iter().any(|errno| *errno as i32 == code))
}

/// Writes a small file of ours whole or not at all: 0600, synced, renamed into place.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private_folder(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-record-", std::process::id()))
        .suffix(".tmp")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    match File::open(folder)?.sync_all() {
        // File systems that cannot sync a folder say so.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => Ok(()),
        other => other,
    }
}
