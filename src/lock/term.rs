//! How long a lock that was taken may still be relied on, by a clock that goes on while this process is stopped. Asks nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::LockError;
use crate::context::Context;

/// How long the lock may be relied on: two thirds of the TTL, counted from before the request that took or renewed
/// it, by a clock that goes on while this process is stopped. Others wait for the whole TTL and the grace.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) ttl: Duration,
    /// Milliseconds of [`Context::uptime`].
    began: AtomicU64,
    /// Why the last renewal did not succeed.
    trouble: Mutex<Option<String>>,
}

impl Term {
    pub(super) fn start(context: &Context, ttl: i64) -> Arc<Self> {
        let term = Self {
            ttl: Duration::from_secs(ttl.unsigned_abs()),
            began: AtomicU64::new(0),
            trouble: Mutex::new(None),
        };
        term.began(context.uptime());
        Arc::new(term)
    }

    pub(super) fn began(&self, at: Duration) {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.began.store(at, Ordering::SeqCst);
        self.trouble(None);
    }

    pub(super) fn trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn age(&self, context: &Context) -> Duration {
        let began = Duration::from_millis(self.began.load(Ordering::SeqCst));
        context.uptime().saturating_sub(began)
    }

    /// Time until the next renewal.
    pub(super) fn until_renewal(&self, context: &Context) -> Duration {
        (self.ttl / 3).saturating_sub(self.age(context))
    }

    /// Time that is left to rely on.
    pub(super) fn left(&self, context: &Context) -> Duration {
        (self.ttl * 2 / 3).saturating_sub(self.age(context))
    }

    /// # Errors
    /// [`LockError::Lost`] when the time is up.
    pub(super) fn check(&self, context: &Context) -> Result<(), LockError> {
        if !self.left(context).is_zero() {
            return Ok(());
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        Err(LockError::Lost(match trouble.as_deref() {
            None => "its time ran out while this process was held up".to_owned(),
            Some(trouble) => format!("it could not be renewed in time: {trouble}"),
        }))
    }
}
