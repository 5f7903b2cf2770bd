//! What can be wrong with the configuration, and what to type then.

use std::path::PathBuf;

use super::env_file::EnvFileError;
use crate::error::{Code, Failure};
use crate::visible::shell_path;

/// What is wrong with the configuration. Each names the setting or the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("HOME not set")]
    NoHome,
    #[error("{name} not set")]
    NotSet { name: &'static str, place: String },
    #[error("{name}='{value}' is neither yes nor no: use 1/true/yes/on or 0/false/no/off")]
    BadSwitch { name: &'static str, value: String },
    #[error("{name}='{value}' is not a whole number from {from} to {to}")]
    BadNumber { name: &'static str, value: String, from: i64, to: i64 },
    #[error("{name} holds text that is not UTF-8")]
    NotUtf8 { name: &'static str },
    #[error("{name} holds {what}")]
    Control { name: &'static str, what: String },
    #[error("{name}='{value}': {problem}")]
    BadValue { name: &'static str, value: String, problem: String },
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: String },
    #[error("{} {error}", path.display())]
    BadLine { path: PathBuf, error: EnvFileError },
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::NotSet { name, place } => Some(format!("set {name} in the environment or in {place}")),
            ConfigError::Control { .. } => Some(
                "a file with Windows line ends does that; take them out: sed -i 's/\\r$//' FILE (where it comes from: membridge config)".to_owned(),
            ),
            ConfigError::Unreadable { path, .. } => Some(format!(
                "check that {} exists and is yours: ls -l {}",
                path.display(),
                shell_path(path)
            )),
            ConfigError::BadLine { path, .. } => Some(format!("edit {}", path.display())),
            ConfigError::NoHome => {
                Some("set HOME, or MEMBRIDGE_STATE_DIR to a folder that this user can write".to_owned())
            }
            ConfigError::BadSwitch { .. }
            | ConfigError::BadNumber { .. }
            | ConfigError::NotUtf8 { .. }
            | ConfigError::BadValue { .. } => Some("see where it comes from: membridge config".to_owned()),
        };
        let code = match error {
            ConfigError::NotSet { .. } | ConfigError::NoHome => Code::NotConfigured,
            _ => Code::BadSetting,
        };
        let failure = Self::from_error(code, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
