//! How fast bytes may move: a limit that a person has set, so that a slow line stays usable. Knows numbers and time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So much may move at once before the first wait, as a part of a second: a small object is not held up.
const AHEAD: Duration = Duration::from_millis(250);

/// A limit of bytes a second, shared by everything that moves; or none.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Option<Arc<Limit>>);

#[derive(Debug)]
struct Limit {
    per_second: u64,
    /// When everything that was let through so far has moved at that pace.
    until: Mutex<Instant>,
}

impl Pace {
    /// So many bytes a second; `None`: as fast as it goes.
    pub(super) fn new(per_second: Option<u64>) -> Self {
        let limit = per_second.filter(|per_second| *per_second > 0);
        Self(limit.map(|per_second| Arc::new(Limit { per_second, until: Mutex::new(Instant::now()) })))
    }

    /// How long whoever moved these bytes has to wait.
    pub(super) fn owed(&self, bytes: u64) -> Duration {
        let Some(limit) = &self.0 else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        let mut until = limit.until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(now) + time(bytes, limit.per_second);
        until.saturating_duration_since(now).saturating_sub(AHEAD)
    }

    /// Waits as long as these bytes take.
    pub(super) async fn wait(&self, bytes: u64) {
        let owed = self.owed(bytes);
        if !owed.is_zero() {
            tokio::time::sleep(owed).await;
        }
    }
}

/// How long so many bytes take.
fn time(bytes: u64, per_second: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(per_second.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pace, time};

    #[test]
    fn bytes_take_as_long_as_the_limit_says() {
        let table = [(0, 1000, 0), (1000, 1000, 1_000_000), (1, 1000, 1000), (64 << 10, 16_000, 4_096_000)];
        for (bytes, per_second, micros) in table {
            assert_eq!(time(bytes, per_second), Duration::from_micros(micros), "{bytes} at {per_second}");
        }
    }

    #[test]
    fn what_moves_together_waits_together() {
        let pace = Pace::new(Some(1000));
        let other = pace.clone();
        assert_eq!(pace.owed(100), Duration::ZERO, "a small object is not held up");
        let (first, second) = (pace.owed(2000), other.owed(2000));
        assert!(first > Duration::from_millis(1500), "{first:?}");
        assert!(second > first + Duration::from_millis(1900), "{second:?}");
        for none in [Pace::new(None), Pace::new(Some(0)), Pace::default()] {
            assert_eq!(none.owed(u64::MAX), Duration::ZERO);
        }
    }
}
