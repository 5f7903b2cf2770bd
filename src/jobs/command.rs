//! One job: the ordinary command as a process of its own, with a time limit, and how it ended. Knows neither who calls
//! for it nor when it may run.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::background;
use crate::outcome::Outcome;
use crate::platform;

/// A job that takes longer hangs: the storage layer's own limits are far below.
const LIMIT: Duration = Duration::from_mins(15);

/// How long a job may take to give back its lock after SIGTERM.
const GRACE: Duration = Duration::from_secs(15);

/// More output than this is no report.
const MAX_REPORT: u64 = 1 << 20;

/// What can run by itself: a sync, for one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// A session that starts, and waits.
    Start,
    /// A turn that has ended.
    Turn,
    /// A session that has ended.
    End,
    /// Nobody in particular: everything.
    Whole,
}

impl Job {
    /// What it is called in messages.
    pub fn command(self) -> &'static str {
        "sync"
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["sync", "--for", "start"],
            Self::Turn => &["sync", "--for", "turn"],
            Self::End => &["sync", "--for", "end"],
            Self::Whole => &["sync"],
        }
    }

    /// Whether it runs at the lowest priority. What a session waits for does not, and a worker that it starts would inherit
    /// its priority for ever.
    pub fn is_humble(self) -> bool {
        self != Self::Start
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// As in its `--json` report; what its exit code says where it did not do what it is for.
    pub outcome: Outcome,
    /// Its exit code; `None` when it never ran.
    pub code: Option<i32>,
    /// Its error, or its warning; empty when it has neither.
    pub message: String,
    /// What a person is to be told of it, by a word for each matter.
    pub matters: BTreeMap<String, String>,
    /// Its error's code; empty when it has none.
    pub trouble: String,
    /// Rows that came and rows that went, in words.
    pub moved: String,
}

impl End {
    /// It never ran.
    pub fn without(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, code: None, message: message.into(), ..Self::default() }
    }

    /// What the command's one JSON object says.
    fn of(code: i32, report: &[u8]) -> Self {
        let report: Value = serde_json::from_slice(report).unwrap_or_default();
        let text = |name: &str| report.get(name).and_then(Value::as_str).map(str::to_owned);
        let said = || serde_json::from_value(report.get("outcome").cloned().unwrap_or_default());
        let outcome = match code {
            0 => said().unwrap_or(Outcome::Done),
            2 | 3 => Outcome::Refused,
            130 | 143 => Outcome::Interrupted,
            _ => Outcome::Failed,
        };
        // A command can do what was asked and still have something to say that a person must see.
        let message = text("error").or_else(|| text("warning")).unwrap_or_default();
        let trouble = text("code").filter(|_| code != 0).unwrap_or_default();
        Self {
            outcome,
            code: Some(code),
            message,
            matters: matters(&report),
            trouble,
            moved: text("moved").unwrap_or_default(),
        }
    }

    /// Whether there is nothing to try again: done, or refused because of this node's role.
    pub fn is_settled(&self) -> bool {
        matches!(self.code, Some(0 | 2 | 3))
    }
}

/// The matters of a command's report.
fn matters(report: &Value) -> BTreeMap<String, String> {
    let matters = report.get("matters").and_then(Value::as_object);
    let matters = matters.into_iter().flatten();
    matters.filter_map(|(word, text)| Some((word.clone(), text.as_str()?.to_owned()))).collect()
}

/// Runs a job as a process of its own and waits for its end. When `stop` is done first, or the time is over, it is told
/// to end and gets time to give back what it holds.
///
/// # Errors
/// It cannot be started.
pub async fn run(job: Job, stop: impl Future<Output = ()>) -> std::io::Result<End> {
    let mut child = Command::new(platform::own_program())
        .arg0("membridge")
        .args(job.words())
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if job.is_humble()
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
        () = stop => "was told to stop".to_owned(),
        () = tokio::time::sleep(LIMIT) => format!("took longer than {} s and was stopped", LIMIT.as_secs()),
    };
    terminate(&mut child).await?;
    let message = format!("{} {problem}", job.command());
    Ok(End { outcome: Outcome::Failed, code: Some(1), message, ..End::default() })
}

/// The exit code as a shell sees it.
fn code(status: std::process::ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(128)
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

/// Takes secrets out of a text that will be written down.
pub fn redact(text: String, secrets: &[String]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text, |text, secret| text.replace(secret, "***"))
}

#[cfg(test)]
mod tests {
    use super::{End, Outcome, redact};

    #[test]
    fn the_report_of_a_command_becomes_an_outcome() {
        let ok = br#"{"outcome": "pushed"}"#;
        let error = br#"{"outcome": "error", "error": "MINIO_ENDPOINT not set"}"#;
        let held = br#"{"outcome": "synced", "warning": "60 vanished", "matters": {"held": "60 vanished"}, "moved": "sent 1 observation"}"#;
        let foreign = br#"{"outcome": "error", "error": "the store is empty", "code": "store_foreign"}"#;
        let table: [(i32, &[u8], Outcome, &str, &str, &str); 8] = [
            (0, ok, Outcome::Pushed, "", "", ""),
            (0, held, Outcome::Synced, "60 vanished", "", "sent 1 observation"),
            (0, b"not json", Outcome::Done, "", "", ""),
            (0, br#"{"outcome": "of a later release"}"#, Outcome::Done, "", "", ""),
            (1, foreign, Outcome::Failed, "the store is empty", "store_foreign", ""),
            (3, error, Outcome::Refused, "MINIO_ENDPOINT not set", "", ""),
            (143, b"", Outcome::Interrupted, "", "", ""),
            (137, b"", Outcome::Failed, "", "", ""),
        ];
        for (code, report, outcome, message, trouble, moved) in table {
            let end = End::of(code, report);
            assert_eq!((end.outcome, end.code, end.message.as_str()), (outcome, Some(code), message));
            assert_eq!((end.trouble.as_str(), end.moved.as_str()), (trouble, moved));
        }
        assert_eq!(End::of(0, held).matters, [("held".to_owned(), "60 vanished".to_owned())].into());
    }

    #[test]
    fn f40_no_secret_is_written_down() {
        let secrets = ["hunter22".to_owned(), String::new()];
        assert_eq!(redact("key hunter22!".to_owned(), &secrets), "key ***!");
    }
}
