//! claude-mem's own settings.json, read tolerantly: it may start with a BOM, be nested under `env`, or be damaged.
//! Knows which settings make a whole-file sync impossible. Never writes it, and never shows its values.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::paths::expand_home;

/// The settings of claude-mem on this machine.
#[derive(Clone, Default)]
pub struct ClaudeMemSettings {
    values: Map<String, Value>,
    /// Why the file counts as empty, when it is there and cannot be understood.
    pub warning: Option<SettingsWarning>,
}

impl std::fmt::Debug for ClaudeMemSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The file holds API keys and tokens.
        f.debug_struct("ClaudeMemSettings")
            .field("names", &self.values.keys().collect::<Vec<_>>())
            .field("warning", &self.warning)
            .finish()
    }
}

/// A settings.json that is there and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot understand {}: {problem}", path.display())]
pub struct SettingsWarning {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// Why membridge must not touch this machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// claude-mem's built-in Cloud Sync is on; whole-file replacement breaks its bookkeeping (#4086).
    #[error(
        "claude-mem's own Cloud Sync is switched on (CLAUDE_MEM_CLOUD_SYNC_TOKEN, _USER_ID and _HUB_URL in its settings.json); two ways of syncing one database destroy each other's bookkeeping"
    )]
    CloudSync,
    /// The memory is not in SQLite.
    #[error("claude-mem runs with CLAUDE_MEM_RUNTIME=server: its memory is not in the SQLite file")]
    ServerRuntime,
}

impl Refusal {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::CloudSync => {
                "empty CLAUDE_MEM_CLOUD_SYNC_TOKEN in claude-mem's settings.json to use membridge, or keep Cloud Sync and leave membridge off on this machine"
            }
            Self::ServerRuntime => {
                "set CLAUDE_MEM_RUNTIME to worker in claude-mem's settings.json, or leave membridge off on this machine"
            }
        }
    }
}

impl ClaudeMemSettings {
    /// Reads the file. A missing one is empty; a damaged one is empty with a warning.
    pub fn read(path: &Path) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => Self::damaged(path, error.to_string()),
        }
    }

    /// Understands the file's bytes; `path` is for the warning only.
    pub fn parse(bytes: &[u8], path: &Path) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(mut values)) => {
                if let Some(Value::Object(nested)) = values.remove("env") {
                    values.extend(nested);
                }
                Self { values, warning: None }
            }
            Ok(_) => Self::damaged(path, "it is not a JSON object".to_owned()),
            // serde's message names line and column, never the content.
            Err(error) => Self::damaged(path, error.to_string()),
        }
    }

    fn damaged(path: &Path, problem: String) -> Self {
        Self { values: Map::new(), warning: Some(SettingsWarning { path: path.to_owned(), problem }) }
    }

    /// A value as text; empty counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        let text = match self.values.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// A port number.
    pub fn port(&self) -> Option<u16> {
        self.get("CLAUDE_MEM_WORKER_PORT")?.parse().ok().filter(|port| *port > 0)
    }

    /// The data directory that the file names.
    pub fn data_dir(&self, home: &Path) -> Option<PathBuf> {
        self.get("CLAUDE_MEM_DATA_DIR").map(|dir| expand_home(&dir, home))
    }
}

/// Whether these settings forbid any push or pull, and why.
pub fn refusal(settings: &ClaudeMemSettings) -> Option<Refusal> {
    let set = |name| settings.get(name).is_some();
    if set("CLAUDE_MEM_CLOUD_SYNC_TOKEN")
        && set("CLAUDE_MEM_CLOUD_SYNC_USER_ID")
        && set("CLAUDE_MEM_CLOUD_SYNC_HUB_URL")
    {
        return Some(Refusal::CloudSync);
    }
    let runtime = settings.get("CLAUDE_MEM_RUNTIME")?.to_ascii_lowercase();
    // claude-mem itself takes both spellings (13.15.3, 13.25.3).
    matches!(runtime.as_str(), "server" | "server-beta").then_some(Refusal::ServerRuntime)
}

#[cfg(test)]
mod tests {
    use super::{ClaudeMemSettings, Refusal, refusal};
    use std::path::{Path, PathBuf};

    fn parse(text: &str) -> ClaudeMemSettings {
        ClaudeMemSettings::parse(text.as_bytes(), Path::new("settings.json"))
    }

    #[test]
    fn values_are_found_wherever_claude_mem_puts_them() {
        let table = [
            (r#"{"CLAUDE_MEM_WORKER_PORT": "40123"}"#, Some(40_123)),
            (r#"{"CLAUDE_MEM_WORKER_PORT": 40123}"#, Some(40_123)),
            (r#"{"env": {"CLAUDE_MEM_WORKER_PORT": "40123"}}"#, Some(40_123)),
            ("\u{feff}{\"CLAUDE_MEM_WORKER_PORT\": \"40123\"}", Some(40_123)),
            (r#"{"CLAUDE_MEM_WORKER_PORT": "0"}"#, None),
            (r#"{"CLAUDE_MEM_WORKER_PORT": "99999"}"#, None),
            (r#"{"CLAUDE_MEM_WORKER_PORT": ["x"]}"#, None),
            (r#"{"CLAUDE_MEM_WORKER_PORT": ""}"#, None),
            ("{}", None),
        ];
        for (text, port) in table {
            let settings = parse(text);
            assert_eq!(settings.port(), port, "{text}");
            assert_eq!(settings.warning, None, "{text}");
        }
    }

    #[test]
    fn a_damaged_file_is_a_warning_and_never_shows_its_content() {
        for text in ["", "[]", "\"x\"", "{\"TOKEN\": \"s3cret\"", "\u{0}\u{1}"] {
            let settings = parse(text);
            let warning = settings.warning.clone().unwrap();
            assert!(!warning.to_string().contains("s3cret"), "{warning}");
            assert_eq!(settings.port(), None);
        }
        let settings = parse(r#"{"CLAUDE_MEM_GEMINI_API_KEY": "s3cret"}"#);
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn the_data_directory_may_start_with_a_tilde() {
        let home = Path::new("/home/ann");
        let table = [
            (r#"{"CLAUDE_MEM_DATA_DIR": "~/mem"}"#, Some("/home/ann/mem")),
            (r#"{"env": {"CLAUDE_MEM_DATA_DIR": "/srv/mem"}}"#, Some("/srv/mem")),
            (r#"{"CLAUDE_MEM_DATA_DIR": ""}"#, None),
        ];
        for (text, dir) in table {
            assert_eq!(parse(text).data_dir(home), dir.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn cloud_sync_and_the_server_runtime_are_refused() {
        let cloud = |token: &str, user: &str, hub: &str| {
            format!(
                r#"{{"CLAUDE_MEM_CLOUD_SYNC_TOKEN": "{token}", "CLAUDE_MEM_CLOUD_SYNC_USER_ID": "{user}", "CLAUDE_MEM_CLOUD_SYNC_HUB_URL": "{hub}"}}"#
            )
        };
        let table = [
            (cloud("t", "u", "https://hub"), Some(Refusal::CloudSync)),
            (cloud("", "u", "https://hub"), None),
            (cloud("t", " ", "https://hub"), None),
            (cloud("t", "u", ""), None),
            (r#"{"CLAUDE_MEM_RUNTIME": "server"}"#.to_owned(), Some(Refusal::ServerRuntime)),
            (r#"{"CLAUDE_MEM_RUNTIME": "Server-Beta"}"#.to_owned(), Some(Refusal::ServerRuntime)),
            (r#"{"CLAUDE_MEM_RUNTIME": "worker"}"#.to_owned(), None),
            ("{}".to_owned(), None),
        ];
        for (text, expected) in table {
            assert_eq!(refusal(&parse(&text)), expected, "{text}");
        }
    }
}
