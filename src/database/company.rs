//! Who else has a database open, as far as the kernel's list of locks tells. Takes no lock, opens nothing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::beside;
use crate::platform;

/// Whether nobody else has this database open, as far as the kernel's list of locks tells: in WAL mode whoever has it open
/// holds one. Asked by whoever holds one too: a list that lacks ours says nothing, and the answer is no.
pub fn is_ours_alone(database: &Path) -> bool {
    let files = [database.to_owned(), beside(database, "-shm")];
    let inodes: Vec<u64> =
        files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.ino())).collect();
    platform::locks().is_ok_and(|list| only_by(&list, &inodes, std::process::id()))
}

/// Whether locks on these files are listed, all of them by this process. The device is not compared: the list and the file
/// system name it differently here and there, and a stranger taken for another user of the database does no harm.
fn only_by(list: &str, inodes: &[u64], pid: u32) -> bool {
    // `1: POSIX  ADVISORY  READ 2047 fe:00:1048613 120 120`; one who waits has `->` before the kind.
    let marks: Vec<String> = inodes.iter().map(|inode| format!(":{inode} ")).collect();
    let concerned = list.lines().filter(|line| marks.iter().any(|mark| line.contains(mark)));
    let holder = |line: &str| -> Option<u32> {
        line.split_whitespace().filter(|word| *word != "->").nth(4)?.parse().ok()
    };
    let holders: Vec<Option<u32>> = concerned.map(holder).collect();
    !holders.is_empty() && holders.iter().all(|holder| *holder == Some(pid))
}

#[cfg(test)]
mod tests {
    use super::{is_ours_alone, only_by};

    #[test]
    fn a_list_of_locks_is_read_for_who_holds_them() {
        let ours = "1: POSIX  ADVISORY  READ 70 fe:00:11 1073741826 1073742335\n2: POSIX  ADVISORY  READ 70 00:2f:12 128 128\n";
        let and = |line: &str| format!("{ours}{line}");
        let table = [
            (String::new(), false, "a list without ours says nothing"),
            ("1: POSIX  ADVISORY  READ 9 fe:00:99 0 EOF\n".to_owned(), false, "other files only"),
            (ours.to_owned(), true, "ours"),
            (and("3: OFDLCK ADVISORY  READ -1 fe:00:99 0 EOF\n"), true, "and other files"),
            (and("3: POSIX  ADVISORY  READ 71 fe:00:11 128 128\n"), false, "somebody reads"),
            (and("3: -> POSIX  ADVISORY  WRITE 71 fe:00:12 120 120\n"), false, "somebody waits"),
            (and("3: OFDLCK ADVISORY  READ -1 fe:00:12 0 EOF\n"), false, "nobody knows who"),
        ];
        for (list, alone, what) in table {
            assert_eq!(only_by(&list, &[11, 12], 70), alone, "{what}");
        }
    }

    #[test]
    fn our_own_lock_is_in_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert!(!is_ours_alone(&path), "without a lock of ours nothing is known");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x);").unwrap();
        assert!(is_ours_alone(&path));
    }
}
