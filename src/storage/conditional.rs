//! A conditional write that knows what became of it. A single answer can lie: it can be lost, it can be a
//! server that ignores conditions (F46), it can be a retry that meets its own first success. So the object is
//! read back each time, and the bytes decide. The body must therefore be unique to its writer (a random token).

use super::retry;
use super::{Body, Condition, Digests, Etag, Meta, PutAnswer, Store, StoreError};
use crate::progress::Progress;

/// How a conditional write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Our bytes are there.
    Won(Meta),
    /// Somebody else's bytes are there, or the condition did not hold.
    Lost,
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

/// Writes `body` under `condition` and finds out what happened.
///
/// # Errors
/// The store cannot be reached, or gives no clear answer after several attempts; the write may then have happened,
/// and its owner finds its own token there when it comes back.
pub async fn write(
    store: &Store,
    key: &str,
    body: &[u8],
    condition: Condition<'_>,
) -> Result<Outcome, StoreError> {
    write_any(store, key, Body::Bytes(body), condition, &Progress::hidden()).await
}

/// The same for a body of any size. A file is told by its size and checksum, not by its bytes: two writers of the
/// very same file have both won.
///
/// # Errors
/// See [`write`].
pub async fn write_any(
    store: &Store,
    key: &str,
    body: Body<'_>,
    condition: Condition<'_>,
    progress: &Progress,
) -> Result<Outcome, StoreError> {
    const ATTEMPTS: u32 = 4;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let answer = retry::slowly(|| store.put_file_once(key, body, condition, progress)).await;
        let certain = match &answer {
            Ok(_) => true,
            // It has not taken it, however long we waited.
            Err(error) if error.is_limit() => return Err(error.clone()),
            Err(error) if error.may_have_happened() || error.retryable() => false,
            Err(error) => return Err(error.clone()),
        };
        let (there, ours) = look(store, key, body, &answer).await?;
        let unchanged = match (condition, &there) {
            (Condition::IfAbsent, None) => true,
            (Condition::IfMatch(etag), Some(meta)) => meta.etag == *etag,
            _ => false,
        };
        tracing::debug!(key, attempt, ?answer, ours, unchanged, "conditional write");
        match (settle(ours, unchanged, certain), there) {
            (Settled::Won, Some(meta)) => return Ok(Outcome::Won(meta)),
            (Settled::Again, _) if attempt < ATTEMPTS => {
                tokio::time::sleep(std::time::Duration::from_millis(150 * u64::from(attempt))).await;
            }
            (Settled::Again, _) => return Err(answer.err().unwrap_or_else(|| unclear(store, key))),
            _ => return Ok(Outcome::Lost),
        }
    }
}

/// What is there after an attempt, and whether it is what we sent.
async fn look(
    store: &Store,
    key: &str,
    body: Body<'_>,
    answer: &Result<PutAnswer, StoreError>,
) -> Result<(Option<Meta>, bool), StoreError> {
    match body {
        Body::Bytes(body) => {
            let there = store.get(key).await?;
            let ours = there.as_ref().is_some_and(|(bytes, _)| bytes == body);
            let there = there.map(|(_, meta)| meta);
            if let (false, Ok(PutAnswer::Written(written))) = (ours, answer) {
                no_cache_between(store, key, written, there.as_ref()).await?;
            }
            Ok((there, ours))
        }
        Body::File(_, digests) => {
            let there = store.head(key).await?;
            let written = match answer {
                Ok(PutAnswer::Written(meta)) => Some(&meta.etag),
                _ => None,
            };
            let ours = there.as_ref().is_some_and(|meta| is_file(meta, digests, written));
            Ok((there, ours))
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

/// Whether an object is the file with these digests. `written`: the etag that the store gave our own put, which
/// settles it where etags are no checksums (encrypted buckets).
pub fn is_file(there: &Meta, digests: &Digests, written: Option<&Etag>) -> bool {
    let etag = there.etag.0.trim_matches('"').to_ascii_lowercase();
    there.size == digests.size
        && (etag == digests.md5
            || etag == digests.sha256
            || written.is_some_and(|written| *written == there.etag && !etag.is_empty()))
}

fn unclear(store: &Store, key: &str) -> StoreError {
    StoreError::new(
        super::StoreErrorKind::Unexpected,
        store.name(),
        format!("put {key}"),
        "gave no clear answer",
    )
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
    use super::{Settled, settle};

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
