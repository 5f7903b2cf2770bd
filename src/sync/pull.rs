//! The story of a pull: look, decide, gate, fetch, quiesce, back up, replace, check, resume, record. Each step is
//! one call into the module that owns it. Killed at any instant, the database is the old one or the new one, whole.

use std::path::{Path, PathBuf};

use super::backups::{self, Backup, BackupManifest};
use super::fetch::{self, Image};
use super::gate;
use super::plan::{self, Local, Pull, Remote, Situation};
use super::push::situation;
use super::record::{Base, Pending, RecordFile};
use super::remote::{self, Head};
use super::session::Session;
use crate::database::compare::{self, Comparison};
use crate::database::files;
use crate::database::install::{self, Swapped};
use crate::database::{self, Counts, Facts};
use crate::error::{CommandResult, Failure};
use crate::exit::ExitCode;
use crate::failpoint;
use crate::leadership::Role;
use crate::storage::records;
use crate::ui::{Report, human_bytes};
use crate::worker::find::Site;
use crate::worker::{self, Quiesced, WorkerError};

/// What was decided, and on what grounds.
struct Decision {
    plan: Pull,
    comparison: Option<Comparison>,
    /// Fetched already, where the decision needed it.
    image: Option<Image>,
    /// What the local database held when the decision was made.
    local: Option<Facts>,
}

/// Brings the bucket's memory here, when it has something that we lack and nothing of ours would be lost.
///
/// # Errors
/// Refusals with their exit codes, and whatever failed; the local database is then as it was.
pub async fn pull(session: &Session, record: &mut RecordFile) -> CommandResult<Report> {
    let site = Site::of(&session.config);
    gate::store_is_ours_to_sync(&site)?;
    let head = remote::read(&session.store, &session.keys).await?;
    let mut decision = decide(session, record, head.as_ref()).await?;
    let Some(head) = head.filter(|_| decision.plan != Pull::NothingThere) else {
        return Err(nothing_there(session));
    };
    match decision.plan {
        Pull::UpToDate => return up_to_date(session, record, &head, decision.local.take()),
        Pull::LocalAhead => return local_ahead(session, record, &decision),
        _ => {}
    }
    session.ui.step("1/7", format!("Remote: {}", describe(&head)));
    let role = match decision.plan {
        Pull::Install => {
            session
                .ui
                .step("2/7", "Leadership: not asked, there is no local database");
            None
        }
        _ => gate::pull_role(session).await?,
    };
    if decision.plan == Pull::Diverged {
        may_replace_diverged(session, role, &head, &decision)?;
    }
    failpoint::reach("pull.gated");
    let image = match decision.image.take() {
        Some(image) => image,
        None => fetch::image(session, &head).await?,
    };
    session.ui.step(
        "3/7",
        format!(
            "Fetched and checked: {} ({})",
            image.facts.counts.describe(),
            human_bytes(image.size)
        ),
    );
    let version = worker::local_version(&session.config, &worker::probe(&session.config).await);
    let local_schema = decision.local.as_ref().and_then(|facts| facts.schema_version);
    gate::schema(&image.facts, &head, version.as_deref(), local_schema)?;
    // From here on the database changes hands: a signal waits until it is whole again.
    let _critical = session.context.critical();
    match decision.plan {
        Pull::Install => install_first(session, record, &head, image).await,
        _ => replace(session, record, &head, image, &decision).await,
    }
}

/// Reads both sides as cheaply as possible and decides.
async fn decide(session: &Session, record: &RecordFile, head: Option<&Head>) -> CommandResult<Decision> {
    let quick = |plan| Decision {
        plan,
        comparison: None,
        image: None,
        local: None,
    };
    if !session.database.exists() {
        let remote = if head.is_some() {
            Remote::Unknown
        } else {
            Remote::Absent
        };
        return Ok(quick(plan::pull(Situation {
            local: Local::Missing,
            remote,
            same_content: false,
            relation: None,
        })));
    }
    let Some(head) = head else {
        return Ok(quick(Pull::NothingThere));
    };
    let base = record.record.base_for(Some(&head.sha256));
    if let Some(base) = &base
        && base.sha256 == head.sha256
        && session.untouched(base)
    {
        return Ok(quick(Pull::UpToDate));
    }
    let local = session.read_local().await?;
    let mut situation = situation(base.as_ref(), &local.facts, Some(head));
    let mut decision = Decision {
        plan: plan::pull(situation),
        comparison: None,
        image: None,
        local: None,
    };
    if decision.plan == Pull::Compare {
        session
            .ui
            .line("no common history: the bucket's database is fetched once and compared row by row");
        let image = fetch::image(session, head).await?;
        situation.same_content = image.facts.digest == local.facts.digest;
        let (here, there) = (session.database.clone(), image.path.to_path_buf());
        let folder = session.config.paths.tmp();
        let rows = database::blocking(move || {
            let scratch = files::temporary(&folder, "compare")?;
            compare::compare(&here, &there, &scratch)
        })
        .await?;
        situation.relation = Some(rows.relation());
        decision = Decision {
            plan: plan::pull(situation),
            comparison: Some(rows),
            image: Some(image),
            local: None,
        };
    }
    decision.local = Some(local.facts);
    Ok(decision)
}

fn nothing_there(session: &Session) -> Failure {
    Failure::new(format!(
        "nothing to pull: {} holds no database for project {} ({})",
        session.store.name(),
        session.config.project.name,
        session.config.project.cid
    ))
    .hint("push from the machine that has the memory: membridge push_sqlite")
    .hint("check CLAUDE_PROJECT_ID: membridge print_project")
}

fn up_to_date(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    local: Option<Facts>,
) -> CommandResult<Report> {
    let counts = match local {
        None => record
            .record
            .base
            .as_ref()
            .map(|base| base.counts)
            .unwrap_or_default(),
        Some(facts) => {
            // The record was missing or behind: both sides agree now.
            let fingerprint = None;
            record.agree(Base {
                sha256: head.sha256.clone(),
                digest: facts.digest,
                counts: facts.counts,
                fingerprint,
            })?;
            facts.counts
        }
    };
    session
        .ui
        .line(format!("already up to date ({})", counts.describe()));
    Ok(Report::ok("up_to_date").with("observations", counts.observations))
}

fn local_ahead(session: &Session, record: &mut RecordFile, decision: &Decision) -> CommandResult<Report> {
    if record.record.pending == Some(Pending::Pull) {
        // The pull that was cut off is over, whichever way it went.
        record.record.pending = None;
        record.record.base = None;
        record.save()?;
    }
    let counts = decision
        .local
        .as_ref()
        .map(|facts| facts.counts)
        .unwrap_or_default();
    session.ui.line(format!(
        "nothing to pull: the local database has unpushed rows ({}); send them with: membridge push_sqlite",
        counts.describe()
    ));
    Ok(Report::ok("local_ahead").with("observations", counts.observations))
}

/// Both sides have memories that the other lacks. A secondary may replace its own after a backup; a primary only
/// when it is told to; without roles nobody can say whose version counts.
fn may_replace_diverged(
    session: &Session,
    role: Option<Role>,
    head: &Head,
    decision: &Decision,
) -> CommandResult {
    if role == Some(Role::Secondary) || session.config.overrides.primary_pull {
        return Ok(());
    }
    let here = decision
        .local
        .as_ref()
        .map(|facts| facts.counts)
        .unwrap_or_default();
    Err(Failure::with_exit(
        ExitCode::Diverged,
        format!(
            "diverged: {} observations here, {} in the bucket{}",
            here.observations,
            head.observations()
                .map_or("an unknown number of".to_owned(), |count| count.to_string()),
            only(decision.comparison.as_ref())
        ),
    )
    .hint("take the bucket's version, after a backup: ALLOW_PRIMARY_PULL_OVERRIDE=1 membridge pull_sqlite")
    .hint("overwrite the bucket with this one: FORCE_PUSH=1 membridge push_sqlite"))
}

fn only(comparison: Option<&Comparison>) -> String {
    comparison.map_or(String::new(), |rows| {
        format!(
            "; only here: {}; only there: {}",
            rows.describe(|table| table.only_here),
            rows.describe(|table| table.only_there)
        )
    })
}

fn describe(head: &Head) -> String {
    let Some(manifest) = &head.manifest else {
        return "a database without a manifest".to_owned();
    };
    let count = manifest
        .observations
        .map_or("an unknown number of".to_owned(), |count| count.to_string());
    format!(
        "{count} observations, pushed by {} at {}",
        manifest.source_host, manifest.timestamp
    )
}

/// No database here yet (F36).
async fn install_first(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
) -> CommandResult<Report> {
    record.begin(Pending::Pull)?;
    let live = session.database.clone();
    let aside = session
        .config
        .paths
        .state
        .join("orphans")
        .join(session.context.now().as_second().to_string());
    let Image { path, facts, .. } = image;
    database::blocking(move || install::place(path, &live, &aside)).await?;
    failpoint::reach("pull.placed");
    session
        .ui
        .step("6/7", format!("Installed: {}", session.database.display()));
    finish(session, record, head, &facts.digest, facts.counts, None)
}

/// Replaces the database that is here.
async fn replace(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: Image,
    decision: &Decision,
) -> CommandResult<Report> {
    let plan = decision.plan;
    let quiesced = worker::quiesce(&session.config, &session.context).await?;
    let restart = !session.config.worker.leave_stopped;
    session.ui.step(
        "4/7",
        if quiesced.was_running.is_some() {
            "Worker: stopped"
        } else {
            "Worker: not running"
        },
    );
    failpoint::reach("pull.quiesced");
    let end = exchange(session, record, head, &image, plan, decision.local.as_ref()).await;
    let (backup, swapped) = match end {
        Ok(done) => done,
        Err(failure) => {
            // Nothing was changed; the worker goes on as before.
            resume(session, quiesced, restart).await;
            return Err(failure);
        }
    };
    if swapped.queue_left > 0 {
        session.ui.warn(format!(
            "{} queued events of unknown sessions are in the backup only",
            swapped.queue_left
        ));
    }
    failpoint::reach("pull.replaced");
    let facts = restart_or_roll_back(session, quiesced, restart, &image, &backup).await?;
    failpoint::reach("pull.resumed");
    if plan == Pull::Diverged {
        session.ui.warn(format!(
            "the local database had memories that the bucket lacks{}; they are in {}",
            only(decision.comparison.as_ref()),
            backup.display()
        ));
        session.ui.line(format!(
            "  → put it back with: membridge restore-backup {}",
            backup
                .parent()
                .and_then(Path::file_name)
                .unwrap_or_default()
                .to_string_lossy()
        ));
    }
    backups::retain(
        &session.config.paths.pull_backups(),
        session.config.backups,
        session.context.now(),
    );
    finish(
        session,
        record,
        head,
        &image.facts.digest,
        facts.counts,
        Some(&backup),
    )
}

/// Backs up and replaces, under one write lock.
pub(super) async fn exchange(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    image: &Image,
    plan: Pull,
    decided_on: Option<&Facts>,
) -> CommandResult<(PathBuf, Swapped)> {
    record.begin(Pending::Pull)?;
    failpoint::reach("pull.before-swap");
    let backup = Backup::begin(&session.config.paths.pull_backups(), session.context.now())?;
    let target = backup.database()?;
    let (live, new, copy) = (session.database.clone(), image.path.to_path_buf(), target.clone());
    let progress = session.ui.progress("replace", image.size);
    // A fast-forward was decided about rows that both sides know; a worker may have written since.
    let strict = plan == Pull::FastForward;
    let known = decided_on.map(|facts| facts.digest.clone());
    let swapped = database::blocking(move || {
        let approve =
            |old: &Facts| !strict || known.is_none() || known.as_deref() == Some(old.digest.as_str());
        let swapped = install::swap(&live, &new, &copy, approve, &progress);
        progress.done();
        swapped
    })
    .await;
    let swapped = match swapped {
        Ok(swapped) if swapped.replaced => swapped,
        Ok(_) => {
            backup.discard();
            clear_pending(record)?;
            return Err(Failure::new(
                "new memories were recorded here while the pull was prepared; nothing was replaced",
            )
            .hint("try again: membridge pull_sqlite"));
        }
        Err(failure) => {
            backup.discard();
            clear_pending(record)?;
            return Err(failure);
        }
    };
    describe_backup(session, &backup, &target, head, &swapped.old, image, plan)?;
    session.ui.step(
        "5/7",
        format!("Backup: {} ({})", target.display(), swapped.old.counts.describe()),
    );
    session
        .ui
        .step("6/7", format!("Replaced: {}", image.facts.counts.describe()));
    Ok((target, swapped))
}

fn clear_pending(record: &mut RecordFile) -> CommandResult {
    record.record.pending = None;
    Ok(record.save()?)
}

fn describe_backup(
    session: &Session,
    backup: &Backup,
    database: &Path,
    head: &Head,
    old: &Facts,
    image: &Image,
    plan: Pull,
) -> CommandResult {
    let digests = crate::storage::Digests::of_file(database)
        .map_err(|error| database::DatabaseError::io("read", database, error))?;
    backup.add_vectors(
        &session
            .config
            .paths
            .home
            .join(".claude-mem/vector-db/chroma.sqlite3"),
    );
    backup.describe(&BackupManifest {
        timestamp: records::iso(session.context.now()),
        hostname: session.config.node.host.clone(),
        reason: "pull-overwrite safety backup".to_owned(),
        local_sha: digests.sha256,
        remote_sha: head.sha256.clone(),
        local_obs: old.counts.observations,
        remote_obs: Some(image.facts.counts.observations),
        local_ahead: plan == Pull::Diverged,
        db_path: session.database.display().to_string(),
    })?;
    Ok(())
}

/// Looks whether what is in place is good, lets the worker go on, and puts the backup back when either fails (F09).
pub(super) async fn restart_or_roll_back(
    session: &Session,
    quiesced: Quiesced,
    restart: bool,
    image: &Image,
    backup: &Path,
) -> CommandResult<Facts> {
    let (live, new, wanted) = (
        session.database.clone(),
        image.path.to_path_buf(),
        image.facts.clone(),
    );
    let folder = session.config.paths.tmp();
    let checked = database::blocking(move || {
        failpoint::reach("pull.check");
        let scratch = files::temporary(&folder, "check")?;
        install::check(&live, &new, &wanted, &scratch)
    })
    .await;
    let facts = match checked {
        Ok(facts) => facts,
        Err(failure) => {
            let back = roll_back(session, backup).await;
            resume(session, quiesced, restart).await;
            return Err(rolled_back(&failure, back, backup));
        }
    };
    match quiesced.resume(restart).await {
        Ok(resumed) if resumed.restarted => {
            session.ui.step("7/7", "Worker: running again");
            Ok(facts)
        }
        Ok(_) => {
            session.ui.step("7/7", "Worker: left as it is");
            Ok(facts)
        }
        // A worker that could not even be started says nothing about the database.
        Err(error @ WorkerError::NotReady { .. }) => {
            let again = worker::quiesce(&session.config, &session.context).await;
            let back = roll_back(session, backup).await;
            if let Ok(quiesced) = again {
                resume(session, quiesced, restart).await;
            }
            Err(rolled_back(&Failure::from(error), back, backup))
        }
        Err(error) => {
            session.ui.warn(format!("{error}: {}", error.hint()));
            Ok(facts)
        }
    }
}

async fn roll_back(session: &Session, backup: &Path) -> CommandResult {
    let (from, live) = (backup.to_owned(), session.database.clone());
    database::blocking(move || install::put_back(&from, &live)).await
}

fn rolled_back(why: &Failure, back: CommandResult, backup: &Path) -> Failure {
    match back {
        Ok(()) => Failure::new(format!("{why}; the old database was put back"))
            .hint("look into the worker's log, then try again: membridge pull_sqlite"),
        Err(failure) => Failure::new(format!(
            "{why}; the old database could not be put back: {failure}"
        ))
        .hint(format!("it is whole in {}", backup.display())),
    }
}

/// Lets the worker go on after a failure; its own trouble is only reported.
pub(super) async fn resume(session: &Session, quiesced: Quiesced, restart: bool) {
    if let Err(error) = quiesced.resume(restart).await {
        session.ui.warn(format!("{error}: {}", error.hint()));
    }
}

fn finish(
    session: &Session,
    record: &mut RecordFile,
    head: &Head,
    digest: &str,
    counts: Counts,
    backup: Option<&Path>,
) -> CommandResult<Report> {
    record.record.last_pull = Some(records::iso(session.context.now()));
    record.agree(Base {
        sha256: head.sha256.clone(),
        digest: digest.to_owned(),
        counts,
        // The files were written a moment ago: the next look reads the content once and then trusts them.
        fingerprint: None,
    })?;
    session.ui.line(format!("SYNC COMPLETE ({})", counts.describe()));
    let report = Report::ok("pulled")
        .with("observations", counts.observations)
        .with("sha256", head.sha256.clone());
    Ok(match backup {
        Some(path) => report.with("backup", path.display().to_string()),
        None => report,
    })
}
