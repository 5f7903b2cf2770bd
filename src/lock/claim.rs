//! Mutual exclusion on stores without conditional writes: announce yourself, look around, go on only when you
//! are alone. Two claimers can both step back; they can never both go on, because each lists after its own claim
//! is visible (read-after-write and list consistency are all that the store must give).

use std::time::Duration;

use crate::context::Context;
use crate::storage::keys::Keys;
use crate::storage::{Body, Store, StoreError};
use crate::ui::Progress;

/// Our announcement in the bucket.
#[derive(Debug, Clone)]
pub struct Claim {
    key: String,
    folder: String,
    lifetime: i64,
}

impl Claim {
    /// Announces us; `None` when others stayed in the way for all attempts. `what` separates claims for different
    /// things; claims older than `lifetime` seconds are of the dead.
    ///
    /// # Errors
    /// The store's.
    pub async fn stake(
        store: &Store,
        keys: &Keys,
        context: &Context,
        what: &str,
        token: &str,
        lifetime: i64,
    ) -> Result<Option<Self>, StoreError> {
        const ATTEMPTS: u32 = 8;
        let folder = keys.claims(what);
        let claim = Self {
            key: format!("{folder}{token}"),
            folder,
            lifetime,
        };
        for attempt in 0..ATTEMPTS {
            claim.announce(store).await?;
            match claim.alone(store, context).await {
                Ok(true) => return Ok(Some(claim)),
                Ok(false) => claim.withdraw(store).await?,
                Err(error) => {
                    let _ = claim.withdraw(store).await;
                    return Err(error);
                }
            }
            let mut chance = [0_u8; 2];
            let _ = getrandom::fill(&mut chance);
            // The window widens: the more claimers there are, the longer it takes until one is alone.
            let window = 200_u64 << attempt.min(4);
            tokio::time::sleep(Duration::from_millis(
                u64::from(u16::from_le_bytes(chance)) % window + 20,
            ))
            .await;
        }
        Ok(None)
    }

    /// Writes the announcement again, so that its age starts anew.
    ///
    /// # Errors
    /// The store's.
    pub async fn announce(&self, store: &Store) -> Result<(), StoreError> {
        store
            .put(&self.key, Body::Bytes(b"{}\n"), &Progress::hidden())
            .await
            .map(|_| ())
    }

    /// Whether our claim is there and nobody else has a young one.
    ///
    /// # Errors
    /// The store's.
    pub async fn alone(&self, store: &Store, context: &Context) -> Result<bool, StoreError> {
        let claims = store.list(&self.folder).await?;
        let now = context.server_now().as_second();
        let ours = claims.iter().any(|claim| claim.key == self.key);
        let others = claims.iter().filter(|claim| claim.key != self.key);
        let mut young = others.filter(|claim| now.saturating_sub(claim.modified) <= self.lifetime);
        Ok(ours && young.next().is_none())
    }

    /// Takes the announcement back.
    ///
    /// # Errors
    /// The store's.
    pub async fn withdraw(&self, store: &Store) -> Result<(), StoreError> {
        store.delete(&self.key).await
    }
}
