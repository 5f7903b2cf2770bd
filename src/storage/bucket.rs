//! A project's place in the store: the store, the names of the project's objects, clock and chance, and what the store's
//! conditional writes are worth. Whoever needs the bucket gets this one value. It knows no meaning of what lies there.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::claim::{self, Claim, Staked};
use super::conditional::{self, Outcome};
use super::confirm::{self, Found};
use super::keys::Keys;
use super::probe::{Capability, Verdict};
use super::records;
use super::{Body, Condition, Digests, Etag, Meta, Store, StoreError, StoreErrorKind};
use crate::context::Context;
use crate::progress::Progress;
use crate::seal::{Mac, Seal, Sealing};

/// How long a claim for one write lives without renewal (seconds).
const CLAIM_SECONDS: i64 = 60;
/// A claimer that was held up for longer does not write.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Whether and with what the project is sealed.
    pub seal: Seal,
    /// Where it is noted how far a large upload is.
    uploads: PathBuf,
}

impl Bucket {
    /// The place of the project `cid` in `store`; `state` is our state directory, where verdicts about the store are kept.
    pub fn new(store: Store, cid: &str, context: Arc<Context>, state: &Path) -> Self {
        let capability = Capability::new(&store, state);
        let uploads = state.join("uploads").join(format!("{cid}.json"));
        Self { keys: Keys::new(cid), store, context, capability, seal: Seal::Off, uploads }
    }

    /// From here on writes are only rehearsed: see [`Store::rehearse`].
    pub fn rehearse(&mut self) {
        self.store.rehearse(&self.context);
    }

    /// What somebody needs who seals objects of this project.
    ///
    /// # Errors
    /// This machine has no random numbers.
    pub fn sealing(&self) -> Result<Sealing, StoreError> {
        Ok(Sealing::new(self.seal.clone(), self.keys.project(), self.salt()?))
    }

    /// 32 fresh random bytes.
    ///
    /// # Errors
    /// This machine has none.
    pub fn salt(&self) -> Result<[u8; 32], StoreError> {
        self.context.random().map_err(|error| {
            StoreError::new(StoreErrorKind::Local, "this machine", "get random numbers", error.to_string())
        })
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

    /// Writes `body` if the object is still as it was seen (`None`: not there), and finds out what became of it: by the
    /// store's conditional writes where they are worth something, else under a claim. The body must be unique to its
    /// writer (a random token); whoever finds its own bytes there has won.
    ///
    /// # Errors
    /// The store's. The write may then have happened, and its owner finds its own token there when it comes back.
    pub async fn swap(&self, key: &str, seen: Option<&Etag>, body: &[u8]) -> Result<Outcome, StoreError> {
        self.swap_any(key, seen, Body::Bytes(body), &Progress::hidden()).await
    }

    /// The same for a body of any size. A file is told by its checksum: two writers of the very same file have both won.
    ///
    /// # Errors
    /// See [`Bucket::swap`].
    pub async fn swap_any(
        &self,
        key: &str,
        seen: Option<&Etag>,
        body: Body<'_>,
        progress: &Progress,
    ) -> Result<Outcome, StoreError> {
        let conditional = match seen {
            None => self.capability.creates(&self.store, &self.keys, &self.context).await?,
            Some(_) => self.verdict().await?.atomic(),
        };
        if conditional {
            match self.write_if(key, body, conditional::replacing(seen), progress).await {
                // It was another store when its verdict was found out.
                Err(error) if error.kind == StoreErrorKind::NotSupported => {}
                ended => return ended,
            }
        }
        // Larger than all the rest, and rare.
        Box::pin(self.swap_alone(key, seen, body, progress)).await
    }

    /// Writes `body` under a condition, for whoever has asked what the store's conditional writes are worth. Where they
    /// turn out to be worth something else, that is found out anew by the next who asks.
    ///
    /// # Errors
    /// See [`Bucket::swap`].
    pub async fn write_if(
        &self,
        key: &str,
        body: Body<'_>,
        condition: Condition<'_>,
        progress: &Progress,
    ) -> Result<Outcome, StoreError> {
        let ended = conditional::write(&self.store, key, body, condition, progress).await;
        let odd = match &ended {
            Ok(ended) => ended.odd,
            Err(error) => error.kind == StoreErrorKind::NotSupported,
        };
        if odd {
            self.capability.doubt().await;
        }
        ended.map(|ended| ended.outcome)
    }

    async fn swap_alone(
        &self,
        key: &str,
        seen: Option<&Etag>,
        body: Body<'_>,
        progress: &Progress,
    ) -> Result<Outcome, StoreError> {
        let token = self.context.token().map_err(|error| {
            StoreError::new(StoreErrorKind::Local, "this machine", "get random numbers", error.to_string())
        })?;
        let folder = self.keys.claims(&stem(key));
        let terms = claim::Terms {
            folder: &folder,
            token: &token,
            machine: None,
            lifetime: CLAIM_SECONDS,
            force: false,
        };
        let Staked::Alone(mut claim) = Claim::stake(&self.store, &self.context, terms).await? else {
            return Ok(Outcome::Lost);
        };
        let work = self.write_alone(key, seen, body, progress, claim.announced());
        let end = claim.hold(&self.store, &self.context, work).await;
        let withdrawn = claim.withdraw(&self.store).await;
        let outcome = end?;
        withdrawn?;
        Ok(outcome)
    }

    /// With a sole claim nobody else writes here; what is there decides all the same.
    async fn write_alone(
        &self,
        key: &str,
        seen: Option<&Etag>,
        body: Body<'_>,
        progress: &Progress,
        claimed: Duration,
    ) -> Result<Outcome, StoreError> {
        let there = conditional::look(&self.store, key, body, None).await?;
        match there.meta {
            Some(meta) if there.ours => return Ok(Outcome::Won(meta)),
            meta if meta.as_ref().map(|meta| &meta.etag) != seen => return Ok(Outcome::Lost),
            _ if self.context.uptime().saturating_sub(claimed) > PATIENCE => return Ok(Outcome::Lost),
            _ => {}
        }
        let written = self.store.put(key, body, progress).await?;
        let there = conditional::look(&self.store, key, body, Some(&written)).await?;
        Ok(there.meta.filter(|_| there.ours).map_or(Outcome::Lost, Outcome::Won))
    }

    /// Puts a file under a name that stands for its content: see [`Store::put_named`].
    ///
    /// # Errors
    /// The store's.
    pub async fn put_named(
        &self,
        key: &str,
        (path, digests): (&Path, &Digests),
        young: i64,
        progress: &Progress,
    ) -> Result<Meta, StoreError> {
        let note = (self.uploads.as_path(), young);
        self.store.put_named(key, (path, digests), note, &self.context, progress).await
    }

    /// Whether what lies under `key` is the file with these digests. `answered`: what the store said to our put, when it
    /// confirmed one. An object whose etag is no checksum is read back, unless it still has the etag of that answer.
    ///
    /// # Errors
    /// The store's.
    pub async fn confirm(
        &self,
        key: &str,
        digests: &Digests,
        answered: Option<&Meta>,
    ) -> Result<Found, StoreError> {
        confirm::confirm(&self.store, key, digests, answered).await
    }

    /// When the store got the object, seconds since 1970 by its own clock; `None` where it does not say.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored(&self, key: &str) -> Result<Option<i64>, StoreError> {
        let listed = self.store.list(key).await?;
        let entry = listed.into_iter().find(|entry| entry.key == key);
        Ok(entry.map(|entry| entry.modified).filter(|modified| *modified > 0))
    }

    /// The bytes of a record for `key`: two-space indent, as Python writes them; in a sealed project signed, and without
    /// names.
    ///
    /// # Errors
    /// Never for our own types; this machine has no random numbers.
    pub fn to_bytes<T: Serialize>(&self, key: &str, record: &T) -> Result<Vec<u8>, StoreError> {
        if !self.seal.is_on() {
            return records::to_bytes(record);
        }
        let local =
            |error: String| StoreError::new(StoreErrorKind::Local, "this machine", "sign a record", error);
        let record = serde_json::to_value(record).map_err(|error| local(error.to_string()))?;
        let Value::Object(record) = record else {
            return records::to_bytes(&record);
        };
        let signed = self.seal.sign(record, key, self.keys.project(), self.salt()?);
        records::to_bytes(&signed.map_err(|error| local(error.to_string()))?)
    }

    /// Goes on without an object; in a sealed project a person is told.
    pub fn ignore(&self, error: &impl Display) {
        tracing::warn!(%error, "ignored");
        if let Seal::On(fleet) = &self.seal {
            fleet.refused.note(error.to_string());
        }
    }

    /// What was ignored until now, for people.
    pub fn ignored(&self) -> Vec<String> {
        match &self.seal {
            Seal::Off => Vec::new(),
            Seal::On(fleet) => fleet.refused.told(),
        }
    }

    /// Reads a JSON record that decides what others may do: in a sealed project, one without a valid mac is not there. Its
    /// etag is, for whoever writes a valid one in its place.
    ///
    /// # Errors
    /// As [`Bucket::read`].
    pub async fn read_signed<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<(Option<T>, Option<Etag>), StoreError> {
        match self.look_for(key, true).await? {
            None => Ok((None, None)),
            Some((Ok(record), etag)) => Ok((Some(record), Some(etag))),
            Some((Err(error), etag)) if self.seal.is_on() => {
                self.ignore(&error);
                Ok((None, Some(etag)))
            }
            Some((Err(error), _)) => Err(error),
        }
    }

    /// Reads a JSON record. `None` when the object is not there.
    ///
    /// # Errors
    /// The store's; and what is wrong with the record, as [`StoreErrorKind::NotARecord`].
    pub async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Etag)>, StoreError> {
        match self.look(key).await? {
            None => Ok(None),
            Some((record, etag)) => Ok(Some((record?, etag))),
        }
    }

    /// The same for whoever may replace what is there: content that is no record comes with its etag, so that nothing
    /// else than just that content is replaced.
    ///
    /// # Errors
    /// The store's alone: only what was really read can be found to be no record.
    pub async fn look<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(Result<T, StoreError>, Etag)>, StoreError> {
        self.look_for(key, false).await
    }

    async fn look_for<T: DeserializeOwned>(
        &self,
        key: &str,
        signed: bool,
    ) -> Result<Option<(Result<T, StoreError>, Etag)>, StoreError> {
        let (bytes, meta) = match self.store.get(key).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if error.kind == StoreErrorKind::NotARecord => {
                return Ok(self.store.head(key).await?.map(|meta| (Err(error), meta.etag)));
            }
            Err(error) => return Err(error),
        };
        let record = self.record(key, &bytes, signed).map_err(|problem| {
            let detail = format!("the object is not what it should be: {problem}");
            StoreError::new(StoreErrorKind::NotARecord, self.store.name(), format!("read {key}"), detail)
        });
        Ok(Some((record, meta.etag)))
    }

    /// The record in these bytes. `signed`: in a sealed project it must carry a mac that fits; otherwise what everybody
    /// sees is taken where it does not, as a lock that blocks.
    fn record<T: DeserializeOwned>(&self, key: &str, bytes: &[u8], signed: bool) -> Result<T, String> {
        let text = |error: serde_json::Error| error.to_string();
        if !self.seal.is_on() {
            return match serde_json::from_slice::<Value>(bytes) {
                Ok(value) if !value.is_object() => Err("it is not a JSON object".to_owned()),
                _ => serde_json::from_slice(bytes).map_err(text),
            };
        }
        let Value::Object(shown) = serde_json::from_slice(bytes).map_err(text)? else {
            return Err("it is not a JSON object".to_owned());
        };
        match self.seal.verify(shown, key, self.keys.project()) {
            (_, Mac::Wrong) if signed => Err("it is not authentic: its mac does not fit".to_owned()),
            (_, Mac::Missing) if signed => Err("it has no mac, and this project is sealed".to_owned()),
            (record, _) => serde_json::from_value(Value::Object(record)).map_err(text),
        }
    }
}

/// What the claims for an object are named after: its folder and its own name, without the ending. Each writer has a folder of
/// segments, and the numbers in them are the same.
fn stem(key: &str) -> String {
    let mut names = key.rsplit('/');
    let name = names.next().unwrap_or(key);
    let name = name.split('.').next().unwrap_or(name);
    names.next().map_or_else(|| name.to_owned(), |folder| format!("{folder}-{name}"))
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn claims_for_segments_of_one_number_lie_apart() {
        let table = [
            ("projects/p/membridge/rows/aa/0000000005.seg", "aa-0000000005"),
            ("projects/p/membridge/rows/bb/0000000005.seg", "bb-0000000005"),
            ("projects/p/membridge/commits/0000000005.json", "commits-0000000005"),
            ("lease.json", "lease"),
        ];
        for (key, expected) in table {
            assert_eq!(stem(key), expected);
        }
    }
}
