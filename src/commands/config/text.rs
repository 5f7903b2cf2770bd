//! config.env as text: a new one, and one in which a few values are changed and everything else stays as it is. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::settings::SETTINGS;
use crate::config::{Settings, Source, env_file};
use crate::error::{Code, CommandResult, Failure};

/// Read from the environment, but no settings of ours.
pub(super) const BORROWED: [&str; 1] = ["PATH"];

/// What a flag or the environment says goes into the file, but for these: overrides for a single run, which a file
/// would make the rule, and what membridge ignores.
pub(super) const NOT_KEPT: [&str; 4] =
    ["FORCE_PUSH", "ALLOW_SECONDARY_PUSH", "ALLOW_PRIMARY_PULL_OVERRIDE", "CLAUDE_CANONICAL_PROJECT_ID"];

/// Whether a person gave the setting its value.
pub(super) fn said(settings: &Settings, name: &str) -> bool {
    settings.source(name).is_some_and(|source| source != Source::Default)
}

/// The file's text.
pub(super) fn render(settings: &Settings) -> CommandResult<String> {
    let mut text = String::from(
        "# membridge settings. A flag beats the environment, the environment beats this file: membridge config\n",
    );
    let kept = SETTINGS
        .iter()
        .map(|setting| setting.name)
        .filter(|name| !NOT_KEPT.contains(name) && !BORROWED.contains(name));
    for name in kept {
        let Some(value) = settings.get(name).filter(|_| said(settings, name)) else {
            continue;
        };
        if value.contains(['\n', '\r']) {
            return Err(line_break(name));
        }
        text.push_str(name);
        text.push('=');
        text.push_str(&quoted(value, &settings.home));
        text.push('\n');
    }
    Ok(text)
}

/// A value as shells and we read it: in single quotes. What lies in the home directory is named by it, so that the file
/// can be copied to a machine where the user is called otherwise.
pub(super) fn quoted(value: &str, home: &Path) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@ ".contains(c);
    let below = home
        .to_str()
        .filter(|home| home.len() > 1)
        .and_then(|home| value.strip_prefix(home)?.strip_prefix('/'));
    match below {
        Some(rest) if rest.chars().all(plain) => format!("\"$HOME/{rest}\""),
        _ => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

/// The text of a file in which these settings have other values. What else stands there stays; a setting that is not there
/// comes to the end.
///
/// # Errors
/// A value that a file cannot hold; a file in which more would change than that, because a line sets several variables or
/// refers to others.
pub(super) fn edited(text: &str, changes: &BTreeMap<&str, &str>, home: &Path) -> CommandResult<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in changes {
        if value.contains(['\n', '\r']) {
            return Err(line_break(name));
        }
        let assignment = format!("{name}={}", quoted(value, home));
        match lines.iter_mut().rev().find(|line| sets(line, name)) {
            Some(line) => {
                let export = if line.trim_start().starts_with("export") { "export " } else { "" };
                *line = format!("{export}{assignment}");
            }
            None => lines.push(assignment),
        }
    }
    let new = format!("{}\n", lines.join("\n"));
    let lookup = |name: &str| (name == "HOME").then(|| home.display().to_string());
    let read = |text: &str| env_file::parse(text, lookup);
    let mut wanted = read(text).unwrap_or_default();
    wanted.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    if read(&new).ok() != Some(wanted) {
        return Err(Failure::of(
            Code::BadSetting,
            "more than that would change in the file: its lines refer to each other",
        )
        .hint("edit it by hand; then see what it says: membridge config"));
    }
    Ok(new)
}

/// Whether a line begins with an assignment to `name`.
fn sets(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("export").map_or(line, str::trim_start);
    line.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

fn line_break(name: &str) -> Failure {
    Failure::of(Code::BadSetting, format!("{name} holds a line break, which config.env cannot hold"))
}

#[cfg(test)]
mod tests {
    use super::{BORROWED, NOT_KEPT, edited, quoted, render};
    use crate::config::settings::SETTINGS;
    use crate::config::{Environment, Settings, Source};
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn every_setting_that_was_given_is_written_but_the_overrides() {
        let environment = Environment::default();
        let none = Settings::without_file(&BTreeMap::new(), &environment, None);
        for setting in SETTINGS {
            for source in [Source::Flag, Source::Environment] {
                let mut settings = none.clone();
                settings.set(setting.name, "7".to_owned(), source);
                let written = render(&settings).unwrap().contains(&format!("\n{}='7'\n", setting.name));
                let left_out = NOT_KEPT.contains(&setting.name) || BORROWED.contains(&setting.name);
                assert_eq!(written, !left_out, "{} from {source}", setting.name);
            }
        }
        assert_eq!(render(&none).unwrap().lines().count(), 1);
    }

    #[test]
    fn values_are_quoted_and_the_home_directory_is_named() {
        let table = [
            ("plain", "/home/ann", "'plain'"),
            ("it's", "/home/ann", r"'it'\''s'"),
            ("$HOME", "/home/ann", "'$HOME'"),
            ("/home/ann/.claude-mem/claude-mem.db", "/home/ann", "\"$HOME/.claude-mem/claude-mem.db\""),
            ("/home/anna/x.db", "/home/ann", "'/home/anna/x.db'"),
            ("/home/ann/$(x)", "/home/ann", "'/home/ann/$(x)'"),
            ("/x.db", "/", "'/x.db'"),
        ];
        for (value, home, text) in table {
            assert_eq!(quoted(value, Path::new(home)), text);
        }
    }

    #[test]
    fn what_is_not_changed_stays_as_it_is() {
        let home = Path::new("/home/ann");
        let text = "# mine\nexport MINIO_BUCKET=old  # why\nMINIO_BUCKET=older\nOTHER=\"$HOME/x\"\n";
        let changes = BTreeMap::from([("MINIO_BUCKET", "new"), ("MINIO_REGION", "eu")]);
        let new = edited(text, &changes, home).unwrap();
        assert_eq!(
            new,
            "# mine\nexport MINIO_BUCKET=old  # why\nMINIO_BUCKET='new'\nOTHER=\"$HOME/x\"\nMINIO_REGION='eu'\n"
        );
        assert_eq!(edited(&new, &BTreeMap::new(), home).unwrap(), new, "nothing to change");
        let exported = edited("export MINIO_BUCKET=a", &changes, home).unwrap();
        assert!(exported.starts_with("export MINIO_BUCKET='new'\n"), "{exported}");
        // A line of two, and one that another refers to.
        for tangled in
            ["MINIO_BUCKET=a MINIO_ENDPOINT=b\n", "MINIO_BUCKET=a\nCLAUDE_PROJECT_ID=$MINIO_BUCKET\n"]
        {
            assert!(edited(tangled, &changes, home).is_err(), "{tangled}");
        }
        assert!(edited("", &BTreeMap::from([("MINIO_BUCKET", "a\nb")]), home).is_err());
    }
}
