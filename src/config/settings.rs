//! Every setting by name, and where its value came from: flag, environment, config.env, default — in that order.
//! Knows texts only; `Config` gives them meaning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{file_to_write, find_file, read_file};
use super::{ConfigError, Environment};
use crate::visible::short_path;

/// One setting that people can make.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name of the variable, also in config.env.
    pub name: &'static str,
    /// What it is when nobody says anything.
    pub default: Option<&'static str>,
    /// Never shown.
    pub secret: bool,
}

const fn setting(name: &'static str, default: Option<&'static str>) -> Setting {
    Setting { name, default, secret: false }
}

const fn secret(name: &'static str) -> Setting {
    Setting { name, default: None, secret: true }
}

/// All settings; the required ones first, in the order in which a missing one is reported, which is the Python script's.
pub const SETTINGS: &[Setting] = &[
    setting("MINIO_ENDPOINT", None),
    secret("MINIO_ACCESS_KEY"),
    secret("MINIO_SECRET_KEY"),
    setting("MINIO_BUCKET", None),
    setting("CLAUDE_PROJECT_ID", None),
    setting("CLAUDE_MEM_DB", None),
    setting("MINIO_REGION", Some("us-east-1")),
    setting("MINIO_ADDRESSING", Some("auto")),
    setting("MEMBRIDGE_LIMIT_UPLOAD", None),
    setting("MEMBRIDGE_LIMIT_DOWNLOAD", None),
    setting("LOCK_TTL_SECONDS", Some("7200")),
    setting("STALE_LOCK_GRACE_SECONDS", Some("60")),
    setting("FORCE_PUSH", Some("0")),
    setting("PULL_BACKUP_MAX_DAYS", Some("14")),
    setting("PULL_BACKUP_MAX_COUNT", Some("50")),
    setting("HISTORY_MAX_COUNT", Some("50")),
    setting("HISTORY_MAX_DAYS", Some("30")),
    setting("MEMBRIDGE_NODE_ID", None),
    setting("PRIMARY_NODE_ID", None),
    setting("MEMBRIDGE_HOSTNAME", None),
    setting("ALLOW_SECONDARY_PUSH", Some("0")),
    setting("ALLOW_PRIMARY_PULL_OVERRIDE", Some("0")),
    setting("LEADERSHIP_ENABLED", Some("1")),
    setting("LEADERSHIP_LEASE_SECONDS", Some("3600")),
    setting("MEMBRIDGE_NO_RESTART_WORKER", Some("0")),
    setting("CLAUDE_MEM_WORKER_PORT", None),
    setting("CLAUDE_MEM_WORKER_HOST", Some("127.0.0.1")),
    setting("CLAUDE_MEM_DATA_DIR", None),
    setting("CLAUDE_MEM_WORKER_SCRIPT_PATH", None),
    setting("CLAUDE_CONFIG_DIR", None),
    setting("BUN", None),
    setting("BUN_PATH", None),
    setting("PATH", None),
    setting("MEMBRIDGE_SYNC_TOOL_USES", Some("0")),
    setting("MEMBRIDGE_EXCLUDE_PROJECTS", None),
    setting("MEMBRIDGE_HOOK_MESSAGES", Some("1")),
    setting("MEMBRIDGE_KEY_FILE", None),
    setting("MEMBRIDGE_PUSH_INTERVAL_SECONDS", Some("60")),
    setting("MEMBRIDGE_STATE_DIR", None),
    setting("HTTP_PROXY", None),
    setting("HTTPS_PROXY", None),
    setting("ALL_PROXY", None),
    setting("NO_PROXY", None),
    setting("AWS_CA_BUNDLE", None),
    setting("SSL_CERT_FILE", None),
    setting("CLAUDE_CANONICAL_PROJECT_ID", None),
];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag on the command line.
    Flag,
    /// The environment of the process.
    Environment,
    /// The config.env file.
    File,
    /// Built in.
    Default,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "config.env",
            Self::Default => "default",
        })
    }
}

/// All settings with their values as text.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    /// The config.env that was read, when there was one.
    pub file: Option<PathBuf>,
    /// Where one would go.
    target: PathBuf,
    /// The home directory.
    pub home: PathBuf,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.values.keys().map(|name| (name, self.shown(name)));
        f.debug_map().entries(shown).finish()
    }
}

impl Settings {
    /// Puts flags, environment, config.env and defaults together. `config_flag` is `--config PATH`.
    ///
    /// # Errors
    /// No home directory; a config.env that was asked for and cannot be read; a line in it that cannot be
    /// understood; a variable of ours that is not UTF-8.
    pub fn load(
        flags: &BTreeMap<&'static str, String>,
        environment: &Environment,
        config_flag: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let home = environment.home().ok_or(ConfigError::NoHome)?.to_owned();
        let file = find_file(environment, config_flag, &home)?;
        let from_file = match &file {
            Some(path) => read_file(path, environment)?,
            None => BTreeMap::new(),
        };
        if let Some(setting) =
            SETTINGS.iter().find(|setting| environment.unreadable.iter().any(|name| name == setting.name))
        {
            return Err(ConfigError::NotUtf8 { name: setting.name });
        }
        Ok(Self {
            values: combine(flags, environment, &from_file),
            file,
            target: file_to_write(environment, config_flag),
            home,
        })
    }

    /// Flags, environment and defaults, without any file: for doctor where the file is what is broken, and for
    /// whoever is about to write it. What cannot be read counts as unset.
    pub fn without_file(
        flags: &BTreeMap<&'static str, String>,
        environment: &Environment,
        config_flag: Option<&Path>,
    ) -> Self {
        Self {
            values: combine(flags, environment, &BTreeMap::new()),
            file: None,
            target: file_to_write(environment, config_flag),
            home: environment.home().unwrap_or(Path::new("/")).to_owned(),
        }
    }

    /// Gives a setting a value.
    pub fn set(&mut self, name: &'static str, value: String, source: Source) {
        self.values.insert(name, (value, source));
    }

    /// The value of a setting, when it has one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// Where the value of a setting came from.
    pub fn source(&self, name: &str) -> Option<Source> {
        self.values.get(name).map(|(_, source)| *source)
    }

    /// The value as it may be shown: `set` for a secret.
    pub fn shown(&self, name: &str) -> Option<&str> {
        let secret = SETTINGS.iter().any(|setting| setting.name == name && setting.secret);
        self.get(name).map(|value| if secret || has_credentials(value) { "set" } else { value })
    }

    /// The value of a required setting.
    ///
    /// # Errors
    /// `NAME not set`.
    pub fn require(&self, name: &'static str) -> Result<&str, ConfigError> {
        self.get(name).ok_or_else(|| self.not_set(name))
    }

    /// That a setting is missing, and where it belongs: into the file that is read, wherever somebody told us to look.
    pub fn not_set(&self, name: &'static str) -> ConfigError {
        let shown = |path: &Path| short_path(path, &self.home);
        let place = match &self.file {
            Some(file) => shown(file),
            None => format!("{}; to make that file: membridge config init", shown(&self.target)),
        };
        ConfigError::NotSet { name, place }
    }

    /// A setting that goes into a header, an address, a key or a path: one line of text.
    ///
    /// # Errors
    /// A control character in it. The SDK panics on one in a key or a region, and a carriage return that came with
    /// Windows line ends would make another project, bucket or node of the name.
    pub fn plain(&self, name: &'static str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Some(control) = value.chars().find(|c| c.is_control()) else {
            return Ok(Some(value));
        };
        let what = match control {
            '\r' => "a carriage return (\\r)".to_owned(),
            '\n' => "a line end (\\n)".to_owned(),
            other => format!("the control character U+{:04X}", u32::from(other)),
        };
        Err(ConfigError::Control { name, what })
    }

    /// The same for a required setting.
    ///
    /// # Errors
    /// See [`Settings::plain`] and [`Settings::require`].
    pub fn require_plain(&self, name: &'static str) -> Result<&str, ConfigError> {
        self.plain(name)?.ok_or_else(|| self.not_set(name))
    }

    /// A switch: 1/true/yes/on or 0/false/no/off in any case.
    ///
    /// # Errors
    /// Any other text.
    pub fn switch(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true" | "yes" | "on") => Ok(true),
            None | Some("0" | "false" | "no" | "off") => Ok(false),
            Some(value) => Err(ConfigError::BadSwitch { name, value: value.to_owned() }),
        }
    }

    /// A whole number within bounds (`None` when the setting has no value).
    ///
    /// # Errors
    /// Text that is not such a number.
    pub fn number(&self, name: &'static str, from: i64, to: i64) -> Result<Option<i64>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .trim()
            .parse()
            .ok()
            .filter(|number| (from..=to).contains(number))
            .map(Some)
            .ok_or_else(|| ConfigError::BadNumber { name, value: value.to_owned(), from, to })
    }
}

/// Each setting's value from the first place that has one.
fn combine(
    flags: &BTreeMap<&'static str, String>,
    environment: &Environment,
    from_file: &BTreeMap<String, String>,
) -> BTreeMap<&'static str, (String, Source)> {
    let mut values = BTreeMap::new();
    for setting in SETTINGS {
        let name = setting.name;
        let lower = lower_twin(name).and_then(|twin| environment.get(twin));
        let found = None
            .or_else(|| {
                let given = flags.get(name).filter(|value| !value.is_empty());
                given.map(|value| (value.clone(), Source::Flag))
            })
            .or_else(|| environment.get(name).or(lower).map(|value| (value.to_owned(), Source::Environment)))
            .or_else(|| {
                from_file
                    .get(name)
                    .filter(|value| !value.is_empty())
                    .map(|value| (value.clone(), Source::File))
            })
            .or_else(|| setting.default.map(|value| (value.to_owned(), Source::Default)));
        if let Some(found) = found {
            values.insert(name, found);
        }
    }
    values
}

/// A proxy URL can carry a user and a password.
fn has_credentials(value: &str) -> bool {
    value.contains("://") && value.contains('@')
}

/// curl, boto3 and most others read the proxy variables in lower case too.
fn lower_twin(name: &str) -> Option<&'static str> {
    match name {
        "HTTP_PROXY" => Some("http_proxy"),
        "HTTPS_PROXY" => Some("https_proxy"),
        "ALL_PROXY" => Some("all_proxy"),
        "NO_PROXY" => Some("no_proxy"),
        _ => None,
    }
}
