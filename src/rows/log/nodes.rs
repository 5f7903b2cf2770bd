//! The node records in the bucket: what each machine last said of itself.

use super::RowLog;
use super::error::LogError;
use crate::failpoint;
use crate::progress::Progress;
use crate::rows::node::NodeRecord;
use crate::rows::stamp::Writer;
use crate::seal::{KeyId, Place, Seal, SealError, Sealed};
use crate::storage::{Body, Etag};

/// A node record as a listing names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Whose it is.
    pub writer: String,
    /// Version of its content; `None` where the listing does not say: then it may have changed.
    pub etag: Option<Etag>,
    /// Last change, seconds since 1970 by the store's clock.
    pub modified: i64,
}

/// What lies in the folder of the node records.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The records.
    pub nodes: Vec<ListedNode>,
    /// Keys by which the project is said to be sealed; whoever can write there can say that.
    pub keys: Vec<KeyId>,
}

impl ListedNode {
    /// Whether it is the record of that installation, in that version.
    pub fn is(&self, writer: Writer, version: &str) -> bool {
        self.writer == writer.to_string() && self.etag.as_ref().is_some_and(|etag| etag.0 == version)
    }
}

impl RowLog<'_> {
    /// The node records there are: one listing.
    ///
    /// # Errors
    /// The store's.
    pub async fn nodes(&self) -> Result<Vec<ListedNode>, LogError> {
        Ok(self.listing().await?.nodes)
    }

    /// The same, and what lies beside them.
    ///
    /// # Errors
    /// The store's.
    pub async fn listing(&self) -> Result<Listing, LogError> {
        let keys = &self.bucket.keys;
        let mut listing = Listing::default();
        for entry in self.bucket.store.list(&keys.nodes()).await? {
            if let Some(writer) = keys.node_of(&entry.key) {
                let writer = writer.to_owned();
                listing.nodes.push(ListedNode { writer, etag: entry.etag, modified: entry.modified });
            } else {
                listing.keys.extend(keys.key_mark_of(&entry.key).and_then(KeyId::parse));
            }
        }
        Ok(listing)
    }

    /// One node record, and the version of its content. `None` when it is not there.
    ///
    /// # Errors
    /// The store's; a record that cannot be used.
    pub async fn node(&self, writer: &str) -> Result<Option<(NodeRecord, Etag)>, LogError> {
        let key = self.bucket.keys.node(writer);
        let Some((bytes, meta)) = self.bucket.store.get(&key).await? else {
            return Ok(None);
        };
        let (project, place) = (self.bucket.keys.project(), Place::Node { writer });
        let opened = self.bucket.seal.open_record(Sealed::from_bucket(bytes), project, place);
        let opened = opened.map_err(|error| LogError::Sealed {
            what: key.clone(),
            etag: Some(meta.etag.clone()),
            error,
        })?;
        let record = match NodeRecord::parse(opened.get(), writer) {
            Ok(record) => record,
            Err(problem) => return Err(LogError::Node { key, problem }),
        };
        match &self.bucket.seal {
            Seal::On(fleet) if fleet.watch.newest_of(writer) > Some(record.last) => {
                Err(LogError::Sealed { what: key, etag: Some(meta.etag), error: SealError::PutBack })
            }
            _ => Ok(Some((record, meta.etag))),
        }
    }

    /// What every machine last said. A record that cannot be read says nothing of the others, and is left out.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_nodes(&self) -> Result<Vec<NodeRecord>, LogError> {
        let mut records = Vec::new();
        for node in self.nodes().await? {
            match self.node(&node.writer).await {
                Ok(found) => records.extend(found.map(|(record, _)| record)),
                Err(error) if error.is_damage() => self.ignore(&error),
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Goes on without an object that cannot be used.
    pub fn ignore(&self, error: &LogError) {
        self.bucket.ignore(error);
    }

    /// Puts our own node record, and returns the version of its content.
    ///
    /// # Errors
    /// The store's.
    pub async fn put_node(&self, record: &NodeRecord) -> Result<Etag, LogError> {
        let key = self.bucket.keys.node(&record.writer);
        let unsound = |problem: String| LogError::Node { key: key.clone(), problem };
        let bytes = record.to_bytes().map_err(|error| unsound(error.to_string()))?;
        let (project, place) = (self.bucket.keys.project(), Place::Node { writer: &record.writer });
        let salt = self.bucket.context.random()?;
        let sealed = self.bucket.seal.seal_record(bytes, project, place, salt);
        let sealed = sealed.map_err(|error| unsound(error.to_string()))?;
        let body = Body::Bytes(sealed.stored());
        let meta = self.bucket.store.put(&key, body, &Progress::hidden()).await?;
        failpoint::reach("rows.node-put");
        Ok(meta.etag)
    }
}
