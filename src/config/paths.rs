//! Where files are: claude-mem's data directory, our state directory. Computes paths, touches no file.

use std::path::{Path, PathBuf};

use super::Settings;

/// Folders that a run works with.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The user's home directory.
    pub home: PathBuf,
    /// CLAUDE_MEM_DATA_DIR when it is configured; otherwise the worker's own settings decide.
    pub data_dir: Option<PathBuf>,
    /// Ours to use for state: MEMBRIDGE_STATE_DIR, or `~/.membridge`.
    pub state: PathBuf,
    /// How the hooks went: `~/.claude-mem-minio/hook.log`, or in MEMBRIDGE_STATE_DIR where the home may be read-only.
    pub hook_log: PathBuf,
    /// See [`Paths::pull_backups`].
    backups: PathBuf,
    /// Configuration and wrapper scripts: `~/.claude-mem-minio`.
    pub minio: PathBuf,
    /// The fleet's key: MEMBRIDGE_KEY_FILE, or `fleet.key` there.
    pub key: PathBuf,
}

impl Paths {
    /// The folders for these settings.
    pub fn new(settings: &Settings) -> Self {
        let home = settings.home.clone();
        let minio = home.join(".claude-mem-minio");
        let told = settings.get("MEMBRIDGE_STATE_DIR").map(|dir| expand_home(dir, &home));
        Self {
            key: settings
                .get("MEMBRIDGE_KEY_FILE")
                .map_or_else(|| minio.join("fleet.key"), |path| expand_home(path, &home)),
            data_dir: settings.get("CLAUDE_MEM_DATA_DIR").map(|dir| expand_home(dir, &home)),
            state: told.clone().unwrap_or_else(|| home.join(".membridge")),
            backups: told.clone().unwrap_or_else(|| home.join(".claude-mem")).join("backups/pull-overwrite"),
            hook_log: told.unwrap_or_else(|| minio.clone()).join("hook.log"),
            minio,
            home,
        }
    }

    /// `~/.claude-mem/backups/pull-overwrite`, where the Python script keeps its safety backups too; or in
    /// MEMBRIDGE_STATE_DIR, where the home may be read-only.
    pub fn pull_backups(&self) -> PathBuf {
        self.backups.clone()
    }

    /// The page map of the image that the database `id` was last pushed or pulled as.
    pub fn page_map(&self, id: &str) -> PathBuf {
        self.state.join("pagemaps").join(format!("{id}.map"))
    }

    /// Our temporary files that need not lie beside the database.
    pub fn tmp(&self) -> PathBuf {
        self.state.join("tmp")
    }
}

/// A path as people write it, with `~/` for the home directory.
pub fn expand_home(dir: &str, home: &Path) -> PathBuf {
    match dir.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(dir),
    }
}
