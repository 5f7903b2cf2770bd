//! Whether this machine may push or pull at all: role, epoch, Cloud Sync, schema, shrink guard. Each refusal says
//! what was found and what to type. Who has which role is decided by the leadership module.

use super::session::Session;
use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::leadership::{Role, Standing};
use crate::python::Head;
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

/// The role for a push: only the primary pushes (exit 3). `None`: leadership is switched off.
///
/// # Errors
/// This node is secondary; the lease cannot be read (F06, F07).
pub async fn push_role(session: &Session) -> CommandResult<Option<Standing>> {
    let config = &session.config;
    if !config.leadership.enabled {
        session.ui.step("0/6", "Leadership: role=off (LEADERSHIP_ENABLED=0)");
        return Ok(None);
    }
    // A machine without a database has nothing to push, and must not become the primary by saying so: the machine that
    // has the memory would be refused from then on.
    let leadership = session.leadership();
    let standing =
        if session.database.exists() { leadership.stand().await? } else { leadership.look().await? };
    judge_push(session, standing).map(Some)
}

/// The rule of a push for a role that is known.
///
/// # Errors
/// This node is secondary.
pub fn judge_push(session: &Session, standing: Standing) -> CommandResult<Standing> {
    let config = &session.config;
    let primary = standing.lease.as_ref().map_or("nobody yet", |lease| lease.primary_label());
    session.ui.step("0/6", format!("Leadership: role={} (primary: {primary})", standing.role));
    if standing.role == Role::Primary || config.overrides.secondary_push {
        return Ok(standing);
    }
    let named = standing.lease.as_ref().is_some_and(|lease| lease.primary_node_id == config.node.id);
    let why = if named {
        "its lease has expired, and PRIMARY_NODE_ID names another node".to_owned()
    } else {
        format!("{primary} is primary")
    };
    Err(Failure::with_exit(
        ExitCode::SecondaryRefusesPush,
        format!("push refused: this node ({}) is secondary, {why}", config.node.id),
    )
    .hint("get the primary's memory: membridge pull_sqlite")
    .hint("push this once all the same: ALLOW_SECONDARY_PUSH=1 membridge push_sqlite")
    .hint("make this node the primary from now on: membridge promote"))
}

/// The role for a pull that would change the local database: a primary refuses (exit 2).
///
/// # Errors
/// This node is primary; the lease cannot be read (F06, F07).
pub async fn pull_role(session: &Session) -> CommandResult<Option<Role>> {
    let config = &session.config;
    if !config.leadership.enabled {
        session.ui.step("2/7", "Leadership: role=off (LEADERSHIP_ENABLED=0)");
        return Ok(None);
    }
    judge_pull(session, &session.leadership().stand().await?).map(Some)
}

/// The rule of a pull for a role that is known.
///
/// # Errors
/// This node is primary.
pub fn judge_pull(session: &Session, standing: &Standing) -> CommandResult<Role> {
    let config = &session.config;
    session.ui.step("2/7", format!("Leadership: role={}", standing.role));
    if standing.role == Role::Secondary || config.overrides.primary_pull {
        return Ok(standing.role);
    }
    Err(Failure::with_exit(
        ExitCode::PrimaryRefusesPull,
        format!(
            "pull refused: this node ({}) is primary and the bucket holds another database",
            config.node.id
        ),
    )
    .hint("take what is there, after a backup: ALLOW_PRIMARY_PULL_OVERRIDE=1 membridge pull_sqlite")
    .hint("or send what is here: membridge push_sqlite"))
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
        .hint("get the newer memory, after a backup: ALLOW_PRIMARY_PULL_OVERRIDE=1 membridge pull_sqlite")),
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

/// A database that lost more than half of its observations is more likely damaged than tidied (F45).
///
/// # Errors
/// The remote holds more than twice as many observations.
pub fn shrink(local: u64, head: Option<&Head>, force: bool) -> CommandResult {
    match head.and_then(Head::observations) {
        Some(remote) if !force && local.saturating_mul(2) < remote => Err(Failure::of(Code::Refused, format!(
            "push refused: the local database holds {local} observations, the bucket {remote}: more than half are missing"
        ))
        .hint("get the memory of the bucket: membridge pull_sqlite")
        .hint("if they were deleted on purpose: FORCE_PUSH=1 membridge push_sqlite")),
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
