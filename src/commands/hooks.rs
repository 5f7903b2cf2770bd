//! `hooks install|uninstall|status`: the wrapper scripts and, when asked, the entries in Claude Code's settings.json.

use std::path::{Path, PathBuf};

use super::Run;
use crate::cli::{HooksAction, HooksOptions, SettingsFile};
use crate::config::{self, Paths};
use crate::error::{CommandResult, Failure};
use crate::hook::registration::{self, EditError};
use crate::hook::scripts::{self, Found, SCRIPTS};
use crate::hook::{Journal, settings_file};
use crate::ui::Report;

pub(super) fn run(run: &Run, action: HooksAction) -> CommandResult<Report> {
    let bin = Paths::new(&run.settings).minio.join("bin");
    match action {
        HooksAction::Install(options) => install(run, &bin, &options),
        HooksAction::Uninstall(options) => uninstall(run, &bin, &options),
        HooksAction::Status(file) => status(run, &bin, &file),
    }
}

fn install(run: &Run, bin: &Path, options: &HooksOptions) -> CommandResult<Report> {
    let settings = settings_path(run, &options.file)?;
    // What may be refused comes before what is changed.
    let edit = options
        .write_settings
        .then(|| registration::add(&read(&settings)?, bin).map_err(|error| cannot_edit(&settings, &error)))
        .transpose()?;
    for (name, text) in SCRIPTS {
        let path = bin.join(name);
        let was = scripts::look(bin, name, text);
        if was == Found::Ours {
            run.ui.line(format!("  unchanged {}", path.display()));
            continue;
        }
        run.ui.line(format!("{} {}", doing(options, "write"), path.display()));
        if was == Found::Foreign {
            run.ui.line("    the script that is there is kept as *.before-membridge");
        }
        if !options.dry_run {
            scripts::install(bin, name, text).map_err(|error| cannot("write", &path, &error))?;
        }
    }
    if let Some(edit) = edit {
        write(run, &settings, edit, options, "add our entries to")?;
    } else {
        run.ui.line(format!(
            "Add this to {}, or run: membridge hooks install --write-settings",
            settings.display()
        ));
        let fragment = serde_json::to_string_pretty(&registration::fragment(bin)).unwrap_or_default();
        fragment.lines().for_each(|line| run.ui.line(line));
    }
    Ok(report("installed", options)
        .with("bin", bin.display().to_string())
        .with("settings", settings.display().to_string())
        .with("fragment", registration::fragment(bin)))
}

fn uninstall(run: &Run, bin: &Path, options: &HooksOptions) -> CommandResult<Report> {
    let settings = settings_path(run, &options.file)?;
    let edit = registration::remove(&read(&settings)?, bin).map_err(|error| cannot_edit(&settings, &error));
    if options.write_settings {
        write(run, &settings, edit?, options, "take our entries out of")?;
    } else if let Ok(Some(_)) = edit {
        // Entries that name a script that is gone would make every hook of Claude Code fail.
        return Err(Failure::new(format!("{} still names our scripts", settings.display()))
            .hint("membridge hooks uninstall --write-settings takes the entries out, after a backup")
            .hint("or take them out yourself, then run this again"));
    }
    for (name, text) in SCRIPTS {
        let path = bin.join(name);
        match scripts::look(bin, name, text) {
            Found::Missing => continue,
            Found::Foreign => {
                run.ui.line(format!("  left alone {} (not ours)", path.display()));
                continue;
            }
            Found::Ours | Found::OtherRelease => {}
        }
        run.ui.line(format!("{} {}", doing(options, "remove"), path.display()));
        if !options.dry_run {
            scripts::uninstall(bin, name, text).map_err(|error| cannot("remove", &path, &error))?;
        }
    }
    Ok(report("uninstalled", options))
}

fn status(run: &Run, bin: &Path, file: &SettingsFile) -> CommandResult<Report> {
    let settings = settings_path(run, file)?;
    let mut report = Report::ok("shown");
    for (name, text) in SCRIPTS {
        let word = match scripts::look(bin, name, text) {
            Found::Missing => "missing",
            Found::Ours => "installed",
            Found::OtherRelease => "of another release; run: membridge hooks install",
            Found::Foreign => "not ours",
        };
        run.ui.line(format!("{}: {word}", bin.join(name).display()));
        report = report.with(name, word);
    }
    let events = registration::status(&read(&settings)?).map_err(|error| cannot_edit(&settings, &error))?;
    for (event, there) in events {
        let word = if there { "set" } else { "not set" };
        run.ui.line(format!("{} {event}: {word}", settings.display()));
        report = report.with(event, there);
    }
    let last = Journal::of(&run.settings.home).last_results();
    for entry in last.each() {
        run.ui.line(format!("last {}: {} at {} {}", entry.event, entry.outcome, entry.time, entry.message));
    }
    Ok(report)
}

fn write(
    run: &Run,
    settings: &Path,
    edit: Option<String>,
    options: &HooksOptions,
    what: &str,
) -> CommandResult {
    let Some(text) = edit else {
        run.ui.line(format!("  unchanged {}", settings.display()));
        return Ok(());
    };
    run.ui.line(format!("{} {}", doing(options, what), settings.display()));
    show(run, &read(settings)?, &text);
    if options.dry_run {
        return Ok(());
    }
    let stamp = run.context.now().strftime("%Y%m%d-%H%M%S").to_string();
    let backup =
        settings_file::replace(settings, &text, &stamp).map_err(|error| cannot("write", settings, &error))?;
    if let Some(backup) = backup {
        run.ui.line(format!("  the old file is kept as {}", backup.display()));
    }
    Ok(())
}

/// The lines that differ. Both texts are the same but for inserted or removed blocks, so walking along is enough.
fn show(run: &Run, before: &str, after: &str) {
    let (mark, long, mut short) = if after.len() >= before.len() {
        ("+", after, before.lines().peekable())
    } else {
        ("-", before, after.lines().peekable())
    };
    for line in long.lines() {
        let same = |other: &&str| other.trim_end_matches(',') == line.trim_end_matches(',');
        if short.next_if(same).is_none() {
            run.ui.line(format!("    {mark} {line}"));
        }
    }
}

fn settings_path(run: &Run, file: &SettingsFile) -> CommandResult<PathBuf> {
    match &file.settings {
        Some(path) => Ok(path.clone()),
        None => Ok(config::worker(&run.settings)?.claude_dir.join("settings.json")),
    }
}

fn read(settings: &Path) -> CommandResult<String> {
    settings_file::read(settings).map_err(|error| cannot("read", settings, &error))
}

fn doing(options: &HooksOptions, what: &str) -> String {
    if options.dry_run { format!("  would {what}") } else { format!("  {what}") }
}

fn report(outcome: &str, options: &HooksOptions) -> Report {
    Report::ok(outcome).with("dry_run", options.dry_run)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

fn cannot_edit(settings: &Path, error: &EditError) -> Failure {
    Failure::new(format!("cannot edit {}: {error}", settings.display()))
        .hint("run without --write-settings and make the edit yourself")
}
