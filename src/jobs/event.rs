//! What calls for a job in a Claude session. Knows not how the job is run.

use super::command::Job;

/// A hook of Claude Code that we are called from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Event {
    /// A session starts, is resumed, cleared or compacted.
    SessionStart,
    /// A turn has ended. Not the end of the session.
    Stop,
    /// The session has ended.
    SessionEnd,
}

impl Event {
    /// As it is typed and logged.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionStart => "session-start",
            Self::Stop => "stop",
            Self::SessionEnd => "session-end",
        }
    }

    /// Its work: what others recorded at the start, what was recorded here after a turn, everything at the end.
    pub fn job(self) -> Job {
        match self {
            Self::SessionStart => Job::Start,
            Self::Stop => Job::Turn,
            Self::SessionEnd => Job::End,
        }
    }
}
