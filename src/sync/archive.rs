//! The archive's part of a sync: what the bucket holds, whether a commit of ours belongs on top of it, and the making of it
//! under the lock, with the mirror for Python nodes behind it. Memory has been exchanged before; nothing here decides whose
//! rows count.

use std::time::Duration;

use jiff::Timestamp;

use super::commit::{self, Fence, Parent, Terms};
use super::fresh::Fresh;
use super::gate::{self, Standing};
use super::record::{LastRead, RecordFile};
use super::session::Session;
use super::shot::{self, Shot, Wanted};
use super::wish::{Stage, Wish};
use crate::database::Counts;
use crate::database::files::Fingerprint;
use crate::error::CommandResult;
use crate::failpoint;
use crate::history::Commit;
use crate::history::spool::Spooled;
use crate::leadership::Role;
use crate::lock::{LockError, Seen, Verifier};
use crate::python::ReadError;
use crate::python::head::{self, Head};
use crate::python::mirror::Upload;
use crate::python::setting;
use crate::rows;
use crate::seal::Place;
use crate::storage::records::iso;
use crate::sum::Sum;
use crate::ui::human_bytes;
use crate::worker;

/// A hook's archive makes SQLite's full check when the last one is older (seconds).
const CHECK_EVERY: i64 = 86_400;

/// How the archive's part ended.
#[derive(Debug)]
pub(super) enum Archived {
    /// It was not looked at, or only looked at.
    NotDue,
    /// Another node archives.
    NotOurs,
    /// Projects stay on this machine, and an image would take them along.
    Withheld,
    /// The newest commit holds just what is here.
    UpToDate { counts: Counts },
    /// Ours is the newest commit.
    Committed { commit: Box<Commit>, counts: Counts, bytes: u64, warning: Option<String> },
    /// Somebody else committed first, or has rows that we have not collected.
    Overtaken,
}

/// What the bucket holds. A person's FORCE_PUSH steps over announcements that cannot be read, to mend them; never over a
/// store that does not answer.
pub(super) async fn look(
    session: &Session,
    record: &mut RecordFile,
    wish: Wish,
) -> CommandResult<Option<Head>> {
    let (bucket, force) = (&session.bucket, session.config.overrides.force_push);
    let setting = setting::read(bucket).await?;
    let mirrored = setting.is_on();
    record.record.renamed_to = setting.renamed_to;
    let (mut head, manifest) = match head::look(bucket, record.record.knows()).await {
        Err(ReadError::Unreadable(problem)) if force => {
            session.ui.warn(format!("{problem}: overwritten, because FORCE_PUSH is set"));
            (head::without_announcements(bucket, record.record.knows()).await?, None)
        }
        other => other?,
    };
    if wish != Wish::Turn
        && mirrored
        && let Some(seen) = head.as_ref().filter(|head| head.mirrored())
        && !session.mirror(Some(&record.record)).is_in_place(seen).await?
        && let Some(Head::Commit(head)) = &mut head
    {
        head.mirrored = false;
    }
    let manifest = manifest.filter(|_| mirrored).map(|etag| etag.0);
    record.looked(session.bucket.context.now().as_second(), mirrored, manifest)?;
    Ok(head)
}

/// Whether the objects for Python nodes were written since the last look: one small request.
pub(super) async fn python_wrote(session: &Session, record: &RecordFile) -> CommandResult<bool> {
    if !record.record.mirror_is_on() {
        return Ok(false);
    }
    let manifest = session.bucket.store.head(&session.bucket.keys.manifest()).await?;
    Ok(manifest.map(|meta| meta.etag.0) != record.record.manifest_etag)
}

/// Brings the archive up to date with what is here, where that is this node's to do; `head` was read at `seen_at` (see
/// [`crate::context::Context::uptime`]).
pub(super) async fn make(
    session: &Session,
    record: &mut RecordFile,
    wish: Wish,
    standing: Option<&Standing>,
    seen: &rows::Standing,
    (head, seen_at): (Option<Head>, Duration),
) -> CommandResult<Archived> {
    let first = head.is_none();
    let ours = standing.is_none_or(|standing| standing.role == Role::Primary)
        || session.config.overrides.secondary_push;
    if !ours && !first {
        return Ok(Archived::NotOurs);
    }
    let rewrite = session.config.overrides.force_push && wish.is_typed();
    // A first commit is made whatever the role, so that a new machine can come from the bucket alone; what Python nodes
    // read is the primary's.
    let wants_mirror = ours && record.record.mirror_is_on();
    let mirror_due =
        wants_mirror && head.as_ref().is_some_and(|head| head.commit().is_some() && !head.mirrored());
    let same = |digest: Sum| {
        let commit = head.as_ref().and_then(Head::commit).filter(|commit| holds(session, commit, digest));
        commit.filter(|_| !mirror_due && !rewrite)
    };
    // Taken before the database is read: what is read is as old as its files, or newer.
    let print = Fingerprint::take(&session.database);
    let known = record.record.read.as_ref().filter(|read| Some(&read.print) == print.as_ref());
    if let Some(LastRead { counts, digest, .. }) = known.cloned()
        && let Some(commit) = same(digest)
    {
        record.agree(commit.number)?;
        return Ok(Archived::UpToDate { counts });
    }
    let local = session.read_local().await?;
    let (counts, digest) = (local.facts.counts, local.facts.digest);
    record.record.read = print.map(|print| LastRead { print, counts, digest });
    if let Some(commit) = same(digest) {
        record.agree(commit.number)?;
        return Ok(Archived::UpToDate { counts });
    }
    if head.as_ref().and_then(Head::newest).is_some_and(|commit| !commit.is_within(&seen.vector())) {
        return Ok(Archived::Overtaken);
    }
    let check = wish != Wish::Turn || session.is_older(record.record.checked_at, CHECK_EVERY);
    let parent = head.as_ref().filter(|_| !rewrite);
    let wanted = Wanted { object: wants_mirror, check, wish };
    let shot = shot::take(session, local, shot::parent_map(session, parent), wanted).await?;
    failpoint::reach("push.snapshot");
    if shot.checked {
        record.record.checked_at = session.bucket.context.now().as_second();
    }
    let claude_mem = worker::local_version(&session.config, &worker::probe(&session.config).await);
    let terms = Terms {
        epoch: standing.and_then(Standing::epoch),
        gated: standing.map_or(seen_at, |standing| standing.asked),
        claude_mem,
        seen: seen.vector(),
    };
    let work = Work { shot: &shot, head, seen_at, rewrite, wish, terms: &terms };
    let done = under_the_lock(session, record, work).await?;
    failpoint::reach("push.before-record");
    Ok(match done {
        Done::Overtaken => Archived::Overtaken,
        Done::Same { commit } => {
            conclude(session, record, shot.pack, &commit)?;
            Archived::UpToDate { counts }
        }
        Done::Committed { commit, warning } => {
            record.record.last_push = Some(iso(session.bucket.context.now()));
            let bytes = shot.pack.digests.size;
            conclude(session, record, shot.pack, &commit)?;
            if ours { Archived::Committed { commit, counts, bytes, warning } } else { Archived::NotOurs }
        }
    })
}

/// What is to be done under the lock.
struct Work<'a> {
    shot: &'a Shot,
    head: Option<Head>,
    /// When the head was read (see [`crate::context::Context::uptime`]).
    seen_at: Duration,
    /// A person forces it: everything is written anew, and nothing is built on what is there.
    rewrite: bool,
    wish: Wish,
    terms: &'a Terms,
}

enum Done {
    Committed { commit: Box<Commit>, warning: Option<String> },
    Same { commit: Box<Commit> },
    Overtaken,
}

async fn under_the_lock(session: &Session, record: &mut RecordFile, work: Work<'_>) -> CommandResult<Done> {
    let _critical = session.bucket.context.critical();
    session.ui.step(Stage::Lock.label(work.wish), "Lock");
    let mut guard = session.lock().acquire().await?;
    if let Some(why) = guard.took_over {
        session.ui.line(format!("      the lock was taken over: {why}"));
    }
    failpoint::reach("push.locked");
    let verifier = guard.verifier();
    let end = guard.hold(locked(session, record, work, &verifier)).await;
    failpoint::reach("push.before-release");
    if let Err(error) = guard.release().await {
        session.ui.warn(format!("the lock could not be given back ({error}); it runs out by itself"));
    }
    end
}

/// Under the lock: read the bucket again where that may tell anything new, commit, mirror.
async fn locked(
    session: &Session,
    record: &mut RecordFile,
    work: Work<'_>,
    verifier: &Verifier<'_>,
) -> CommandResult<Done> {
    let (shot, terms) = (work.shot, work.terms);
    let verdict = session.bucket.verdict().await?;
    let fresh = Fresh::of(session, verdict, shot);
    // Before the announcements are read: whoever writes the object after this look changes what our write rests on.
    let over = match &shot.object {
        Some(_) => Some(verifier.look(session.bucket.keys.database()).await?),
        None => None,
    };
    let head = if fresh.since(&session.bucket.context, work.seen_at) {
        work.head
    } else {
        let now = look(session, record, work.wish).await?;
        if came_since(now.as_ref(), work.head.as_ref()) {
            return Ok(Done::Overtaken);
        }
        now
    };
    let head = head.as_ref();
    if let Some(commit) =
        head.and_then(Head::commit).filter(|commit| holds(session, commit, shot.facts.digest))
        && !work.rewrite
    {
        if !head.is_some_and(Head::mirrored) {
            refresh(session, record, shot, (head, commit), terms, over, verifier).await?;
        }
        return Ok(Done::Same { commit: Box::new(commit.clone()) });
    }
    if head.and_then(Head::newest).is_some_and(|commit| !commit.is_within(&terms.seen)) {
        return Ok(Done::Overtaken);
    }
    gate::fence(terms.epoch, head)?;
    let made = head.and_then(Head::commit).and_then(Commit::at).map(Timestamp::as_second);
    let (here, gone) = (shot.facts.counts.observations, record.record.gone_since(made));
    gate::shrink(here, gone, head, session.config.overrides.force_push)?;
    let fence = Fence { terms, verifier, fresh };
    let Parent::Commit(parent) = commit::parent(session, shot, head, fence).await? else {
        return Ok(Done::Overtaken);
    };
    let pack = human_bytes(shot.pack.digests.size);
    let mirror = shot.object.as_ref().map_or(String::new(), |object| {
        format!("; for Python nodes {} (none? membridge mirror off)", human_bytes(object.digests.size))
    });
    session.ui.step(Stage::Upload.label(work.wish), format!("Upload: {pack}{mirror}"));
    failpoint::reach("push.before-upload");
    let announced = head.and_then(Head::announced);
    // A Python node that forces its way does not ask for the lock (F47); what it left is adopted next time.
    let Some(commit) = commit::create(session, shot, parent.as_deref(), announced, fence).await? else {
        return Ok(Done::Overtaken);
    };
    refresh(session, record, shot, (head, &commit), terms, over, verifier).await?;
    let before = head.and_then(Head::newest);
    commit::collect(session, before.map(|commit| commit.number), commit.number).await;
    commit::mind_holes(session).await;
    let text = format!("Verified: commit {} sha256 {}", commit.number, commit.sha256.short());
    session.ui.step(Stage::Verified.label(work.wish), text);
    let warning = fewer(parent.as_deref(), &commit);
    Ok(Done::Committed { commit: Box::new(commit), warning })
}

/// Whether a commit holds this content, sealed as the project is now.
fn holds(session: &Session, commit: &Commit, digest: Sum) -> bool {
    commit.content_digest == digest && !session.bucket.seal.is_older(Place::Commit { number: commit.number })
}

/// Whether a Python node pushed what was not there at the first look: its rows are taken in before it becomes history.
fn came_since(now: Option<&Head>, before: Option<&Head>) -> bool {
    let foreign = |head: Option<&Head>| head.filter(|head| head.commit().is_none()).map(Head::announced);
    foreign(now).is_some() && foreign(now) != foreign(before)
}

/// Brings the objects for Python nodes up to date, where the shot has one for them, over what was there (`over`) before
/// the decision was made.
async fn refresh(
    session: &Session,
    record: &mut RecordFile,
    shot: &Shot,
    (head, commit): (Option<&Head>, &Commit),
    terms: &Terms,
    over: Option<Seen>,
    verifier: &Verifier<'_>,
) -> CommandResult {
    let (Some(object), Some(over)) = (&shot.object, over) else {
        return Ok(());
    };
    session.mirror(Some(&record.record)).keep_what_nobody_knows(head).await?;
    let upload = Upload {
        object: &object.path,
        over: &over,
        digests: &object.digests,
        facts: &shot.facts,
        epoch: terms.epoch,
        claude_mem: terms.claude_mem.clone(),
        commit: commit.number,
    };
    record.mirror(object.digests.sha256, None)?;
    match session.mirror(None).write(&upload, verifier).await {
        Ok(etag) => {
            record.mirror(object.digests.sha256, Some(etag))?;
            let manifest = session.bucket.store.head(&session.bucket.keys.manifest()).await?;
            let now = session.bucket.context.now().as_second();
            record.looked(now, true, manifest.map(|meta| meta.etag.0))?;
            Ok(())
        }
        // The commit stands; whoever holds the lock now brings the objects for Python nodes up to date.
        Err(failure) if matches!(verifier.verify().await, Err(error) if !matches!(error, LockError::Store(_))) =>
        {
            session.ui.warn(format!("the copy for Python nodes was left to the next push: {failure}"));
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

fn conclude(session: &Session, record: &mut RecordFile, pack: Spooled, commit: &Commit) -> CommandResult {
    record.agree(commit.number)?;
    if commit.sha256 == pack.sha256
        && let Err(error) = pack.map.keep(&session.page_map)
    {
        tracing::warn!(%error, "the next archive will be a full one");
    }
    Ok(())
}

/// What a person should hear when a commit holds fewer memories than the one before.
fn fewer(parent: Option<&Commit>, commit: &Commit) -> Option<String> {
    let (before, now) = (parent?.counts.observations, commit.counts.observations);
    let gone = before.checked_sub(now).filter(|gone| *gone > 0)?;
    let (number, noun) = (parent?.number, if gone == 1 { "observation" } else { "observations" });
    Some(format!(
        "{gone} {noun} fewer than in commit {number} ({now} instead of {before}); if that was not meant: membridge restore {number}"
    ))
}

#[cfg(test)]
mod tests {
    use super::fewer;
    use crate::history::commit::tests::sample;

    #[test]
    fn an_archive_says_when_rows_are_gone() {
        let with = |number, observations| {
            let mut commit = sample(number, 0);
            commit.counts.observations = observations;
            commit
        };
        for (before, now, says) in [
            (10, 10, None),
            (10, 12, None),
            (10, 9, Some("1 observation fewer")),
            (10, 7, Some("3 observations fewer")),
        ] {
            let text = fewer(Some(&with(4, before)), &with(5, now));
            assert_eq!(text.is_some(), says.is_some(), "{before} {now}");
            assert!(says.is_none_or(|says| text.as_ref().is_some_and(|text| text.starts_with(says))));
            assert!(text.is_none_or(|text| text.ends_with("membridge restore 4")));
        }
        assert_eq!(fewer(None, &with(1, 0)), None);
    }
}
