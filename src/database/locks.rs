//! Whether a file system has the locks that SQLite needs. SQLite itself says "busy" where it has none.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Whether the folder of this database knows no locks. Tried on a file of its own beside it: to close the database would
/// give back every lock that this process has on it.
pub(super) fn are_missing(database: &Path) -> bool {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name()) else { return false };
    let prefix = format!("{}.locks-", name.to_string_lossy());
    let Ok(probe) = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").tempfile_in(folder) else {
        return false;
    };
    matches!(lock(probe.as_file()), Err(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

fn lock(file: &File) -> nix::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "constants of 0 and 1, wider than the field")]
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLK(&range)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::are_missing;

    #[test]
    fn a_plain_folder_has_locks_and_nothing_stays_in_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!are_missing(&folder.path().join("claude-mem.db")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
