//! Whether what lies under a key is the file that was sent (F22): the one place where etags are compared with checksums.
//! Most stores answer the MD5 of what they hold. Some answer other digits, as buckets that encrypt with keys of their
//! own do (SSE-KMS), so digits that do not fit prove nothing: then the object is read back, and its bytes decide.

use super::etags::{Said, says};
use super::{Digests, Meta, Sink, Store, StoreError};

/// What the store has under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What was sent.
    AsSent(Meta),
    /// Nothing.
    Nothing,
    /// Something else; says what, to follow "it".
    Otherwise(String),
}

impl Found {
    /// What was sent, or what is wrong, to follow "it".
    ///
    /// # Errors
    /// The wrong.
    pub fn as_sent(self) -> Result<Meta, String> {
        match self {
            Self::AsSent(meta) => Ok(meta),
            Self::Nothing => Err("is not there".to_owned()),
            Self::Otherwise(problem) => Err(problem),
        }
    }
}

/// Looks. `answered`: what the store said to the put, when it confirmed it. Where etags are no checksums, an object that
/// still has the etag of that answer is what was sent: the transfer was signed over its SHA-256.
///
/// # Errors
/// The store's.
pub(super) async fn confirm(
    store: &Store,
    key: &str,
    digests: &Digests,
    answered: Option<&Meta>,
) -> Result<Found, StoreError> {
    if let Some(meta) = answered
        && says(&meta.etag, digests) == Said::Same
    {
        return Ok(Found::AsSent(Meta { etag: meta.etag.clone(), size: digests.size }));
    }
    match store.head(key).await? {
        Some(there) => judge(store, key, there, digests, answered).await,
        None => Ok(Found::Nothing),
    }
}

/// Judges an object that is there now.
///
/// # Errors
/// The store's.
pub(super) async fn judge(
    store: &Store,
    key: &str,
    there: Meta,
    digests: &Digests,
    answered: Option<&Meta>,
) -> Result<Found, StoreError> {
    if there.size != digests.size {
        let problem = format!("has {} bytes instead of {}", there.size, digests.size);
        return Ok(Found::Otherwise(problem));
    }
    let ours = answered.is_some_and(|meta| meta.etag == there.etag);
    let no_checksums = store.etags.are_no_checksums();
    match says(&there.etag, digests) {
        Said::Same => Ok(Found::AsSent(there)),
        Said::Nothing if ours => Ok(Found::AsSent(there)),
        Said::Other if ours && no_checksums => Ok(Found::AsSent(there)),
        said => read_back(store, key, digests, &said).await,
    }
}

async fn read_back(store: &Store, key: &str, digests: &Digests, said: &Said) -> Result<Found, StoreError> {
    tracing::debug!(key, ?said, "the object is read back");
    let mut sink = Sink::hashing(digests.size);
    let Some(meta) = store.download(key, &mut sink).await? else {
        return Ok(Found::Nothing);
    };
    if sink.written() != digests.size || sink.sha256() != digests.sha256 {
        return Ok(Found::Otherwise("has another checksum".to_owned()));
    }
    if *said == Said::Other {
        store.etags.learn_that_they_are_no_checksums();
    }
    Ok(Found::AsSent(meta))
}
