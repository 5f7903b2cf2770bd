//! The last-sync record: what the bucket and the local database held when they last agreed. It lies in our state
//! directory, one per store, project and database. Lost or damaged it costs one comparison, never a row.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::context::hex;
use crate::database::files::{self, Fingerprint};
use crate::database::{Counts, DatabaseError};
use crate::python::{Known, MirrorNote};

/// Raised when a field changes its meaning; an unknown number counts as no record.
const SCHEMA: u32 = 1;

/// A record as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// For people who open the file: which store.
    pub store: String,
    /// Which project.
    pub project: String,
    /// Which database.
    pub database: PathBuf,
    /// What both sides agreed on; `None` before the first success.
    pub base: Option<Base>,
    /// A push or pull that was begun and not recorded as done.
    pub pending: Option<Pending>,
    /// When SQLite's full check last found the database whole, seconds since 1970.
    #[serde(default)]
    pub checked_at: i64,
    /// When this machine last brought the copy for Python nodes up to date, seconds since 1970.
    #[serde(default)]
    pub mirrored_at: i64,
    /// What this machine last wrote for Python nodes, or was about to.
    #[serde(default)]
    pub mirror: Option<MirrorNote>,
    /// ISO time of the last push that ended well.
    pub last_push: Option<String>,
    /// ISO time of the last pull that ended well.
    pub last_pull: Option<String>,
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// SHA-256 of the image of the bucket's head: of its commit, or of the object that a Python node put there.
    pub sha256: String,
    /// Number of that commit.
    #[serde(default)]
    pub commit: Option<u64>,
    /// The objects for Python nodes are known to mirror it.
    #[serde(default)]
    pub mirrored: bool,
    /// Content digest of the local database.
    pub digest: String,
    /// Rows of the local database.
    pub counts: Counts,
    /// The local files, when they had settled: the first tier of "has anything changed".
    pub fingerprint: Option<Fingerprint>,
}

/// An intention, written before the deed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Pending {
    /// We were about to make this image a commit.
    Push {
        /// SHA-256 of the image.
        sha256: String,
        /// Content digest of the local database then.
        digest: String,
        /// Its rows.
        counts: Counts,
    },
    /// We were about to replace the local database.
    Pull,
}

/// 16 hex digits that name a store, a project and a database together.
pub fn id(store: &str, cid: &str, database: &Path) -> String {
    let id = Sha256::digest(format!("{store}\n{cid}\n{}", database.display()));
    hex(id.get(..8).unwrap_or_default())
}

/// Where the record is, and what it says.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    /// The record; a fresh one where there was none.
    pub record: SyncRecord,
    /// What was wrong with the file that was there, if anything; it was set aside.
    pub damaged: Option<String>,
}

impl RecordFile {
    /// Loads the record for this store, project and database.
    ///
    /// # Errors
    /// The state directory cannot be read or written.
    pub fn load(
        state: &Path,
        store: &str,
        project: &str,
        cid: &str,
        database: &Path,
    ) -> Result<Self, DatabaseError> {
        let path = state.join("records").join(format!("{}.json", id(store, cid, database)));
        let fresh = SyncRecord {
            schema: SCHEMA,
            store: store.to_owned(),
            project: project.to_owned(),
            database: database.to_owned(),
            base: None,
            pending: None,
            checked_at: 0,
            mirrored_at: 0,
            mirror: None,
            last_push: None,
            last_pull: None,
        };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, record: fresh, damaged: None });
            }
            Err(error) => return Err(DatabaseError::io("read the sync record", &path, error)),
        };
        let problem = match serde_json::from_slice::<SyncRecord>(&text) {
            Ok(record) if record.schema == SCHEMA => {
                return Ok(Self { path, record, damaged: None });
            }
            Ok(record) => format!("schema {} is not known", record.schema),
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("json.damaged");
        std::fs::rename(&path, &aside).map_err(|error| DatabaseError::io("set aside", &path, error))?;
        let damaged = format!("the sync record was damaged ({problem}); it is kept as {}", aside.display());
        Ok(Self { path, record: fresh, damaged: Some(damaged) })
    }

    /// Reads the record without touching anything, for doctor and status.
    pub fn peek(state: &Path, store: &str, cid: &str, database: &Path) -> Option<SyncRecord> {
        let path = state.join("records").join(format!("{}.json", id(store, cid, database)));
        let record: SyncRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (record.schema == SCHEMA).then_some(record)
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn save(&self) -> Result<(), DatabaseError> {
        let fail = |error| DatabaseError::io("write the sync record", &self.path, error);
        let text = serde_json::to_vec_pretty(&self.record).map_err(|error| fail(error.into()))?;
        files::write_private(&self.path, &text).map_err(fail)
    }

    /// Writes down what is about to be done.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn begin(&mut self, pending: Pending) -> Result<(), DatabaseError> {
        self.record.pending = Some(pending);
        self.save()
    }

    /// Writes down what goes into the object for Python nodes, and its etag once it is there.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn mirror(&mut self, sha256: &str, etag: Option<String>) -> Result<(), DatabaseError> {
        let sha256 = sha256.to_owned();
        self.record.mirror = Some(MirrorNote { sha256, etag });
        self.save()
    }

    /// Writes down that both sides agree.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn agree(&mut self, base: Base) -> Result<(), DatabaseError> {
        self.record.base = Some(base);
        self.record.pending = None;
        self.save()
    }
}

impl SyncRecord {
    /// What need not be asked of the bucket again.
    pub fn knows(&self) -> Known<'_> {
        Known {
            commit: self.base.as_ref().and_then(|base| base.commit),
            mirror: self.mirror.as_ref().map(|note| note.sha256.as_str()),
        }
    }

    /// What both sides agreed on, given what is in the bucket now: a push that was cut off after its commit counts;
    /// after a pull that was cut off nobody knows, and the rows must be compared.
    pub fn base_for(&self, remote_sha256: Option<&str>) -> Option<Base> {
        match &self.pending {
            None => self.base.clone(),
            Some(Pending::Pull) => None,
            Some(Pending::Push { sha256, digest, counts }) if Some(sha256.as_str()) == remote_sha256 => {
                Some(Base {
                    sha256: sha256.clone(),
                    commit: None,
                    mirrored: false,
                    digest: digest.clone(),
                    counts: *counts,
                    fingerprint: None,
                })
            }
            Some(Pending::Push { .. }) => self.base.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Base, Pending, RecordFile, SyncRecord};
    use crate::database::Counts;
    use std::path::Path;

    fn base(sha256: &str) -> Base {
        Base {
            sha256: sha256.to_owned(),
            commit: None,
            mirrored: false,
            digest: "d".to_owned(),
            counts: Counts::default(),
            fingerprint: None,
        }
    }

    fn load(state: &Path) -> RecordFile {
        RecordFile::load(state, "s3", "mem", "6f", Path::new("/x/claude-mem.db")).unwrap()
    }

    #[test]
    fn a_record_survives_and_a_damaged_one_is_set_aside() {
        let state = tempfile::tempdir().unwrap();
        let mut file = load(state.path());
        file.agree(base("aa")).unwrap();
        assert_eq!(load(state.path()).record.base, Some(base("aa")));
        for garbage in ["", "{", "[]", "{\"schema\": 99}", "null"] {
            std::fs::write(&file.path, garbage).unwrap();
            let again = load(state.path());
            assert!(again.damaged.is_some(), "{garbage}");
            assert_eq!(again.record.base, None);
            assert_eq!(std::fs::read_to_string(file.path.with_extension("json.damaged")).unwrap(), garbage);
        }
    }

    #[test]
    fn what_a_cut_off_run_means() {
        let record = |pending| SyncRecord {
            base: Some(base("old")),
            pending,
            ..load(Path::new("/nonexistent")).record
        };
        let push = |sha256: &str| {
            Some(Pending::Push {
                sha256: sha256.to_owned(),
                digest: "d".to_owned(),
                counts: Counts::default(),
            })
        };
        let table = [
            ("nothing pending", None, Some("old"), Some("old")),
            ("a push that arrived", push("new"), Some("new"), Some("new")),
            ("a push that did not", push("new"), Some("old"), Some("old")),
            ("a push that did not, and somebody else's", push("new"), Some("else"), Some("old")),
            ("a pull", Some(Pending::Pull), Some("new"), None),
        ];
        for (name, pending, remote, expected) in table {
            let got = record(pending).base_for(remote).map(|base| base.sha256);
            assert_eq!(got.as_deref(), expected, "{name}");
        }
    }
}
