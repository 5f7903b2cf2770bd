//! A command line that clap does not understand: said on stdout like every other failure, as one JSON object with
//! `--json`, and by a hook in its log alone. Runs no command.

use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};

use crate::cli::Cli;
use crate::config::Environment;
use crate::context::Context;
use crate::error::{Code, Failure};
use crate::exit::ExitCode;
use crate::jobs::{Entry, Event, Journal};
use crate::outcome::Outcome;
use crate::ui::Ui;

/// Ends a run whose arguments (without the program's name) clap refused, or answered itself: help, version.
pub fn refused(error: &clap::Error, arguments: &[String], environment: &Environment) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::Ok;
    }
    let first = arguments.first().map(String::as_str);
    if matches!(first, Some("hook" | "hook-work")) {
        log(error, arguments.get(1).map(String::as_str), environment);
        return ExitCode::Ok;
    }
    let mut before_dashes = arguments.iter().take_while(|argument| *argument != "--");
    let ui = Ui::new(before_dashes.any(|argument| argument == "--json"), false, false);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !ui.json {
        ui.verbatim(&error.render().to_string());
        return ExitCode::Error;
    }
    let named = arguments.iter().find(|argument| !argument.starts_with('-'));
    let cli = Cli::command();
    let command = named.and_then(|name| cli.find_subcommand(name));
    ui.finish(command.map_or("membridge", |command| command.get_name()), &Err(failure(error)));
    // clap's own code for bad usage is 2, which means "primary refuses pull" to our callers.
    ExitCode::Error
}

/// Every event leaves a line (F12), also one whose hook is called with arguments that it does not have.
fn log(error: &clap::Error, event: Option<&str>, environment: &Environment) {
    let Some(journal) = super::hook::paths(environment, None).map(|paths| Journal::of(&paths)) else {
        return;
    };
    let known = event.and_then(|name| Event::from_str(name, false).ok());
    let context = Context::new(jiff::SignedDuration::ZERO);
    let message = format!("bad usage: {}", failure(error).message);
    let mut entry = Entry::now(known.unwrap_or(Event::Stop), Outcome::Failed, Instant::now(), &context)
        .with(Some(ExitCode::Error.code()), message);
    let _ = if known.is_some() {
        journal.conclude(&entry)
    } else {
        "unknown".clone_into(&mut entry.event);
        journal.note(&entry)
    };
}

/// clap's text as ours: what is wrong, then a hint for each tip and for the usage.
fn failure(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::of(Code::Usage, "no command was given").hint("see them all: membridge --help");
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(one_line);
    let said = paragraphs.next().unwrap_or_default();
    let mut failure = Failure::of(Code::Usage, said.strip_prefix("error: ").unwrap_or(&said));
    for paragraph in paragraphs {
        let tips = paragraph.split("tip: ").map(str::trim);
        for hint in tips.filter(|hint| !hint.is_empty()) {
            failure = failure.hint(hint);
        }
    }
    failure
}

fn one_line(paragraph: &str) -> String {
    let words: Vec<_> = paragraph.split_whitespace().collect();
    words.join(" ")
}
