//! The row log in the bucket: which writers there are, their segments by name, putting ours there and taking folded ones
//! away. Knows names and bytes, not what rows mean.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::node::NodeRecord;
use super::segment::{Prepared, SIZE_LIMIT, SegmentError, SegmentReader, SegmentWriter};
use super::stamp::Writer;
use crate::error::{Code, Failure};
use crate::failpoint;
use crate::join;
use crate::private_files::make_private_folder;
use crate::progress::{Bars, Progress};
use crate::seal::{HEADER, KeyId, Place, Seal, SealError, Sealed, Seen, Standing};
use crate::storage::{Body, Bucket, Digests, Etag, Found, Outcome, Sink, StoreError};
use crate::sum::Sum;

/// What can go wrong with the row log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A segment that is not what it should be.
    #[error("{key} is not a segment that can be used: {error}")]
    Segment {
        /// Which object.
        key: String,
        /// The version of its content, where it was just read.
        etag: Option<Etag>,
        /// What is wrong with it.
        error: SegmentError,
    },
    /// A node record that is not what it should be.
    #[error("{key} is not a node record that can be used: {problem}")]
    Node {
        /// Which object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A segment or a node record that is sealed and cannot be opened here, or is not sealed as it should be.
    #[error("{what}: {error}")]
    Sealed {
        /// Which object.
        what: String,
        /// The version of its content, where it was fetched.
        etag: Option<Etag>,
        /// Why not.
        error: SealError,
    },
    /// An object that we put and that is not there.
    #[error("{0} is not there, although it has just been put")]
    Gone(String),
    /// The operating system has no random numbers to give.
    #[error("no random numbers: {0}")]
    Chance(#[from] getrandom::Error),
    /// The local disk.
    #[error("cannot keep a segment in {folder}: {error}")]
    Local {
        /// Our folder for temporary files.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl LogError {
    /// Whether the trouble lies in one object of the bucket: the others can be read all the same.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Segment { error, .. } => !error.is_local(),
            Self::Node { .. } => true,
            Self::Sealed { error, .. } => error.is_damage(),
            Self::Store(_) | Self::Gone(_) | Self::Chance(_) | Self::Local { .. } => false,
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            LogError::Sealed { ref what, ref error, .. } => join::refused(what, error),
            LogError::Segment { error: SegmentError::Version(_) | SegmentError::Schema(_), .. } => {
                Self::from_error(Code::NewerFormat, error)
                    .hint("a newer membridge wrote it: install the same version on this machine")
            }
            LogError::Chance(_) => Self::from_error(Code::NoRandomness, error).hint("try again"),
            LogError::Local { .. } => Self::from_error(Code::LocalFile, error)
                .hint("check the rights and the free space: membridge doctor"),
            other => Self::from_error(Code::BadObject, other).hint("run: membridge doctor"),
        }
    }
}

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

/// A segment as a listing names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSegment {
    /// Whose it is.
    pub writer: String,
    /// Its number.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// When it was put, seconds since 1970 by the store's clock.
    pub modified: i64,
}

/// A segment on this machine: every line of it is its writer's.
pub struct Fetched {
    /// Stands at its first line. The file behind it has no name any more.
    pub reader: SegmentReader,
    /// SHA-256 of the object.
    pub sha256: Sum,
    /// Bytes of the object.
    pub size: u64,
}

/// Whose bytes are under a name of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Ours: the segment is published.
    Ours,
    /// Other bytes: our state was copied, and the copy publishes too.
    SomebodyElses,
    /// It was made before the project was sealed, or sealed anew, and is not there: it must not leave any more.
    Stale,
}

/// The row log of a project.
#[derive(Debug, Clone)]
pub struct RowLog<'a> {
    bucket: &'a Bucket,
    scratch: PathBuf,
    bars: Bars,
}

impl<'a> RowLog<'a> {
    /// The log in this bucket; `scratch` is our folder for temporary files.
    pub fn new(bucket: &'a Bucket, scratch: &Path) -> Self {
        Self { bucket, scratch: scratch.to_owned(), bars: Bars::default() }
    }

    /// The same, with a bar over each large segment.
    #[must_use]
    pub fn watched(self, bars: &Bars) -> Self {
        Self { bars: bars.clone(), ..self }
    }

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
                Err(error) if error.is_damage() => tracing::warn!(%error, "the record of a machine"),
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Whether everything that this machine has published is to be sealed anew: see [`crate::seal::Memory::anew`].
    pub fn is_anew(&self) -> bool {
        matches!(&self.bucket.seal, Seal::On(fleet) if fleet.watch.is_anew())
    }

    /// It is.
    pub fn sealed_anew(&self) {
        if let Seal::On(fleet) = &self.bucket.seal {
            fleet.watch.sealed_anew();
        }
    }

    /// Whether a segment is of the time before the project's key.
    pub fn is_older_than_the_key(&self, writer: &str, number: u64) -> bool {
        self.bucket.seal.is_older(Place::Segment { writer, number })
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

    /// All segments of all writers.
    ///
    /// # Errors
    /// The store's.
    pub async fn segments(&self) -> Result<Vec<ListedSegment>, LogError> {
        self.listed(&self.bucket.keys.rows()).await
    }

    /// All segments of one writer, lowest number first.
    ///
    /// # Errors
    /// The store's.
    pub async fn segments_of(&self, writer: &str) -> Result<Vec<ListedSegment>, LogError> {
        self.listed(&self.bucket.keys.rows_of(writer)).await
    }

    async fn listed(&self, prefix: &str) -> Result<Vec<ListedSegment>, LogError> {
        let listed = self.bucket.store.list(prefix).await?;
        let segments = listed.into_iter().filter_map(|entry| {
            let (writer, number) = self.bucket.keys.segment_of(&entry.key)?;
            let writer = writer.to_owned();
            Some(ListedSegment { writer, number, size: entry.size, modified: entry.modified })
        });
        Ok(segments.collect())
    }

    /// Downloads a segment and proves that it is whole and that it is the one that was asked for. `None` when it is not
    /// there: it was folded, or has not come yet.
    ///
    /// # Errors
    /// The store's; a segment that cannot be used; the disk's.
    pub async fn get(&self, writer: &str, number: u64) -> Result<Option<Fetched>, LogError> {
        let key = self.bucket.keys.segment(writer, number);
        let Some((file, etag, size, sha256)) = self.download(&key).await? else {
            return Ok(None);
        };
        match self.proved(file, sha256, writer, number) {
            Ok(reader) => Ok(Some(Fetched { reader, sha256, size })),
            Err(SegmentError::Seal(error)) => Err(LogError::Sealed { what: key, etag: Some(etag), error }),
            Err(error) => Err(LogError::Segment { key, etag: Some(etag), error }),
        }
    }

    /// The version of a segment's content, without the content. `None` when it is not there.
    ///
    /// # Errors
    /// The store's.
    pub async fn version(&self, writer: &str, number: u64) -> Result<Option<Etag>, LogError> {
        let meta = self.bucket.store.head(&self.bucket.keys.segment(writer, number)).await?;
        Ok(meta.map(|meta| meta.etag))
    }

    /// Opens a downloaded segment and proves that it is whole and the one that was asked for.
    fn proved(&self, file: File, sum: Sum, writer: &str, number: u64) -> Result<SegmentReader, SegmentError> {
        let (project, place) = (self.bucket.keys.project(), Place::Segment { writer, number });
        let another = || tempfile::tempfile_in(&self.scratch);
        let opened = self.bucket.seal.open_file(Sealed::from_bucket(file), sum, project, place, another)?;
        let reader = SegmentReader::proved(opened)?;
        reader.header.expect(project, writer, number)?;
        if let Seal::On(fleet) = &self.bucket.seal {
            let there = Seen { number, sha256: sum };
            if fleet.watch.segment(writer, &there, reader.header.previous) == Standing::Exchanged {
                return Err(SealError::PutBack.into());
            }
        }
        Ok(reader)
    }

    /// A segment that could not be read on.
    pub fn broken(&self, segment: &ListedSegment, error: SegmentError) -> LogError {
        let key = self.bucket.keys.segment(&segment.writer, segment.number);
        LogError::Segment { key, etag: None, error }
    }

    /// The object in a file without a name, its version, its size and its SHA-256.
    async fn download(&self, key: &str) -> Result<Option<(File, Etag, u64, Sum)>, LogError> {
        let local = |error| LogError::Local { folder: self.scratch.clone(), error };
        make_private_folder(&self.scratch).map_err(local)?;
        let file = tempfile::tempfile_in(&self.scratch).map_err(local)?;
        let mut sink = Sink::drawing(file.try_clone().map_err(local)?, SIZE_LIMIT, self.bars.clone());
        let Some(meta) = self.bucket.store.download(key, &mut sink).await? else {
            return Ok(None);
        };
        let (size, sha256) = sink.finish().await.map_err(local)?;
        Ok(Some((file, meta.etag, size, sha256)))
    }

    /// Ends a segment of ours, sealed where the project is.
    ///
    /// # Errors
    /// A header that no reader would take; the disk's; no random numbers.
    pub fn finish(&self, writer: SegmentWriter, header: Header) -> Result<Prepared, LogError> {
        let key = self.bucket.keys.segment(&header.writer, header.number);
        let salt = self.bucket.context.random()?;
        writer.finish(header, &self.bucket.seal, salt).map_err(|error| LogError::Segment {
            key,
            etag: None,
            error,
        })
    }

    /// Puts a prepared segment under our number, unless something is there: then its bytes say whose it is. The same
    /// bytes are ours, put before a crash.
    ///
    /// # Errors
    /// The store's; the disk's.
    pub async fn publish(
        &self,
        writer: &str,
        number: u64,
        file: &Path,
        digests: &Digests,
    ) -> Result<Published, LogError> {
        let key = self.bucket.keys.segment(writer, number);
        if !self.may_leave(file)? {
            return Ok(match self.bucket.confirm(&key, digests, None).await? {
                Found::AsSent(_) => Published::Ours,
                Found::Otherwise(_) | Found::Nothing => Published::Stale,
            });
        }
        let body = Body::File(file, digests);
        let progress = self.bars.bytes("upload", digests.size);
        let put = self.bucket.swap_any(&key, None, body, &progress).await;
        progress.done();
        let put = put?;
        failpoint::reach("rows.segment-put");
        if matches!(put, Outcome::Won(_)) {
            return Ok(Published::Ours);
        }
        match self.bucket.confirm(&key, digests, None).await? {
            Found::AsSent(_) => Ok(Published::Ours),
            Found::Otherwise(_) => Ok(Published::SomebodyElses),
            Found::Nothing => Err(LogError::Gone(key)),
        }
    }

    /// Whether a prepared segment is sealed as the project is now.
    fn may_leave(&self, file: &Path) -> Result<bool, LogError> {
        let mut front = Vec::new();
        let read = File::open(file).and_then(|file| file.take(HEADER as u64).read_to_end(&mut front));
        read.map_err(|error| LogError::Local { folder: self.scratch.clone(), error })?;
        Ok(self.bucket.seal.may_leave(&front))
    }

    /// Takes segments of ours away that a fold or a base stands for.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, writer: &str, numbers: &[u64]) -> Result<(), LogError> {
        for number in numbers {
            self.bucket.store.delete(&self.bucket.keys.segment(writer, *number)).await?;
            failpoint::reach("rows.segment-deleted");
        }
        Ok(())
    }
}
