//! The safety backups of pulls: `~/.claude-mem/backups/pull-overwrite/YYYYMMDD-HHMMSS/`, in the layout of the
//! Python script. Makes them and lists them; which of them are asked about is said in `retention`, which go in `proof`.

mod retention;

pub use retention::candidates;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempPath;

use crate::amount::count;
use crate::database::{DatabaseError, files, snapshot};
use crate::private_files::make_private_folder;
use crate::storage::Digests;
use crate::ui::Progress;

/// The name of the database in a backup.
pub const DATABASE: &str = "claude-mem.db";

const MANIFEST: &str = "manifest.json";

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
        let taken = list(root).into_iter().filter(|backup| backup.name.starts_with(&name));
        let first = taken.map(|backup| sort_key(&backup.name).1.saturating_add(1)).max().unwrap_or(0);
        for attempt in first..first.saturating_add(1000) {
            let folder = if attempt == 0 { root.join(&name) } else { root.join(format!("{name}-{attempt}")) };
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
                .create(&folder);
            match made {
                Ok(()) => return Ok(Self { folder }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(DatabaseError::io("make", &folder, error)),
            }
        }
        let error =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "a thousand backups of one second");
        Err(DatabaseError::io("make", &root.join(name), error))
    }

    /// An empty file, 0600, for the database; it gets its name when it is whole.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_database(&self) -> Result<TempPath, DatabaseError> {
        files::temporary(&self.folder, "backup")
    }

    /// Gives the finished copy, of a database with so many observations, its name, and says in the manifest what it is. The
    /// folder is durable then.
    ///
    /// # Errors
    /// It cannot be renamed, read or described.
    pub fn finish(
        &self,
        copy: TempPath,
        manifest: &mut BackupManifest,
        observations: u64,
    ) -> Result<PathBuf, DatabaseError> {
        let path = self.folder.join(DATABASE);
        copy.persist(&path).map_err(|error| DatabaseError::io("write", &path, error.error))?;
        let digests = Digests::of_file(&path).map_err(|error| DatabaseError::io("read", &path, error))?;
        (manifest.local_sha, manifest.local_obs) = (digests.sha256.to_string(), observations);
        let told = self.folder.join(MANIFEST);
        let fail = |error| DatabaseError::io("write", &told, error);
        let text = serde_json::to_vec_pretty(manifest).map_err(|error| fail(error.into()))?;
        files::write_private(&told, &text).map_err(fail)?;
        files::sync_folder(&self.folder)?;
        files::sync_folder(self.folder.parent().unwrap_or(Path::new("/")))?;
        Ok(path)
    }

    /// Keeps a copy of the old vector index beside, as the script does. Best effort: it can be rebuilt.
    pub fn add_vectors(&self, chroma: &Path) {
        if !chroma.is_file() {
            return;
        }
        let target = self.folder.join("chroma.sqlite3");
        let copied = files::temporary(&self.folder, "chroma").and_then(|temporary| {
            snapshot::Pinned::new(chroma)?.copy_to(&temporary, &Progress::hidden())?;
            temporary.persist(&target).map_err(|error| DatabaseError::io("write", &target, error.error))
        });
        if let Err(error) = copied {
            tracing::warn!(%error, "the vector index was not copied into the backup");
        }
    }

    /// Removes a backup of something that was not replaced after all, or that is elsewhere too.
    pub fn discard(&self) {
        remove(&self.folder);
    }
}

/// The database first: a folder that a kill leaves half removed is no backup any more.
fn remove_all(folder: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_file(folder.join(DATABASE));
    std::fs::remove_dir_all(folder)
}

/// Deletes a backup that a person wants nothing of any more.
///
/// # Errors
/// It cannot be removed.
pub fn forget(backup: &Listed) -> std::io::Result<()> {
    remove_all(&backup.folder)
}

fn remove(folder: &Path) {
    if let Err(error) = remove_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "an unneeded backup stays");
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

/// The name that `restore-backup` takes for the backup whose database this is.
pub fn name_of(backup: &Path) -> String {
    let name = backup.parent().and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A backup that is there.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Folder name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// It has a manifest, whatever is in it.
    pub told: bool,
    /// Its manifest, when it can be read.
    pub manifest: Option<BackupManifest>,
    /// The database that it is of, as its manifest says.
    pub of: Option<PathBuf>,
    /// What its manifest says under `local_ahead`: it holds rows that were nowhere else. `None` when nothing.
    pub local_ahead: Option<bool>,
    /// Bytes of its database; `None` where there is none.
    pub size: Option<u64>,
}

impl Listed {
    /// Its rows may be nowhere else: everything but a clear word that they are. For people; what goes is proved. A
    /// manifest is written before the database is replaced, so a copy that has none is of one that never was.
    pub fn is_precious(&self) -> bool {
        self.told && self.local_ahead != Some(false)
    }

    /// Whether it is one of this database, as far as anybody says. All databases of a home share the folder.
    pub fn is_of(&self, database: &Path) -> bool {
        let real = |path: &Path| files::resolve(path).unwrap_or_else(|_| path.to_owned());
        self.of.as_ref().is_none_or(|of| real(of) == real(database))
    }

    /// For people: how much is in it.
    pub fn describe(&self) -> String {
        let rows = self.manifest.as_ref().map(|manifest| manifest.local_obs);
        rows.map_or("no manifest".to_owned(), |rows| count(rows, "observation", "observations"))
    }

    /// When it was made, as its name says.
    pub fn at(&self) -> Option<Timestamp> {
        made_at(&self.name)?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
    }
}

/// Says in a backup's manifest that its rows are in the live database now, so that it ages as others do. Best effort:
/// otherwise it is kept.
pub fn settle(folder: &Path) {
    let Some(mut manifest) = told(folder) else {
        return;
    };
    if let Some(fields) = manifest.as_object_mut() {
        fields.insert("local_ahead".to_owned(), false.into());
    }
    let path = folder.join(MANIFEST);
    let written = serde_json::to_vec_pretty(&manifest)
        .map_err(std::io::Error::from)
        .and_then(|text| files::write_private(&path, &text));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "the backup stays marked as the only copy of its rows");
    }
}

fn told(folder: &Path) -> Option<Value> {
    let text = std::fs::read(folder.join(MANIFEST)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The backups of one database, newest first.
pub fn list_of(root: &Path, database: &Path) -> Vec<Listed> {
    let mut listed = list(root);
    listed.retain(|backup| backup.is_of(database));
    listed
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
            let told = told(&folder);
            let local_ahead = told.as_ref().and_then(|told| told.get("local_ahead")?.as_bool());
            let of = told.as_ref().and_then(|told| told.get("db_path")?.as_str().map(PathBuf::from));
            let manifest = told.and_then(|told| serde_json::from_value(told).ok());
            let size = std::fs::metadata(folder.join(DATABASE)).ok().map(|meta| meta.len());
            let told = folder.join(MANIFEST).exists();
            Some(Listed { name, folder, told, manifest, of, local_ahead, size })
        })
        .collect();
    listed.sort_by_key(|backup| std::cmp::Reverse(sort_key(&backup.name)));
    listed
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
