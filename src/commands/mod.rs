//! One file per command, and the frame around them: settings, runtime, signals, the exit code.

mod agent;
mod answers;
mod completions;
mod config;
mod doctor;
mod export;
mod history;
mod hook;
mod hooks;
mod install;
mod key;
mod leadership;
mod log;
mod man;
mod mirror;
mod nodes;
mod past;
mod project;
mod promote;
mod rename_project;
mod restore_backup;
mod run;
mod runtime;
mod search;
mod server;
mod status;
mod sync;
mod usage;
mod watch;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Cli, Color, Command, ConfigAction};
use crate::config::daemon;
use crate::config::{Environment, Settings, file_to_write};
use crate::context::Context;
use crate::database::files;
use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::failpoint;
use crate::jobs::background;
use crate::ui::{Report, Ui};

use run::Run;
pub use usage::refused;

/// Runs one command to its end and prints how it ended.
pub fn run(cli: Cli, environment: &Environment) -> ExitCode {
    // These three have no person at the other end and must work with any configuration.
    match cli.command {
        Command::BackgroundStart => return started_in_background(),
        Command::Hook { event } => return hook::called(&cli, environment, event),
        Command::HookWork { event } => return hook::work(&cli, environment, event),
        _ => {}
    }
    let color = match cli.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            environment.get("NO_COLOR").is_none()
                && environment.get("TERM") != Some("dumb")
                && std::io::stdout().is_terminal()
        }
    };
    let ui = Ui::new(cli.json, cli.quiet, color);
    let name = cli.command.name();
    let end = prepare(&cli, environment, ui.clone()).and_then(|run| execute(&run, cli.command));
    if let Err(failure) = &end {
        let causes = failure.causes().join(": ");
        tracing::debug!(code = failure.code.word(), causes, "failed");
    }
    ui.finish(name, &end);
    match end {
        Ok(report) => report.exit,
        Err(failure) => failure.exit,
    }
}

/// Its caller, a membridge too, reads what went wrong from the pipe.
fn started_in_background() -> ExitCode {
    match background::run_helper() {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            println!("{error}");
            ExitCode::Error
        }
    }
}

fn prepare(cli: &Cli, environment: &Environment, ui: Ui) -> CommandResult<Run> {
    let (environment, from_file) = match cli.command.env_file() {
        Some(file) => daemon::with_file(environment, file)?,
        None => (environment.clone(), BTreeMap::new()),
    };
    let environment = &environment;
    let flags = cli.settings.given();
    let config_target = file_to_write(environment, cli.config.as_deref());
    let (settings, file_problem) = match Settings::load(&flags, environment, cli.config.as_deref()) {
        Ok(settings) => (settings, None),
        Err(problem) if cli.command.needs_no_file() => {
            let without = Settings::without_file(&flags, environment, cli.config.as_deref());
            (without, Some(problem))
        }
        Err(problem) => return Err(problem.into()),
    };
    let offset = jiff::SignedDuration::from_secs(failpoint::clock_offset());
    Ok(Run {
        context: Arc::new(Context::new(offset)),
        ui,
        verbose: cli.verbose > 0,
        settings,
        file_problem,
        config_target,
        environment: environment.clone(),
        from_file,
    })
}

/// Runs the command on a single-threaded runtime, until it ends or a signal ends it.
fn execute(run: &Run, command: Command) -> CommandResult<Report> {
    let runtime = runtime::start().map_err(|error| {
        Failure::of(Code::Limits, format!("cannot start: {error}"))
            .hint("see what this process may have: ulimit -a (open files, processes)")
    })?;
    let context = Arc::clone(&run.context);
    let end = runtime.block_on(async {
        // Before anything can be seen of the command: whoever sees it may tell it to end.
        let signals = Signals::watch()?;
        let mut command = std::pin::pin!(dispatch(run, command));
        let mut stopped = std::pin::pin!(signals.next(&context));
        tokio::select! {
            end = &mut command => return end,
            result = &mut stopped => match result {
                signal if !context.in_critical() => return Err(Failure::interrupted(signal)),
                _ => run.ui.line("stopping after this step"),
            },
        }
        // In a critical section: it has heard of the signal, gives back what it holds, and ends by itself.
        command.await
    });
    // Blocking work that a signal left behind must not keep us here.
    runtime.shutdown_background();
    // What such work has made, too.
    files::abandon();
    end
}

/// SIGINT and SIGTERM.
struct Signals {
    int: Signal,
    term: Signal,
}

impl Signals {
    fn watch() -> CommandResult<Self> {
        let fail =
            |error: std::io::Error| Failure::of(Code::Limits, format!("cannot watch for signals: {error}"));
        let int = signal(SignalKind::interrupt()).map_err(fail)?;
        let term = signal(SignalKind::terminate()).map_err(fail)?;
        Ok(Self { int, term })
    }

    /// Waits for one and tells the context.
    async fn next(mut self, context: &Context) -> i32 {
        let number = tokio::select! {
            _ = self.int.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.term.recv() => SignalKind::terminate().as_raw_value(),
        };
        context.interrupt(number);
        number
    }
}

async fn dispatch(run: &Run, command: Command) -> CommandResult<Report> {
    match command {
        Command::Project => project::run(run),
        Command::Push(args) => sync::run(run, sync::Asked::push(args)).await,
        Command::Pull(args) => sync::run(run, sync::Asked::pull(args)).await,
        Command::Sync(args) => sync::run(run, sync::Asked::sync(args)).await,
        Command::RestoreBackup { name, forget, means, plan } => {
            restore_backup::run(run, name, means, plan.dry_run, forget).await
        }
        Command::Log { limit } => log::run(run, limit).await,
        Command::Nodes => nodes::run(run).await,
        Command::History { limit } => history::history(run, limit).await,
        Command::Restore { what, to, plan, .. } if plan.dry_run => {
            history::restore_preview(run, &what, to.as_deref()).await
        }
        Command::Restore { what, to: Some(file), .. } => history::restore_to(run, &what, &file).await,
        Command::Restore { what, to: None, means, .. } => Box::pin(history::restore(run, &what, means)).await,
        Command::Mirror { action } => mirror::run(run, action).await,
        Command::Key { action } => Box::pin(key::run(run, action)).await,
        Command::Diff { from, to } => history::diff(run, &from, &to).await,
        Command::Search(options) => search::run(run, &options).await,
        Command::Export { file, only } => export::export(run, &file, only).await,
        Command::Import { file, plan } => export::import(run, &file, plan).await,
        Command::Verify { all } => history::verify(run, all).await,
        Command::Leadership => leadership::run(run).await,
        Command::Promote { node, lease_seconds, force } => {
            promote::promote(run, node, lease_seconds, force).await
        }
        Command::Demote { node } => promote::demote(run, node).await,
        Command::Doctor(args) => doctor::run(run, args).await,
        Command::Status(options) => status::run(run, options).await,
        Command::Config { action: None } => Ok(config::show(run)),
        Command::Config { action: Some(ConfigAction::Init { edit }) } => config::init(run, edit).await,
        Command::Completions { shell } => Ok(completions::run(run, shell)),
        Command::Man => man::run(run),
        Command::RenameProject { name, join, plan } => {
            Box::pin(rename_project::run(run, &name, join, plan)).await
        }
        Command::Hooks { action } => hooks::run(run, action),
        Command::Watch(options) => watch::run(run, options).await,
        Command::Agent(options) => agent::run(run, &options).await,
        Command::Server(options) => server::run(run, &options).await,
        Command::Install(options) => install::run(run, &options).await,
        Command::ValidateInstall => install::validate(run).await,
        Command::BackgroundStart | Command::Hook { .. } | Command::HookWork { .. } => {
            Err(Failure::of(Code::Internal, "runs before the settings are read"))
        }
    }
}
