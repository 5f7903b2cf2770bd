//! Where the settings come from, whether they are sound, and who else can read them.

use super::evidence::Evidence;
use super::finding::{Check, Finding};
use crate::config::{ConfigError, Source, settings::SETTINGS};
use crate::visible::shell_path;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "config_file", run: file, remedy: "make one: membridge config init" },
    Check { name: "settings", run: settings, remedy: "see them all: membridge config" },
    Check { name: "file_modes", run: modes, remedy: "chmod 600 the file, chmod 700 the folder" },
];

fn file(evidence: &Evidence) -> Finding {
    if let Some(problem) = &evidence.file_problem {
        let finding = Finding::error(format!("config.env: {problem}"));
        return match problem {
            ConfigError::BadLine { path, .. } => finding.remedy(format!("edit {}", path.display())),
            ConfigError::Unreadable { path, .. } => {
                finding.remedy(format!("check that it exists and is yours: ls -l {}", shell_path(path)))
            }
            _ => finding.remedy("correct the variable"),
        };
    }
    let from = |source| {
        SETTINGS
            .iter()
            .filter(|setting| {
                evidence.settings.source(setting.name) == Some(source) && setting.name != "PATH"
            })
            .count()
    };
    let (file, environment, flag) = (from(Source::File), from(Source::Environment), from(Source::Flag));
    let path = match &evidence.settings.file {
        Some(path) => format!("{}", path.display()),
        None => "none".to_owned(),
    };
    Finding::ok(format!(
        "config.env: {path} ({file} settings from it, {environment} from the environment, {flag} from flags)"
    ))
}

fn settings(evidence: &Evidence) -> Finding {
    let problems: Vec<_> = evidence.problems.iter().map(ToString::to_string).collect();
    if problems.is_empty() {
        return Finding::ok("settings: complete");
    }
    let finding = Finding::error(format!("settings: {}", problems.join("; ")));
    let only_missing = evidence.problems.iter().all(|problem| matches!(problem, ConfigError::NotSet { .. }));
    if only_missing && evidence.settings.file.is_none() {
        return finding.remedy("make a config.env: membridge config init");
    }
    finding
}

fn modes(evidence: &Evidence) -> Finding {
    let mut wrong = Vec::new();
    let mut remedies = Vec::new();
    for private in &evidence.private {
        let wanted = if private.folder { 0o700 } else { 0o600 };
        let (path, word) = (private.path.display(), shell_path(&private.path));
        if !private.ours {
            wrong.push(format!("{path} belongs to another user"));
            remedies.push(format!("chown \"$(id -un)\" {word}"));
        } else if private.mode & 0o077 != 0 {
            wrong.push(format!("{path} can be read by others ({:o})", private.mode));
            remedies.push(format!("chmod {wanted:o} {word}"));
        }
    }
    if wrong.is_empty() {
        return Finding::ok("file modes: private");
    }
    Finding::warning(format!("file modes: {}", wrong.join("; "))).remedy(remedies.join(" && "))
}
