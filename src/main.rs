//! Parse, start logging, run one command, map its outcome to an exit code.

use clap::Parser;
use membridge::cli::Cli;
use membridge::config::Environment;

fn main() {
    let environment = Environment::capture();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let arguments: Vec<_> =
                std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
            let exit = membridge::commands::refused(&error, &arguments, &environment);
            exit.end();
        }
    };
    membridge::logging::start(&environment, cli.verbose, cli.log_format);
    if let Err(error) = membridge::database::guard::bound_memory() {
        tracing::warn!(%error, "SQLite's memory is not bounded");
    }
    let exit = membridge::commands::run(cli, &environment);
    exit.end();
}
