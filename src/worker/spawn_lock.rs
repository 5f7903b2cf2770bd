//! `spawn.lock`: the file by which claude-mem 13.5.6 and later agree on who starts the worker. While we hold it no
//! hook starts one. Older releases ignore it, so holding it proves nothing by itself.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::facts::SPAWN_LOCK_STALE;
use crate::platform;

/// Marks a lock that membridge made.
const OURS: &str = "membridge";

/// Half-way to stale would do; three touches before it is stale survive a stalled board.
const TOUCH: Duration = Duration::from_secs(25);

/// The lock, held and kept fresh until dropped.
#[derive(Debug)]
pub struct SpawnLock {
    path: PathBuf,
    inode: u64,
    toucher: JoinHandle<()>,
}

impl SpawnLock {
    /// Creates the lock, taking over a stale one. `Ok(None)`: somebody else holds it.
    ///
    /// # Errors
    /// The data directory cannot be written.
    pub fn take(data_dir: &Path, now: jiff::Timestamp) -> io::Result<Option<Self>> {
        let path = data_dir.join("spawn.lock");
        if !data_dir.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        }
        for _ in 0..2 {
            match create(&path, now) {
                Ok(file) => {
                    let inode = file.metadata()?.ino();
                    return Ok(Some(Self { path, inode, toucher: tokio::spawn(keep_fresh(file)) }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if !remove_stale(&path)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether the file is still the one that we made.
    pub fn held(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
    }
}

impl Drop for SpawnLock {
    fn drop(&mut self) {
        self.toucher.abort();
        if self.held() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn create(path: &Path, now: jiff::Timestamp) -> io::Result<File> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    // Milliseconds, as JavaScript's toISOString writes them.
    let body = serde_json::json!({
        "pid": std::process::id(),
        "startedAt": format!("{now:.3}"),
        // claude-mem ignores it; our next run sees whose the file is when this one is killed.
        "by": OURS,
    });
    file.write_all(body.to_string().as_bytes())?;
    Ok(file)
}

/// Touches the file through its descriptor: if somebody took our lock over, theirs is not touched.
async fn keep_fresh(file: File) {
    loop {
        tokio::time::sleep(TOUCH).await;
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes a stale lock; `false` when it is fresh.
fn remove_stale(path: &Path) -> io::Result<bool> {
    let modified = || std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let before = match modified() {
        Ok(time) => time,
        Err(error) if gone(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    if abandoned_by_us(path) {
        return match std::fs::remove_file(path) {
            Err(error) if !gone(&error) => Err(error),
            _ => Ok(true),
        };
    }
    // A time in the future (a clock that was set back) counts as fresh, as it does for claude-mem.
    let age = SystemTime::now().duration_since(before).unwrap_or_default();
    if age <= SPAWN_LOCK_STALE || modified().ok() != Some(before) {
        return Ok(false);
    }
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// A lock that a killed run of ours left: its process is gone, and nobody is starting a worker.
fn abandoned_by_us(path: &Path) -> bool {
    let Ok(text) = std::fs::read(path) else {
        return false;
    };
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return false;
    };
    let ours = body.get("by").and_then(serde_json::Value::as_str) == Some(OURS);
    let pid = body.get("pid").and_then(serde_json::Value::as_u64);
    ours && pid.is_some_and(|pid| !u32::try_from(pid).is_ok_and(platform::is_there))
}

#[cfg(test)]
mod tests {
    use super::SpawnLock;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    fn now() -> jiff::Timestamp {
        "2026-01-02T03:04:05.678901Z".parse().unwrap()
    }

    #[tokio::test]
    async fn the_lock_is_made_as_claude_mem_makes_it_and_goes_with_its_holder() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let path = data.join("spawn.lock");
        let lock = SpawnLock::take(&data, now()).unwrap().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(body["pid"], std::process::id());
        assert_eq!(body["startedAt"], "2026-01-02T03:04:05.678Z");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(lock.held());
        assert!(SpawnLock::take(&data, now()).unwrap().is_none());
        drop(lock);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_lock_is_taken_over_and_a_fresh_one_is_not() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("spawn.lock");
        std::fs::write(&path, "{\"pid\": 1}").unwrap();
        assert!(SpawnLock::take(data.path(), now()).unwrap().is_none());
        let old = SystemTime::now() - Duration::from_secs(91);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(SpawnLock::take(data.path(), now()).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_lock_that_somebody_took_over_is_left_to_them() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("spawn.lock");
        let lock = SpawnLock::take(data.path(), now()).unwrap().unwrap();
        std::fs::write(data.path().join("theirs"), "{\"pid\": 1}").unwrap();
        std::fs::rename(data.path().join("theirs"), &path).unwrap();
        assert!(!lock.held());
        drop(lock);
        assert!(path.exists());
    }
}
