//! Where an installation of the daemons lies. Computes paths, touches no file.

use std::path::{Path, PathBuf};

/// A daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// `membridge agent`
    Agent,
    /// `membridge server`
    Server,
}

impl Daemon {
    /// The command.
    pub fn command(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }

    /// The service, in systemd and OpenRC.
    pub fn service(self) -> &'static str {
        match self {
            Self::Agent => "membridge-agent",
            Self::Server => "membridge-server",
        }
    }

    /// The port of its health address.
    pub fn port(self) -> u16 {
        match self {
            Self::Agent => 8001,
            Self::Server => 8000,
        }
    }
}

/// The places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The person's home.
    pub home: PathBuf,
    /// `~/membridge`, or MEMBRIDGE_DIR.
    pub dir: PathBuf,
}

impl Layout {
    /// For a home; `dir` is MEMBRIDGE_DIR.
    pub fn new(home: &Path, dir: Option<&str>) -> Self {
        let dir = dir.map_or_else(|| home.join("membridge"), PathBuf::from);
        Self { home: home.to_owned(), dir }
    }

    /// The file of a daemon's variables.
    pub fn env_file(&self, daemon: Daemon) -> PathBuf {
        self.dir.join(format!(".env.{}", daemon.command()))
    }

    /// Where the server keeps its files.
    pub fn data(&self) -> PathBuf {
        self.dir.join("server/data")
    }

    /// Where the report of `migrate` goes.
    pub fn report(&self) -> PathBuf {
        self.dir.join("migration-report.json")
    }

    /// claude-mem's database.
    pub fn database(&self) -> PathBuf {
        self.home.join(".claude-mem/claude-mem.db")
    }

    /// The person's settings.
    pub fn config_env(&self) -> PathBuf {
        self.home.join(".claude-mem-minio/config.env")
    }

    /// The wrapper scripts.
    pub fn scripts(&self) -> PathBuf {
        self.home.join(".claude-mem-minio/bin")
    }

    /// What no mode of the installer ever writes to.
    pub fn protected(&self) -> Vec<PathBuf> {
        let below = [
            ".claude-mem",
            ".claude/settings.json",
            ".claude/settings.local.json",
            ".claude/.credentials.json",
            ".claude/auth.json",
        ];
        let mut paths: Vec<PathBuf> = below.iter().map(|name| self.home.join(name)).collect();
        paths.push(self.config_env());
        paths.push(self.scripts());
        paths
    }
}
