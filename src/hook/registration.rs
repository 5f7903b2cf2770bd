//! Our entries in Claude Code's settings.json: which there are, the text with them and the text without. Pure
//! functions over the file's text; every byte that is not ours stays.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::json_text::Container;
use super::settings::{commands, serves};
use crate::visible::{shell_path, shell_word};

/// An entry that we need.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    event: &'static str,
    matcher: Option<&'static str>,
    script: &'static str,
    /// Seconds that Claude Code allows. Ours take less; SessionEnd has 1.5 s unless a file says more.
    timeout: u64,
}

const WANTED: [Wanted; 3] = [
    Wanted {
        event: "SessionStart",
        matcher: Some("startup|resume"),
        script: "claude-mem-hook-pull",
        timeout: 15,
    },
    Wanted { event: "Stop", matcher: None, script: "claude-mem-hook-push", timeout: 10 },
    Wanted { event: "SessionEnd", matcher: None, script: "claude-mem-hook-push", timeout: 10 },
];

impl Wanted {
    fn entry(&self, place: Place<'_>) -> Value {
        let mut entry = serde_json::Map::new();
        if let Some(matcher) = self.matcher {
            entry.insert("matcher".into(), matcher.into());
        }
        let hook = json!({"type": "command", "command": self.command(place), "timeout": self.timeout});
        entry.insert("hooks".into(), json!([hook]));
        entry.into()
    }

    /// Claude Code runs it through a shell. What lies in the home directory is named by it: a home that is moved, or settings
    /// that are carried to another machine, go on working.
    fn command(&self, place: Place<'_>) -> String {
        let path = place.bin.join(self.script);
        let below = path.strip_prefix(place.home).ok().and_then(Path::to_str);
        match below.filter(|below| place.home != Path::new("/") && is_plain(below)) {
            Some(below) if place.home.to_str().is_some_and(is_plain) => format!("$HOME/{below}"),
            Some(below) => format!("\"$HOME/{below}\""),
            None => shell_path(&path),
        }
    }

    /// Whether a command is one that we write, or wrote once.
    fn wrote(&self, command: &str, place: Place<'_>) -> bool {
        command == self.command(place) || command == shell_path(&place.bin.join(self.script))
    }

    /// Whether a command is one that we wrote for a home that is gone: the folder was moved, or the user renamed.
    fn wrote_elsewhere(&self, command: &str, place: Place<'_>) -> bool {
        let path = command.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(command);
        let path = PathBuf::from(path.replace("'\\''", "'"));
        let folder = place.bin.strip_prefix(place.home).unwrap_or(place.bin);
        path.is_absolute() && path.ends_with(folder.join(self.script)) && !(place.is_there)(&path)
    }

    /// Whether an entry of the file does this job, whoever wrote it.
    fn served_by(&self, entry: &Value) -> bool {
        commands(entry).any(|command| serves(self.event, command))
    }

    /// Whether an entry is one that we write, or that we wrote for a home that is gone.
    fn is_ours(&self, entry: &Value, place: Place<'_>) -> bool {
        all(entry, |command| self.wrote(command, place)) || self.is_stale(entry, place)
    }

    fn is_stale(&self, entry: &Value, place: Place<'_>) -> bool {
        all(entry, |command| self.wrote_elsewhere(command, place))
    }
}

/// Where our scripts lie.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Their folder.
    pub bin: &'a Path,
    /// The home directory.
    pub home: &'a Path,
    /// Whether there is a file of that name.
    pub is_there: fn(&Path) -> bool,
}

/// Whether an entry has commands, and all of them are such.
fn all(entry: &Value, such: impl Fn(&str) -> bool) -> bool {
    let mut found = commands(entry).peekable();
    found.peek().is_some() && found.all(such)
}

/// Whether a shell takes a path as it stands.
fn is_plain(path: &str) -> bool {
    shell_word(path) == path
}

/// Why the text cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no JSON (Claude Code itself would not read it).
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// A part of it is not what Claude Code documents.
    #[error("its '{0}' is not of the kind that Claude Code documents")]
    Shape(&'static str),
    /// The edit would have changed something else.
    #[error("the edit would have changed something that is not ours")]
    Unsound,
}

/// The fragment for a person to paste.
pub fn fragment(place: Place<'_>) -> Value {
    let events = WANTED.iter().map(|wanted| (wanted.event.to_owned(), json!([wanted.entry(place)])));
    json!({"hooks": Value::Object(events.collect())})
}

/// The text with every entry that is missing, and without those that name scripts in a home that is gone; `None` when
/// nothing is to be done.
///
/// # Errors
/// See [`EditError`].
pub fn add(text: &str, place: Place<'_>) -> Result<Option<String>, EditError> {
    let (mark, body) = split_mark(text);
    let mut edited = body.to_owned();
    for wanted in &WANTED {
        // Claude Code would call what is gone.
        while let Some(shorter) = cut(&edited, wanted, |entry| wanted.is_stale(entry, place))? {
            edited = shorter;
        }
        let root = parse(&edited)?;
        if entries(&root, wanted.event).iter().any(|entry| wanted.served_by(entry)) {
            continue;
        }
        edited = append(&edited, wanted, place)?;
    }
    checked(body, edited, place).map(|edited| edited.map(|edited| format!("{mark}{edited}")))
}

/// The text without the entries that [`add`] writes; `None` when there is none.
///
/// # Errors
/// See [`EditError`].
pub fn remove(text: &str, place: Place<'_>) -> Result<Option<String>, EditError> {
    let (mark, body) = split_mark(text);
    let mut edited = body.to_owned();
    for wanted in &WANTED {
        while let Some(shorter) = cut(&edited, wanted, |entry| wanted.is_ours(entry, place))? {
            edited = shorter;
        }
    }
    checked(body, edited, place).map(|edited| edited.map(|edited| format!("{mark}{edited}")))
}

fn append(text: &str, wanted: &Wanted, place: Place<'_>) -> Result<String, EditError> {
    let entry = wanted.entry(place);
    let root = Container::root(text).ok_or(EditError::Shape("top level"))?;
    let Some(hooks) = root.child(text, "hooks") else {
        let value = json!({wanted.event: [entry]});
        return root.append(text, Some("hooks"), &value).ok_or(EditError::Unsound);
    };
    match hooks.child(text, wanted.event) {
        Some(list) => list.append(text, None, &entry),
        None => hooks.append(text, Some(wanted.event), &json!([entry])),
    }
    .ok_or(EditError::Unsound)
}

/// Removes the first such entry, with the list and the object around it when they are empty then.
fn cut(text: &str, wanted: &Wanted, is_one: impl Fn(&Value) -> bool) -> Result<Option<String>, EditError> {
    let value = parse(text)?;
    let list = entries(&value, wanted.event);
    let Some(index) = list.iter().position(is_one) else {
        return Ok(None);
    };
    let of_key = |container: &Container, key: &str| {
        container.items.iter().rposition(|item| item.key.as_deref() == Some(key))
    };
    let events = value.get("hooks").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let shorter = || {
        let root = Container::root(text)?;
        let hooks = root.child(text, "hooks")?;
        if list.len() > 1 {
            return hooks.child(text, wanted.event)?.remove(text, index);
        }
        if events > 1 {
            return hooks.remove(text, of_key(&hooks, wanted.event)?);
        }
        root.remove(text, of_key(&root, "hooks")?)
    };
    shorter().map(Some).ok_or(EditError::Unsound)
}

/// Lets an edit pass only when both texts are the same but for entries of ours.
fn checked(before: &str, after: String, place: Place<'_>) -> Result<Option<String>, EditError> {
    if before == after {
        return Ok(None);
    }
    if stripped(parse(before)?, place) == stripped(parse(&after)?, place) {
        Ok(Some(after))
    } else {
        Err(EditError::Unsound)
    }
}

fn stripped(mut root: Value, place: Place<'_>) -> Value {
    if let Some(hooks) = root.get_mut("hooks").and_then(Value::as_object_mut) {
        for wanted in &WANTED {
            if let Some(list) = hooks.get_mut(wanted.event).and_then(Value::as_array_mut) {
                list.retain(|entry| !wanted.is_ours(entry, place));
            }
        }
        hooks.retain(|_, list| list.as_array().is_none_or(|list| !list.is_empty()));
        if hooks.is_empty()
            && let Some(root) = root.as_object_mut()
        {
            root.shift_remove("hooks");
        }
    }
    root
}

fn parse(text: &str) -> Result<Value, EditError> {
    let (_, text) = split_mark(text);
    let root: Value = serde_json::from_str(text).map_err(|error| EditError::NotJson(error.to_string()))?;
    if !root.is_object() {
        return Err(EditError::Shape("top level"));
    }
    let hooks = root.get("hooks");
    if hooks.is_some_and(|hooks| !hooks.is_object()) {
        return Err(EditError::Shape("hooks"));
    }
    let list = |wanted: &Wanted| hooks.and_then(|hooks| hooks.get(wanted.event));
    match WANTED.iter().find(|wanted| list(wanted).is_some_and(|list| !list.is_array())) {
        Some(wanted) => Err(EditError::Shape(wanted.event)),
        None => Ok(root),
    }
}

fn entries<'a>(root: &'a Value, event: &str) -> &'a [Value] {
    let list = root.get("hooks").and_then(|hooks| hooks.get(event)?.as_array());
    list.map(Vec::as_slice).unwrap_or_default()
}

/// The byte order mark, where an editor left one, and the rest.
fn split_mark(text: &str) -> (&str, &str) {
    let (mark, rest) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    // A file that is missing or empty is one without settings.
    (mark, if rest.trim().is_empty() { "{}\n" } else { rest })
}

#[cfg(test)]
mod tests {
    use super::{EditError, Place, WANTED, add, entries, fragment, parse, remove};
    use serde_json::{Value, json};
    use std::path::Path;

    /// The scripts of a person with this home. Ann and Bob have theirs.
    fn of(home: &'static str) -> Place<'static> {
        let bin: &'static Path = Box::leak(Path::new(home).join(".claude-mem-minio/bin").into_boxed_path());
        Place {
            bin,
            home: Path::new(home),
            is_there: |path| path.starts_with("/home/bob") || path.starts_with("/home/ann"),
        }
    }

    /// Whether the text has an entry for each event.
    fn complete(text: &str) -> bool {
        let root = parse(text).unwrap();
        WANTED.iter().all(|wanted| entries(&root, wanted.event).iter().any(|entry| wanted.served_by(entry)))
    }

    const TEXTS: &[&str] = &[
        "{}",
        "{\"model\": \"opus\"}\n",
        "\u{feff}{\n  \"model\": \"opus\"\n}\n",
        "{\n    \"hooks\": {\n        \"Stop\": [\n            {\n                \"hooks\": [ { \"type\": \"command\", \"command\": \"say done\" } ]\n            }\n        ]\n    },\n    \"z\": 1.0\n}",
        "{\r\n\t\"hooks\": {\r\n\t\t\"PreToolUse\": []\r\n\t}\r\n}\r\n",
    ];

    #[test]
    fn what_is_added_is_there_once_and_goes_without_a_trace() {
        let bin = of("/home/ann");
        for text in TEXTS {
            let edited = add(text, bin).unwrap().unwrap();
            assert!(complete(&edited), "{edited}");
            assert_eq!(add(&edited, bin).unwrap(), None);
            assert_eq!(remove(&edited, bin).unwrap().as_deref(), Some(*text));
            assert_eq!(remove(text, bin).unwrap(), None);
        }
    }

    #[test]
    fn entries_that_people_have_are_left_alone() {
        let text = r#"{"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "~/bin/claude-mem-hook-pull --project x"}]}]}}"#;
        let bin = of("/home/ann");
        let edited = add(text, bin).unwrap().unwrap();
        assert_eq!(edited.matches("hook-pull").count(), 1);
        assert_eq!(edited.matches("hook-push").count(), 2);
        assert_eq!(remove(&edited, bin).unwrap().as_deref(), Some(text));
    }

    #[test]
    fn the_binary_itself_as_the_command_is_not_joined_by_a_second_one() {
        let entry = |command: &str| json!([{"hooks": [{"type": "command", "command": command}]}]);
        let text = json!({"hooks": {
            "SessionStart": entry("membridge hook session-start"),
            "Stop": entry("/usr/bin/membridge hook stop"),
            "SessionEnd": entry("membridge hook session-end"),
        }});
        assert_eq!(add(&text.to_string(), of("/home/ann")).unwrap(), None);
    }

    #[test]
    fn what_claude_code_would_not_read_is_refused() {
        let bin = of("/home/ann");
        assert!(matches!(add("{", bin), Err(EditError::NotJson(_))));
        assert_eq!(add("[]", bin), Err(EditError::Shape("top level")));
        assert_eq!(add("{\"hooks\": []}", bin), Err(EditError::Shape("hooks")));
        assert_eq!(add("{\"hooks\": {\"Stop\": {}}}", bin), Err(EditError::Shape("Stop")));
    }

    #[test]
    fn commands_name_the_home_and_are_quoted_for_the_shell() {
        let command = |place| {
            let value = fragment(place);
            value["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().unwrap().to_owned()
        };
        let elsewhere = Place { bin: Path::new("/opt/it's/bin"), ..of("/home/ann") };
        let table = [
            (of("/home/ann"), "$HOME/.claude-mem-minio/bin/claude-mem-hook-push"),
            (of("/home/ann o'neil"), "\"$HOME/.claude-mem-minio/bin/claude-mem-hook-push\""),
            (of("/"), "/.claude-mem-minio/bin/claude-mem-hook-push"),
            (elsewhere, r"'/opt/it'\''s/bin/claude-mem-hook-push'"),
        ];
        for (place, written) in table {
            assert_eq!(command(place), written);
            let edited = add("{}", place).unwrap().unwrap();
            assert_eq!(remove(&edited, place).unwrap().as_deref(), Some("{}"));
        }
    }

    #[test]
    fn what_an_earlier_release_wrote_is_ours_and_what_was_left_in_a_home_that_is_gone_is_mended() {
        let with = |home: &str| {
            let entry = |script: &str| json!([{"hooks": [{"type": "command", "command": format!("{home}/.claude-mem-minio/bin/claude-mem-hook-{script}")}]}]);
            json!({"hooks": {"SessionStart": entry("pull"), "Stop": entry("push"), "SessionEnd": entry("push")}}).to_string()
        };
        let ann = of("/home/ann");
        assert_eq!(add(&with("/home/ann"), ann).unwrap(), None);
        assert_eq!(remove(&with("/home/ann"), ann).unwrap().as_deref(), Some("{}"));
        // The home of somebody else, where the scripts are.
        assert_eq!(add(&with("/home/bob"), ann).unwrap(), None);
        assert_eq!(remove(&with("/home/bob"), ann).unwrap(), None);
        let mended = add(&with("/home/anne"), ann).unwrap().unwrap();
        assert!(complete(&mended) && !mended.contains("/home/anne"), "{mended}");
        assert_eq!(add(&mended, ann).unwrap(), None);
        assert_eq!(remove(&with("/home/anne"), ann).unwrap().as_deref(), Some("{}"));
    }

    #[test]
    fn the_example_says_what_the_installer_writes() {
        let example: Value = serde_json::from_str(include_str!("../../hooks/settings.example.json")).unwrap();
        let written = fragment(of("/home/ann"));
        for (event, list) in written["hooks"].as_object().unwrap() {
            assert_eq!(list, &example["hooks"][event], "{event}");
        }
        assert_eq!(written["hooks"].as_object().unwrap().len(), example["hooks"].as_object().unwrap().len());
        assert!(complete(&example.to_string()));
    }
}
