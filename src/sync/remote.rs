//! What the bucket holds for our project: the newest commit, or what a Python node has pushed since — its manifest and
//! checksum object are written one after the other, so that a reader can meet them half way (F21).

use super::record::SyncRecord;
use crate::error::Failure;
use crate::history::{Commit, HistoryError, log};
use crate::storage::records::{self, Manifest, ManifestExtra};
use crate::storage::{Bucket, StoreError, StoreErrorKind};

/// The memory in the bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What names this state: SHA-256 of the commit's image, or of the object that a Python node announces; empty where
    /// such an object is there and nobody announces it.
    pub sha256: String,
    /// What is said about it; `None` where a Python node's announcements speak of different databases.
    pub manifest: Option<Manifest>,
    /// The newest commit, on which the next push builds.
    pub commit: Option<Box<Commit>>,
    /// Whether that commit is the head; otherwise a Python node has pushed since.
    pub is_commit: bool,
    /// The objects for Python nodes mirror that commit.
    pub mirrored: bool,
    /// SHA-256 of the object for Python nodes, as announced.
    pub announced: Option<String>,
}

/// What the objects for Python nodes announce.
#[derive(Debug, Clone, PartialEq)]
struct Announced {
    sha256: String,
    /// Only where it speaks of the same database as the checksum object.
    manifest: Option<Manifest>,
    /// The commit that the manifest says it mirrors, whatever it speaks of.
    commit: Option<u64>,
}

impl Head {
    /// The head as a Python node, or nobody's commit, left it.
    pub fn announced(sha256: String, manifest: Option<Manifest>) -> Self {
        let announced = Some(sha256.clone());
        Self { sha256, manifest, commit: None, is_commit: false, mirrored: false, announced }
    }

    /// The head commit, when the head is one.
    pub fn head_commit(&self) -> Option<&Commit> {
        self.commit.as_deref().filter(|_| self.is_commit)
    }

    /// The content digest, when a membridge node pushed it.
    pub fn digest(&self) -> Option<&str> {
        self.manifest.as_ref()?.membridge.as_ref().map(|extra| extra.content_digest.as_str())
    }

    /// The fencing token of the push (F24).
    pub fn epoch(&self) -> Option<i64> {
        self.manifest.as_ref()?.membridge.as_ref()?.epoch
    }

    /// The claude-mem that wrote it, when a membridge node pushed it and knew.
    pub fn claude_mem_version(&self) -> Option<&str> {
        self.manifest.as_ref()?.membridge.as_ref()?.claude_mem_version.as_deref()
    }

    /// Its highest schema version, when a membridge node pushed it.
    pub fn schema_version(&self) -> Option<i64> {
        self.manifest.as_ref()?.membridge.as_ref()?.schema_version
    }

    /// Who pushed it.
    pub fn source(&self) -> &str {
        self.manifest.as_ref().map_or("an unknown host", |manifest| manifest.source_host.as_str())
    }

    /// Observations, when the manifest says.
    pub fn observations(&self) -> Option<u64> {
        self.manifest.as_ref()?.observations
    }
}

/// Why nobody can say what the bucket holds.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store's: it may be asked again, and is never overruled.
    #[error(transparent)]
    Store(StoreError),
    /// The newest commit's.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A manifest or checksum object that was read and is not one. A forced push writes new ones.
    #[error("{0}")]
    Unreadable(String),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NotARecord => Self::Unreadable(error.to_string()),
            _ => Self::Store(error),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::History(error) => error.into(),
            ReadError::Unreadable(problem) => Self::new(problem)
                .hint("push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"),
        }
    }
}

/// Reads what the bucket holds; `None` when that is nothing for the project. `record` is what this machine remembers of
/// it, where it does.
///
/// # Errors
/// See [`ReadError`].
pub async fn read(bucket: &Bucket, record: Option<&SyncRecord>) -> Result<Option<Head>, ReadError> {
    // The announcements first: whatever they mirror is then among the commits that are read after them.
    let announced = announced(bucket).await?;
    let commit = log::head(bucket, hint(record)).await?;
    let ours = record.and_then(|record| record.mirror.as_ref());
    match choose(announced, commit, ours.map(|note| note.sha256.as_str())) {
        None => unannounced(bucket, None).await,
        head => Ok(head),
    }
}

/// The number of the newest commit that this machine knows.
fn hint(record: Option<&SyncRecord>) -> Option<u64> {
    record?.base.as_ref()?.commit
}

/// The head where nobody announces one. A Python node writes its database first: one that was cut off right after left
/// an object that no word speaks of, and its rows may be nowhere else in the bucket.
async fn unannounced(bucket: &Bucket, commit: Option<Commit>) -> Result<Option<Head>, ReadError> {
    if bucket.store.head(&bucket.keys.database()).await?.is_none() {
        return Ok(commit.map(|commit| of_commit(commit, None, false)));
    }
    let mut head = Head::announced(String::new(), None);
    head.announced = None;
    head.commit = commit.map(Box::new);
    Ok(Some(head))
}

/// What the bucket holds, for a push that is told to write over announcements that nobody can read: the object that
/// they should speak of counts as the push of a Python node.
///
/// # Errors
/// See [`ReadError`].
pub async fn without_announcements(bucket: &Bucket, record: &SyncRecord) -> Result<Option<Head>, ReadError> {
    let commit = log::head(bucket, hint(Some(record))).await?;
    unannounced(bucket, commit).await
}

async fn announced(bucket: &Bucket) -> Result<Option<Announced>, ReadError> {
    let manifest = records::read::<Manifest>(&bucket.store, &bucket.keys.manifest()).await?;
    // In this order: a Python node writes the checksum before the manifest, so whoever has seen a new manifest sees its
    // checksum too (F21, F47).
    let checksum = checksum(bucket).await?;
    let manifest = manifest.map(|(manifest, _)| manifest);
    let commit =
        manifest.as_ref().and_then(|manifest| manifest.membridge.as_ref()).and_then(|extra| extra.commit);
    Ok(match (manifest, checksum) {
        (None, None) => None,
        (Some(manifest), None) => {
            Some(Announced { sha256: manifest.sha256.clone(), manifest: Some(manifest), commit })
        }
        (manifest, Some(sha256)) => {
            let manifest = manifest.filter(|manifest| manifest.sha256 == sha256);
            Some(Announced { sha256, manifest, commit })
        }
    })
}

/// Which is newer: the newest commit, or what the objects for Python nodes announce? Theirs are the newest memory only
/// when no commit knows them: we write them after the commit that they mirror, and a push that finds others makes a
/// commit of them first. `ours`: what this machine wrote there last, or was about to.
fn choose(announced: Option<Announced>, commit: Option<Commit>, ours: Option<&str>) -> Option<Head> {
    let (announced, commit) = match (announced, commit) {
        (None, None) => return None,
        (Some(announced), None) => return Some(Head::announced(announced.sha256, announced.manifest)),
        (None, Some(commit)) => return Some(of_commit(commit, None, false)),
        (Some(announced), Some(commit)) => (announced, commit),
    };
    let known = [commit.mirror_sha256.as_deref(), commit.legacy_seen.as_deref(), ours]
        .into_iter()
        .any(|sha256| sha256 == Some(announced.sha256.as_str()));
    let speaks_of_a_commit = announced.manifest.is_some() && announced.commit.is_some();
    if known || speaks_of_a_commit {
        let mirrored = announced.manifest.is_some() && announced.commit == Some(commit.number);
        return Some(of_commit(commit, Some(announced.sha256), mirrored));
    }
    let mut head = Head::announced(announced.sha256, announced.manifest);
    head.commit = Some(Box::new(commit));
    Some(head)
}

pub(super) fn of_commit(commit: Commit, announced: Option<String>, mirrored: bool) -> Head {
    let manifest = Manifest {
        project: String::new(),
        canonical_id: String::new(),
        timestamp: commit.time.clone(),
        source_host: commit.host.clone(),
        db_size: Some(commit.image_bytes()),
        sha256: commit.sha256.clone(),
        observations: Some(commit.counts.observations),
        session_summaries: Some(commit.counts.session_summaries),
        user_prompts: Some(commit.counts.user_prompts),
        tables: serde_json::Value::Null,
        membridge: Some(ManifestExtra {
            version: commit.membridge_version.clone(),
            node_id: commit.node_id.clone(),
            epoch: commit.epoch,
            content_digest: commit.content_digest.clone(),
            schema_version: commit.schema_version,
            claude_mem_version: commit.claude_mem_version.clone(),
            push_id: commit.token.clone(),
            commit: Some(commit.number),
        }),
        other: serde_json::Map::new(),
    };
    Head {
        sha256: commit.sha256.clone(),
        manifest: Some(manifest),
        commit: Some(Box::new(commit)),
        is_commit: true,
        mirrored,
        announced,
    }
}

/// The first word of the checksum object.
async fn checksum(bucket: &Bucket) -> Result<Option<String>, ReadError> {
    let key = bucket.keys.sha256();
    let Some((bytes, _)) = bucket.store.get(&key).await? else {
        return Ok(None);
    };
    let word =
        String::from_utf8_lossy(&bytes).split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(word));
    }
    let what = if bytes.is_empty() { "is empty" } else { "does not start with 64 hex digits" };
    Err(ReadError::Unreadable(format!("read {key} at {}: the checksum object {what}", bucket.store.name())))
}
