//! Proves that what is kept can be restored: downloads every pack once, applies it, and compares the image with what
//! each commit recorded. Goes on after a problem, and changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use tempfile::TempPath;

use super::commit::{Commit, Link};
use super::fetch::{self, Fetch};
use super::{HistoryError, blocking, log};
use crate::database::{DatabaseError, files};
use crate::seal::Opened;
use crate::storage::Digests;
use crate::sum::Sum;

/// What was looked at.
#[derive(Debug, Default)]
pub struct Verified {
    /// Commits whose image was compared.
    pub commits: usize,
    /// Packs that were downloaded.
    pub packs: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

/// Verifies the head, or with `all` every commit that is kept.
///
/// # Errors
/// The store cannot be reached, or this machine has no room: what the bucket holds is not at fault then.
pub async fn verify(fetch: Fetch<'_>, all: bool) -> Result<Verified, HistoryError> {
    let mut verified = Verified::default();
    let mut left: BTreeSet<u64> =
        log::numbers(fetch.bucket).await?.iter().map(|commit| commit.number).collect();
    verified.problems.extend(log::hole(left.iter().copied()).map(|hole| hole.to_string()));
    // Newest first: its chain covers its ancestors' images too.
    while let Some(number) = left.pop_last() {
        let commit = match log::get(fetch.bucket, number).await {
            Ok(Some(commit)) => commit,
            // Removed by retention a moment ago.
            Ok(None) => continue,
            Err(error) => {
                verified.note(error)?;
                if all {
                    continue;
                }
                break;
            }
        };
        let mut members = vec![commit.clone()];
        let first = commit.chain.first().map_or(number, |link| link.number);
        if all {
            for older in left.split_off(&first) {
                match log::get(fetch.bucket, older).await {
                    Ok(Some(member)) if is_prefix(&member.chain, &commit.chain) => members.push(member),
                    // It has a chain of its own: looked at by itself.
                    Ok(Some(_)) => {
                        left.insert(older);
                    }
                    Ok(None) => {}
                    Err(error) => verified.note(error)?,
                }
            }
        }
        if let Err(error) = chain(fetch, &commit, &members, &mut verified).await {
            verified.note(error)?;
        }
        if !all {
            break;
        }
    }
    fetch.progress.done();
    Ok(verified)
}

impl Verified {
    /// Damage is noted, other trouble ends the run.
    fn note(&mut self, error: HistoryError) -> Result<(), HistoryError> {
        if !error.is_damage() {
            return Err(error);
        }
        self.problems.push(error.to_string());
        Ok(())
    }
}

fn is_prefix(chain: &[Link], of: &[Link]) -> bool {
    of.get(..chain.len()) == Some(chain)
}

/// Applies a chain link by link and compares with each of `members` at its turn.
async fn chain(
    fetch: Fetch<'_>,
    commit: &Commit,
    members: &[Commit],
    verified: &mut Verified,
) -> Result<(), HistoryError> {
    let mut image = files::temporary(fetch.folder, "verify")?;
    let mut before: Option<Sum> = None;
    for link in &commit.chain {
        let pack = fetch::download(fetch, commit, link).await?;
        verified.packs += 1;
        verified.bytes += link.size;
        let (sum, path) = apply(pack, link.clone(), before.take(), commit.page_size, image).await?;
        image = path;
        if sum.sha256 != link.image {
            return Err(wrong(link.number, sum.sha256, link.image));
        }
        if let Some(member) = members.iter().find(|member| member.number == link.number) {
            if member.sha256 != sum.sha256 || member.image_bytes() != sum.size {
                return Err(wrong(member.number, sum.sha256, member.sha256));
            }
            verified.commits += 1;
        }
        before = Some(link.image);
    }
    Ok(())
}

fn wrong(number: u64, found: Sum, wanted: Sum) -> HistoryError {
    HistoryError::Content {
        what: format!("the image of commit {number}"),
        problem: format!("its sha256 is {found} instead of {wanted}"),
    }
}

async fn apply(
    pack: Opened<File>,
    link: Link,
    before: Option<Sum>,
    page_size: u32,
    image: TempPath,
) -> Result<(Digests, TempPath), HistoryError> {
    blocking(move || {
        let target: &Path = &image;
        fetch::apply_one(pack, &link, before, page_size, target)?;
        let sum = Digests::of_file(target).map_err(|error| DatabaseError::io("read", target, error))?;
        Ok((sum, image))
    })
    .await
}
