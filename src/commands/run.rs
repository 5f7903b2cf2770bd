//! What a command works with, and how it opens the store. Knows no command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ConfigError, Environment, Settings};
use crate::context::Context;
use crate::error::CommandResult;
use crate::storage::{Bucket, Store};
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
    pub(super) fn open(&self) -> CommandResult<(Config, Bucket)> {
        let config = Config::new(&self.settings)?;
        let store = Store::open(&config.store, &self.context)?;
        let bucket = Bucket::new(store, &config.project.cid, Arc::clone(&self.context), &config.paths.state);
        Ok((config, bucket))
    }

    /// The same for commands that only look.
    pub(super) fn open_to_read(&self) -> CommandResult<(Config, Bucket)> {
        let (config, bucket) = self.open()?;
        bucket.store.leave_no_trace();
        Ok((config, bucket))
    }
}
