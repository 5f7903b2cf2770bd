//! The story of a push: gate, look, snapshot, lock, decide, upload, verify, release, record. Each step is one call
//! into the module that owns it.

use tempfile::TempPath;

use super::fetch::{self, short};
use super::gate;
use super::mirror::{self, Upload};
use super::plan::{self, Local, Push, Remote, Situation};
use super::record::{Base, Pending, RecordFile};
use super::remote::{self, Head};
use super::session::{LocalState, Session};
use crate::database::compare::{self, Comparison};
use crate::database::files::{self, Fingerprint};
use crate::database::{self, Counts, DatabaseError, Facts, snapshot};
use crate::error::{CommandResult, Failure};
use crate::exit::ExitCode;
use crate::failpoint;
use crate::lock::{self, Verifier};
use crate::storage::{Digests, StoreErrorKind};
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// What is to be pushed: the local database at one moment.
struct Snapshot {
    facts: Facts,
    fingerprint: Option<Fingerprint>,
    /// The object for the bucket; compact, with a rollback-journal header.
    object: TempPath,
    digests: Digests,
}

/// How the part under the lock ended.
enum Done {
    /// Our snapshot is in the bucket.
    Uploaded,
    /// The bucket holds this already.
    UpToDate(Head),
    /// The bucket is ahead and we have nothing for it.
    NothingOfOurs(Head),
}

/// Sends the local memory to the bucket, when it has something that the bucket lacks.
///
/// # Errors
/// Refusals with their exit codes, and whatever failed. The local database is never changed; the bucket is as it
/// was, or whole.
pub async fn push(session: &Session, record: &mut RecordFile) -> CommandResult<Report> {
    let site = Site::of(&session.config);
    gate::store_is_ours_to_sync(&site)?;
    let standing = gate::push_role(session).await?;
    let epoch = standing.and_then(|standing| standing.epoch());
    failpoint::reach("push.gated");

    let seen = peek(session).await?;
    let base = record.record.base_for(seen.as_deref());
    if let Some(report) = nothing_written(session, base.as_ref(), seen.as_deref()) {
        return Ok(report);
    }
    session
        .ui
        .step("1/6", format!("Local database: {}", session.database.display()));
    let local = session.read_local().await?;
    if let Some(base) = same_content(base, &local, seen.as_deref()) {
        record.agree(base)?;
        return Ok(up_to_date(session, &local.facts.counts));
    }
    let snapshot = take_snapshot(session, local).await?;
    failpoint::reach("push.snapshot");

    let claude_mem = worker::local_version(&session.config, &worker::probe(&session.config).await);
    let _critical = session.context.critical();
    session.ui.step("3/6", "Lock");
    let mut guard = lock::acquire(session.lock_request()).await?;
    if let Some(why) = guard.took_over {
        session.ui.line(format!("      the lock was taken over: {why}"));
    }
    failpoint::reach("push.locked");
    let verifier = guard.verifier();
    let end = guard
        .hold(under_lock(
            session, record, &snapshot, epoch, claude_mem, &verifier,
        ))
        .await;
    failpoint::reach("push.before-release");
    if let Err(error) = guard.release().await {
        session.ui.warn(format!(
            "the lock could not be given back ({error}); it runs out by itself"
        ));
    }
    let done = end?;
    failpoint::reach("push.before-record");
    conclude(session, record, snapshot, done)
}

/// The checksum in the manifest: one request, and enough to see that nothing has changed.
async fn peek(session: &Session) -> CommandResult<Option<String>> {
    match remote::peek(&session.store, &session.keys).await {
        Ok(manifest) => Ok(manifest.map(|manifest| manifest.sha256)),
        // FORCE_PUSH mends a manifest that cannot be read.
        Err(_) if session.config.overrides.force_push => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The files were not written to since the last sync: no SQLite work, and the plan is known.
fn nothing_written(session: &Session, base: Option<&Base>, seen: Option<&str>) -> Option<Report> {
    let base = base.filter(|base| session.untouched(base))?;
    let remote = match seen {
        None => Remote::Absent,
        Some(sha256) if sha256 == base.sha256 => Remote::Unchanged,
        Some(_) => Remote::Changed,
    };
    let situation = Situation {
        local: Local::Unchanged,
        remote,
        same_content: false,
        relation: None,
    };
    match plan::push(situation) {
        Push::UpToDate => {
            tracing::info!("snapshot skipped: the files are as they were at the last sync");
            Some(up_to_date(session, &base.counts))
        }
        _ => None,
    }
}

/// The files were written to, but no memory changed (a checkpoint, the worker's housekeeping): the new fingerprint
/// is remembered.
fn same_content(base: Option<Base>, local: &LocalState, seen: Option<&str>) -> Option<Base> {
    let base = base.filter(|base| base.digest == local.facts.digest && Some(base.sha256.as_str()) == seen)?;
    tracing::info!("snapshot skipped: the content is as it was at the last sync");
    Some(Base {
        fingerprint: local.fingerprint.clone(),
        counts: local.facts.counts,
        ..base
    })
}

fn up_to_date(session: &Session, counts: &Counts) -> Report {
    session
        .ui
        .line(format!("already up to date ({})", counts.describe()));
    Report::ok("up_to_date").with("observations", counts.observations)
}

/// Copies the pinned database, checks the copy, and makes the object for the bucket from it.
async fn take_snapshot(session: &Session, local: LocalState) -> CommandResult<Snapshot> {
    let size = files::size_with_wal(&session.database);
    let folder = session.config.paths.tmp();
    session.ui.step(
        "2/6",
        format!(
            "Snapshot: {} ({})",
            local.facts.counts.describe(),
            human_bytes(size)
        ),
    );
    tracing::info!("snapshot taken");
    let progress = session.ui.progress("snapshot", size);
    let LocalState {
        pinned,
        facts,
        fingerprint,
    } = local;
    database::blocking(move || {
        let image = files::temporary(&folder, "snapshot")?;
        files::require_space(&folder, size.saturating_mul(2))?;
        pinned.copy_to(&image, &progress)?;
        drop(pinned);
        progress.done();
        failpoint::reach("push.copied");
        let object = files::temporary(&folder, "object")?;
        snapshot::vacuum_into(&image, &object)?;
        drop(image);
        failpoint::reach("push.compacted");
        // VACUUM INTO has rewritten every page; the check is of what will be uploaded.
        let checked = database::open_read_only(&object)?;
        database::integrity_check(&checked, &object)?;
        let counts = database::facts::counts(&checked, &object)?;
        if counts != facts.counts {
            let problem = format!(
                "the snapshot holds {} instead of {}",
                counts.describe(),
                facts.counts.describe()
            );
            return Err(DatabaseError::Damaged {
                path: object.to_path_buf(),
                problem,
            });
        }
        drop(checked);
        let digests = Digests::of_file(&object).map_err(|error| DatabaseError::io("read", &object, error))?;
        Ok(Snapshot {
            facts,
            fingerprint,
            object,
            digests,
        })
    })
    .await
}

/// Under the lock: read the bucket again, decide, upload.
async fn under_lock(
    session: &Session,
    record: &mut RecordFile,
    snapshot: &Snapshot,
    epoch: Option<i64>,
    claude_mem: Option<String>,
    verifier: &Verifier<'_>,
) -> CommandResult<Done> {
    let force = session.config.overrides.force_push;
    let head = read_head(session).await?;
    let decision = decide(session, record, snapshot, head.as_ref()).await?;
    session
        .ui
        .step("4/6", format!("Decision: {}", describe(decision.plan)));
    match (decision.plan, head.as_ref()) {
        (Push::UpToDate, Some(head)) => return Ok(Done::UpToDate(head.clone())),
        (Push::NothingOfOurs, Some(head)) if !force => return Ok(Done::NothingOfOurs(head.clone())),
        (Push::Diverged, Some(head)) if !force => {
            return Err(diverged(snapshot, head, decision.comparison.as_ref()));
        }
        _ => {}
    }
    gate::fence(epoch, head.as_ref())?;
    gate::shrink(snapshot.facts.counts.observations, head.as_ref(), force)?;
    if matches!(decision.plan, Push::Diverged | Push::NothingOfOurs) {
        keep_what_is_overwritten(session, head.as_ref()).await?;
    }
    session
        .ui
        .step("5/6", format!("Upload: {}", human_bytes(snapshot.digests.size)));
    record.begin(Pending::Push {
        sha256: snapshot.digests.sha256.clone(),
        digest: snapshot.facts.digest.clone(),
        counts: snapshot.facts.counts,
    })?;
    failpoint::reach("push.before-upload");
    let over = verifier.look(session.keys.database()).await?;
    verifier.verify().await?;
    gate::same_term(session, epoch).await?;
    // A Python node that forces its way does not ask for the lock (F47).
    if read_head(session).await? != head {
        return Err(Failure::new(
            "the bucket changed while this push was being prepared; nothing was uploaded",
        )
        .hint("push again: membridge push_sqlite"));
    }
    failpoint::reach("push.verified");
    let Snapshot {
        facts,
        object,
        digests,
        ..
    } = snapshot;
    mirror::write(
        session,
        &Upload {
            object,
            over: &over,
            digests,
            facts,
            epoch,
            claude_mem,
        },
        verifier,
    )
    .await?;
    session
        .ui
        .step("6/6", format!("Verified: sha256 {}", short(&digests.sha256)));
    Ok(Done::Uploaded)
}

/// What the bucket announces; FORCE_PUSH steps over announcements that cannot be read, to mend them.
async fn read_head(session: &Session) -> CommandResult<Option<Head>> {
    match remote::read(&session.store, &session.keys).await {
        Err(failure) if session.config.overrides.force_push => {
            session
                .ui
                .warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
            match session.store.head(&session.keys.database()).await {
                Ok(_) => Ok(None),
                Err(error) if error.kind == StoreErrorKind::Unexpected => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
        other => other,
    }
}

/// The plan, and the comparison that it rests on, when one was needed.
struct Decision {
    plan: Push,
    comparison: Option<Comparison>,
}

async fn decide(
    session: &Session,
    record: &RecordFile,
    snapshot: &Snapshot,
    head: Option<&Head>,
) -> CommandResult<Decision> {
    let base = record.record.base_for(head.map(|head| head.sha256.as_str()));
    let mut situation = situation(base.as_ref(), &snapshot.facts, head);
    let mut comparison = None;
    if plan::push(situation) == Push::Compare {
        session
            .ui
            .line("      no common history: the bucket's database is fetched once and compared row by row");
        let image = match fetch::whatever_is_there(session).await {
            Ok(image) => image,
            Err(failure) if session.config.overrides.force_push => {
                session
                    .ui
                    .warn(format!("{failure}: overwritten, because FORCE_PUSH is set"));
                return Ok(Decision {
                    plan: Push::Diverged,
                    comparison: None,
                });
            }
            Err(failure) => return Err(failure),
        };
        // An announcement of another database than the one that is there is mended by writing all three again (F21).
        let torn = head.is_some_and(|head| head.manifest.is_none() || head.sha256 != image.sha256);
        situation.same_content = !torn && image.facts.digest == snapshot.facts.digest;
        let (local, folder) = (snapshot.object.to_path_buf(), session.config.paths.tmp());
        let rows = database::blocking(move || {
            let scratch = files::temporary(&folder, "compare")?;
            compare::compare(&local, &image.path, &scratch)
        })
        .await?;
        situation.relation = Some(rows.relation());
        comparison = Some(rows);
    }
    Ok(Decision {
        plan: plan::push(situation),
        comparison,
    })
}

/// What changed since the record, on either side.
pub(super) fn situation(base: Option<&Base>, local: &Facts, head: Option<&Head>) -> Situation {
    Situation {
        local: match base {
            None => Local::Unknown,
            Some(base) if base.digest == local.digest => Local::Unchanged,
            Some(_) => Local::Changed,
        },
        remote: match (base, head) {
            (_, None) => Remote::Absent,
            (None, Some(_)) => Remote::Unknown,
            (Some(base), Some(head)) if base.sha256 == head.sha256 => Remote::Unchanged,
            (Some(_), Some(_)) => Remote::Changed,
        },
        same_content: head.and_then(Head::digest) == Some(local.digest.as_str()),
        relation: None,
    }
}

fn describe(plan: Push) -> &'static str {
    match plan {
        Push::NoDatabase => "there is no database here",
        Push::UpToDate => "both sides are the same",
        Push::Upload => "the bucket lacks what is here: upload",
        Push::NothingOfOurs => "the bucket is ahead and nothing is new here",
        Push::Diverged => "both sides have memories that the other lacks",
        Push::Compare => "not known",
    }
}

fn diverged(snapshot: &Snapshot, head: &Head, comparison: Option<&Comparison>) -> Failure {
    let only = comparison.map_or(String::new(), |rows| {
        format!(
            "; only here: {}; only there: {}",
            rows.describe(|table| table.only_here),
            rows.describe(|table| table.only_there)
        )
    });
    let there = head
        .observations()
        .map_or("an unknown number of".to_owned(), |count| count.to_string());
    Failure::with_exit(
        ExitCode::Diverged,
        format!(
            "diverged: {} observations here, {there} in the bucket (pushed by {}){only}",
            snapshot.facts.counts.observations,
            head.source()
        ),
    )
    .hint("take the bucket's version, with a backup of this one: ALLOW_PRIMARY_PULL_OVERRIDE=1 membridge pull_sqlite")
    .hint("overwrite the bucket with this one (a copy of the bucket's is kept there): FORCE_PUSH=1 membridge push_sqlite")
}

/// A forced push over memories that are nowhere else leaves a copy of them in the bucket (F08).
async fn keep_what_is_overwritten(session: &Session, head: Option<&Head>) -> CommandResult {
    let Some(head) = head else { return Ok(()) };
    let kept = session.keys.overwritten(&head.sha256);
    if session.store.head(&session.keys.database()).await?.is_none() {
        return Ok(());
    }
    session.store.copy(&session.keys.database(), &kept).await?;
    session
        .ui
        .line(format!("      what is overwritten is kept as {kept}"));
    failpoint::reach("push.kept");
    Ok(())
}

fn conclude(
    session: &Session,
    record: &mut RecordFile,
    snapshot: Snapshot,
    done: Done,
) -> CommandResult<Report> {
    let Snapshot {
        facts,
        fingerprint,
        digests,
        ..
    } = snapshot;
    let base = |sha256: String| Base {
        sha256,
        digest: facts.digest.clone(),
        counts: facts.counts,
        fingerprint,
    };
    match done {
        Done::Uploaded => {
            record.record.last_push = Some(crate::storage::records::iso(session.context.now()));
            record.agree(base(digests.sha256.clone()))?;
            session
                .ui
                .line(format!("PUSH COMPLETE ({})", facts.counts.describe()));
            Ok(Report::ok("pushed")
                .with("observations", facts.counts.observations)
                .with("sha256", digests.sha256)
                .with("bytes", digests.size))
        }
        Done::UpToDate(head) => {
            record.agree(base(head.sha256))?;
            Ok(up_to_date(session, &facts.counts))
        }
        Done::NothingOfOurs(head) => {
            let there = head
                .observations()
                .map_or(String::new(), |count| format!(" with {count} observations"));
            session.ui.line(format!(
                "nothing of ours to push: the bucket is ahead{there} (pushed by {}); get it with: membridge pull_sqlite",
                head.source()
            ));
            Ok(Report::ok("remote_ahead").with("observations", facts.counts.observations))
        }
    }
}
