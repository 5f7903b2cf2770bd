//! The files around a database: where it is, free space, syncing, and the fingerprint that tells without SQLite that
//! nothing was written. No SQL here.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::DatabaseError;
use crate::failpoint;
use crate::platform;
use crate::private_files::make_private_folder;

pub use super::temporary::{abandon, leftovers, sweep, temporary};
pub use crate::private_files::write_private;

/// How many folders of one name are tried.
const SAME_NAME: u32 = 1000;

/// Makes a folder, 0700, that was not there before: `path`, or `path-1` …, whose former ones hold something to keep.
///
/// # Errors
/// It cannot be made.
pub fn fresh_folder(path: &Path) -> Result<PathBuf, DatabaseError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_private_folder(parent).map_err(|error| DatabaseError::io("make", parent, error))?;
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..SAME_NAME {
        let folder = match attempt {
            0 => path.to_owned(),
            _ => beside(path, &format!("-{attempt}")),
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(DatabaseError::io("make", &folder, error)),
        }
    }
    Err(DatabaseError::io("make", path, taken))
}

/// The real file behind a path: links are followed (F15). The file itself may be missing, its folder too.
///
/// # Errors
/// A link that leads nowhere sensible.
pub fn resolve(path: &Path) -> Result<PathBuf, DatabaseError> {
    match std::fs::canonicalize(path) {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A dangling link names the file that we should make.
            let target = match std::fs::read_link(path) {
                Ok(link) if link.is_absolute() => link,
                Ok(link) => path.parent().unwrap_or(Path::new("/")).join(link),
                Err(_) => path.to_owned(),
            };
            let absolute =
                std::path::absolute(&target).map_err(|error| DatabaseError::io("find", path, error))?;
            match absolute.parent().and_then(|folder| std::fs::canonicalize(folder).ok()) {
                Some(folder) => Ok(folder.join(absolute.file_name().unwrap_or_default())),
                None => Ok(absolute),
            }
        }
        Err(error) => Err(DatabaseError::io("find", path, error)),
    }
}

/// Refuses when a folder has not `needed` bytes free.
///
/// # Errors
/// [`DatabaseError::NoSpace`].
pub fn require_space(folder: &Path, needed: u64) -> Result<(), DatabaseError> {
    let free = free_space(folder)?;
    if free >= needed {
        return Ok(());
    }
    Err(DatabaseError::NoSpace { path: folder.to_owned(), needed, free })
}

/// Bytes that must be free beside the database, so that an image of `image` bytes can take the place of one of `here`
/// (with its log; 0 where there is none): the image, once more as a log while it is installed, and the backup of what is
/// here.
pub fn room_for(image: u64, here: u64) -> u64 {
    image.saturating_mul(2).saturating_add(here)
}

/// Bytes that we may still write below a folder (or below the nearest one above it that exists).
///
/// # Errors
/// The file system does not say.
pub fn free_space(folder: &Path) -> Result<u64, DatabaseError> {
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let disk = platform::disk(existing);
    let disk = disk.map_err(|error| DatabaseError::io("ask for the free space of", folder, error))?;
    Ok(disk.free)
}

/// Whether there is a database. A file of 0 bytes (a power cut, `touch`, a bind mount) is none: SQLite writes the first page
/// before it begins a log.
pub fn has_content(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() || meta.len() > 0)
}

/// Bytes of a database with its write-ahead log; 0 where there is none.
pub fn size_with_wal(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    size(path) + size(&beside(path, "-wal"))
}

/// `claude-mem.db` and `-wal` → `claude-mem.db-wal`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a file's content durable.
///
/// # Errors
/// The file system's.
pub fn sync_file(path: &Path) -> Result<(), DatabaseError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| DatabaseError::io("sync", path, error))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The file system's.
pub fn sync_folder(path: &Path) -> Result<(), DatabaseError> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => Ok(()),
        other => other.map_err(|error| DatabaseError::io("sync", path, error)),
    }
}

/// What the file system says about a database and its log: when it is the same, nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    main: FilePrint,
    wal: Option<FilePrint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FilePrint {
    device: u64,
    inode: u64,
    size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Fingerprint {
    /// Of the files as they are now; `None` where there is no database, or where the last write is so recent
    /// that another one could hide in the same tick of the file system's clock.
    pub fn take(path: &Path) -> Option<Self> {
        if failpoint::set_time().is_some() {
            // The file system's clock is not the one of the test: nobody knows.
            return None;
        }
        let main = FilePrint::take(path)?;
        // An empty log is as good as none: SQLite makes one for every reader.
        let wal = FilePrint::take(&beside(path, "-wal")).filter(|wal| wal.size > 0);
        let print = Self { main, wal };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
        let settled =
            [Some(&print.main), print.wal.as_ref()].into_iter().flatten().all(|file| file.settled(now));
        settled.then_some(print)
    }
}

impl FilePrint {
    fn take(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Some(Self { device: meta.dev(), inode: meta.ino(), size: meta.len(), modified })
    }

    fn settled(&self, now: u128) -> bool {
        // Whole seconds: a file system with a coarse clock (FAT: two seconds).
        let coarse = self.modified % 1_000_000_000 == 0;
        let tick = if coarse { Duration::from_millis(2_500) } else { Duration::from_millis(40) };
        let age = i128::try_from(now).unwrap_or(i128::MAX) - self.modified;
        age > i128::try_from(tick.as_nanos()).unwrap_or(0)
    }
}
