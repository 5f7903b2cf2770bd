//! Between processes of one machine: a file lock in the state directory, and the token that tells this machine
//! from another one with the same host name. Knows nothing of the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::context::{Context, hex};
use crate::platform;
use crate::private_files::make_private_folder;

/// Held while this process pushes or pulls; the kernel gives it back when the process dies, however it dies.
#[derive(Debug)]
pub struct LocalLock {
    _file: Flock<File>,
}

impl LocalLock {
    /// Waits up to `wait` for other processes of this machine that work on the same database.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process still holds it; others when the file cannot be made.
    pub async fn acquire(path: &Path, wait: Duration) -> io::Result<Self> {
        make_private_folder(path.parent().unwrap_or(Path::new("/")))?;
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let until = Instant::now() + wait;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { _file: lock }),
                Err((file, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < until => file,
                Err((_, error)) => return Err(error.into()),
            };
            // flock cannot wait with a limit, and a thread that waits without one could not be called back.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// 16 hex digits that are the same for two processes exactly when they run in the same boot of the same machine
/// with the same state directory — and so see each other's file locks. A cloned SD card has another boot, a
/// container another state directory.
///
/// # Errors
/// The state directory cannot be written.
pub fn machine_token(state: &Path, context: &Context) -> io::Result<String> {
    // Without a boot id nothing tells a cloned disk from its original: then no earlier lock is taken for ours.
    let boot = match platform::boot() {
        Some(boot) => boot,
        None => context.token().map_err(io::Error::other)?,
    };
    make_private_folder(state)?;
    let path = state.join("installation-id");
    let id = match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => id,
        Ok(_) => fresh_id(&path, context)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => fresh_id(&path, context)?,
        Err(error) => return Err(error),
    };
    let digest = Sha256::digest(format!("{}|{}", boot.trim(), id.trim()));
    Ok(hex(digest.get(..8).unwrap_or_default()))
}

/// The same for whoever only looks: empty where no run has left an id yet, and then no lock can be of an earlier run.
/// Writes nothing.
///
/// # Errors
/// The state directory cannot be read.
pub fn known_machine_token(state: &Path, context: &Context) -> io::Result<String> {
    if state.join("installation-id").exists() { machine_token(state, context) } else { Ok(String::new()) }
}

/// Two first runs at once must end with the same id: the one whose hard link comes first.
fn fresh_id(path: &Path, context: &Context) -> io::Result<String> {
    let id = context.token().map_err(io::Error::other)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix("id-").tempfile_in(folder)?;
    io::Write::write_all(&mut file, id.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(id),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            let there = std::fs::read_to_string(path)?;
            if there.trim().is_empty() {
                error.file.persist(path).map_err(|error| error.error)?;
                return Ok(id);
            }
            Ok(there)
        }
        Err(error) => Err(error.error),
    }
}
