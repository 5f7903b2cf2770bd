//! The project's lock as this machine asks for it: what it looks at, what it may do by the rules, what it writes.

use std::path::Path;

use super::decide::{Situation, Verdict, Why, decide};
use super::error::LockError;
use super::record::{LockRecord, Sight};
use super::term::Term;
use crate::config::{Config, LockConfig};
use crate::identity::Node;
use crate::progress::Progress;
use crate::storage::claim::{self, Claim};
use crate::storage::{Body, Bucket, Etag, Outcome, StoreError, conditional};

/// A record whose time is so far ahead of the store's (seconds) is not of this time.
const AHEAD: i64 = 60;

/// The lock of a project.
#[derive(Debug, Clone, Copy)]
pub struct Lock<'a> {
    /// Where it lies.
    pub bucket: &'a Bucket,
    /// Times.
    pub times: LockConfig,
    /// Name of the project, for the record.
    pub project: &'a str,
    /// Who asks.
    pub node: &'a Node,
    /// See [`super::local::machine_token`].
    pub machine: &'a str,
    /// Our state directory, for the lock between processes of this machine.
    pub state: &'a Path,
    /// FORCE_PUSH.
    pub force: bool,
}

/// What lies in the lock's place: `None` inside is a record that nobody can read, for whoever may step over it.
type There = Option<(Option<Sight>, Etag)>;

impl<'a> Lock<'a> {
    /// The lock of the project that is configured; `machine` is [`super::local::machine_token`]'s.
    pub fn of(config: &'a Config, bucket: &'a Bucket, machine: &'a str) -> Self {
        Self {
            bucket,
            times: config.lock,
            project: &config.project.name,
            node: &config.node,
            machine,
            state: &config.paths.state,
            force: config.overrides.force_push,
        }
    }
}

impl Lock<'_> {
    /// The lock as it lies there; `None` when there is none.
    ///
    /// # Errors
    /// The store's; a record that is not one.
    pub async fn look(bucket: &Bucket) -> Result<Option<Sight>, StoreError> {
        match bucket.read::<LockRecord>(&bucket.keys.lock()).await? {
            None => Ok(None),
            Some((record, _)) => sight(bucket, record).await.map(Some),
        }
    }

    /// The project is sealed from now on, or with another key: a lock that was given back keeps no name in the clear. One
    /// that somebody has taken meanwhile is left alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn sign_anew(before: &Bucket, now: &Bucket) -> Result<(), StoreError> {
        let key = before.keys.lock();
        if let Some((record, etag)) = before.read::<LockRecord>(&key).await?
            && record.timestamp <= 0
        {
            now.swap(&key, Some(&etag), &now.to_bytes(&key, &record)?).await?;
        }
        Ok(())
    }

    /// What the rules say about it now.
    pub fn judge(&self, sight: Option<&Sight>) -> Verdict {
        decide(&Situation {
            sight,
            host: &self.node.host,
            machine: self.machine,
            now: self.now(),
            times: self.times,
            force: self.force,
        })
    }

    /// May we have it? `Some`: it is taken over, and why.
    ///
    /// # Errors
    /// [`LockError::Held`].
    pub fn may_take(&self, sight: Option<&Sight>) -> Result<Option<Why>, LockError> {
        let verdict = self.judge(sight);
        tracing::debug!(?verdict, "lock");
        match verdict {
            Verdict::Take => Ok(None),
            Verdict::TakeOver(why) => Ok(Some(why)),
            Verdict::Refuse(held) => Err(LockError::Held(held)),
        }
    }

    /// The same look for whoever writes next; a record that nobody can read is stepped over by FORCE_PUSH only.
    pub(super) async fn there(&self) -> Result<There, LockError> {
        Ok(match self.bucket.look::<LockRecord>(&self.bucket.keys.lock()).await? {
            None => None,
            Some((Ok(record), etag)) => Some((Some(sight(self.bucket, record).await?), etag)),
            Some((Err(_), etag)) if self.force => Some((None, etag)),
            Some((Err(error), _)) => return Err(error.into()),
        })
    }

    /// The time by the store's clock, seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.bucket.context.server_now().as_second()
    }

    pub(super) fn claim_terms<'b>(&self, folder: &'b str, token: &'b str) -> claim::Terms<'b>
    where
        Self: 'b,
    {
        claim::Terms {
            folder,
            token,
            machine: Some(self.machine),
            lifetime: self.times.ttl.saturating_add(self.times.grace),
            force: self.force,
        }
    }

    /// Writes the lock record: conditionally, or, where only our claim keeps others away, plainly while it is young.
    pub(super) async fn write(
        &self,
        record: &LockRecord,
        etag: Option<&Etag>,
        claim: Option<&Claim>,
        term: &Term,
    ) -> Result<Outcome, LockError> {
        let (store, key) = (&self.bucket.store, self.bucket.keys.lock());
        let body = self.bucket.to_bytes(&key, record)?;
        if claim.is_none() {
            let condition = conditional::replacing(etag);
            return Ok(self
                .bucket
                .write_if(&key, Body::Bytes(&body), condition, &Progress::hidden())
                .await?);
        }
        term.check(&self.bucket.context)?;
        store.put(&key, Body::Bytes(&body), &Progress::hidden()).await?;
        match store.get(&key).await? {
            Some((bytes, meta)) if bytes == body => Ok(Outcome::Won(meta)),
            _ => Ok(Outcome::Lost),
        }
    }
}

/// A record, and where its time is not of this time, when the store got it.
async fn sight(bucket: &Bucket, record: LockRecord) -> Result<Sight, StoreError> {
    let ahead = record.timestamp.saturating_sub(bucket.context.server_now().as_second());
    let stored = if ahead > AHEAD { bucket.stored(&bucket.keys.lock()).await? } else { None };
    Ok(Sight { record, stored })
}
