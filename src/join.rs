//! Whether this machine may take part in a project: with which key it is sealed, by its note `membridge/key.json`, which
//! keys are here, and what was known before. Asked by every command before it writes anything. The decision is pure.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_smithy_types::base64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::context::hex;
use crate::error::{Code, Failure};
use crate::progress::Progress;
use crate::seal::{
    KeyError, KeyId, Keyring, Known, MasterKey, Memory, Place, Seal, SealError, Vouched, Watch, open_bytes,
    seal_bytes,
};
use crate::storage::{Body, Bucket, Etag, Outcome, StoreError, StoreErrorKind, records};
use crate::visible::shell_path;

/// What to type on a machine that lacks the key.
const IMPORT: &str =
    "bring the fleet's key here: membridge key import (a machine that has it prints it: membridge key show)";
/// What a person can do where the bucket is not what it was.
pub const PUT_BACK: &str = "nothing that is known here was dropped; when you put the bucket back yourself: membridge key import forgets what was seen";
const INIT: &str = "on a new machine: membridge config init asks for it";

/// `membridge/key.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// 1.
    schema: u32,
    /// The public name of the key, 32 hex digits.
    key_id: String,
    /// What only whoever has the key can read and write, base64.
    sealed: String,
}

/// The sealed part of the note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Canonical project id.
    pub project: String,
    /// ISO time, by the store's clock.
    #[serde(default)]
    pub sealed_at: String,
    /// What was there before and may still be used.
    #[serde(default)]
    pub vouched: Vouched,
    /// The keys before this one: they open what is older, and seal nothing that is accepted.
    #[serde(default, serialize_with = "reveal", deserialize_with = "parse")]
    pub older: Vec<MasterKey>,
}

fn reveal<S: Serializer>(keys: &[MasterKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(MasterKey::reveal))
}

fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MasterKey>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| MasterKey::parse(text).map_err(D::Error::custom)).collect()
}

/// Why this machine may not take part.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file's.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Sealed, and no key here.
    #[error("this project is sealed with key {0}, and this machine has no key")]
    NoKey(KeyId),
    /// Sealed with a key that is not here.
    #[error("this project is sealed with key {theirs}; this machine has key {ours}")]
    OtherKey {
        /// The note's.
        theirs: KeyId,
        /// The one for new objects here.
        ours: KeyId,
    },
    /// A key is here, and the project is in the clear.
    #[error(
        "this machine has a key ({0}), and the project in this bucket is not sealed: nothing is written in the clear"
    )]
    NotSealed(KeyId),
    /// It was sealed, and now the note is gone or an older one is back.
    #[error(
        "this machine knows the project as sealed with key {0}, and the bucket says otherwise: it was put back or changed"
    )]
    Downgrade(KeyId),
    /// Somebody has sealed it, and the note is gone.
    #[error("this project was sealed with key {0}, and its note is gone: the bucket was put back or changed")]
    Gone(KeyId),
    /// The note is not what it should be.
    #[error("{key} {problem}")]
    Note {
        /// Its name.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What this machine remembers cannot be read or written.
    #[error("cannot use {}: {error}", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let of = |code| Self::of(code, error.to_string());
        match &error {
            JoinError::Store(store) => store.clone().into(),
            JoinError::NoKey(_) | JoinError::OtherKey { .. } => of(Code::KeyNeeded).hint(IMPORT).hint(INIT),
            JoinError::NotSealed(_) => of(Code::KeyNeeded)
                .hint("to seal it with this key: membridge key init")
                .hint("to work in the clear, name another file in MEMBRIDGE_KEY_FILE, or move the key away"),
            JoinError::Downgrade(_) => {
                of(Code::NotAuthentic).hint("see what is there: membridge key status").hint(PUT_BACK)
            }
            JoinError::Gone(_) => of(Code::NotAuthentic)
                .hint("when key init or key rotate was cut off: type it again on the machine where that was")
                .hint(IMPORT),
            JoinError::Note { .. } => of(Code::NotAuthentic).hint("see: membridge key status"),
            JoinError::Key(KeyError::Exposed { path }) => {
                of(Code::LocalFile).hint(format!("chmod 600 {}", shell_path(path)))
            }
            JoinError::Memory { path, error } if error.kind() == ErrorKind::NotADirectory => Self::of(
                Code::LocalFile,
                format!("cannot use the state directory {}: {error}", path.display()),
            )
            .hint(format!("it must be a folder of yours: ls -ld {}", shell_path(path)))
            .hint("or keep our state elsewhere: MEMBRIDGE_STATE_DIR=/path/to/a/folder"),
            JoinError::Memory { path, .. } => of(Code::LocalFile)
                .hint(format!("it must be a file of yours: ls -l {}", shell_path(path)))
                .hint(PUT_BACK),
            JoinError::Key(_) => of(Code::LocalFile),
        }
    }
}

/// How a command ends that met an object which this machine cannot open, or must not use. `what` names the object.
pub fn refused(what: &str, error: &SealError) -> Failure {
    let message = format!("{what}: {error}");
    match error {
        SealError::NoKey(_) | SealError::OtherKey(_) => {
            Failure::of(Code::KeyNeeded, message).hint(IMPORT).hint(INIT)
        }
        SealError::PutBack => Failure::of(Code::NotAuthentic, message).hint(PUT_BACK),
        SealError::NotAuthentic | SealError::NotSealed => Failure::of(Code::NotAuthentic, message)
            .hint("somebody else writes in this bucket, or it is damaged; nothing was changed here. See: membridge doctor"),
        SealError::Version(_) => Failure::of(Code::NewerFormat, message).hint("install a newer membridge"),
        SealError::TooLarge | SealError::Io(_) => Failure::of(Code::LocalFile, message),
    }
}

/// The decision. `note`: the key that the project's note names. `ring`: the keys here, the one for new objects first.
/// `known`: how this machine knew the project. The key to go on with; `None` in a project without one.
fn decide(note: Option<KeyId>, ring: &[KeyId], known: Option<KeyId>) -> Result<Option<KeyId>, JoinError> {
    match (note, ring, known) {
        (None, _, Some(known)) => Err(JoinError::Downgrade(known)),
        (None, [], None) => Ok(None),
        (None, [ours, ..], None) => Err(JoinError::NotSealed(*ours)),
        (Some(note), [], _) => Err(JoinError::NoKey(note)),
        (Some(note), ring, Some(known))
            if note != known && ring.contains(&known) && is_older(note, known, ring) =>
        {
            Err(JoinError::Downgrade(known))
        }
        (Some(note), ring, _) if ring.contains(&note) => Ok(Some(note)),
        (Some(note), [ours, ..], _) => Err(JoinError::OtherKey { theirs: note, ours: *ours }),
    }
}

/// Whether `note` is a key that stands behind `known` here, which leads since a rotation.
fn is_older(note: KeyId, known: KeyId, ring: &[KeyId]) -> bool {
    let place = |id| ring.iter().position(|ours| *ours == id);
    place(note) > place(known)
}

/// Where this machine keeps its key and what it remembers.
#[derive(Debug, Clone)]
pub struct Files {
    /// The key file.
    pub key: PathBuf,
    /// What was seen of this project in this store.
    pub memory: PathBuf,
}

impl Files {
    /// Those for a project in a store. `key`: the key file; `state`: our state directory.
    pub fn of(key: &Path, state: &Path, bucket: &Bucket) -> Self {
        let name = format!("{} {}", bucket.store.name(), bucket.keys.project());
        let id = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let id = hex(id.as_ref().first_chunk::<8>().unwrap_or(&[0; 8]));
        Self { key: key.to_owned(), memory: state.join("seal").join(format!("{id}.json")) }
    }

    /// What this machine remembers.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn memory(&self) -> Result<Memory, JoinError> {
        Memory::read(&self.memory).map_err(|error| self.unusable(error))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remember(&self, memory: &Memory) -> Result<(), JoinError> {
        memory.write(&self.memory).map_err(|error| self.unusable(error))
    }

    fn unusable(&self, error: std::io::Error) -> JoinError {
        let state = self.memory.ancestors().nth(2).unwrap_or(&self.memory);
        let path = if error.kind() == ErrorKind::NotADirectory { state } else { &self.memory };
        JoinError::Memory { path: path.to_owned(), error }
    }
}

/// Finds out whether and with what the project is sealed. The store is asked where this machine does not know it yet.
/// `keep`: note what was found; a command that only looks leaves no trace.
///
/// # Errors
/// See [`JoinError`]: then the command must not go on.
pub async fn join(bucket: &Bucket, files: &Files, keep: bool) -> Result<Seal, JoinError> {
    let ring = Keyring::read(&files.key)?;
    let memory = files.memory()?;
    let vouched = ring.as_ref().and_then(|ring| memory.vouched_for(ring)).cloned();
    match (ring, &memory.known, vouched) {
        (None, Some(Known::Open), _) => Ok(Seal::Off),
        (Some(ring), _, Some(vouched)) => {
            Ok(Seal::on(ring, vouched, Watch::new(memory, keep.then(|| files.memory.clone()))))
        }
        _ => ask(bucket, files, keep).await,
    }
}

/// The same by the note as it is now, whatever this machine knew.
///
/// # Errors
/// See [`JoinError`].
pub async fn ask(bucket: &Bucket, files: &Files, keep: bool) -> Result<Seal, JoinError> {
    let ring = Keyring::read(&files.key)?;
    let mut memory = files.memory()?;
    let watched = keep.then(|| files.memory.clone());
    let note = read(bucket).await?.map(|(note, _)| note);
    let known = match &memory.known {
        Some(Known::Sealed { key_id, .. }) => KeyId::parse(key_id),
        _ => None,
    };
    let ids: Vec<KeyId> = ring.iter().flat_map(Keyring::all).map(MasterKey::id).collect();
    let named = note.as_ref().map(|note| note.key(bucket)).transpose()?;
    let found = decide(named, &ids, known)?;
    let key = found.and_then(|id| ring.as_ref().and_then(|ring| ring.find(id)).cloned());
    let (Some(ring), Some(key), Some(note)) = (ring, key, note) else {
        memory.known = Some(Known::Open);
        if keep {
            files.remember(&memory)?;
        }
        return Ok(Seal::Off);
    };
    let inside = note.open(&key, bucket)?;
    let ring = ring.led_by(key).over(inside.older);
    memory.sealed_with(&ring, inside.vouched.clone());
    if keep {
        files.remember(&memory)?;
    }
    Ok(Seal::on(ring, inside.vouched, Watch::new(memory, watched)))
}

/// The project's note, and its version. `None` where there is none: the project is not sealed.
///
/// # Errors
/// The store's; a note that cannot be used.
pub async fn read(bucket: &Bucket) -> Result<Option<(Note, Etag)>, JoinError> {
    let key = bucket.keys.key_note();
    match bucket.read::<Note>(&key).await {
        Ok(Some((note, _))) if note.schema != 1 => Err(JoinError::Note {
            key,
            problem: format!("has schema {}, not known to this membridge", note.schema),
        }),
        Ok(found) => Ok(found),
        Err(error) if error.kind == StoreErrorKind::NotARecord => {
            Err(JoinError::Note { key, problem: format!("cannot be used: {}", error.detail) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the note of a project that is sealed with the ring's first key from now on, in the place of the note of that
/// version (`None`: there is none).
///
/// # Errors
/// The store's; it vouches for too much.
pub async fn write(
    bucket: &Bucket,
    ring: &Keyring,
    vouched: Vouched,
    there: Option<&Etag>,
) -> Result<Outcome, JoinError> {
    let inside = Inside {
        project: bucket.keys.project().to_owned(),
        sealed_at: records::iso(bucket.context.server_now()),
        vouched,
        older: ring.all().skip(1).cloned().collect(),
    };
    let note = Note::new(ring.current(), &inside, bucket.salt()?)
        .map_err(|error| wrong(bucket, &format!("cannot be made: {error}")))?;
    Ok(bucket.swap(&bucket.keys.key_note(), there, &records::to_bytes(&note)?).await?)
}

/// Puts the mark of the key with which the project is sealed among the node records, and takes others away (`named`: those
/// that are there).
///
/// # Errors
/// The store's.
pub async fn mark(bucket: &Bucket, key: KeyId, named: &[KeyId]) -> Result<(), StoreError> {
    if !named.contains(&key) {
        let object = bucket.keys.key_mark(&key.to_string());
        bucket.store.put(&object, Body::Bytes(b"sealed\n"), &Progress::hidden()).await?;
    }
    for other in named.iter().filter(|other| **other != key) {
        bucket.store.delete(&bucket.keys.key_mark(&other.to_string())).await?;
    }
    Ok(())
}

/// A person has emptied or replaced the store: what was seen of the one before is forgotten, and where nothing says that
/// the project is sealed, it is said again.
///
/// # Errors
/// See [`JoinError`].
pub async fn begin_anew(bucket: &Bucket, files: &Files) -> Result<(), JoinError> {
    let Seal::On(fleet) = &bucket.seal else {
        return Ok(());
    };
    fleet.watch.forget();
    let mut memory = Memory::default();
    memory.sealed_with(&fleet.keys, Vouched::default());
    memory.anew = false;
    files.remember(&memory)?;
    if read(bucket).await?.is_none() {
        mark(bucket, fleet.keys.current().id(), &[]).await?;
        write(bucket, &fleet.keys, Vouched::default(), None).await?;
    }
    ask(bucket, files, true).await.map(drop)
}

impl Note {
    /// The note of a project that is sealed with `key`. `salt`: 32 fresh random bytes.
    ///
    /// # Errors
    /// It vouches for too much.
    pub fn new(key: &MasterKey, inside: &Inside, salt: [u8; 32]) -> Result<Self, SealError> {
        let plain = serde_json::to_vec(inside).map_err(std::io::Error::from)?;
        let sealed = seal_bytes(&plain, key, &inside.project, Place::Project, salt)?;
        Ok(Self { schema: 1, key_id: key.id().to_string(), sealed: base64::encode(sealed) })
    }

    /// The key that it names.
    ///
    /// # Errors
    /// It names none.
    pub fn key(&self, bucket: &Bucket) -> Result<KeyId, JoinError> {
        KeyId::parse(&self.key_id).ok_or_else(|| wrong(bucket, "names no key"))
    }

    /// What only the key opens.
    ///
    /// # Errors
    /// It is not authentic.
    pub fn open(&self, key: &MasterKey, bucket: &Bucket) -> Result<Inside, JoinError> {
        let forged =
            || wrong(bucket, "is not authentic: whoever wrote it does not have the key that it names");
        let sealed = base64::decode(&self.sealed).map_err(|_| forged())?;
        let cid = bucket.keys.project();
        let plain =
            open_bytes(&sealed, &Keyring::new(key.clone()), cid, Place::Project).map_err(|_| forged())?;
        let inside: Inside = serde_json::from_slice(&plain).map_err(|_| forged())?;
        if inside.project == cid { Ok(inside) } else { Err(forged()) }
    }
}

fn wrong(bucket: &Bucket, problem: &str) -> JoinError {
    JoinError::Note { key: bucket.keys.key_note(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Files, Inside, JoinError, Note, decide, join};
    use crate::config::StoreConfig;
    use crate::seal::{KeyId, Keyring, MasterKey, Place, Seal, Vouched};
    use crate::storage::{Body, Bucket, Store};
    use crate::sum::Sum;

    #[test]
    fn who_may_take_part() {
        let [a, b, c] = [1, 2, 3].map(|byte| KeyId([byte; 16]));
        // the note's key, the keys here, the key known before → the key to go on with, or the beginning of the refusal
        let table: [(Option<KeyId>, &[KeyId], Option<KeyId>, Result<Option<KeyId>, &str>); 13] = [
            (None, &[], None, Ok(None)),
            (None, &[], Some(a), Err("this machine knows")),
            (None, &[a], None, Err("this machine has a key")),
            (None, &[a], Some(a), Err("this machine knows")),
            (Some(a), &[], None, Err("this project is sealed")),
            (Some(a), &[], Some(a), Err("this project is sealed")),
            (Some(a), &[a], None, Ok(Some(a))),
            (Some(a), &[b], None, Err("this project is sealed")),
            (Some(a), &[b], Some(b), Err("this project is sealed")),
            // Sealed anew elsewhere, and the key was brought here.
            (Some(b), &[b, a], Some(a), Ok(Some(b))),
            // A rotation that was cut off before its note was written.
            (Some(a), &[b, a], Some(a), Ok(Some(a))),
            // The note of the time before the rotation is back.
            (Some(a), &[b, a], Some(b), Err("this machine knows")),
            (Some(c), &[b, a], Some(b), Err("this project is sealed")),
        ];
        for (note, ring, known, expected) in table {
            let found = decide(note, ring, known).map_err(|error| error.to_string());
            match expected {
                Ok(key) => assert_eq!(found, Ok(key), "{note:?} {ring:?} {known:?}"),
                Err(text) => assert!(found.unwrap_err().starts_with(text), "{note:?} {ring:?} {known:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_note_is_asked_for_once_and_only_its_key_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::create_dir(&path).unwrap();
        let store = Store::open(&StoreConfig::Dir(path), &Arc::default()).unwrap();
        let bucket = Bucket::new(store, "6fe2e0f6071ac2bb", Arc::default(), folder.path());
        let files = Files { key: folder.path().join("fleet.key"), memory: folder.path().join("memory.json") };
        assert!(!join(&bucket, &files, false).await.unwrap().is_on());

        let (key, other) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
        let vouched = Vouched {
            commits: [(7, Sum::of("ab"))].into(),
            segments: [("w".to_owned(), [(1, Sum::of("cd"))].into())].into(),
        };
        let older = vec![MasterKey::new([9; 32])];
        let inside = Inside { project: "6fe2e0f6071ac2bb".to_owned(), vouched, older, ..Inside::default() };
        let note = Note::new(&key, &inside, [3; 32]).unwrap();
        assert_eq!(note.open(&key, &bucket).unwrap(), inside);
        assert!(matches!(note.open(&other, &bucket), Err(JoinError::Note { .. })));
        let bytes = serde_json::to_vec(&note).unwrap();
        let object = bucket.keys.key_note();
        bucket.store.put(&object, Body::Bytes(&bytes), &crate::progress::Progress::hidden()).await.unwrap();

        assert!(matches!(join(&bucket, &files, true).await, Err(JoinError::NoKey(id)) if id == key.id()));
        Keyring::new(other.clone()).write(&files.key).unwrap();
        assert!(matches!(join(&bucket, &files, true).await, Err(JoinError::OtherKey { .. })));
        assert!(!files.memory.exists(), "nothing is noted by whoever may not take part");
        Keyring::new(other).led_by(key).write(&files.key).unwrap();
        let seal = join(&bucket, &files, true).await.unwrap();
        assert!(seal.is_older(Place::Commit { number: 7 }) && !seal.is_older(Place::Commit { number: 8 }));
        let Seal::On(fleet) = seal else { panic!("it is sealed") };
        assert!(fleet.keys.find(MasterKey::new([9; 32]).id()).is_some(), "what is older can be read");
        fleet.keys.write(&files.key).unwrap();
        bucket.store.delete(&object).await.unwrap();
        assert!(join(&bucket, &files, true).await.unwrap().is_on(), "it is known");
        assert!(matches!(super::ask(&bucket, &files, true).await, Err(JoinError::Downgrade(_))));
    }
}
