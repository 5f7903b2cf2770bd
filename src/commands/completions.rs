//! `completions SHELL`: what a shell needs to complete our commands and flags. Comes from the command line's definition.

use clap::CommandFactory;

use super::run::Run;
use crate::cli::Cli;
use crate::outcome::Outcome;
use crate::ui::Report;

pub(super) fn run(run: &Run, shell: clap_complete::Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "membridge", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    run.ui.verbatim(&script);
    Report::ok(Outcome::Shown).with("shell", shell.to_string()).with("text", script)
}
