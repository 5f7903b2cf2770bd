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

    /// Its work. After a turn only what changed is sent, the rest at the end of the session.
    pub fn job(self) -> Job {
        match self {
            Self::SessionStart => Job::Pull,
            Self::Stop => Job::PushChanges,
            Self::SessionEnd => Job::Push,
        }
    }
}
