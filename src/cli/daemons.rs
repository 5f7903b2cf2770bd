//! What watch, agent, server and their installer can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchOptions {
    /// Push when the database has not changed for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub settle: u64,
    /// Look for what other machines pushed every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub every: u64,
}

/// Options of `agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentOptions {
    /// Where and from which file.
    #[command(flatten)]
    pub daemon: DaemonOptions,
    /// Do not push and pull by itself; only what the server asks for
    #[arg(long)]
    pub no_watch: bool,
}

/// Options of `server`.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// Where and from which file.
    #[command(flatten)]
    pub daemon: DaemonOptions,
    /// Ask nobody for a key (on loopback only)
    #[arg(long)]
    pub dev: bool,
}

/// Options of `install`.
#[derive(Debug, Clone, Copy, Args)]
pub struct InstallOptions {
    /// What to do
    pub mode: InstallMode,
    /// Print what would be done, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `install` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InstallMode {
    /// Set up the agent
    Agent,
    /// Set up the server
    Server,
    /// Set up both
    All,
    /// Report what an old installation left; change nothing
    Migrate,
    /// Stop both services; delete nothing
    Cleanup,
}

/// What agent and server can be told.
#[derive(Debug, Clone, Args)]
pub struct DaemonOptions {
    /// Address to listen on, with or without a port [default: MEMBRIDGE_HOST, or 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Read the daemon's variables from this file of NAME=value lines, such as ~/membridge/.env.agent
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,
}
