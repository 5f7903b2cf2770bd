//! The lock while it is held: how long it may still be relied on, its renewal while work goes on, its release.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::asker::Lock;
use super::decide::Why;
use super::error::LockError;
use super::local::LocalLock;
use super::record::{LockRecord, holder};
use super::term::Term;
use super::verify::Verifier;
use crate::error::Failure;
use crate::progress::Progress;
use crate::storage::claim::Claim;
use crate::storage::{Body, Condition, Etag, Outcome, PutAnswer, StoreError, StoreErrorKind};

/// How long a request that is on its way may take to end once its caller has to stop.
pub(super) const SETTLE: Duration = Duration::from_secs(10);

/// A lock record of ours that is in the bucket.
#[derive(Debug)]
pub(super) struct Won {
    pub(super) record: LockRecord,
    pub(super) etag: Etag,
    pub(super) term: Arc<Term>,
    pub(super) took_over: Option<Why>,
}

/// The lock, held. It must be given back with [`Guard::release`]; a process that dies leaves it to its TTL.
#[derive(Debug)]
#[must_use = "the lock must be released"]
pub struct Guard<'a> {
    lock: Lock<'a>,
    record: LockRecord,
    etag: Etag,
    term: Arc<Term>,
    claim: Option<Claim>,
    /// Why an existing lock was taken over, when it was.
    pub took_over: Option<Why>,
    _local: LocalLock,
}

impl<'a> Guard<'a> {
    pub(super) fn new(lock: Lock<'a>, won: Won, claim: Option<Claim>, local: LocalLock) -> Self {
        Self {
            lock,
            record: won.record,
            etag: won.etag,
            term: won.term,
            claim,
            took_over: won.took_over,
            _local: local,
        }
    }

    /// Runs `work` while renewing at a third of the TTL. When the lock is lost, or cannot be renewed in time, or
    /// a signal comes, the work is dropped and the reason is returned; once its time is up, the work is not even
    /// polled again. A renewal that is on its way when the work ends is let finish, so that it cannot come through
    /// after the release.
    ///
    /// # Errors
    /// The work's own; [`LockError::Lost`]; the interruption.
    pub async fn hold<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        /// So that a machine that slept is noticed.
        const NAP: Duration = Duration::from_secs(30);
        let context = &*self.lock.bucket.context;
        let term = Arc::clone(&self.term);
        let mut work = std::pin::pin!(work);
        let mut work = std::future::poll_fn(|waker| match term.check(context) {
            Ok(()) => work.as_mut().poll(waker),
            Err(lost) => Poll::Ready(Err(lost.into())),
        });
        let mut signal = std::pin::pin!(context.interrupted());
        loop {
            let wait = self.term.until_renewal(context);
            if !wait.is_zero() {
                tokio::select! {
                    biased;
                    signal = &mut signal => return Err(Failure::interrupted(signal)),
                    end = &mut work => return end,
                    () = tokio::time::sleep(wait.min(NAP)) => continue,
                }
            }
            let mut renewal = std::pin::pin!(self.renew_in_time());
            let end = tokio::select! {
                biased;
                signal = &mut signal => Err(Failure::interrupted(signal)),
                end = &mut work => end,
                renewed = &mut renewal => {
                    renewed?;
                    continue;
                }
            };
            let _ = tokio::time::timeout(SETTLE, renewal).await;
            return end;
        }
    }

    /// Renews; keeps trying through trouble for as long as the lock may be relied on.
    async fn renew_in_time(&mut self) -> Result<(), LockError> {
        let context = &*self.lock.bucket.context;
        let pause = (self.term.ttl / 20).min(Duration::from_secs(5));
        loop {
            // The work may look at the clock before the request ends.
            self.term.trouble(Some("the store did not answer".to_owned()));
            let trouble = match tokio::time::timeout(self.term.left(context), self.renew()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(LockError::Store(error))) => error.to_string(),
                Ok(Err(other)) => return Err(other),
                Err(_) => "the store did not answer".to_owned(),
            };
            self.term.trouble(Some(trouble));
            self.term.check(context)?;
            tokio::time::sleep(pause.min(self.term.left(context))).await;
        }
    }

    async fn renew(&mut self) -> Result<(), LockError> {
        let lock = &self.lock;
        let began = lock.bucket.context.uptime();
        let now = lock.bucket.context.server_now().as_second();
        let mut record = self.record.clone();
        record.timestamp = now;
        record.expires_at = Some(now.saturating_add(lock.times.ttl));
        record.renewals = record.renewals.map(|count| count.saturating_add(1));
        if let Some(claim) = &mut self.claim {
            claim.renew(&lock.bucket.store, &lock.bucket.context).await?;
        }
        match lock.write(&record, Some(&self.etag), self.claim.as_ref(), &self.term).await? {
            Outcome::Won(meta) => {
                self.term.began(began);
                (self.record, self.etag) = (record, meta.etag);
                Ok(())
            }
            Outcome::Lost => {
                // A renewal that was cut off and written all the same left our own token there.
                match lock.bucket.read::<LockRecord>(&lock.bucket.keys.lock()).await? {
                    Some((there, etag)) if there.owner == self.record.owner => {
                        let store = lock.bucket.store.name();
                        (self.record, self.etag) = (there, etag);
                        Err(LockError::Store(StoreError::new(
                            StoreErrorKind::Interrupted,
                            store,
                            "renew the lock",
                            "an earlier renewal came through late",
                        )))
                    }
                    there => Err(LockError::Lost(holder(there.map(|(record, _)| record)))),
                }
            }
        }
    }

    /// A verifier for the moments before the commit.
    pub fn verifier(&self) -> Verifier<'a> {
        Verifier::new(self.lock, self.record.owner.clone(), Arc::clone(&self.term), self.claim.clone())
    }

    /// Gives the lock back: the same record with `timestamp` 0, which Python reads as stale, and only while the
    /// token is still ours. Never a blind delete, and never for longer than a few seconds of trouble.
    ///
    /// # Errors
    /// The store's; the lock then runs out by itself.
    pub async fn release(self) -> Result<(), LockError> {
        let give_back = async {
            let term = self.claim.is_some().then_some(&*self.term);
            let released = if term.is_none() && give_back_at_once(&self).await {
                Ok(())
            } else {
                give_back(&self.lock, &self.record, term).await
            };
            if let Some(claim) = &self.claim {
                claim.withdraw(&self.lock.bucket.store).await?;
            }
            released
        };
        tokio::time::timeout(SETTLE, give_back).await.unwrap_or_else(|_| {
            Err(LockError::Store(StoreError::new(
                StoreErrorKind::Interrupted,
                self.lock.bucket.store.name(),
                "release the lock",
                "no answer within the time limit",
            )))
        })
    }
}

/// The usual case in one request: the lock is as we last wrote it. Any other answer than a clear yes is left to
/// [`give_back`], which looks first.
async fn give_back_at_once(guard: &Guard<'_>) -> bool {
    let (bucket, key) = (guard.lock.bucket, guard.lock.bucket.keys.lock());
    let Ok(body) = bucket.to_bytes(&key, &released(guard.record.clone())) else {
        return false;
    };
    let answer = bucket.store.put_once(&key, &body, Condition::IfMatch(&guard.etag)).await;
    matches!(answer, Ok(PutAnswer::Written(_)))
}

/// The record as a Python node reads it as stale.
fn released(mut record: LockRecord) -> LockRecord {
    record.timestamp = 0;
    record.expires_at = Some(0);
    record.state = Some("released".to_owned());
    record
}

/// Releases the record in the bucket as long as it is ours. `term`: only a claim keeps others away, so that the
/// write is a plain one, and is left out once others may be there.
pub(super) async fn give_back(
    lock: &Lock<'_>,
    ours: &LockRecord,
    term: Option<&Term>,
) -> Result<(), LockError> {
    const ATTEMPTS: u32 = 5;
    let key = lock.bucket.keys.lock();
    for _ in 0..ATTEMPTS {
        let (record, etag) = match lock.bucket.read::<LockRecord>(&key).await? {
            Some((record, etag)) if record.owner == ours.owner && record.timestamp > 0 => (record, etag),
            _ => return Ok(()),
        };
        let body = lock.bucket.to_bytes(&key, &released(record))?;
        if let Some(term) = term {
            term.check(&lock.bucket.context)?;
            let hidden = Progress::hidden();
            lock.bucket.store.put(&key, Body::Bytes(&body), &hidden).await?;
            return Ok(());
        }
        let (body, hidden) = (Body::Bytes(&body), Progress::hidden());
        if lock.bucket.write_if(&key, body, Condition::IfMatch(&etag), &hidden).await? != Outcome::Lost {
            return Ok(());
        }
        // A late renewal of our own came between, or somebody took over: the next look tells.
    }
    Err(LockError::Contended { attempts: ATTEMPTS })
}
