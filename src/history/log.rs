//! The commit log in the store. Commits are numbered without gaps; creating number N+1 is the atomic act of a push:
//! one wins, the others find out. Retention removes from the oldest end only, so what is there is always one
//! unbroken run of numbers, and a commit without a successor is the head.

use super::commit::Commit;
use super::spool::Spooled;
use super::{HistoryError, Kind};
use crate::database::DatabaseError;
use crate::failpoint;
use crate::progress::Progress;
use crate::seal::{Fleet, Place, Seal, Sealed, Seen, Standing, sha256};
use crate::storage::{Body, Bucket, Entry, Outcome, StoreErrorKind};

/// Steps from a remembered head to the present one, before a listing is cheaper.
const STEPS: u64 = 4;

/// One commit; `None` when there is none of that number.
///
/// # Errors
/// The store's; a commit that cannot be used.
pub async fn get(bucket: &Bucket, number: u64) -> Result<Option<Commit>, HistoryError> {
    let key = bucket.keys.commit(number);
    let got = match bucket.store.get(&key).await {
        // More bytes than any commit has.
        Err(error) if error.kind == StoreErrorKind::NotARecord => {
            let problem = error.detail;
            return Err(HistoryError::Commit { key, problem });
        }
        got => got?,
    };
    let Some((bytes, _)) = got else {
        return Ok(None);
    };
    let stored = bucket.seal.is_on().then(|| sha256(&bytes));
    let place = Place::Commit { number };
    let opened = bucket
        .seal
        .open_record(Sealed::from_bucket(bytes), bucket.keys.project(), place)
        .map_err(|error| HistoryError::Sealed { what: key.clone(), error })?;
    match Commit::parse(opened.get(), number) {
        Ok(commit) => Ok(Some(Commit { stored, ..commit })),
        Err(problem) => Err(HistoryError::Commit { key, problem }),
    }
}

/// The newest commit; `None` when there is none at all. `hint` is the number of the head as last seen: while it is
/// still the head, this takes two small requests, without a hint a listing and one.
///
/// # Errors
/// The store's; a head that cannot be used.
pub async fn head(bucket: &Bucket, hint: Option<u64>) -> Result<Option<Commit>, HistoryError> {
    // The compiler gives up on futures that are nested too deeply.
    let head = Box::pin(newest(bucket, hint)).await?;
    let Seal::On(fleet) = &bucket.seal else {
        return Ok(head);
    };
    let standing = match &head {
        Some(commit) => note(fleet, commit)?,
        None if fleet.watch.newest().is_some() => Standing::Back,
        None => Standing::First,
    };
    match standing {
        Standing::First | Standing::Same | Standing::Newer => Ok(head),
        Standing::Back | Standing::Exchanged => Err(HistoryError::PutBack {
            there: head.map_or(0, |head| head.number),
            seen: fleet.watch.newest().map_or(0, |seen| seen.number),
        }),
    }
}

/// How a commit that is the newest one stands to what was seen here.
fn note(fleet: &Fleet, commit: &Commit) -> Result<Standing, HistoryError> {
    let there = Seen { number: commit.number, sha256: commit.stored.clone().unwrap_or_default() };
    let noted = fleet.watch.commit(&there, commit.prev.as_deref());
    noted.map_err(|error| HistoryError::Database(DatabaseError::io("write", fleet.watch.path(), error)))
}

async fn newest(bucket: &Bucket, hint: Option<u64>) -> Result<Option<Commit>, HistoryError> {
    if let Some(hint) = hint.filter(|hint| *hint > 0)
        && let Some(head) = head_after(bucket, hint).await?
    {
        return Ok(Some(head));
    }
    // The head is never removed, so one that vanishes between listing and reading was superseded.
    for _ in 0..3 {
        let Some(newest) = numbers(bucket).await?.pop() else {
            return Ok(None);
        };
        if let Some(head) = get(bucket, newest.number).await? {
            return Ok(Some(head));
        }
    }
    Err(HistoryError::Gone { key: bucket.keys.commits(), wanted_by: "its own listing".to_owned() })
}

/// Follows the numbers behind `hint`; `None` when that does not lead to the head.
async fn head_after(bucket: &Bucket, hint: u64) -> Result<Option<Commit>, HistoryError> {
    let mut newest = None;
    for step in 1..=STEPS {
        match get(bucket, hint.saturating_add(step)).await? {
            Some(commit) => newest = Some(commit),
            // No successor: the head, if it is there at all. It may be gone because everything behind it was
            // removed long ago, and then a missing successor says nothing.
            None if newest.is_some() => return Ok(newest),
            None => return get(bucket, hint).await,
        }
    }
    Ok(None)
}

/// A commit in the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// When the store got it, seconds since 1970; 0 where the store does not say.
    pub modified: i64,
}

/// All commits that are there, oldest first. Objects with other names are not commits.
///
/// # Errors
/// The store's.
pub async fn numbers(bucket: &Bucket) -> Result<Vec<Listed>, HistoryError> {
    let folder = bucket.keys.commits();
    let entries = bucket.store.list(&folder).await?;
    let mut listed: Vec<Listed> = entries.iter().filter_map(|entry| listed(entry, &folder)).collect();
    listed.sort_by_key(|commit| commit.number);
    Ok(listed)
}

fn listed(entry: &Entry, folder: &str) -> Option<Listed> {
    let digits = entry.key.strip_prefix(folder)?.strip_suffix(".json")?;
    let plain = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| plain && *number > 0)?;
    Some(Listed { number, modified: entry.modified })
}

/// Uploads a pack and makes sure that the store has what was sent (F22). Always written anew, even when a pack of
/// this name is there: that makes it young again, and young packs are not collected.
///
/// # Errors
/// The store's; a stored object that is not what was sent.
pub async fn upload_pack(
    bucket: &Bucket,
    spooled: &Spooled,
    progress: &Progress,
) -> Result<(), HistoryError> {
    let key = bucket.keys.pack(&spooled.digests.sha256);
    let sent = bucket.store.put(&key, Body::File(&spooled.path, &spooled.digests), progress).await?;
    failpoint::reach("history.pack-sent");
    let found = bucket.confirm(&key, &spooled.digests, Some(&sent)).await?;
    failpoint::reach("history.pack-confirmed");
    found.as_sent().map(drop).map_err(|problem| HistoryError::Content {
        what: format!("{key} at {}", bucket.store.name()),
        problem: format!("it {problem}"),
    })
}

/// Who made the commit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// We did.
    Won,
    /// Somebody else did: read the head again and decide anew.
    Lost,
}

/// Creates a commit: the moment at which a push has happened. Its pack must be confirmed before.
///
/// # Errors
/// The store's. The commit may then be there all the same; its token tells.
pub async fn create(bucket: &Bucket, commit: &Commit) -> Result<Created, HistoryError> {
    let key = bucket.keys.commit(commit.number);
    let broken = |problem: String| HistoryError::Commit { key: key.clone(), problem };
    let bytes = serde_json::to_vec(commit).map_err(|error| broken(error.to_string()))?;
    // A commit that nobody could read again must never become the head.
    let again = Commit::parse(&bytes, commit.number).map_err(&broken)?;
    if again != *commit || bytes.len() as u64 > crate::storage::RECORD_LIMIT {
        return Err(broken("it does not survive its own format".to_owned()));
    }
    let sealed = |error| HistoryError::Sealed { what: key.clone(), error };
    let place = Place::Commit { number: commit.number };
    let bytes = bucket
        .seal
        .seal_record(bytes, bucket.keys.project(), place, bucket.salt()?)
        .map_err(sealed)?
        .into_stored();
    failpoint::reach("history.before-commit");
    let written = Box::pin(bucket.swap(&key, None, &bytes)).await?;
    failpoint::reach("history.committed");
    if let (Seal::On(fleet), Outcome::Won(_)) = (&bucket.seal, &written) {
        note(fleet, &Commit { stored: Some(sha256(&bytes)), ..commit.clone() })?;
    }
    Ok(if written == Outcome::Lost { Created::Lost } else { Created::Won })
}

/// The commits from `newest` downwards, at most `limit`. Those that retention removed end the walk.
///
/// # Errors
/// The store's; a commit that cannot be used.
pub async fn walk(bucket: &Bucket, newest: &Commit, limit: usize) -> Result<Vec<Commit>, HistoryError> {
    let mut commits = vec![newest.clone()];
    while commits.len() < limit {
        let Some(child) = commits.last() else {
            break;
        };
        let Some(parent) = child.parent else {
            break;
        };
        let Some(commit) = get(bucket, parent).await? else {
            break;
        };
        if child.prev.is_some() && child.prev != commit.stored {
            return Err(HistoryError::Content {
                what: bucket.keys.commit(parent),
                problem: format!("commit {} was made on another one", child.number),
            });
        }
        commits.push(commit);
    }
    commits.truncate(limit);
    Ok(commits)
}

/// The word for a pack's kind in listings.
pub fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "full",
        Kind::Delta => "delta",
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
