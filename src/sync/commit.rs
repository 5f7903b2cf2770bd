//! Makes commits: of our shot, and of what a Python node pushed since the newest one (adoption). The moment at which a
//! commit is created is the moment at which a push has happened. Knows the history; not whether a push is allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fresh::Fresh;
use super::session::Session;
use super::shot::Shot;
use crate::database::code::Admits;
use crate::database::snapshot::Pinned;
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::history::commit::{Adopted, Author};
use crate::history::log::{self, Created};
use crate::history::spool::{Spooled, spool};
use crate::history::{self, Commit, retention};
use crate::lock::Verifier;
use crate::python::Head;
use crate::python::object;
use crate::sum::Sum;
use crate::ui::Progress;

/// Every so many commits the old ones are looked through.
const COLLECT_EVERY: u64 = 16;
/// Objects that one push removes at most.
const COLLECT_LIMIT: usize = 100;

/// Under which term, and with which claude-mem, a push is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    /// Epoch of our lease.
    pub(super) epoch: Option<i64>,
    /// When the lease was asked for (see [`crate::context::Context::uptime`]).
    pub(super) gated: Duration,
    /// claude-mem's version here.
    pub(super) claude_mem: Option<String>,
    /// What of the row log the image contains: see [`Commit::seen`].
    pub(super) seen: BTreeMap<String, u64>,
}

/// What has to hold in the moment in which a commit is created.
#[derive(Clone, Copy)]
pub(super) struct Fence<'a> {
    /// The term.
    pub(super) terms: &'a Terms,
    /// The lock.
    pub(super) verifier: &'a Verifier<'a>,
    /// Which of it has to be asked again.
    pub(super) fresh: Fresh,
}

/// What a new commit follows.
pub(super) enum Parent {
    /// The newest commit; none in an empty history.
    Commit(Option<Box<Commit>>),
    /// Somebody else was faster.
    Overtaken,
}

/// The newest commit, after what a Python node pushed since has become one.
pub(super) async fn parent(
    session: &Session,
    shot: &Shot,
    head: Option<&Head>,
    fence: Fence<'_>,
) -> CommandResult<Parent> {
    let parent = newest(session, head, fence).await?;
    // A delta is good on the image that it was made against, and on no other.
    match &parent {
        Parent::Commit(parent)
            if shot.parent.is_some() && shot.parent != parent.as_ref().map(|commit| commit.sha256) =>
        {
            Ok(Parent::Overtaken)
        }
        _ => Ok(parent),
    }
}

async fn newest(session: &Session, head: Option<&Head>, fence: Fence<'_>) -> CommandResult<Parent> {
    let Some(head) = head else {
        return Ok(Parent::Commit(None));
    };
    if let Head::Commit(head) = head {
        return Ok(Parent::Commit(Some(head.commit.clone())));
    }
    match adopt(session, head, fence).await {
        Ok(Some(commit)) => Ok(Parent::Commit(Some(Box::new(commit)))),
        Ok(None) => Ok(Parent::Overtaken),
        // What cannot be read cannot be adopted; FORCE_PUSH overwrites it, and keeps the object as it is.
        Err(failure) if session.config.overrides.force_push => {
            session.ui.warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
            session.mirror(None).keep().await?;
            Ok(Parent::Commit(head.newest().cloned().map(Box::new)))
        }
        Err(failure) => Err(failure),
    }
}

/// Uploads the shot's pack and creates the commit that follows `parent`. `None`: somebody else was faster.
pub(super) async fn create(
    session: &Session,
    shot: &Shot,
    parent: Option<&Commit>,
    announced: Option<Sum>,
    fence: Fence<'_>,
) -> CommandResult<Option<Commit>> {
    let mut commit = Commit::following(parent, &shot.pack, &shot.facts, author(session, fence.terms)?);
    commit.mirror_sha256 = shot.object.as_ref().map(|object| object.digests.sha256);
    commit.legacy_seen = announced;
    commit.seen.clone_from(&fence.terms.seen);
    publish(session, &commit, &shot.pack, fence).await
}

/// Makes a commit of what a Python node pushed, so that it is in the history before anything follows it (F08).
/// `None`: somebody else was faster.
async fn adopt(session: &Session, head: &Head, fence: Fence<'_>) -> CommandResult<Option<Commit>> {
    let image = object::download(&session.landing(Admits::Any), None).await?;
    // Our own copy for Python nodes, under announcements that nobody could read.
    let ours = head.newest().filter(|commit| {
        image.sha256.is_some() && [commit.mirror_sha256, commit.legacy_seen].contains(&image.sha256)
    });
    if let Some(commit) = ours {
        return Ok(Some(commit.clone()));
    }
    let folder = session.config.paths.tmp();
    let path = image.path.to_path_buf();
    let sealing = session.bucket.sealing()?;
    let pack = history::blocking(move || {
        // No map: a Python node's object has been compacted, every page is another.
        spool(&Pinned::new(&path)?, None, &folder, &Progress::hidden(), sealing)
    })
    .await?;
    let mut author = author(session, &Terms::default())?;
    head.source().clone_into(&mut author.host);
    let mut commit = Commit::following(head.newest(), &pack, &image.facts, author);
    commit.epoch = fence.terms.epoch;
    commit.legacy_seen = head.announced().or(image.sha256);
    commit.adopted_from = image.sha256.map(|sha256| Adopted {
        sha256,
        host: head.source().to_owned(),
        timestamp: head.time().unwrap_or_default().to_owned(),
    });
    let made = publish(session, &commit, &pack, fence).await?;
    if let Some(commit) = &made {
        let text =
            format!("      the push of {} became commit {} of the history", head.source(), commit.number);
        session.ui.line(text);
    }
    failpoint::reach("push.adopted");
    Ok(made)
}

async fn publish(
    session: &Session,
    commit: &Commit,
    pack: &Spooled,
    fence: Fence<'_>,
) -> CommandResult<Option<Commit>> {
    let progress = session.ui.progress("upload", pack.digests.size);
    let sent = log::upload_pack(&session.bucket, pack, &progress).await;
    progress.done();
    sent?;
    // Whoever was held up for longer than the lock lives finds out here; and a commit of our number refuses us.
    fence.verifier.verify_within(fence.fresh.limit()).await?;
    if !fence.fresh.since(&session.bucket.context, fence.terms.gated) {
        super::gate::same_term(session, fence.terms.epoch).await?;
    }
    failpoint::reach("push.verified");
    match log::create(&session.bucket, commit).await? {
        Created::Won => Ok(Some(commit.clone())),
        Created::Lost => Ok(None),
    }
}

fn author(session: &Session, terms: &Terms) -> CommandResult<Author> {
    let token = session
        .bucket
        .context
        .token()
        .map_err(|error| Failure::of(Code::NoRandomness, format!("no random numbers: {error}")))?;
    Ok(Author {
        node_id: session.config.node.id.clone(),
        host: session.config.node.host.clone(),
        epoch: terms.epoch,
        claude_mem_version: terms.claude_mem.clone(),
        time: session.bucket.context.server_now(),
        token,
    })
}

/// Removes what retention lets go, now and then: when the numbers from the head `before` this push to its own commit
/// pass a multiple (an adopted commit may have taken it). Trouble with it never fails a push.
pub(super) async fn collect(session: &Session, before: Option<u64>, number: u64) {
    if !collection_due(before, number) {
        return;
    }
    let now = session.bucket.context.server_now().as_second();
    let keep = session.config.history;
    match retention::collect(&session.bucket, keep, now, COLLECT_LIMIT).await {
        Ok(collected) => tracing::info!(?collected, "history collected"),
        Err(error) => tracing::warn!(%error, "old history was not collected"),
    }
}

/// Tells the person of commits that somebody else has removed. What is left can be restored; what removes them goes on.
pub(super) async fn mind_holes(session: &Session) {
    match log::numbers(&session.bucket).await {
        Ok(listed) => {
            if let Some(hole) = log::hole(listed.iter().map(|commit| commit.number)) {
                session
                    .ui
                    .warn(format!("{hole}: something deletes objects in the bucket (see: membridge doctor)"));
            }
        }
        Err(error) => tracing::warn!(%error, "the history was not looked through for holes"),
    }
}

fn collection_due(before: Option<u64>, number: u64) -> bool {
    number / COLLECT_EVERY > before.unwrap_or(0) / COLLECT_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sixteenth_number_is_a_reason_to_collect_whoever_took_it() {
        for (before, number, due) in [
            (None, 1, false),
            (Some(14), 15, false),
            (Some(15), 16, true),
            // 16 was adopted from a Python node.
            (Some(15), 17, true),
            (Some(16), 17, false),
            (Some(17), 18, false),
            // A history whose first commits are gone.
            (None, 40, true),
        ] {
            assert_eq!(collection_due(before, number), due, "{before:?} {number}");
        }
    }
}
