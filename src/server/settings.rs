//! The server's settings, from its environment: names and defaults are the contract's. Values only.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::daemon::{Daemon, guard};
use crate::config::{ConfigError, Environment, Secret};

/// The version of the interface, which callers of the Python server read.
pub const API_VERSION: &str = "0.3.0";

/// What the server is told.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// MEMBRIDGE_ADMIN_KEY, and MEMBRIDGE_ADMIN_KEY_PREVIOUS while keys are exchanged.
    pub admin_keys: Vec<Secret>,
    /// The keys with which agents may send heartbeats: MEMBRIDGE_AGENT_KEY, and its _PREVIOUS.
    pub agent_keys: Vec<Secret>,
    /// The key that agents are asked with; empty when there is none.
    pub agent_key: Secret,
    /// MEMBRIDGE_DEV
    pub dev: bool,
    /// MEMBRIDGE_DATA_DIR
    pub data: PathBuf,
}

impl ServerSettings {
    /// Reads them; `listen` is `--listen`, `dev` is `--dev`.
    ///
    /// # Errors
    /// A malformed one; an address that others reach without a key.
    pub fn new(environment: &Environment, listen: Option<&str>, dev: bool) -> Result<Self, ConfigError> {
        let daemon = Daemon(environment);
        let port = daemon.number("MEMBRIDGE_PORT", 0, 65_535, 8000)?;
        let listen = daemon.listen(listen, u16::try_from(port).unwrap_or(8000))?;
        let admin = daemon.secret("MEMBRIDGE_ADMIN_KEY", "MEMBRIDGE_ADMIN_KEY_FILE")?;
        let agent = daemon.secret("MEMBRIDGE_AGENT_KEY", "MEMBRIDGE_AGENT_KEY_FILE")?;
        let dev = dev || daemon.switch("MEMBRIDGE_DEV")?;
        guard(listen, dev, admin.is_some(), "MEMBRIDGE_ADMIN_KEY")?;
        let older = |name| daemon.text(name).map(Secret::new);
        Ok(Self {
            listen,
            admin_keys: admin.into_iter().chain(older("MEMBRIDGE_ADMIN_KEY_PREVIOUS")).collect(),
            agent_key: agent.clone().unwrap_or_else(|| Secret::new("")),
            agent_keys: agent.into_iter().chain(older("MEMBRIDGE_AGENT_KEY_PREVIOUS")).collect(),
            dev,
            data: daemon.path("MEMBRIDGE_DATA_DIR", "membridge/server/data"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ServerSettings;
    use crate::config::Environment;

    fn settings(values: &[(&str, &str)], listen: Option<&str>) -> Option<ServerSettings> {
        let home = [("HOME", "/home/ann")];
        let values = home.iter().chain(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ServerSettings::new(&Environment::from_values(values), listen, false).ok()
    }

    #[test]
    fn defaults_are_the_contracts_but_for_the_address() {
        let settings = settings(&[], None).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(settings.data.to_str(), Some("/home/ann/membridge/server/data"));
        assert!(settings.admin_keys.is_empty() && settings.agent_keys.is_empty() && !settings.dev);
    }

    #[test]
    fn the_world_needs_a_key() {
        let key = ("MEMBRIDGE_ADMIN_KEY", "k");
        let previous = ("MEMBRIDGE_ADMIN_KEY_PREVIOUS", "old");
        assert!(settings(&[], Some("0.0.0.0")).is_none());
        assert!(settings(&[previous], Some("0.0.0.0")).is_none(), "an old key alone is none");
        assert!(settings(&[key, ("MEMBRIDGE_DEV", "1")], Some("0.0.0.0")).is_none());
        assert_eq!(settings(&[key, previous], Some("0.0.0.0")).unwrap().admin_keys.len(), 2);
    }
}
