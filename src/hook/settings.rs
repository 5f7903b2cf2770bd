//! What Claude Code's settings.json says of our hooks: which of its commands do our work, and whether any hook runs at
//! all. The one place that says whether a hook of ours is there; reads files, writes nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where whoever manages a machine puts settings that people cannot change (code.claude.com/docs/en/settings).
pub const MANAGED: &str = "/etc/claude-code";

/// The hooks that we need, as Claude Code calls them.
pub const EVENTS: [&str; 3] = ["SessionStart", "Stop", "SessionEnd"];

/// The hook commands of Claude Code's settings.json.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookSettings {
    /// There is no such file.
    Missing(PathBuf),
    /// It cannot be understood.
    Damaged(PathBuf, String),
    /// It could be read.
    Found {
        /// Our commands in it, for each of [`EVENTS`].
        commands: [Vec<Hook>; 3],
        /// Why Claude Code runs none of them.
        off: Option<Off>,
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

/// Hooks are switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Off {
    /// The file that says so.
    pub file: PathBuf,
    /// The setting that does it.
    pub setting: &'static str,
    /// Whether the file is not the person's own.
    pub managed: bool,
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect =
            if self.setting == "allowManagedHooksOnly" { "no hooks but its own" } else { "no hooks" };
        write!(f, "{} allows {effect} ({})", self.file.display(), self.setting)
    }
}

impl Off {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        if self.managed {
            "ask whoever manages this machine; until then: membridge watch".to_owned()
        } else {
            format!("take {} out of {}, or use: membridge watch", self.setting, self.file.display())
        }
    }
}

impl HookSettings {
    /// Reads the file, and what stands above it in `managed`; `home` is what `~` and `$HOME` in it mean.
    pub fn read(path: &Path, home: &Path, managed: &Path) -> Self {
        let text = match super::settings_file::read(path) {
            Ok(text) => text,
            Err(error) => return Self::Damaged(path.to_owned(), error.to_string()),
        };
        if text.is_empty() && !path.exists() {
            return Self::Missing(path.to_owned());
        }
        let settings = match serde_json::from_str::<Value>(text.trim_start_matches('\u{feff}')) {
            Ok(settings) => settings,
            Err(error) => return Self::Damaged(path.to_owned(), error.to_string()),
        };
        Self::Found {
            commands: EVENTS.map(|event| hooks(&settings, event, home)),
            off: disabled(&settings, path, false).or_else(|| forbidden(managed)),
        }
    }

    /// Our commands for this event, and why they do not run.
    pub fn of(&self, event: &str) -> &[Hook] {
        let Self::Found { commands, .. } = self else { return &[] };
        let place = EVENTS.iter().position(|known| *known == event);
        place.and_then(|place| commands.get(place)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Why Claude Code runs none of them.
    pub fn off(&self) -> Option<&Off> {
        match self {
            Self::Found { off, .. } => off.as_ref(),
            Self::Missing(_) | Self::Damaged(..) => None,
        }
    }
}

/// Whether a command of this event does our work, whoever wrote it: a wrapper script, or the binary itself.
pub fn serves(event: &str, command: &str) -> bool {
    let words: Vec<_> = command.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    let script = |name: &str| words.iter().any(|word| word.contains(name));
    let calls = |argument: &str| words.windows(2).any(|pair| pair == ["hook", argument]);
    match event {
        "SessionStart" => script("hook-pull") || calls("session-start"),
        // What Claude Code says on stdin tells the end of a session from the end of a turn.
        "Stop" | "SessionEnd" => script("hook-push") || calls("stop") || calls("session-end"),
        _ => false,
    }
}

/// All commands of one entry: `hooks[].command`.
pub fn commands(entry: &Value) -> impl Iterator<Item = &str> {
    let hooks = entry.get("hooks").and_then(Value::as_array);
    hooks.into_iter().flatten().filter_map(|hook| hook.get("command")?.as_str())
}

fn hooks(settings: &Value, event: &str, home: &Path) -> Vec<Hook> {
    let entries = settings.get("hooks").and_then(|hooks| hooks.get(event)).and_then(Value::as_array);
    let ours = entries.into_iter().flatten().flat_map(commands).filter(|command| serves(event, command));
    ours.map(|command| Hook {
        missing: script(command, home).filter(|script| !script.is_file()),
        command: command.to_owned(),
    })
    .collect()
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

/// What the policy of the machine says: `managed-settings.json`, then the parts beside it.
fn forbidden(managed: &Path) -> Option<Off> {
    let parts = std::fs::read_dir(managed.join("managed-settings.d"));
    let mut files: Vec<_> = parts.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, managed.join("managed-settings.json"));
    files.into_iter().find_map(|file| {
        let settings = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        disabled(&settings, &file, true)
    })
}

fn disabled(settings: &Value, file: &Path, managed: bool) -> Option<Off> {
    let says = |name: &str| settings.get(name).and_then(Value::as_bool) == Some(true);
    // The second one counts in managed settings only.
    let setting = match () {
        () if says("disableAllHooks") => "disableAllHooks",
        () if managed && says("allowManagedHooksOnly") => "allowManagedHooksOnly",
        () => return None,
    };
    Some(Off { file: file.to_owned(), setting, managed })
}

#[cfg(test)]
mod tests {
    use super::{HookSettings, serves};
    use std::path::Path;

    fn read(text: &str) -> HookSettings {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("settings.json");
        std::fs::write(&path, text).unwrap();
        std::fs::write(home.path().join("claude-mem-hook-push"), "").unwrap();
        HookSettings::read(&path, home.path(), &home.path().join("managed"))
    }

    #[test]
    fn a_command_is_ours_by_what_it_runs() {
        let table = [
            ("SessionStart", "~/bin/claude-mem-hook-pull --project x", true),
            ("SessionStart", "membridge hook session-start", true),
            ("SessionStart", "\"/opt/my tools/membridge\"  hook   session-start", true),
            ("SessionStart", "membridge hook stop", false),
            ("SessionStart", "claude-mem-hook-push", false),
            ("Stop", "membridge hook stop", true),
            ("Stop", "'/home/ann o/claude-mem-hook-push'", true),
            ("Stop", "membridge push_sqlite", false),
            ("Stop", "say hook stopped", false),
            ("SessionEnd", "membridge hook stop", true),
            ("SessionEnd", "membridge hook session-end", true),
            ("PreToolUse", "claude-mem-hook-push", false),
        ];
        for (event, command, expected) in table {
            assert_eq!(serves(event, command), expected, "{event}: {command}");
        }
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
        let found = read(text);
        let [pull] = found.of("SessionStart") else { panic!("{found:?}") };
        assert_eq!(pull.missing, None, "a bare name is looked up in PATH");
        let [push] = found.of("Stop") else { panic!("{found:?}") };
        assert_eq!(push.missing, None);
        assert!(found.of("SessionEnd").is_empty());
        let gone = read(&text.replace("$HOME", "~/elsewhere"));
        let [push] = gone.of("Stop") else { panic!("{gone:?}") };
        assert!(push.missing.as_ref().unwrap().ends_with("elsewhere/claude-mem-hook-push"));
    }

    #[test]
    fn any_file_can_be_read() {
        for text in
            ["{}", "{\"hooks\": []}", "{\"hooks\": {\"Stop\": [1, {\"hooks\": {}}]}}", "\u{feff}[]", "7"]
        {
            let found = read(text);
            assert!(matches!(found, HookSettings::Found { .. }), "{text}");
            assert!(found.of("Stop").is_empty() && found.off().is_none(), "{text}");
        }
        for text in ["", "{", "{\"hooks\": }"] {
            assert!(matches!(read(text), HookSettings::Damaged(..)), "{text}");
        }
        let missing = |path: &Path| HookSettings::read(path, Path::new("/"), Path::new("/nonexistent"));
        assert!(matches!(missing(Path::new("/nonexistent/settings.json")), HookSettings::Missing(_)));
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("settings.json");
        std::os::unix::fs::symlink("dotfiles/claude.json", &link).unwrap();
        let HookSettings::Damaged(_, problem) = missing(&link) else { panic!() };
        assert!(problem.contains("dotfiles/claude.json"), "{problem}");
    }

    #[test]
    fn hooks_that_are_switched_off_are_seen_with_who_did_it() {
        let off = read(r#"{"disableAllHooks": true}"#);
        let off = off.off().unwrap();
        assert_eq!((off.setting, off.managed), ("disableAllHooks", false));
        let own = r#"{"disableAllHooks": false, "allowManagedHooksOnly": true}"#;
        assert!(read(own).off().is_none(), "it counts in managed settings only");

        let machine = tempfile::tempdir().unwrap();
        let (settings, managed) = (machine.path().join("settings.json"), machine.path().join("policy"));
        std::fs::create_dir_all(managed.join("managed-settings.d")).unwrap();
        std::fs::write(&settings, "{}").unwrap();
        let look = || HookSettings::read(&settings, machine.path(), &managed).off().cloned();
        for (file, text, said) in [
            ("managed-settings.json", "{\"model\": \"opus\"}", None),
            ("managed-settings.json", "no JSON", None),
            (
                "managed-settings.d/10.json",
                "{\"allowManagedHooksOnly\": true}",
                Some("allowManagedHooksOnly"),
            ),
            ("managed-settings.json", "{\"disableAllHooks\": true}", Some("disableAllHooks")),
        ] {
            std::fs::write(managed.join(file), text).unwrap();
            assert_eq!(look().map(|off| off.setting), said, "{file}: {text}");
            assert!(look().is_none_or(|off| off.managed && off.file.ends_with(file)));
        }
    }
}
