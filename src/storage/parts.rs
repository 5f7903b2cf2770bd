//! A large file goes up in parts, so that an upload that was cut goes on where it was, also in the next run: which parts the
//! store has is noted on this machine. Knows no S3, and nothing of what the file holds.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::object::{Known, Piece};
use super::s3::S3Store;
use super::{Digests, Etag, Meta, StoreError, StoreErrorKind, retry};
use crate::context::{Context, hex};
use crate::failpoint;
use crate::private_files::write_private;
use crate::progress::Progress;
use crate::sum::Sum;

/// Bytes of a part: the least that S3 takes, so that little is sent twice.
const PART: u64 = 5 << 20;
/// As many parts as any store takes, and some to spare (S3: 10,000).
const MOST_PARTS: u64 = 9_000;
/// What is not larger goes up in one piece.
pub(super) const ONE_PIECE: u64 = 2 * PART;

/// What goes up: a file under a name that stands for its content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    /// The name of the object.
    pub(super) key: &'a str,
    /// The file.
    pub(super) path: &'a Path,
    /// Its size and digests.
    pub(super) digests: &'a Digests,
    /// An object that came so many seconds ago at most counts as just sent.
    pub(super) young: i64,
}

/// What this machine knows of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Which store, as messages name it.
    store: String,
    key: String,
    size: u64,
    sha256: Sum,
    /// The store's name for the upload.
    upload: String,
    /// Etags of the parts that are there, from the first on.
    parts: Vec<String>,
    /// When it was whole, seconds since 1970 by the store's clock.
    #[serde(default)]
    whole: Option<Whole>,
}

/// The object that the parts became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    etag: String,
    at: i64,
}

impl Note {
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// What cannot be noted is sent again after a cut.
    fn keep(&self, file: &Path) {
        let written = serde_json::to_vec(self).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|bytes| write_private(file, &bytes)) {
            tracing::warn!(%error, "how far an upload is could not be noted");
        }
    }

    /// Whether it is about this load.
    fn is_of(&self, store: &str, load: Load<'_>) -> bool {
        let Digests { size, sha256, .. } = load.digests;
        self.store == store && self.key == load.key && self.size == *size && self.sha256 == *sha256
    }

    fn names(&self) -> (&str, &str) {
        (&self.key, &self.upload)
    }

    /// The etag that S3 gives to an object of these parts; `None` where those of the parts are no checksums.
    fn etag_of_whole(&self) -> Option<String> {
        let mut of_parts = Md5::new();
        for etag in &self.parts {
            let digits = etag.trim_matches('"').as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
            of_parts.update(bytes.filter(|bytes| bytes.len() == 16)?);
        }
        Some(format!("{}-{}", hex(&of_parts.finalize()), self.parts.len()))
    }
}

/// The pieces of a file, all of one length but the last.
fn pieces(size: u64) -> impl Iterator<Item = Piece> {
    let length = PART.max(size.div_ceil(MOST_PARTS));
    let offsets = (0..size.div_ceil(length)).map(move |index| index * length);
    (1..).zip(offsets).map(move |(number, offset)| Piece {
        number,
        offset,
        length: length.min(size - offset),
    })
}

/// How an upload ended.
enum Ended {
    Whole(Meta),
    /// The store knows nothing of it any more.
    Forgotten,
    /// The store takes no parts.
    Refused,
}

/// Puts a file in parts, and goes on where an earlier run was. `file`: where this machine notes how far it is. `None`: the
/// store takes no parts.
///
/// # Errors
/// The store's; then what is there stays, and the next run goes on.
pub(super) async fn put(
    store: &S3Store,
    context: &Context,
    load: Load<'_>,
    file: &Path,
    progress: &Progress,
) -> Result<Option<Meta>, StoreError> {
    if store.wants_checksums() {
        return Ok(None);
    }
    let mut before = Note::read(file);
    if let Some(old) = before.take_if(|note| !note.is_of(&store.name(), load))
        && old.store == store.name()
        && old.whole.is_none()
    {
        // Whatever comes of it: many stores remove such parts by themselves.
        let _ = store.drop_parts(old.names()).await;
    }
    if let Some(Whole { etag, at }) = before.as_ref().and_then(|note| note.whole.as_ref()) {
        let age = context.server_now().as_second().saturating_sub(*at);
        let there = if (0..load.young).contains(&age) { whole(store, load, etag).await? } else { None };
        if there.is_some() {
            progress.set(load.digests.size);
            return Ok(there);
        }
        before = None;
    }
    let went_on = before.is_some();
    let mut end = upload(store, context, load, before, file, progress).await?;
    if went_on && matches!(end, Ended::Forgotten) {
        end = upload(store, context, load, None, file, progress).await?;
    }
    match end {
        Ended::Whole(meta) => Ok(Some(meta)),
        Ended::Refused => Ok(None),
        Ended::Forgotten => Err(StoreError::new(
            StoreErrorKind::Interrupted,
            store.name(),
            format!("put {}", load.key),
            "the store forgot the parts that it had taken",
        )),
    }
}

/// Sends what is missing and joins it. `note`: an earlier run's.
async fn upload(
    store: &S3Store,
    context: &Context,
    load: Load<'_>,
    note: Option<Note>,
    file: &Path,
    progress: &Progress,
) -> Result<Ended, StoreError> {
    let mut note = match note {
        Some(note) => note,
        None => match retry::reading(|| store.begin_parts(load.key)).await {
            Ok(upload) => begun(store, load, upload),
            Err(error) if is_refusal(&error) => return Ok(Ended::Refused),
            Err(error) => return Err(error),
        },
    };
    note.keep(file);
    let there = note.parts.len();
    for piece in pieces(load.digests.size).skip(there) {
        let sha256 = sum_of(load.path, &piece).map_err(|error| local(load.key, &error))?;
        let send = || store.put_part(note.names(), load.path, (&piece, sha256), progress);
        match retry::sending(send).await {
            Ok(Known::Done(etag)) => note.parts.push(etag),
            Ok(Known::Nothing) => return Ok(Ended::Forgotten),
            Err(error) if note.parts.is_empty() && is_refusal(&error) => return refused(store, &note).await,
            Err(error) => return Err(error),
        }
        note.keep(file);
        failpoint::reach("store.part-sent");
    }
    let joined = retry::sending(|| store.join_parts(note.names(), &note.parts)).await;
    let there = match &joined {
        Ok(Known::Done(etag)) => Some(Meta { etag: Etag(etag.clone()), size: load.digests.size }),
        // Joined already, where an answer was lost; or joined, and said so in words of its own.
        Ok(Known::Nothing) => joined_before(store, load, &note).await?,
        Err(error) if is_refusal(error) => joined_before(store, load, &note).await?,
        Err(_) => None,
    };
    let Some(meta) = there else {
        return match joined {
            Ok(_) => Ok(Ended::Forgotten),
            Err(error) if is_refusal(&error) => refused(store, &note).await,
            Err(error) => Err(error),
        };
    };
    failpoint::reach("store.parts-joined");
    note.whole = Some(Whole { etag: meta.etag.0.clone(), at: context.server_now().as_second() });
    note.keep(file);
    Ok(Ended::Whole(meta))
}

/// The store takes no parts: those that it has are given up.
async fn refused(store: &S3Store, note: &Note) -> Result<Ended, StoreError> {
    let _ = store.drop_parts(note.names()).await;
    Ok(Ended::Refused)
}

fn begun(store: &S3Store, load: Load<'_>, upload: String) -> Note {
    Note {
        store: store.name(),
        key: load.key.to_owned(),
        size: load.digests.size,
        sha256: load.digests.sha256,
        upload,
        parts: Vec::new(),
        whole: None,
    }
}

/// The object that these parts became, where the answer that said so was lost.
async fn joined_before(store: &S3Store, load: Load<'_>, note: &Note) -> Result<Option<Meta>, StoreError> {
    match note.etag_of_whole() {
        Some(etag) => whole(store, load, &etag).await,
        None => Ok(None),
    }
}

/// The object, where it is the one with this etag.
async fn whole(store: &S3Store, load: Load<'_>, etag: &str) -> Result<Option<Meta>, StoreError> {
    let there = retry::reading(|| store.head(load.key)).await?;
    Ok(there.filter(|meta| meta.size == load.digests.size && same(&meta.etag, etag)))
}

/// Stores write an etag with quotes in one place and without in another.
fn same(etag: &Etag, other: &str) -> bool {
    etag.0.trim_matches('"') == other.trim_matches('"')
}

/// Whether the store has understood, and does not do such a thing: then a put of the whole tells what it does.
fn is_refusal(error: &StoreError) -> bool {
    !error.retryable() && error.kind != StoreErrorKind::Local
}

/// SHA-256 of a piece of a file.
fn sum_of(path: &Path, piece: &Piece) -> std::io::Result<Sum> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(piece.offset))?;
    let mut sha256 = sha2::Sha256::new();
    let mut rest = file.take(piece.length);
    std::io::copy(&mut rest, &mut HashWriter(&mut sha256))?;
    Ok(Sum::end(sha256))
}

/// Hashes what is written to it.
struct HashWriter<'a>(&'a mut sha2::Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn local(key: &str, error: &std::io::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Local, "this machine", format!("put {key}"), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Load, MOST_PARTS, Note, PART, pieces};
    use crate::storage::Digests;
    use crate::sum::Sum;

    #[test]
    fn the_pieces_are_the_whole_file_in_order() {
        let table = [
            (PART, 1),
            (PART + 1, 2),
            (3 * PART, 3),
            (100_000_000, 20),
            (PART * MOST_PARTS, MOST_PARTS),
            (PART * MOST_PARTS * 3, MOST_PARTS),
        ];
        for (size, count) in table {
            let mut at = 0;
            let all: Vec<_> = pieces(size).collect();
            for (index, piece) in (1..).zip(&all) {
                assert_eq!((piece.number, piece.offset), (index, at), "{size}");
                assert!(piece.length > 0 && (piece.length >= PART || at + piece.length == size), "{size}");
                at += piece.length;
            }
            assert_eq!((at, all.len() as u64), (size, count), "{size}");
        }
    }

    #[test]
    fn a_note_is_about_one_content_in_one_store() {
        let digests = Digests { size: 7, sha256: Sum::of(b"content"), md5: String::new() };
        let load = Load { key: "a", path: Path::new("/x"), digests: &digests, young: 1 };
        let note = Note {
            store: "s".to_owned(),
            key: "a".to_owned(),
            size: 7,
            sha256: digests.sha256,
            upload: "u".to_owned(),
            parts: Vec::new(),
            whole: None,
        };
        assert!(note.is_of("s", load));
        assert!(!note.is_of("other", load));
        assert!(!note.is_of("s", Load { key: "b", ..load }));
        let other = Digests { sha256: Sum::of(b"another"), ..digests.clone() };
        assert!(!note.is_of("s", Load { digests: &other, ..load }));
    }

    #[test]
    fn the_etag_of_joined_parts_is_that_of_their_checksums() {
        let mut note: Note = serde_json::from_str(
            r#"{"store":"s","key":"k","size":1,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","upload":"u","parts":[]}"#,
        )
        .unwrap();
        // MD5 of the bytes of MD5(""), as S3 says it of an object of one empty part.
        note.parts = vec!["\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned()];
        assert_eq!(note.etag_of_whole().as_deref(), Some("59adb24ef3cdbe0297f05b395827453f-1"));
        note.parts.push("\"no checksum\"".to_owned());
        assert_eq!(note.etag_of_whole(), None);
    }
}
