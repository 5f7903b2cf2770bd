//! The detached part of a hook: takes its turn, runs the ordinary command as a process of its own, and remembers how
//! it went. Whatever goes wrong ends here as a line in the journal.

use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::queue::Queue;
use super::{Entry, Event, Journal};
use crate::background;
use crate::config::{ConfigError, Settings};
use crate::context::Context;
use crate::worker::http::Endpoint;

/// A command that takes longer hangs: the storage layer's own limits are far below.
const COMMAND: Duration = Duration::from_mins(15);

/// How long a command may take to give back its lock after SIGTERM.
const GRACE: Duration = Duration::from_secs(15);

/// More output than this is no report.
const MAX_REPORT: u64 = 1 << 20;

/// What the detached part needs to know.
#[derive(Debug)]
pub struct Work {
    /// Which hook.
    pub event: Event,
    /// Where to write how it went.
    pub journal: Journal,
    /// The queue of the database.
    pub queue: Queue,
    /// The project, for a local agent that wants to know.
    pub project: Option<String>,
    /// Texts that must never be written.
    pub secrets: Vec<String>,
}

impl Work {
    /// Does it.
    pub async fn run(self, context: &Context) {
        let started = Instant::now();
        if let Some(project) = &self.project {
            register(project).await;
        }
        let end = self.command().await.unwrap_or_else(|error| End::failed(error.to_string()));
        let entry = Entry::now(self.event, &end.outcome, started, context)
            .with(end.code, redact(end.message, &self.secrets));
        // There is nobody left to tell that the journal cannot be written.
        let _ = if entry.outcome == COALESCED {
            self.journal.note(&entry)
        } else {
            self.journal.conclude(&entry)
        };
    }

    async fn command(&self) -> std::io::Result<End> {
        let turn = match self.event {
            // A pull is what the session waits for, and runs beside nothing.
            Event::SessionStart => Some(self.queue.alone().await?),
            Event::Stop => self.queue.turn(false).await?,
            Event::SessionEnd => self.queue.turn(true).await?,
        };
        match turn {
            Some(_turn) => run(self.event.command(), self.event.arguments(), std::future::pending()).await,
            None => Ok(End {
                outcome: COALESCED.to_owned(),
                code: None,
                message: "a push is waiting already".to_owned(),
            }),
        }
    }
}

const COALESCED: &str = "coalesced";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// One word, as in its `--json` report.
    pub outcome: String,
    /// Its exit code; `None` when it never ran.
    pub code: Option<i32>,
    /// Its error, or its warning; empty when it has neither.
    pub message: String,
}

impl End {
    /// It could not even be run.
    pub fn failed(message: String) -> Self {
        Self { outcome: "failed".to_owned(), code: None, message }
    }

    /// What the command's one JSON object says.
    fn of(code: Option<i32>, report: &[u8]) -> Self {
        let report: Value = serde_json::from_slice(report).unwrap_or_default();
        let text = |name: &str| report.get(name).and_then(Value::as_str).map(str::to_owned);
        let outcome = match code {
            Some(0) => text("outcome").unwrap_or_else(|| "done".to_owned()),
            Some(2 | 3) => "refused".to_owned(),
            Some(4) => "diverged".to_owned(),
            Some(_) | None => "failed".to_owned(),
        };
        Self {
            outcome,
            // Without a code a signal ended it; the journal says so as shells do.
            code: code.or(Some(128)),
            // A command can do what was asked and still have something to say that a person must see.
            message: text("error").or_else(|| text("warning")).unwrap_or_default(),
        }
    }
}

/// Runs a command of ours as a process of its own and waits for its end. When `stop` is done first, or the time is
/// over, the command is told to end and gets time to give back what it holds.
///
/// # Errors
/// It cannot be started.
pub async fn run(command: &str, arguments: &[&str], stop: impl Future<Output = ()>) -> std::io::Result<End> {
    let mut child = Command::new(background::SELF)
        .arg0("membridge")
        .args([command, "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // A pull stays at normal priority: the worker that it starts would inherit ours for ever.
    if command == "push_sqlite"
        && let Some(pid) = child.id()
    {
        background::humble(pid);
    }
    let mut report = Vec::new();
    let output = child.stdout.take();
    let read = async {
        if let Some(output) = output {
            output.take(MAX_REPORT).read_to_end(&mut report).await?;
        }
        child.wait().await
    };
    let problem = tokio::select! {
        status = read => return Ok(End::of(code(status?), &report)),
        () = stop => format!("{command} was told to stop"),
        () = tokio::time::sleep(COMMAND) => {
            format!("{command} took longer than {} s and was stopped", COMMAND.as_secs())
        }
    };
    terminate(&mut child).await?;
    Ok(End { code: Some(1), ..End::failed(problem) })
}

/// The exit code as a shell sees it.
fn code(status: std::process::ExitStatus) -> Option<i32> {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal))
}

async fn terminate(child: &mut Child) -> std::io::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // Ours and not yet waited for: the pid is nobody else's.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => status.map(drop),
        Err(_) => child.kill().await,
    }
}

/// The time between two pushes: MEMBRIDGE_PUSH_INTERVAL_SECONDS.
///
/// # Errors
/// It is no number of seconds up to a day.
pub fn push_interval(settings: &Settings) -> Result<Duration, ConfigError> {
    let seconds = settings.number("MEMBRIDGE_PUSH_INTERVAL_SECONDS", 0, 86_400)?;
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Duration::from_secs(seconds.unwrap_or(60)))
}

/// Takes secrets out of a text that will be written down.
pub fn redact(text: String, secrets: &[String]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text, |text, secret| text.replace(secret, "***"))
}

/// Tells a local agent about the project, best effort, as the wrapper scripts always did.
async fn register(project: &str) {
    let agent = Endpoint { host: "127.0.0.1".to_owned(), port: 8001 };
    let body = serde_json::json!({"project_id": project});
    let _ = agent.post("/register_project", &body).await;
}

#[cfg(test)]
mod tests {
    use super::{End, redact};

    #[test]
    fn the_report_of_a_command_becomes_an_outcome() {
        let ok = br#"{"outcome": "pushed"}"#;
        let error = br#"{"outcome": "error", "error": "MINIO_ENDPOINT not set"}"#;
        let kept = br#"{"outcome": "replaced_diverged", "warning": "kept: membridge restore-backup X"}"#;
        let table: [(Option<i32>, &[u8], (&str, Option<i32>, &str)); 7] = [
            (Some(0), ok, ("pushed", Some(0), "")),
            (Some(0), kept, ("replaced_diverged", Some(0), "kept: membridge restore-backup X")),
            (Some(0), b"not json", ("done", Some(0), "")),
            (Some(1), error, ("failed", Some(1), "MINIO_ENDPOINT not set")),
            (Some(3), error, ("refused", Some(3), "MINIO_ENDPOINT not set")),
            (Some(4), b"", ("diverged", Some(4), "")),
            (None, b"", ("failed", Some(128), "")),
        ];
        for (code, report, (outcome, shown, message)) in table {
            let expected = End { outcome: outcome.to_owned(), code: shown, message: message.to_owned() };
            assert_eq!(End::of(code, report), expected);
        }
    }

    #[test]
    fn f40_no_secret_is_written_down() {
        let secrets = ["hunter22".to_owned(), String::new()];
        assert_eq!(redact("key hunter22!".to_owned(), &secrets), "key ***!");
    }
}
