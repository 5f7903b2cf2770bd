//! The error that a command ends with: what was tried, what came back, what to type next.
//! Modules below keep their own small typed errors; they become a `Failure` at the command boundary.

use crate::exit::ExitCode;

/// A command that did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code that callers see.
    pub exit: ExitCode,
    /// One line: what was asked of what, and what came back.
    pub message: String,
    /// What to type, or look at, next. One line each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_exit(ExitCode::Error, message)
    }

    /// A failure with an exit code of its own.
    pub fn with_exit(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    /// How a command ends that a signal stopped before it changed anything.
    pub fn interrupted(signal: i32) -> Self {
        Self::with_exit(
            ExitCode::Interrupted(signal),
            match signal {
                2 => "stopped by Control-C (SIGINT); nothing was changed".to_owned(),
                15 => "stopped by SIGTERM; nothing was changed".to_owned(),
                _ => format!("stopped by signal {signal}; nothing was changed"),
            },
        )
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    /// The whole chain of causes on one line.
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

/// What commands return.
pub type CommandResult<T = ()> = Result<T, Failure>;
