//! What agent and server share of their settings. These come from the daemon's own environment (`.env.agent`,
//! `.env.server`), never from config.env, which is the person's. Knows no setting of either alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::file::read_file;
use super::paths::expand_home;
use super::{ConfigError, Environment, Secret};

/// The environment with what a file such as `.env.agent` adds to it, as systemd's EnvironmentFile would, and what that
/// is. What is set already stays.
///
/// # Errors
/// The file cannot be read or understood.
pub fn with_file(
    environment: &Environment,
    path: &Path,
) -> Result<(Environment, BTreeMap<String, String>), ConfigError> {
    let mut added = read_file(path, environment)?;
    added.retain(|name, _| environment.get(name).is_none());
    Ok((environment.with(&added), added))
}

/// A daemon's environment, read setting by setting.
#[derive(Debug, Clone, Copy)]
pub struct Daemon<'a>(pub &'a Environment);

impl<'a> Daemon<'a> {
    /// A text.
    pub fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)
    }

    /// A switch, as everywhere in membridge; unset is off.
    ///
    /// # Errors
    /// Any other text.
    pub fn switch(self, name: &'static str) -> Result<bool, ConfigError> {
        match self.0.get(name).map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true" | "yes" | "on") => Ok(true),
            None | Some("0" | "false" | "no" | "off") => Ok(false),
            Some(value) => Err(ConfigError::BadSwitch { name, value: value.to_owned() }),
        }
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// Text that is not such a number.
    pub fn number(self, name: &'static str, from: i64, to: i64, otherwise: i64) -> Result<i64, ConfigError> {
        let Some(value) = self.0.get(name) else {
            return Ok(otherwise);
        };
        let number = value.trim().parse().ok().filter(|number| (from..=to).contains(number));
        number.ok_or_else(|| ConfigError::BadNumber { name, value: value.to_owned(), from, to })
    }

    /// A path; `~/` is the home directory, and so is where `otherwise` begins.
    pub fn path(self, name: &str, otherwise: &str) -> PathBuf {
        match self.0.get(name) {
            Some(path) => expand_home(path, self.home()),
            None => self.home().join(otherwise),
        }
    }

    /// The home directory.
    pub fn home(self) -> &'a Path {
        self.0.home().unwrap_or(Path::new("/"))
    }

    /// A key: the variable itself, or the first line of the file that `NAME_FILE` names.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn secret(self, name: &'static str, file: &'static str) -> Result<Option<Secret>, ConfigError> {
        if let Some(value) = self.0.get(name) {
            return Ok(Some(Secret::new(value)));
        }
        let Some(path) = self.0.get(file).map(PathBuf::from) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::Unreadable { path, problem: error.to_string() })?;
        let line = text.lines().next().unwrap_or_default().trim();
        Ok((!line.is_empty()).then(|| Secret::new(line)))
    }

    /// Where to listen: `told` (`--listen`), else MEMBRIDGE_HOST and `port`. Loopback unless somebody says otherwise.
    ///
    /// # Errors
    /// An address that is none, or a host name.
    pub fn listen(self, told: Option<&str>, port: u16) -> Result<SocketAddr, ConfigError> {
        let bad = |name, value: &str| ConfigError::BadValue {
            name,
            value: value.to_owned(),
            problem: "is no address such as 127.0.0.1 or 0.0.0.0:8001".to_owned(),
        };
        let (name, text) = match (told, self.0.get("MEMBRIDGE_HOST")) {
            (Some(told), _) => ("--listen", told),
            (None, Some(host)) => ("MEMBRIDGE_HOST", host),
            (None, None) => return Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        };
        let text = text.trim();
        let alone = text.trim_matches(['[', ']']).parse::<IpAddr>().map(|host| SocketAddr::new(host, port));
        alone.or_else(|_| text.parse()).map_err(|_| bad(name, text))
    }
}

/// Other machines reach an address that is not loopback: then there must be a key, and no development mode.
///
/// # Errors
/// Says what to set.
pub fn guard(listen: SocketAddr, dev: bool, has_key: bool, key: &'static str) -> Result<(), ConfigError> {
    let refused = |problem: &str| {
        Err(ConfigError::BadValue {
            name: "MEMBRIDGE_HOST",
            value: listen.ip().to_string(),
            problem: problem.to_owned(),
        })
    };
    match (listen.ip().is_loopback(), dev, has_key) {
        (true, ..) => Ok(()),
        (false, true, _) => refused("is not loopback, and MEMBRIDGE_DEV=1 asks nobody for a key"),
        (false, false, false) => refused(&format!("is not loopback, and {key} is not set")),
        (false, false, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Daemon, guard};
    use crate::config::Environment;

    fn environment(values: &[(&str, &str)]) -> Environment {
        Environment::from_values(values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn where_a_daemon_listens() {
        let table = [
            (None, None, Some("127.0.0.1:8001")),
            (None, Some("0.0.0.0"), Some("0.0.0.0:8001")),
            (None, Some("::1"), Some("[::1]:8001")),
            (None, Some("[::]"), Some("[::]:8001")),
            (Some("127.0.0.1:0"), Some("0.0.0.0"), Some("127.0.0.1:0")),
            (Some("10.0.0.1"), None, Some("10.0.0.1:8001")),
            (None, Some("desk.local"), None),
            (Some(""), None, None),
        ];
        for (told, host, expected) in table {
            let environment =
                environment(&host.map(|host| ("MEMBRIDGE_HOST", host)).into_iter().collect::<Vec<_>>());
            let listen = Daemon(&environment).listen(told, 8001).ok().map(|listen| listen.to_string());
            assert_eq!(listen.as_deref(), expected, "{told:?} {host:?}");
        }
    }

    #[test]
    fn nobody_listens_to_the_world_without_a_key() {
        let table = [
            ("127.0.0.1:1", true, false, true),
            ("[::1]:1", false, false, true),
            ("0.0.0.0:1", false, true, true),
            ("0.0.0.0:1", false, false, false),
            ("0.0.0.0:1", true, true, false),
            ("[::]:1", false, false, false),
        ];
        for (listen, dev, has_key, allowed) in table {
            let guarded = guard(listen.parse().unwrap(), dev, has_key, "MEMBRIDGE_ADMIN_KEY");
            assert_eq!(guarded.is_ok(), allowed, "{listen} {dev} {has_key}");
        }
    }

    #[test]
    fn a_key_comes_from_the_variable_or_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "key from a file\nmore\n").unwrap();
        let path = file.path().to_str().unwrap();
        let of = |values: &[(&str, &str)]| {
            let environment = environment(values);
            let read = Daemon(&environment).secret("KEY", "KEY_FILE");
            read.map(|key| key.map(|key| key.reveal().to_owned()))
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("KEY", "a"), ("KEY_FILE", path)]).unwrap().as_deref(), Some("a"));
        assert_eq!(of(&[("KEY_FILE", path)]).unwrap().as_deref(), Some("key from a file"));
        assert!(of(&[("KEY_FILE", "/nowhere")]).is_err());
    }
}
