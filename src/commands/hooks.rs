//! `hooks install|uninstall|status`: the wrapper scripts and, when asked, the entries in Claude Code's settings.json.

use std::path::{Path, PathBuf};

use super::run::Run;
use crate::cli::{HooksAction, HooksOptions, SettingsFile};
use crate::config::{self, Paths};
use crate::error::{Code, CommandResult, Failure};
use crate::hook::registration::{self, EditError, Place};
use crate::hook::scripts::{self, Found, SCRIPTS};
use crate::hook::settings::{EVENTS, HookSettings, MANAGED};
use crate::hook::settings_file::{self, ReplaceError};
use crate::jobs::Journal;
use crate::outcome::Outcome;
use crate::ui::Report;

/// The scripts that Claude Code's settings name.
const HOOKS: [&str; 2] = ["claude-mem-hook-pull", "claude-mem-hook-push"];

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
    let place = place(run, bin);
    // What may be refused comes before what is changed.
    let add = |text: &str| registration::add(text, place);
    if options.write_settings {
        edited(&settings, &add)?;
    }
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
    if options.write_settings {
        write(run, &settings, &add, options, "add our entries to")?;
    } else {
        run.ui.line(format!(
            "Add this to {}, or run: membridge hooks install --write-settings",
            settings.display()
        ));
        let fragment = serde_json::to_string_pretty(&registration::fragment(place)).unwrap_or_default();
        fragment.lines().for_each(|line| run.ui.line(line));
    }
    let mut report = report(Outcome::Installed, options);
    if let Some(off) = registered(run, &settings).off() {
        run.ui.warn(format!("{off}: nothing runs our hooks"));
        run.ui.line(format!("  → {}", off.remedy()));
        report = report.with("warning", off.to_string());
    }
    Ok(report
        .with("bin", bin.display().to_string())
        .with("settings", settings.display().to_string())
        .with("fragment", registration::fragment(place)))
}

fn uninstall(run: &Run, bin: &Path, options: &HooksOptions) -> CommandResult<Report> {
    let settings = settings_path(run, &options.file)?;
    let place = place(run, bin);
    let remove = |text: &str| registration::remove(text, place);
    if options.write_settings {
        write(run, &settings, &remove, options, "take our entries out of")?;
    } else if !HOOKS.iter().all(|name| scripts::comes_back(bin, name))
        && let Ok((_, Some(_))) = edited(&settings, &remove)
    {
        // Entries that name a script that is gone would make every hook of Claude Code fail.
        return Err(Failure::of(Code::Refused, format!("{} still names our scripts", settings.display()))
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
    Ok(report(Outcome::Uninstalled, options))
}

fn status(run: &Run, bin: &Path, file: &SettingsFile) -> CommandResult<Report> {
    let settings = settings_path(run, file)?;
    let mut report = Report::ok(Outcome::Shown);
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
    let registered = registered(run, &settings);
    if let HookSettings::Damaged(_, problem) = &registered {
        return Err(Failure::of(
            Code::LocalFile,
            format!("{} cannot be understood: {problem}", settings.display()),
        )
        .hint(format!("repair {}", settings.display())));
    }
    for event in EVENTS {
        let there = !registered.of(event).is_empty();
        let word = if there { "set" } else { "not set" };
        run.ui.line(format!("{} {event}: {word}", settings.display()));
        report = report.with(event, there);
    }
    if let Some(off) = registered.off() {
        run.ui.warn(off.to_string());
        report = report.with("warning", off.to_string());
    }
    let last = Journal::of(&Paths::new(&run.settings)).last_results();
    for entry in last.each() {
        let when = run.context.clock().when_said(&entry.time);
        run.ui.line(format!("last {}: {} {when} {}", entry.event, entry.outcome, entry.message).trim_end());
    }
    Ok(report)
}

/// How often an edit starts over because another program wrote the file in the same moment.
const ATTEMPTS: u32 = 5;

type Edit<'a> = &'a dyn Fn(&str) -> Result<Option<String>, EditError>;

/// The file's text, and the text after the edit where that is another one.
fn edited(settings: &Path, edit: Edit<'_>) -> CommandResult<(String, Option<String>)> {
    let before = settings_file::read(settings).map_err(|error| cannot("read", settings, &error))?;
    let after = edit(&before).map_err(|error| cannot_edit(settings, &error))?;
    Ok((before, after))
}

fn write(run: &Run, settings: &Path, edit: Edit<'_>, options: &HooksOptions, what: &str) -> CommandResult {
    let stamp = run.context.now().strftime("%Y%m%d-%H%M%S").to_string();
    for _ in 0..ATTEMPTS {
        let (before, Some(after)) = edited(settings, edit)? else {
            run.ui.line(format!("  unchanged {}", settings.display()));
            return Ok(());
        };
        let backup = if options.dry_run {
            None
        } else {
            match settings_file::replace(settings, &before, &after, &stamp) {
                Err(ReplaceError::Changed) => continue,
                Err(ReplaceError::Io(error)) => return Err(cannot("write", settings, &error)),
                Ok(backup) => backup,
            }
        };
        run.ui.line(format!("{} {}", doing(options, what), settings.display()));
        show(run, &before, &after);
        if let Some(backup) = backup {
            run.ui.line(format!("  the old file is kept as {}", backup.display()));
        }
        return Ok(());
    }
    Err(Failure::of(Code::Contended, format!("another program changes {} all the time", settings.display()))
        .hint("close Claude Code and editors that have it open, then try again"))
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

fn place<'a>(run: &'a Run, bin: &'a Path) -> Place<'a> {
    Place { bin, home: &run.settings.home, is_there: |path| path.exists() }
}

fn settings_path(run: &Run, file: &SettingsFile) -> CommandResult<PathBuf> {
    match &file.settings {
        Some(path) => Ok(path.clone()),
        None => Ok(config::worker(&run.settings)?.claude_dir.join("settings.json")),
    }
}

fn registered(run: &Run, settings: &Path) -> HookSettings {
    HookSettings::read(settings, &run.settings.home, Path::new(MANAGED))
}

fn doing(options: &HooksOptions, what: &str) -> String {
    if options.dry_run { format!("  would {what}") } else { format!("  {what}") }
}

fn report(outcome: Outcome, options: &HooksOptions) -> Report {
    Report::ok(outcome).with("dry_run", options.dry_run)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::of(Code::LocalFile, format!("cannot {what} {}: {error}", path.display()))
}

fn cannot_edit(settings: &Path, error: &EditError) -> Failure {
    Failure::of(Code::LocalFile, format!("cannot edit {}: {error}", settings.display()))
        .hint("run without --write-settings and make the edit yourself")
}
