//! This machine's record in the bucket: what it holds, how far it has collected, how its last sync went. Others see by it
//! that there is something new; people see by it who is behind. Says what the others steps found out; asks nothing itself.

use super::exchange::Exchanged;
use super::gate::Standing;
use super::session::Session;
use super::wish::Wish;
use crate::error::CommandResult;
use crate::rows::Rows;
use crate::rows::node::{LastSync, NodeRecord, SCHEMA};
use crate::storage::records::iso;

/// A record that says nothing new is written again after this long (seconds), so that others see when we were last here.
const AT_MOST_EVERY: i64 = 900;

/// Writes the record where it is due: after each segment, else now and then.
pub(super) async fn keep(
    session: &Session,
    wish: Wish,
    standing: Option<&Standing>,
    done: &Exchanged,
    rows: &mut Rows<'_>,
) -> CommandResult {
    let at = rows.standing()?;
    let published = at.segment > done.standing.segment || done.published.segments > 0 || done.begun.finished;
    let before = rows.last_node()?;
    let now = session.bucket.context.server_now();
    let young = before
        .as_ref()
        .and_then(NodeRecord::at)
        .is_some_and(|at| (0..AT_MOST_EVERY).contains(&(now.as_second() - at)));
    if young && !published && !wish.is_typed() {
        return Ok(());
    }
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
        last_sync: Some(LastSync { time: iso(now), outcome: "ok".to_owned() }),
        ..before.unwrap_or_default()
    };
    Ok(rows.put_node(record).await?)
}
