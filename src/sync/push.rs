//! The story of a push: gate, look, snapshot, lock, decide, commit, mirror, release, record. Each step is one call into
//! the module that owns it.

use std::time::Duration;

use super::commit::{self, Fence, Parent, Terms};
use super::decide::decide;
use super::fresh::Fresh;
use super::gate;
use super::plan::Push;
use super::record::{Base, Pending, RecordFile};
use super::session::Session;
use super::shot::{self, Shot, Wanted};
use super::unchanged::{base_of, nothing_written, same_content, up_to_date};
use super::words::{self, describe, diverged};
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::history::Commit;
use crate::install::image::short;
use crate::lock::{LockError, Seen, Verifier};
use crate::outcome::Outcome;
use crate::python::head::{self, Head, ReadError};
use crate::python::mirror::Upload;
use crate::python::setting;
use crate::storage::records::iso;
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// How often a push that others overtake starts again.
const ATTEMPTS: u32 = 3;
/// A hook's push makes SQLite's full check when the last one is older (seconds).
const CHECK_EVERY: i64 = 86_400;

/// Where only the Stop hook is installed no session end refreshes the copy for Python nodes: a hook's push does when
/// the last time is so long ago (seconds).
const MIRROR_EVERY: i64 = 3_600;

/// Who asked for the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A person, or the end of a session: everything is brought up to date.
    Whole,
    /// A hook after a turn: the history gets what changed, the rest waits for a whole push.
    Background,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
struct Ask {
    style: Style,
    /// A person forces it: what is in the bucket may be damaged, so everything is written anew, also where nothing
    /// changed, and nothing is built on what is there.
    rewrite: bool,
}

/// How the part under the lock ended.
enum Done {
    /// Our snapshot is the head.
    Committed { commit: Box<Commit>, mirrored: bool, warning: Option<String> },
    /// The bucket holds this already.
    UpToDate(Head),
    /// The bucket is ahead and we have nothing for it.
    NothingOfOurs(Head),
    /// Somebody else committed first.
    Overtaken,
}

/// Sends the local memory to the bucket, when it has something that the bucket lacks.
///
/// # Errors
/// Refusals with their exit codes, and whatever failed. The local database is never changed; the bucket is as it
/// was, or whole.
pub async fn push(session: &Session, record: &mut RecordFile, style: Style) -> CommandResult<Report> {
    let site = Site::of(&session.config);
    gate::store_is_ours_to_sync(&site)?;
    let gated = session.bucket.context.uptime();
    let standing = gate::push_role(session).await?;
    let epoch = standing.and_then(|standing| standing.epoch());
    failpoint::reach("push.gated");
    let ask = Ask { style, rewrite: session.config.overrides.force_push && style == Style::Whole };
    if !ask.rewrite
        && let Some(report) = nothing_written(session, &record.record, style).await?
    {
        return Ok(report);
    }
    let mut terms = Terms { epoch, gated, claude_mem: None };
    for _ in 0..ATTEMPTS {
        session.ui.step("1/6", format!("Local database: {}", session.database.display()));
        if let Some(report) = attempt(session, record, ask, &mut terms).await? {
            return Ok(report);
        }
        session.ui.line("another machine pushed first: looking again");
    }
    Err(Failure::of(Code::Contended, format!("other machines pushed first in each of {ATTEMPTS} attempts"))
        .hint("try again: membridge push_sqlite"))
}

/// One attempt; `None` when somebody else committed first.
async fn attempt(
    session: &Session,
    record: &mut RecordFile,
    ask: Ask,
    terms: &mut Terms,
) -> CommandResult<Option<Report>> {
    let seen = session.bucket.context.uptime();
    let head = read_head(session, record, ask).await?;
    let local = session.read_local().await?;
    let asked = ask.style == Style::Whole || is_older(session, record.record.mirrored_at, MIRROR_EVERY);
    let wants_mirror = asked && setting::read(&session.bucket).await?.is_on();
    let mirror_due =
        wants_mirror && head.as_ref().is_some_and(|head| head.commit().is_some() && !head.mirrored());
    let base = record.record.base_for(head.as_ref().and_then(Head::sha256));
    if !mirror_due
        && !ask.rewrite
        && let Some(base) = same_content(base, &local, head.as_ref())
    {
        record.agree(base)?;
        return Ok(Some(up_to_date(session, &local.facts.counts)));
    }
    let check = ask.style == Style::Whole || is_older(session, record.record.checked_at, CHECK_EVERY);
    let wanted = Wanted { object: wants_mirror, check };
    let parent = head.as_ref().filter(|_| !ask.rewrite);
    let shot = shot::take(session, local, shot::parent_map(session, parent), wanted).await?;
    let known = Known { head, seen, ask };
    failpoint::reach("push.snapshot");
    if shot.checked {
        record.record.checked_at = session.bucket.context.now().as_second();
    }
    if terms.claude_mem.is_none() {
        terms.claude_mem = worker::local_version(&session.config, &worker::probe(&session.config).await);
    }

    let _critical = session.bucket.context.critical();
    session.ui.step("3/6", "Lock");
    let mut guard = session.lock().acquire().await?;
    if let Some(why) = guard.took_over {
        session.ui.line(format!("      the lock was taken over: {why}"));
    }
    failpoint::reach("push.locked");
    let verifier = guard.verifier();
    let end = guard.hold(under_lock(session, record, &shot, known, terms, &verifier)).await;
    failpoint::reach("push.before-release");
    if let Err(error) = guard.release().await {
        session.ui.warn(format!("the lock could not be given back ({error}); it runs out by itself"));
    }
    let done = end?;
    failpoint::reach("push.before-record");
    conclude(session, record, shot, done)
}

/// Whether `at` is more than `limit` seconds ago, or in the future of a clock that was set back.
fn is_older(session: &Session, at: i64, limit: i64) -> bool {
    let age = session.bucket.context.now().as_second().saturating_sub(at);
    !(0..limit).contains(&age)
}

/// What the bucket held, when it was asked (see [`crate::context::Context::uptime`]), and for what.
struct Known {
    head: Option<Head>,
    seen: Duration,
    ask: Ask,
}

/// Under the lock: read the bucket again where that may tell anything new, decide, commit, mirror.
async fn under_lock(
    session: &Session,
    record: &mut RecordFile,
    shot: &Shot,
    known: Known,
    terms: &Terms,
    verifier: &Verifier<'_>,
) -> CommandResult<Done> {
    let (force, ask) = (session.config.overrides.force_push, known.ask);
    let verdict = session.bucket.verdict().await?;
    let fresh = Fresh::of(session, verdict, shot);
    // Before the announcements are read: whoever writes the object after this look changes what our write rests on.
    let over = match &shot.object {
        Some(_) => Some(verifier.look(session.bucket.keys.database()).await?),
        None => None,
    };
    let head = if fresh.since(&session.bucket.context, known.seen) {
        known.head
    } else {
        read_head(session, record, ask).await?
    };
    let decision = decide(session, record, shot, head.as_ref()).await?;
    session.ui.step("4/6", format!("Decision: {}", describe(decision.plan)));
    match (decision.plan, &head) {
        (Push::UpToDate, Some(head)) if !ask.rewrite => {
            return up_to_date_but_the_mirror(session, record, shot, head, terms, over, verifier).await;
        }
        (Push::UpToDate, _) => session.ui.line("      written anew all the same, because FORCE_PUSH is set"),
        (Push::NothingOfOurs, Some(head)) if !force => return Ok(Done::NothingOfOurs(head.clone())),
        (Push::Diverged, Some(head)) if !force => {
            return Err(diverged(&shot.facts.counts, head, decision.comparison.as_ref()));
        }
        _ => {}
    }
    gate::fence(terms.epoch, head.as_ref())?;
    gate::shrink(shot.facts.counts.observations, head.as_ref(), force)?;
    let fence = Fence { terms, verifier, fresh };
    let Parent::Commit(parent) = commit::parent(session, shot, head.as_ref(), fence).await? else {
        return Ok(Done::Overtaken);
    };
    session.ui.step("5/6", format!("Upload: {}", human_bytes(shot.pack.digests.size)));
    record.begin(Pending::Push {
        sha256: shot.pack.sha256.clone(),
        digest: shot.facts.digest.clone(),
        counts: shot.facts.counts,
    })?;
    failpoint::reach("push.before-upload");
    let announced = head.as_ref().and_then(Head::announced);
    // A Python node that forces its way does not ask for the lock (F47); what it left is adopted next time.
    let made = commit::create(session, shot, parent.as_deref(), announced, fence).await?;
    let Some(commit) = made else {
        return Ok(Done::Overtaken);
    };
    let mirrored = refresh(session, record, shot, (head.as_ref(), &commit), terms, over, verifier).await?;
    let before = head.as_ref().and_then(Head::newest);
    commit::collect(session, before.map(|commit| commit.number), commit.number).await;
    session.ui.step("6/6", format!("Verified: commit {} sha256 {}", commit.number, short(&commit.sha256)));
    Ok(Done::Committed {
        warning: words::fewer(parent.as_deref(), &commit),
        commit: Box::new(commit),
        mirrored,
    })
}

/// Nothing is new, but an earlier push may have left the objects for Python nodes behind (F21).
async fn up_to_date_but_the_mirror(
    session: &Session,
    record: &mut RecordFile,
    shot: &Shot,
    head: &Head,
    terms: &Terms,
    over: Option<Seen>,
    verifier: &Verifier<'_>,
) -> CommandResult<Done> {
    let mut done = head.clone();
    if let Head::Commit(done) = &mut done
        && !done.mirrored
    {
        let pair = (Some(head), &*done.commit);
        done.mirrored = refresh(session, record, shot, pair, terms, over, verifier).await?;
    }
    Ok(Done::UpToDate(done))
}

/// Brings the objects for Python nodes up to date, where the shot has one for them, over what was there (`over`) before
/// the decision was made. False: it was left to the next push.
async fn refresh(
    session: &Session,
    record: &mut RecordFile,
    shot: &Shot,
    (head, commit): (Option<&Head>, &Commit),
    terms: &Terms,
    over: Option<Seen>,
    verifier: &Verifier<'_>,
) -> CommandResult<bool> {
    let (Some(object), Some(over)) = (&shot.object, over) else {
        return Ok(false);
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
    record.mirror(&object.digests.sha256, None)?;
    match session.mirror(None).write(&upload, verifier).await {
        Ok(etag) => {
            record.mirror(&object.digests.sha256, Some(etag))?;
            Ok(true)
        }
        // The commit stands; whoever holds the lock now brings the objects for Python nodes up to date.
        Err(failure) if matches!(verifier.verify().await, Err(error) if !matches!(error, LockError::Store(_))) =>
        {
            session.ui.warn(format!("the copy for Python nodes was left to the next push: {failure}"));
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// What the bucket holds. A person's FORCE_PUSH steps over announcements that cannot be read, to mend them; never over a
/// store that does not answer.
async fn read_head(session: &Session, record: &RecordFile, ask: Ask) -> CommandResult<Option<Head>> {
    let (bucket, record) = (&session.bucket, &record.record);
    let mut head = match head::read(bucket, record.knows()).await {
        Err(ReadError::Unreadable(problem)) if ask.rewrite => {
            session.ui.warn(format!("{problem}: overwritten, because FORCE_PUSH is set"));
            head::without_announcements(bucket, record.knows()).await?
        }
        other => other?,
    };
    if ask.style == Style::Whole
        && let Some(seen) = head.as_ref().filter(|head| head.mirrored())
        && !session.mirror(Some(record)).is_in_place(seen).await?
        && let Some(Head::Commit(head)) = &mut head
    {
        head.mirrored = false;
    }
    Ok(head)
}

fn conclude(
    session: &Session,
    record: &mut RecordFile,
    shot: Shot,
    done: Done,
) -> CommandResult<Option<Report>> {
    let Shot { facts, fingerprint, pack, .. } = shot;
    match done {
        Done::Overtaken => Ok(None),
        Done::Committed { commit, mirrored, warning } => {
            record.record.last_push = Some(iso(session.bucket.context.now()));
            if mirrored {
                record.record.mirrored_at = session.bucket.context.now().as_second();
            }
            record.agree(Base {
                sha256: commit.sha256.clone(),
                commit: Some(commit.number),
                mirrored,
                digest: facts.digest.clone(),
                counts: facts.counts,
                fingerprint,
            })?;
            if let Err(error) = pack.map.keep(&session.page_map) {
                tracing::warn!(%error, "the next push will be a full one");
            }
            session.ui.line(format!("PUSH COMPLETE ({})", facts.counts.describe()));
            let report = Report::ok(Outcome::Pushed)
                .with("observations", facts.counts.observations)
                .with("sha256", commit.sha256.clone())
                .with("commit", commit.number)
                .with("bytes", pack.digests.size);
            Ok(Some(match warning {
                None => report,
                Some(warning) => {
                    session.ui.warn(&warning);
                    report.with("warning", warning)
                }
            }))
        }
        Done::UpToDate(head) => {
            if head.mirrored() {
                record.record.mirrored_at = session.bucket.context.now().as_second();
            }
            record.agree(base_of(&head, &facts, fingerprint))?;
            if head.commit().is_some_and(|commit| commit.sha256 == pack.sha256)
                && let Err(error) = pack.map.keep(&session.page_map)
            {
                tracing::warn!(%error, "the next push will be a full one");
            }
            Ok(Some(up_to_date(session, &facts.counts)))
        }
        Done::NothingOfOurs(head) => {
            words::nothing_of_ours(session, &head);
            Ok(Some(Report::ok(Outcome::RemoteAhead).with("observations", facts.counts.observations)))
        }
    }
}
