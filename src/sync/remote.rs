//! What the bucket says it holds for our project: the manifest and the checksum object, which Python nodes write
//! one after the other, so that a reader can meet them half way (F21).

use crate::error::{CommandResult, Failure};
use crate::storage::keys::Keys;
use crate::storage::records::{self, Manifest};
use crate::storage::{Store, StoreError};

/// The database in the bucket, as announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// SHA-256 of the database object.
    pub sha256: String,
    /// The manifest; `None` where there is none or where it speaks of another database (a push was cut off).
    pub manifest: Option<Manifest>,
}

impl Head {
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

/// Reads what the bucket announces; `None` when it holds nothing for the project.
///
/// # Errors
/// The store's; a record or checksum object that is not one.
pub async fn read(store: &Store, keys: &Keys) -> CommandResult<Option<Head>> {
    let manifest = records::read::<Manifest>(store, &keys.manifest())
        .await
        .map_err(repairable)?;
    let manifest = manifest.map(|(manifest, _)| manifest);
    let checksum = checksum(store, keys).await?;
    Ok(match (manifest, checksum) {
        (None, None) => None,
        (Some(manifest), None) => Some(Head {
            sha256: manifest.sha256.clone(),
            manifest: Some(manifest),
        }),
        (manifest, Some(sha256)) => {
            let manifest = manifest.filter(|manifest| manifest.sha256 == sha256);
            Some(Head { sha256, manifest })
        }
    })
}

/// The manifest alone: one request, enough to see that nothing has changed.
///
/// # Errors
/// The store's; a manifest that is not one.
pub async fn peek(store: &Store, keys: &Keys) -> CommandResult<Option<Manifest>> {
    let manifest = records::read::<Manifest>(store, &keys.manifest())
        .await
        .map_err(repairable)?;
    Ok(manifest.map(|(manifest, _)| manifest))
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
    if kind == crate::storage::StoreErrorKind::Unexpected {
        return failure.hint(
            "then push again from the machine that has the memory: FORCE_PUSH=1 membridge push_sqlite",
        );
    }
    failure
}
