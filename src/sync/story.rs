//! A sync from top to bottom: finish what was begun, collect, scan, publish, archive. Each step is one call into the module
//! that owns it. It starts over when another machine took the archive's next number, and when our state turned out to be a
//! copy of somebody else's.

use std::mem;

use super::archive::{self, Archived};
use super::exchange::{self, Exchanged, Heard, Moment};
use super::first::{self, First};
use super::gate::{self, Standing};
use super::record::RecordFile;
use super::session::Session;
use super::told::Told;
use super::wish::{Stage, Wish};
use crate::database::DatabaseError;
use crate::error::{Code, CommandResult, Failure};
use crate::failpoint;
use crate::leadership::Role;
use crate::python::Head;
use crate::rows::Rows;
use crate::ui::Report;
use crate::worker::find::Site;

/// How often a sync that others overtake starts again.
const ATTEMPTS: u32 = 3;

/// Makes this machine's memory and that of the others one, as far as the wish goes.
///
/// # Errors
/// Refusals with their exit codes, after rows have been exchanged, and whatever failed. Memory is never lost: what was
/// exchanged stays, and the rest is found again by the next sync.
pub async fn sync(session: &Session, record: &mut RecordFile, wish: Wish) -> CommandResult<Report> {
    gate::store_is_ours_to_sync(&Site::of(&session.config))?;
    let asked = async { Ok(exchange::ask_ahead(session, wish).await) };
    let (nodes, ahead) = tokio::try_join!(gate::store_is_known(session), asked)?;
    let mut heard = Heard { nodes: Some(nodes), ahead };
    let mut told = Told::new(session, wish);
    let image = match wish {
        Wish::Pull => archive::look(session, record, wish).await?,
        _ => None,
    };
    if let Some(head) = &image {
        let clock = session.bucket.context.clock();
        session.ui.step(Stage::Remote.label(wish), format!("Remote: {}", head.describe(&clock)));
    } else if wish == Wish::Pull && heard.nodes.as_ref().is_some_and(Vec::is_empty) {
        return first::nothing(session, wish);
    }
    gate::meet_store(session).await?;
    // A role that cannot be found out stops the archive (F06, F07), never the exchange of rows.
    let mut role = match wish {
        Wish::Start | Wish::Turn => Some(Ok(None)),
        _ => Some(gate::role(session, wish).await),
    };
    failpoint::reach("sync.gated");
    if wish == Wish::Push {
        let text = format!("Local database: {}", session.database.display());
        session.ui.step(Stage::Local.label(wish), text);
    }
    let own = session.has_database();
    if !own {
        if wish == Wish::Push {
            return Err(DatabaseError::Missing(session.database.clone()).into());
        }
        match first::install(session, record, wish, image.clone()).await? {
            First::Installed(installed) => told.installed(installed),
            First::NothingThere => return first::nothing(session, wish),
        }
    }
    let mut rows = exchange::open(session).await?;
    let mut standing = None;
    for _ in 0..ATTEMPTS {
        let tell = |moment: Moment<'_>| told.hears(&moment);
        let exchanged = exchange::rows(session, &mut rows, wish, (mem::take(&mut heard), own), tell).await?;
        told.exchanged(&exchanged);
        note(session, record, &exchanged)?;
        if let Some(role) = role.take() {
            standing = role?;
        }
        let archived = if exchanged.postponed {
            Archived::NotDue
        } else {
            archived(session, record, wish, &mut rows, &mut standing, &mut told).await?
        };
        if !matches!(archived, Archived::Overtaken) {
            exchange::close(session, &mut rows, wish, standing.as_ref()).await;
            return told.conclude(record, standing.as_ref(), image.as_ref(), archived, &exchanged).await;
        }
        session.ui.line("another machine archived first: looking again");
    }
    Err(Failure::of(Code::Contended, format!("other machines archived first in each of {ATTEMPTS} attempts"))
        .hint("try again: membridge sync"))
}

/// What later syncs go by: observations that went because somebody meant it, here or elsewhere, and since when rows wait for
/// the end of a session.
fn note(session: &Session, record: &mut RecordFile, exchanged: &Exchanged) -> CommandResult {
    let accepted = if session.accept_deletions { exchanged.scanned.deleted.observations() } else { 0 };
    let now = session.bucket.context.server_now().as_second();
    let since = record.record.postponed_at.unwrap_or(now);
    record.record.postponed_at = exchanged.postponed.then_some(since);
    if accepted > 0 {
        record.let_go(accepted)?;
    }
    let elsewhere = exchanged.collected.deleted.observations();
    if elsewhere > 0 {
        record.hear_of_gone(now, elsewhere)?;
    }
    Ok(())
}

/// The archive's part, where it is due; what a Python node pushed comes first, because it is in it.
async fn archived(
    session: &Session,
    record: &mut RecordFile,
    wish: Wish,
    rows: &mut Rows<'_>,
    standing: &mut Option<Standing>,
    told: &mut Told<'_>,
) -> CommandResult<Archived> {
    let age = record.record.looked_at.map(|at| session.bucket.context.now().as_second().saturating_sub(at));
    let forced = session.config.overrides.force_push && wish.is_typed();
    let due = forced || wish.archiving(record.record.mirror_is_on()).is_due(age);
    let wrote =
        wish.publishes() && !due && wish != Wish::Pull && archive::python_wrote(session, record).await?;
    if !due && !wrote && wish != Wish::Pull {
        return Ok(Archived::NotDue);
    }
    let seen_at = session.bucket.context.uptime();
    let head = archive::look(session, record, wish).await?;
    if wish == Wish::Turn {
        *standing = gate::role(session, wish).await?;
    }
    let role = standing.as_ref().map(|standing| standing.role);
    let foreign = head.as_ref().filter(|head| matches!(head, Head::Foreign(_)));
    if let Some(foreign) = foreign
        && wish.takes_images(role, session.config.overrides.primary_pull)
    {
        match exchange::take_image(session, record, rows, (wish, foreign)).await? {
            Some(taken) => told.taken_in(taken),
            // An archive without it would take its place.
            None => return Ok(Archived::NotDue),
        }
    }
    if !session.config.rows.excluded.is_empty() {
        // An image is whole: it would take the excluded projects along. A secondary hears of its role all the same.
        let secondary = role == Some(Role::Secondary) && !session.config.overrides.secondary_push;
        return Ok(if secondary && wish == Wish::Push { Archived::NotOurs } else { Archived::Withheld });
    }
    let first = head.is_none();
    if !due && foreign.is_none() || wish == Wish::Pull && !first {
        return Ok(Archived::NotDue);
    }
    archive::make(session, record, wish, standing.as_ref(), &rows.standing()?, (head, seen_at)).await
}
