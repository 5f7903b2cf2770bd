//! A project's place in the store: the store, the names of the project's objects, clock and chance, and what the store's
//! conditional writes are worth. Whoever needs the bucket gets this one value. It knows no meaning of what lies there.

use std::sync::Arc;

use super::keys::Keys;
use super::probe::{Capability, Verdict};
use super::{Store, StoreError};
use crate::context::Context;

/// One project in one store.
#[derive(Debug)]
pub struct Bucket {
    /// The store.
    pub store: Store,
    /// Names of this project's objects.
    pub keys: Keys,
    /// Clock, chance, signals.
    pub context: Arc<Context>,
    /// What the store's conditional writes are worth.
    pub capability: Capability,
}

impl Bucket {
    /// The place of the project `cid` in `store`; `state` is our state directory, where verdicts about the store are kept.
    pub fn new(store: Store, cid: &str, context: Arc<Context>, state: &std::path::Path) -> Self {
        let capability = Capability::new(&store, state);
        Self { keys: Keys::new(cid), store, context, capability }
    }

    /// What the store's conditional writes are worth: known, remembered, or found out now.
    ///
    /// # Errors
    /// The store's.
    pub async fn verdict(&self) -> Result<Verdict, StoreError> {
        self.capability.get(&self.store, &self.keys, &self.context).await
    }

    /// The same found out now, whatever is remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn probe(&self) -> Result<Verdict, StoreError> {
        self.capability.probe_now(&self.store, &self.keys, &self.context).await
    }
}
