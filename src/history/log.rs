//! The commit log in the store. Commits are numbered without gaps; creating number N+1 is the atomic act of a push:
//! one wins, the others find out. Retention removes from the oldest end only. Where a number in the middle is missing,
//! somebody else removed it: the newest of those that are listed is the head all the same, and the hole is named.

use super::commit::Commit;
use super::spool::Spooled;
use super::{HistoryError, Kind};
use crate::failpoint;
use crate::progress::Progress;
use crate::seal::{Fleet, Place, Seal, Sealed, Seen, Standing};
use crate::storage::{Bucket, Entry, Outcome, StoreErrorKind};
use crate::sum::Sum;

/// The largest number: ten digits hold no larger one, and with more of them the order of keys is not that of numbers.
pub const LAST: u64 = 9_999_999_999;

/// A pack that this machine sent so many seconds ago is young still, and need not be sent again.
pub(super) const JUST_SENT: i64 = 12 * 3600;

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
    let stored = bucket.seal.is_on().then(|| Sum::of(&bytes));
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

/// The newest commit; `None` when there is none at all. `hint` is the number of the head as last seen, and spares listing
/// what came before it.
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
        Some(commit) => note(fleet, commit),
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
fn note(fleet: &Fleet, commit: &Commit) -> Standing {
    let Some(sha256) = commit.stored else {
        return Standing::Exchanged;
    };
    fleet.watch.commit(&Seen { number: commit.number, sha256 }, commit.prev)
}

async fn newest(bucket: &Bucket, hint: Option<u64>) -> Result<Option<Commit>, HistoryError> {
    // The head is never removed, so one that vanishes between listing and reading was superseded.
    for _ in 0..3 {
        let Some(number) = last_number(bucket, hint).await? else {
            return Ok(None);
        };
        if let Some(head) = get(bucket, number).await? {
            return Ok(Some(head));
        }
    }
    Err(HistoryError::Gone { key: bucket.keys.commits(), wanted_by: "its own listing".to_owned() })
}

async fn last_number(bucket: &Bucket, hint: Option<u64>) -> Result<Option<u64>, HistoryError> {
    // With the hint's own number: when even that is gone, nothing is known of what is there.
    if let Some(before) = hint.and_then(|hint| hint.checked_sub(1)).filter(|before| *before < LAST) {
        let entries = bucket.store.list_after(&bucket.keys.commits(), &bucket.keys.commit(before)).await?;
        if let Some(newest) = entries.iter().filter_map(|entry| number_of(bucket, entry)).max() {
            return Ok(Some(newest));
        }
    }
    Ok(numbers(bucket).await?.pop().map(|newest| newest.number))
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
    let entries = bucket.store.list(&bucket.keys.commits()).await?;
    let listed = |entry: &Entry| Some(Listed { number: number_of(bucket, entry)?, modified: entry.modified });
    let mut listed: Vec<Listed> = entries.iter().filter_map(listed).collect();
    listed.sort_by_key(|commit| commit.number);
    Ok(listed)
}

fn number_of(bucket: &Bucket, entry: &Entry) -> Option<u64> {
    bucket.keys.commit_of(&entry.key)
}

/// Numbers that are missing in the middle of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
}

impl std::fmt::Display for Hole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to.saturating_sub(self.from) {
            0 => write!(f, "commit {} is missing between {} and {}", self.from, self.from - 1, self.to + 1),
            _ => write!(
                f,
                "commits {} to {} are missing between {} and {}",
                self.from,
                self.to,
                self.from - 1,
                self.to + 1
            ),
        }
    }
}

/// The oldest hole in these numbers, which rise.
pub fn hole(numbers: impl IntoIterator<Item = u64>) -> Option<Hole> {
    let mut before: Option<u64> = None;
    for number in numbers {
        match before.replace(number) {
            Some(before) if before + 1 < number => return Some(Hole { from: before + 1, to: number - 1 }),
            _ => {}
        }
    }
    None
}

/// Uploads a pack and makes sure that the store has what was sent (F22). Written anew even when a pack of this name is there,
/// unless this machine has just sent it: that makes it young again, and young packs are not collected.
///
/// # Errors
/// The store's; a stored object that is not what was sent.
pub async fn upload_pack(
    bucket: &Bucket,
    spooled: &Spooled,
    progress: &Progress,
) -> Result<(), HistoryError> {
    let key = bucket.keys.pack(spooled.digests.sha256);
    let file = (&*spooled.path, &spooled.digests);
    let sent = bucket.put_named(&key, file, JUST_SENT, progress).await?;
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
    if commit.number > LAST {
        return Err(broken(format!("its number is larger than {LAST}")));
    }
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
        note(fleet, &Commit { stored: Some(Sum::of(&bytes)), ..commit.clone() });
    }
    Ok(if written == Outcome::Lost { Created::Lost } else { Created::Won })
}

/// The commits from `newest` downwards, at most `limit`. Those that retention removed end the walk; a hole does not.
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
        let commit = match get(bucket, parent).await? {
            Some(commit) => Some(commit),
            None => below(bucket, parent).await?,
        };
        let Some(commit) = commit else {
            break;
        };
        let follows = commit.number == parent;
        if follows && child.prev.is_some() && child.prev != commit.stored {
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

/// The newest commit below a number that is missing.
async fn below(bucket: &Bucket, number: u64) -> Result<Option<Commit>, HistoryError> {
    let older =
        numbers(bucket).await?.into_iter().map(|commit| commit.number).filter(|older| *older < number);
    match older.max() {
        Some(older) => get(bucket, older).await,
        None => Ok(None),
    }
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
