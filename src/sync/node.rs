//! This machine's record in the bucket: what it holds, how far it has collected, how its last sync went. Others see by it
//! that there is something new; people see by it who is behind. Says what the others steps found out; asks nothing itself.

use super::exchange::Exchanged;
use super::gate::Standing;
use super::session::Session;
use super::wish::Wish;
use crate::error::CommandResult;
use crate::rows;
use crate::rows::log::RowLog;
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
    at: &rows::Standing,
) -> CommandResult {
    let Some(writer) = at.writer.map(|writer| writer.to_string()) else {
        return Ok(());
    };
    let log = RowLog::new(&session.bucket, &session.config.paths.tmp());
    let published = at.segment > done.standing.segment || done.published.segments > 0 || done.begun.finished;
    let before = match log.node(&writer).await {
        Ok(found) => found.map(|(record, _)| record),
        // Ours, and of no use to anybody: it is written anew.
        Err(error) if error.is_damage() => None,
        Err(error) => return Err(error.into()),
    };
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
        last: at.segment,
        folds: at.folds.clone(),
        seen: at.seen.iter().map(|(writer, number)| (writer.to_string(), *number)).collect(),
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
        waiting: at.waiting.values().sum(),
        held: at.held.total(),
        ..before.unwrap_or_default()
    };
    log.put_node(&NodeRecord { writer, ..record }).await?;
    Ok(())
}
