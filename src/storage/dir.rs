//! The directory store: `file:///path` on a NAS, a USB disk or a mounted share. Keys become files; a put writes
//! a temporary file and renames it; conditional writes happen under a lock file that every node takes.
//! The etag is the SHA-256 of the content.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::dir_files::{self as files, OWN};
use super::object::Listing;
use super::{Body, Condition, Entry, Etag, Meta, PutAnswer, Sink, StoreError, StoreErrorKind};
use crate::config::StoreConfig;
use crate::context::Context;
use crate::progress::Progress;
use crate::sum::Sum;

/// How long a node waits for another one's short write.
const LOCK_WAIT: Duration = Duration::from_secs(20);

/// A directory.
#[derive(Debug)]
pub struct DirStore {
    root: PathBuf,
    context: Arc<Context>,
    /// Set once the directory's clock has been asked for.
    clock: OnceLock<()>,
}

impl DirStore {
    pub(super) fn new(root: PathBuf, context: &Arc<Context>) -> Self {
        Self { root, context: Arc::clone(context), clock: OnceLock::new() }
    }

    pub(super) fn name(&self) -> String {
        StoreConfig::Dir(self.root.clone()).name()
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

    /// See [`super::Store::leave_no_trace`].
    pub(super) fn leave_no_trace(&self) {
        self.clock.get_or_init(|| ());
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        let operation = format!("get {key}");
        self.clock.get_or_init(|| self.ask_the_time());
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
                StoreErrorKind::NotARecord,
                &operation,
                "the object is larger than any record should be (1 MiB)",
            ));
        }
        let meta = Meta { etag: files::etag_of(&bytes), size: bytes.len() as u64 };
        Ok(Some((bytes, meta)))
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        self.check()?;
        let path = self.inside(key, &format!("look at {key}"))?;
        match files::digests(&path).await {
            Ok(digests) => Ok(Some(Meta { etag: Etag(digests.sha256.to_string()), size: digests.size })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(&format!("look at {key}"), &error)),
        }
    }

    pub(super) async fn download(&self, key: &str, sink: &mut Sink) -> Result<Option<Meta>, StoreError> {
        let operation = format!("download {key}");
        let Some(mut file) = self.open(key, &operation)? else {
            return Ok(None);
        };
        sink.expect(file.metadata().map_err(|error| self.io(&operation, &error))?.len());
        let mut buffer = vec![0_u8; 256 * 1024];
        let mut hasher = Sha256::new();
        loop {
            let count = file.read(&mut buffer).map_err(|error| self.io(&operation, &error))?;
            if count == 0 {
                break;
            }
            let chunk = buffer.get(..count).unwrap_or_default();
            hasher.update(chunk);
            let written = sink.write(chunk).await;
            written.map_err(|error| {
                StoreError::new(StoreErrorKind::Local, "this machine", &operation, error.to_string())
            })?;
        }
        let etag = Etag(Sum::end(hasher).to_string());
        Ok(Some(Meta { etag, size: sink.written() }))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.check()?;
        let mut listing = Listing::default();
        // A prefix may end in the middle of a name: walk from its last whole folder.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let start = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        files::walk(&start, folder, prefix, &mut listing)
            .map_err(|error| self.io(&format!("list {prefix}"), &error))?;
        let mut entries = listing.entries();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    /// The body is written beside first, which may take minutes and must neither block renewals nor outlive its
    /// caller; the condition is then checked in the same moment in which the object appears.
    pub(super) async fn put(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        self.check()?;
        let operation = format!("put {key}");
        let path = self.inside(key, &operation)?;
        let fail = |error: &io::Error| self.io(&operation, error);
        let staged = match body {
            Body::Bytes(bytes) => files::stage_bytes(&self.root, bytes),
            Body::File(source, digests) => {
                let (root, source, digests, progress) =
                    (self.root.clone(), source.to_owned(), digests.clone(), progress.clone());
                tokio::task::spawn_blocking(move || files::stage_file(&root, &source, &digests, &progress))
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
            }
        };
        let (temporary, meta) = staged.map_err(|error| fail(&error))?;
        let _lock = self.exclusive(&operation).await?;
        if condition != Condition::None {
            let there = match files::digests(&path).await {
                Ok(digests) => Some(Etag(digests.sha256.to_string())),
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
        files::make_folder(folder, files::Modes::of(&self.root)).map_err(|error| fail(&error))?;
        if condition == Condition::IfAbsent {
            // Atomic by itself on most file systems, also where flock does not reach the other machines.
            match temporary.persist_noclobber(&path) {
                Ok(_) => {}
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(PutAnswer::Refused);
                }
                // No hard links here (FAT): the lock file alone decides.
                Err(error) => {
                    error.file.persist(&path).map_err(|error| fail(&error.error))?;
                }
            }
        } else {
            temporary.persist(&path).map_err(|error| fail(&error.error))?;
        }
        files::sync_folder(folder).map_err(|error| fail(&error))?;
        Ok(PutAnswer::Written(meta))
    }

    /// The file's own time tells the clock that all nodes share: on a network share the file server stamps it (F48).
    /// A directory that cannot be written to leaves us with our own clock.
    fn ask_the_time(&self) {
        let asked = tempfile::Builder::new()
            .prefix(&format!("{OWN}time-"))
            .tempfile_in(&self.root)
            .and_then(|file| file.as_file().metadata()?.modified());
        if let Ok(at) = asked
            && let Ok(at) = jiff::Timestamp::try_from(at)
        {
            self.context.learn_server_time(at);
        }
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let operation = format!("copy {from} to {to}");
        let source = self.inside(from, &operation)?;
        let digests = files::digests(&source).await.map_err(|error| self.io(&operation, &error))?;
        self.put(to, Body::File(&source, &digests), Condition::None, &Progress::hidden()).await.map(|_| ())
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check()?;
        let operation = format!("delete {key}");
        let path = self.inside(key, &operation)?;
        let _lock = self.exclusive(&operation).await?;
        match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.io(&operation, &error)),
        }
    }

    fn open(&self, key: &str, operation: &str) -> Result<Option<std::fs::File>, StoreError> {
        self.check()?;
        match files::open(&self.inside(key, operation)?) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(operation, &error)),
        }
    }

    /// Holds back every other writer of this directory, for the moment of a compare and a rename.
    async fn exclusive(&self, operation: &str) -> Result<Flock<std::fs::File>, StoreError> {
        let mut file = files::lock_file(&self.root).map_err(|error| self.io(operation, &error))?;
        let started = Instant::now();
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((file, Errno::EWOULDBLOCK)) if started.elapsed() < LOCK_WAIT => file,
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(self.error(
                        StoreErrorKind::Locked,
                        operation,
                        "another process has held the lock of this directory for more than 20 s",
                    ));
                }
                Err((_, Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP)) => {
                    let mut error = self.error(
                        StoreErrorKind::Local,
                        operation,
                        "this file system has no locks between processes",
                    );
                    error.advice = Some(
                        "mount the share with locks (NFS: without nolock, with a lock service; SSHFS and some FUSE mounts have none), or use an S3 server",
                    );
                    return Err(error);
                }
                Err((_, error)) => return Err(self.io(operation, &io::Error::from(error))),
            };
            // flock has no way to wait with a limit; the lock is held for milliseconds.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// The path of a key, refused where a link on the way leads out of the store: whoever may write into the folder must
    /// not make us read or write anything else of this machine's.
    fn inside(&self, key: &str, operation: &str) -> Result<PathBuf, StoreError> {
        let path = self.path(key)?;
        let outside = path
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root)
            .any(std::path::Path::is_symlink);
        if outside {
            return Err(self.error(StoreErrorKind::Unexpected, operation, "a folder on the way is a link"));
        }
        Ok(path)
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
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
            _ => StoreErrorKind::Local,
        };
        self.error(kind, operation, &error.to_string())
    }

    fn error(&self, kind: StoreErrorKind, operation: &str, detail: &str) -> StoreError {
        StoreError::new(kind, self.name(), operation, detail)
    }
}
