//! Private temporary files, and sweeping up those of killed runs (F33). Each run locks a small file in every folder where
//! it makes some: whoever gets that lock knows that the run is dead, also when it was another container's or another
//! machine's. Locks lie on that file alone, because SQLite's own locks on the others must not meet ours.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, TempPath};

use super::DatabaseError;
use super::files::beside;
use crate::platform;
use crate::private_files::{PREFIX, make_private_folder};

/// How names end. The lock file of a run is `.membridge-PID-NONCE.tmp`; its others begin like that and go on with `-`.
const END: &str = ".tmp";

/// Files that no lock speaks for, as other releases and small records have them, are in use for this long at least.
const YOUNG: Duration = Duration::from_hours(1);

/// What this process has made.
#[derive(Debug)]
struct Made {
    /// Every temporary file.
    files: Vec<PathBuf>,
    /// The lock file of each folder.
    locks: Vec<(PathBuf, Held)>,
    /// No more are made.
    over: bool,
}

static MADE: Mutex<Made> = Mutex::new(Made { files: Vec::new(), locks: Vec::new(), over: false });

/// A lock file of ours; the lock lives as long as this.
#[derive(Debug)]
struct Held {
    #[expect(dead_code, reason = "its lock is what counts")]
    file: NamedTempFile,
    /// Its name without the end: the beginning of the others.
    stem: String,
}

impl Held {
    fn new(folder: &Path) -> io::Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        loop {
            let file =
                tempfile::Builder::new().prefix(&prefix).suffix(END).rand_bytes(8).tempfile_in(folder)?;
            match file.as_file().try_lock() {
                // A sweep that came between has removed it.
                Ok(()) if file.as_file().metadata()?.nlink() == 0 => continue,
                Err(TryLockError::WouldBlock) => continue,
                // A file system without locks: the process and the age of the files speak for us.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let name = file.path().file_name().map(|name| name.to_string_lossy().into_owned());
            let stem = name.unwrap_or_default().trim_end_matches(END).to_owned();
            return Ok(Self { file, stem });
        }
    }
}

/// Makes an empty file, 0600, that vanishes with the returned path.
///
/// # Errors
/// The folder cannot be written.
pub fn temporary(folder: &Path, what: &str) -> Result<TempPath, DatabaseError> {
    make_private_folder(folder).map_err(|error| DatabaseError::io("make", folder, error))?;
    let fail = |error| DatabaseError::io("make a temporary file in", folder, error);
    // Held while the file is made: one that is made while a signal ends us would stay.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.over {
        return Err(fail(io::ErrorKind::Interrupted.into()));
    }
    let stem = if let Some((_, held)) = made.locks.iter().find(|(locked, _)| locked == folder) {
        held.stem.clone()
    } else {
        let held = Held::new(folder).map_err(fail)?;
        let stem = held.stem.clone();
        made.locks.push((folder.to_owned(), held));
        stem
    };
    let path = tempfile::Builder::new()
        .prefix(&format!("{stem}-{what}-"))
        .suffix(END)
        .tempfile_in(folder)
        .map(NamedTempFile::into_temp_path)
        .map_err(fail)?;
    made.files.push(path.to_path_buf());
    Ok(path)
}

/// Removes every temporary file of this process and lets none be made any more: when it ends, also by a signal while a
/// task that owns one cannot be called back (F33).
pub fn abandon() {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.over = true;
    for path in std::mem::take(&mut made.files) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&path, suffix));
        }
    }
    made.locks.clear();
}

/// Removes temporary files whose run is dead, with the journals that SQLite put beside them.
pub fn sweep(folder: &Path) {
    let (mut locks, others): (Vec<_>, Vec<_>) = dead(folder).into_iter().partition(|left| left.is_lock);
    // The lock files last: until then they speak for the others.
    let mut left = others;
    left.append(&mut locks);
    for left in left {
        if let Err(error) = std::fs::remove_file(&left.path) {
            tracing::debug!(path = %left.path.display(), %error, "a stale temporary file stays");
        }
    }
}

/// How many temporary files of dead runs there are.
pub fn leftovers(folder: &Path) -> usize {
    dead(folder).iter().filter(|left| !left.is_lock).count()
}

/// A file that nobody uses any more.
struct Left {
    path: PathBuf,
    is_lock: bool,
}

fn dead(folder: &Path) -> Vec<Left> {
    let children = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = children.filter_map(|child| {
        let name = child.file_name().into_string().ok()?;
        let maker = Maker::of(&name)?;
        let left = Left { path: child.path(), is_lock: name == format!("{}{END}", maker.stem) };
        (!maker.lives(folder, &left.path)).then_some(left)
    });
    ours.collect()
}

/// Who made a file, by its name.
#[derive(Debug, PartialEq, Eq)]
struct Maker<'a> {
    pid: u32,
    stem: &'a str,
}

impl<'a> Maker<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let (before_end, _) = rest.split_once(END)?;
        let (pid, rest) = before_end.split_once('-')?;
        let nonce = rest.split('-').next()?;
        let stem = name.get(..PREFIX.len() + pid.len() + 1 + nonce.len())?;
        Some(Self { pid: pid.parse().ok()?, stem })
    }

    /// Whether it is alive, or may be.
    fn lives(&self, folder: &Path, file: &Path) -> bool {
        let lock = folder.join(format!("{}{END}", self.stem));
        let opened = File::options().read(true).write(true).open(lock);
        match opened.map(|lock| lock.try_lock()) {
            Ok(Ok(())) => return false,
            Ok(Err(TryLockError::WouldBlock)) => return true,
            Ok(Err(TryLockError::Error(_))) | Err(_) => {}
        }
        let modified = std::fs::metadata(file).and_then(|meta| meta.modified());
        let young = modified.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < YOUNG);
        young || self.pid == std::process::id() || platform::is_there(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::{Held, Maker, dead, leftovers, sweep};

    #[test]
    fn only_our_own_names_are_swept() {
        let table = [
            (".membridge-123-a1b2c3d4-snapshot-abc.tmp", Some((123, ".membridge-123-a1b2c3d4"))),
            (".membridge-123-a1b2c3d4-snapshot-abc.tmp-journal", Some((123, ".membridge-123-a1b2c3d4"))),
            (".membridge-123-a1b2c3d4.tmp", Some((123, ".membridge-123-a1b2c3d4"))),
            (".membridge-123-snapshot-abc.tmp", Some((123, ".membridge-123-snapshot"))),
            (".membridge-x-snapshot-abc.tmp", None),
            (".membridge-123", None),
            ("claude-mem.db", None),
            ("notes.tmp", None),
        ];
        for (name, maker) in table {
            assert_eq!(Maker::of(name), maker.map(|(pid, stem)| Maker { pid, stem }), "{name}");
        }
    }

    #[test]
    fn files_of_a_run_that_this_machine_cannot_see_are_no_litter_while_it_holds_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        // Of another container: no process of this number is here.
        let write = |name: &str| std::fs::write(folder.path().join(name), "x").unwrap();
        write(".membridge-4194999-abcdefgh.tmp");
        write(".membridge-4194999-abcdefgh-snapshot-x.tmp");
        write(".membridge-4194999-abcdefgh-snapshot-x.tmp-journal");
        let lock = std::fs::File::open(folder.path().join(".membridge-4194999-abcdefgh.tmp")).unwrap();
        lock.lock().unwrap();
        sweep(folder.path());
        assert_eq!((leftovers(folder.path()), std::fs::read_dir(folder.path()).unwrap().count()), (0, 3));
        drop(lock);
        assert_eq!(leftovers(folder.path()), 2);
        sweep(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn files_without_a_lock_are_swept_when_they_are_old_and_their_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, hours: u64| {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(hours)).unwrap();
        };
        file(".membridge-4194999-snapshot-old.tmp", 2);
        file(".membridge-4194999-record-young.tmp", 0);
        file(&format!(".membridge-{}-snapshot-ours.tmp", std::process::id()), 2);
        let left: Vec<_> = dead(folder.path()).into_iter().map(|left| left.path).collect();
        assert_eq!(left, [folder.path().join(".membridge-4194999-snapshot-old.tmp")]);
    }

    #[test]
    fn a_live_run_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let held = Held::new(folder.path()).unwrap();
        std::fs::write(folder.path().join(format!("{}-snapshot-x.tmp", held.stem)), "x").unwrap();
        sweep(folder.path());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        drop(held);
    }
}
