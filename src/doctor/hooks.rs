//! Claude Code's hooks: whether its settings.json calls ours, whether the scripts are there, and how they went last.
//! Reads files, runs nothing; understands settings.json as far as commands go.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::evidence::Evidence;
use super::{Check, Finding};
use crate::hook::journal::Entry;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "hook_session_start",
        run: session_start,
        remedy: "membridge hooks install --write-settings",
    },
    Check { name: "hook_stop", run: stop, remedy: "membridge hooks install --write-settings" },
    Check {
        name: "last_hooks",
        run: last,
        remedy: "look into ~/.claude-mem-minio/hook.log, and try by hand: membridge sync",
    },
];

/// The hook commands of Claude Code's settings.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookSettings {
    /// There is no such file.
    Missing(PathBuf),
    /// It cannot be understood.
    Damaged(PathBuf, String),
    /// Our commands in it.
    Found {
        /// What pulls when a session starts.
        session_start: Vec<Hook>,
        /// What pushes after a turn.
        stop: Vec<Hook>,
    },
}

/// A hook command of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The command line.
    pub command: String,
    /// Its script, when it is named by a path and is not there.
    pub missing: Option<PathBuf>,
}

impl HookSettings {
    /// Reads the file; `home` is what `~` and `$HOME` in it mean.
    pub fn read(path: &Path, home: &Path) -> Self {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self::Missing(path.to_owned());
            }
            Err(error) => return Self::Damaged(path.to_owned(), error.to_string()),
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        match serde_json::from_slice::<Value>(bytes) {
            Err(error) => Self::Damaged(path.to_owned(), error.to_string()),
            Ok(settings) => {
                let of = |event, words: [&str; 2]| {
                    commands(&settings, event)
                        .filter(|command| words.iter().any(|word| command.contains(word)))
                        .map(|command| Hook {
                            missing: script(command, home).filter(|script| !script.is_file()),
                            command: command.to_owned(),
                        })
                        .collect()
                };
                Self::Found {
                    session_start: of("SessionStart", ["hook-pull", "hook session-start"]),
                    stop: of("Stop", ["hook-push", "hook stop"]),
                }
            }
        }
    }
}

/// All commands of one event: `hooks.EVENT[].hooks[].command`.
fn commands<'a>(settings: &'a Value, event: &str) -> impl Iterator<Item = &'a str> {
    let matchers = settings.get("hooks").and_then(|hooks| hooks.get(event)).and_then(Value::as_array);
    let hooks = matchers.into_iter().flatten().filter_map(|matcher| matcher.get("hooks")?.as_array());
    hooks.flatten().filter_map(|hook| hook.get("command")?.as_str())
}

/// The path of the program in a command line, where it is written as one.
fn script(command: &str, home: &Path) -> Option<PathBuf> {
    let word = command
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'']))
        .find(|word| word.contains("hook-pull") || word.contains("hook-push"))?;
    for prefix in ["~/", "$HOME/", "${HOME}/"] {
        if let Some(rest) = word.strip_prefix(prefix) {
            return Some(home.join(rest));
        }
    }
    word.starts_with('/').then(|| PathBuf::from(word))
}

fn session_start(evidence: &Evidence) -> Finding {
    judge(&evidence.hooks, "SessionStart", "hook-pull")
}

fn stop(evidence: &Evidence) -> Finding {
    judge(&evidence.hooks, "Stop", "hook-push")
}

fn judge(settings: &HookSettings, event: &str, word: &str) -> Finding {
    let hooks = match settings {
        HookSettings::Missing(path) => {
            return Finding::warning(format!("{event}: {} is not there", path.display()));
        }
        HookSettings::Damaged(path, problem) => {
            return Finding::warning(format!("{event}: {} cannot be understood: {problem}", path.display()))
                .remedy(format!("repair {}", path.display()));
        }
        HookSettings::Found { session_start, stop } => {
            if event == "Stop" {
                stop
            } else {
                session_start
            }
        }
    };
    match hooks.first() {
        None => Finding::warning(format!("{event}: no hook command containing {word}")),
        Some(Hook { missing: Some(path), .. }) => {
            Finding::error(format!("{event}: {} is not there", path.display()))
                .remedy("install the wrapper scripts: membridge hooks install")
        }
        Some(hook) => Finding::ok(format!("{event}: {}", hook.command)),
    }
}

fn last(evidence: &Evidence) -> Finding {
    let lines: Vec<_> = evidence.results.each().map(describe).collect();
    if lines.is_empty() {
        return Finding::info("last hooks: none has run yet");
    }
    let line = format!("last hooks: {}", lines.join("; "));
    if evidence.results.each().any(|entry| entry.failed() || entry.warned()) {
        Finding::warning(line)
    } else {
        Finding::ok(line)
    }
}

fn describe(entry: &Entry) -> String {
    let code = entry.code.map_or(String::new(), |code| format!(", exit code {code}"));
    let said = if entry.message.is_empty() { String::new() } else { format!(": {}", entry.message) };
    format!("{} {}{code} at {}{said}", entry.event, entry.outcome, entry.time)
}

#[cfg(test)]
mod tests {
    use super::HookSettings;
    use std::path::Path;

    fn read(text: &str) -> HookSettings {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("settings.json");
        std::fs::write(&path, text).unwrap();
        std::fs::write(home.path().join("claude-mem-hook-push"), "").unwrap();
        HookSettings::read(&path, home.path())
    }

    #[test]
    fn our_hooks_are_found_among_others() {
        let text = r#"{"hooks": {
            "SessionStart": [
                {"matcher": "startup", "hooks": [{"type": "command", "command": "other-tool"}]},
                {"hooks": [{"type": "command", "command": "claude-mem-hook-pull"}]}
            ],
            "Stop": [{"hooks": [{"type": "prompt"}, {"type": "command", "command": "\"$HOME/claude-mem-hook-push\" --x"}]}],
            "PreToolUse": [{"hooks": [{"type": "command", "command": "hook-pull"}]}]
        }}"#;
        let HookSettings::Found { session_start, stop } = read(text) else { panic!() };
        assert_eq!(session_start.len(), 1);
        assert_eq!(session_start[0].missing, None, "a bare name is looked up in PATH");
        assert_eq!((stop.len(), &stop[0].missing), (1, &None));
        let gone = text.replace("$HOME", "~/elsewhere");
        let HookSettings::Found { stop, .. } = read(&gone) else { panic!() };
        assert!(stop[0].missing.as_ref().unwrap().ends_with("elsewhere/claude-mem-hook-push"));
    }

    #[test]
    fn any_file_can_be_read() {
        for text in
            ["{}", "{\"hooks\": []}", "{\"hooks\": {\"Stop\": [1, {\"hooks\": {}}]}}", "\u{feff}[]", "7"]
        {
            let HookSettings::Found { session_start, stop } = read(text) else { panic!("{text}") };
            assert!(session_start.is_empty() && stop.is_empty());
        }
        for text in ["", "{", "{\"hooks\": }"] {
            assert!(matches!(read(text), HookSettings::Damaged(..)), "{text}");
        }
        let missing = HookSettings::read(Path::new("/nonexistent/settings.json"), Path::new("/"));
        assert!(matches!(missing, HookSettings::Missing(_)));
    }
}
