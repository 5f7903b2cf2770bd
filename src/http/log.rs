//! The daemons' log: one JSON object a line, with the fields that the Python product's log had. Times are UTC. Knows
//! not where the lines go.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::context::Context;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// How things go.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something that was asked for did not happen.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

/// Where lines go.
pub type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// A daemon's log.
#[derive(Clone)]
pub struct Log {
    context: Arc<Context>,
    sink: Arc<Sink>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    level: &'static str,
    logger: &'a str,
    msg: &'a str,
    request_id: &'a str,
}

impl Log {
    /// A log by this clock into this sink.
    pub fn new(context: Arc<Context>, sink: Sink) -> Self {
        Self { context, sink: Arc::new(sink) }
    }

    /// One line; `request_id` is `-` where no request speaks.
    pub fn line(&self, level: Level, logger: &str, msg: &str, request_id: &str) {
        let line = Line { ts: stamp(self.context.now()), level: level.word(), logger, msg, request_id };
        if let Ok(text) = serde_json::to_string(&line) {
            (self.sink)(&text);
        }
    }
}

/// `YYYY-MM-DD HH:MM:SS,mmm`, as Python's logging writes it.
fn stamp(at: Timestamp) -> String {
    let millis = at.as_millisecond().rem_euclid(1_000);
    format!("{},{millis:03}", at.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::{Level, Log, stamp};
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_line_is_one_json_object_whatever_the_message() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let log = Log::new(Arc::default(), Box::new(move |line| sink.lock().unwrap().push(line.to_owned())));
        log.line(Level::Warning, "membridge.agent", "a\n\"b\"", "7d1b37a5f6e1");
        let lines = seen.lock().unwrap().clone();
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\n'));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "WARNING");
        assert_eq!(line["msg"], "a\n\"b\"");
        assert_eq!(line["request_id"], "7d1b37a5f6e1");
    }

    #[test]
    fn times_are_written_as_python_does() {
        let at = jiff::Timestamp::from_millisecond(1_767_323_045_007).unwrap();
        assert_eq!(stamp(at), "2026-01-02 03:04:05,007");
    }
}
