//! What tells this store from another one under the same name: `store.json` with a random id, which the project's first
//! writer leaves there, and our note of it. An unmounted disk, an emptied bucket and a replaced one are known by it. It
//! knows no rows.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::log::LogError;
use crate::context::hex;
use crate::failpoint;
use crate::private_files::write_private;
use crate::storage::keys::is_writer;
use crate::storage::{Bucket, Outcome, StoreError, StoreErrorKind, records};

/// The only schema of both files.
const SCHEMA: u32 = 1;

/// `membridge/store.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// Always 1.
    pub schema: u32,
    /// Random: 32 hex digits.
    pub id: String,
    /// ISO time at which it was made, by the store's clock.
    #[serde(default, deserialize_with = "records::or_nothing")]
    pub created: String,
    /// Node that made it; a sealed project does not say.
    #[serde(default, deserialize_with = "records::or_nothing", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

/// What this machine remembers of a store and a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    schema: u32,
    /// For people who open the file: which store.
    pub store: String,
    /// The store's id.
    pub id: String,
    /// ISO time of the first sync with it.
    pub since: String,
}

/// What the store is to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The one that we know.
    Same,
    /// We have not been here before.
    FirstTime,
    /// Another one under the same name.
    Other,
    /// We have been here before, and nothing is left of it.
    Missing,
}

/// Compares what we remember with what is there.
pub fn judge(remembered: Option<&str>, there: Option<&str>) -> Standing {
    match (remembered, there) {
        (None, _) => Standing::FirstTime,
        (Some(_), None) => Standing::Missing,
        (Some(ours), Some(theirs)) if ours == theirs => Standing::Same,
        (Some(_), Some(_)) => Standing::Other,
    }
}

/// What our state directory remembers of the store of this name and the project `cid`.
pub fn remembered(state: &Path, store: &str, cid: &str) -> Option<Remembered> {
    read_note(&note_of(state, store, cid))
}

fn note_of(state: &Path, store: &str, cid: &str) -> PathBuf {
    let named = Sha256::digest(format!("{store}\n{cid}"));
    let name = hex(named.get(..8).unwrap_or_default());
    state.join("stores").join(format!("{name}.json"))
}

fn read_note(path: &Path) -> Option<Remembered> {
    let note: Remembered = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (note.schema == SCHEMA && is_writer(&note.id)).then_some(note)
}

/// The identity of one project's store, here and there.
#[derive(Debug)]
pub struct StoreIdentity<'a> {
    bucket: &'a Bucket,
    path: PathBuf,
}

impl<'a> StoreIdentity<'a> {
    /// `state` is our state directory.
    pub fn new(bucket: &'a Bucket, state: &Path) -> Self {
        Self { bucket, path: note_of(state, &bucket.store.name(), bucket.keys.project()) }
    }

    /// What we remember. A note that cannot be read is none: then the store is met as for the first time, which loses
    /// nothing.
    pub fn remembered(&self) -> Option<Remembered> {
        read_note(&self.path)
    }

    /// What is there. Nothing is written.
    ///
    /// # Errors
    /// The store's; a record that is not one.
    pub async fn there(&self) -> Result<Option<StoreRecord>, StoreError> {
        let key = self.bucket.keys.store_identity();
        let Some((record, _)) = self.bucket.read::<StoreRecord>(&key).await? else {
            return Ok(None);
        };
        if record.schema == SCHEMA && is_writer(&record.id) {
            return Ok(Some(record));
        }
        Err(StoreError::new(
            StoreErrorKind::NotARecord,
            self.bucket.store.name(),
            format!("read {key}"),
            "the object names no store that this membridge knows",
        ))
    }

    /// What the store is to us: one small request. Nothing is written.
    ///
    /// # Errors
    /// See [`StoreIdentity::there`].
    pub async fn look(&self) -> Result<Standing, StoreError> {
        let there = self.there().await?;
        let remembered = self.remembered();
        Ok(judge(
            remembered.as_ref().map(|note| note.id.as_str()),
            there.as_ref().map(|record| record.id.as_str()),
        ))
    }

    /// Signs what is there with the project's key, and takes the name of a machine out of it.
    ///
    /// # Errors
    /// The store's; a record that is not one.
    pub async fn sign(&self) -> Result<(), StoreError> {
        let key = self.bucket.keys.store_identity();
        let Some((record, etag)) = self.bucket.read::<StoreRecord>(&key).await? else {
            return Ok(());
        };
        let record = StoreRecord { created_by: String::new(), ..record };
        // Whoever was faster has signed it.
        self.bucket.swap(&key, Some(&etag), &self.bucket.to_bytes(&key, &record)?).await?;
        Ok(())
    }

    /// Meets the store as for the first time: takes the id that is there, or leaves one, and remembers it. For a store
    /// that [`StoreIdentity::look`] did not know, or that the person accepted as a new one.
    ///
    /// # Errors
    /// The store's; no random numbers; the state directory's.
    pub async fn meet(&self, node: &str) -> Result<StoreRecord, LogError> {
        let record = match self.there().await? {
            Some(record) => record,
            None => self.create(node).await?,
        };
        failpoint::reach("rows.store-identity-put");
        let remembered = Remembered {
            schema: SCHEMA,
            store: self.bucket.store.name(),
            id: record.id.clone(),
            since: records::iso(self.bucket.context.server_now()),
        };
        let local = |error| LogError::Local { folder: self.path.clone(), error };
        let text = serde_json::to_vec_pretty(&remembered).map_err(|error| local(error.into()))?;
        write_private(&self.path, &text).map_err(local)?;
        Ok(record)
    }

    /// Leaves an id, unless another machine is faster: then it is the other's.
    async fn create(&self, node: &str) -> Result<StoreRecord, LogError> {
        let key = self.bucket.keys.store_identity();
        let ours = StoreRecord {
            schema: SCHEMA,
            id: self.bucket.context.token()?,
            created: records::iso(self.bucket.context.server_now()),
            created_by: if self.bucket.seal.is_on() { String::new() } else { node.to_owned() },
        };
        let put = self.bucket.swap(&key, None, &self.bucket.to_bytes(&key, &ours)?).await?;
        if matches!(put, Outcome::Won(_)) {
            return Ok(ours);
        }
        self.there().await?.ok_or(LogError::Gone(key))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Standing, StoreIdentity, judge};
    use crate::config::StoreConfig;
    use crate::context::Context;
    use crate::storage::{Bucket, Store};

    #[test]
    fn what_a_store_is_to_us() {
        let table = [
            (None, None, Standing::FirstTime),
            (None, Some("a"), Standing::FirstTime),
            (Some("a"), Some("a"), Standing::Same),
            (Some("a"), Some("b"), Standing::Other),
            (Some("a"), None, Standing::Missing),
        ];
        for (remembered, there, standing) in table {
            assert_eq!(judge(remembered, there), standing, "{remembered:?} {there:?}");
        }
    }

    fn bucket(folder: &std::path::Path) -> Bucket {
        let context = Arc::new(Context::default());
        let store = Store::open(&StoreConfig::Dir(folder.to_owned()), &context).unwrap();
        Bucket::new(store, "6fe2e0f6071ac2bb", context, folder)
    }

    #[tokio::test]
    async fn two_machines_agree_on_the_id_and_an_emptied_store_is_noticed() {
        let [store, alpha, beta] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let bucket = bucket(store.path());
        let (alpha, beta) =
            (StoreIdentity::new(&bucket, alpha.path()), StoreIdentity::new(&bucket, beta.path()));
        assert_eq!(alpha.look().await.unwrap(), Standing::FirstTime);
        let made = alpha.meet("alpha").await.unwrap();
        assert_eq!(beta.look().await.unwrap(), Standing::FirstTime);
        assert_eq!(beta.meet("beta").await.unwrap(), made);
        assert_eq!((made.created_by.as_str(), made.id.len()), ("alpha", 32));
        for machine in [&alpha, &beta] {
            assert_eq!(machine.look().await.unwrap(), Standing::Same);
            assert_eq!(machine.remembered().unwrap().id, made.id);
        }
        bucket.store.delete(&bucket.keys.store_identity()).await.unwrap();
        assert_eq!(alpha.look().await.unwrap(), Standing::Missing);
        assert_ne!(alpha.meet("alpha").await.unwrap().id, made.id);
        assert_eq!(
            (alpha.look().await.unwrap(), beta.look().await.unwrap()),
            (Standing::Same, Standing::Other)
        );
        std::fs::write(&beta.path, "{").unwrap();
        assert_eq!(beta.look().await.unwrap(), Standing::FirstTime);
    }

    #[tokio::test]
    async fn what_names_no_store_is_an_error_and_not_an_absence() {
        let [store, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let bucket = bucket(store.path());
        let identity = StoreIdentity::new(&bucket, state.path());
        let path = store.path().join(bucket.keys.store_identity());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for garbage in ["", "{}", "[]", "{\"schema\": 1, \"id\": \"x\"}", "{\"schema\": 2, \"id\": \"0\"}"] {
            std::fs::write(&path, garbage).unwrap();
            identity.look().await.unwrap_err();
            identity.meet("alpha").await.unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage, "it stays for the person to see");
        }
    }
}
