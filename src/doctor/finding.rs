//! What a check is and what it can find. Knows no check.

use super::evidence::Evidence;
use crate::error::Failure;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It could not be made, or has no meaning here.
    Skipped,
    /// As it should be.
    Ok,
    /// Worth knowing.
    Info,
    /// Works, and somebody should look at it.
    Warning,
    /// Does not work.
    Error,
}

impl Level {
    /// As `--json` says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub level: Level,
    /// One line.
    pub text: String,
    /// What to type or look at, where the check's own remedy does not fit.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), remedy: None }
    }

    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self::new(Level::Ok, text)
    }

    pub(super) fn info(text: impl Into<String>) -> Self {
        Self::new(Level::Info, text)
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self::new(Level::Warning, text)
    }

    pub(super) fn error(text: impl Into<String>) -> Self {
        Self::new(Level::Error, text)
    }

    pub(super) fn skipped(text: impl Into<String>) -> Self {
        Self::new(Level::Skipped, text)
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A failure with the first thing to do about it.
    pub(super) fn failed(failure: &Failure) -> Self {
        let finding = Self::error(failure.message.clone());
        // To run doctor is no advice from doctor.
        match failure.hints.iter().find(|hint| !hint.contains("membridge doctor")) {
            Some(hint) => finding.remedy(hint),
            None => finding,
        }
    }
}

/// One check.
pub struct Check {
    /// Its name in `--json`.
    pub name: &'static str,
    /// Judges the evidence.
    pub run: fn(&Evidence) -> Finding,
    /// What to do when it ends as a warning or an error and the finding knows nothing better.
    pub remedy: &'static str,
}
