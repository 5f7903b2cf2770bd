//! The files of the daemons' variables: what stands in a new one. An existing one is never changed. Pure.

use super::layout::{Daemon, Layout};

/// The keys of a new installation.
#[derive(Clone)]
pub struct NewKeys {
    /// 48 hex digits.
    pub admin: String,
    /// 48 hex digits.
    pub agent: String,
}

/// The text of a new file. `agent_key` is the fleet's key, where this machine knows it: it is the server too.
pub fn text(daemon: Daemon, layout: &Layout, keys: &NewKeys, agent_key: Option<&str>) -> String {
    match daemon {
        Daemon::Server => format!(
            "# Variables of membridge server; docs/fleet.md lists all.\n\
             MEMBRIDGE_ADMIN_KEY={}\n\
             MEMBRIDGE_AGENT_KEY={}\n\
             MEMBRIDGE_DATA_DIR={}\n\
             # 0.0.0.0 lets other machines in.\n\
             MEMBRIDGE_HOST=127.0.0.1\n",
            keys.admin,
            keys.agent,
            layout.data().display()
        ),
        Daemon::Agent => format!(
            "# Variables of membridge agent; docs/fleet.md lists all.\n\
             # MEMBRIDGE_AGENT_KEY of the server's .env.server:\n\
             MEMBRIDGE_AGENT_KEY={}\n\
             MEMBRIDGE_AGENT_DRYRUN=0\n\
             MEMBRIDGE_ALLOW_PROCESS_CONTROL=0\n\
             MEMBRIDGE_HOOKS_BIN={}\n\
             MEMBRIDGE_CONFIG_ENV={}\n\
             # Where the server is, and where it finds this agent:\n\
             MEMBRIDGE_SERVER_URL=http://127.0.0.1:8000\n\
             #MEMBRIDGE_AGENT_URL=http://this-machine:8001\n\
             # 0.0.0.0 lets the server of another machine in.\n\
             MEMBRIDGE_HOST=127.0.0.1\n",
            agent_key.unwrap_or_default(),
            layout.scripts().display(),
            layout.config_env().display()
        ),
    }
}

/// The agents' key in an existing `.env.server`.
pub fn agent_key(server_file: &str) -> Option<&str> {
    let line = server_file.lines().find_map(|line| line.trim().strip_prefix("MEMBRIDGE_AGENT_KEY="))?;
    Some(line.trim().trim_matches(['"', '\''])).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{NewKeys, agent_key, text};
    use crate::setup::layout::{Daemon, Layout};
    use std::path::Path;

    #[test]
    fn a_new_file_is_read_back_as_it_is_meant() {
        let layout = Layout::new(Path::new("/home/ann"), None);
        let keys = NewKeys { admin: "a".repeat(48), agent: "b".repeat(48) };
        let server = text(Daemon::Server, &layout, &keys, None);
        assert_eq!(agent_key(&server), Some(keys.agent.as_str()));
        let values = crate::config::env_file::parse(&server, |_| None).unwrap();
        assert_eq!(values["MEMBRIDGE_DATA_DIR"], "/home/ann/membridge/server/data");
        let agent = text(Daemon::Agent, &layout, &keys, Some("shared"));
        let values = crate::config::env_file::parse(&agent, |_| None).unwrap();
        assert_eq!(values["MEMBRIDGE_AGENT_KEY"], "shared");
        assert!(!agent.contains(&keys.admin), "no machine but the server's has the admin key");
        assert_eq!(agent_key(&text(Daemon::Agent, &layout, &keys, None)), None);
    }
}
