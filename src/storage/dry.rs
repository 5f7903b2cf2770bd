//! Writes that are rehearsed (`--dry-run`): they are answered as if they had been done, and reads see them, so that the same
//! code runs; but nothing is sent. What would have been written is kept here, in memory where it is small.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::place::Place;
use super::{Body, Condition, Entry, Etag, Meta, PutAnswer, RECORD_LIMIT, Sink, StoreError, StoreErrorKind};
use crate::context::Context;
use crate::sum::Sum;

/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

/// Something that would have been done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed {
    /// Which object.
    pub key: String,
    /// Its bytes, counted; `None`: it would have been deleted.
    pub size: Option<u64>,
}

/// The writes so far.
#[derive(Debug)]
pub(super) struct Dry {
    context: Arc<Context>,
    /// `None`: deleted.
    objects: Mutex<BTreeMap<String, Option<Arc<Kept>>>>,
}

/// What was done to an object so far.
enum Touched {
    /// Nothing: the store's own answer counts.
    No,
    /// It was deleted.
    Gone,
    /// It was written.
    Kept(Arc<Kept>),
}

/// An object that would be there.
#[derive(Debug)]
struct Kept {
    content: Content,
    meta: Meta,
    /// Seconds since 1970.
    modified: i64,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Open, so that it may lose its name.
    File(File),
    /// A copy of an object that the store has.
    CopyOf(String),
}

impl Dry {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), objects: Mutex::default() }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Kept>>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touched(&self, key: &str) -> Touched {
        match self.objects().get(key) {
            None => Touched::No,
            Some(None) => Touched::Gone,
            Some(Some(kept)) => Touched::Kept(Arc::clone(kept)),
        }
    }

    fn keep(&self, key: &str, content: Content, meta: Meta) -> Meta {
        let modified = self.context.server_now().as_second();
        let kept = Kept { content, meta: meta.clone(), modified };
        self.objects().insert(key.to_owned(), Some(Arc::new(kept)));
        meta
    }

    pub(super) fn rehearsed(&self) -> Vec<Rehearsed> {
        let objects = self.objects();
        let told = objects.iter().map(|(key, kept)| Rehearsed {
            key: key.clone(),
            size: kept.as_ref().map(|kept| kept.meta.size),
        });
        told.collect()
    }

    pub(super) async fn get(&self, place: &Place, key: &str) -> Result<Option<(Vec<u8>, Meta)>, StoreError> {
        let kept = match self.touched(key) {
            Touched::No => return place.get(key).await,
            Touched::Gone => return Ok(None),
            Touched::Kept(kept) => kept,
        };
        if kept.meta.size > RECORD_LIMIT {
            let detail = format!("it has more than {RECORD_LIMIT} bytes");
            let operation = format!("get {key}");
            return Err(StoreError::new(StoreErrorKind::NotARecord, place.name(), operation, detail));
        }
        let bytes = match &kept.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(file) => read(file, 0, RECORD_LIMIT).map_err(|error| local(key, &error))?,
            Content::CopyOf(source) => match place.get(source).await? {
                Some((bytes, _)) => bytes,
                None => return Ok(None),
            },
        };
        Ok(Some((bytes, kept.meta.clone())))
    }

    pub(super) async fn head(&self, place: &Place, key: &str) -> Result<Option<Meta>, StoreError> {
        match self.touched(key) {
            Touched::No => place.head(key).await,
            Touched::Gone => Ok(None),
            Touched::Kept(kept) => Ok(Some(kept.meta.clone())),
        }
    }

    pub(super) async fn download(
        &self,
        place: &Place,
        key: &str,
        sink: &mut Sink,
    ) -> Result<Option<Meta>, StoreError> {
        let kept = match self.touched(key) {
            Touched::No => return place.download(key, sink).await,
            Touched::Gone => return Ok(None),
            Touched::Kept(kept) => kept,
        };
        match &kept.content {
            Content::Bytes(bytes) => sink.write(bytes).await.map_err(|error| local(key, &error))?,
            Content::File(file) => copy(file, sink).await.map_err(|error| local(key, &error))?,
            Content::CopyOf(source) => return place.download(source, sink).await,
        }
        Ok(Some(kept.meta.clone()))
    }

    pub(super) async fn list(
        &self,
        place: &Place,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut listed = place.list(prefix, after).await?;
        let objects = self.objects();
        listed.retain(|entry| !objects.contains_key(&entry.key));
        let ours = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        let ours = ours.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        listed.extend(ours.filter_map(|(key, kept)| {
            let kept = kept.as_ref()?;
            let etag = Some(kept.meta.etag.clone());
            Some(Entry { key: key.clone(), size: kept.meta.size, modified: kept.modified, etag })
        }));
        listed.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(listed)
    }

    pub(super) async fn put(
        &self,
        place: &Place,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
    ) -> Result<PutAnswer, StoreError> {
        let there = match condition {
            Condition::None => None,
            Condition::IfAbsent | Condition::IfMatch(_) => self.head(place, key).await?,
        };
        let holds = match condition {
            Condition::None => true,
            Condition::IfAbsent => there.is_none(),
            Condition::IfMatch(etag) => there.is_some_and(|meta| meta.etag == *etag),
        };
        if !holds {
            return Ok(PutAnswer::Refused);
        }
        let (content, sha256, size) = match body {
            Body::Bytes(bytes) => (Content::Bytes(bytes.to_vec()), Sum::of(bytes), bytes.len() as u64),
            Body::File(path, digests) => {
                let file = File::open(path).map_err(|error| local(key, &error))?;
                (Content::File(file), digests.sha256, digests.size)
            }
        };
        Ok(PutAnswer::Written(self.keep(key, content, Meta { etag: Etag(sha256.to_string()), size })))
    }

    pub(super) async fn copy(&self, place: &Place, from: &str, to: &str) -> Result<(), StoreError> {
        let gone = || {
            let operation = format!("copy {from} to {to}");
            StoreError::new(StoreErrorKind::Unexpected, place.name(), operation, "there is no such object")
        };
        let kept = match self.touched(from) {
            Touched::No => {
                let meta = place.head(from).await?.ok_or_else(gone)?;
                self.keep(to, Content::CopyOf(from.to_owned()), meta);
                return Ok(());
            }
            Touched::Gone => return Err(gone()),
            Touched::Kept(kept) => kept,
        };
        self.objects().insert(to.to_owned(), Some(kept));
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "as the place's own")]
    pub(super) async fn delete(&self, _: &Place, key: &str) -> Result<(), StoreError> {
        self.objects().insert(key.to_owned(), None);
        Ok(())
    }
}

fn read(file: &File, at: u64, limit: u64) -> std::io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(at).min(limit);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

async fn copy(file: &File, sink: &mut Sink) -> std::io::Result<()> {
    let mut at = 0;
    loop {
        let chunk = read(file, at, CHUNK as u64)?;
        if chunk.is_empty() {
            return Ok(());
        }
        sink.write(&chunk).await?;
        at += chunk.len() as u64;
    }
}

fn local(key: &str, error: &std::io::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Local, "this machine", format!("rehearse {key}"), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Rehearsed;
    use crate::config::StoreConfig;
    use crate::context::Context;
    use crate::progress::Progress;
    use crate::storage::{Body, Bucket, Digests, Found, Outcome, Sink, Store};

    const KEY: &str = "projects/6fe2e0f6071ac2bb/";

    fn put(folder: &std::path::Path, name: &str, bytes: &[u8]) {
        let path = folder.join(KEY).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A directory with two objects, and the bucket that rehearses in it.
    fn rehearsal() -> (tempfile::TempDir, Bucket) {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "old", b"old");
        put(folder.path(), "other", b"other");
        let context = Arc::new(Context::default());
        let mut store = Store::open(&StoreConfig::Dir(folder.path().to_owned()), &context).unwrap();
        store.rehearse(&context);
        let bucket = Bucket::new(store, "6fe2e0f6071ac2bb", context, folder.path());
        (folder, bucket)
    }

    /// Every file below the folder, with its content.
    fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
        found.sort();
        found
    }

    fn key(name: &str) -> String {
        format!("{KEY}{name}")
    }

    async fn names(bucket: &Bucket, after: &str) -> Vec<String> {
        let listed = bucket.store.list_after(KEY, &key(after)).await.unwrap();
        listed.iter().map(|entry| entry.key[KEY.len()..].to_owned()).collect()
    }

    #[tokio::test]
    async fn what_is_rehearsed_is_seen_and_never_written() {
        let (folder, bucket) = rehearsal();
        let before = files(folder.path());
        let store = &bucket.store;
        store.check().await.unwrap();
        store.put(&key("new"), Body::Bytes(b"new"), &Progress::hidden()).await.unwrap();
        store.put(&key("old"), Body::Bytes(b"newer"), &Progress::hidden()).await.unwrap();
        store.copy(&key("other"), &key("copy")).await.unwrap();
        store.copy(&key("new"), &key("second")).await.unwrap();
        store.delete(&key("other")).await.unwrap();
        store.delete(&key("none")).await.unwrap();
        assert_eq!(names(&bucket, "").await, ["copy", "new", "old", "second"]);
        assert_eq!(names(&bucket, "new").await, ["old", "second"]);
        for (name, content) in [
            ("new", Some("new")),
            ("old", Some("newer")),
            ("copy", Some("other")),
            ("second", Some("new")),
            ("other", None),
        ] {
            let got = store.get(&key(name)).await.unwrap();
            assert_eq!(got.as_ref().map(|(bytes, _)| bytes.as_slice()), content.map(str::as_bytes), "{name}");
            assert_eq!(store.head(&key(name)).await.unwrap(), got.map(|(_, meta)| meta), "{name}");
        }
        store.copy(&key("other"), &key("more")).await.unwrap_err();
        assert_eq!(files(folder.path()), before);
        let told = |name: &str, size| Rehearsed { key: key(name), size };
        let all = [
            told("copy", Some(5)),
            told("new", Some(3)),
            told("none", None),
            told("old", Some(5)),
            told("other", None),
            told("second", Some(3)),
        ];
        assert_eq!(store.rehearsed(), all);
    }

    #[tokio::test]
    async fn a_condition_is_judged_by_what_would_be_there() {
        let (folder, bucket) = rehearsal();
        let before = files(folder.path());
        let Outcome::Won(first) = bucket.swap(&key("a"), None, b"first").await.unwrap() else {
            panic!("nothing was there");
        };
        assert_eq!(bucket.swap(&key("a"), None, b"second").await.unwrap(), Outcome::Lost);
        assert_eq!(bucket.swap(&key("old"), None, b"second").await.unwrap(), Outcome::Lost);
        let replaced = bucket.swap(&key("a"), Some(&first.etag), b"third").await.unwrap();
        assert!(matches!(replaced, Outcome::Won(_)));
        assert_eq!(bucket.swap(&key("a"), Some(&first.etag), b"fourth").await.unwrap(), Outcome::Lost);
        let there = bucket.store.head(&key("old")).await.unwrap().unwrap();
        let replaced = bucket.swap(&key("old"), Some(&there.etag), b"newer").await.unwrap();
        assert!(matches!(replaced, Outcome::Won(_)));
        assert_eq!(files(folder.path()), before);
    }

    #[tokio::test]
    async fn a_file_can_be_read_back_after_it_lost_its_name() {
        let (_folder, bucket) = rehearsal();
        let local = tempfile::tempdir().unwrap();
        let path = local.path().join("file");
        std::fs::write(&path, vec![7; 2_500_000]).unwrap();
        let digests = Digests::of_file(&path).unwrap();
        let sent =
            bucket.store.put(&key("big"), Body::File(&path, &digests), &Progress::hidden()).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = bucket.confirm(&key("big"), &digests, Some(&sent)).await.unwrap();
        assert!(matches!(found, Found::AsSent(_)));
        let mut sink = Sink::hashing(digests.size);
        bucket.store.download(&key("big"), &mut sink).await.unwrap().unwrap();
        assert_eq!(sink.sha256(), digests.sha256);
        bucket.store.get(&key("big")).await.unwrap_err();
    }
}
