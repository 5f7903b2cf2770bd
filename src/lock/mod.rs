//! The distributed lock: one pusher per project, beside Python nodes that know only `hostname` and `timestamp`.
//! Knows the store and the clock; not what is done under the lock.

pub mod decide;
mod error;
mod guard;
pub mod local;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::LockConfig;
use crate::identity::{Node, Project};
use crate::progress::Progress;
use crate::storage::claim::{self, Claim};
use crate::storage::conditional;
use crate::storage::records::{self, LockRecord};
use crate::storage::retry::back_off;
use crate::storage::{Body, Bucket, Etag, Outcome};

use decide::{Situation, Verdict, decide};
use error::LOCAL_WAIT;
pub use error::LockError;
pub use guard::Guard;
use guard::Term;
use local::LocalLock;
pub use verify::{Seen, Verifier};

/// The first pause of those who met at the lock.
const BACK_OFF: Duration = Duration::from_millis(20);
/// How long a request that is on its way may take to end once its caller has to stop.
const SETTLE: Duration = Duration::from_secs(10);

/// What is needed to ask for the lock.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where the lock lies.
    pub bucket: &'a Bucket,
    /// Times.
    pub times: LockConfig,
    /// For the record.
    pub project: &'a Project,
    /// Who asks.
    pub node: &'a Node,
    /// See [`local::machine_token`].
    pub machine: &'a str,
    /// Our state directory, for the lock between processes of this machine.
    pub state: &'a Path,
    /// FORCE_PUSH.
    pub force: bool,
}

impl Request<'_> {
    fn claim_terms<'b>(&'b self, folder: &'b str, token: &'b str) -> claim::Terms<'b> {
        claim::Terms {
            folder,
            token,
            machine: Some(self.machine),
            lifetime: self.times.ttl.saturating_add(self.times.grace),
            force: self.force,
        }
    }
}

/// Takes the lock, or says who holds it.
///
/// # Errors
/// See [`LockError`].
pub async fn acquire(request: Request<'_>) -> Result<Guard<'_>, LockError> {
    let mut signal = std::pin::pin!(request.bucket.context.interrupted());
    let mut taking = std::pin::pin!(take(request));
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

async fn take(request: Request<'_>) -> Result<Guard<'_>, LockError> {
    // First of all the other processes of this machine, whatever database they work on: whoever gets past here
    // knows that a lock with this machine's token was left by the dead.
    let path = request.state.join("locks").join(format!("project-{}.lock", request.project.cid));
    let local = LocalLock::acquire(&path, LOCAL_WAIT).await.map_err(LockError::Local)?;
    let owner = format!("{}-{}", request.machine, request.bucket.context.token()?);
    let verdict = request.bucket.verdict().await?;
    let mut claim = if verdict.atomic() { None } else { Some(stake(&request, &owner).await?) };
    match contend(&request, &owner, &mut claim).await {
        Ok(won) => Ok(Guard::new(request, won, claim, local)),
        Err(error) => {
            if let Some(claim) = &claim {
                let _ = claim.withdraw(&request.bucket.store).await;
            }
            Err(error)
        }
    }
}

async fn stake(request: &Request<'_>, owner: &str) -> Result<Claim, LockError> {
    // A lock that somebody holds is reason enough to go away, with the holder's name.
    let (there, now) = read(request).await?;
    verdict(request, there.as_ref().and_then(|(record, _)| record.as_ref()), now)?;
    let folder = request.bucket.keys.claims("lock");
    let claim =
        Claim::stake(&request.bucket.store, &request.bucket.context, request.claim_terms(&folder, owner))
            .await?;
    claim.ok_or(LockError::Contended { attempts: 10 })
}

/// A lock record of ours that is in the bucket.
#[derive(Debug)]
struct Won {
    record: LockRecord,
    etag: Etag,
    term: Arc<Term>,
    took_over: Option<&'static str>,
}

/// Several attempts, as long as others are faster.
async fn contend(request: &Request<'_>, owner: &str, claim: &mut Option<Claim>) -> Result<Won, LockError> {
    const ATTEMPTS: u32 = 6;
    for attempt in 0..ATTEMPTS {
        if let Some(won) = try_once(request, owner, claim.as_ref()).await? {
            if claim.is_some() || !others_use_claims(request, owner).await? {
                return Ok(won);
            }
            // Their probe found what ours did not. They look at the lock after they have claimed, we at the claims
            // after we have locked: one of us sees the other.
            tracing::debug!("others rest on claims: the lock is given back");
            guard::give_back(request, &won.record, None).await?;
        }
        back_off(attempt, BACK_OFF).await;
    }
    Err(LockError::Contended { attempts: ATTEMPTS })
}

async fn others_use_claims(request: &Request<'_>, owner: &str) -> Result<bool, LockError> {
    if request.force {
        return Ok(false);
    }
    let folder = request.bucket.keys.claims("lock");
    let terms = request.claim_terms(&folder, owner);
    Ok(claim::anybody(&request.bucket.store, &request.bucket.context, terms).await?)
}

type There = Option<(Option<LockRecord>, Etag)>;

/// The lock as it is, and the store's time; a record that nobody can read is stepped over by FORCE_PUSH only.
async fn read(request: &Request<'_>) -> Result<(There, i64), LockError> {
    let there = match request.bucket.look::<LockRecord>(&request.bucket.keys.lock()).await? {
        None => None,
        Some((Ok(record), etag)) => Some((Some(record), etag)),
        Some((Err(_), etag)) if request.force => Some((None, etag)),
        Some((Err(error), _)) => return Err(error.into()),
    };
    Ok((there, request.bucket.context.server_now().as_second()))
}

/// May we have it? `Some`: it is taken over, and why.
fn verdict(
    request: &Request<'_>,
    record: Option<&LockRecord>,
    now: i64,
) -> Result<Option<&'static str>, LockError> {
    let verdict = decide(&Situation {
        record,
        host: &request.node.host,
        machine: request.machine,
        now,
        ttl: request.times.ttl,
        grace: request.times.grace,
        force: request.force,
    });
    tracing::debug!(?verdict, "lock");
    match verdict {
        Verdict::Take => Ok(None),
        Verdict::TakeOver(why) => Ok(Some(why)),
        Verdict::Refuse { host, age, free_in, in_grace } => {
            Err(LockError::Held { host, age, free_in, in_grace })
        }
    }
}

/// One round: read, decide, write under the condition that nothing changed. `None`: somebody was faster.
async fn try_once(
    request: &Request<'_>,
    owner: &str,
    claim: Option<&Claim>,
) -> Result<Option<Won>, LockError> {
    let term = Term::start(&request.bucket.context, request.times.ttl);
    if let Some(claim) = claim {
        term.began(claim.announced());
    }
    let (there, now) = read(request).await?;
    let took_over = verdict(request, there.as_ref().and_then(|(record, _)| record.as_ref()), now)?;
    let record = LockRecord {
        hostname: request.node.host.clone(),
        timestamp: now,
        project: request.project.name.clone(),
        canonical_id: request.project.cid.clone(),
        owner: Some(owner.to_owned()),
        node_id: Some(request.node.id.clone()),
        pid: Some(std::process::id()),
        expires_at: Some(now.saturating_add(request.times.ttl)),
        state: Some("held".to_owned()),
        renewals: Some(0),
    };
    let etag = there.map(|(_, etag)| etag);
    match write(request, &record, etag.as_ref(), claim, &term).await? {
        Outcome::Won(meta) => Ok(Some(Won { record, etag: meta.etag, term, took_over })),
        Outcome::Lost => Ok(None),
    }
}

/// Writes the lock record: conditionally, or, where only our claim keeps others away, plainly while it is young.
async fn write(
    request: &Request<'_>,
    record: &LockRecord,
    etag: Option<&Etag>,
    claim: Option<&Claim>,
    term: &Term,
) -> Result<Outcome, LockError> {
    let key = request.bucket.keys.lock();
    let body = records::to_bytes(record)?;
    if claim.is_none() {
        return Ok(
            conditional::write(&request.bucket.store, &key, &body, conditional::replacing(etag)).await?
        );
    }
    term.check(&request.bucket.context)?;
    request.bucket.store.put(&key, Body::Bytes(&body), &Progress::hidden()).await?;
    match request.bucket.store.get(&key).await? {
        Some((bytes, meta)) if bytes == body => Ok(Outcome::Won(meta)),
        _ => Ok(Outcome::Lost),
    }
}

fn holder(record: Option<LockRecord>) -> String {
    match record {
        Some(record) if record.timestamp <= 0 => "it was taken over and released".to_owned(),
        Some(record) => format!("{} holds it now", record.hostname),
        None => "the lock object is gone".to_owned(),
    }
}
