//! What is kept of the history, and when a chain of deltas starts anew. The decisions are pure; [`collect`] carries
//! them out, a bounded number of deletions at a time. Commits go from the oldest end only; a pack goes when no kept
//! commit needs it and it is old enough not to belong to a push that is just being made.

use std::collections::{BTreeMap, BTreeSet};

use super::HistoryError;
use super::commit::{Commit, Link};
use super::log::{self, Listed};
use crate::config::HistoryRetention;
use crate::failpoint;
use crate::storage::Bucket;
use crate::sum::Sum;

/// Deltas on one full pack at most.
pub const MAX_DELTAS: usize = 64;
/// Nothing younger is ever removed, whatever the settings (seconds): a push that was cut off or stalls may still need
/// it.
pub const GRACE: i64 = 24 * 3600;
const DAY: i64 = 86_400;
// Who does not send a pack again because it is young has as long to make a commit of it.
const _: () = assert!(log::JUST_SENT * 2 <= GRACE);

/// Whether the next push should be a full pack: the deltas outgrew half of the full pack, or became too many.
pub fn rebase_due(chain: &[Link]) -> bool {
    let Some((full, deltas)) = chain.split_first() else {
        return true;
    };
    let bytes = deltas.iter().fold(0_u64, |sum, link| sum.saturating_add(link.size));
    deltas.len() >= MAX_DELTAS || bytes > full.size / 2
}

/// The commits (oldest first) that may go, oldest first. It stops at the first one that stays, so that no gap opens.
pub fn expired(commits: &[Listed], keep: HistoryRetention, now: i64) -> Vec<u64> {
    let max_count = usize::try_from(keep.max_count).unwrap_or(1).max(1);
    let age = keep.max_days.saturating_mul(DAY).max(GRACE);
    let too_many = commits.len().saturating_sub(max_count);
    commits
        .iter()
        .take(too_many)
        .take_while(|commit| is_older(commit.modified, age, now))
        .map(|commit| commit.number)
        .collect()
}

/// A pack in the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPack {
    /// Its whole key.
    pub key: String,
    /// SHA-256, as its name says.
    pub sha256: Sum,
    /// When the store got it, seconds since 1970; 0 where the store does not say.
    pub modified: i64,
}

/// The keys of packs that nobody needs and that are past the grace period.
pub fn orphans<'a>(packs: &'a [ListedPack], needed: &BTreeSet<Sum>, now: i64) -> Vec<&'a str> {
    packs
        .iter()
        .filter(|pack| !needed.contains(&pack.sha256) && is_older(pack.modified, GRACE, now))
        .map(|pack| pack.key.as_str())
        .collect()
}

/// A store that does not say when counts as young.
fn is_older(modified: i64, age: i64, now: i64) -> bool {
    modified > 0 && now.saturating_sub(modified) > age
}

/// What one run removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Commits.
    pub commits: usize,
    /// Packs.
    pub packs: usize,
    /// Whether something is left for the next run.
    pub more: bool,
}

/// Removes what retention lets go, at most `limit` objects. To be called under the project's lock, after a push: so
/// that nobody uploads a pack of the same content while it is removed. `now` is the time by the store's clock.
///
/// # Errors
/// The store's; a kept commit that cannot be read (then no pack is removed).
pub async fn collect(
    bucket: &Bucket,
    keep: HistoryRetention,
    now: i64,
    limit: usize,
) -> Result<Collected, HistoryError> {
    // Packs first: one that is uploaded after this listing is not in it.
    let packs = packs(bucket).await?;
    let commits = log::numbers(bucket).await?;
    let mut gone = expired(&commits, keep, now);
    let mut collected = Collected { more: gone.len() > limit, ..Collected::default() };
    gone.truncate(limit);
    let kept: Vec<u64> =
        commits.iter().map(|commit| commit.number).filter(|number| !gone.contains(number)).collect();
    let needed = needed(bucket, &kept).await?;
    for number in gone {
        bucket.store.delete(&bucket.keys.commit(number)).await?;
        collected.commits += 1;
        failpoint::reach("history.commit-removed");
    }
    let orphans = orphans(&packs, &needed, now);
    let left = limit.saturating_sub(collected.commits);
    collected.more |= orphans.len() > left;
    for key in orphans.into_iter().take(left) {
        bucket.store.delete(key).await?;
        collected.packs += 1;
        failpoint::reach("history.pack-removed");
    }
    tracing::debug!(?collected, "history collected");
    Ok(collected)
}

/// Whether every pack that a commit needs is there, as large as the commit says.
///
/// # Errors
/// The store's.
pub async fn has_packs(bucket: &Bucket, commit: &Commit) -> Result<bool, HistoryError> {
    let sizes: BTreeMap<String, u64> = bucket
        .store
        .list(&bucket.keys.packs())
        .await?
        .into_iter()
        .map(|entry| (entry.key, entry.size))
        .collect();
    Ok(commit.chain.iter().all(|link| sizes.get(&bucket.keys.pack(link.pack)) == Some(&link.size)))
}

async fn packs(bucket: &Bucket) -> Result<Vec<ListedPack>, HistoryError> {
    let folder = bucket.keys.packs();
    let entries = bucket.store.list(&folder).await?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| {
            let sha256 = entry.key.strip_prefix(&folder)?.strip_suffix(".zst")?.parse().ok()?;
            Some(ListedPack { key: entry.key, sha256, modified: entry.modified })
        })
        .collect())
}

/// The packs of all kept commits. A chain holds the packs of every commit from its full one on, so one record a
/// chain is read, newest first.
async fn needed(bucket: &Bucket, kept: &[u64]) -> Result<BTreeSet<Sum>, HistoryError> {
    let mut needed = BTreeSet::new();
    let mut covered_from = u64::MAX;
    for number in kept.iter().rev() {
        if *number >= covered_from {
            continue;
        }
        let commit = log::get(bucket, *number).await?.ok_or_else(|| HistoryError::Gone {
            key: bucket.keys.commit(*number),
            wanted_by: "its own listing".to_owned(),
        })?;
        covered_from = first_of(&commit);
        needed.extend(commit.chain.into_iter().map(|link| link.pack));
    }
    Ok(needed)
}

fn first_of(commit: &Commit) -> u64 {
    commit.chain.first().map_or(commit.number, |link| link.number)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
