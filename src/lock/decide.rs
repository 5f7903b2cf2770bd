//! May we take the lock? The rules that Python nodes follow (tests/it/contract.rs), as a pure function, and what
//! F18 (docs/failures.md) adds: our own host name alone is no proof that the lock is ours.

use super::record::Sight;
use crate::config::LockConfig;

/// A holder's own word on how long it holds counts up to this (seconds). One that lives renews its lock within a third
/// of its lifetime, so only lifetimes above three days are cut short by it.
const LONGEST_PROMISE: i64 = 86_400;

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The lock as found.
    pub sight: Option<&'a Sight>,
    /// Our host name.
    pub host: &'a str,
    /// This boot of this machine under this home directory: see [`super::local::machine_token`].
    pub machine: &'a str,
    /// The store's time, seconds since 1970.
    pub now: i64,
    /// Lifetime and extra wait.
    pub times: LockConfig,
    /// FORCE_PUSH.
    pub force: bool,
}

/// Why somebody else's lock may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A Python node's lock with our host name is ours, as it is for Python.
    EarlierRunOnHost,
    /// It has this machine's token.
    EarlierRunOnMachine,
    /// FORCE_PUSH.
    Forced,
    /// Its holder has had its time, and the grace.
    Stale,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EarlierRunOnHost => "left by an earlier run on this host",
            Self::EarlierRunOnMachine => "left by an earlier run on this machine",
            Self::Forced => "forced by FORCE_PUSH",
            Self::Stale => "stale",
        })
    }
}

/// A lock that is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub host: String,
    /// For how long, seconds.
    pub age: i64,
    /// After how many seconds it may be taken over.
    pub free_in: i64,
    /// Past its TTL already, in the grace period.
    pub in_grace: bool,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grace = if self.in_grace { " (in its grace period)" } else { "" };
        write!(f, "LOCK ACTIVE — held by {} for {}s{grace}", self.host, self.age)
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody holds it: take it.
    Take,
    /// Somebody else's that may be taken.
    TakeOver(Why),
    /// Leave it alone.
    Refuse(Held),
}

/// Decides. The caller holds the local file lock, so another process of this machine and home is not alive.
pub fn decide(situation: &Situation<'_>) -> Verdict {
    let Some(sight) = situation.sight else {
        return Verdict::Take;
    };
    let record = &sight.record;
    if record.timestamp <= 0 || record.state.as_deref() == Some("released") {
        return Verdict::Take;
    }
    if record.hostname == situation.host {
        match record.machine() {
            // Python's rule: a lock with our host name is ours.
            None => return Verdict::TakeOver(Why::EarlierRunOnHost),
            Some(machine) if machine == situation.machine => {
                return Verdict::TakeOver(Why::EarlierRunOnMachine);
            }
            // Another machine with the same name, or this one before a reboot: it gets the time of a stranger.
            Some(_) => {}
        }
    }
    if situation.force {
        return Verdict::TakeOver(Why::Forced);
    }
    let age = sight.age(situation.now);
    // A holder that says how long it holds is believed, for its LOCK_TTL_SECONDS may be longer than ours — within
    // reason: a nonsensical time must not lock everybody out for ever.
    let promised = record.expires_at.map_or(0, |at| at.saturating_sub(record.timestamp).min(LONGEST_PROMISE));
    let ttl = situation.times.ttl.max(promised);
    let free_at = ttl.saturating_add(situation.times.grace);
    if age > free_at {
        return Verdict::TakeOver(Why::Stale);
    }
    Verdict::Refuse(Held {
        host: record.hostname.clone(),
        age,
        free_in: free_at.saturating_sub(age).saturating_add(1),
        in_grace: age >= ttl,
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::{LockRecord, Sight};
    use super::{Held, Situation, Verdict, Why, decide};
    use crate::config::LockConfig;

    fn record(host: &str, timestamp: i64, machine: Option<&str>) -> LockRecord {
        LockRecord {
            hostname: host.to_owned(),
            timestamp,
            project: String::new(),
            canonical_id: String::new(),
            owner: machine.map(|machine| format!("{machine}-0123")),
            node_id: None,
            pid: None,
            expires_at: None,
            state: None,
            renewals: None,
        }
    }

    #[test]
    fn the_rules_in_their_order() {
        const NOW: i64 = 1_000_000;
        let refuse = |age: i64, in_grace| {
            Verdict::Refuse(Held { host: "other".to_owned(), age, free_in: 161 - age, in_grace })
        };
        let table = [
            ("absent", None, false, Verdict::Take),
            ("released", Some(record("other", 0, None)), false, Verdict::Take),
            (
                "ours by name, Python",
                Some(record("me", NOW - 5, None)),
                false,
                Verdict::TakeOver(Why::EarlierRunOnHost),
            ),
            (
                "ours by machine",
                Some(record("me", NOW - 5, Some("m1"))),
                false,
                Verdict::TakeOver(Why::EarlierRunOnMachine),
            ),
            (
                "same name, other machine",
                Some(record("me", NOW - 5, Some("m2"))),
                false,
                Verdict::Refuse(Held { host: "me".to_owned(), age: 5, free_in: 156, in_grace: false }),
            ),
            (
                "same name, other machine, stale",
                Some(record("me", NOW - 161, Some("m2"))),
                false,
                Verdict::TakeOver(Why::Stale),
            ),
            ("foreign and young", Some(record("other", NOW - 99, None)), false, refuse(99, false)),
            ("foreign, forced", Some(record("other", NOW - 99, None)), true, Verdict::TakeOver(Why::Forced)),
            ("foreign at its TTL", Some(record("other", NOW - 100, None)), false, refuse(100, true)),
            ("foreign at the end of grace", Some(record("other", NOW - 160, None)), false, refuse(160, true)),
            (
                "foreign and stale",
                Some(record("other", NOW - 161, None)),
                false,
                Verdict::TakeOver(Why::Stale),
            ),
            ("from the future", Some(record("other", NOW + 50, None)), false, refuse(0, false)),
        ];
        let long = LockRecord { expires_at: Some(NOW - 200 + 500), ..record("other", NOW - 200, Some("m2")) };
        let short = LockRecord { expires_at: Some(NOW - 80), ..record("other", NOW - 90, Some("m2")) };
        let absurd = |age: i64, expires_at: i64| LockRecord {
            expires_at: Some(expires_at),
            ..record("other", NOW - age, None)
        };
        let more = [
            (
                "foreign, promised for ever, a day and more ago",
                Some(absurd(100_000, i64::MAX)),
                false,
                Verdict::TakeOver(Why::Stale),
            ),
            (
                "foreign, promised for ever, just now",
                Some(absurd(5, i64::MAX)),
                false,
                Verdict::Refuse(Held {
                    host: "other".to_owned(),
                    age: 5,
                    free_in: 86_400 + 60 - 5 + 1,
                    in_grace: false,
                }),
            ),
            (
                "foreign, expired before all time",
                Some(absurd(161, i64::MIN)),
                false,
                Verdict::TakeOver(Why::Stale),
            ),
            (
                "foreign, promised for longer than our TTL",
                Some(long),
                false,
                Verdict::Refuse(Held { host: "other".to_owned(), age: 200, free_in: 361, in_grace: false }),
            ),
            ("foreign, promised for less than our TTL", Some(short), false, refuse(90, false)),
        ];
        for (name, record, force, verdict) in table.into_iter().chain(more) {
            let sight = record.map(|record| Sight { record, stored: None });
            let situation = Situation {
                sight: sight.as_ref(),
                host: "me",
                machine: "m1",
                now: NOW,
                times: LockConfig { ttl: 100, grace: 60 },
                force,
            };
            assert_eq!(decide(&situation), verdict, "{name}");
        }
    }
    #[test]
    fn f68_a_time_in_the_future_counts_from_when_the_store_first_saw_it() {
        const NOW: i64 = 1_000_000;
        let held = |age| {
            Verdict::Refuse(Held { host: "other".to_owned(), age, free_in: 161 - age, in_grace: age >= 100 })
        };
        // stamp, when the store got it → verdict
        let table = [
            (NOW + 79_000, Some(NOW - 5), held(5)),
            (NOW + 79_000, Some(NOW - 161), Verdict::TakeOver(Why::Stale)),
            (i64::MAX, Some(NOW - 161), Verdict::TakeOver(Why::Stale)),
            (i64::MAX, Some(NOW + 50), held(0)),
            // A store that does not say.
            (i64::MAX, None, held(0)),
            // A record of this time is believed, whenever it was put there.
            (NOW - 161, Some(NOW), Verdict::TakeOver(Why::Stale)),
            (NOW - 5, Some(NOW - 500), held(5)),
        ];
        for (timestamp, stored, verdict) in table {
            let sight = Sight { record: record("other", timestamp, None), stored };
            let situation = Situation {
                sight: Some(&sight),
                host: "me",
                machine: "m1",
                now: NOW,
                times: LockConfig { ttl: 100, grace: 60 },
                force: false,
            };
            assert_eq!(decide(&situation), verdict, "{timestamp} stored {stored:?}");
        }
    }
}
