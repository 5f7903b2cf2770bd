//! The project that a key is for: its place in the store, before it is known whether this machine may take part.

use super::super::run::Run;
use crate::config::Config;
use crate::error::CommandResult;
use crate::join::Files;
use crate::storage::Bucket;

/// The project's place in the store, and where its key is kept here.
pub(super) fn reach(run: &Run) -> CommandResult<(Config, Bucket, Files)> {
    let (config, bucket) = run.reach()?;
    let files = Files::of(&config.paths.key, &config.paths.state, &bucket);
    Ok((config, bucket, files))
}

/// The public name of the key that is in use.
pub(super) fn key_id(bucket: &Bucket) -> String {
    bucket.seal.key().map_or(String::new(), |key| key.id().to_string())
}
