//! Our entries in Claude Code's settings.json: which there are, the text with them and the text without. Pure
//! functions over the file's text; every byte that is not ours stays.

use std::path::Path;

use serde_json::{Value, json};

use super::json_text::Container;
use super::settings::{commands, serves};
use crate::visible::shell_path;

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
    fn entry(&self, bin: &Path) -> Value {
        let mut entry = serde_json::Map::new();
        if let Some(matcher) = self.matcher {
            entry.insert("matcher".into(), matcher.into());
        }
        let hook = json!({"type": "command", "command": self.command(bin), "timeout": self.timeout});
        entry.insert("hooks".into(), json!([hook]));
        entry.into()
    }

    /// Claude Code runs it through a shell.
    fn command(&self, bin: &Path) -> String {
        shell_path(&bin.join(self.script))
    }

    /// Whether an entry of the file does this job, whoever wrote it.
    fn served_by(&self, entry: &Value) -> bool {
        commands(entry).any(|command| serves(self.event, command))
    }

    /// Whether an entry is the one that we would write.
    fn is_ours(&self, entry: &Value, bin: &Path) -> bool {
        let mut found = commands(entry).peekable();
        found.peek().is_some() && found.all(|command| command == self.command(bin))
    }
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
pub fn fragment(bin: &Path) -> Value {
    let events = WANTED.iter().map(|wanted| (wanted.event.to_owned(), json!([wanted.entry(bin)])));
    json!({"hooks": Value::Object(events.collect())})
}

/// The text with every entry that is missing; `None` when none is.
///
/// # Errors
/// See [`EditError`].
pub fn add(text: &str, bin: &Path) -> Result<Option<String>, EditError> {
    let (mark, body) = split_mark(text);
    let mut edited = body.to_owned();
    for wanted in &WANTED {
        let root = parse(&edited)?;
        if entries(&root, wanted.event).iter().any(|entry| wanted.served_by(entry)) {
            continue;
        }
        edited = append(&edited, wanted, bin)?;
    }
    checked(body, edited, bin).map(|edited| edited.map(|edited| format!("{mark}{edited}")))
}

/// The text without the entries that [`add`] writes; `None` when there is none.
///
/// # Errors
/// See [`EditError`].
pub fn remove(text: &str, bin: &Path) -> Result<Option<String>, EditError> {
    let (mark, body) = split_mark(text);
    let mut edited = body.to_owned();
    for wanted in &WANTED {
        while let Some(shorter) = cut(&edited, wanted, bin)? {
            edited = shorter;
        }
    }
    checked(body, edited, bin).map(|edited| edited.map(|edited| format!("{mark}{edited}")))
}

fn append(text: &str, wanted: &Wanted, bin: &Path) -> Result<String, EditError> {
    let entry = wanted.entry(bin);
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

/// Removes one entry of ours, with the list and the object around it when they are empty then.
fn cut(text: &str, wanted: &Wanted, bin: &Path) -> Result<Option<String>, EditError> {
    let value = parse(text)?;
    let list = entries(&value, wanted.event);
    let Some(index) = list.iter().position(|entry| wanted.is_ours(entry, bin)) else {
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
fn checked(before: &str, after: String, bin: &Path) -> Result<Option<String>, EditError> {
    if before == after {
        return Ok(None);
    }
    if stripped(parse(before)?, bin) == stripped(parse(&after)?, bin) {
        Ok(Some(after))
    } else {
        Err(EditError::Unsound)
    }
}

fn stripped(mut root: Value, bin: &Path) -> Value {
    if let Some(hooks) = root.get_mut("hooks").and_then(Value::as_object_mut) {
        for wanted in &WANTED {
            if let Some(list) = hooks.get_mut(wanted.event).and_then(Value::as_array_mut) {
                list.retain(|entry| !wanted.is_ours(entry, bin));
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
    use super::{EditError, WANTED, add, entries, fragment, parse, remove};
    use serde_json::{Value, json};
    use std::path::Path;

    const BIN: &str = "/home/ann/.claude-mem-minio/bin";

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
        let bin = Path::new(BIN);
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
        let bin = Path::new(BIN);
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
        assert_eq!(add(&text.to_string(), Path::new(BIN)).unwrap(), None);
    }

    #[test]
    fn what_claude_code_would_not_read_is_refused() {
        let bin = Path::new(BIN);
        assert!(matches!(add("{", bin), Err(EditError::NotJson(_))));
        assert_eq!(add("[]", bin), Err(EditError::Shape("top level")));
        assert_eq!(add("{\"hooks\": []}", bin), Err(EditError::Shape("hooks")));
        assert_eq!(add("{\"hooks\": {\"Stop\": {}}}", bin), Err(EditError::Shape("Stop")));
    }

    #[test]
    fn a_path_with_a_space_or_a_quote_is_quoted_for_the_shell() {
        let bin = Path::new("/home/ann o'neil/bin");
        let value = fragment(bin);
        let command = value["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().unwrap();
        assert_eq!(command, r"'/home/ann o'\''neil/bin/claude-mem-hook-push'");
        let edited = add("{}", bin).unwrap().unwrap();
        assert_eq!(remove(&edited, bin).unwrap().as_deref(), Some("{}"));
    }

    #[test]
    fn the_example_says_what_the_installer_writes() {
        let example: Value = serde_json::from_str(include_str!("../../hooks/settings.example.json")).unwrap();
        let mut written = fragment(Path::new("BIN"));
        for (event, list) in written["hooks"].as_object_mut().unwrap() {
            let command = &mut list[0]["hooks"][0]["command"];
            *command = command.as_str().unwrap().replace("BIN", "$HOME/.claude-mem-minio/bin").into();
            assert_eq!(list, &example["hooks"][event], "{event}");
        }
        assert_eq!(written["hooks"].as_object().unwrap().len(), example["hooks"].as_object().unwrap().len());
        assert!(complete(&example.to_string()));
    }
}
