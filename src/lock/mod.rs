//! The distributed lock: one pusher per project, beside Python nodes that know only `hostname` and `timestamp`.
//! Knows the store and the clock; not what is done under the lock.

pub mod claim;
pub mod decide;
pub mod local;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::LockConfig;
use crate::context::Context;
use crate::error::Failure;
use crate::identity::{Node, Project};
use crate::storage::conditional::{self, Outcome};
use crate::storage::keys::Keys;
use crate::storage::probe::Capability;
use crate::storage::records::{self, LockRecord};
use crate::storage::{Body, Condition, Etag, Store, StoreError, StoreErrorKind};
use crate::ui::Progress;

use claim::Claim;
use decide::{Situation, Verdict, decide};

/// Why there is no lock, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("LOCK ACTIVE — held by {host} for {age}s{}", if *in_grace { " (in its grace period)" } else { "" })]
    Held {
        /// Host name of the holder.
        host: String,
        /// Seconds.
        age: i64,
        /// Seconds until it may be taken over.
        free_in: i64,
        /// Past its TTL.
        in_grace: bool,
    },
    /// Others were faster each time.
    #[error("the lock could not be had: other machines took it in each of {attempts} attempts")]
    Contended {
        /// How often we tried.
        attempts: u32,
    },
    /// It was ours, and is not any more.
    #[error("the lock was lost: {0}")]
    Lost(String),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random token to be had.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let text = error.to_string();
        match error {
            LockError::Held { free_in, .. } => Self::new(text)
                .hint(format!(
                    "try again when its push is done; it may be taken over in {free_in}s"
                ))
                .hint("if you know that it is dead: FORCE_PUSH=1 membridge push_sqlite"),
            LockError::Contended { .. } => Self::new(text).hint("try again: membridge push_sqlite"),
            LockError::Lost(_) => {
                Self::new(text).hint("nothing was committed; try again: membridge push_sqlite")
            }
            LockError::Store(error) if error.kind == StoreErrorKind::Unexpected => {
                Self::from(error).hint("if no other machine is pushing: FORCE_PUSH=1 membridge push_sqlite")
            }
            LockError::Store(error) => error.into(),
            LockError::Random(_) => Self::new(text),
        }
    }
}

/// What is needed to ask for the lock.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The store.
    pub store: &'a Store,
    /// Clock and chance.
    pub context: &'a Context,
    /// Names in the bucket.
    pub keys: &'a Keys,
    /// Times.
    pub times: LockConfig,
    /// For the record.
    pub project: &'a Project,
    /// Who asks.
    pub node: &'a Node,
    /// See [`local::machine_token`].
    pub machine: &'a str,
    /// What the store's conditional writes are worth; where they are not, claims decide.
    pub capability: &'a Capability,
    /// FORCE_PUSH.
    pub force: bool,
}

/// The lock, held. It must be given back with [`Guard::release`]; a process that dies leaves it to its TTL.
#[derive(Debug)]
pub struct Guard<'a> {
    request: Request<'a>,
    record: LockRecord,
    etag: Etag,
    claim: Option<Claim>,
    renewed: Instant,
    /// Why an existing lock was taken over, when it was.
    pub took_over: Option<&'static str>,
}

/// Takes the lock, or says who holds it. The caller holds the local file lock.
///
/// # Errors
/// See [`LockError`].
pub async fn acquire(request: Request<'_>) -> Result<Guard<'_>, LockError> {
    const ATTEMPTS: u32 = 6;
    let owner = format!("{}-{}", request.machine, request.context.token()?);
    let verdict = request
        .capability
        .get(request.store, request.keys, request.context)
        .await?;
    let claim = if verdict.atomic() {
        None
    } else {
        Some(stake(&request, &owner).await?)
    };
    for _ in 0..ATTEMPTS {
        match attempt(&request, &owner, claim.as_ref()).await {
            Ok(Some((record, etag, took_over))) => {
                return Ok(Guard {
                    request,
                    record,
                    etag,
                    claim,
                    renewed: Instant::now(),
                    took_over,
                });
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(claim) = &claim {
                    let _ = claim.withdraw(request.store).await;
                }
                return Err(error);
            }
        }
    }
    if let Some(claim) = &claim {
        let _ = claim.withdraw(request.store).await;
    }
    Err(LockError::Contended { attempts: ATTEMPTS })
}

async fn stake(request: &Request<'_>, owner: &str) -> Result<Claim, LockError> {
    let lifetime = request.times.ttl.saturating_add(request.times.grace);
    let claim = Claim::stake(
        request.store,
        request.keys,
        request.context,
        "lock",
        owner,
        lifetime,
    )
    .await?;
    claim.ok_or(LockError::Contended { attempts: 8 })
}

/// One round: read, decide, write under the condition that nothing changed. `None`: somebody was faster.
async fn attempt(
    request: &Request<'_>,
    owner: &str,
    claim: Option<&Claim>,
) -> Result<Option<(LockRecord, Etag, Option<&'static str>)>, LockError> {
    let key = request.keys.lock();
    let there = match records::read::<LockRecord>(request.store, &key).await {
        // Only FORCE_PUSH may step over a lock that nobody can read.
        Err(error) if error.kind == StoreErrorKind::Unexpected && request.force => {
            request.store.head(&key).await?.map(|meta| (None, meta.etag))
        }
        other => other?.map(|(record, etag)| (Some(record), etag)),
    };
    let now = request.context.server_now().as_second();
    let verdict = decide(&Situation {
        record: there.as_ref().and_then(|(record, _)| record.as_ref()),
        host: &request.node.host,
        machine: request.machine,
        now,
        ttl: request.times.ttl,
        grace: request.times.grace,
        force: request.force,
    });
    tracing::debug!(?verdict, "lock");
    let took_over = match verdict {
        Verdict::Take => None,
        Verdict::TakeOver(why) => Some(why),
        Verdict::Refuse {
            host,
            age,
            free_in,
            in_grace,
        } => {
            return Err(LockError::Held {
                host,
                age,
                free_in,
                in_grace,
            });
        }
    };
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
    match write(request, &record, etag.as_ref(), claim).await? {
        Outcome::Won(meta) => Ok(Some((record, meta.etag, took_over))),
        Outcome::Lost => Ok(None),
    }
}

/// Writes the lock record: conditionally, or, with a claim, plainly with the claim checked before and after.
async fn write(
    request: &Request<'_>,
    record: &LockRecord,
    etag: Option<&Etag>,
    claim: Option<&Claim>,
) -> Result<Outcome, LockError> {
    let key = request.keys.lock();
    let body = records::to_bytes(record).map_err(|error| LockError::Lost(error.to_string()))?;
    let Some(claim) = claim else {
        return Ok(conditional::write(request.store, &key, &body, conditional::replacing(etag)).await?);
    };
    if !claim.alone(request.store, request.context).await? {
        return Ok(Outcome::Lost);
    }
    request
        .store
        .put(&key, Body::Bytes(&body), &Progress::hidden())
        .await?;
    match request.store.get(&key).await? {
        Some((bytes, meta)) if bytes == body => Ok(Outcome::Won(meta)),
        _ => Ok(Outcome::Lost),
    }
}

impl<'a> Guard<'a> {
    fn ttl(&self) -> Duration {
        Duration::from_secs(self.request.times.ttl.unsigned_abs())
    }

    /// Runs `work` while renewing at a third of the TTL. When the lock is lost, or cannot be renewed in time, or
    /// a signal comes, the work is dropped at its next await and the reason is returned.
    ///
    /// # Errors
    /// The work's own; [`LockError::Lost`]; the interruption.
    pub async fn hold<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let context = self.request.context;
        let mut work = std::pin::pin!(work);
        let mut signal = std::pin::pin!(context.interrupted());
        let third = self.ttl() / 3;
        loop {
            tokio::select! {
                end = &mut work => return end,
                signal = &mut signal => return Err(Failure::interrupted(signal)),
                () = tokio::time::sleep_until(self.renewed + third) => {}
            }
            // The work goes on while the renewal is on its way.
            let renewal = self.renew_in_time();
            tokio::select! {
                end = &mut work => return end,
                signal = &mut signal => return Err(Failure::interrupted(signal)),
                renewed = renewal => renewed?,
            }
        }
    }

    /// Renews; keeps trying through trouble until two thirds of the TTL are gone.
    async fn renew_in_time(&mut self) -> Result<(), LockError> {
        let give_up = self.renewed + self.ttl() * 2 / 3;
        loop {
            let error = match self.renew().await {
                Ok(()) => return Ok(()),
                Err(LockError::Store(error)) => error,
                Err(other) => return Err(other),
            };
            if Instant::now() >= give_up {
                return Err(LockError::Lost(format!("it could not be renewed: {error}")));
            }
            tokio::time::sleep((self.ttl() / 20).min(Duration::from_secs(5))).await;
        }
    }

    async fn renew(&mut self) -> Result<(), LockError> {
        let started = Instant::now();
        let now = self.request.context.server_now().as_second();
        let mut record = self.record.clone();
        record.timestamp = now;
        record.expires_at = Some(now.saturating_add(self.request.times.ttl));
        record.renewals = record.renewals.map(|count| count + 1);
        if let Some(claim) = &self.claim {
            claim.announce(self.request.store).await?;
        }
        match write(&self.request, &record, Some(&self.etag), self.claim.as_ref()).await? {
            Outcome::Won(meta) => {
                (self.record, self.etag, self.renewed) = (record, meta.etag, started);
                Ok(())
            }
            Outcome::Lost => {
                // A renewal that was cut off and written all the same left our own token there.
                match records::read::<LockRecord>(self.request.store, &self.request.keys.lock()).await? {
                    Some((there, etag)) if there.owner == self.record.owner => {
                        (self.record, self.etag) = (there, etag);
                        Err(LockError::Store(StoreError::new(
                            StoreErrorKind::Interrupted,
                            self.request.store.name(),
                            "renew the lock",
                            "an earlier renewal came through late",
                        )))
                    }
                    there => Err(LockError::Lost(holder(there.map(|(record, _)| record)))),
                }
            }
        }
    }

    /// A verifier for the moment before the commit.
    pub fn verifier(&self) -> Verifier<'a> {
        Verifier {
            request: self.request,
            owner: self.record.owner.clone(),
            claim: self.claim.clone(),
        }
    }

    /// Gives the lock back: the same record with `timestamp` 0, which Python reads as stale, and only while the
    /// token is still ours. Never a blind delete.
    ///
    /// # Errors
    /// The store's; the lock then runs out by itself.
    pub async fn release(self) -> Result<(), LockError> {
        let key = self.request.keys.lock();
        let released = match records::read::<LockRecord>(self.request.store, &key).await? {
            Some((mut record, etag)) if record.owner == self.record.owner => {
                record.timestamp = 0;
                record.expires_at = Some(0);
                record.state = Some("released".to_owned());
                let body = records::to_bytes(&record).map_err(|error| LockError::Lost(error.to_string()))?;
                if self.claim.is_none() {
                    conditional::write(self.request.store, &key, &body, Condition::IfMatch(&etag))
                        .await
                        .map(|_| ())
                } else {
                    self.request
                        .store
                        .put(&key, Body::Bytes(&body), &Progress::hidden())
                        .await
                        .map(|_| ())
                }
            }
            _ => Ok(()),
        };
        if let Some(claim) = &self.claim {
            claim.withdraw(self.request.store).await?;
        }
        Ok(released?)
    }
}

/// Checks from inside the work that the lock is still ours.
#[derive(Debug)]
pub struct Verifier<'a> {
    request: Request<'a>,
    owner: Option<String>,
    claim: Option<Claim>,
}

impl Verifier<'_> {
    /// Reads the lock and compares the token; a process that was stopped past its TTL finds out here.
    ///
    /// # Errors
    /// [`LockError::Lost`], or the store's.
    pub async fn verify(&self) -> Result<(), LockError> {
        let there = records::read::<LockRecord>(self.request.store, &self.request.keys.lock()).await?;
        let Some((record, _)) = there.filter(|(record, _)| record.owner == self.owner) else {
            let there = records::read::<LockRecord>(self.request.store, &self.request.keys.lock()).await?;
            return Err(LockError::Lost(holder(there.map(|(record, _)| record))));
        };
        let now = self.request.context.server_now().as_second();
        if now.saturating_sub(record.timestamp) >= self.request.times.ttl {
            return Err(LockError::Lost(
                "its time ran out while this process was held up".to_owned(),
            ));
        }
        if let Some(claim) = &self.claim
            && !claim.alone(self.request.store, self.request.context).await?
        {
            return Err(LockError::Lost("another machine claims it".to_owned()));
        }
        Ok(())
    }
}

fn holder(record: Option<LockRecord>) -> String {
    match record {
        Some(record) => format!("{} holds it now", record.hostname),
        None => "the lock object is gone".to_owned(),
    }
}
