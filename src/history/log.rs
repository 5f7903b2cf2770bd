//! The commit log in the store. Commits are numbered without gaps; creating number N+1 is the atomic act of a push:
//! one wins, the others find out. Retention removes from the oldest end only, so what is there is always one
//! unbroken run of numbers, and a commit without a successor is the head.

use std::path::Path;

use super::commit::Commit;
use super::spool::Spooled;
use super::{HistoryError, Kind};
use crate::database::{DatabaseError, files};
use crate::failpoint;
use crate::progress::Progress;
use crate::storage::conditional::{self, Outcome};
use crate::storage::{Body, Bucket, Condition, Digests, Entry, Meta, Sink, StoreErrorKind};

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
    Commit::parse(&bytes, number).map(Some).map_err(|problem| HistoryError::Commit { key, problem })
}

/// The newest commit; `None` when there is none at all. `hint` is the number of the head as last seen: while it is
/// still the head, this takes two small requests, without a hint a listing and one.
///
/// # Errors
/// The store's; a head that cannot be used.
pub async fn head(bucket: &Bucket, hint: Option<u64>) -> Result<Option<Commit>, HistoryError> {
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
    confirm(bucket, &key, &sent, spooled).await?;
    failpoint::reach("history.pack-confirmed");
    Ok(())
}

/// What an etag says about content that should have these digests.
#[derive(Debug, PartialEq, Eq)]
enum Confirmed {
    Yes,
    /// It looks like a checksum and is another one: damage, or a server that encrypts with keys of its own.
    Other,
    /// It is no checksum: composed objects, or a server of its own kind.
    Unsaid,
}

fn by_etag(etag: &str, digests: &Digests) -> Confirmed {
    let etag = etag.trim_matches('"').to_ascii_lowercase();
    let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wanted = match etag.len() {
        32 if hexadecimal => &digests.md5,
        64 if hexadecimal => &digests.sha256,
        _ => return Confirmed::Unsaid,
    };
    if etag == *wanted { Confirmed::Yes } else { Confirmed::Other }
}

/// The etag that answered the put is a checksum that the store computed. Where it is none, the stored size is asked
/// for, and the transfer itself was signed over its SHA-256. Where it is another one, the object is read back.
async fn confirm(bucket: &Bucket, key: &str, sent: &Meta, spooled: &Spooled) -> Result<(), HistoryError> {
    let digests = &spooled.digests;
    let problem = match by_etag(&sent.etag.0, digests) {
        Confirmed::Yes => return Ok(()),
        Confirmed::Unsaid => match bucket.store.head(key).await? {
            Some(meta) if meta.size == digests.size => return Ok(()),
            Some(meta) => format!("it has {} bytes instead of {}", meta.size, digests.size),
            None => "it is not there".to_owned(),
        },
        Confirmed::Other => match read_back(bucket, key, spooled).await? {
            Some(sha256) if sha256 == digests.sha256 => return Ok(()),
            Some(_) => "it has another checksum".to_owned(),
            None => "it is not there".to_owned(),
        },
    };
    Err(HistoryError::Content { what: format!("{key} at {}", bucket.store.name()), problem })
}

/// The SHA-256 of the stored object, which may be cut or longer than what was sent.
async fn read_back(bucket: &Bucket, key: &str, spooled: &Spooled) -> Result<Option<String>, HistoryError> {
    let folder = spooled.path.parent().unwrap_or(Path::new("/"));
    let path = files::temporary(folder, "read-back")?;
    let fail = |error| DatabaseError::io("write", &path, error);
    let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(fail)?;
    let mut sink = Sink::new(file, spooled.digests.size, Progress::hidden());
    if bucket.store.download(key, &mut sink).await?.is_none() {
        return Ok(None);
    }
    let (_, sha256) = sink.finish().await.map_err(fail)?;
    Ok(Some(sha256))
}

/// What keeps two writers from both making the same commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    /// The store's conditional create.
    Conditional,
    /// A sole claim that the caller holds, on a store without one.
    Claim,
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
pub async fn create(bucket: &Bucket, commit: &Commit, exclusive: Exclusive) -> Result<Created, HistoryError> {
    let key = bucket.keys.commit(commit.number);
    let broken = |problem: String| HistoryError::Commit { key: key.clone(), problem };
    let bytes = serde_json::to_vec(commit).map_err(|error| broken(error.to_string()))?;
    // A commit that nobody could read again must never become the head.
    let again = Commit::parse(&bytes, commit.number).map_err(&broken)?;
    if again != *commit || bytes.len() as u64 > crate::storage::RECORD_LIMIT {
        return Err(broken("it does not survive its own format".to_owned()));
    }
    failpoint::reach("history.before-commit");
    let created = match exclusive {
        Exclusive::Conditional => {
            match conditional::write(&bucket.store, &key, &bytes, Condition::IfAbsent).await? {
                Outcome::Won(_) => Created::Won,
                Outcome::Lost => Created::Lost,
            }
        }
        Exclusive::Claim => create_alone(bucket, &key, &bytes).await?,
    };
    failpoint::reach("history.committed");
    Ok(created)
}

/// With a sole claim nobody else writes here; what is there decides all the same.
async fn create_alone(bucket: &Bucket, key: &str, bytes: &[u8]) -> Result<Created, HistoryError> {
    if let Some((there, _)) = bucket.store.get(key).await? {
        return Ok(if there == bytes { Created::Won } else { Created::Lost });
    }
    bucket.store.put(key, Body::Bytes(bytes), &Progress::hidden()).await?;
    match bucket.store.get(key).await? {
        Some((there, _)) if there == bytes => Ok(Created::Won),
        Some(_) => Ok(Created::Lost),
        None => {
            Err(HistoryError::Gone { key: key.to_owned(), wanted_by: "the push that wrote it".to_owned() })
        }
    }
}

/// The commits from `newest` downwards, at most `limit`. Those that retention removed end the walk.
///
/// # Errors
/// The store's; a commit that cannot be used.
pub async fn walk(bucket: &Bucket, newest: &Commit, limit: usize) -> Result<Vec<Commit>, HistoryError> {
    let mut commits = vec![newest.clone()];
    while commits.len() < limit {
        let Some(parent) = commits.last().and_then(|commit| commit.parent) else {
            break;
        };
        let Some(commit) = get(bucket, parent).await? else {
            break;
        };
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
