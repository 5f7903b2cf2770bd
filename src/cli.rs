//! The command line: clap types and help texts. Knows no meaning.

mod daemons;
mod flags;
mod hooks;
mod syncs;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use daemons::{AgentOptions, DaemonOptions, InstallMode, InstallOptions, ServerOptions, WatchOptions};
pub use flags::SettingFlags;
pub use hooks::{HooksAction, HooksOptions, SettingsFile};
pub use syncs::{LockArgs, PlanArgs, PullArgs, PushArgs, RestoreArgs, SyncArgs};

use crate::jobs::Event;
use crate::jobs::background;

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

/// What to do with the fleet's key.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum KeyAction {
    /// Make a key and seal the project: from then on nobody without it reads or forges the memory in the bucket
    Init {
        /// Also while a copy for Python nodes is kept, or one has pushed within the last 30 days: they get nothing newer
        #[arg(long, conflicts_with = "purge")]
        force: bool,
        /// In a sealed project: list what lies in the bucket in the clear and is not needed any more
        #[arg(long)]
        purge: bool,
        /// Delete what --purge lists
        #[arg(long, requires = "purge")]
        yes: bool,
    },
    /// Print the key, for another machine and for a safe place; whoever has it can read everything
    Show,
    /// Bring the fleet's key here, from standard input or typed unseen; its passphrase will do, where it has one
    Import,
    /// Let new machines come in with a passphrase instead of the key; a second one replaces the first
    Passphrase {
        /// Take the passphrase away instead
        #[arg(long)]
        remove: bool,
    },
    /// Make a new key for everything from now on, such as when a machine was lost
    Rotate,
    /// Show whether the project is sealed, with which key, and six words to compare with another machine's
    Status,
}

/// What to do with the copy for Python nodes.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum MirrorAction {
    /// Keep the copy up: every whole push refreshes it
    On,
    /// Stop refreshing it, on all machines; refused while a Python node has pushed within the last 30 days
    Off {
        /// Switch it off all the same
        #[arg(long)]
        force: bool,
    },
    /// Show the setting; changes nothing
    Status,
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

/// What doctor can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct DoctorArgs {
    /// Do not ask the store
    #[arg(long)]
    pub no_network: bool,
    /// Exit with 1 unless the status is OK
    #[arg(long)]
    pub strict: bool,
    /// Try the store's conditional writes now (writes and removes small objects of its own)
    #[arg(long, conflicts_with = "no_network")]
    pub probe: bool,
}

/// What config can be told to do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigAction {
    /// Write a config.env (0600) from flags, the environment and answers, once the connection works
    Init {
        /// Go through the answers of the file that is there; everything else in it stays as it is
        #[arg(long)]
        edit: bool,
    },
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Upload a consistent snapshot of the local database
    #[command(name = "push_sqlite", visible_aliases = ["push", "push-sqlite"])]
    Push(PushArgs),
    /// Take in what other machines recorded; on a machine without a database, fetch the newest one
    #[command(name = "pull_sqlite", visible_aliases = ["pull", "pull-sqlite"])]
    Pull(PullArgs),
    /// Make the memory of all machines one: take in what others recorded, publish what was recorded here, archive
    Sync(SyncArgs),
    /// List the safety backups of pulls, or put one back (what is here is backed up first)
    #[command(name = "restore-backup", visible_alias = "restore_backup")]
    RestoreBackup {
        /// A name from the list
        name: Option<String>,
        /// Delete this backup instead of putting one back
        #[arg(long, value_name = "NAME", conflicts_with = "name")]
        forget: Option<String>,
        /// What it means.
        #[command(flatten)]
        means: RestoreArgs,
        /// Whether to do it.
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// List what travelled between the machines, newest first: who, when, what (titles with -v)
    Log {
        /// How many segments
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// List the machines of this project: last seen, rows, how many segments they are behind; changes nothing
    Nodes,
    /// Find observations by their words, here, and with --history in the pushes that the bucket keeps; changes nothing
    Search(SearchOptions),
    /// List the pushes that the bucket keeps, newest first (with -v what came with each, for which their images are fetched)
    History {
        /// How many of them
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Bring an earlier push back into the local database, after a verified backup; or into a file
    Restore {
        /// Number of the push, `head`, or a time such as 2026-01-31 or 2026-01-31T12:00 (local; UTC with a Z): the last push up to then; a date means its end
        #[arg(value_name = "N|TIME")]
        what: String,
        /// Write this new file instead of the local database
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// What it means.
        #[command(flatten)]
        means: RestoreArgs,
        /// Whether to do it.
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Make, bring, show or change the key with which the memory in the bucket is sealed
    Key {
        /// What to do
        #[command(subcommand)]
        action: KeyAction,
    },
    /// Show or set whether the bucket keeps a whole copy of the database for nodes that still run the Python script
    Mirror {
        /// What to do
        #[command(subcommand)]
        action: MirrorAction,
    },
    /// Show which rows were added, changed and removed between two pushes, with titles (more of them with -v)
    Diff {
        /// The earlier push: number, `head` or time
        #[arg(value_name = "A")]
        from: String,
        /// The later push
        #[arg(value_name = "B", default_value = "head")]
        to: String,
    },
    /// Write all memory, or that of one of claude-mem's projects, into a file that claude-mem's own import reads
    Export {
        /// A new file
        file: PathBuf,
        /// Only of this project of claude-mem's
        #[arg(long, value_name = "PROJECT")]
        only: Option<String>,
    },
    /// Take in what claude-mem or `export` wrote: rows that are not here yet; nothing is changed or removed
    Import {
        /// A file of claude-mem's export
        file: PathBuf,
        /// Whether to do it.
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Prove that the newest push can be restored (`--all`: every push that is kept); changes nothing
    Verify {
        /// Every push that is kept, not only the newest
        #[arg(long)]
        all: bool,
    },
    /// Check everything and say what is wrong; changes nothing
    Doctor(DoctorArgs),
    /// Answer one question: is my memory safe, and everywhere? Changes nothing
    Status(StatusOptions),
    /// Show every setting, its value and where it comes from
    Config {
        /// What to do instead of showing.
        #[command(subcommand)]
        action: Option<ConfigAction>,
    },
    /// Print the completions for a shell
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Show who is primary, the one machine that pushes, and until when; changes nothing
    #[command(name = "leadership_info", visible_aliases = ["leadership", "leadership-info"])]
    Leadership,
    /// Make this machine (or NODE) the primary, the one that pushes, whoever is it now
    Promote {
        /// The node's MEMBRIDGE_NODE_ID
        node: Option<String>,
        /// Seconds that the role is kept without a push [default: LEADERSHIP_LEASE_SECONDS]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=315_360_000))]
        lease_seconds: Option<i64>,
        /// Also where the note of who is primary (the lease) cannot be read
        #[arg(long)]
        force: bool,
    },
    /// Take the role from the primary: NODE gets it, or, without NODE, nobody until the configured primary comes
    Demote {
        /// The node that becomes primary instead
        node: Option<String>,
    },
    /// Show the project's name and its canonical id, under which the bucket keeps it
    #[command(name = "print_project", visible_aliases = ["project", "print-project"])]
    Project,
    /// Go on under another project name: on every machine once; config.env is changed, nothing is moved by hand
    #[command(name = "rename-project")]
    RenameProject {
        /// The new name
        #[arg(value_name = "NEW")]
        name: String,
        /// Also where the store holds a project of that name already: the two become one memory
        #[arg(long)]
        join: bool,
        /// Whether to do it.
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// What Claude Code's hooks call: silent, always exit code 0, work goes on in the background
    Hook {
        /// Which hook.
        event: Event,
    },
    /// Install, remove or show the hooks that sync by themselves
    Hooks {
        /// What to do with them.
        #[command(subcommand)]
        action: HooksAction,
    },
    /// Sync in the foreground until stopped, for machines without Claude Code's hooks
    Watch(WatchOptions),
    /// Let the fleet's server ask this machine for a push or a pull, and keep it in step meanwhile as watch does
    Agent(AgentOptions),
    /// Show the whole fleet on one page, and ask its agents for pushes and pulls from there
    Server(ServerOptions),
    /// Set up agent or server as a service, look at what an old installation left, or stop them
    Install(InstallOptions),
    /// Check what the daemons need on this machine; ends with 0 only when all is there
    #[command(name = "validate-install")]
    ValidateInstall,
    /// The background part of a hook
    #[command(name = "hook-work", hide = true)]
    HookWork {
        /// Which hook.
        event: Event,
    },
    /// The short-lived copy of this program that starts another in a new session
    #[command(name = background::START_COMMAND, hide = true)]
    BackgroundStart,
}

/// Options of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchOptions {
    /// Words that all have to be there; 'a phrase' in quotes as it stands, and a word that ends in * with any ending
    #[arg(value_name = "WORDS", required = true)]
    pub words: Vec<String>,
    /// Also what is no longer here, but in a push that the bucket keeps; their images are fetched
    #[arg(long)]
    pub history: bool,
    /// Only of this project of claude-mem's
    #[arg(long, value_name = "PROJECT")]
    pub only: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Options of `status`.
#[derive(Debug, Clone, Copy, Args)]
pub struct StatusOptions {
    /// One short line from what this machine knows by itself, and how old that is: for prompts and Claude Code's status line; asks no store
    #[arg(long)]
    pub oneline: bool,
}

impl Command {
    /// Whether it goes on when config.env cannot be read: it says so, writes the file, or does not care.
    pub fn needs_no_file(&self) -> bool {
        match self {
            Self::Doctor(_)
            | Self::Completions { .. }
            | Self::Man
            | Self::Agent(_)
            | Self::Server(_)
            | Self::Install(_)
            | Self::Hooks { .. }
            | Self::ValidateInstall => true,
            Self::Config { action } => action.is_some(),
            _ => false,
        }
    }

    /// The file that a daemon's variables come from.
    pub fn env_file(&self) -> Option<&Path> {
        match self {
            Self::Agent(options) => options.daemon.env_file.as_deref(),
            Self::Server(options) => options.daemon.env_file.as_deref(),
            _ => None,
        }
    }

    /// The name in `--json` output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Push(_) => "push_sqlite",
            Self::Pull(_) => "pull_sqlite",
            Self::Sync(_) => "sync",
            Self::Doctor(_) => "doctor",
            Self::Status(_) => "status",
            Self::Config { action: None } => "config",
            Self::Config { action: Some(ConfigAction::Init { .. }) } => "config init",
            Self::Completions { .. } => "completions",
            Self::Man => "man",
            Self::RestoreBackup { .. } => "restore-backup",
            Self::Log { .. } => "log",
            Self::Nodes => "nodes",
            Self::History { .. } => "history",
            Self::Restore { .. } => "restore",
            Self::Mirror { .. } => "mirror",
            Self::Key { .. } => "key",
            Self::Diff { .. } => "diff",
            Self::Search(_) => "search",
            Self::Export { .. } => "export",
            Self::Import { .. } => "import",
            Self::Verify { .. } => "verify",
            Self::Leadership => "leadership_info",
            Self::Promote { .. } => "promote",
            Self::Demote { .. } => "demote",
            Self::Project => "print_project",
            Self::RenameProject { .. } => "rename-project",
            Self::Hook { .. } => "hook",
            Self::Hooks { .. } => "hooks",
            Self::Watch(_) => "watch",
            Self::Agent(_) => "agent",
            Self::Install(_) => "install",
            Self::ValidateInstall => "validate-install",
            Self::Server(_) => "server",
            Self::HookWork { .. } => "hook-work",
            Self::BackgroundStart => background::START_COMMAND,
        }
    }
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
