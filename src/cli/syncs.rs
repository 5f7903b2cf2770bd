//! What push, pull, sync and whatever brings an earlier state back can be told.

use clap::Args;

use crate::sync::Wish;

/// What every command that changes something can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct PlanArgs {
    /// Print what would be done, and change nothing: neither here nor in the store
    #[arg(long)]
    pub dry_run: bool,
}

/// What a push can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct PushArgs {
    /// See [`PlanArgs`].
    #[command(flatten)]
    pub plan: PlanArgs,
    /// See [`LockArgs`].
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Whether a lock is respected.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LockArgs {
    /// Take the archive's lock from a machine that is known to be dead, and override nothing else
    #[arg(long)]
    pub take_lock: bool,
}

/// What a pull can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct PullArgs {
    /// See [`PlanArgs`].
    #[command(flatten)]
    pub plan: PlanArgs,
}

/// What a sync can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct SyncArgs {
    /// See [`PlanArgs`].
    #[command(flatten)]
    pub plan: PlanArgs,
    /// See [`LockArgs`].
    #[command(flatten)]
    pub lock: LockArgs,
    /// Publish rows that vanished here at once as deleted: they were deleted on purpose, and go everywhere
    #[arg(long, conflicts_with = "put_back")]
    pub accept_deletions: bool,
    /// Put rows that vanished here at once back
    #[arg(long)]
    pub put_back: bool,
    /// Take the database although it brings triggers, views, virtual tables or constraints along that are not known
    #[arg(long)]
    pub accept_schema: bool,
    /// Start again from what is here in a store that was emptied or replaced on purpose
    #[arg(long)]
    pub new_store: bool,
    /// For whom: what hooks call
    #[arg(long = "for", value_name = "WISH", default_value = "whole", hide = true)]
    pub wish: Wish,
}

/// What a person means by putting an earlier state in place.
#[derive(Debug, Clone, Copy, Args)]
pub struct RestoreArgs {
    /// Bring rows back and remove none
    #[arg(long)]
    pub add_only: bool,
    /// Agree to what is removed without being asked
    #[arg(long)]
    pub yes: bool,
    /// Move claude-mem's vector index into the backup; claude-mem builds a new one
    #[arg(long)]
    pub reset_vectors: bool,
    /// Take the database although it brings triggers, views, virtual tables or constraints along that are not known
    #[arg(long)]
    pub accept_schema: bool,
}
