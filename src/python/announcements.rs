//! What the objects for Python nodes say about the database beside them: a manifest and a checksum object, written one
//! after the other, so that a reader can meet them half way (F21). Reads them; judges nothing.

use super::error::ReadError;
use super::manifest::Manifest;
use crate::storage::{Bucket, Etag};
use crate::sum::Sum;

/// What is announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// SHA-256 of the database object.
    pub sha256: Sum,
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
            let sha256 = sum(bucket, &bucket.keys.manifest(), "sha256 of the manifest", &manifest.sha256)?;
            Some(Announced { sha256, manifest: Some(manifest) })
        }
        (manifest, Some(sha256)) => {
            let manifest = manifest.filter(|manifest| manifest.sha256.parse() == Ok(sha256));
            Some(Announced { sha256, manifest })
        }
    };
    Ok((announced, version))
}

/// The first word of the checksum object.
async fn checksum(bucket: &Bucket) -> Result<Option<Sum>, ReadError> {
    let key = bucket.keys.sha256();
    let Some((bytes, _)) = bucket.store.get(&key).await? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    sum(bucket, &key, "checksum object", text.split_whitespace().next().unwrap_or_default()).map(Some)
}

/// What a Python node wrote as a checksum.
fn sum(bucket: &Bucket, key: &str, object: &str, text: &str) -> Result<Sum, ReadError> {
    text.to_ascii_lowercase().parse().map_err(|_| {
        let what = if text.is_empty() { "is empty" } else { "does not start with 64 hex digits" };
        ReadError::Unreadable(format!("read {key} at {}: the {object} {what}", bucket.store.name()))
    })
}
