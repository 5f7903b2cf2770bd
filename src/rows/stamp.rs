//! Which version of a row is the newer one: hybrid logical clocks. Pure; knows neither rows nor the store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::context::{from_hex, hex};

/// How far ahead of the store's clock a record may be and still move ours (milliseconds).
const FAR: i64 = 24 * 60 * 60 * 1000;

/// Who writes: one installation with one database. Random, because host names are taken twice and disks are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// An installation of ours.
    Id([u8; 16]),
    /// Any Python node: whoever takes an image in makes the same record.
    Python,
}

/// The text is no writer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no writer id")]
pub struct NotAWriter(String);

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(&hex(id)),
            Self::Python => f.write_str("python"),
        }
    }
}

impl FromStr for Writer {
    type Err = NotAWriter;

    fn from_str(text: &str) -> Result<Self, NotAWriter> {
        if text == "python" {
            return Ok(Self::Python);
        }
        from_hex(text).map(Self::Id).ok_or_else(|| NotAWriter(text.chars().take(40).collect()))
    }
}

impl Serialize for Writer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Writer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// When and by whom a version of a row was made. The greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(
    /// Milliseconds since 1970 by the store's clock; 0 for what was found without a history.
    pub i64,
    /// Tells apart what one millisecond saw.
    pub u32,
    /// Who made it.
    pub Writer,
);

impl Stamp {
    /// Below every stamp that a record can have.
    pub const NONE: Self = Self(-1, 0, Writer::Id([0; 16]));

    /// What is found at a first sync, without a history to compare with, never beats a change that somebody made.
    pub fn without_history(writer: Writer) -> Self {
        Self(0, 0, writer)
    }

    /// Just above this one, for what is no new change: what a migration did, what a first sync filled in.
    #[must_use]
    pub fn one_higher(self, writer: Writer) -> Self {
        Self(self.0, self.1.saturating_add(1), writer)
    }
}

/// The largest time that this machine has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Clock {
    /// Milliseconds.
    pub ms: i64,
    /// Counter.
    pub counter: u32,
}

impl Clock {
    /// A stamp for a change made here, above `old` whatever the clock says.
    pub fn stamp(&mut self, now_ms: i64, old: Option<Stamp>, writer: Writer) -> Stamp {
        let next = if now_ms > self.ms {
            Self { ms: now_ms, counter: 0 }
        } else {
            Self { ms: self.ms, counter: self.counter.saturating_add(1) }
        };
        match old {
            // A row from the future is answered in its own time, and that time stays out of our clock.
            Some(old) if (old.0, old.1) >= (next.ms, next.counter) => old.one_higher(writer),
            _ => {
                *self = next;
                Stamp(next.ms, next.counter, writer)
            }
        }
    }

    /// Takes note of a stamp that arrived; `false`: it is too far ahead to move our clock.
    pub fn witness(&mut self, stamp: Stamp, now_ms: i64) -> bool {
        if is_far(stamp, now_ms) {
            return false;
        }
        *self = (*self).max(Self { ms: stamp.0, counter: stamp.1 });
        true
    }
}

/// Whether a stamp is more than a day ahead of the store's clock.
pub fn is_far(stamp: Stamp, now_ms: i64) -> bool {
    stamp.0 > now_ms.saturating_add(FAR)
}

#[cfg(test)]
mod tests {
    use super::{Clock, FAR, Stamp, Writer};

    const A: Writer = Writer::Id([1; 16]);
    const B: Writer = Writer::Id([2; 16]);

    #[test]
    fn stamps_are_ordered_by_time_then_counter_then_writer() {
        let ordered = [
            Stamp::NONE,
            Stamp::without_history(A),
            Stamp::without_history(B),
            Stamp::without_history(Writer::Python),
            Stamp(0, 1, A),
            Stamp(5, 0, Writer::Python),
            Stamp(6, 0, A),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_change_is_above_the_rows_last_stamp_whatever_the_clock_says() {
        let mut clock = Clock { ms: 100, counter: 3 };
        assert_eq!(clock.stamp(200, None, A), Stamp(200, 0, A));
        assert_eq!(clock.stamp(150, None, A), Stamp(200, 1, A), "the clock went back");
        assert_eq!(clock.stamp(150, Some(Stamp(900, 7, B)), A), Stamp(900, 8, A), "a row from the future");
        assert_eq!(clock.stamp(150, None, A), Stamp(200, 2, A), "which stays out of our clock");
    }

    #[test]
    fn a_clock_far_ahead_moves_nobody_elses() {
        let mut clock = Clock::default();
        assert!(clock.witness(Stamp(FAR, 1, B), 0));
        assert_eq!(clock, Clock { ms: FAR, counter: 1 });
        assert!(!clock.witness(Stamp(FAR + 1, 0, B), 0));
        assert_eq!(clock.ms, FAR);
    }

    #[test]
    fn writers_are_read_as_they_are_written() {
        for text in ["python", "00112233445566778899aabbccddeeff"] {
            assert_eq!(text.parse::<Writer>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "Python",
            "00112233445566778899AABBCCDDEEFF",
            "0011",
            "..",
            "é0112233445566778899aabbccddeef",
        ] {
            assert!(bad.parse::<Writer>().is_err(), "{bad}");
        }
    }
}
