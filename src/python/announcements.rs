//! What the objects for Python nodes say about the database beside them: a manifest and a checksum object, written one
//! after the other, so that a reader can meet them half way (F21). Reads them; judges nothing.

use super::error::ReadError;
use super::manifest::Manifest;
use crate::storage::{Bucket, Etag};

/// What is announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// SHA-256 of the database object.
    pub sha256: String,
    /// What else is said about it; `None` where manifest and checksum speak of different databases.
    pub manifest: Option<Box<Manifest>>,
}

impl Announced {
    /// The commit that it mirrors, where it says so.
    pub fn commit(&self) -> Option<u64> {
        self.manifest.as_ref()?.membridge.as_ref()?.commit
    }
}

/// Reads both; with the version of the manifest, by which a later look sees that somebody wrote since.
///
/// # Errors
/// See [`ReadError`].
pub(super) async fn read(bucket: &Bucket) -> Result<(Option<Announced>, Option<Etag>), ReadError> {
    let manifest = bucket.read::<Manifest>(&bucket.keys.manifest()).await?;
    // In this order: a Python node writes the checksum before the manifest, so whoever has seen a new manifest sees its
    // checksum too (F21, F47).
    let checksum = checksum(bucket).await?;
    let (manifest, version) = manifest.map(|(manifest, version)| (Box::new(manifest), version)).unzip();
    let announced = match (manifest, checksum) {
        (None, None) => None,
        (Some(manifest), None) => {
            Some(Announced { sha256: manifest.sha256.clone(), manifest: Some(manifest) })
        }
        (manifest, Some(sha256)) => {
            let manifest = manifest.filter(|manifest| manifest.sha256 == sha256);
            Some(Announced { sha256, manifest })
        }
    };
    Ok((announced, version))
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
