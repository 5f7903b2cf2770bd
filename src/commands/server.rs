//! `server`: the fleet's page and its interface, from what this machine's configuration says of the store.

use std::sync::Arc;

use super::agent;
use super::run::Run;
use crate::cli::ServerOptions;
use crate::config::{self, Paths, leadership};
use crate::error::CommandResult;
use crate::http::log::Log;
use crate::outcome::Outcome;
use crate::server::{Server, ServerSettings, Surroundings};
use crate::ui::{Report, Ui};

pub(super) async fn run(run: &Run, options: &ServerOptions) -> CommandResult<Report> {
    let settings = ServerSettings::new(&run.environment, options.daemon.listen.as_deref(), options.dev)?;
    let listen = settings.listen;
    let log = Log::new(Arc::clone(&run.context), Box::new(Ui::log));
    let server = Server::open(settings, surroundings(run)?, Arc::clone(&run.context), log)?;
    let listener = agent::bind(listen, "MEMBRIDGE_PORT").await?;
    let _critical = run.context.critical();
    agent::announce(run, "server", &listener);
    Arc::new(server).run(listener).await;
    Ok(Report::ok(Outcome::Stopped))
}

/// A server works without a store, and without a project of its own; then it says what it cannot do.
fn surroundings(run: &Run) -> CommandResult<Surroundings> {
    let settings = &run.settings;
    let store = match &run.file_problem {
        Some(problem) => Err(problem.to_string()),
        None => config::store(settings).map_err(|problem| problem.to_string()),
    };
    let paths = Paths::new(settings);
    Ok(Surroundings {
        store,
        leadership: leadership(settings)?,
        state: paths.state,
        key: paths.key,
        node: config::node(settings)?,
        project: config::project(settings).ok(),
    })
}
