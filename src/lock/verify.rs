//! Checks from inside the work that the lock is still ours, and writes objects so that a holder who was held up past
//! its time cannot overwrite what its successor wrote.

use std::sync::Arc;
use std::time::Duration;

use super::asker::Lock;
use super::error::LockError;
use super::record::{LockRecord, holder};
use super::term::Term;
use crate::failpoint;
use crate::progress::Progress;
use crate::storage::claim::Claim;
use crate::storage::{Body, Etag, Meta, Outcome};

/// Lent to the work that is done under the lock.
#[derive(Debug)]
pub struct Verifier<'a> {
    lock: Lock<'a>,
    owner: Option<String>,
    term: Arc<Term>,
    claim: Option<Claim>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(lock: Lock<'a>, owner: Option<String>, term: Arc<Term>, claim: Option<Claim>) -> Self {
        Self { lock, owner, term, claim }
    }

    /// Reads the lock and compares the token; a process that was stopped past its TTL finds out here, also when it
    /// was stopped between the answer and reading it.
    ///
    /// # Errors
    /// [`LockError::Lost`], or the store's.
    pub async fn verify(&self) -> Result<(), LockError> {
        if failpoint::planted("lock check") {
            return Ok(());
        }
        let lock = &self.lock;
        let there = lock.bucket.read::<LockRecord>(&lock.bucket.keys.lock()).await?;
        let record = match there.map(|(record, _)| record) {
            Some(record) if record.owner == self.owner && record.timestamp > 0 => record,
            other => return Err(LockError::Lost(holder(other))),
        };
        let now = lock.bucket.context.server_now().as_second();
        if now.saturating_sub(record.timestamp) >= lock.times.ttl {
            return Err(LockError::Lost("its time ran out while this process was held up".to_owned()));
        }
        if let Some(claim) = &self.claim
            && !claim.present(&lock.bucket.store, &lock.bucket.context).await?
        {
            return Err(LockError::Lost("our claim was removed".to_owned()));
        }
        self.term.check(&lock.bucket.context)
    }

    /// The same for what somebody else's write cannot harm (a numbered commit): a lock that was taken or renewed less
    /// than `limit` ago by the clock that never stands still is not asked for again. Where claims take the place of
    /// conditions it always is.
    ///
    /// # Errors
    /// See [`Verifier::verify`].
    pub async fn verify_within(&self, limit: Duration) -> Result<(), LockError> {
        if self.claim.is_some() || self.term.age(&self.lock.bucket.context) >= limit {
            return self.verify().await;
        }
        self.term.check(&self.lock.bucket.context)
    }

    /// Remembers an object as it is. What is read or checked after this and before [`Verifier::write`] holds for the
    /// moment of the write too.
    ///
    /// # Errors
    /// The store's.
    pub async fn look(&self, key: String) -> Result<Seen, LockError> {
        let etag = self.lock.bucket.store.head(&key).await?.map(|meta| meta.etag);
        Ok(Seen { key, etag })
    }

    /// Writes an object under the lock: look at the object, verify the lock, write on the condition that the object
    /// is as it was seen. A successor can take the lock only after the verification, and whatever it writes then
    /// changes the object: one of us is refused, and never unnoticed. Where the store has no conditional writes,
    /// a claim takes their place, and a request that was held up on its way is not fenced (docs/safety.md).
    ///
    /// # Errors
    /// [`LockError::Overtaken`]: somebody wrote the object since the look; [`LockError::Lost`]; the store's.
    pub async fn write(&self, seen: &Seen, body: Body<'_>, progress: &Progress) -> Result<Meta, LockError> {
        self.verify().await?;
        let written = self.lock.bucket.swap_any(&seen.key, seen.etag.as_ref(), body, progress).await?;
        match written {
            Outcome::Won(meta) => Ok(meta),
            Outcome::Lost => Err(LockError::Overtaken(seen.key.clone())),
        }
    }
}

/// An object as it was when we looked: the condition of the write to come.
#[derive(Debug, Clone)]
pub struct Seen {
    key: String,
    etag: Option<Etag>,
}
