//! Whether the bucket's head grew out of what both sides last agreed on. Only then does "nothing changed here" mean
//! that everything of ours is in it; otherwise the rows themselves have to be compared. Asks the bucket one question at
//! most; decides nothing.

use super::record::Base;
use crate::error::CommandResult;
use crate::history::{Commit, log};
use crate::python::Head;
use crate::storage::Bucket;

/// Whether `head` follows the commit of `base` in one line in which every push built on the one before.
///
/// A push of a Python node says nothing about what it was made from. An emptied bucket starts its numbers again, and so
/// does one that somebody put back from a copy. A commit that retention has removed proves nothing.
///
/// # Errors
/// The store's; a commit that cannot be used.
pub async fn grew(bucket: &Bucket, base: &Base, head: &Head) -> CommandResult<bool> {
    let Some(number) = base.commit.filter(|number| may_follow(*number, head)) else {
        return Ok(false);
    };
    let known = match image_in_chain(number, head.commit()) {
        Some(image) => Some(image.to_owned()),
        None => log::get(bucket, number).await?.map(|commit| commit.sha256),
    };
    Ok(known.as_deref() == Some(base.sha256.as_str()))
}

/// The same without asking: whether it may be so.
pub fn may_have_grown(base: &Base, head: &Head) -> bool {
    base.commit.is_some_and(|number| may_follow(number, head))
}

/// Whether a commit of this number can be one that the head grew out of.
fn may_follow(number: u64, head: &Head) -> bool {
    head.commit().is_some_and(|commit| (commit.line_start()..=commit.number).contains(&number))
}

/// The image of that commit, where the head's own chain tells it.
fn image_in_chain(number: u64, head: Option<&Commit>) -> Option<&str> {
    let link = head?.chain.iter().find(|link| link.number == number)?;
    Some(&link.image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::commit::tests::sample;

    fn head(number: u64, line_start: Option<u64>) -> Head {
        let mut commit = sample(number, 0);
        commit.line_start = line_start;
        Head::of(commit)
    }

    #[test]
    fn only_a_commit_of_the_heads_own_line_can_be_its_ancestor() {
        for (number, head, may) in [
            (3, head(5, Some(1)), true),
            (5, head(5, Some(1)), true),
            // The bucket was emptied, or put back from an older copy: its numbers are behind ours.
            (6, head(5, Some(1)), false),
            // A Python node's push, or a forced one, came between.
            (3, head(5, Some(4)), false),
            (4, head(5, Some(4)), true),
            // A commit that does not say where its line began.
            (4, head(5, None), false),
            (5, head(5, None), true),
        ] {
            assert_eq!(may_follow(number, &head), may, "{number} {head:?}");
        }
        let python = Head::foreign(None, Some(sample(5, 0)));
        assert!(!may_follow(1, &python));
    }

    #[test]
    fn the_chain_names_the_images_of_its_own_commits() {
        let commit = sample(5, 0);
        assert_eq!(image_in_chain(5, Some(&commit)), Some(commit.sha256.as_str()));
        assert_eq!(image_in_chain(1, Some(&commit)), None);
        assert_eq!(image_in_chain(5, None), None);
    }
}
