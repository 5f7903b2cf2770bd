//! The commands, their help texts and names.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::daemons::{AgentOptions, InstallOptions, ServerOptions, WatchOptions};
use super::fleet::{KeyAction, MirrorAction};
use super::hooks::HooksAction;
use super::looks::{DoctorArgs, SearchOptions, StatusOptions};
use super::syncs::{PlanArgs, PullArgs, PushArgs, RestoreArgs, SyncArgs};
use crate::jobs::Event;
use crate::jobs::background;

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
