//! The safety backups of pulls: `~/.claude-mem/backups/pull-overwrite/YYYYMMDD-HHMMSS/`, in the layout of the
//! Python script. Makes them, lists them, and forgets old ones — never the newest, never what is not ours (F16).

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use crate::config::BackupRetention;
use crate::database::{DatabaseError, files, snapshot};
use crate::private_files::make_private_folder;
use crate::ui::Progress;

/// The name of the database in a backup.
pub const DATABASE: &str = "claude-mem.db";

/// `manifest.json` of a backup, with the fields of the Python script in its order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named by the contract")]
pub struct BackupManifest {
    pub timestamp: String,
    pub hostname: String,
    pub reason: String,
    pub local_sha: String,
    pub remote_sha: String,
    pub local_obs: u64,
    pub remote_obs: Option<u64>,
    pub local_ahead: bool,
    pub db_path: String,
}

/// A folder for one backup.
#[derive(Debug)]
pub struct Backup {
    /// The folder.
    pub folder: PathBuf,
}

impl Backup {
    /// Makes an empty folder for the moment `at`; another backup of the same second gets a suffix.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(root: &Path, at: Timestamp) -> Result<Self, DatabaseError> {
        make_private_folder(root).map_err(|error| DatabaseError::io("make", root, error))?;
        let name = at.strftime("%Y%m%d-%H%M%S").to_string();
        // Behind every other one of this second, also when earlier ones are gone: the last made must sort as the newest.
        let taken = list(root)
            .into_iter()
            .filter(|backup| backup.name.starts_with(&name));
        let first = taken
            .map(|backup| sort_key(&backup.name).1.saturating_add(1))
            .max()
            .unwrap_or(0);
        for attempt in first..first.saturating_add(1000) {
            let folder = if attempt == 0 {
                root.join(&name)
            } else {
                root.join(format!("{name}-{attempt}"))
            };
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&folder);
            match made {
                Ok(()) => return Ok(Self { folder }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(DatabaseError::io("make", &folder, error)),
            }
        }
        let error = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "a thousand backups of one second",
        );
        Err(DatabaseError::io("make", &root.join(name), error))
    }

    /// An empty file, 0600, for the database; it gets its name when it is whole.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_database(&self) -> Result<TempPath, DatabaseError> {
        files::temporary(&self.folder, "backup")
    }

    /// Gives the finished copy its name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn seal(&self, copy: TempPath) -> Result<PathBuf, DatabaseError> {
        let path = self.folder.join(DATABASE);
        copy.persist(&path)
            .map_err(|error| DatabaseError::io("write", &path, error.error))?;
        Ok(path)
    }

    /// Writes the manifest and makes the folder durable.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn describe(&self, manifest: &BackupManifest) -> Result<(), DatabaseError> {
        let path = self.folder.join("manifest.json");
        let fail = |error| DatabaseError::io("write", &path, error);
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| fail(error.into()))?;
        files::write_private(&path, &text).map_err(fail)?;
        files::sync_folder(&self.folder)?;
        files::sync_folder(self.folder.parent().unwrap_or(Path::new("/")))
    }

    /// Keeps a copy of the old vector index beside, as the script does. Best effort: it can be rebuilt.
    pub fn add_vectors(&self, chroma: &Path) {
        if !chroma.is_file() {
            return;
        }
        let target = self.folder.join("chroma.sqlite3");
        let copied = files::temporary(&self.folder, "chroma").and_then(|temporary| {
            snapshot::Pinned::new(chroma)?.copy_to(&temporary, &Progress::hidden())?;
            temporary
                .persist(&target)
                .map_err(|error| DatabaseError::io("write", &target, error.error))
        });
        if let Err(error) = copied {
            tracing::warn!(%error, "the vector index was not copied into the backup");
        }
    }

    /// Removes a backup of something that was not replaced after all.
    pub fn discard(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "an unneeded backup stays");
        }
    }
}

/// Removes what killed runs left half done.
pub fn sweep(root: &Path) {
    for backup in list(root) {
        files::sweep(&backup.folder);
        // Only an empty folder can be removed so.
        let _ = std::fs::remove_dir(&backup.folder);
    }
}

/// A backup that is there.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Folder name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// Its manifest, when it can be read.
    pub manifest: Option<BackupManifest>,
    /// Bytes of its database; `None` where there is none.
    pub size: Option<u64>,
}

/// All backups, newest first. Foreign folders are not listed.
pub fn list(root: &Path) -> Vec<Listed> {
    let Ok(children) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut listed: Vec<Listed> = children
        .flatten()
        .filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|child| {
            let name = child.file_name().into_string().ok()?;
            made_at(&name)?;
            let folder = child.path();
            let manifest = std::fs::read(folder.join("manifest.json")).ok();
            let manifest = manifest.and_then(|text| serde_json::from_slice(&text).ok());
            let size = std::fs::metadata(folder.join(DATABASE))
                .ok()
                .map(|meta| meta.len());
            Some(Listed {
                name,
                folder,
                manifest,
                size,
            })
        })
        .collect();
    listed.sort_by_key(|backup| std::cmp::Reverse(sort_key(&backup.name)));
    listed
}

/// Removes backups that are too old or too many; never `made`, the one just made, whatever the clock says.
pub fn retain(root: &Path, retention: BackupRetention, now: Timestamp, made: &Path) {
    let listed = list(root);
    let names: Vec<&str> = listed.iter().map(|backup| backup.name.as_str()).collect();
    for name in expired(&names, retention, now) {
        let folder = root.join(name);
        if folder == made {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(%error, folder = %folder.display(), "an old backup stays");
        }
    }
}

/// Which of these backups (newest first) go. The newest stays whatever the settings say.
fn expired<'a>(names: &[&'a str], retention: BackupRetention, now: Timestamp) -> Vec<&'a str> {
    let now = now.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let too_old = |name: &str| {
        made_at(name)
            .is_some_and(|at| now.duration_since(at).as_hours() > retention.max_days.saturating_mul(24))
    };
    let max = usize::try_from(retention.max_count).unwrap_or(usize::MAX).max(1);
    names
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(index, name)| *index >= max || too_old(name))
        .map(|(_, name)| *name)
        .collect()
}

/// The moment in a name of our pattern: `YYYYMMDD-HHMMSS`, with `-N` behind it for more of one second.
fn made_at(name: &str) -> Option<DateTime> {
    let stamp = name.get(..15)?;
    let suffix = name.get(15..)?;
    let sound = suffix.is_empty()
        || suffix
            .strip_prefix('-')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    if !sound || !stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return None;
    }
    DateTime::strptime("%Y%m%d-%H%M%S", stamp).ok()
}

fn sort_key(name: &str) -> (String, u32) {
    let (stamp, suffix) = (name.get(..15).unwrap_or(name), name.get(16..).unwrap_or_default());
    (stamp.to_owned(), suffix.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Backup, expired, list, made_at, retain};
    use crate::config::BackupRetention;
    use std::path::Path;

    fn now() -> jiff::Timestamp {
        "2026-03-15T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn f16_retention_keeps_the_newest_and_counts_only_ours() {
        let keep = |max_days, max_count| BackupRetention { max_days, max_count };
        let names = [
            "20260315-110000-1",
            "20260315-110000",
            "20260310-000000",
            "20260201-000000",
        ];
        let table = [
            (keep(14, 50), vec!["20260201-000000"]),
            (keep(14, 2), vec!["20260310-000000", "20260201-000000"]),
            (
                keep(0, 1),
                vec!["20260315-110000", "20260310-000000", "20260201-000000"],
            ),
            (keep(36_500, 50), vec![]),
        ];
        for (retention, gone) in table {
            assert_eq!(expired(&names, retention, now()), gone, "{retention:?}");
        }
        assert!(
            expired(&["20200101-000000"], keep(0, 1), now()).is_empty(),
            "the newest is never deleted"
        );
        assert!(expired(&[], keep(0, 1), now()).is_empty());
    }

    #[test]
    fn f16_the_last_of_one_second_is_the_newest_also_when_earlier_ones_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for _ in 0..4 {
            let backup = Backup::begin(root.path(), now()).unwrap();
            retain(
                root.path(),
                BackupRetention {
                    max_days: 0,
                    max_count: 1,
                },
                now(),
                &backup.folder,
            );
            assert!(backup.folder.is_dir());
            assert_eq!(list(root.path()).len(), 1);
            made.push(backup.folder);
        }
        made.dedup();
        assert_eq!(made.len(), 4);
    }

    #[test]
    fn f16_foreign_names_are_not_backups() {
        for name in [
            "notes",
            "20260101",
            "20260101-0000000",
            "2026-0101-000000",
            "20261301-000000",
            "20260101-000000-",
            "20260101-000000-x",
            "сад",
        ] {
            assert!(made_at(name).is_none(), "{name}");
        }
        let root = tempfile::tempdir().unwrap();
        for name in [
            "20200101-000000",
            "20200102-000000",
            "mine",
            "20200103-000000.bak",
        ] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("20200104-000000"), "a file").unwrap();
        retain(
            root.path(),
            BackupRetention {
                max_days: 0,
                max_count: 1,
            },
            now(),
            Path::new(""),
        );
        let mut left: Vec<_> = std::fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "20200102-000000",
                "20200103-000000.bak",
                "20200104-000000",
                "mine"
            ]
        );
        assert_eq!(list(root.path()).len(), 1);
    }
}
