//! The file system's part of the directory store: temporary files, folders, listings, checksums. Knows paths; no
//! conditions and no locks.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::object::Listing;
use super::sink::Digests;
use super::{Entry, Etag, Meta};
use crate::progress::Progress;
use crate::sum::Sum;

/// Flags with which every file of the store is opened: no link is followed, and a FIFO does not make us wait.
pub(super) const PLAIN: i32 = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).bits();

/// The modes of what we make in a store: ours alone, or the group's too where the root is the group's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    /// Of files.
    pub(super) file: u32,
    /// Of folders.
    pub(super) folder: u32,
}

impl Modes {
    /// As the root has them.
    pub(super) fn of(root: &Path) -> Self {
        let shared = std::fs::metadata(root).is_ok_and(|meta| meta.mode() & 0o070 == 0o070);
        if shared { Self { file: 0o660, folder: 0o2770 } } else { Self { file: 0o600, folder: 0o700 } }
    }
}

/// Opens an object: a regular file, and nothing that only looks like one.
pub(super) fn open(path: &Path) -> io::Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(PLAIN).open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            return Err(io::Error::other("it is a link, not a file of the store"));
        }
        // A socket, or a FIFO without a reader.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
            return Err(io::Error::other("it is not a regular file"));
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Our own files in the root start with this; keys never do.
pub(super) const OWN: &str = ".membridge-";

/// The file whose lock holds back other writers of the root.
pub(super) fn lock_file(root: &Path) -> io::Result<std::fs::File> {
    let mode = Modes::of(root).file;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(mode).custom_flags(PLAIN);
    let file = options.open(root.join(format!("{OWN}lock")))?;
    let meta = file.metadata()?;
    if meta.mode() & 0o777 != mode && meta.uid() == nix::unistd::geteuid().as_raw() {
        // What the umask took off, the group needs.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    Ok(file)
}

/// Size and checksums of a file, off the runtime's thread: reading a large one must not hold up a renewal.
pub(super) async fn digests(path: &Path) -> io::Result<Digests> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || open(&path).and_then(Digests::of))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A temporary file in the root; keys never start as its name does.
fn temporary(root: &Path) -> io::Result<tempfile::NamedTempFile> {
    let allowed = std::fs::Permissions::from_mode(Modes::of(root).file);
    let made = tempfile::Builder::new()
        .prefix(&format!("{OWN}put-"))
        .permissions(allowed.clone())
        .tempfile_in(root)?;
    // What the umask took off, the group needs.
    made.as_file().set_permissions(allowed)?;
    Ok(made)
}

pub(super) fn stage_bytes(root: &Path, bytes: &[u8]) -> io::Result<(tempfile::NamedTempFile, Meta)> {
    let mut temporary = temporary(root)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    let meta = Meta { etag: etag_of(bytes), size: bytes.len() as u64 };
    Ok((temporary, meta))
}

pub(super) fn stage_file(
    root: &Path,
    source: &Path,
    digests: &Digests,
    progress: &Progress,
) -> io::Result<(tempfile::NamedTempFile, Meta)> {
    let mut temporary = temporary(root)?;
    let mut source = std::fs::File::open(source)?;
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        temporary.write_all(buffer.get(..count).unwrap_or_default())?;
        progress.add(count as u64);
    }
    temporary.as_file().sync_all()?;
    let meta = Meta { etag: Etag(digests.sha256.to_string()), size: digests.size };
    Ok((temporary, meta))
}

pub(super) fn walk(folder: &Path, base: &str, prefix: &str, listing: &mut Listing) -> io::Result<()> {
    let children = match std::fs::read_dir(folder) {
        Ok(children) => children,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for child in children {
        let child = child?;
        let Ok(name) = child.file_name().into_string() else {
            continue;
        };
        if name.starts_with(OWN) {
            continue;
        }
        let key = if base.is_empty() { name } else { format!("{base}/{name}") };
        // Of the entry itself: a link is no object and leads nowhere.
        let meta = match std::fs::symlink_metadata(child.path()) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if meta.is_dir() {
            if key.starts_with(prefix) || prefix.starts_with(&format!("{key}/")) {
                walk(&child.path(), &key, prefix, listing)?;
            }
        } else if meta.is_file() && key.starts_with(prefix) {
            let modified = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let modified = modified.and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or(0);
            let entry = Entry { key, size: meta.len(), modified, etag: None };
            listing.add(entry).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

pub(super) fn etag_of(bytes: &[u8]) -> Etag {
    Etag(Sum::of(bytes).to_string())
}

pub(super) fn make_folder(path: &Path, modes: Modes) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent, modes)?;
    }
    match std::fs::DirBuilder::new().mode(modes.folder).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // What the umask took off, the group needs.
        _ => std::fs::set_permissions(path, std::fs::Permissions::from_mode(modes.folder)),
    }
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match std::fs::File::open(path)?.sync_all() {
        // Some network file systems cannot sync a directory; the rename is as durable as they make it.
        Err(error) if matches!(error.raw_os_error(), Some(libc_einval) if libc_einval == nix::errno::Errno::EINVAL as i32) => {
            Ok(())
        }
        other => other,
    }
}
