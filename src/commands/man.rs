//! `man`: the manual page, one for all commands. Comes from the command line's definition.

use clap::CommandFactory;

use super::run::Run;
use crate::cli::Cli;
use crate::error::{Code, CommandResult, Failure};
use crate::outcome::Outcome;
use crate::ui::Report;

pub(super) fn run(run: &Run) -> CommandResult<Report> {
    let fail = |error: std::io::Error| {
        Failure::of(Code::LocalFile, format!("cannot write the manual page: {error}"))
    };
    let mut page = Vec::new();
    let root = Cli::command();
    clap_mangen::Man::new(root.clone()).render(&mut page).map_err(fail)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let title = format!("membridge {}", command.get_name());
        let man = clap_mangen::Man::new(command.clone().display_name(title.clone()).bin_name(title.clone()));
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part).map_err(fail)?;
        man.render_description_section(&mut part).map_err(fail)?;
        man.render_options_section(&mut part).map_err(fail)?;
        page.push_str(&as_section(&title, &String::from_utf8_lossy(&part)));
    }
    run.ui.verbatim(&page);
    Ok(Report::ok(Outcome::Shown).with("text", page))
}

/// A page of its own made into one section of ours: without the preamble, its headings turned into paragraphs.
fn as_section(title: &str, part: &str) -> String {
    let mut section = format!(".SH \"{}\"\n", title.to_uppercase());
    let preamble = |line: &&str| !line.starts_with(".ie ") && !line.starts_with(".el ");
    for line in part.lines().filter(preamble) {
        section.push_str(match line {
            ".SH SYNOPSIS" | ".SH DESCRIPTION" | ".SH OPTIONS" => ".PP",
            line => line,
        });
        section.push('\n');
    }
    section
}
