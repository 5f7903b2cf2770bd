//! The detached part of a hook: takes its turn, runs the ordinary command as a process of its own, and remembers how
//! it went. Whatever goes wrong ends here as a line in the journal.

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
        let end = self.command().await;
        let (outcome, code, message) = match end {
            Ok(end) => end,
            Err(error) => ("failed".to_owned(), None, error.to_string()),
        };
        let entry =
            Entry::now(self.event, &outcome, started, context).with(code, redact(message, &self.secrets));
        // There is nobody left to tell that the journal cannot be written.
        let _ = match code {
            None if entry.outcome == COALESCED => self.journal.note(&entry),
            _ => self.journal.conclude(&entry),
        };
    }

    async fn command(&self) -> std::io::Result<End> {
        let turn = match self.event {
            // A pull is what the session waits for, and runs beside nothing.
            Event::SessionStart => Some(self.queue.alone().await?),
            Event::Stop => self.queue.turn(false).await?,
            Event::SessionEnd => self.queue.turn(true).await?,
        };
        let Some(_turn) = turn else {
            return Ok((COALESCED.to_owned(), None, "a push is waiting already".to_owned()));
        };
        run(self.event.command()).await
    }
}

const COALESCED: &str = "coalesced";

/// Outcome, exit code, message.
type End = (String, Option<i32>, String);

async fn run(command: &str) -> std::io::Result<End> {
    let mut child = Command::new(background::SELF)
        .arg0("membridge")
        .args([command, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut report = Vec::new();
    let read = async {
        if let Some(output) = child.stdout.take() {
            output.take(MAX_REPORT).read_to_end(&mut report).await?;
        }
        child.wait().await
    };
    let Ok(status) = tokio::time::timeout(COMMAND, read).await else {
        terminate(&mut child).await?;
        let message = format!(
            "{command} took longer than {} s and was stopped",
            COMMAND.as_secs()
        );
        return Ok(("failed".to_owned(), Some(1), message));
    };
    Ok(understand(status?.code(), &report))
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

/// What the command's one JSON object says.
fn understand(code: Option<i32>, report: &[u8]) -> End {
    let report: Value = serde_json::from_slice(report).unwrap_or_default();
    let text = |name: &str| report.get(name).and_then(Value::as_str).map(str::to_owned);
    let outcome = match code {
        Some(0) => text("outcome").unwrap_or_else(|| "done".to_owned()),
        Some(2 | 3) => "refused".to_owned(),
        Some(4) => "diverged".to_owned(),
        Some(_) | None => "failed".to_owned(),
    };
    let message = text("error").unwrap_or_default();
    // Without a code a signal ended it; the journal says so as shells do.
    (outcome, code.or(Some(128)), message)
}

/// Takes secrets out of a text that will be written down.
pub fn redact(text: String, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text, |text, secret| text.replace(secret, "***"))
}

/// Tells a local agent about the project, best effort, as the wrapper scripts always did.
async fn register(project: &str) {
    let agent = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: 8001,
    };
    let body = serde_json::json!({"project_id": project});
    let _ = agent.post("/register_project", &body).await;
}

#[cfg(test)]
mod tests {
    use super::{redact, understand};

    #[test]
    fn the_report_of_a_command_becomes_an_outcome() {
        let ok = br#"{"outcome": "pushed"}"#;
        let error = br#"{"outcome": "error", "error": "MINIO_ENDPOINT not set"}"#;
        let table: [(Option<i32>, &[u8], (&str, Option<i32>, &str)); 6] = [
            (Some(0), ok, ("pushed", Some(0), "")),
            (Some(0), b"not json", ("done", Some(0), "")),
            (Some(1), error, ("failed", Some(1), "MINIO_ENDPOINT not set")),
            (Some(3), error, ("refused", Some(3), "MINIO_ENDPOINT not set")),
            (Some(4), b"", ("diverged", Some(4), "")),
            (None, b"", ("failed", Some(128), "")),
        ];
        for (code, report, (outcome, shown, message)) in table {
            assert_eq!(
                understand(code, report),
                (outcome.to_owned(), shown, message.to_owned())
            );
        }
    }

    #[test]
    fn f40_no_secret_is_written_down() {
        let secrets = ["hunter22".to_owned(), String::new()];
        assert_eq!(redact("key hunter22!".to_owned(), &secrets), "key ***!");
    }
}
