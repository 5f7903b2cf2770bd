//! The settings of the claude-mem worker, and where a runtime for it may be.

use std::path::PathBuf;

use super::error::ConfigError;
use super::settings::Settings;

/// Settings of the claude-mem worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// CLAUDE_MEM_WORKER_PORT
    pub port: Option<u16>,
    /// CLAUDE_MEM_WORKER_HOST
    pub host: String,
    /// MEMBRIDGE_NO_RESTART_WORKER
    pub leave_stopped: bool,
    /// CLAUDE_MEM_WORKER_SCRIPT_PATH
    pub script: Option<PathBuf>,
    /// Where a runtime for the worker may be, in the order in which it is looked for.
    pub runtimes: Vec<PathBuf>,
    /// Claude Code's directory: CLAUDE_CONFIG_DIR, or `~/.claude`.
    pub claude_dir: PathBuf,
}

/// The worker's settings alone, for commands that need no store.
///
/// # Errors
/// A port or a switch that is malformed.
pub fn worker(settings: &Settings) -> Result<WorkerConfig, ConfigError> {
    let home = &settings.home;
    let path_of = |name| settings.get(name).map(PathBuf::from);
    let searched = settings.get("PATH").map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    // Never one that the project brings along, whose folder we are called in.
    let runtimes = (searched.into_iter().flatten())
        .map(|dir| dir.join("bun"))
        .chain(path_of("BUN"))
        .chain(path_of("BUN_PATH"))
        .chain([home.join(".bun/bin/bun")])
        .filter(|path| path.is_absolute() && !path.iter().any(|part| part == "node_modules"))
        .collect();
    Ok(WorkerConfig {
        port: settings.number("CLAUDE_MEM_WORKER_PORT", 1, 65_535)?.and_then(|port| u16::try_from(port).ok()),
        host: settings.plain("CLAUDE_MEM_WORKER_HOST")?.unwrap_or("127.0.0.1").to_owned(),
        leave_stopped: settings.switch("MEMBRIDGE_NO_RESTART_WORKER")?,
        script: path_of("CLAUDE_MEM_WORKER_SCRIPT_PATH"),
        runtimes,
        claude_dir: path_of("CLAUDE_CONFIG_DIR").unwrap_or_else(|| home.join(".claude")),
    })
}
