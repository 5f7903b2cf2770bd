//! A machine without a database: the newest image of the archive, or what a Python node pushed, becomes its first one.
//! Rows follow by the log.

use super::gate;
use super::record::RecordFile;
use super::session::Session;
use super::wish::{Stage, Wish};
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::install::image::{self, Image};
use crate::install::{Installed, Steps};
use crate::outcome::Outcome;
use crate::python::head::{self, Foreign, Head};
use crate::python::object;
use crate::ui::{Report, human_bytes};
use crate::worker;
use crate::worker::find::Site;

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
    wish: Wish,
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
    let mut image = fetch(session, &head).await?;
    let size = human_bytes(image.size);
    ui.step(
        Stage::Fetched.label(wish),
        format!("Fetched and checked: {} ({size})", image.facts.counts.describe()),
    );
    let version = worker::local_version(&session.config, &worker::probe(&session.config).await);
    gate::schema(image.facts.schema_version, head.claude_mem_version(), version.as_deref(), None)?;
    // From here on a signal waits until the database is whole.
    let _critical = session.bucket.context.critical();
    let map = image.map.take();
    if session.rehearsal.is_none() {
        let kept = Site::of(&session.config).keep_projects(session.bucket.context.now());
        kept.map_err(|error| {
            Failure::of(Code::LocalFile, format!("cannot write into claude-mem's data directory: {error}"))
        })?;
    }
    let installed = session.door(Steps { first: 4, of: 7 }).place(image).await?;
    failpoint::reach("sync.placed");
    ui.step(Stage::Installed.label(wish), format!("Installed: {}", session.database.display()));
    if let Some(map) = map
        && let Err(error) = map.keep(&session.page_map)
    {
        tracing::warn!(%error, "the next archive will be a full one");
    }
    Ok(First::Installed(installed))
}

/// Fetches and checks the newest memory.
async fn fetch(session: &Session, head: &Head) -> CommandResult<Image> {
    let landing = session.landing(session.admits().await?);
    let commit = match head {
        Head::Commit(head) => &head.commit,
        Head::Foreign(Foreign { announced: None, .. }) => return Err(unannounced(session)),
        Head::Foreign(_) => return object::download(&landing, head.announced()).await,
    };
    match image::of_commit(&landing, commit, true).await {
        Ok(image) => Ok(image),
        // The mirror for Python nodes is another copy of the same rows.
        Err(error) if error.is_damage() && head.mirrored() => {
            session.ui.warn(format!("{error}; the copy for Python nodes is used instead"));
            let copy = object::download(&landing, head.announced()).await?;
            Ok(Image { sha256: Some(commit.sha256), ..copy })
        }
        Err(error) => Err(error.into()),
    }
}

fn unannounced(session: &Session) -> Failure {
    Failure::of(Code::BadObject, format!(
        "{} is at {}, but nothing announces it: somebody is pushing, or the push of a Python node was cut off",
        session.bucket.keys.database(),
        session.bucket.store.name()
    ))
    .hint("try again in a minute; when it stays so, push again from the machine that pushed it")
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
