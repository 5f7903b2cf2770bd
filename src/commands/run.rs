//! What a command works with, and how it opens the store. Knows no command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError, Environment, Settings};
use crate::context::Context;
use crate::error::CommandResult;
use crate::join::{self, Files};
use crate::seal::Seal;
use crate::storage::{Bucket, Store};
use crate::sync::gate;
use crate::ui::Ui;

/// What a command works with.
pub struct Run {
    /// Clock, chance, signals.
    pub context: Arc<Context>,
    /// The person.
    pub ui: Ui,
    /// Whether they want to see more (`-v`).
    pub verbose: bool,
    /// Settings as texts.
    pub settings: Settings,
    /// Why config.env is not among them, where a command can do without.
    pub file_problem: Option<ConfigError>,
    /// Where a new config.env would go.
    pub config_target: PathBuf,
    /// The environment, for the daemons, whose settings are in no config.env.
    pub environment: Environment,
    /// What `--env-file` added to it.
    pub from_file: BTreeMap<String, String>,
}

impl Run {
    /// The checked configuration and the project's place in the store that it names.
    pub(super) async fn open(&self) -> CommandResult<(Config, Bucket)> {
        let (config, mut bucket) = self.reach()?;
        bucket.seal = seal(&config, &bucket, true).await?;
        Ok((config, bucket))
    }

    /// The same for commands that write and sync no rows: not into a store that this machine does not know again.
    pub(super) async fn open_known(&self) -> CommandResult<(Config, Bucket)> {
        let (config, bucket) = self.open().await?;
        gate::identity_is_known(&bucket, &config.paths.state).await?;
        Ok((config, bucket))
    }

    /// The same before it is known whether this machine may take part.
    pub(super) fn reach(&self) -> CommandResult<(Config, Bucket)> {
        let config = Config::new(&self.settings)?;
        let store = Store::open(&config.store, &self.context)?;
        let bucket = Bucket::new(store, &config.project.cid, Arc::clone(&self.context), &config.paths.state);
        Ok((config, bucket))
    }

    /// The same for commands that only look.
    pub(super) async fn open_to_read(&self) -> CommandResult<(Config, Bucket)> {
        let (config, mut bucket) = self.reach()?;
        bucket.store.leave_no_trace();
        bucket.seal = seal(&config, &bucket, false).await?;
        Ok((config, bucket))
    }

    /// The same for commands that rehearse, or that look and need the store's time: nothing of what is found out is kept.
    pub(super) async fn open_to_rehearse(&self) -> CommandResult<(Config, Bucket)> {
        let (config, mut bucket) = self.reach()?;
        bucket.seal = seal(&config, &bucket, false).await?;
        Ok((config, bucket))
    }
}

/// With what the project is sealed. A machine without its key must not go on (src/join.rs). `keep`: note what was found.
pub(super) async fn seal(config: &Config, bucket: &Bucket, keep: bool) -> CommandResult<Seal> {
    let files = Files::of(&config.paths.key, &config.paths.state, bucket);
    Ok(join::join(bucket, &files, keep).await?)
}
