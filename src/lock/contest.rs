//! Taking the lock while others may want it too.

use std::sync::Arc;
use std::time::Duration;

use super::asker::Lock;
use super::error::{LOCAL_WAIT, LockError};
use super::guard::{self, Guard, SETTLE, Won};
use super::local::LocalLock;
use super::record::LockRecord;
use super::term::Term;
use crate::storage::Outcome;
use crate::storage::claim::{self, Claim, Staked};
use crate::storage::retry::back_off;

/// The first pause of those who met at the lock.
const BACK_OFF: Duration = Duration::from_millis(20);

impl<'a> Lock<'a> {
    /// Takes the lock, or says who holds it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn acquire(self) -> Result<Guard<'a>, LockError> {
        let mut signal = std::pin::pin!(self.bucket.context.interrupted());
        let mut taking = std::pin::pin!(take(self));
        let signal = tokio::select! {
            end = &mut taking => return end,
            signal = &mut signal => signal,
        };
        // What is on its way may still succeed, and must then be given back.
        if let Ok(Ok(guard)) = tokio::time::timeout(SETTLE, taking).await {
            let _ = guard.release().await;
        }
        Err(LockError::Interrupted(signal))
    }
}

async fn take(lock: Lock<'_>) -> Result<Guard<'_>, LockError> {
    // First of all the other processes of this machine, whatever database they work on: whoever gets past here
    // knows that a lock with this machine's token was left by the dead.
    let path = lock.state.join("locks").join(format!("project-{}.lock", lock.bucket.keys.project()));
    let local = LocalLock::acquire(&path, LOCAL_WAIT).await.map_err(LockError::Local)?;
    let owner = format!("{}-{}", lock.machine, lock.bucket.context.token()?);
    let verdict = lock.bucket.verdict().await?;
    let mut claim = if verdict.atomic() { None } else { Some(stake(&lock, &owner).await?) };
    match contend(&lock, &owner, &mut claim).await {
        Ok(won) => Ok(Guard::new(lock, won, claim, local)),
        Err(error) => {
            if let Some(claim) = &claim {
                let _ = claim.withdraw(&lock.bucket.store).await;
            }
            Err(error)
        }
    }
}

async fn stake(lock: &Lock<'_>, owner: &str) -> Result<Claim, LockError> {
    // A lock that somebody holds is reason enough to go away, with the holder's name.
    let there = lock.there().await?;
    lock.may_take(there.as_ref().and_then(|(sight, _)| sight.as_ref()))?;
    let folder = lock.bucket.keys.claims("lock");
    let terms = lock.claim_terms(&folder, owner);
    match Claim::stake(&lock.bucket.store, &lock.bucket.context, terms).await? {
        Staked::Alone(claim) => Ok(claim),
        Staked::Blocked(Some(rival)) => Err(LockError::Claimed(rival)),
        Staked::Blocked(None) => Err(LockError::Contended { attempts: 10 }),
    }
}

/// Several attempts, as long as others are faster.
async fn contend(lock: &Lock<'_>, owner: &str, claim: &mut Option<Claim>) -> Result<Won, LockError> {
    const ATTEMPTS: u32 = 6;
    for attempt in 0..ATTEMPTS {
        if let Some(won) = try_once(lock, owner, claim.as_ref()).await? {
            if claim.is_some() || !others_use_claims(lock, owner).await? {
                return Ok(won);
            }
            // Their probe found what ours did not. They look at the lock after they have claimed, we at the claims
            // after we have locked: one of us sees the other.
            tracing::debug!("others rest on claims: the lock is given back");
            guard::give_back(lock, &won.record, None).await?;
        }
        back_off(attempt, BACK_OFF).await;
    }
    Err(LockError::Contended { attempts: ATTEMPTS })
}

async fn others_use_claims(lock: &Lock<'_>, owner: &str) -> Result<bool, LockError> {
    if lock.force {
        return Ok(false);
    }
    let folder = lock.bucket.keys.claims("lock");
    let terms = lock.claim_terms(&folder, owner);
    Ok(claim::anybody(&lock.bucket.store, &lock.bucket.context, terms).await?)
}

/// One round: read, decide, write under the condition that nothing changed. `None`: somebody was faster.
async fn try_once(lock: &Lock<'_>, owner: &str, claim: Option<&Claim>) -> Result<Option<Won>, LockError> {
    let term = Term::start(&lock.bucket.context, lock.times.ttl);
    if let Some(claim) = claim {
        term.began(claim.announced());
    }
    let there = lock.there().await?;
    let now = lock.now();
    let took_over = lock.may_take(there.as_ref().and_then(|(sight, _)| sight.as_ref()))?;
    let record = LockRecord {
        hostname: lock.node.host.clone(),
        timestamp: now,
        project: lock.project.to_owned(),
        canonical_id: lock.bucket.keys.project().to_owned(),
        owner: Some(owner.to_owned()),
        node_id: Some(lock.node.id.clone()),
        pid: Some(std::process::id()),
        expires_at: Some(now.saturating_add(lock.times.ttl)),
        state: Some("held".to_owned()),
        renewals: Some(0),
    };
    let etag = there.map(|(_, etag)| etag);
    match lock.write(&record, etag.as_ref(), claim, &term).await? {
        Outcome::Won(meta) => Ok(Some(Won { record, etag: meta.etag, term: Arc::clone(&term), took_over })),
        Outcome::Lost => Ok(None),
    }
}
