//! How the last jobs ended, a small file each, so that a server that was restarted, or that lost the connection, can
//! ask. Knows no route.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::private_files::write_private;

/// So many results are kept.
const KEPT: usize = 100;

/// Larger files are not ours.
const LARGEST: u64 = 4 << 20;

/// The results, and which jobs still run.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    running: Mutex<BTreeSet<String>>,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It runs, or waits for its turn.
    Running,
    /// It has ended so.
    Ended(Value),
    /// Nothing.
    Unknown,
}

impl Results {
    /// Those in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, running: Mutex::default() }
    }

    /// Notes that a job runs.
    pub fn begin(&self, id: &str) {
        self.running().insert(id.to_owned());
    }

    /// Notes how it ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end(&self, id: &str, result: &Value) -> io::Result<()> {
        let written = write_private(&self.file(id), result.to_string().as_bytes());
        self.running().remove(id);
        sweep(&self.folder);
        written
    }

    /// What is known of a job.
    pub fn of(&self, id: &str) -> Known {
        if !is_id(id) {
            return Known::Unknown;
        }
        if self.running().contains(id) {
            return Known::Running;
        }
        let path = self.file(id);
        let small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        let text = if small { std::fs::read(path).ok() } else { None };
        text.and_then(|text| serde_json::from_slice(&text).ok()).map_or(Known::Unknown, Known::Ended)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this can be the id of a job: it becomes the name of a file.
pub fn is_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// Removes all but the newest results.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")).is_some_and(is_id)
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(KEPT);
    for (_, path) in files.into_iter().take(surplus) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Known, Results};
    use serde_json::json;

    #[test]
    fn results_outlive_the_agent_and_stay_few() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("jobs"));
        let id = "00000000000000ff";
        assert_eq!(results.of(id), Known::Unknown);
        results.begin(id);
        assert_eq!(results.of(id), Known::Running);
        results.end(id, &json!({"ok": true})).unwrap();
        let later = Results::new(folder.path().join("jobs"));
        assert_eq!(later.of(id), Known::Ended(json!({"ok": true})));
        for n in 0..KEPT + 20 {
            results.end(&format!("{n:016x}"), &json!({})).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path().join("jobs")).unwrap().count(), KEPT);
    }

    #[test]
    fn an_id_is_no_path() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.json"), "{}").unwrap();
        let results = Results::new(folder.path().join("jobs"));
        for id in ["../secret", "", "00000000000000FF", "..%2fsecret.json", "000000000000000é"] {
            assert_eq!(results.of(id), Known::Unknown, "{id}");
        }
    }
}
