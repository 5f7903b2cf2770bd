//! A machine without a database: the newest image of the archive, or what a Python node pushed, becomes its first one.
//! Rows follow by the log.

use super::fetch;
use super::gate;
use super::record::RecordFile;
use super::session::Session;
use super::wish::Wish;
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::install::{Incoming, Installed, Steps, Why};
use crate::outcome::Outcome;
use crate::python::head::{self, Head};
use crate::ui::{Report, human_bytes};
use crate::worker;

/// What came of it.
pub(super) enum First {
    /// There is a database now.
    Installed(Installed),
    /// The bucket has none either.
    NothingThere,
}

/// Installs the first database; `seen`: the bucket's head, where it was looked at already.
pub(super) async fn install(
    session: &Session,
    record: &RecordFile,
    seen: Option<Head>,
) -> CommandResult<First> {
    let head = match seen {
        Some(head) => Some(head),
        None => head::read(&session.bucket, record.record.knows()).await?,
    };
    let Some(head) = head else {
        return Ok(First::NothingThere);
    };
    let ui = &session.ui;
    let mut image = fetch::image(session, &head, session.admits().await?).await?;
    let size = human_bytes(image.size);
    ui.step("3/7", format!("Fetched and checked: {} ({size})", image.facts.counts.describe()));
    let version = worker::local_version(&session.config, &worker::probe(&session.config).await);
    gate::schema(image.facts.schema_version, head.claude_mem_version(), version.as_deref(), None)?;
    // From here on a signal waits until the database is whole.
    let _critical = session.bucket.context.critical();
    let map = image.map.take();
    let incoming = Incoming { image, why: Why::First, only_over: None, base: None };
    let installed = session.door(Steps { first: 4, of: 7 }).install(incoming).await?;
    failpoint::reach("sync.placed");
    ui.step("6/7", format!("Installed: {}", session.database.display()));
    if let Some(map) = map
        && let Err(error) = map.keep(&session.page_map)
    {
        tracing::warn!(%error, "the next archive will be a full one");
    }
    Ok(First::Installed(installed))
}

/// Neither side has memory.
pub(super) fn nothing(session: &Session, wish: Wish) -> CommandResult<Report> {
    if !matches!(wish, Wish::Pull | Wish::Push) {
        session.ui.line("nothing to sync yet: no database here, none in the bucket");
        return Ok(Report::ok(Outcome::NothingToSync));
    }
    Err(Failure::of(
        Code::NothingThere,
        format!(
            "nothing to pull: {} holds no database for project {} ({})",
            session.bucket.store.name(),
            session.config.project.name,
            session.config.project.cid
        ),
    )
    .hint("push from the machine that has the memory: membridge push_sqlite")
    .hint("check CLAUDE_PROJECT_ID: membridge print_project"))
}
