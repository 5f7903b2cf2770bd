//! The lease: reads it, decides the role, and writes it by compare-and-swap, with an audit record beside.
//! Only "no such key" is absence; whatever else goes wrong stops the command (F06, F07).

pub mod decide;
mod handover;
mod record;

use crate::config::{Config, LeadershipConfig};
use crate::error::{Code, Failure};
use crate::history::{HistoryError, log};
use crate::identity::Node;
use crate::progress::Progress;
use crate::storage::records;
use crate::storage::{Body, Bucket, Etag, Outcome, StoreError, StoreErrorKind};

pub use decide::Role;
use decide::{NewTerm, decide};
pub use handover::{Handed, Promotion};
pub use record::LeaseRecord;
use record::{AuditRecord, POLICY};

/// Why the role is not known.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipError {
    /// The store's, or a lease that cannot be read.
    #[error("leadership: {0}")]
    Store(#[from] StoreError),
    /// The newest push cannot be read, so the epoch of a new lease is not known.
    #[error("leadership: {0}")]
    History(HistoryError),
    /// Other nodes wrote the lease in each of our attempts.
    #[error("leadership: the lease changed under each of {0} attempts to write it")]
    Contended(u32),
    /// Somebody else has chosen since the person looked.
    #[error("the primary has been chosen anew meanwhile: it is {primary} now (epoch {epoch})")]
    Overtaken {
        /// Who is primary now.
        primary: String,
        /// In which term.
        epoch: i64,
    },
    /// The hand-over that was asked for makes no sense; says why.
    #[error("{0}")]
    Senseless(String),
    /// No random token to be had.
    #[error("leadership: no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

impl From<HistoryError> for LeadershipError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => Self::Store(error),
            other => Self::History(other),
        }
    }
}

impl From<LeadershipError> for Failure {
    fn from(error: LeadershipError) -> Self {
        let of = |code, error| Self::from_error(code, error);
        match error {
            LeadershipError::Senseless(_) => of(Code::Refused, error),
            LeadershipError::History(error) => error.into(),
            LeadershipError::Store(error) => {
                let message = format!("leadership: {error}");
                let (kind, remedy) = (error.kind, error.remedy());
                let failure = Self { message, hints: Vec::new(), ..error.into() };
                let failure = match kind {
                    StoreErrorKind::NotARecord => {
                        failure.hint("to replace a lease that cannot be read: membridge promote NODE --force")
                    }
                    _ => failure.hint(remedy),
                };
                // Where it is the lease itself that cannot be used, there is a way to do without (F07).
                match kind {
                    StoreErrorKind::Denied | StoreErrorKind::NotARecord => {
                        failure.hint("to work without roles, set LEADERSHIP_ENABLED=0 on every node")
                    }
                    _ => failure,
                }
            }
            LeadershipError::Overtaken { .. } => {
                of(Code::Contended, error).hint("look again: membridge leadership_info")
            }
            LeadershipError::Contended(_) => of(Code::Contended, error).hint("try again"),
            LeadershipError::Random(_) => of(Code::NoRandomness, error).hint("try again"),
        }
    }
}

/// What is needed to read and write the lease.
#[derive(Debug, Clone, Copy)]
pub struct Leadership<'a> {
    /// Where the lease lies.
    pub bucket: &'a Bucket,
    /// Settings.
    pub config: &'a LeadershipConfig,
    /// Who we are.
    pub node: &'a Node,
}

/// A lease ready to be written, and why.
#[derive(Debug)]
struct Full {
    reason: &'static str,
    lease: LeaseRecord,
}

/// Our role and the term it holds in.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// What we may do.
    pub role: Role,
    /// The lease as it stands; `None` when there is none (only where nothing was to be written).
    pub lease: Option<LeaseRecord>,
    /// When the bucket was asked (see [`crate::context::Context::uptime`]).
    pub asked: std::time::Duration,
}

impl Standing {
    /// The epoch of the term: the fencing token.
    pub fn epoch(&self) -> Option<i64> {
        self.lease.as_ref().map(|lease| lease.epoch)
    }
}

/// What a term needs to know of the manifest that Python nodes read: under which term it was written, and which commit it
/// mirrors.
#[derive(serde::Deserialize)]
struct Mirrored {
    membridge: Option<Mark>,
}

/// See [`Mirrored`].
#[derive(serde::Deserialize)]
struct Mark {
    epoch: Option<i64>,
    commit: Option<u64>,
}

impl<'a> Leadership<'a> {
    /// Leadership of the project that is configured.
    pub fn of(config: &'a Config, bucket: &'a Bucket) -> Self {
        Self { bucket, config: &config.leadership, node: &config.node }
    }
}

impl Leadership<'_> {
    /// The lease and our role by it; writes nothing.
    ///
    /// # Errors
    /// See [`LeadershipError`].
    pub async fn look(&self) -> Result<Standing, LeadershipError> {
        let asked = self.bucket.context.uptime();
        let (lease, _) = find(self.bucket).await?;
        let decision = decide(lease.as_ref(), &self.node.id, self.config.primary.as_deref(), self.now());
        Ok(Standing { role: decision.role, lease, asked })
    }

    /// Our role, after creating or renewing the lease where that is our business.
    ///
    /// # Errors
    /// See [`LeadershipError`].
    pub async fn stand(&self) -> Result<Standing, LeadershipError> {
        const ATTEMPTS: u32 = 4;
        for _ in 0..ATTEMPTS {
            let asked = self.bucket.context.uptime();
            let (lease, etag) = find(self.bucket).await?;
            let decision = decide(lease.as_ref(), &self.node.id, self.config.primary.as_deref(), self.now());
            let Some(term) = decision.write else {
                return Ok(Standing { role: decision.role, lease, asked });
            };
            let term = self.full(&term, lease.as_ref()).await?;
            if let Some(lease) = self.write(&term, etag.as_ref()).await? {
                return Ok(Standing { role: decision.role, lease: Some(lease), asked });
            }
            // Somebody else wrote first: their lease decides.
        }
        Err(LeadershipError::Contended(ATTEMPTS))
    }

    fn now(&self) -> i64 {
        self.bucket.context.server_now().as_second()
    }

    /// The lease of a term. The epoch of a new one is above that of the last push too: a lease that was lost, or that
    /// a Python node began anew, must not leave a primary whose pushes the fence refuses for ever (F24).
    async fn full(&self, term: &NewTerm, old: Option<&LeaseRecord>) -> Result<Full, LeadershipError> {
        let mut epoch = term.epoch;
        if old.is_none_or(|old| old.epoch != epoch) {
            epoch = epoch.max(self.last_pushed_epoch().await?.saturating_add(1));
        }
        let now = self.now();
        let seconds = term.seconds.unwrap_or(self.config.lease_seconds);
        Ok(Full {
            reason: term.reason,
            lease: LeaseRecord {
                canonical_id: self.bucket.keys.project().to_owned(),
                primary_node_id: term.primary.clone(),
                issued_at: now,
                expires_at: now.saturating_add(seconds),
                lease_seconds: seconds,
                epoch,
                policy: POLICY.to_owned(),
                issued_by: self.node.id.clone(),
                needs_ui_selection: term.needs_ui_selection,
                nonce: Some(self.bucket.context.token()?),
            },
        })
    }

    /// The epoch of the newest push; 0 where there is none. The manifest alone does not tell: after a push in the
    /// background, or with `mirror off`, it is older than the newest commit; and a Python node's has no epoch.
    async fn last_pushed_epoch(&self) -> Result<i64, LeadershipError> {
        if self.bucket.seal.is_on() {
            let head = log::head(self.bucket, None).await?;
            return Ok(head.and_then(|commit| commit.epoch).unwrap_or(0));
        }
        let manifest = match self.bucket.read::<Mirrored>(&self.bucket.keys.manifest()).await {
            Ok(manifest) => manifest.and_then(|(manifest, _)| manifest.membridge),
            // A manifest that nobody can read fences nobody.
            Err(error) if error.kind == StoreErrorKind::NotARecord => None,
            Err(error) => return Err(error.into()),
        };
        let mirrored = manifest.as_ref().and_then(|extra| extra.epoch);
        let mirrored = mirrored.filter(|epoch| epoch.unsigned_abs() <= records::MOST);
        let hint = manifest.as_ref().and_then(|extra| extra.commit);
        let head = log::head(self.bucket, hint).await?;
        let committed = head.and_then(|commit| commit.epoch);
        Ok(mirrored.max(committed).unwrap_or(0))
    }

    /// Writes a new term over the lease that the decision was based on. `None`: it has changed since.
    async fn write(&self, term: &Full, etag: Option<&Etag>) -> Result<Option<LeaseRecord>, LeadershipError> {
        let lease = &term.lease;
        tracing::debug!(?term, "lease");
        let key = self.bucket.keys.lease();
        let written = self.bucket.swap(&key, etag, &self.bucket.to_bytes(&key, lease)?).await?;
        if written == Outcome::Lost {
            return Ok(None);
        }
        self.audit(lease, term.reason).await;
        Ok(Some(lease.clone()))
    }

    /// Leaves an audit record; a failed one never fails the command.
    async fn audit(&self, lease: &LeaseRecord, reason: &str) {
        let at = self.bucket.context.server_now();
        let record = AuditRecord { lease, event: "lease_written", timestamp: records::iso(at), reason };
        let key = self.bucket.keys.audit(&records::compact(at), &self.bucket.seal.name(&self.node.id));
        let Ok(body) = self.bucket.to_bytes(&key, &record) else {
            return;
        };
        if let Err(error) = self.bucket.store.put(&key, Body::Bytes(&body), &Progress::hidden()).await {
            tracing::warn!(%error, "the audit record could not be written");
        }
    }
}

/// The lease as it lies there; `None` when there is none.
///
/// # Errors
/// The store's; a lease that is none.
pub async fn look(bucket: &Bucket) -> Result<Option<LeaseRecord>, StoreError> {
    Ok(find(bucket).await?.0)
}

/// Signs the lease that counted `before` with the key that leads `now`, so that whoever is primary stays it.
///
/// # Errors
/// The store's.
pub async fn sign_anew(before: &Bucket, now: &Bucket) -> Result<(), StoreError> {
    let (lease, etag) = match find(before).await {
        // Nobody is primary by what nobody can read.
        Err(error) if error.kind == StoreErrorKind::NotARecord => return Ok(()),
        found => found?,
    };
    if let (Some(lease), Some(etag)) = (lease, etag) {
        let key = now.keys.lease();
        // Whoever wrote one meanwhile comes to the same with its next sync.
        now.swap(&key, Some(&etag), &now.to_bytes(&key, &lease)?).await?;
    }
    Ok(())
}

async fn find(bucket: &Bucket) -> Result<(Option<LeaseRecord>, Option<Etag>), StoreError> {
    let key = bucket.keys.lease();
    let (lease, etag) = bucket.read_signed::<LeaseRecord>(&key).await?;
    let Some(lease) = lease else {
        return Ok((None, etag));
    };
    let now = bucket.context.server_now().as_second();
    let stored = if lease.is_ahead(now) { bucket.stored(&key).await? } else { None };
    Ok((Some(lease.in_time(now, stored)), etag))
}
