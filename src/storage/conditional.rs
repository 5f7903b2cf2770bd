//! A conditional write that knows what became of it. A single answer can lie: it can be lost, it can be a
//! server that ignores conditions (F46), it can be a retry that meets its own first success. So the object is
//! read back each time, and the bytes decide. The body must therefore be unique to its writer (a random token).

use backon::Retryable;

use super::confirm::{self, Found};
use super::retry::{slowly, soon};
use super::{Body, Condition, Etag, Meta, PutAnswer, Store, StoreError};
use crate::progress::Progress;

/// How a conditional write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Our bytes are there.
    Won(Meta),
    /// Somebody else's bytes are there, or the condition did not hold.
    Lost,
}

/// How a conditional write ended, and whether the store did what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// The store confirmed the write and others' bytes are there, or it refused what nothing stood against.
    pub odd: bool,
}

/// What to do after an attempt, given what is there now.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Won,
    Lost,
    Again,
}

/// Decides from what was read back. `ours`: the bytes there are ours. `unchanged`: the object is as the condition
/// wanted it before the write. `certain`: the store answered the attempt clearly.
fn settle(ours: bool, unchanged: bool, certain: bool) -> Settled {
    match (ours, unchanged, certain) {
        (true, _, _) => Settled::Won,
        (false, true, false) => Settled::Again,
        (false, _, _) => Settled::Lost,
    }
}

/// Whether a clear answer does not fit what was read back. Whoever overwrites under a condition of its own makes it look so
/// too: it costs a question.
fn is_odd(ours: bool, unchanged: bool, answer: Option<&PutAnswer>) -> bool {
    match answer {
        Some(PutAnswer::Written(_)) => !ours,
        Some(PutAnswer::Refused) => !ours && unchanged,
        None => false,
    }
}

/// Writes `body` under `condition` and finds out what happened. Of a body of any size; a file is told by its checksum: two
/// writers of the very same file have both won.
///
/// # Errors
/// The store cannot be reached, or gives no clear answer after several attempts; the write may then have happened,
/// and its owner finds its own token there when it comes back.
pub async fn write(
    store: &Store,
    key: &str,
    body: Body<'_>,
    condition: Condition<'_>,
    progress: &Progress,
) -> Result<Ended, StoreError> {
    let attempt = || once(store, key, body, condition, progress);
    attempt.retry(soon()).when(|trouble| trouble.unclear).await.map_err(|trouble| trouble.error)
}

/// An attempt without an end. `unclear`: nothing happened yet, and it may be made again.
struct Trouble {
    error: StoreError,
    unclear: bool,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self { error, unclear: false }
    }
}

async fn once(
    store: &Store,
    key: &str,
    body: Body<'_>,
    condition: Condition<'_>,
    progress: &Progress,
) -> Result<Ended, Trouble> {
    let answer = slowly(|| store.put_file_once(key, body, condition, progress)).await;
    let unclear = match &answer {
        Ok(_) => None,
        // It has not taken it, however long we waited.
        Err(error) if error.is_limit() => return Err(error.clone().into()),
        Err(error) if error.may_have_happened() || error.retryable() => Some(error),
        Err(error) => return Err(error.clone().into()),
    };
    let written = match &answer {
        Ok(PutAnswer::Written(meta)) => Some(meta),
        _ => None,
    };
    let there = look(store, key, body, written).await?;
    let unchanged = match (condition, &there.meta) {
        (Condition::IfAbsent, None) => true,
        (Condition::IfMatch(etag), Some(meta)) => meta.etag == *etag,
        _ => false,
    };
    tracing::debug!(key, ?answer, ?there, unchanged, "conditional write");
    let odd = is_odd(there.ours, unchanged, answer.as_ref().ok());
    match (settle(there.ours, unchanged, unclear.is_none()), there.meta, unclear) {
        (Settled::Won, Some(meta), _) => Ok(Ended { outcome: Outcome::Won(meta), odd }),
        (Settled::Again, _, Some(error)) => Err(Trouble { error: error.clone(), unclear: true }),
        _ => Ok(Ended { outcome: Outcome::Lost, odd }),
    }
}

/// What lies under a key.
#[derive(Debug)]
pub(super) struct There {
    /// The object; `None` where there is none.
    pub(super) meta: Option<Meta>,
    /// It is what we write.
    pub(super) ours: bool,
}

/// What is there, and whether it is `body`. `written`: the store's answer to our put, where it confirmed one.
pub(super) async fn look(
    store: &Store,
    key: &str,
    body: Body<'_>,
    written: Option<&Meta>,
) -> Result<There, StoreError> {
    match body {
        Body::Bytes(body) => {
            let there = store.get(key).await?;
            let ours = there.as_ref().is_some_and(|(bytes, _)| bytes == body);
            let meta = there.map(|(_, meta)| meta);
            if let (false, Some(written)) = (ours, written) {
                no_cache_between(store, key, written, meta.as_ref()).await?;
            }
            Ok(There { meta, ours })
        }
        Body::File(_, digests) => {
            let Some(meta) = store.head(key).await? else {
                return Ok(There { meta: None, ours: false });
            };
            let found = confirm::judge(store, key, meta.clone(), digests, written).await?;
            Ok(There { meta: Some(meta), ours: matches!(found, Found::AsSent(_)) })
        }
    }
}

/// Whoever reads other bytes than it has just written was overtaken, or was told what lay there before: where the store
/// still has the version that it confirmed to us, a cache on the way has answered, and nothing that is read here counts.
pub(super) async fn no_cache_between(
    store: &Store,
    key: &str,
    written: &Meta,
    read: Option<&Meta>,
) -> Result<(), StoreError> {
    let same = |meta: Option<&Meta>| meta.is_some_and(|meta| meta.etag == written.etag);
    if written.etag.0.is_empty() || same(read) || !same(store.head(key).await?.as_ref()) {
        return Ok(());
    }
    Err(StoreError::new(
        super::StoreErrorKind::Cached,
        store.name(),
        format!("get {key}"),
        "answered with old content, not with what was written a moment before",
    ))
}

/// The condition for replacing what was read (or not found).
pub fn replacing(etag: Option<&Etag>) -> Condition<'_> {
    etag.map_or(Condition::IfAbsent, Condition::IfMatch)
}

/// Whether a plain answer means that the condition held: used where the answer itself is under test (the probe).
pub fn held(answer: &PutAnswer) -> bool {
    matches!(answer, PutAnswer::Written(_))
}

#[cfg(test)]
mod tests {
    use super::{Settled, is_odd, settle};
    use crate::storage::{Etag, Meta, PutAnswer};

    #[test]
    fn an_answer_that_does_not_fit_what_is_there_is_odd() {
        let written = PutAnswer::Written(Meta { etag: Etag("e".to_owned()), size: 1 });
        // ours, unchanged, answer → odd
        let table = [
            ((true, false, Some(&written)), false),
            ((false, false, Some(&written)), true),
            ((false, true, Some(&written)), true),
            ((false, false, Some(&PutAnswer::Refused)), false),
            ((false, true, Some(&PutAnswer::Refused)), true),
            ((true, false, Some(&PutAnswer::Refused)), false), // a lost reply, and the write once more
            ((false, true, None), false),
        ];
        for ((ours, unchanged, answer), odd) in table {
            assert_eq!(is_odd(ours, unchanged, answer), odd, "{ours} {unchanged} {answer:?}");
        }
    }

    #[test]
    fn what_an_attempt_means() {
        // ours, unchanged, certain → meaning
        let table = [
            ((true, false, true), Settled::Won),
            ((true, false, false), Settled::Won), // a lost reply
            ((false, true, true), Settled::Lost), // refused although nothing changed: a server that cannot match
            ((false, true, false), Settled::Again),
            ((false, false, true), Settled::Lost),
            ((false, false, false), Settled::Lost),
        ];
        for ((ours, unchanged, certain), meaning) in table {
            assert_eq!(settle(ours, unchanged, certain), meaning, "{ours} {unchanged} {certain}");
        }
    }
}
