//! `hook` and its detached part: the frame that prints at most one line for the person and always ends with 0.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::runtime;
use crate::cli::Cli;
use crate::config::{Environment, Paths, Settings, settings::SETTINGS};
use crate::context::Context;
use crate::exit::ExitCode;
use crate::failpoint;
use crate::hook::{Decision, SESSION_START, START_INPUT, STOP_INPUT, decide, input};
use crate::jobs::detached::push_interval;
use crate::jobs::matters::MattersFile;
use crate::jobs::queue::Queue;
use crate::jobs::{Detached, Entry, Event, Journal, background};
use crate::outcome::Outcome;
use crate::worker::http::Endpoint;

/// Where files are, by whatever of the settings can be read; `None` for a user without a home.
pub(super) fn paths(environment: &Environment, file: Option<&Path>) -> Option<Paths> {
    environment.home()?;
    let none = BTreeMap::new();
    let settings = Settings::load(&none, environment, file);
    let settings = settings.unwrap_or_else(|_| Settings::without_file(&none, environment, file));
    Some(Paths::new(&settings))
}

/// What Claude Code waits for.
pub(super) fn called(cli: &Cli, environment: &Environment, event: Event) -> ExitCode {
    let started = Instant::now();
    let Some(paths) = paths(environment, cli.config.as_deref()) else {
        return ExitCode::Ok;
    };
    let journal = Journal::of(&paths);
    let patience = match event {
        Event::SessionStart => START_INPUT,
        Event::Stop | Event::SessionEnd => STOP_INPUT,
    };
    let acted = match decide(event, &input::read(patience)) {
        Decision::Skip(reason) => Err((Outcome::Skipped, reason.to_owned())),
        Decision::Act(event) => background::start_self(&["hook-work", event.name()], &variables(cli))
            .map_err(|error| (Outcome::Failed, format!("cannot start the background part: {error}"))),
    };
    let entry =
        |outcome, message: String| Entry::now(event, outcome, started, &context()).with(None, message);
    // The journal may be on a full disk; the session must not notice.
    let _ = match acted {
        Ok(child) => {
            let noted = journal.note(&entry(Outcome::Queued, String::new()));
            if event == Event::SessionStart {
                wait(child, SESSION_START.saturating_sub(started.elapsed()));
                tell(cli, environment, &paths.state);
            }
            noted
        }
        Err((outcome @ Outcome::Failed, message)) => journal.conclude(&entry(outcome, message)),
        Err((outcome, message)) => journal.note(&entry(outcome, message)),
    };
    ExitCode::Ok
}

/// Tells the person what there is to be told, on the one line that Claude Code shows and does not give to the model.
fn tell(cli: &Cli, environment: &Environment, state: &Path) {
    let silent = || {
        let settings = Settings::load(&cli.settings.given(), environment, cli.config.as_deref());
        !settings.is_ok_and(|settings| settings.switch("MEMBRIDGE_HOOK_MESSAGES").unwrap_or(true))
    };
    for file in MattersFile::all(state) {
        let mut matters = file.load();
        let Some(line) = matters.tell(context().now().as_second()) else { continue };
        if silent() {
            return;
        }
        file.save(&matters);
        println!("{line}");
        // One line at most: the other databases have their turn at the next session.
        return;
    }
}

/// Waits for the pull, so that the session begins with what other machines know; it goes on without us when it takes
/// longer.
fn wait(mut child: Child, patience: Duration) {
    let (sender, receiver) = mpsc::channel();
    let waiter = std::thread::Builder::new().spawn(move || {
        let _ = child.wait();
        let _ = sender.send(());
    });
    if waiter.is_ok() {
        let _ = receiver.recv_timeout(patience);
    }
}

/// The flags that were given, as the variables that they stand for: arguments can be read by everybody.
fn variables(cli: &Cli) -> Vec<(&'static str, OsString)> {
    let file = cli.config.as_ref().map(|path| ("MEMBRIDGE_CONFIG_ENV", path.into()));
    let given = cli.settings.given();
    given.into_iter().map(|(name, value)| (name, value.into())).chain(file).collect()
}

/// The detached part.
pub(super) fn work(cli: &Cli, environment: &Environment, event: Event) -> ExitCode {
    let started = Instant::now();
    if background::leave().is_err() {
        return ExitCode::Error;
    }
    if event.job().is_humble() {
        background::be_humble();
    }
    let Some(paths) = paths(environment, cli.config.as_deref()) else {
        return ExitCode::Error;
    };
    let journal = Journal::of(&paths);
    let prepared = Settings::load(&cli.settings.given(), environment, cli.config.as_deref())
        .map_err(|error| error.to_string())
        .and_then(|settings| {
            Ok((
                runtime::start().map_err(|error| format!("cannot start: {error}"))?,
                prepare(&settings, event, journal.clone())?,
            ))
        });
    match prepared {
        Ok((runtime, work)) => {
            let (job, project) = work;
            let patience = SESSION_START.saturating_sub(started.elapsed());
            let context = context();
            runtime.block_on(async {
                tokio::join!(register(project.as_deref()), job.run(patience, started, &context))
            });
            runtime.shutdown_background();
            ExitCode::Ok
        }
        Err(message) => {
            let entry = Entry::now(event, Outcome::Failed, started, &context());
            let _ = journal.conclude(&entry.with(Some(ExitCode::Error.code()), message));
            ExitCode::Error
        }
    }
}

fn prepare(
    settings: &Settings,
    event: Event,
    journal: Journal,
) -> Result<(Detached, Option<String>), String> {
    let interval = push_interval(settings).map_err(|error| error.to_string())?;
    let database = settings.get("CLAUDE_MEM_DB").unwrap_or_default();
    let state = Paths::new(settings).state;
    let queue = Queue::of(&state, database, interval)
        .map_err(|error| format!("cannot use {}: {error}", state.display()))?;
    let secret = |name| settings.get(name).map(str::to_owned);
    let secrets =
        SETTINGS.iter().filter(|setting| setting.secret).filter_map(|setting| secret(setting.name)).collect();
    let project = settings.get("CLAUDE_PROJECT_ID").map(str::to_owned);
    let matters = MattersFile::of(&state, database);
    Ok((Detached { event, journal, queue, secrets, matters }, project))
}

/// Tells a local agent about the project, best effort, as the wrapper scripts always did.
async fn register(project: Option<&str>) {
    let Some(project) = project else { return };
    let agent = Endpoint { host: "127.0.0.1".to_owned(), port: 8001 };
    let _ = agent.post("/register_project", &serde_json::json!({"project_id": project})).await;
}

fn context() -> Context {
    Context::new(jiff::SignedDuration::from_secs(failpoint::clock_offset()))
}
