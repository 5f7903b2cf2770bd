//! How hooks went: one line per event in hook.log, as it happens, and the last result of each kind for `doctor` and
//! `status` (F12). Owner-only files; the log rotates, one old part is kept. Never holds a secret.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::config::Paths;
use crate::context::Context;
use crate::outcome::Outcome;
use crate::private_files::make_private_folder;
use crate::visible::clean;

/// The log is rotated when it is larger than this.
const MAX_LOG: u64 = 1_000_000;

/// How one event went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ended, in UTC.
    pub time: String,
    /// The hook: `session-start`, `stop`, `session-end`.
    pub event: String,
    /// How it went.
    pub outcome: Outcome,
    /// Exit code of the command, where one ran.
    pub code: Option<i32>,
    /// Milliseconds from the start of the event to its end.
    pub duration_ms: u64,
    /// The process that did it.
    pub pid: u32,
    /// What to know beside that; empty when nothing.
    pub message: String,
}

impl Entry {
    /// An entry of this process for an event that started then and ends now.
    pub fn now(event: Event, outcome: Outcome, started: Instant, context: &Context) -> Self {
        Self {
            time: format!("{:.3}", context.now()),
            event: event.name().to_owned(),
            outcome,
            code: None,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            pid: std::process::id(),
            message: String::new(),
        }
    }

    /// With the exit code of the command that ran, and what there is to say.
    #[must_use]
    pub fn with(mut self, code: Option<i32>, message: impl Into<String>) -> Self {
        self.code = code;
        self.message = message.into();
        self
    }

    /// Whether something went wrong that a person should look at. A secondary's refused push, and a primary's refused
    /// pull, are how roles work.
    pub fn failed(&self) -> bool {
        !matches!(self.code, None | Some(0 | 2 | 3)) || self.outcome == Outcome::Failed
    }

    /// Whether the command did what it is for and warned: of rows that only a backup holds, of a worker that is not
    /// ready.
    pub fn warned(&self) -> bool {
        self.code == Some(0) && !self.message.is_empty()
    }

    fn line(&self) -> String {
        let code = self.code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let mut line = format!(
            "{} event={} outcome={} code={code} ms={} pid={}",
            self.time, self.event, self.outcome, self.duration_ms, self.pid
        );
        if !self.message.is_empty() {
            line.push_str(" message=");
            line.push_str(&serde_json::Value::from(clean(&self.message)).to_string());
        }
        line.push('\n');
        line
    }
}

/// The files.
#[derive(Debug, Clone)]
pub struct Journal {
    log: PathBuf,
    last: PathBuf,
}

/// The last result of each kind of hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastResults {
    /// The last pull.
    #[serde(rename = "session-start", skip_serializing_if = "Option::is_none", default)]
    pub session_start: Option<Entry>,
    /// The last push after a turn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stop: Option<Entry>,
    /// The last push at the end of a session.
    #[serde(rename = "session-end", skip_serializing_if = "Option::is_none", default)]
    pub session_end: Option<Entry>,
}

impl LastResults {
    /// Each of them, the pull first.
    pub fn each(&self) -> impl Iterator<Item = &Entry> {
        [&self.session_start, &self.stop, &self.session_end].into_iter().flatten()
    }
}

impl Journal {
    /// The journal of this machine: `~/.claude-mem-minio/hook.log` and `~/.membridge/last-result.json`.
    pub fn of(paths: &Paths) -> Self {
        Self { log: paths.hook_log.clone(), last: paths.state.join("last-result.json") }
    }

    /// Appends a line to the log.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, entry: &Entry) -> io::Result<()> {
        make_private_folder(parent(&self.log))?;
        let mut log = append(&self.log)?;
        if log.metadata()?.len() > MAX_LOG {
            self.rotate()?;
            log = append(&self.log)?;
        }
        // One write: lines of processes that append at the same time do not mix.
        log.write_all(entry.line().as_bytes())
    }

    /// Appends a line, and keeps the entry as the last result of its kind.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn conclude(&self, entry: &Entry) -> io::Result<()> {
        self.note(entry)?;
        make_private_folder(parent(&self.last))?;
        let _lock = lock(&self.last.with_extension("lock"))?;
        let mut results = self.last_results();
        match entry.event.as_str() {
            "session-start" => results.session_start = Some(entry.clone()),
            "stop" => results.stop = Some(entry.clone()),
            _ => results.session_end = Some(entry.clone()),
        }
        // Mode 0600 from the start.
        let mut file = tempfile::Builder::new().prefix(".last-result").tempfile_in(parent(&self.last))?;
        serde_json::to_writer_pretty(&mut file, &results)?;
        file.write_all(b"\n")?;
        file.persist(&self.last).map_err(|error| error.error)?;
        Ok(())
    }

    /// The last results; a damaged file counts as none.
    pub fn last_results(&self) -> LastResults {
        std::fs::read(&self.last)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    fn rotate(&self) -> io::Result<()> {
        let _lock = lock(&self.log.with_extension("lock"))?;
        // Another process may have done it while we waited.
        if std::fs::metadata(&self.log).is_ok_and(|meta| meta.len() > MAX_LOG) {
            std::fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

fn lock(path: &Path) -> io::Result<File> {
    let file = append(path)?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Journal, Outcome, Path, Paths};
    use crate::config::{Environment, Settings};
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    fn journal(home: &Path) -> Journal {
        let variables = [("HOME".to_owned(), home.display().to_string())];
        let environment = Environment::from_values(variables);
        Journal::of(&Paths::new(&Settings::without_file(&BTreeMap::new(), &environment, None)))
    }

    fn entry(event: &str, message: &str) -> Entry {
        Entry {
            time: "2026-01-02T03:04:05.000Z".into(),
            event: event.into(),
            outcome: Outcome::Failed,
            code: Some(1),
            duration_ms: 12,
            pid: 42,
            message: message.into(),
        }
    }

    #[test]
    fn f12_an_event_is_one_line_with_outcome_code_and_duration() {
        let home = tempfile::tempdir().unwrap();
        let journal = journal(home.path());
        journal.note(&entry("stop", "")).unwrap();
        journal.note(&entry("stop", "two\nlines \"quoted\"")).unwrap();
        let log = home.path().join(".claude-mem-minio/hook.log");
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(
            text,
            "2026-01-02T03:04:05.000Z event=stop outcome=failed code=1 ms=12 pid=42\n\
             2026-01-02T03:04:05.000Z event=stop outcome=failed code=1 ms=12 pid=42 \
             message=\"two\u{fffd}lines \\\"quoted\\\"\"\n"
        );
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_log_rotates_and_one_old_part_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let journal = journal(home.path());
        let log = home.path().join(".claude-mem-minio/hook.log");
        for round in ["first", "second"] {
            journal.note(&entry("stop", round)).unwrap();
            std::fs::write(&log, round.repeat(300_000)).unwrap();
            journal.note(&entry("stop", "")).unwrap();
            assert!(log.metadata().unwrap().len() < 100);
            let old = std::fs::read_to_string(log.with_extension("log.1")).unwrap();
            assert!(old.starts_with(round));
        }
        assert_eq!(
            std::fs::read_dir(home.path().join(".claude-mem-minio"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name() != "hook.lock")
                .count(),
            2
        );
    }

    #[test]
    fn the_last_result_of_each_kind_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let journal = journal(home.path());
        assert_eq!(journal.last_results(), super::LastResults::default());
        journal.conclude(&entry("stop", "old")).unwrap();
        journal.conclude(&entry("session-start", "pull")).unwrap();
        journal.conclude(&entry("stop", "new")).unwrap();
        let last = journal.last_results();
        assert_eq!(last.stop.unwrap().message, "new");
        assert_eq!(last.session_start.unwrap().message, "pull");
        assert!(last.session_end.is_none());
        std::fs::write(home.path().join(".membridge/last-result.json"), "[").unwrap();
        journal.conclude(&entry("session-end", "x")).unwrap();
        let last = journal.last_results().session_end.unwrap();
        assert!(last.failed() && !last.warned());
        let warned = |code, message: &str| entry("session-start", "").with(code, message).warned();
        assert!(warned(Some(0), "kept in a backup"));
        assert!(!warned(Some(0), "") && !warned(None, "queued") && !warned(Some(2), "refused"));
    }
}
