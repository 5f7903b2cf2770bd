//! Amounts as people say them: counts with their nouns, bytes, how long ago something was. Pure; knows nothing of what is
//! counted.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `1 push`, `2 pushes`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Bytes as people read them.
pub fn human_bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// Now, and the zone in which the person lives.
#[derive(Debug, Clone)]
pub struct Clock {
    now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    /// The clock of a person in `zone` at the moment `now`.
    pub fn new(now: Timestamp, zone: TimeZone) -> Self {
        Self { now, zone }
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// How long ago `at` was: `just now`, `5 minutes ago`, `3 days ago`.
    pub fn ago(&self, at: Timestamp) -> String {
        self.past(at, ["minute", "hour", "day"], |count| if count == 1 { "" } else { "s" })
    }

    /// The same in a table: `just now`, `5 min ago`, `3 days ago`.
    pub fn briefly(&self, at: Timestamp) -> String {
        let text = self.past(at, ["min", "h", "day"], |_| "");
        match text.strip_suffix(" day ago") {
            Some(days) if days != "1" => format!("{days} days ago"),
            _ => text,
        }
    }

    fn past(&self, at: Timestamp, units: [&str; 3], plural: fn(i64) -> &'static str) -> String {
        let seconds = self.now.as_second().saturating_sub(at.as_second());
        let [minute, hour, day] = units;
        let (count, unit) = match seconds {
            ..0 => return "in the future".to_owned(),
            0..60 => return "just now".to_owned(),
            60..3_600 => (seconds / 60, minute),
            3_600..172_800 => (seconds / 3_600, hour),
            _ => (seconds / 86_400, day),
        };
        format!("{count} {unit}{} ago", plural(count))
    }

    /// The moment in the person's own zone, as short as it is clear: `14:03`, `22 Nov 14:03`, `2025-11-22 14:03`.
    pub fn local(&self, at: Timestamp) -> String {
        let (now, then) = (self.now.to_zoned(self.zone.clone()), at.to_zoned(self.zone.clone()));
        let form = if now.date() == then.date() {
            "%H:%M"
        } else if (self.now.as_second() - at.as_second()).abs() < 300 * 86_400 {
            "%-d %b %H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        then.strftime(form).to_string()
    }

    /// How long ago, and when: `2 hours ago (14:03)`.
    pub fn when(&self, at: Timestamp) -> String {
        match self.ago(at) {
            now if now == "just now" => now,
            ago => format!("{ago} ({})", self.local(at)),
        }
    }

    /// [`Clock::when`] of a time as records have it; a text that is no time stands for itself.
    pub fn when_said(&self, iso: &str) -> String {
        iso.parse().map_or_else(|_| iso.to_owned(), |at| self.when(at))
    }

    /// [`Clock::briefly`] of a time as records have it; a text that is no time stands for itself.
    pub fn briefly_said(&self, iso: &str) -> String {
        iso.parse().map_or_else(|_| iso.to_owned(), |at| self.briefly(at))
    }

    /// Seconds since 1970 as a moment; what is out of reach is the present.
    pub fn at(&self, second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::{Clock, count, human_bytes};

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(1, "push", "pushes"), "1 push");
        assert_eq!(count(0, "push", "pushes"), "0 pushes");
        assert_eq!(count(2, "summary", "summaries"), "2 summaries");
    }

    #[test]
    fn sizes_read_well() {
        let table =
            [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (250_000, "250.0 kB"), (104_857_600, "104.9 MB")];
        for (bytes, text) in table {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn times_are_relative_first_and_in_the_zone_of_the_person() {
        let clock = Clock::new("2026-11-26T01:30:00Z".parse().unwrap(), TimeZone::fixed(offset(2)));
        let table = [
            ("2026-11-26T01:29:30Z", "just now", "just now", "03:29"),
            ("2026-11-26T01:28:30Z", "1 minute ago (03:28)", "1 min ago", "03:28"),
            ("2026-11-26T00:31:00Z", "59 minutes ago (02:31)", "59 min ago", "02:31"),
            ("2026-11-25T22:10:00Z", "3 hours ago (00:10)", "3 h ago", "00:10"),
            ("2026-11-25T21:10:00Z", "4 hours ago (25 Nov 23:10)", "4 h ago", "25 Nov 23:10"),
            ("2026-11-24T01:30:01Z", "47 hours ago (24 Nov 03:30)", "47 h ago", "24 Nov 03:30"),
            ("2026-11-02T20:00:00Z", "23 days ago (2 Nov 22:00)", "23 days ago", "2 Nov 22:00"),
            ("2025-11-02T20:00:00Z", "388 days ago (2025-11-02 22:00)", "388 days ago", "2025-11-02 22:00"),
            ("2026-11-26T02:30:00Z", "in the future (04:30)", "in the future", "04:30"),
        ];
        for (at, when, briefly, local) in table {
            let moment = at.parse().unwrap();
            assert_eq!(clock.when(moment), when, "{at}");
            assert_eq!(clock.briefly(moment), briefly, "{at}");
            assert_eq!(clock.local(moment), local, "{at}");
            assert_eq!(clock.when_said(at), when);
        }
        assert_eq!(clock.when_said("yesterday"), "yesterday");
        assert_eq!(clock.briefly_said(""), "");
    }
}
