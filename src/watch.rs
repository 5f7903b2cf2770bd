//! When `watch` pushes and when it pulls: a pure decision over what it has seen. Touches no file but to look at the
//! database's size and time; knows nothing of stores.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How often failed work is tried again at least.
const MAX_BACKOFF: Duration = Duration::from_mins(10);

/// What the file system says of a database: it changes whenever somebody writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace(Vec<Option<(u64, u64, u64, i64, i64)>>);

impl Trace {
    /// Looks at the database and its write-ahead log.
    pub fn of(database: &Path) -> Self {
        let wal = {
            let mut name = database.as_os_str().to_owned();
            name.push("-wal");
            name
        };
        let look = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
        };
        Self(vec![look(database), look(Path::new(&wal))])
    }

    /// Whether there is a database at all.
    pub fn exists(&self) -> bool {
        self.0.first().is_some_and(Option::is_some)
    }
}

/// Times of a watch.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A change is pushed when the database has been still for this long.
    pub settle: Duration,
    /// Time between two pushes at least.
    pub between_pushes: Duration,
    /// Time between two looks at the bucket.
    pub between_pulls: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// See what other machines have pushed.
    Pull,
    /// Push.
    Push,
    /// Look again after this long at most.
    Wait(Duration),
}

/// What a watch remembers. Times are since its start.
#[derive(Debug, Clone)]
pub struct Watch {
    pace: Pace,
    pushed: Trace,
    seen: Trace,
    still_since: Duration,
    next_push: Duration,
    next_pull: Duration,
    failures: u32,
}

impl Watch {
    /// A watch that has seen nothing: it pulls at once, and pushes what it then finds.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            pushed: Trace::default(),
            seen: Trace::default(),
            still_since: Duration::ZERO,
            next_push: Duration::ZERO,
            next_pull: Duration::ZERO,
            failures: 0,
        }
    }

    /// Decides, with what the database looks like at this time.
    pub fn step(&mut self, now: Duration, trace: Trace) -> Step {
        if trace != self.seen {
            self.seen = trace;
            self.still_since = now;
        }
        if now >= self.next_pull {
            return Step::Pull;
        }
        let changed = self.seen.exists() && self.seen != self.pushed;
        let due = (self.still_since + self.pace.settle).max(self.next_push);
        if changed && now >= due {
            return Step::Push;
        }
        let wake = if changed { due.min(self.next_pull) } else { self.next_pull };
        Step::Wait(wake.saturating_sub(now))
    }

    /// A pull has ended at this time.
    pub fn pulled(&mut self, now: Duration, ok: bool) {
        self.count(ok);
        self.next_pull = now + self.pace.between_pulls.max(self.backoff());
    }

    /// A push of what the database looked like before it has ended at this time. One that failed is tried again.
    pub fn pushed(&mut self, now: Duration, before: Trace, ok: bool) {
        self.count(ok);
        self.next_push = now + self.pace.between_pushes.max(self.backoff());
        if ok {
            self.pushed = before;
        }
    }

    fn count(&mut self, ok: bool) {
        self.failures = if ok { 0 } else { self.failures.saturating_add(1) };
    }

    /// Doubles from 5 s with every failure in a row.
    fn backoff(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            count => Duration::from_secs(5 << count.min(10)).min(MAX_BACKOFF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Step, Trace, Watch};
    use std::time::Duration;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn trace(size: u64) -> Trace {
        Trace(vec![Some((1, 1, size, 0, 0)), None])
    }

    fn watch() -> Watch {
        Watch::new(Pace { settle: at(5), between_pushes: at(60), between_pulls: at(300) })
    }

    #[test]
    fn a_change_is_pushed_when_it_has_settled_and_not_again() {
        let mut watch = watch();
        assert_eq!(watch.step(at(0), trace(1)), Step::Pull);
        watch.pulled(at(1), true);
        assert_eq!(watch.step(at(2), trace(2)), Step::Wait(at(5)));
        assert_eq!(watch.step(at(4), trace(3)), Step::Wait(at(5)));
        assert_eq!(watch.step(at(8), trace(3)), Step::Wait(at(1)));
        assert_eq!(watch.step(at(9), trace(3)), Step::Push);
        // Somebody wrote while the push ran: that change is still to come.
        watch.pushed(at(10), trace(3), true);
        assert_eq!(watch.step(at(11), trace(3)), Step::Wait(at(290)));
        assert_eq!(watch.step(at(12), trace(4)), Step::Wait(at(58)));
        assert_eq!(watch.step(at(70), trace(4)), Step::Push);
        watch.pushed(at(71), trace(4), true);
        assert_eq!(watch.step(at(301), trace(4)), Step::Pull);
    }

    #[test]
    fn without_a_database_nothing_is_pushed() {
        let mut watch = watch();
        watch.pulled(at(0), true);
        let none = Trace(vec![None, None]);
        assert_eq!(watch.step(at(200), none), Step::Wait(at(100)));
    }

    #[test]
    fn failures_are_repeated_ever_more_rarely_but_for_ever() {
        let mut watch = watch();
        watch.pulled(at(0), true);
        let mut now = 10;
        watch.step(at(now), trace(1));
        let mut waits = Vec::new();
        for _ in 0..9 {
            watch.pushed(at(now), trace(1), false);
            // Far from every pull, so that only the push is measured.
            watch.next_pull = at(now + 10_000);
            let mut due = now;
            while watch.step(at(due), trace(1)) != Step::Push {
                due += 1;
            }
            waits.push(due - now);
            now = due;
        }
        assert_eq!(waits, [60, 60, 60, 80, 160, 320, 600, 600, 600]);
    }
}
