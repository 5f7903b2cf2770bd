//! The story of a push: gate, look, snapshot, lock, decide, commit, mirror, release, record. Each step is one call into
//! the module that owns it.

use std::time::Duration;

use super::commit::{self, Fence, Parent, Terms};
use super::decide::decide;
use super::fetch;
use super::fresh::Fresh;
use super::gate;
use super::mirror::{self, Upload};
use super::mirror_setting;
use super::plan::Push;
use super::record::{Base, Pending, RecordFile};
use super::remote::{self, Head};
use super::session::Session;
use super::shot::{self, Shot, Wanted};
use super::unchanged::{base_of, nothing_written, same_content, up_to_date};
use super::words::{self, describe, diverged};
use crate::error::{CommandResult, Failure};
use crate::failpoint;
use crate::history::pagemap::PageMap;
use crate::history::{Commit, retention};
use crate::lock::{self, LockError, Verifier};
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

/// How the part under the lock ended.
enum Done {
    /// Our snapshot is the head.
    Committed { commit: Box<Commit>, mirrored: bool },
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
    let gated = session.context.uptime();
    let standing = gate::push_role(session).await?;
    let epoch = standing.and_then(|standing| standing.epoch());
    failpoint::reach("push.gated");
    if let Some(report) = nothing_written(session, record, style).await? {
        return Ok(report);
    }
    let mut terms = Terms {
        epoch,
        gated,
        claude_mem: None,
    };
    for _ in 0..ATTEMPTS {
        session
            .ui
            .step("1/6", format!("Local database: {}", session.database.display()));
        if let Some(report) = attempt(session, record, style, &mut terms).await? {
            return Ok(report);
        }
        session.ui.line("another machine pushed first: looking again");
    }
    Err(Failure::new(format!(
        "other machines pushed first in each of {ATTEMPTS} attempts"
    ))
    .hint("try again: membridge push_sqlite"))
}

/// One attempt; `None` when somebody else committed first.
async fn attempt(
    session: &Session,
    record: &mut RecordFile,
    style: Style,
    terms: &mut Terms,
) -> CommandResult<Option<Report>> {
    let seen = session.context.uptime();
    let head = read_head(session, record).await?;
    let local = session.read_local().await?;
    let asked = style == Style::Whole || is_older(session, record.record.mirrored_at, MIRROR_EVERY);
    let wants_mirror = asked && mirror_setting::read(&session.store, &session.keys).await?.is_on();
    let mirror_due = wants_mirror && head.as_ref().is_some_and(|head| head.is_commit && !head.mirrored);
    let base = record
        .record
        .base_for(head.as_ref().map(|head| head.sha256.as_str()));
    if !mirror_due && let Some(base) = same_content(base, &local, head.as_ref()) {
        record.agree(base)?;
        return Ok(Some(up_to_date(session, &local.facts.counts)));
    }
    let check = style == Style::Whole || is_older(session, record.record.checked_at, CHECK_EVERY);
    let wanted = Wanted {
        object: wants_mirror,
        check,
    };
    let shot = shot::take(session, local, parent_map(session, head.as_ref()), wanted).await?;
    let known = Known { head, seen };
    failpoint::reach("push.snapshot");
    if shot.checked {
        record.record.checked_at = session.context.now().as_second();
    }
    if terms.claude_mem.is_none() {
        terms.claude_mem = worker::local_version(&session.config, &worker::probe(&session.config).await);
    }

    let _critical = session.context.critical();
    session.ui.step("3/6", "Lock");
    let mut guard = lock::acquire(session.lock_request()).await?;
    if let Some(why) = guard.took_over {
        session.ui.line(format!("      the lock was taken over: {why}"));
    }
    failpoint::reach("push.locked");
    let verifier = guard.verifier();
    let end = guard
        .hold(under_lock(session, record, &shot, known, terms, &verifier))
        .await;
    failpoint::reach("push.before-release");
    if let Err(error) = guard.release().await {
        session.ui.warn(format!(
            "the lock could not be given back ({error}); it runs out by itself"
        ));
    }
    let done = end?;
    failpoint::reach("push.before-record");
    conclude(session, record, shot, done)
}

/// Whether `at` is more than `limit` seconds ago, or in the future of a clock that was set back.
fn is_older(session: &Session, at: i64, limit: i64) -> bool {
    let age = session.context.now().as_second().saturating_sub(at);
    !(0..limit).contains(&age)
}

/// The pages of the head's image, when we know them and its chain may grow: what a delta is made against.
fn parent_map(session: &Session, head: Option<&Head>) -> Option<PageMap> {
    let commit = head?.head_commit()?;
    if retention::rebase_due(&commit.chain) {
        return None;
    }
    PageMap::open(&session.page_map, &commit.sha256)
}

/// What the bucket held, and when it was asked (see [`crate::context::Context::uptime`]).
struct Known {
    head: Option<Head>,
    seen: Duration,
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
    let force = session.config.overrides.force_push;
    let verdict = session
        .capability
        .get(&session.store, &session.keys, &session.context)
        .await?;
    let fresh = Fresh::of(session, verdict, shot);
    let head = if fresh.since(&session.context, known.seen) {
        known.head
    } else {
        read_head(session, record).await?
    };
    let decision = decide(session, record, shot, head.as_ref()).await?;
    session
        .ui
        .step("4/6", format!("Decision: {}", describe(decision.plan)));
    match (decision.plan, &head) {
        (Push::UpToDate, Some(head)) => {
            return up_to_date_but_the_mirror(session, shot, head, terms, verifier).await;
        }
        (Push::NothingOfOurs, Some(head)) if !force => return Ok(Done::NothingOfOurs(head.clone())),
        (Push::Diverged, Some(head)) if !force => {
            return Err(diverged(&shot.facts, head, decision.comparison.as_ref()));
        }
        _ => {}
    }
    gate::fence(terms.epoch, head.as_ref())?;
    gate::shrink(shot.facts.counts.observations, head.as_ref(), force)?;
    let fence = Fence {
        terms,
        verifier,
        fresh,
    };
    let before = head
        .as_ref()
        .and_then(|head| head.commit.as_ref())
        .map(|commit| commit.number);
    let parent = match commit::parent(session, head.as_ref(), fence).await? {
        Parent::Commit(parent) => parent,
        Parent::Overtaken => return Ok(Done::Overtaken),
    };
    // A delta is good on the image that it was made against, and on no other.
    if shot.parent.is_some() && shot.parent.as_ref() != parent.as_ref().map(|commit| &commit.sha256) {
        return Ok(Done::Overtaken);
    }
    session
        .ui
        .step("5/6", format!("Upload: {}", human_bytes(shot.pack.digests.size)));
    record.begin(Pending::Push {
        sha256: shot.pack.sha256.clone(),
        digest: shot.facts.digest.clone(),
        counts: shot.facts.counts,
    })?;
    failpoint::reach("push.before-upload");
    let announced = head.as_ref().and_then(|head| head.announced.as_deref());
    // A Python node that forces its way does not ask for the lock (F47); what it left is adopted next time.
    let made = commit::create(session, shot, parent.as_deref(), announced, fence).await?;
    let Some(commit) = made else {
        return Ok(Done::Overtaken);
    };
    let mirrored = mirror(session, shot, Some(&commit), terms, verifier).await?;
    commit::collect(session, before, commit.number).await;
    session.ui.step(
        "6/6",
        format!(
            "Verified: commit {} sha256 {}",
            commit.number,
            fetch::short(&commit.sha256)
        ),
    );
    Ok(Done::Committed {
        commit: Box::new(commit),
        mirrored,
    })
}

/// Nothing is new, but an earlier push may have left the objects for Python nodes behind (F21).
async fn up_to_date_but_the_mirror(
    session: &Session,
    shot: &Shot,
    head: &Head,
    terms: &Terms,
    verifier: &Verifier<'_>,
) -> CommandResult<Done> {
    let mut head = head.clone();
    if let Some(commit) = head.head_commit().filter(|_| !head.mirrored).cloned() {
        head.mirrored = mirror(session, shot, Some(&commit), terms, verifier).await?;
    }
    Ok(Done::UpToDate(head))
}

/// Writes the objects for Python nodes, where the shot has one.
async fn mirror(
    session: &Session,
    shot: &Shot,
    commit: Option<&Commit>,
    terms: &Terms,
    verifier: &Verifier<'_>,
) -> CommandResult<bool> {
    let Some(object) = &shot.object else {
        return Ok(false);
    };
    let over = verifier.look(session.keys.database()).await?;
    let upload = Upload {
        object: &object.path,
        over: &over,
        digests: &object.digests,
        facts: &shot.facts,
        epoch: terms.epoch,
        claude_mem: terms.claude_mem.clone(),
        commit: commit.map(|commit| commit.number),
    };
    match mirror::write(session, &upload, verifier).await {
        Ok(()) => Ok(true),
        // The commit stands; whoever holds the lock now brings the objects for Python nodes up to date.
        Err(failure) if matches!(verifier.verify().await, Err(error) if !matches!(error, LockError::Store(_))) =>
        {
            session.ui.warn(format!(
                "the copy for Python nodes was left to the next push: {failure}"
            ));
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// What the bucket holds; FORCE_PUSH steps over announcements that cannot be read, to mend them.
async fn read_head(session: &Session, record: &RecordFile) -> CommandResult<Option<Head>> {
    let hint = record.record.base.as_ref().and_then(|base| base.commit);
    match remote::read(&session.store, &session.keys, hint).await {
        Err(failure) if session.config.overrides.force_push => {
            session
                .ui
                .warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
            remote::history_only(&session.store, &session.keys, hint).await
        }
        other => other,
    }
}

fn conclude(
    session: &Session,
    record: &mut RecordFile,
    shot: Shot,
    done: Done,
) -> CommandResult<Option<Report>> {
    let Shot {
        facts,
        fingerprint,
        pack,
        ..
    } = shot;
    match done {
        Done::Overtaken => Ok(None),
        Done::Committed { commit, mirrored } => {
            record.record.last_push = Some(crate::storage::records::iso(session.context.now()));
            if mirrored {
                record.record.mirrored_at = session.context.now().as_second();
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
            session
                .ui
                .line(format!("PUSH COMPLETE ({})", facts.counts.describe()));
            Ok(Some(
                Report::ok("pushed")
                    .with("observations", facts.counts.observations)
                    .with("sha256", commit.sha256.clone())
                    .with("commit", commit.number)
                    .with("bytes", pack.digests.size),
            ))
        }
        Done::UpToDate(head) => {
            if head.mirrored {
                record.record.mirrored_at = session.context.now().as_second();
            }
            record.agree(base_of(&head, &facts, fingerprint))?;
            if head
                .head_commit()
                .is_some_and(|commit| commit.sha256 == pack.sha256)
                && let Err(error) = pack.map.keep(&session.page_map)
            {
                tracing::warn!(%error, "the next push will be a full one");
            }
            Ok(Some(up_to_date(session, &facts.counts)))
        }
        Done::NothingOfOurs(head) => {
            words::nothing_of_ours(session, &head);
            Ok(Some(
                Report::ok("remote_ahead").with("observations", facts.counts.observations),
            ))
        }
    }
}
