//! The row log in the bucket: the segments of each writer by name, putting ours there and taking folded ones away; what the
//! machines say of themselves is in log/nodes.rs. Knows names and bytes, not what rows mean.

mod error;
mod nodes;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::segment::{Prepared, SIZE_LIMIT, SegmentError, SegmentReader, SegmentWriter};
use crate::failpoint;
use crate::private_files::make_private_folder;
use crate::progress::Bars;
use crate::seal::{HEADER, Place, Seal, SealError, Sealed, Seen, Standing};
use crate::storage::{Body, Bucket, Digests, Etag, Found, Outcome, Sink};
use crate::sum::Sum;

pub use error::LogError;
pub use nodes::{ListedNode, Listing};

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

/// The bytes of a segment on this machine, in a file without a name. Nothing of them is proved.
#[derive(Debug)]
pub struct Download {
    file: File,
    etag: Etag,
    size: u64,
    sha256: Sum,
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

/// Whether an earlier run may have put a segment already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was just made.
    First,
    /// An earlier run was cut off with it.
    Again,
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
        let download = self.download(writer, number).await?;
        download.map(|download| self.prove(writer, number, download)).transpose()
    }

    /// Proves that a download is a whole segment, and the one that was asked for.
    ///
    /// # Errors
    /// A segment that cannot be used; the disk's.
    pub fn prove(&self, writer: &str, number: u64, download: Download) -> Result<Fetched, LogError> {
        let Download { file, etag, size, sha256 } = download;
        let key = self.bucket.keys.segment(writer, number);
        match self.proved(file, sha256, writer, number) {
            Ok(reader) => Ok(Fetched { reader, sha256, size }),
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

    /// Downloads a segment and proves nothing of it. `None` when it is not there.
    ///
    /// # Errors
    /// The store's; the disk's.
    pub async fn download(&self, writer: &str, number: u64) -> Result<Option<Download>, LogError> {
        let key = self.bucket.keys.segment(writer, number);
        let local = |error| LogError::Local { folder: self.scratch.clone(), error };
        make_private_folder(&self.scratch).map_err(local)?;
        let file = tempfile::tempfile_in(&self.scratch).map_err(local)?;
        let mut sink = Sink::drawing(file.try_clone().map_err(local)?, SIZE_LIMIT, self.bars.clone());
        let Some(meta) = self.bucket.store.download(&key, &mut sink).await? else {
            return Ok(None);
        };
        let (size, sha256) = sink.finish().await.map_err(local)?;
        Ok(Some(Download { file, etag: meta.etag, size, sha256 }))
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
    /// bytes are ours, put before a crash: where that may be, they are looked for before they are sent.
    ///
    /// # Errors
    /// The store's; the disk's.
    pub async fn publish(
        &self,
        writer: &str,
        number: u64,
        (file, digests): (&Path, &Digests),
        attempt: Attempt,
    ) -> Result<Published, LogError> {
        let key = self.bucket.keys.segment(writer, number);
        if !self.may_leave(file)? {
            return Ok(match self.bucket.confirm(&key, digests, None).await? {
                Found::AsSent(_) => Published::Ours,
                Found::Otherwise(_) | Found::Nothing => Published::Stale,
            });
        }
        if attempt == Attempt::Again
            && let Found::AsSent(_) = self.bucket.confirm(&key, digests, None).await?
        {
            return Ok(Published::Ours);
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
            Found::Nothing => Err(LogError::InTheWay(key)),
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
