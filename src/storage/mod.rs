//! The store: objects in a bucket or a directory. This file is the contract; `s3` and `dir` keep it, and one
//! suite of tests is run against both. It knows bytes, keys and etags, and nothing of what they mean.
//!
//! What a store promises:
//! - after a successful put, every get, head and list anywhere sees the new object, whole;
//! - an etag changes whenever the content does, and is opaque;
//! - absence is an answer (`None`), and only a real "no such key" counts as absence: every other trouble is an error (F06);
//! - `put_if_absent` and `put_if_match` are atomic where the store supports them. Some servers ignore the
//!   condition; [`conditional`] settles what an answer means and reads back.

pub mod bucket;
pub mod claim;
pub mod conditional;
pub mod confirm;
mod dir;
mod dir_files;
mod dry;
mod error;
mod etags;
mod http;
pub mod keys;
mod object;
mod pace;
mod parts;
mod place;
pub mod probe;
pub mod records;
pub mod retry;
mod s3;
pub mod sink;

use std::path::Path;
use std::sync::Arc;

use crate::config::StoreConfig;
use crate::context::Context;
use crate::progress::Progress;

pub use bucket::Bucket;
pub use conditional::Outcome;
pub use confirm::Found;
use dry::Dry;
pub use dry::Rehearsed;
pub use error::{StoreError, StoreErrorKind};
pub use object::{Body, Condition, Entry, Etag, Meta, PutAnswer, RECORD_LIMIT};
use place::Place;
pub use sink::{Digests, Sink, Tee};

/// A store of either kind.
#[derive(Debug)]
pub struct Store {
    place: Place,
    /// Where writes go that are only rehearsed.
    dry: Option<Dry>,
    etags: etags::Etags,
}

impl Store {
    /// Opens the store that the configuration names. Sends nothing yet.
    ///
    /// # Errors
    /// A certificate file that cannot be read, a proxy that is not a URL.
    pub fn open(config: &StoreConfig, context: &Arc<Context>) -> Result<Self, StoreError> {
        Ok(Self { place: Place::open(config, context)?, dry: None, etags: etags::Etags::default() })
    }

    /// Whether it is a directory: whose conditional writes are our own, a lock file and a rename.
    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::Dir(_))
    }

    /// How messages name the store: endpoint and bucket, or the directory.
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// From here on nothing may be left in the store, not even for a moment: a directory is not asked for its time,
    /// which takes a file, and our own clock counts.
    pub fn leave_no_trace(&self) {
        if let Place::Dir(store) = &self.place {
            store.leave_no_trace();
        }
    }

    /// From here on writes are rehearsed only: they are answered as if they had been done, and what is read shows them, but
    /// nothing is sent and nothing is left behind. Reads still ask the store.
    pub fn rehearse(&mut self, context: &Arc<Context>) {
        self.leave_no_trace();
        self.dry = Some(Dry::new(context));
    }

    /// Whether writes are rehearsed only.
    pub fn is_rehearsal(&self) -> bool {
        self.dry.is_some()
    }

    /// What a rehearsal would have written so far, by key; empty where writes are real.
    pub fn rehearsed(&self) -> Vec<Rehearsed> {
        self.dry.as_ref().map(Dry::rehearsed).unwrap_or_default()
    }

    /// Whether the store can be reached and holds our bucket.
    ///
    /// # Errors
    /// The exact cause when not.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.place.check().await
    }

    /// A small object, whole. `None` when there is none.
    ///
    /// # Errors
    /// Everything but absence; an object of more than [`RECORD_LIMIT`] bytes.
    pub async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        match &self.dry {
            None => self.place.get(key).await,
            Some(dry) => Box::pin(dry.get(&self.place, key)).await,
        }
    }

    /// What the store knows about an object, without its content. `None` when there is none.
    ///
    /// # Errors
    /// Everything but absence.
    pub async fn head(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        match &self.dry {
            None => self.place.head(key).await,
            Some(dry) => Box::pin(dry.head(&self.place, key)).await,
        }
    }

    /// Streams an object into a sink, going on where a cut connection left off as long as the object stays the
    /// same. `None` when there is none.
    ///
    /// # Errors
    /// Everything but absence; the sink's own (disk full, too large).
    pub async fn download(&self, key: &str, sink: &mut Sink) -> Result<Option<Meta>, StoreError> {
        match &self.dry {
            None => self.place.download(key, sink).await,
            Some(dry) => Box::pin(dry.download(&self.place, key, sink)).await,
        }
    }

    /// Everything whose key starts with `prefix`, in key order.
    ///
    /// # Errors
    /// Any trouble; an empty listing is not one.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.listed(prefix, None).await
    }

    /// The same, only keys that come after `after`, so that what is known already is not listed again.
    ///
    /// # Errors
    /// See [`Store::list`].
    pub async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Entry>, StoreError> {
        self.listed(prefix, Some(after)).await
    }

    async fn listed(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Entry>, StoreError> {
        match &self.dry {
            None => self.place.list(prefix, after).await,
            Some(dry) => Box::pin(dry.list(&self.place, prefix, after)).await,
        }
    }

    /// Writes an object whatever was there.
    ///
    /// # Errors
    /// The store did not confirm it; it may have been written all the same.
    pub async fn put(&self, key: &str, body: Body<'_>, progress: &Progress) -> Result<Meta, StoreError> {
        let answer = match &self.dry {
            None => self.place.put(key, body, progress).await?,
            Some(dry) => Box::pin(dry.put(&self.place, key, body, Condition::None)).await?,
        };
        match answer {
            PutAnswer::Written(meta) => Ok(meta),
            PutAnswer::Refused => Err(StoreError::new(
                StoreErrorKind::Unexpected,
                self.name(),
                format!("put {key}"),
                "refused a plain put",
            )),
        }
    }

    /// Puts a file under a name that stands for its content, whatever was there. A large one goes up in parts, and an
    /// upload that was cut goes on where it was, also in the next run; `note` is where this machine writes down how far
    /// it is. One that was whole already, up to `young` seconds ago, is not sent again.
    ///
    /// # Errors
    /// See [`Store::put`].
    pub async fn put_named(
        &self,
        key: &str,
        (path, digests): (&Path, &Digests),
        (note, young): (&Path, i64),
        context: &Context,
        progress: &Progress,
    ) -> Result<Meta, StoreError> {
        if let (Place::S3(store), None) = (&self.place, &self.dry)
            && digests.size > parts::ONE_PIECE
        {
            let load = parts::Load { key, path, digests, young };
            if let Some(meta) = Box::pin(parts::put(store, context, load, note, progress)).await? {
                return Ok(meta);
            }
        }
        self.put(key, Body::File(path, digests), progress).await
    }

    /// One attempt at a conditional write, never repeated here: see [`conditional`] for the whole protocol.
    ///
    /// # Errors
    /// The outcome may be unknown: [`StoreError::may_have_happened`].
    pub async fn put_once(
        &self,
        key: &str,
        body: &[u8],
        condition: Condition<'_>,
    ) -> Result<PutAnswer, StoreError> {
        self.put_file_once(key, Body::Bytes(body), condition, &Progress::hidden()).await
    }

    /// The same for a body of any kind.
    ///
    /// # Errors
    /// See [`Store::put_once`].
    pub async fn put_file_once(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<PutAnswer, StoreError> {
        match &self.dry {
            None => self.place.put_once(key, body, condition, progress).await,
            Some(dry) => Box::pin(dry.put(&self.place, key, body, condition)).await,
        }
    }

    /// Copies an object inside the store.
    ///
    /// # Errors
    /// A missing source is an error here.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        match &self.dry {
            None => self.place.copy(from, to).await,
            Some(dry) => Box::pin(dry.copy(&self.place, from, to)).await,
        }
    }

    /// Deletes an object; one that is not there is fine.
    ///
    /// # Errors
    /// The store did not confirm it.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match &self.dry {
            None => self.place.delete(key).await,
            Some(dry) => Box::pin(dry.delete(&self.place, key)).await,
        }
    }
}
