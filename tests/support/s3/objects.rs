//! What the server stores: buckets of objects behind one mutex, so that a condition
//! and the write it guards are one step. Large bodies live in temporary files and are
//! read as streams. Knows nothing of HTTP requests, faults or signatures.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use md5::{Digest, Md5};
use tempfile::{NamedTempFile, TempPath};

/// Bodies above this many bytes go to a temporary file.
const SPILL_ABOVE: usize = 4 << 20;
const CHUNK: usize = 128 << 10;

/// Where the bytes of an object are.
#[derive(Clone)]
pub enum Content {
    Memory(Bytes),
    File(Arc<TempPath>),
}

/// One stored object, cheap to clone.
#[derive(Clone)]
pub struct Stored {
    pub content: Content,
    pub size: u64,
    /// Hex digits, without the quotes.
    pub etag: String,
    pub modified: SystemTime,
    pub content_type: Option<String>,
    pub metadata: Option<HashMap<String, String>>,
}

impl Stored {
    pub fn from_bytes(bytes: &[u8]) -> Stored {
        let mut sink = Sink::new();
        sink.write(bytes).expect("store an object");
        sink.finish()
    }

    pub fn read_all(&self) -> Vec<u8> {
        match &self.content {
            Content::Memory(bytes) => bytes.to_vec(),
            Content::File(path) => std::fs::read(&**path).expect("read a spilled object"),
        }
    }

    /// The bytes from `start` up to, not including, `end`.
    pub fn stream(&self, start: u64, end: u64) -> io::Result<s3s::Body> {
        Ok(match &self.content {
            Content::Memory(bytes) => s3s::Body::from(bytes.slice(start as usize..end as usize)),
            Content::File(path) => {
                let mut file = File::open(&**path)?;
                file.seek(SeekFrom::Start(start))?;
                let keep = Arc::clone(path);
                s3s::Body::http_body(FileBody { file, left: end - start, _keep: keep })
            }
        })
    }

    fn copy_into(&self, sink: &mut Sink) -> io::Result<()> {
        match &self.content {
            Content::Memory(bytes) => sink.write(bytes),
            Content::File(path) => {
                let mut file = File::open(&**path)?;
                let mut chunk = vec![0; CHUNK];
                loop {
                    match file.read(&mut chunk)? {
                        0 => return Ok(()),
                        read => sink.write(&chunk[..read])?,
                    }
                }
            }
        }
    }

    /// Joins uploaded parts; the etag has the form that S3 gives to multipart objects.
    pub fn join(parts: &[Stored]) -> io::Result<Stored> {
        let mut sink = Sink::new();
        let mut of_parts = Md5::new();
        for part in parts {
            part.copy_into(&mut sink)?;
            of_parts.update(unhex(&part.etag));
        }
        let mut joined = sink.finish();
        joined.etag = format!("{}-{}", hex(&of_parts.finalize()), parts.len());
        Ok(joined)
    }
}

/// Takes a body in, hashes it and moves to a file once it is large.
pub struct Sink {
    memory: Vec<u8>,
    file: Option<NamedTempFile>,
    hash: Md5,
    size: u64,
}

impl Sink {
    pub fn new() -> Sink {
        Sink { memory: Vec::new(), file: None, hash: Md5::new(), size: 0 }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(bytes);
        }
        self.memory.extend_from_slice(bytes);
        if self.memory.len() > SPILL_ABOVE {
            let mut file = NamedTempFile::with_prefix("s3-object-")?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        Ok(())
    }

    pub fn finish(self) -> Stored {
        let content = match self.file {
            Some(file) => Content::File(Arc::new(file.into_temp_path())),
            None => Content::Memory(self.memory.into()),
        };
        Stored {
            content,
            size: self.size,
            etag: hex(&self.hash.finalize()),
            modified: SystemTime::now(),
            content_type: None,
            metadata: None,
        }
    }
}

struct FileBody {
    file: File,
    left: u64,
    _keep: Arc<TempPath>,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; self.left.min(CHUNK as u64) as usize];
        Poll::Ready(Some(self.file.read_exact(&mut chunk).map(|()| {
            self.left -= chunk.len() as u64;
            Frame::data(chunk.into())
        })))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Reads a request body to its end into `sink`.
pub async fn take_in(body: s3s::Body, sink: &mut Sink) -> Result<(), s3s::StdError> {
    let mut body = Box::pin(body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            sink.write(&data)?;
        }
    }
    Ok(())
}

/// A multipart upload under way.
pub struct Upload {
    pub bucket: String,
    pub key: String,
    pub content_type: Option<String>,
    pub metadata: Option<HashMap<String, String>>,
    pub parts: BTreeMap<i32, Stored>,
}

pub type Bucket = BTreeMap<String, Stored>;

#[derive(Default)]
pub struct Contents {
    pub buckets: HashMap<String, Bucket>,
    pub uploads: HashMap<String, Upload>,
    pub last_upload: u64,
}

/// The map behind one mutex.
#[derive(Default)]
pub struct Objects {
    contents: Mutex<Contents>,
    /// Etags are 32 hex digits and no MD5, other ones after each write.
    pub encrypts: AtomicBool,
    /// A cache stands in front: the first answer to a GET of a whole object is the answer to all later ones.
    pub cached: Mutex<Option<HashMap<String, Option<Stored>>>>,
}

impl Objects {
    pub fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a GET of a whole object finds, where this is there now.
    pub fn answered(&self, key: &str, there: Option<Stored>) -> Option<Stored> {
        match &mut *self.cached.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(cached) => cached.entry(key.to_owned()).or_insert(there).clone(),
            None => there,
        }
    }

    /// What an object is stored as: with an etag of the server's own, where it encrypts.
    pub fn sealed(&self, mut stored: Stored) -> Stored {
        static WRITES: AtomicU64 = AtomicU64::new(0);
        if self.encrypts.load(Ordering::SeqCst) {
            let write = WRITES.fetch_add(1, Ordering::SeqCst);
            stored.etag = hex(&Md5::digest(format!("write {write} of {}", stored.etag)));
        }
        stored
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or("0"), 16);
    (0..text.len()).step_by(2).filter_map(|at| digit(at).ok()).collect()
}
