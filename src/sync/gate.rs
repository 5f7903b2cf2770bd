//! Whether this machine may push or pull at all: role, epoch, Cloud Sync, schema, shrink guard. Each refusal says
//! what was found and what to type. Who has which role is decided by the leadership module.

use std::path::Path;

use super::session::Session;
use super::wish::{Stage, Wish};
use crate::error::{Code, CommandResult, Failure};
use crate::join::{self, Files, JoinError};
pub use crate::leadership::Standing;
use crate::python::Head;
use crate::rows::glance::announced;
use crate::rows::log::{ListedNode, Listing, RowLog};
use crate::rows::store_identity::{Standing as Known, StoreIdentity};
use crate::seal::{KeyId, MasterKey};
use crate::storage::Bucket;
use crate::worker::facts::{self, Gate};
use crate::worker::find::Site;
use crate::worker::settings;

/// Refuses where whole-file replacement and what the local claude-mem does itself do not mix.
///
/// # Errors
/// Built-in Cloud Sync is on, or SQLite is not claude-mem's store.
pub fn store_is_ours_to_sync(site: &Site) -> CommandResult {
    match settings::refusal(&site.settings) {
        None => Ok(()),
        Some(refusal) => Err(Failure::of(Code::Worker, refusal.to_string()).hint(refusal.hint())),
    }
}

/// Whether the store is the one that this machine has synced with: an unmounted disk, an emptied or a replaced bucket must
/// not be started anew by whoever comes first (F55). Nothing is written into a store that is not known, and nothing in the
/// clear into a project that was sealed since this machine looked. Our own node record, as we put it, proves the store, and
/// its listing says what is new: the node records are answered.
///
/// # Errors
/// It is another one, or nothing is left of it; the project is sealed with a key that this machine lacks.
pub async fn store_is_known(session: &Session) -> CommandResult<Vec<ListedNode>> {
    let Listing { nodes, keys } = RowLog::new(&session.bucket, &session.config.paths.tmp()).listing().await?;
    let (state, bucket) = (&session.config.paths.state, &session.bucket);
    let ours = announced(state, &bucket.store.name(), bucket.keys.project(), &session.database);
    let met = ours.is_some_and(|(writer, version)| nodes.iter().any(|node| node.is(writer, &version)));
    if !met && !session.new_store {
        identity_is_known(bucket, state).await?;
    }
    key_is_known(session, &keys).await?;
    Ok(nodes)
}

/// Whether a store is the one that this machine has synced with, for whoever writes into it and syncs no rows. `state`: our
/// state directory.
///
/// # Errors
/// It is another one, or nothing is left of it; the store's.
pub async fn identity_is_known(bucket: &Bucket, state: &Path) -> CommandResult {
    let identity = StoreIdentity::new(bucket, state);
    let (what, since) = match identity.look().await? {
        Known::Same | Known::FirstTime => return Ok(()),
        standing => {
            let what = if standing == Known::Missing { "is empty" } else { "is another one" };
            (what, identity.remembered().map(|note| note.since).unwrap_or_default())
        }
    };
    Err(Failure::of(
        Code::StoreForeign,
        format!(
            "the store {} {what}, but this machine synced with it on {}: is the disk mounted?",
            bucket.store.name(),
            since.get(..10).unwrap_or("an earlier day")
        ),
    )
    .hint("mount it, or check MINIO_ENDPOINT, MINIO_BUCKET and CLAUDE_PROJECT_ID")
    .hint(
        "if it was emptied or replaced on purpose, start again from what is here: membridge sync --new-store",
    ))
}

/// `named`: the keys by which the listing of the node records says that the project is sealed. Where that is not what this
/// machine goes on with, the project's note tells what is so.
async fn key_is_known(session: &Session, named: &[KeyId]) -> CommandResult {
    let bucket = &session.bucket;
    let ours = bucket.seal.key().map(MasterKey::id);
    // A store that a person began anew says it once the machine has met it.
    if named.iter().eq(ours.iter()) || named.is_empty() && session.new_store {
        return Ok(());
    }
    let found = join::ask(bucket, &files(session), false).await?;
    match (found.key().map(MasterKey::id), ours) {
        (Some(now), Some(ours)) if now == ours => Ok(join::mark(bucket, ours, named).await?),
        (Some(theirs), Some(ours)) => Err(JoinError::OtherKey { theirs, ours }.into()),
        (Some(theirs), None) => Err(JoinError::NoKey(theirs).into()),
        (None, _) => named.first().map_or(Ok(()), |named| Err(JoinError::Gone(*named).into())),
    }
}

fn files(session: &Session) -> Files {
    let paths = &session.config.paths;
    Files::of(&paths.key, &paths.state, &session.bucket)
}

/// Meets a store that is not known yet, or was accepted as a new one; a machine without memory leaves nothing in an empty
/// one.
///
/// # Errors
/// The store's; the state directory's.
pub async fn meet_store(session: &Session) -> CommandResult {
    let identity = StoreIdentity::new(&session.bucket, &session.config.paths.state);
    let known = identity.remembered().is_some() && !session.new_store;
    if known || identity.look().await? == Known::Same {
        return Ok(());
    }
    if session.has_memory().await? || identity.there().await?.is_some() {
        identity.meet(&session.config.node.id).await?;
        if session.new_store {
            join::begin_anew(&session.bucket, &files(session)).await?;
        }
    }
    Ok(())
}

/// This node's role, and the lease that says so; `None`: leadership is switched off. Roles decide who archives, never
/// whether memory flows. A machine without memory must not become the primary by asking: the one that has it would be
/// refused from then on.
///
/// # Errors
/// The lease cannot be read (F06, F07).
pub async fn role(session: &Session, wish: Wish) -> CommandResult<Option<Standing>> {
    let step = Stage::Role.label(wish);
    if !session.config.leadership.enabled {
        session.ui.step(step, "Leadership: role=off (LEADERSHIP_ENABLED=0)");
        return Ok(None);
    }
    let leadership = session.leadership();
    // Nor one that keeps projects to itself: it does not archive, and whoever is primary does.
    let may_be = session.config.rows.excluded.is_empty() && session.has_memory().await?;
    let standing = if may_be { leadership.stand().await? } else { leadership.look().await? };
    let primary = standing.lease.as_ref().map_or("nobody yet", |lease| lease.primary_label());
    session.ui.step(step, format!("Leadership: role={} (primary: {primary})", standing.role));
    Ok(Some(standing))
}

/// A push under an older term than the bucket's last one comes from a node that was primary once (F24).
///
/// # Errors
/// The epoch is lower than the head's.
pub fn fence(ours: Option<i64>, head: Option<&Head>) -> CommandResult {
    match (ours, head.and_then(Head::epoch)) {
        (Some(ours), Some(theirs)) if ours < theirs => Err(Failure::of(
            Code::SecondaryRefusesPush,
            format!(
                "push refused: the bucket was written under epoch {theirs}, this node's term has epoch {ours}"
            ),
        )
        .hint("see who is primary: membridge leadership_info")
        .hint("when this node is to be the primary, begin a term above it: membridge promote")
        .hint("memory flows all the same: membridge sync")),
        _ => Ok(()),
    }
}

/// A hand-over (`promote`, an expired lease taken by another node) that came while the push was being prepared ends
/// it: the new primary must not find writes of the old one after its own term began.
///
/// # Errors
/// The lease has another epoch than at the beginning; it cannot be read.
pub async fn same_term(session: &Session, ours: Option<i64>) -> CommandResult {
    let Some(ours) = ours else { return Ok(()) };
    let lease = session.leadership().look().await?.lease;
    match lease {
        Some(lease) if lease.epoch != ours => Err(Failure::of(Code::SecondaryRefusesPush, format!(
            "push refused: the lease went to {} (epoch {}) while this push was being prepared under epoch {ours}",
            lease.primary_label(),
            lease.epoch
        ))
        .hint("see who is primary: membridge leadership_info")),
        _ => Ok(()),
    }
}

/// A database that lost more than half of its observations is more likely damaged than tidied (F45). `gone`: so many went on
/// purpose.
///
/// # Errors
/// The remote holds more than twice as many observations as would be here.
pub fn shrink(local: u64, gone: u64, head: Option<&Head>, force: bool) -> CommandResult {
    match head.and_then(Head::observations) {
        Some(remote) if !force && local.saturating_add(gone).saturating_mul(2) < remote => Err(Failure::of(Code::Refused, format!(
            "push refused: the local database holds {local} observations, the bucket {remote}: more than half are missing"
        ))
        .hint("get them back: membridge sync --put-back")
        .hint("if they were deleted on purpose: membridge sync --accept-deletions, then FORCE_PUSH=1 membridge push_sqlite")),
        _ => Ok(()),
    }
}

/// A claude-mem that does not know the schema loses columns or never starts (F44). `schema` is the highest schema
/// version of the database that would come here, `their_version` the claude-mem that wrote it, where known.
///
/// # Errors
/// It is newer than what the local claude-mem is known to understand.
pub fn schema(
    schema: Option<i64>,
    their_version: Option<&str>,
    local_version: Option<&str>,
    local_schema: Option<i64>,
) -> CommandResult {
    let Some(schema) = schema else {
        return Ok(());
    };
    let knows = match facts::gate(local_version, local_schema, their_version, schema) {
        Gate::Open | Gate::Unknown => return Ok(()),
        Gate::Closed { knows } => knows,
    };
    let here = local_version
        .map_or("the claude-mem of this machine".to_owned(), |v| format!("claude-mem {v} of this machine"));
    let there = their_version.map_or("a newer claude-mem".to_owned(), |v| format!("claude-mem {v}"));
    Err(Failure::of(Code::NewerSchema, format!(
        "pull refused: the database in the bucket has schema {schema}, written by {there}; {here} knows schema {knows} and would damage it"
    ))
    .hint("update claude-mem on this machine, start it once, then: membridge pull_sqlite"))
}
