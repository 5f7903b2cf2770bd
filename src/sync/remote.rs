//! What the bucket holds for our project: the newest commit, or what a Python node has pushed since — its manifest and
//! checksum object are written one after the other, so that a reader can meet them half way (F21).

use crate::error::{CommandResult, Failure};
use crate::history::{Commit, log};
use crate::storage::keys::Keys;
use crate::storage::records::{self, Manifest, ManifestExtra};
use crate::storage::{Store, StoreError};

/// The memory in the bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What names this state: SHA-256 of the commit's image, or of the object that a Python node announces.
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
        Self {
            sha256,
            manifest,
            commit: None,
            is_commit: false,
            mirrored: false,
            announced,
        }
    }

    /// The head commit, when the head is one.
    pub fn head_commit(&self) -> Option<&Commit> {
        self.commit.as_deref().filter(|_| self.is_commit)
    }

    /// The content digest, when a membridge node pushed it.
    pub fn digest(&self) -> Option<&str> {
        self.manifest
            .as_ref()?
            .membridge
            .as_ref()
            .map(|extra| extra.content_digest.as_str())
    }

    /// The fencing token of the push (F24).
    pub fn epoch(&self) -> Option<i64> {
        self.manifest.as_ref()?.membridge.as_ref()?.epoch
    }

    /// The claude-mem that wrote it, when a membridge node pushed it and knew.
    pub fn claude_mem_version(&self) -> Option<&str> {
        self.manifest
            .as_ref()?
            .membridge
            .as_ref()?
            .claude_mem_version
            .as_deref()
    }

    /// Its highest schema version, when a membridge node pushed it.
    pub fn schema_version(&self) -> Option<i64> {
        self.manifest.as_ref()?.membridge.as_ref()?.schema_version
    }

    /// Who pushed it.
    pub fn source(&self) -> &str {
        self.manifest
            .as_ref()
            .map_or("an unknown host", |manifest| manifest.source_host.as_str())
    }

    /// Observations, when the manifest says.
    pub fn observations(&self) -> Option<u64> {
        self.manifest.as_ref()?.observations
    }
}

/// Reads what the bucket holds; `None` when that is nothing for the project. `hint` is the number of the newest commit
/// that we know.
///
/// # Errors
/// The store's; a record or checksum object that is not one.
pub async fn read(store: &Store, keys: &Keys, hint: Option<u64>) -> CommandResult<Option<Head>> {
    // The announcements first: whatever they mirror is then among the commits that are read after them.
    let announced = announced(store, keys).await?;
    Ok(choose(announced, log::head(store, keys, hint).await?))
}

async fn announced(store: &Store, keys: &Keys) -> CommandResult<Option<Announced>> {
    let manifest = records::read::<Manifest>(store, &keys.manifest())
        .await
        .map_err(repairable)?;
    // In this order: a Python node writes the checksum before the manifest, so whoever has seen a new manifest sees its
    // checksum too (F21, F47).
    let checksum = checksum(store, keys).await?;
    let manifest = manifest.map(|(manifest, _)| manifest);
    let commit = manifest
        .as_ref()
        .and_then(|manifest| manifest.membridge.as_ref())
        .and_then(|extra| extra.commit);
    Ok(match (manifest, checksum) {
        (None, None) => None,
        (Some(manifest), None) => Some(Announced {
            sha256: manifest.sha256.clone(),
            manifest: Some(manifest),
            commit,
        }),
        (manifest, Some(sha256)) => {
            let manifest = manifest.filter(|manifest| manifest.sha256 == sha256);
            Some(Announced {
                sha256,
                manifest,
                commit,
            })
        }
    })
}

/// Which is newer: the newest commit, or what the objects for Python nodes announce? Theirs are the newest memory only
/// when no commit knows them: we write them after the commit that they mirror, and a push that finds others makes a
/// commit of them first.
fn choose(announced: Option<Announced>, commit: Option<Commit>) -> Option<Head> {
    let (announced, commit) = match (announced, commit) {
        (None, None) => return None,
        (Some(announced), None) => return Some(Head::announced(announced.sha256, announced.manifest)),
        (None, Some(commit)) => return Some(of_commit(commit, None, false)),
        (Some(announced), Some(commit)) => (announced, commit),
    };
    let known = [&commit.mirror_sha256, &commit.legacy_seen]
        .into_iter()
        .any(|sha256| sha256.as_deref() == Some(announced.sha256.as_str()));
    let speaks_of_a_commit = announced.manifest.is_some() && announced.commit.is_some();
    if known || speaks_of_a_commit {
        let mirrored = announced.manifest.is_some() && announced.commit == Some(commit.number);
        return Some(of_commit(commit, Some(announced.sha256), mirrored));
    }
    let mut head = Head::announced(announced.sha256, announced.manifest);
    head.commit = Some(Box::new(commit));
    Some(head)
}

fn of_commit(commit: Commit, announced: Option<String>, mirrored: bool) -> Head {
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

/// The newest commit alone, for a push that is told to write over announcements that nobody can read.
///
/// # Errors
/// The store's.
pub async fn history_only(store: &Store, keys: &Keys, hint: Option<u64>) -> CommandResult<Option<Head>> {
    Ok(choose(None, log::head(store, keys, hint).await?))
}

/// The first word of the checksum object.
async fn checksum(store: &Store, keys: &Keys) -> CommandResult<Option<String>> {
    let key = keys.sha256();
    let Some((bytes, _)) = store.get(&key).await? else {
        return Ok(None);
    };
    let word = String::from_utf8_lossy(&bytes)
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(word));
    }
    let what = if bytes.is_empty() {
        "is empty"
    } else {
        "does not start with 64 hex digits"
    };
    Err(Failure::new(format!(
        "read {key} at {}: the checksum object {what}",
        store.name()
    ))
    .hint("push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite"))
}

/// A broken manifest is mended by pushing from the machine that has the memory.
fn repairable(error: StoreError) -> Failure {
    let kind = error.kind;
    let failure = Failure::from(error);
    if kind == crate::storage::StoreErrorKind::NotARecord {
        return failure.hint(
            "then push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite",
        );
    }
    failure
}
