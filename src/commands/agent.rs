//! `agent`: serves the fleet's requests on this machine, and watches the database meanwhile.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::run::Run;
use super::watch;
use crate::agent::{Agent, AgentSettings};
use crate::cli::{AgentOptions, WatchOptions};
use crate::config::{self, Config, Paths};
use crate::error::{Code, CommandResult, Failure};
use crate::http::log::Log;
use crate::outcome::Outcome;
use crate::ui::{Report, Ui};

pub(super) async fn run(run: &Run, options: &AgentOptions) -> CommandResult<Report> {
    let state = Paths::new(&run.settings).state;
    let listen = options.daemon.listen.as_deref();
    let settings = AgentSettings::new(&run.environment, listen, &state, &run.from_file)?;
    let (listen, dry_run) = (settings.listen, settings.dry_run);
    let log = Log::new(Arc::clone(&run.context), Box::new(Ui::log));
    // The name under which it pushes too: config.env may say it.
    let node = config::node(&run.settings)?;
    let agent = Agent::new(settings, run.environment.clone(), Arc::clone(&run.context), log, node);
    let listener = bind(listen, "MEMBRIDGE_AGENT_PORT").await?;
    // SIGTERM is a wish: what runs ends first.
    let _critical = run.context.critical();
    announce(run, "agent", &listener);
    let watching = async {
        match Config::new(&run.settings) {
            Ok(_) if options.no_watch || dry_run => {}
            Ok(_) => {
                if let Err(failure) = watch::run(run, WatchOptions { settle: 5, every: 60 }).await {
                    run.ui.warn(format!("not watching: {failure}"));
                }
            }
            Err(problem) => run.ui.line(format!("not watching: {problem}")),
        }
    };
    tokio::join!(Arc::new(agent).run(listener), watching);
    Ok(Report::ok(Outcome::Stopped))
}

/// Listens.
pub(super) async fn bind(listen: std::net::SocketAddr, variable: &str) -> CommandResult<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Failure::of(Code::CannotListen, format!("cannot listen on {listen}: {error}"))
            .hint(format!("see who does: ss -ltnp 'sport = :{}'", listen.port()))
            .hint(format!("another port: {variable}, or --listen ADDRESS:PORT"))
    })
}

/// Says where, which is news when the port was 0.
pub(super) fn announce(run: &Run, what: &str, listener: &TcpListener) {
    if let Ok(at) = listener.local_addr() {
        run.ui.line(format!("{what} listening on http://{at}"));
    }
}
