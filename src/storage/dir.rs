//! The directory store: `file:///path` on a NAS, a USB disk or a mounted share. Keys become files; a put writes
//! a temporary file and renames it; conditional writes happen under a lock file that every node takes.
//! The etag is the SHA-256 of the content.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::sink::Digests;
use super::{Body, Condition, Entry, Etag, Meta, PutAnswer, Sink, StoreError, StoreErrorKind};
use crate::context::{Context, hex};
use crate::ui::Progress;

/// How long a node waits for another one's short write.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// Our own files in the root start with this; keys never do.
const OWN: &str = ".membridge-";

/// A directory.
#[derive(Debug)]
pub struct DirStore {
    root: PathBuf,
    context: Arc<Context>,
}

impl DirStore {
    pub(super) fn new(root: PathBuf, context: &Arc<Context>) -> Self {
        Self {
            root,
            context: Arc::clone(context),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("file://{}", self.root.display())
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(self.error(StoreErrorKind::MissingBucket, "open the store", "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // An unmounted disk looks just like this: never make the root ourselves.
                Err(self.error(
                    StoreErrorKind::MissingBucket,
                    "open the store",
                    "no such directory (is the disk mounted?)",
                ))
            }
            Err(error) => Err(self.io("open the store", &error)),
        }
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        let operation = format!("get {key}");
        let Some(mut file) = self.open(key, &operation)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let limit = super::RECORD_LIMIT;
        let count = Read::by_ref(&mut file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io(&operation, &error))?;
        if count as u64 > limit {
            return Err(self.error(
                StoreErrorKind::Unexpected,
                &operation,
                "the object is larger than any record should be (1 MiB)",
            ));
        }
        let meta = Meta {
            etag: etag_of(&bytes),
            size: bytes.len() as u64,
        };
        Ok(Some((bytes, meta)))
    }

    pub(super) fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.check()?;
        let path = self.path(key)?;
        match Digests::of_file(&path) {
            Ok(digests) => Ok(Some(Meta {
                etag: Etag(digests.sha256),
                size: digests.size,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(&format!("look at {key}"), &error)),
        }
    }

    pub(super) async fn download(&self, key: &str, sink: &mut Sink) -> Result<Option<Meta>, StoreError> {
        let operation = format!("download {key}");
        let Some(mut file) = self.open(key, &operation)? else {
            return Ok(None);
        };
        let mut buffer = vec![0_u8; 256 * 1024];
        let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(|error| self.io(&operation, &error))?;
            if count == 0 {
                break;
            }
            let chunk = buffer.get(..count).unwrap_or_default();
            sha2::Digest::update(&mut hasher, chunk);
            let written = sink.write(chunk).await;
            written.map_err(|error| {
                StoreError::new(
                    StoreErrorKind::Local,
                    "this machine",
                    &operation,
                    error.to_string(),
                )
            })?;
        }
        let etag = Etag(hex(&sha2::Digest::finalize(hasher)));
        Ok(Some(Meta {
            etag,
            size: sink.written(),
        }))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.check()?;
        let mut entries = Vec::new();
        // A prefix may end in the middle of a name: walk from its last whole folder.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let start = if folder.is_empty() {
            self.root.clone()
        } else {
            self.path(folder)?
        };
        Self::walk(&start, folder, prefix, &mut entries)
            .map_err(|error| self.io(&format!("list {prefix}"), &error))?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    fn walk(folder: &Path, base: &str, prefix: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
        let children = match std::fs::read_dir(folder) {
            Ok(children) => children,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
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
            let key = if base.is_empty() {
                name
            } else {
                format!("{base}/{name}")
            };
            let meta = match child.metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if meta.is_dir() {
                if key.starts_with(prefix) || prefix.starts_with(&format!("{key}/")) {
                    Self::walk(&child.path(), &key, prefix, entries)?;
                }
            } else if key.starts_with(prefix) {
                let modified = meta
                    .modified()
                    .ok()
                    .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                let modified = modified
                    .and_then(|age| i64::try_from(age.as_secs()).ok())
                    .unwrap_or(0);
                entries.push(Entry {
                    key,
                    size: meta.len(),
                    modified,
                });
            }
        }
        Ok(())
    }

    pub(super) fn put(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        self.check()?;
        let operation = format!("put {key}");
        let path = self.path(key)?;
        let fail = |error: &io::Error| self.io(&operation, error);
        let (temporary, meta) = self.stage(body, progress).map_err(|error| fail(&error))?;
        let _lock = self.exclusive(&operation)?;
        if condition != Condition::None {
            let there = match Digests::of_file(&path) {
                Ok(digests) => Some(Etag(digests.sha256)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(fail(&error)),
            };
            let holds = match condition {
                Condition::None => true,
                Condition::IfAbsent => there.is_none(),
                Condition::IfMatch(etag) => there.as_ref() == Some(etag),
            };
            if !holds {
                return Ok(PutAnswer::Refused);
            }
        }
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder).map_err(|error| fail(&error))?;
        temporary.persist(&path).map_err(|error| fail(&error.error))?;
        sync_folder(folder).map_err(|error| fail(&error))?;
        Ok(PutAnswer::Written(meta))
    }

    /// Writes the body to a temporary file in the root, synced; the file's own time tells the server's clock.
    fn stage(&self, body: Body<'_>, progress: &Progress) -> io::Result<(tempfile::NamedTempFile, Meta)> {
        let mut temporary = tempfile::Builder::new()
            .prefix(&format!("{OWN}put-"))
            .tempfile_in(&self.root)?;
        let meta = match body {
            Body::Bytes(bytes) => {
                temporary.write_all(bytes)?;
                Meta {
                    etag: etag_of(bytes),
                    size: bytes.len() as u64,
                }
            }
            Body::File(path, digests) => {
                let mut source = std::fs::File::open(path)?;
                let mut buffer = vec![0_u8; 256 * 1024];
                loop {
                    let count = source.read(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    temporary.write_all(buffer.get(..count).unwrap_or_default())?;
                    progress.add(count as u64);
                }
                Meta {
                    etag: Etag(digests.sha256.clone()),
                    size: digests.size,
                }
            }
        };
        temporary.as_file().sync_all()?;
        if let Ok(at) = temporary.as_file().metadata()?.modified()
            && let Ok(at) = jiff::Timestamp::try_from(at)
            && self.context.skew_seconds() == 0
        {
            // On a network share the file server stamps the file: its clock is the one all nodes share (F48).
            let local = jiff::Timestamp::now();
            if at.duration_since(local).as_secs().abs() > 1
                || self.context.now().duration_since(local).as_secs() != 0
            {
                self.context.learn_server_time(at);
            }
        }
        Ok((temporary, meta))
    }

    pub(super) fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let source = self.path(from)?;
        let operation = format!("copy {from} to {to}");
        let digests = Digests::of_file(&source).map_err(|error| self.io(&operation, &error))?;
        self.put(
            to,
            Body::File(&source, &digests),
            Condition::None,
            &Progress::hidden(),
        )
        .map(|_| ())
    }

    pub(super) fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check()?;
        let operation = format!("delete {key}");
        let path = self.path(key)?;
        let _lock = self.exclusive(&operation)?;
        match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.io(&operation, &error)),
        }
    }

    fn open(&self, key: &str, operation: &str) -> Result<Option<std::fs::File>, StoreError> {
        self.check()?;
        match std::fs::File::open(self.path(key)?) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(operation, &error)),
        }
    }

    /// Holds back every other writer of this directory, for the moment of a compare and a rename.
    fn exclusive(&self, operation: &str) -> Result<Flock<std::fs::File>, StoreError> {
        let path = self.root.join(format!("{OWN}lock"));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| self.io(operation, &error))?;
        let started = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((file, nix::errno::Errno::EWOULDBLOCK)) if started.elapsed() < LOCK_WAIT => file,
                Err((_, error)) => return Err(self.io(operation, &io::Error::from(error))),
            };
            // flock has no way to wait with a limit; the lock is held for milliseconds.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let sound = key
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
        if sound && !key.starts_with(OWN) {
            Ok(self.root.join(key))
        } else {
            Err(self.error(
                StoreErrorKind::Unexpected,
                &format!("use the key {key:?}"),
                "not a name that can be a file",
            ))
        }
    }

    fn io(&self, operation: &str, error: &io::Error) -> StoreError {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
            _ => StoreErrorKind::Local,
        };
        self.error(kind, operation, &error.to_string())
    }

    fn error(&self, kind: StoreErrorKind, operation: &str, detail: &str) -> StoreError {
        StoreError::new(kind, self.name(), operation, detail)
    }
}

fn etag_of(bytes: &[u8]) -> Etag {
    Etag(hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes)))
}

fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match std::fs::File::open(path)?.sync_all() {
        // Some network file systems cannot sync a directory; the rename is as durable as they make it.
        Err(error) if matches!(error.raw_os_error(), Some(libc_einval) if libc_einval == nix::errno::Errno::EINVAL as i32) => {
            Ok(())
        }
        other => other,
    }
}
