//! `config` shows every setting and where it comes from; `config init` makes or changes a config.env: init.rs.

mod init;
mod questions;
mod text;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::run::Run;
use crate::config::Config;
use crate::config::settings::SETTINGS;
use crate::error::CommandResult;
use crate::outcome::Outcome;
use crate::ui::{Report, Tone};
use text::BORROWED;

/// `config init`.
pub(super) async fn init(run: &Run, edit: bool) -> CommandResult<Report> {
    init::begin(run, edit).await
}

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

/// A value as config.env holds it.
pub(super) fn quoted(value: &str, home: &Path) -> String {
    text::quoted(value, home)
}
