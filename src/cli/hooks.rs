//! What `hooks` can be told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the hooks.
#[derive(Debug, Clone, Subcommand)]
pub enum HooksAction {
    /// Write the wrapper scripts, and print what belongs into Claude Code's settings.json
    Install(HooksOptions),
    /// Remove the wrapper scripts, and say what to take out of settings.json
    Uninstall(HooksOptions),
    /// Show which scripts and which settings are there
    Status(SettingsFile),
}

/// Which settings file.
#[derive(Debug, Clone, Args)]
pub struct SettingsFile {
    /// Claude Code's settings file [default: ~/.claude/settings.json]
    #[arg(long, value_name = "PATH")]
    pub settings: Option<PathBuf>,
}

/// Options of `hooks install` and `hooks uninstall`.
#[derive(Debug, Clone, Args)]
pub struct HooksOptions {
    /// See [`SettingsFile`].
    #[command(flatten)]
    pub file: SettingsFile,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Edit the settings file too, after a backup
    #[arg(long)]
    pub write_settings: bool,
}
