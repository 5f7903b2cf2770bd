//! The configuration of one run: validated, immutable, secrets redacted. Everything below `commands` gets its
//! settings from here and never looks at the environment.

pub mod daemon;
pub mod env_file;
mod environment;
mod error;
mod file;
pub mod paths;
pub mod settings;
mod store;
mod worker;

use std::path::PathBuf;

use crate::identity::{Node, Project};

pub use environment::Environment;
pub use error::ConfigError;
pub use file::file_to_write;
pub use paths::Paths;
pub use settings::{Settings, Source};
pub use store::store;
pub use worker::{WorkerConfig, worker};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the signer only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("set")
    }
}

/// Where the memory of all machines is kept.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// An S3-compatible bucket.
    S3(Box<S3Config>),
    /// A directory: `file:///path` as MINIO_ENDPOINT.
    Dir(PathBuf),
}

/// An S3-compatible bucket.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// `http://` or `https://` URL, without a trailing slash.
    pub endpoint: String,
    /// Access key id.
    pub access_key: Secret,
    /// Secret access key.
    pub secret_key: Secret,
    /// Bucket name.
    pub bucket: String,
    /// Signing region.
    pub region: String,
    /// Where the bucket stands in a request.
    pub addressing: Addressing,
    /// Proxy for whatever has none of its own.
    pub all_proxy: Option<Secret>,
    /// Proxy for http:// endpoints.
    pub http_proxy: Option<Secret>,
    /// Proxy for https:// endpoints.
    pub https_proxy: Option<Secret>,
    /// Hosts that are never proxied, beside the local ones.
    pub no_proxy: String,
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// How fast objects may come and go.
    pub limits: Limits,
}

/// Limits of the line, in bytes a second; `None`: as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// MEMBRIDGE_LIMIT_UPLOAD
    pub upload: Option<u64>,
    /// MEMBRIDGE_LIMIT_DOWNLOAD
    pub download: Option<u64>,
}

impl S3Config {
    /// How messages and our own records name the bucket.
    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint, self.bucket)
    }
}

/// What is said of a store that is not [private](StoreConfig::is_private).
pub const PLAIN_HTTP: &str = "plain http: whoever sees the network sees the memory";

impl StoreConfig {
    /// How messages and our own records name the store: endpoint and bucket, or the directory.
    pub fn name(&self) -> String {
        match self {
            Self::S3(config) => config.name(),
            Self::Dir(root) => format!("file://{}", root.display()),
        }
    }

    /// Whether what travels cannot be read on the way: TLS, this machine itself, or a directory.
    pub fn is_private(&self) -> bool {
        let Self::S3(config) = self else {
            return true;
        };
        let Some(rest) = config.endpoint.strip_prefix("http://") else {
            return true;
        };
        ["127.", "localhost", "[::1]"].iter().any(|local| rest.starts_with(local))
    }
}

/// Where the bucket's name stands in a request: MINIO_ADDRESSING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// In the path, until the store asks for the other.
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host name: `https://bucket.host/key`.
    Virtual,
}

/// Times of the lock, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct LockConfig {
    /// How long a lock is valid.
    pub ttl: i64,
    /// How long after that a foreign lock is still left alone.
    pub grace: i64,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self { ttl: 7200, grace: 60 }
    }
}

/// Leadership settings.
#[derive(Debug, Clone)]
pub struct LeadershipConfig {
    /// Whether roles are checked at all.
    pub enabled: bool,
    /// PRIMARY_NODE_ID.
    pub primary: Option<String>,
    /// Lifetime of a lease in seconds.
    pub lease_seconds: i64,
}

/// Overrides that a person can give.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    /// FORCE_PUSH
    pub force_push: bool,
    /// ALLOW_SECONDARY_PUSH
    pub secondary_push: bool,
    /// ALLOW_PRIMARY_PULL_OVERRIDE
    pub primary_pull: bool,
}

/// Retention of pull-overwrite backups.
#[derive(Debug, Clone, Copy)]
pub struct BackupRetention {
    /// Older ones go (days).
    pub max_days: i64,
    /// More than this many go.
    pub max_count: i64,
}

/// Retention of the history in the bucket: a commit goes when it is beyond both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRetention {
    /// This many stay in any case (at least 1: the head).
    pub max_count: i64,
    /// Younger ones stay in any case (days).
    pub max_days: i64,
}

/// Everything a command needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store.
    pub store: StoreConfig,
    /// The project.
    pub project: Project,
    /// It was named on the command line, for this run alone.
    pub project_for_once: bool,
    /// The local database, as configured (it may be a symbolic link, or not exist yet).
    pub database: PathBuf,
    /// Who we are.
    pub node: Node,
    /// Lock times.
    pub lock: LockConfig,
    /// Leadership.
    pub leadership: LeadershipConfig,
    /// Overrides.
    pub overrides: Overrides,
    /// The worker.
    pub worker: WorkerConfig,
    /// Backup retention.
    pub backups: BackupRetention,
    /// History retention.
    pub history: HistoryRetention,
    /// Which rows travel.
    pub rows: RowsConfig,
    /// Files of ours and of claude-mem.
    pub paths: Paths,
    /// CLAUDE_CANONICAL_PROJECT_ID, which is ignored but warned about (F05).
    pub pinned_cid: Option<String>,
}

/// Which rows travel.
#[derive(Debug, Clone, Default)]
pub struct RowsConfig {
    /// MEMBRIDGE_SYNC_TOOL_USES: the raw log of tool calls travels too.
    pub tool_uses: bool,
    /// MEMBRIDGE_EXCLUDE_PROJECTS: claude-mem's projects that never leave this machine, as globs.
    pub excluded: Vec<String>,
}

/// What must be set for a bucket, in the order in which a missing one is reported. A directory store needs no keys.
pub const REQUIRED: [&str; 6] = [
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "MINIO_BUCKET",
    "CLAUDE_PROJECT_ID",
    "CLAUDE_MEM_DB",
];

/// Where settings go on a machine that nobody told otherwise.
pub const USUAL_PLACE: &str = "~/.claude-mem-minio/config.env; to make that file: membridge config init";

/// The longest time that a setting may ask for: ten years.
pub const MAX_SECONDS: i64 = 10 * 366 * 86_400;

impl Config {
    /// Checks all settings; the first missing required one is reported in the order of the contract.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let store = store(settings)?;
        let project = project(settings)?;
        let database = PathBuf::from(settings.require_plain("CLAUDE_MEM_DB")?);
        if database.file_name().is_none() {
            return Err(ConfigError::BadValue {
                name: "CLAUDE_MEM_DB",
                value: database.display().to_string(),
                problem: "is not the path of a file".to_owned(),
            });
        }
        // The hooks' alone; but whoever asks whether the settings are sound wants to hear of it.
        settings.number("MEMBRIDGE_PUSH_INTERVAL_SECONDS", 0, 86_400)?;
        let lock = LockConfig::default();
        Ok(Self {
            store,
            project,
            project_for_once: settings.source("CLAUDE_PROJECT_ID") == Some(Source::Flag),
            database,
            node: node(settings)?,
            lock: LockConfig {
                ttl: settings.number("LOCK_TTL_SECONDS", 1, MAX_SECONDS)?.unwrap_or(lock.ttl),
                grace: settings.number("STALE_LOCK_GRACE_SECONDS", 0, MAX_SECONDS)?.unwrap_or(lock.grace),
            },
            leadership: leadership(settings)?,
            overrides: Overrides {
                force_push: settings.switch("FORCE_PUSH")?,
                secondary_push: settings.switch("ALLOW_SECONDARY_PUSH")?,
                primary_pull: settings.switch("ALLOW_PRIMARY_PULL_OVERRIDE")?,
            },
            worker: worker(settings)?,
            backups: BackupRetention {
                max_days: settings.number("PULL_BACKUP_MAX_DAYS", 0, 36_500)?.unwrap_or(14),
                max_count: settings.number("PULL_BACKUP_MAX_COUNT", 1, 100_000)?.unwrap_or(50),
            },
            history: HistoryRetention {
                max_count: settings.number("HISTORY_MAX_COUNT", 1, 1_000_000)?.unwrap_or(50),
                max_days: settings.number("HISTORY_MAX_DAYS", 0, 36_500)?.unwrap_or(30),
            },
            rows: RowsConfig {
                tool_uses: settings.switch("MEMBRIDGE_SYNC_TOOL_USES")?,
                excluded: excluded(settings)?,
            },
            paths: Paths::new(settings),
            pinned_cid: settings.get("CLAUDE_CANONICAL_PROJECT_ID").map(str::to_owned),
        })
    }
}

/// The globs of MEMBRIDGE_EXCLUDE_PROJECTS, separated by commas.
fn excluded(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let text = settings.plain("MEMBRIDGE_EXCLUDE_PROJECTS")?.unwrap_or_default();
    Ok(text.split(',').map(str::trim).filter(|glob| !glob.is_empty()).map(str::to_owned).collect())
}

/// The project alone, for commands that need nothing else.
///
/// # Errors
/// CLAUDE_PROJECT_ID is not set, or holds a control character.
pub fn project(settings: &Settings) -> Result<Project, ConfigError> {
    Ok(Project::new(settings.require_plain("CLAUDE_PROJECT_ID")?))
}

/// The leadership settings alone.
///
/// # Errors
/// A malformed one.
pub fn leadership(settings: &Settings) -> Result<LeadershipConfig, ConfigError> {
    Ok(LeadershipConfig {
        enabled: settings.switch("LEADERSHIP_ENABLED")?,
        primary: settings.plain("PRIMARY_NODE_ID")?.map(str::to_owned),
        lease_seconds: settings.number("LEADERSHIP_LEASE_SECONDS", 1, MAX_SECONDS)?.unwrap_or(3600),
    })
}

/// Who this machine is.
///
/// # Errors
/// The operating system's host name is not UTF-8 or cannot be had, and none is configured.
pub fn node(settings: &Settings) -> Result<Node, ConfigError> {
    let host = match settings.plain("MEMBRIDGE_HOSTNAME")? {
        Some(host) => host.to_owned(),
        None => hostname::get()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|name| !name.is_empty())
            .ok_or_else(|| settings.not_set("MEMBRIDGE_HOSTNAME"))?,
    };
    let id = settings.plain("MEMBRIDGE_NODE_ID")?.map_or_else(|| host.clone(), str::to_owned);
    Ok(Node { host, id })
}
