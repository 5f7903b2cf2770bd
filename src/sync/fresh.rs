//! What a push need not ask the bucket a second time. A commit is created under its number, and a number is given
//! once: whoever decided from what was true a moment ago and is wrong now is refused by the store, and looks again. So
//! what was read within the last seconds is as good as asked again, and three requests lie between the lock and a
//! confirmed commit: pack, commit, read-back. Pure: asks nothing.

use std::time::Duration;

use super::session::Session;
use super::shot::Shot;
use crate::context::Context;
use crate::history::Kind;
use crate::storage::probe::Verdict;

/// What was read longer ago is asked again. Short beside any lock's or lease's life, long beside the requests between a
/// look and a commit on a slow uplink.
const LIMIT: Duration = Duration::from_secs(10);

/// How long an answer holds in this push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fresh(Duration);

impl Fresh {
    /// For a push that writes nothing but its pages and its commit, to a store that gives each number once. The copy for
    /// Python nodes is overwritten in place, a forced push writes over what it has not read, and a store without
    /// conditional creation gives a number to anybody: then nothing is fresh. Nor before a full pack, because sending
    /// all pages for nothing costs more than asking.
    pub(super) fn of(session: &Session, verdict: Verdict, shot: &Shot) -> Self {
        Self::judge(
            session.config.lock.ttl,
            verdict.create,
            shot.object.is_some() || shot.pack.kind == Kind::Full,
            session.config.overrides.force_push,
        )
    }

    fn judge(lock_ttl: i64, numbered: bool, much: bool, force: bool) -> Self {
        if much || force || !numbered {
            return Self(Duration::ZERO);
        }
        Self(LIMIT.min(Duration::from_secs(lock_ttl.unsigned_abs()) / 3))
    }

    /// Whether what was asked at `at` (see [`Context::uptime`]) need not be asked again now.
    pub(super) fn since(self, context: &Context, at: Duration) -> bool {
        self.holds(context.uptime(), at)
    }

    fn holds(self, now: Duration, at: Duration) -> bool {
        now.saturating_sub(at) < self.0
    }

    /// How old an answer may be.
    pub(super) fn limit(self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_numbered_commit_alone_rests_on_what_was_read() {
        for (ttl, numbered, much, force, seconds) in [
            (7200, true, false, false, 10),
            (9, true, false, false, 3),
            (7200, false, false, false, 0),
            (7200, true, true, false, 0),
            (7200, true, false, true, 0),
            (0, true, false, false, 0),
        ] {
            assert_eq!(
                Fresh::judge(ttl, numbered, much, force).limit(),
                Duration::from_secs(seconds),
                "{ttl} {numbered} {much} {force}"
            );
        }
    }

    #[test]
    fn an_answer_ages_by_the_clock_that_never_stands_still() {
        let context = Context::default();
        let fresh = Fresh(Duration::from_hours(1));
        // A machine may have been booted a moment ago: ages are made by going forward from an answer, never back from now.
        let asked = context.uptime();
        assert!(fresh.since(&context, asked));
        assert!(!Fresh(Duration::ZERO).since(&context, asked));
        for (age, held) in [(0, true), (3599, true), (3600, false), (90_000, false)] {
            assert_eq!(fresh.holds(asked + Duration::from_secs(age), asked), held, "{age}");
        }
    }
}
