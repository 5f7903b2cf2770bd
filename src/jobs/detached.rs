//! A job in a process that outlives its caller: takes its turn, runs, and remembers how it went. Whatever goes wrong ends
//! here as a line in the journal.

use std::time::{Duration, Instant};

use super::command::{self, End, redact};
use super::event::Event;
use super::journal::{Entry, Journal};
use super::matters::{Ended, MattersFile};
use super::queue::{PullTurn, Queue};
use crate::config::{ConfigError, Settings};
use crate::context::Context;
use crate::outcome::Outcome;

/// What the process needs to know.
#[derive(Debug)]
pub struct Detached {
    /// What called for it.
    pub event: Event,
    /// Where to write how it went.
    pub journal: Journal,
    /// The queue of the database.
    pub queue: Queue,
    /// Texts that must never be written.
    pub secrets: Vec<String>,
    /// Where to write what a person has to be told.
    pub matters: MattersFile,
}

impl Detached {
    /// Does it. A pull waits for its turn no longer than the session waits for the pull.
    pub async fn run(self, patience: Duration, started: Instant, context: &Context) {
        let end = self.in_turn(patience).await;
        let mut end = end.unwrap_or_else(|error| End::without(Outcome::Failed, error.to_string()));
        end.message = redact(end.message, &self.secrets);
        self.note_matters(&end, context.now().as_second());
        let entry = Entry::now(self.event, end.outcome, started, context).with(end.code, end.message);
        // There is nobody left to tell that the journal cannot be written.
        let _ = match entry.outcome {
            Outcome::Coalesced | Outcome::Skipped => self.journal.note(&entry),
            _ => self.journal.conclude(&entry),
        };
    }

    fn note_matters(&self, end: &End, now: i64) {
        let ended = match (end.outcome, end.code) {
            (_, Some(0)) => Ended::Well(&end.matters),
            (Outcome::Failed, _) => Ended::Badly { code: &end.trouble, message: &end.message },
            _ => return,
        };
        let mut matters = self.matters.load();
        matters.heard(ended, now);
        self.matters.save(&matters);
    }

    async fn in_turn(&self, patience: Duration) -> std::io::Result<End> {
        let turn = match self.event {
            Event::SessionStart => match self.queue.turn_to_pull(patience).await? {
                PullTurn::Granted(turn) => Some(turn),
                PullTurn::Waited => {
                    return Ok(End::without(Outcome::Coalesced, "a pull is waiting already"));
                }
                PullTurn::Late => {
                    let why = "a push or a pull went on until the session had begun";
                    return Ok(End::without(Outcome::Skipped, why));
                }
            },
            Event::Stop => self.queue.turn(false).await?,
            Event::SessionEnd => self.queue.turn(true).await?,
        };
        match turn {
            Some(_turn) => command::run(self.event.job(), std::future::pending()).await,
            None => Ok(End::without(Outcome::Coalesced, "a push is waiting already")),
        }
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
