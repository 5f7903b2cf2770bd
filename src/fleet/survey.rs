//! What the bucket says of a fleet: its projects, the notes that machines leave about themselves, the leases. Asked
//! seldom, and kept for a while; a store that does not answer leaves what was known. Writes nothing, knows no HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::StoreConfig;
use crate::context::Context;
use crate::error::Failure;
use crate::identity::canonical_id;
use crate::join::{self, Files};
use crate::leadership::{self, LeaseRecord};
use crate::rows::log::{LogError, RowLog};
use crate::rows::node::NodeRecord;
use crate::storage::{Bucket, Etag, Store, StoreError, StoreErrorKind};

/// How long what a project's part of the bucket says is taken for true.
const FRESH: Duration = Duration::from_secs(15);

/// The same for the list of projects, whose listing names every object.
const LIST_FRESH: Duration = Duration::from_mins(10);

/// A page waits for the store no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// More machines than a fleet has: the rest is not read.
const MOST_NOTES: usize = 256;

/// More projects than a person has.
const MOST_PROJECTS: usize = 256;

/// What a machine wrote about itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Note {
    /// The installation.
    #[serde(skip)]
    pub writer: String,
    /// The etag of what it wrote.
    #[serde(skip)]
    pub etag: Option<Etag>,
    /// Its name.
    pub node_id: String,
    /// Its host name.
    pub host: String,
    /// When, seconds since 1970.
    pub at: f64,
    /// How many observations it had.
    pub observations: Option<i64>,
    /// Version of membridge there.
    pub membridge_version: String,
    /// Version of claude-mem there.
    pub claude_mem_version: Option<String>,
    /// Processor architecture.
    pub arch: String,
    /// PRIMARY_NODE_ID there.
    pub configured_primary: Option<String>,
    /// How its last sync ended, in one word.
    pub last_outcome: Option<String>,
    /// When, ISO.
    pub last_sync: Option<String>,
    /// Records that wait there.
    pub waiting: u64,
    /// Rows that are held there.
    pub held: u64,
    /// Where its agent says that it listens. Whoever can write into the bucket can write this: it is shown, never asked.
    pub agent_url: Option<String>,
}

/// What is known of a project.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Who is primary.
    pub lease: Option<LeaseRecord>,
    /// What machines wrote.
    pub notes: Vec<Note>,
    /// The project's name, where somebody wrote it down.
    pub name: Option<String>,
    /// Why this is not what the store says now.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Memory {
    projects: BTreeMap<String, (Duration, Known)>,
    /// About whom somebody asks now.
    asking: BTreeSet<String>,
    listed: Option<(Duration, Vec<String>)>,
}

/// The eye on the bucket.
#[derive(Debug)]
pub struct Survey {
    store: StoreConfig,
    state: PathBuf,
    key: PathBuf,
    context: Arc<Context>,
    memory: Mutex<Memory>,
    /// One asks at a time; whoever waited finds the answer there.
    turn: tokio::sync::Mutex<()>,
}

impl Survey {
    /// On this store; `state` is our state directory, `key` the file with the fleet's key.
    pub fn new(store: StoreConfig, state: PathBuf, key: PathBuf, context: Arc<Context>) -> Self {
        Self { store, state, key, context, memory: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// A project's place in the store, opened with this machine's key where it is sealed. The store is asked each time:
    /// another machine may have sealed it since.
    ///
    /// # Errors
    /// The store cannot be opened, or the project not with the key that is here.
    pub async fn bucket(&self, cid: &str) -> Result<Bucket, Failure> {
        self.joined(self.place(cid)?).await
    }

    fn place(&self, cid: &str) -> Result<Bucket, StoreError> {
        let store = Store::open(&self.store, &self.context)?;
        Ok(Bucket::new(store, cid, Arc::clone(&self.context), &self.state))
    }

    async fn joined(&self, mut bucket: Bucket) -> Result<Bucket, Failure> {
        bucket.seal = join::ask(&bucket, &Files::of(&self.key, &self.state, &bucket), false).await?;
        Ok(bucket)
    }

    /// What is remembered of a project, without asking anybody; and whether it is time that somebody asks.
    pub fn remembered(&self, cid: &str) -> (Known, bool) {
        let (known, fresh) = self.recall(cid);
        (known, !fresh && is_cid(cid) && !self.memory().asking.contains(cid))
    }

    /// What is remembered, and whether it can be taken for true.
    fn recall(&self, cid: &str) -> (Known, bool) {
        let memory = self.memory();
        let now = self.context.uptime();
        match memory.projects.get(cid) {
            Some((at, known)) => (known.clone(), now.saturating_sub(*at) < FRESH),
            None => (Known::default(), false),
        }
    }

    /// What is known of a project; asks the store when that is old, and waits for it no longer than a page would.
    pub async fn of(&self, cid: &str) -> Known {
        let (known, fresh) = self.recall(cid);
        if fresh || !is_cid(cid) {
            return known;
        }
        let _asking = Asking::new(self, cid);
        let Ok(_turn) = tokio::time::timeout(PATIENCE, self.turn.lock()).await else {
            return Known { trouble: Some("the store does not answer".to_owned()), ..known };
        };
        let (known, fresh) = self.recall(cid);
        if fresh {
            return known;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(cid, &known)).await;
        let known = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(error)) => Known { trouble: Some(error.to_string()), ..known },
            Err(_) => Known { trouble: Some("the store does not answer".to_owned()), ..known },
        };
        let mut memory = self.memory();
        if memory.projects.len() >= MOST_PROJECTS {
            let oldest = memory.projects.iter().min_by_key(|(_, (at, _))| *at).map(|(cid, _)| cid.clone());
            oldest.map(|cid| memory.projects.remove(&cid));
        }
        memory.projects.insert(cid.to_owned(), (self.context.uptime(), known.clone()));
        known
    }

    /// Forgets a project, whose lease has just been written.
    pub fn forget(&self, cid: &str) {
        self.memory().projects.remove(cid);
    }

    /// The canonical ids of the projects in the bucket.
    pub async fn projects(&self) -> Vec<String> {
        let now = self.context.uptime();
        let before = self.memory().listed.clone();
        if let Some((at, listed)) = &before
            && now.saturating_sub(*at) < LIST_FRESH
        {
            return listed.clone();
        }
        let listed = tokio::time::timeout(PATIENCE, async {
            let store = Store::open(&self.store, &self.context)?;
            store.list("projects/").await
        });
        let Ok(Ok(entries)) = listed.await else {
            return before.map(|(_, listed)| listed).unwrap_or_default();
        };
        let listed = projects_in(entries.iter().map(|entry| entry.key.as_str()));
        self.memory().listed = Some((now, listed.clone()));
        listed
    }

    async fn ask(&self, cid: &str, before: &Known) -> Result<Known, Failure> {
        let place = self.place(cid)?;
        place.store.leave_no_trace();
        let bucket = self.joined(place).await?;
        let lease = match leadership::look(&bucket).await {
            Ok(found) => found,
            // Nobody is primary by a lease that nobody can read; the next push says so.
            Err(error) if error.kind == StoreErrorKind::NotARecord => None,
            Err(error) => return Err(error.into()),
        };
        let name = match &before.name {
            Some(name) => Some(name.clone()),
            None => written_name(&bucket, cid).await?,
        };
        Ok(Known { lease, notes: notes(&bucket, &self.state, &before.notes).await?, name, trouble: None })
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark that somebody asks about a project; it goes however that ends.
struct Asking<'a>(&'a Survey, &'a str);

impl<'a> Asking<'a> {
    fn new(survey: &'a Survey, cid: &'a str) -> Self {
        survey.memory().asking.insert(cid.to_owned());
        Self(survey, cid)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.memory().asking.remove(self.1);
    }
}

/// Whether this can be a canonical id: it becomes part of keys.
pub fn is_cid(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn projects_in<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<String> {
    let ids = keys.filter_map(|key| key.strip_prefix("projects/")?.split('/').next());
    let ids: BTreeSet<&str> = ids.filter(|id| is_cid(id)).collect();
    ids.into_iter().take(MOST_PROJECTS).map(str::to_owned).collect()
}

/// A name is believed when the id is its own: nobody can give a project another's name.
async fn written_name(bucket: &Bucket, cid: &str) -> Result<Option<String>, StoreError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        project: String,
    }
    for key in [bucket.keys.manifest(), bucket.keys.lock()] {
        match bucket.read::<Named>(&key).await {
            Ok(Some((named, _))) if canonical_id(&named.project) == cid => return Ok(Some(named.project)),
            Ok(_) => {}
            Err(error) if error.kind == StoreErrorKind::NotARecord => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The notes of all machines. One whose etag is known is not fetched again; one that cannot be read is left out.
async fn notes(bucket: &Bucket, state: &Path, before: &[Note]) -> Result<Vec<Note>, LogError> {
    let log = RowLog::new(bucket, state);
    let mut notes = Vec::new();
    for listed in log.nodes().await?.into_iter().take(MOST_NOTES) {
        let known = before.iter().find(|note| note.writer == listed.writer);
        match known.filter(|note| note.etag.is_some() && note.etag == listed.etag) {
            Some(known) => notes.push(known.clone()),
            None => match log.node(&listed.writer).await {
                Ok(Some((record, etag))) => notes.push(Note::of(&record, etag)),
                Ok(None) => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(notes)
}

impl Note {
    fn of(record: &NodeRecord, etag: Etag) -> Self {
        let observations = record.counts.get("observations");
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit an f64")]
        let at = record.at().unwrap_or(0) as f64;
        Self {
            writer: record.writer.clone(),
            etag: Some(etag),
            node_id: record.name().to_owned(),
            host: record.host.clone(),
            at,
            observations: observations.and_then(|count| i64::try_from(*count).ok()),
            membridge_version: record.membridge_version.clone(),
            claude_mem_version: record.claude_mem_version.clone(),
            arch: record.arch.clone(),
            configured_primary: record.configured_primary.clone(),
            last_outcome: record.last_sync.as_ref().map(|last| last.outcome.clone()),
            last_sync: record.last_sync.as_ref().map(|last| last.time.clone()),
            waiting: record.waiting,
            held: record.held,
            agent_url: record.agent_url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Survey, is_cid, projects_in};
    use crate::config::StoreConfig;
    use std::sync::Arc;

    #[test]
    fn projects_are_folders_whose_name_is_an_id() {
        let keys = [
            "projects/6fe2e0f6071ac2bb/sqlite/manifest.json",
            "projects/6fe2e0f6071ac2bb/locks/active.lock",
            "projects/../secret",
            "projects/ABCDEF0123456789/x",
            "other/e4b16ee4be9e8cde/x",
            "projects/e4b16ee4be9e8cde",
        ];
        assert_eq!(projects_in(keys.into_iter()), ["6fe2e0f6071ac2bb", "e4b16ee4be9e8cde"]);
        assert!(!is_cid("6fe2e0f6071ac2b") && !is_cid("6fe2e0f6071ac2bg") && !is_cid("../../../../../ab"));
    }

    #[tokio::test]
    async fn a_store_that_is_away_leaves_what_was_known() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        std::fs::create_dir_all(root.join("projects/6fe2e0f6071ac2bb/leadership")).unwrap();
        let lease =
            r#"{"primary_node_id": "desk", "issued_at": 1, "expires_at": 2, "lease_seconds": 1, "epoch": 3}"#;
        std::fs::write(root.join("projects/6fe2e0f6071ac2bb/leadership/lease.json"), lease).unwrap();
        let (state, key) = (folder.path().join("state"), folder.path().join("fleet.key"));
        let survey = Survey::new(StoreConfig::Dir(root.clone()), state, key, Arc::default());
        let cid = "6fe2e0f6071ac2bb";
        assert_eq!(survey.of(cid).await.lease.unwrap().primary_node_id, "desk");
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(survey.of(cid).await.trouble, None, "fresh enough");
        survey.forget(cid);
        let known = survey.of(cid).await;
        assert!(known.trouble.is_some() && known.lease.is_none(), "{known:?}");
    }
}
