//! The sync record: which commit of the archive this machine last agreed with, and when it last looked. It lies in our
//! state directory, one per store, project and database. Lost or damaged it costs one look at everything, never a row.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::amount::Clock;
use crate::context::hex;
use crate::database::files::Fingerprint;
use crate::database::{Counts, DatabaseError, files};
use crate::python::head::Known;
use crate::python::mirror::MirrorNote;
use crate::storage::records::iso;
use crate::sum::Sum;

/// Raised when a field changes its meaning; an unknown number counts as no record.
const SCHEMA: u32 = 2;

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
    /// The commit that held just what was here; `None` before the first one.
    pub base: Option<Base>,
    /// When the archive was last looked at, seconds since 1970.
    #[serde(default)]
    pub looked_at: Option<i64>,
    /// Whether the copy for Python nodes was on then.
    #[serde(default)]
    pub mirror_on: Option<bool>,
    /// The etag of its manifest then.
    #[serde(default)]
    pub manifest_etag: Option<String>,
    /// When SQLite's full check last found the database whole, seconds since 1970.
    #[serde(default)]
    pub checked_at: i64,
    /// What was in the database when it was last read whole.
    #[serde(default)]
    pub read: Option<LastRead>,
    /// What this machine last wrote for Python nodes, or was about to.
    #[serde(default)]
    pub mirror: Option<MirrorNote>,
    /// SHA-256 of the image of a Python node that was taken in last, row by row.
    #[serde(default)]
    pub taken_in: Option<Sum>,
    /// ISO time of the last commit that this machine made.
    pub last_push: Option<String>,
    /// ISO time of the last sync that ended well.
    pub last_sync: Option<String>,
    /// ISO time of the first one; unknown where an earlier membridge made the record.
    #[serde(default)]
    pub first_sync: Option<String>,
    /// Observations that went on purpose since the last commit of this machine: by a restore, by `--accept-deletions`.
    #[serde(default)]
    pub gone: u64,
    /// Those that other machines deleted, as they were heard of.
    #[serde(default)]
    pub gone_elsewhere: Vec<Gone>,
    /// When rows of other machines began to wait for the end of a session, because its worker cannot stand a lock: seconds
    /// since 1970, by the store's clock.
    #[serde(default)]
    pub postponed_at: Option<i64>,
    /// The name that the project had before, where a person said so.
    #[serde(default)]
    pub succeeds: Option<String>,
    /// The name that the project was given, as its settings in the bucket say.
    #[serde(default)]
    pub renamed_to: Option<String>,
}

/// A commit that held just what was here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its number.
    pub commit: u64,
}

/// What a database held, and what its files looked like before it was read: the same files hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    /// Its files.
    pub print: Fingerprint,
    /// Rows of its core tables.
    pub counts: Counts,
    /// Its content digest.
    pub digest: Sum,
}

/// Observations that went, and when that was heard of: seconds since 1970, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// When.
    pub at: i64,
    /// How many.
    pub observations: u64,
}

/// So many times are kept apart; the oldest of more become one.
const MOST_GONE: usize = 64;

impl SyncRecord {
    /// How many observations a machine may lack for good reasons, beside a commit that was made at `made`: what others deleted
    /// before is not in that commit either. Where its time is not known, all of them.
    pub fn gone_since(&self, made: Option<i64>) -> u64 {
        let later = self.gone_elsewhere.iter().filter(|gone| made.is_none_or(|made| gone.at >= made));
        later.fold(self.gone, |sum, gone| sum.saturating_add(gone.observations))
    }
}

/// 16 hex digits that name a store, a project and a database together.
pub fn id(store: &str, cid: &str, database: &Path) -> String {
    let id = Sha256::digest(format!("{store}\n{cid}\n{}", database.display()));
    hex(id.get(..8).unwrap_or_default())
}

/// Lets the record of one database be that of another: a copy of it. Where there is none, there is none.
pub fn rename(state: &Path, store: &str, cid: &str, from: &Path, to: &Path) {
    let path = |database| state.join("records").join(format!("{}.json", id(store, cid, database)));
    let map = |database| state.join("pagemaps").join(format!("{}.map", id(store, cid, database)));
    let _ = std::fs::rename(path(from), path(to));
    let _ = std::fs::rename(map(from), map(to));
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
            looked_at: None,
            mirror_on: None,
            manifest_etag: None,
            checked_at: 0,
            read: None,
            mirror: None,
            taken_in: None,
            last_push: None,
            last_sync: None,
            first_sync: None,
            gone: 0,
            gone_elsewhere: Vec::new(),
            postponed_at: None,
            succeeds: None,
            renamed_to: None,
        };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, record: fresh, damaged: None });
            }
            Err(error) => return Err(DatabaseError::io("read the sync record", &path, error)),
        };
        let problem = match serde_json::from_slice::<SyncRecord>(&text) {
            Ok(record) if record.schema == SCHEMA => return Ok(Self { path, record, damaged: None }),
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

    /// The records of all projects that the database was synced as, in this store.
    pub fn all(state: &Path, store: &str, database: &Path) -> Vec<SyncRecord> {
        let entries = std::fs::read_dir(state.join("records")).into_iter().flatten().flatten();
        let read = entries.filter_map(|entry| std::fs::read(entry.path()).ok());
        let records = read.filter_map(|text| serde_json::from_slice::<SyncRecord>(&text).ok());
        records
            .filter(|record| record.schema == SCHEMA && record.store == store && record.database == database)
            .collect()
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

    /// Writes down that the archive was looked at.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn looked(
        &mut self,
        at: i64,
        mirror_on: bool,
        manifest: Option<String>,
    ) -> Result<(), DatabaseError> {
        self.record.looked_at = Some(at);
        self.record.mirror_on = Some(mirror_on);
        self.record.manifest_etag = manifest;
        self.save()
    }

    /// Writes down what goes into the object for Python nodes, and its etag once it is there.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn mirror(&mut self, sha256: Sum, etag: Option<String>) -> Result<(), DatabaseError> {
        self.record.mirror = Some(MirrorNote { sha256, etag });
        self.save()
    }

    /// Writes down that so many observations go on purpose.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn let_go(&mut self, observations: u64) -> Result<(), DatabaseError> {
        self.record.gone = self.record.gone.saturating_add(observations);
        self.save()
    }

    /// Writes down that other machines deleted so many observations, heard of at `at`.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn hear_of_gone(&mut self, at: i64, observations: u64) -> Result<(), DatabaseError> {
        let all = &mut self.record.gone_elsewhere;
        all.push(Gone { at, observations });
        // Under the earlier time it counts for less.
        if let [first, second, ..] = all[..]
            && all.len() > MOST_GONE
        {
            let observations = first.observations.saturating_add(second.observations);
            all.splice(..2, [Gone { observations, ..first }]);
        }
        self.save()
    }

    /// Writes down that the newest commit holds just what is here.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn agree(&mut self, commit: u64) -> Result<(), DatabaseError> {
        self.record.base = Some(Base { commit });
        self.record.gone = 0;
        self.record.gone_elsewhere.clear();
        self.save()
    }
}

impl SyncRecord {
    /// What a person may want to know of rows that wait for the end of a session; `None`: none do.
    pub fn postponed(&self, clock: &Clock) -> Option<String> {
        let since = clock.when(clock.at(self.postponed_at?));
        Some(format!(
            "rows of other machines wait since {since} for the end of a session: this claude-mem cannot take them in beside its work. To have them now: membridge sync. From claude-mem 13.10.2 on they come at once"
        ))
    }

    /// A sync ended well.
    pub fn synced(&mut self, at: jiff::Timestamp) {
        // A record that synced before this was noted was there earlier than any that has it noted.
        if self.last_sync.is_none() {
            self.first_sync = Some(at.to_string());
        }
        self.last_sync = Some(iso(at));
    }

    /// What this machine knows of the bucket's head.
    pub fn knows(&self) -> Known {
        Known {
            commit: self.base.as_ref().map(|base| base.commit),
            mirror: self.mirror.as_ref().map(|note| note.sha256),
        }
    }

    /// Whether the copy for Python nodes is on, as far as this machine has heard; on, as the drop-in promises, where it
    /// has not.
    pub fn mirror_is_on(&self) -> bool {
        self.mirror_on.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::{Base, Gone, MOST_GONE, RecordFile};
    use std::path::Path;

    #[test]
    fn what_others_deleted_before_a_commit_was_made_excuses_nothing_beside_it() {
        let state = tempfile::tempdir().unwrap();
        let mut file =
            RecordFile::load(state.path(), "s3", "mem", "6f", Path::new("/x/claude-mem.db")).unwrap();
        file.let_go(5).unwrap();
        for (at, observations) in [(100, 30), (200, 7)] {
            file.hear_of_gone(at, observations).unwrap();
        }
        for (made, gone) in [(None, 42), (Some(100), 42), (Some(101), 12), (Some(200), 12), (Some(201), 5)] {
            assert_eq!(file.record.gone_since(made), gone, "{made:?}");
        }
        for at in (300..).take(MOST_GONE) {
            file.hear_of_gone(at, 1).unwrap();
        }
        assert_eq!(file.record.gone_elsewhere.len(), MOST_GONE);
        assert_eq!(file.record.gone_elsewhere.first(), Some(&Gone { at: 100, observations: 38 }));
        assert_eq!(file.record.gone_since(None), 42 + MOST_GONE as u64);
        file.agree(3).unwrap();
        assert_eq!(file.record.gone_since(None), 0);
    }

    #[test]
    fn a_record_survives_and_a_damaged_one_is_set_aside() {
        let state = tempfile::tempdir().unwrap();
        let load =
            || RecordFile::load(state.path(), "s3", "mem", "6f", Path::new("/x/claude-mem.db")).unwrap();
        let mut file = load();
        file.agree(3).unwrap();
        assert_eq!(load().record.base, Some(Base { commit: 3 }));
        for garbage in ["", "{", "[]", "{\"schema\": 99}", "null"] {
            std::fs::write(&file.path, garbage).unwrap();
            let again = load();
            assert!(again.damaged.is_some(), "{garbage}");
            assert_eq!(again.record.base, None);
            assert_eq!(std::fs::read_to_string(file.path.with_extension("json.damaged")).unwrap(), garbage);
        }
    }
}
