//! The place itself: an S3 bucket or a directory, with what is tried again. The contract is [`super::Store`]'s. Requests to a
//! server are boxed: the SDK's futures are large and deep, and every future that asks the store holds one.

use std::sync::Arc;

use super::dir::DirStore;
use super::s3::S3Store;
use super::{Body, Condition, Entry, Meta, PutAnswer, Sink, StoreError, retry};
use crate::config::StoreConfig;
use crate::context::Context;
use crate::progress::Progress;

/// Where the objects are.
#[derive(Debug)]
pub(super) enum Place {
    /// Behind the S3 protocol.
    S3(S3Store),
    /// In a directory.
    Dir(DirStore),
}

impl Place {
    pub(super) fn open(config: &StoreConfig, context: &Arc<Context>) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::S3(config) => Self::S3(S3Store::new(config, context)?),
            StoreConfig::Dir(root) => Self::Dir(DirStore::new(root.clone(), context)),
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::S3(store) => store.name(),
            Self::Dir(store) => store.name(),
        }
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.check())).await,
            Self::Dir(store) => store.check(),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.get(key))).await,
            Self::Dir(store) => store.get(key),
        }
    }

    pub(super) async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.head(key))).await,
            Self::Dir(store) => store.head(key).await,
        }
    }

    pub(super) async fn download(&self, key: &str, sink: &mut Sink) -> Result<Option<Meta>, StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::download(store, key, sink)).await,
            Self::Dir(store) => store.download(key, sink).await,
        }
    }

    pub(super) async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, StoreError> {
        let mut entries = match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.list(prefix, after))).await?,
            Self::Dir(store) => store.list(prefix)?,
        };
        // A server that does not know start-after begins at the beginning.
        entries.retain(|entry| after.is_none_or(|after| entry.key.as_str() > after));
        Ok(entries)
    }

    pub(super) async fn put(
        &self,
        key: &str,
        body: Body<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        match self {
            Self::S3(store) => {
                Box::pin(retry::reading(|| store.put(key, body, Condition::None, progress))).await
            }
            Self::Dir(store) => store.put(key, body, Condition::None, progress).await,
        }
    }

    pub(super) async fn put_once(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        match self {
            Self::S3(store) => Box::pin(store.put(key, body, condition, progress)).await,
            Self::Dir(store) => store.put(key, body, condition, progress).await,
        }
    }

    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.copy(from, to))).await,
            Self::Dir(store) => store.copy(from, to).await,
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::S3(store) => Box::pin(retry::reading(|| store.delete(key))).await,
            Self::Dir(store) => store.delete(key).await,
        }
    }
}
