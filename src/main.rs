//! Parse, start logging, run one command, map its outcome to an exit code.

use clap::Parser;
use membridge::cli::Cli;
use membridge::config::Environment;
use membridge::exit::ExitCode;

fn main() {
    let environment = Environment::capture();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for bad usage is 2, which means "primary refuses pull" to our callers.
            let _ = error.print();
            let exit = if error.use_stderr() {
                ExitCode::Error
            } else {
                ExitCode::Ok
            };
            std::process::exit(exit.code());
        }
    };
    membridge::logging::start(&environment, cli.verbose, cli.log_format);
    let exit = membridge::commands::run(cli, &environment);
    std::process::exit(exit.code());
}
