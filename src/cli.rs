//! The command line: clap types and help texts. Knows no meaning.

mod command;
mod daemons;
mod flags;
mod fleet;
mod hooks;
mod looks;
mod syncs;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

pub use command::{Command, ConfigAction};
pub use daemons::{AgentOptions, DaemonOptions, InstallMode, InstallOptions, ServerOptions, WatchOptions};
pub use flags::SettingFlags;
pub use fleet::{KeyAction, MirrorAction};
pub use hooks::{HooksAction, HooksOptions, SettingsFile};
pub use looks::{DoctorArgs, SearchOptions, StatusOptions};
pub use syncs::{LockArgs, PlanArgs, PullArgs, PushArgs, RestoreArgs, SyncArgs};

/// membridge keeps claude-mem's memory the same on all of your machines.
#[derive(Debug, Parser)]
#[command(
    name = "membridge",
    version = crate::version::line(),
    about,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "First steps: membridge config init on every machine; push_sqlite where the memory is, pull_sqlite on the \
    others; then hooks install --write-settings, and it syncs by itself. In doubt: membridge doctor\n\nExit codes: 0 done or nothing to do · 1 error · 2 pull refused, this node is primary · \
    3 push refused, this node is secondary · 4 both sides changed · 130/143 interrupted"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Read settings from this file instead of ~/.claude-mem-minio/config.env
    #[arg(long, value_name = "PATH", global = true)]
    pub config: Option<PathBuf>,
    /// Print one JSON object instead of lines
    #[arg(long, global = true)]
    pub json: bool,
    /// Print errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say on stderr what is done (-v), and how (-vv); MEMBRIDGE_LOG says it finer
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colours in the report: auto means on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Color,
    /// What -v and MEMBRIDGE_LOG print: lines, or one JSON object per line [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// Settings given on the command line.
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into a pipe.
    Always,
    /// Not at all.
    Never,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_spelling_of_a_command_is_known() {
        let table = [
            ("push_sqlite", "push_sqlite"),
            ("push-sqlite", "push_sqlite"),
            ("push", "push_sqlite"),
            ("pull_sqlite", "pull_sqlite"),
            ("pull-sqlite", "pull_sqlite"),
            ("pull", "pull_sqlite"),
            ("sync", "sync"),
            ("doctor", "doctor"),
            ("leadership_info", "leadership_info"),
            ("leadership-info", "leadership_info"),
            ("print_project", "print_project"),
            ("print-project", "print_project"),
        ];
        for (spelling, name) in table {
            assert_eq!(Cli::try_parse_from(["membridge", spelling]).unwrap().command.name(), name);
        }
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::try_parse_from(["membridge", "push", "--project", "mem", "--force-push"]).unwrap();
        let given = cli.settings.given();
        assert_eq!(given.get("CLAUDE_PROJECT_ID").map(String::as_str), Some("mem"));
        assert_eq!(given.get("FORCE_PUSH").map(String::as_str), Some("1"));
        assert_eq!(given.len(), 2);
    }
}
