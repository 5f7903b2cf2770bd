//! What an old installation left on this machine: the report of `install migrate`, with the fields that the Python
//! product's had. Reads, leaves no trace, and asks the two ports of this machine.

use std::path::Path;

use serde_json::{Value, json};

use super::layout::{Daemon, Layout};
use crate::database::look::look;
use crate::database::{self, DatabaseError};
use crate::worker::http::Endpoint;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Legacy {
    /// The report.
    pub report: Value,
    /// The same for people.
    pub lines: Vec<String>,
}

/// Looks. `path` is PATH, `at` the time as ISO text.
pub async fn survey(layout: &Layout, host: &str, path: Option<&str>, at: &str) -> Legacy {
    let claude = program("claude", path);
    let plugin = plugin(&layout.home);
    let database = layout.database();
    let size = std::fs::metadata(&database).map(|meta| meta.len()).ok();
    let counted = {
        let database = database.clone();
        database::blocking(move || Ok(tables(&database).unwrap_or(0))).await.unwrap_or(0)
    };
    let config = layout.config_env();
    let scripts = scripts(&layout.scripts());
    let agent = answers(Daemon::Agent).await;
    let server = answers(Daemon::Server).await;
    let said = |what: &str, found: Option<String>| match found {
        Some(found) => format!("{what}: {found}"),
        None => format!("{what}: not found"),
    };
    let lines = vec![
        said("Claude CLI", claude.then(|| "found".to_owned())),
        said("claude-mem", plugin.then(|| "found".to_owned())),
        said("database", size.map(|size| format!("{} ({size} bytes, {counted} tables)", database.display()))),
        said("config.env", config.is_file().then(|| config.display().to_string())),
        said("wrapper scripts", (!scripts.is_empty()).then(|| scripts.join(" "))),
        said("agent", agent.then(|| "running".to_owned())),
        said("server", server.then(|| "running".to_owned())),
    ];
    let home = &layout.home;
    let report = json!({
        "generated_at": at,
        "hostname": host,
        "legacy_installation": {
            "claude_cli": claude,
            "claude_mem_plugin": plugin,
            "sqlite_db": {
                "found": size.is_some(),
                "path": database,
                "size_bytes": size.unwrap_or(0),
                "tables": counted,
            },
            "minio_config": {"found": config.is_file(), "path": config},
            "legacy_hooks": {
                "found": !scripts.is_empty(),
                "path": layout.scripts(),
                "scripts": scripts.join(" "),
            },
        },
        "membridge_services": {"agent_running": agent, "server_running": server},
        "preserved_paths": [home.join(".claude-mem"), home.join(".claude"), layout.config_env()],
        "migration_safe": true,
        "notes": [
            format!("The scripts in {} go on working", layout.scripts().display()),
            "The new agent runs beside them",
            "No memory, no settings and no key is changed",
        ],
    });
    Legacy { report, lines }
}

/// Whether a program of that name is in PATH.
pub fn program(name: &str, path: Option<&str>) -> bool {
    path.is_some_and(|path| std::env::split_paths(path).any(|folder| folder.join(name).is_file()))
}

/// Whether claude-mem is there: its data, or its plugin.
pub fn plugin(home: &Path) -> bool {
    home.join(".claude-mem").is_dir() || home.join(".claude/plugins/marketplaces/thedotmack").is_dir()
}

fn tables(path: &Path) -> Result<i64, DatabaseError> {
    look(path, |connection| {
        let query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
        let count = connection.query_row(query, [], |row| row.get(0));
        count.map_err(|error| DatabaseError::sqlite("count the tables of", path, error))
    })
}

fn scripts(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("claude-mem-"));
    names.sort();
    names
}

/// Whether a daemon of ours, or of the Python product, answers on its port of this machine.
pub async fn answers(daemon: Daemon) -> bool {
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: daemon.port() };
    let answer = endpoint.get("/health").await.ok();
    let service = answer.and_then(|answer| answer.json()?.get("service")?.as_str().map(str::to_owned));
    service.is_some_and(|service| service.starts_with("membridge-"))
}
