//! `config` shows every setting and where it comes from; `config init` writes a first config.env, once the connection
//! that it describes has worked. An existing file is never touched.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use nix::sys::termios::{self, LocalFlags, SetArg};
use serde_json::{Map, Value, json};

use super::run::Run;
use crate::config::paths::expand_home;
use crate::config::settings::SETTINGS;
use crate::config::{self, Config, ConfigError, PLAIN_HTTP, Settings, Source};
use crate::database::files;
use crate::error::{Code, CommandResult, Failure};
use crate::outcome::Outcome;
use crate::private_files::make_private_folder;
use crate::python::head::{self, Head, Known};
use crate::storage::{Bucket, Store};
use crate::ui::{Report, Tone};

/// Read from the environment, but no settings of ours.
const BORROWED: [&str; 1] = ["PATH"];

pub(super) fn show(run: &Run) -> Report {
    let ui = &run.ui;
    let settings = &run.settings;
    let file = settings.file.as_ref().map(|path| path.display().to_string());
    ui.line(format!("config.env: {}", file.as_deref().unwrap_or("none")));
    let mut shown = Map::new();
    for setting in SETTINGS.iter().filter(|setting| !BORROWED.contains(&setting.name)) {
        let name = setting.name;
        let value = settings.shown(name);
        let source = settings.source(name).map(|source| source.to_string());
        match (value, &source) {
            (Some(value), Some(source)) => ui.line(format!("{name}={value} ({source})")),
            _ => ui.toned(Tone::Faint, &format!("{name} is not set"), ""),
        }
        shown.insert(name.to_owned(), json!({"value": value, "source": source}));
    }
    let report = Report::ok(Outcome::Shown).with("file", json!(file)).with("settings", Value::Object(shown));
    let problem = Config::new(settings).err().map(|error| error.to_string());
    if let Some(problem) = &problem {
        ui.warn(format!("{problem}: push and pull will not start"));
    }
    report.with("problem", json!(problem))
}

/// A question to the person, for a setting that nothing else has answered.
struct Question {
    name: &'static str,
    text: &'static str,
    hidden: bool,
}

const QUESTIONS: [Question; 6] = [
    Question {
        name: "MINIO_ENDPOINT",
        text: "Where is the memory kept? (https://host:port, or file:///folder)",
        hidden: false,
    },
    Question { name: "MINIO_ACCESS_KEY", text: "Access key", hidden: false },
    Question { name: "MINIO_SECRET_KEY", text: "Secret key (not shown)", hidden: true },
    Question { name: "MINIO_BUCKET", text: "Bucket", hidden: false },
    Question {
        name: "CLAUDE_PROJECT_ID",
        text: "Project name, the same on all of your machines",
        hidden: false,
    },
    Question { name: "CLAUDE_MEM_DB", text: "claude-mem's database", hidden: false },
];

/// What a flag or the environment says goes into the file, but for these: overrides for a single run, which a file
/// would make the rule, and what membridge ignores.
const NOT_KEPT: [&str; 4] =
    ["FORCE_PUSH", "ALLOW_SECONDARY_PUSH", "ALLOW_PRIMARY_PULL_OVERRIDE", "CLAUDE_CANONICAL_PROJECT_ID"];

pub(super) async fn init(run: &Run) -> CommandResult<Report> {
    let target = &run.config_target;
    if target.symlink_metadata().is_ok() {
        return Err(already_there(target));
    }
    let mut settings = run.settings.clone();
    let answers = Answers::open();
    for question in &QUESTIONS {
        let directory = settings.get("MINIO_ENDPOINT").is_some_and(|url| url.starts_with("file://"));
        let for_s3 = question.name.starts_with("MINIO_") && question.name != "MINIO_ENDPOINT";
        if settings.get(question.name).is_some() || (directory && for_s3) {
            continue;
        }
        let default = (question.name == "CLAUDE_MEM_DB")
            .then(|| settings.home.join(".claude-mem/claude-mem.db").display().to_string());
        let answer = answers.ask(question, default).await?;
        settings.set(question.name, answer, Source::File);
    }
    if let Some(path) = settings.get("CLAUDE_MEM_DB").map(|path| expand_home(path, &settings.home)) {
        settings.set("CLAUDE_MEM_DB", path.display().to_string(), Source::File);
    }
    let checked = Config::new(&settings)?;
    let text = render(&settings)?;
    let store = Store::open(&checked.store, &run.context)?;
    let bucket =
        Bucket::new(store, &checked.project.cid, std::sync::Arc::clone(&run.context), &checked.paths.state);
    bucket.store.check().await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("{}; no config.env was written", failure.message), ..failure }
    })?;
    let there = head::read(&bucket, Known::default()).await?;
    write_new(target, &text)?;
    let ui = &run.ui;
    ui.line(format!("connected: {}", bucket.store.name()));
    ui.line(format!("written: {}", target.display()));
    if !checked.store.is_private() {
        ui.warn(PLAIN_HTTP);
    }
    for name in NOT_KEPT.iter().filter(|name| said(&settings, name)) {
        ui.line(format!("left out: {name}, which is for single runs or not used at all"));
    }
    let observations = there.as_ref().and_then(Head::observations);
    let next = match (&there, files::has_content(&checked.database)) {
        (None, _) => "membridge push_sqlite",
        (Some(_), false) => "membridge pull_sqlite",
        (Some(_), true) => "membridge sync",
    };
    match (&there, observations) {
        (None, _) => ui.line(format!("the bucket holds nothing yet for project {}", checked.project.name)),
        (Some(_), Some(count)) => {
            ui.line(format!("the bucket holds {count} observations for project {}", checked.project.name));
        }
        (Some(_), None) => {
            ui.line(format!("the bucket holds a database for project {}", checked.project.name));
        }
    }
    if there.is_none() && !files::has_content(&checked.database) {
        ui.line(format!(
            "there is no database at {} yet: claude-mem makes it in the first Claude session, so start one first",
            checked.database.display()
        ));
    }
    ui.line(format!("next: {next}"));
    Ok(Report::ok(Outcome::Written)
        .with("file", target.display().to_string())
        .with("store", bucket.store.name())
        .with("next", next))
}

fn already_there(target: &Path) -> Failure {
    Failure::of(Code::AlreadyThere, format!("{} is there already and is never overwritten", target.display()))
        .hint("see what it says: membridge config")
        .hint("write another one: membridge config init --config PATH")
}

/// Whether a person gave the setting its value.
fn said(settings: &Settings, name: &str) -> bool {
    settings.source(name).is_some_and(|source| source != Source::Default)
}

/// The file's text.
fn render(settings: &Settings) -> CommandResult<String> {
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
            return Err(Failure::of(
                Code::BadSetting,
                format!("{name} holds a line break, which config.env cannot hold"),
            ));
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

/// Writes a new file, 0600; one that appeared meanwhile stays.
fn write_new(target: &Path, text: &str) -> CommandResult {
    let fail = |error: std::io::Error| {
        Failure::of(Code::LocalFile, format!("cannot write {}: {error}", target.display()))
    };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private_folder(folder).map_err(fail)?;
    let mut file = tempfile::Builder::new().prefix(".config-").tempfile_in(folder).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    match file.persist_noclobber(target) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(already_there(target)),
        Err(error) => Err(fail(error.error)),
    }
}

/// Where answers come from: a person at a terminal, or the lines of stdin, one for each open question.
struct Answers {
    terminal: bool,
}

impl Answers {
    fn open() -> Self {
        Self { terminal: std::io::stdin().is_terminal() }
    }

    async fn ask(&self, question: &Question, default: Option<String>) -> CommandResult<String> {
        let not_set = || {
            let place = config::USUAL_PLACE.to_owned();
            Failure::from(ConfigError::NotSet { name: question.name, place })
        };
        loop {
            let quiet = (self.terminal && question.hidden).then(EchoOff::start).flatten();
            if self.terminal {
                let shown = default.as_ref().map_or(String::new(), |default| format!(" [{default}]"));
                eprint!("{}{shown}: ", question.text);
            }
            let line = self.line().await?;
            drop(quiet);
            let answer = line.as_deref().map(str::trim).filter(|answer| !answer.is_empty());
            match (answer, &default) {
                (Some(answer), _) => return Ok(answer.to_owned()),
                (None, Some(default)) => return Ok(default.clone()),
                (None, None) if line.is_some() && self.terminal => {}
                (None, None) => return Err(not_set()),
            }
        }
    }

    /// The next line; `None` at the end. Read aside, so that a signal is heard meanwhile.
    async fn line(&self) -> CommandResult<Option<String>> {
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|count| (count > 0).then_some(line))
        });
        match read.await {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => Err(Failure::of(Code::LocalFile, format!("cannot read the answer: {error}"))),
            Err(error) => Err(Failure::of(Code::Internal, format!("cannot read the answer: {error}"))),
        }
    }
}

/// While it lives, the terminal does not show what is typed; dropped on every way out, also on Ctrl-C.
struct EchoOff(termios::Termios);

impl EchoOff {
    fn start() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
        // The Enter, or the Control-C, was not shown either.
        eprintln!();
    }
}

#[cfg(test)]
mod tests {
    use super::{BORROWED, NOT_KEPT, quoted, render};
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
}
