//! `man`: the manual page, one for all commands. Comes from the command line's definition.

use clap::CommandFactory;

use super::Run;
use crate::cli::Cli;
use crate::error::{CommandResult, Failure};
use crate::ui::Report;

pub(super) fn run(run: &Run) -> CommandResult<Report> {
    let fail = |error: std::io::Error| Failure::new(format!("cannot write the manual page: {error}"));
    let mut page = Vec::new();
    let root = Cli::command();
    clap_mangen::Man::new(root.clone())
        .render(&mut page)
        .map_err(fail)?;
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let title = format!("membridge {}", command.get_name());
        let command = command.clone().display_name(title.clone()).bin_name(title);
        let man = clap_mangen::Man::new(command);
        man.render_name_section(&mut page).map_err(fail)?;
        man.render_synopsis_section(&mut page).map_err(fail)?;
        man.render_description_section(&mut page).map_err(fail)?;
        man.render_options_section(&mut page).map_err(fail)?;
    }
    let page = String::from_utf8_lossy(&page).into_owned();
    run.ui.verbatim(&page);
    Ok(Report::ok("shown").with("text", page))
}
