//! `--dry-run`: reads both sides, decides by the same rules as push and pull, and says what they would do. Takes no
//! lock, writes no lease, no probe, no record; its temporary files are gone when it ends.

use super::decide::situation;
use super::plan::{self, Local, Pull, Push, Remote, Situation};
use super::record::SyncRecord;
use super::session::Session;
use super::{gate, rows, words};
use crate::database::code::Admits;
use crate::database::compare::{self, Comparison};
use crate::database::{self, DatabaseError, Facts, files, look};
use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::leadership::{Role, Standing};
use crate::lock::Lock;
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// Both sides as they are, and what the decision rests on.
struct Looked {
    head: Option<Head>,
    situation: Situation,
    comparison: Option<Comparison>,
    /// What the local database holds; `None` where there is none.
    local: Option<Facts>,
    /// What the bucket's database holds, where it had to be fetched.
    image: Option<Facts>,
}

/// What a push would do now.
///
/// # Errors
/// The refusals of a push, with its exit codes, and whatever could not be read.
pub async fn push(session: &Session, record: Option<&SyncRecord>) -> CommandResult<Report> {
    gate::store_is_ours_to_sync(&Site::of(&session.config))?;
    let standing = standing(session, "0/6").await?;
    let epoch = match standing {
        Some(standing) => gate::judge_push(session, standing)?.epoch(),
        None => None,
    };
    let looked = both_sides(session, record).await?;
    let Some(local) = &looked.local else {
        return Err(DatabaseError::Missing(session.database.clone()).into());
    };
    let force = session.config.overrides.force_push;
    let head = looked.head.as_ref();
    let uploads = match (plan::push(looked.situation), head) {
        (Push::UpToDate, Some(head)) if !force && session.mirror(record).is_due(head).await? => {
            let what = "would bring the copy for Python nodes up to date";
            return Ok(
                done(session, Outcome::WouldPush, what).with("observations", local.counts.observations)
            );
        }
        (Push::UpToDate, _) if !force => return Ok(done(session, Outcome::UpToDate, "already up to date")),
        (Push::UpToDate, _) => "would write everything anew",
        (Push::NothingOfOurs, _) if !force => {
            let what = "nothing of ours to push: the bucket is ahead; get it with: membridge pull_sqlite";
            return Ok(done(session, Outcome::RemoteAhead, what));
        }
        (Push::Diverged, Some(head)) if !force => {
            return Err(words::diverged(&local.counts, head, looked.comparison.as_ref()));
        }
        (Push::Diverged | Push::NothingOfOurs, _) => {
            "would overwrite the bucket's memory and keep a copy of it there"
        }
        _ => "would upload",
    };
    gate::fence(epoch, head)?;
    gate::shrink(local.counts.observations, head, force)?;
    lock_is_free(session).await?;
    let size = human_bytes(files::size_with_wal(&session.database));
    let what = format!("{uploads}: {} (about {size})", local.counts.describe());
    Ok(done(session, Outcome::WouldPush, &what).with("observations", local.counts.observations))
}

/// What a pull would do now.
///
/// # Errors
/// The refusals of a pull, with its exit codes, and whatever could not be read.
pub async fn pull(session: &Session, record: Option<&SyncRecord>) -> CommandResult<Report> {
    gate::store_is_ours_to_sync(&Site::of(&session.config))?;
    let looked = both_sides(session, record).await?;
    let Some(head) = &looked.head else {
        return Err(Failure::of(
            Code::NothingThere,
            format!(
                "nothing to pull: {} holds no database for project {} ({})",
                session.bucket.store.name(),
                session.config.project.name,
                session.config.project.cid
            ),
        )
        .hint("check CLAUDE_PROJECT_ID: membridge print_project"));
    };
    let there = head.observations().map_or("an unknown number of".to_owned(), |count| count.to_string());
    let there = format!("{there} observations, pushed by {}", head.source());
    let plan = plan::pull(looked.situation);
    let text = match plan {
        Pull::UpToDate => return Ok(done(session, Outcome::UpToDate, "already up to date")),
        Pull::LocalAhead => {
            let what = "nothing to pull: the local database has unpushed rows; send them with: membridge push_sqlite";
            return Ok(done(session, Outcome::LocalAhead, what));
        }
        Pull::Install => format!("would install {} with {there}", session.database.display()),
        _ => format!("would back up {} and replace it by {there}", session.database.display()),
    };
    if plan != Pull::Install {
        let role = match standing(session, "2/7").await? {
            Some(standing) => Some(gate::judge_pull(session, &standing)?),
            None => None,
        };
        let allowed = role == Some(Role::Secondary) || session.config.overrides.primary_pull;
        if plan == Pull::Diverged && !allowed {
            let here = looked.local.as_ref().map(|facts| facts.counts).unwrap_or_default();
            return Err(words::diverged(&here, head, looked.comparison.as_ref()));
        }
    }
    schema_fits(session, &looked, head).await?;
    Ok(done(session, Outcome::WouldPull, &text).with("sha256", head.sha256()))
}

/// What a pull and then a push would do now.
///
/// # Errors
/// Those of both; a secondary's push is not one.
pub async fn sync(session: &Session, record: Option<&SyncRecord>) -> CommandResult<Report> {
    let pulled = match head::read(&session.bucket, record.map(SyncRecord::knows).unwrap_or_default()).await? {
        None => done(session, Outcome::NothingThere, "nothing to pull: the bucket holds nothing yet"),
        Some(_) => pull(session, record).await?,
    };
    let pulled = pulled.outcome;
    let pushed = if pulled == Outcome::WouldPull || !session.database.exists() {
        session.ui.line("push: nothing of ours would be left to send");
        Outcome::Nothing
    } else {
        match push(session, record).await {
            Ok(report) => report.outcome,
            Err(failure) if failure.exit == ExitCode::SecondaryRefusesPush => {
                session.ui.line(format!("not pushed: {}", failure.message));
                Outcome::RefusedSecondary
            }
            Err(failure) => return Err(failure),
        }
    };
    Ok(Report::ok(Outcome::WouldSync).with("dry_run", true).with("pulled", pulled).with("pushed", pushed))
}

fn done(session: &Session, outcome: Outcome, text: &str) -> Report {
    session.ui.line(format!("DRY RUN: {text}"));
    Report::ok(outcome).with("dry_run", true)
}

/// The role as the lease stands; what a real run would write first is only said.
async fn standing(session: &Session, step: &str) -> CommandResult<Option<Standing>> {
    if !session.config.leadership.enabled {
        session.ui.step(step, "Leadership: role=off (LEADERSHIP_ENABLED=0)");
        return Ok(None);
    }
    let standing = session.leadership().look().await?;
    if standing.lease.is_none() {
        session.ui.step(step, "Leadership: no lease yet; a real run would make one");
    }
    Ok(Some(standing))
}

async fn both_sides(session: &Session, record: Option<&SyncRecord>) -> CommandResult<Looked> {
    let head = head::read(&session.bucket, record.map(SyncRecord::knows).unwrap_or_default()).await?;
    if !session.database.exists() {
        let situation = Situation {
            local: Local::Missing,
            remote: if head.is_some() { Remote::Unknown } else { Remote::Absent },
            same_content: false,
            relation: None,
        };
        return Ok(Looked { head, situation, comparison: None, local: None, image: None });
    }
    let base = record.and_then(|record| record.base_for(head.as_ref().and_then(Head::sha256)));
    let path = session.database.clone();
    let read = move || look::look(&path, |connection| database::facts::read(connection, &path));
    let local = database::blocking(read).await?;
    let mut looked = Looked {
        situation: situation(session, base.as_ref(), &local, head.as_ref()).await?,
        head,
        comparison: None,
        local: Some(local),
        image: None,
    };
    if plan::push(looked.situation) == Push::Compare || plan::pull(looked.situation) == Pull::Compare {
        compare(session, &mut looked).await?;
    }
    Ok(looked)
}

/// The version gate of a pull. A push of a membridge node says its schema; that of a Python node is fetched and asked,
/// where this machine has anything to compare it with.
async fn schema_fits(session: &Session, looked: &Looked, head: &Head) -> CommandResult {
    let version = worker::local_version(&session.config, &worker::probe(&session.config).await);
    let local_schema = looked.local.as_ref().and_then(|facts| facts.schema_version);
    let schema = match (&looked.image, head.schema_version()) {
        (Some(image), _) => image.schema_version,
        (None, Some(schema)) => Some(schema),
        (None, None) if version.is_none() && local_schema.is_none() => None,
        (None, None) => {
            super::fetch::image(session, head, session.admits().await?).await?.facts.schema_version
        }
    };
    gate::schema(schema, head.claude_mem_version(), version.as_deref(), local_schema)
}

/// Fetches the bucket's database and compares it with ours row by row.
async fn compare(session: &Session, looked: &mut Looked) -> CommandResult {
    let (Some(head), Some(local)) = (&looked.head, &looked.local) else {
        return Ok(());
    };
    session.ui.line(rows::WHY);
    let image = super::fetch::image(session, head, Admits::Any).await?;
    looked.situation.same_content = image.facts.digest == local.digest;
    let (here, folder) = (session.database.clone(), session.config.paths.tmp());
    looked.image = Some(image.facts);
    let there = image.path;
    let rows = database::blocking(move || {
        look::look(&here, |connection| {
            let scratch = files::temporary(&folder, "compare")?;
            compare::compare_read(connection, &here, &there, &scratch)
        })
    })
    .await?;
    looked.situation.relation = Some(rows.relation());
    looked.comparison = Some(rows);
    Ok(())
}

async fn lock_is_free(session: &Session) -> CommandResult {
    let sight = Lock::look(&session.bucket).await?;
    if let Some(why) = session.lock().may_take(sight.as_ref())? {
        session.ui.line(format!("the lock would be taken over: {why}"));
    }
    Ok(())
}
