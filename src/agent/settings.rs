//! The agent's settings, from its environment: names and defaults are the contract's. Values only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::daemon::{Daemon, guard};
use crate::config::paths::expand_home;
use crate::config::{ConfigError, Environment, Secret};

/// What the agent is told.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// MEMBRIDGE_AGENT_KEY, and MEMBRIDGE_AGENT_KEY_PREVIOUS while keys are exchanged.
    pub keys: Vec<Secret>,
    /// MEMBRIDGE_DEV
    pub dev: bool,
    /// MEMBRIDGE_AGENT_DRYRUN
    pub dry_run: bool,
    /// MEMBRIDGE_ALLOW_PROCESS_CONTROL
    pub process_control: bool,
    /// MEMBRIDGE_AGENT_SCRIPTS: run the wrapper scripts instead of this binary.
    pub scripts: bool,
    /// MEMBRIDGE_HOOKS_BIN
    pub hooks_bin: PathBuf,
    /// MEMBRIDGE_CONFIG_ENV
    pub config_env: PathBuf,
    /// MEMBRIDGE_AGENT_DIR
    pub agent_dir: PathBuf,
    /// MEMBRIDGE_REPOS_BASE
    pub repos_base: PathBuf,
    /// MEMBRIDGE_PROJECTS_FILE
    pub projects_file: PathBuf,
    /// MEMBRIDGE_STATE_DIR
    pub state: PathBuf,
    /// Where results of jobs are kept.
    pub results: PathBuf,
    /// MEMBRIDGE_SERVER_URL, without a trailing slash.
    pub server_url: String,
    /// The header and the key for heartbeats; `None`: none are sent.
    pub server_key: Option<(&'static str, Secret)>,
    /// MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS
    pub interval: Duration,
    /// MEMBRIDGE_AGENT_URL: where the server can ask this agent.
    pub url: Option<String>,
    /// BLOOM_RUNTIME_URL
    pub runtime_url: Option<String>,
    /// Variables of `--env-file`, which children have to be given.
    pub for_children: Vec<(String, String)>,
    /// Texts that no output may hold.
    pub secrets: Vec<String>,
}

/// Variables that no child of the agent gets: they are the daemons' own.
pub const KEPT_FROM_CHILDREN: [&str; 12] = [
    "MEMBRIDGE_ADMIN_KEY",
    "MEMBRIDGE_ADMIN_KEY_FILE",
    "MEMBRIDGE_ADMIN_KEY_PREVIOUS",
    "MEMBRIDGE_AGENT_KEY",
    "MEMBRIDGE_AGENT_KEY_FILE",
    "MEMBRIDGE_AGENT_KEY_PREVIOUS",
    "MEMBRIDGE_SERVER_ADMIN_KEY",
    "MEMBRIDGE_SERVER_ADMIN_KEY_FILE",
    "RUNTIME_API_KEY",
    "DATABASE_URL",
    "NOTIFY_SOCKET",
    "CLAUDE_CANONICAL_PROJECT_ID",
];

/// Variables whose values are struck out of what children print.
const STRUCK_OUT: [&str; 8] = [
    "MEMBRIDGE_ADMIN_KEY",
    "MEMBRIDGE_ADMIN_KEY_PREVIOUS",
    "MEMBRIDGE_AGENT_KEY",
    "MEMBRIDGE_AGENT_KEY_PREVIOUS",
    "MEMBRIDGE_SERVER_ADMIN_KEY",
    "RUNTIME_API_KEY",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
];

impl AgentSettings {
    /// Reads them; `listen` is `--listen`, `state` our state directory, `from_file` what `--env-file` added to the
    /// environment.
    ///
    /// # Errors
    /// A malformed one; an address that others reach without a key.
    pub fn new(
        environment: &Environment,
        listen: Option<&str>,
        state: &Path,
        from_file: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let daemon = Daemon(environment);
        let port = daemon.number("MEMBRIDGE_AGENT_PORT", 0, 65_535, 8001)?;
        let listen = daemon.listen(listen, u16::try_from(port).unwrap_or(8001))?;
        let key = daemon.secret("MEMBRIDGE_AGENT_KEY", "MEMBRIDGE_AGENT_KEY_FILE")?;
        let previous = daemon.text("MEMBRIDGE_AGENT_KEY_PREVIOUS").map(Secret::new);
        let dev = daemon.switch("MEMBRIDGE_DEV")?;
        guard(listen, dev, key.is_some(), "MEMBRIDGE_AGENT_KEY")?;
        let server_key = server_key(daemon, key.as_ref())?;
        let given = STRUCK_OUT.iter().filter_map(|name| daemon.text(name)).map(str::to_owned);
        let read = [key.as_ref(), server_key.as_ref().map(|(_, key)| key)];
        let secrets = given.chain(read.into_iter().flatten().map(|key| key.reveal().to_owned())).collect();
        let interval = daemon.number("MEMBRIDGE_HEARTBEAT_INTERVAL_SECONDS", 1, 86_400, 10)?;
        Ok(Self {
            listen,
            keys: key.into_iter().chain(previous).collect(),
            dev,
            dry_run: daemon.switch("MEMBRIDGE_AGENT_DRYRUN")?,
            process_control: daemon.switch("MEMBRIDGE_ALLOW_PROCESS_CONTROL")?,
            scripts: daemon.switch("MEMBRIDGE_AGENT_SCRIPTS")?,
            hooks_bin: daemon.path("MEMBRIDGE_HOOKS_BIN", ".claude-mem-minio/bin"),
            config_env: daemon.path("MEMBRIDGE_CONFIG_ENV", ".claude-mem-minio/config.env"),
            agent_dir: daemon.path("MEMBRIDGE_AGENT_DIR", "membridge"),
            repos_base: daemon.path("MEMBRIDGE_REPOS_BASE", "projects"),
            projects_file: match daemon.text("MEMBRIDGE_PROJECTS_FILE") {
                Some(path) => expand_home(path, daemon.home()),
                None => state.join("agent_projects.json"),
            },
            results: state.join("agent-jobs"),
            state: state.to_owned(),
            server_url: daemon
                .text("MEMBRIDGE_SERVER_URL")
                .unwrap_or("http://127.0.0.1:8000")
                .trim_end_matches('/')
                .to_owned(),
            server_key,
            interval: Duration::from_secs(u64::try_from(interval).unwrap_or(10)),
            url: daemon.text("MEMBRIDGE_AGENT_URL").map(|url| url.trim_end_matches('/').to_owned()),
            runtime_url: daemon.text("BLOOM_RUNTIME_URL").map(str::to_owned),
            for_children: from_file
                .iter()
                .filter(|(name, _)| !KEPT_FROM_CHILDREN.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            secrets,
        })
    }
}

/// An admin key where somebody gave one: servers of the Python product take nothing else. Otherwise the agent's own.
fn server_key(
    daemon: Daemon<'_>,
    own: Option<&Secret>,
) -> Result<Option<(&'static str, Secret)>, ConfigError> {
    const ADMIN: &str = "x-membridge-admin";
    if let Some(key) = daemon.secret("MEMBRIDGE_SERVER_ADMIN_KEY", "MEMBRIDGE_SERVER_ADMIN_KEY_FILE")? {
        return Ok(Some((ADMIN, key)));
    }
    if let Some(key) = daemon.secret("MEMBRIDGE_ADMIN_KEY", "MEMBRIDGE_ADMIN_KEY_FILE")? {
        return Ok(Some((ADMIN, key)));
    }
    Ok(own.map(|key| ("x-membridge-agent", key.clone())))
}

#[cfg(test)]
mod tests {
    use super::AgentSettings;
    use std::collections::BTreeMap;
    use std::path::Path;

    use crate::config::Environment;

    fn settings(values: &[(&str, &str)]) -> AgentSettings {
        let home = [("HOME", "/home/ann")];
        let values = home.iter().chain(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::from_values(values);
        AgentSettings::new(&environment, None, Path::new("/var/lib/ann"), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn defaults_are_the_contracts() {
        let settings = settings(&[]);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8001");
        assert_eq!(settings.hooks_bin.to_str(), Some("/home/ann/.claude-mem-minio/bin"));
        assert_eq!(settings.server_url, "http://127.0.0.1:8000");
        assert_eq!(settings.interval.as_secs(), 10);
        assert!(settings.server_key.is_none() && !settings.dry_run && !settings.process_control);
    }

    #[test]
    fn what_it_keeps_lies_in_our_state_directory() {
        let place = |values: &[(&str, &str)]| settings(values).projects_file.display().to_string();
        assert_eq!(place(&[]), "/var/lib/ann/agent_projects.json");
        assert_eq!(place(&[("MEMBRIDGE_PROJECTS_FILE", "~/mine.json")]), "/home/ann/mine.json");
        assert_eq!(settings(&[]).results.to_str(), Some("/var/lib/ann/agent-jobs"));
    }

    #[test]
    fn which_key_a_heartbeat_carries() {
        let own = ("MEMBRIDGE_AGENT_KEY", "own");
        let admin = ("MEMBRIDGE_ADMIN_KEY", "admin");
        let servers = ("MEMBRIDGE_SERVER_ADMIN_KEY", "servers");
        let table: [(&[(&str, &str)], Option<(&str, &str)>); 4] = [
            (&[], None),
            (&[own], Some(("x-membridge-agent", "own"))),
            (&[own, admin], Some(("x-membridge-admin", "admin"))),
            (&[own, admin, servers], Some(("x-membridge-admin", "servers"))),
        ];
        for (values, expected) in table {
            let settings = settings(values);
            let key = settings.server_key.as_ref().map(|(header, key)| (*header, key.reveal()));
            assert_eq!(key, expected, "{values:?}");
            for (_, value) in values {
                assert!(settings.secrets.iter().any(|secret| secret == value), "{value} is not struck out");
            }
        }
    }
}
