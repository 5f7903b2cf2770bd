//! This machine's record in the bucket: what it holds, how far it has collected, how its last sync went. Others see by it
//! that there is something new; people see by it who is behind. Says what the others steps found out; asks nothing itself.

use super::gate::Standing;
use super::session::Session;
use super::wish::Wish;
use crate::error::CommandResult;
use crate::fleet::presence::agent_url;
use crate::rows::Rows;
use crate::rows::node::{LastSync, NodeRecord, SCHEMA};
use crate::storage::records::iso;

/// A record that says nothing new is written again after this long (seconds), so that others see when we were last here.
const AT_MOST_EVERY: i64 = 900;

/// Writes the record where the bucket has a segment of ours that others do not know of yet: before anything is built on it.
/// A machine that was killed in between does so at its next sync.
pub(super) async fn announce(session: &Session, rows: &mut Rows<'_>) -> CommandResult {
    if is_announced(rows)? { Ok(()) } else { put(session, None, rows).await }
}

/// Writes the record where it is due: what `announce` left, else now and then; and after a command that somebody typed as soon
/// as it says something new.
pub(super) async fn keep(
    session: &Session,
    wish: Wish,
    standing: Option<&Standing>,
    rows: &mut Rows<'_>,
) -> CommandResult {
    let now = session.bucket.context.server_now();
    let young = (rows.last_node()?.as_ref().and_then(NodeRecord::at))
        .is_some_and(|at| (0..AT_MOST_EVERY).contains(&(now.as_second() - at)));
    if young && is_announced(rows)? && !(wish.is_typed() && is_news(session, rows, standing)?) {
        return Ok(());
    }
    put(session, standing, rows).await
}

fn is_announced(rows: &Rows<'_>) -> CommandResult<bool> {
    let at = rows.standing()?;
    Ok(match rows.last_node()? {
        Some(record) => record.last == at.segment && record.folds == at.folds,
        None => at.segment == 0,
    })
}

/// Whether a record of now would say something else of what was collected, what waits, what is held, of the role and the agent.
fn is_news(session: &Session, rows: &Rows<'_>, standing: Option<&Standing>) -> CommandResult<bool> {
    let at = rows.standing()?;
    let Some(record) = rows.last_node()? else {
        return Ok(true);
    };
    let seen = at.seen.iter().map(|(writer, number)| (writer.to_string(), *number));
    Ok(!record.seen.iter().map(|(writer, number)| (writer.clone(), *number)).eq(seen)
        || record.waiting != at.waiting.values().sum::<u64>()
        || record.held != at.held.total()
        || record.agent_url != agent_url(&session.config.paths.state)
        || standing.is_some_and(|standing| standing.role.to_string() != record.role))
}

async fn put(session: &Session, standing: Option<&Standing>, rows: &mut Rows<'_>) -> CommandResult {
    let (before, now) = (rows.last_node()?, session.bucket.context.server_now());
    let facts = session.facts_for_people().await?;
    let record = NodeRecord {
        schema: SCHEMA,
        time: iso(now),
        node_id: session.config.node.id.clone(),
        host: session.config.node.host.clone(),
        membridge_version: env!("CARGO_PKG_VERSION").to_owned(),
        claude_mem_version: facts.claude_mem,
        schema_version: facts.schema,
        arch: std::env::consts::ARCH.to_owned(),
        os: std::env::consts::OS.to_owned(),
        counts: facts.counts,
        role: standing.map_or_else(
            || before.as_ref().map(|record| record.role.clone()).unwrap_or_default(),
            |standing| standing.role.to_string(),
        ),
        configured_primary: session.config.leadership.primary.clone(),
        agent_url: agent_url(&session.config.paths.state),
        last_sync: Some(LastSync { time: iso(now), outcome: "ok".to_owned() }),
        ..before.unwrap_or_default()
    };
    Ok(rows.put_node(record).await?)
}
