//! The story of a pull: look, decide, gate, fetch, quiesce, back up, replace, check, resume, record. Each step is
//! one call into the module that owns it. Killed at any instant, the database is the old one or the new one, whole.

use super::decide::situation;
use super::fetch;
use super::gate;
use super::plan::{self, Local, Pull, Remote, Situation};
use super::record::{Pending, RecordFile};
use super::replace;
use super::rows;
use super::session::Session;
use super::unchanged::base_of;
use super::words;
use crate::database::Facts;
use crate::database::compare::Comparison;
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::install::Image;
use crate::leadership::Role;
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

/// What was decided, and on what grounds.
pub(super) struct Decision {
    pub(super) plan: Pull,
    pub(super) comparison: Option<Comparison>,
    /// Fetched already, where the decision needed it.
    image: Option<Image>,
    /// What the local database held when the decision was made.
    pub(super) local: Option<Facts>,
}

/// Brings the bucket's memory here, when it has something that we lack and nothing of ours would be lost.
///
/// # Errors
/// Refusals with their exit codes, and whatever failed; the local database is then as it was.
pub async fn pull(session: &Session, record: &mut RecordFile) -> CommandResult<Report> {
    let site = Site::of(&session.config);
    gate::store_is_ours_to_sync(&site)?;
    let head = head::read(&session.bucket, record.record.knows()).await?;
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
            session.ui.step("2/7", "Leadership: not asked, there is no local database");
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
        None => fetch::image(session, &head, session.admits().await?).await?,
    };
    session.ui.step(
        "3/7",
        format!("Fetched and checked: {} ({})", image.facts.counts.describe(), human_bytes(image.size)),
    );
    let version = worker::local_version(&session.config, &worker::probe(&session.config).await);
    let local_schema = decision.local.as_ref().and_then(|facts| facts.schema_version);
    gate::schema(image.facts.schema_version, head.claude_mem_version(), version.as_deref(), local_schema)?;
    // From here on the database changes hands: a signal waits until it is whole again.
    let _critical = session.bucket.context.critical();
    match decision.plan {
        Pull::Install => replace::install_first(session, record, &head, image).await,
        _ => replace::replace(session, record, &head, image, &decision).await,
    }
}

/// Reads both sides as cheaply as possible and decides.
async fn decide(session: &Session, record: &RecordFile, head: Option<&Head>) -> CommandResult<Decision> {
    let quick = |plan| Decision { plan, comparison: None, image: None, local: None };
    if !session.database.exists() {
        let remote = if head.is_some() { Remote::Unknown } else { Remote::Absent };
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
    let base = record.record.base_for(head.sha256());
    if let Some(base) = &base
        && head.is(&base.sha256)
        && session.untouched(base)
    {
        return Ok(quick(Pull::UpToDate));
    }
    let local = session.read_local().await?;
    let mut situation = situation(session, base.as_ref(), &local.facts, Some(head)).await?;
    let mut decision = Decision { plan: plan::pull(situation), comparison: None, image: None, local: None };
    if decision.plan == Pull::Compare {
        session.ui.line(rows::WHY);
        let image = fetch::image(session, head, session.admits().await?).await?;
        situation.same_content = image.facts.digest == local.facts.digest;
        let rows = rows::compare(session, &image.path).await?;
        situation.relation = Some(rows.relation());
        decision =
            Decision { plan: plan::pull(situation), comparison: Some(rows), image: Some(image), local: None };
    }
    decision.local = Some(local.facts);
    Ok(decision)
}

fn nothing_there(session: &Session) -> Failure {
    Failure::of(
        Code::NothingThere,
        format!(
            "nothing to pull: {} holds no database for project {} ({})",
            session.bucket.store.name(),
            session.config.project.name,
            session.config.project.cid
        ),
    )
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
        None => record.record.base.as_ref().map(|base| base.counts).unwrap_or_default(),
        Some(facts) => {
            // The record was missing or behind: both sides agree now.
            record.agree(base_of(head, &facts, None))?;
            facts.counts
        }
    };
    session.ui.line(format!("already up to date ({})", counts.describe()));
    Ok(Report::ok(Outcome::UpToDate).with("observations", counts.observations))
}

fn local_ahead(session: &Session, record: &mut RecordFile, decision: &Decision) -> CommandResult<Report> {
    if record.record.pending == Some(Pending::Pull) {
        // The pull that was cut off is over, whichever way it went.
        record.record.pending = None;
        record.record.base = None;
        record.save()?;
    }
    let counts = decision.local.as_ref().map(|facts| facts.counts).unwrap_or_default();
    session.ui.line(format!(
        "nothing to pull: the local database has unpushed rows ({}); send them with: membridge push_sqlite",
        counts.describe()
    ));
    Ok(Report::ok(Outcome::LocalAhead).with("observations", counts.observations))
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
    let here = decision.local.as_ref().map(|facts| facts.counts).unwrap_or_default();
    Err(words::diverged(&here, head, decision.comparison.as_ref()))
}

fn describe(head: &Head) -> String {
    let (Some(host), Some(time)) = (head.host(), head.time()) else {
        return "a database without a manifest".to_owned();
    };
    let count = head.observations().map_or("an unknown number of".to_owned(), |count| count.to_string());
    format!("{count} observations, pushed by {host} at {time}")
}
