//! May we take the lock? The rules that Python nodes follow (tests/it/contract.rs), as a pure function, and what
//! F18 (docs/failures.md) adds: our own host name alone is no proof that the lock is ours.

use crate::storage::records::LockRecord;

/// A holder's own word on how long it holds counts up to this (seconds). One that lives renews its lock within a third
/// of its lifetime, so only lifetimes above three days are cut short by it.
const LONGEST_PROMISE: i64 = 86_400;

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The lock as read.
    pub record: Option<&'a LockRecord>,
    /// Our host name.
    pub host: &'a str,
    /// This boot of this machine under this home directory: see [`super::local::machine_token`].
    pub machine: &'a str,
    /// The store's time, seconds since 1970.
    pub now: i64,
    /// Lifetime, seconds.
    pub ttl: i64,
    /// Extra wait, seconds.
    pub grace: i64,
    /// FORCE_PUSH.
    pub force: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody holds it: take it.
    Take,
    /// Somebody else's that may be taken; says why.
    TakeOver(&'static str),
    /// Leave it alone.
    Refuse {
        /// Who holds it.
        host: String,
        /// For how long, seconds.
        age: i64,
        /// After how many seconds it may be taken over.
        free_in: i64,
        /// Past its TTL already, in the grace period.
        in_grace: bool,
    },
}

/// Decides. The caller holds the local file lock, so another process of this machine and home is not alive.
pub fn decide(situation: &Situation<'_>) -> Verdict {
    let Some(record) = situation.record else {
        return Verdict::Take;
    };
    if record.timestamp <= 0 || record.state.as_deref() == Some("released") {
        return Verdict::Take;
    }
    if record.hostname == situation.host {
        match record.machine() {
            // Python's rule: a lock with our host name is ours.
            None => return Verdict::TakeOver("left by an earlier run on this host"),
            Some(machine) if machine == situation.machine => {
                return Verdict::TakeOver("left by an earlier run on this machine");
            }
            // Another machine with the same name, or this one before a reboot: it gets the time of a stranger.
            Some(_) => {}
        }
    }
    if situation.force {
        return Verdict::TakeOver("forced by FORCE_PUSH");
    }
    let age = situation.now.saturating_sub(record.timestamp).max(0);
    // A holder that says how long it holds is believed, for its LOCK_TTL_SECONDS may be longer than ours — within
    // reason: a nonsensical time must not lock everybody out for ever.
    let promised = record.expires_at.map_or(0, |at| at.saturating_sub(record.timestamp).min(LONGEST_PROMISE));
    let ttl = situation.ttl.max(promised);
    let free_at = ttl.saturating_add(situation.grace);
    if age > free_at {
        return Verdict::TakeOver("stale");
    }
    Verdict::Refuse {
        host: record.hostname.clone(),
        age,
        free_in: free_at.saturating_sub(age).saturating_add(1),
        in_grace: age >= ttl,
    }
}

#[cfg(test)]
mod tests {
    use super::{Situation, Verdict, decide};
    use crate::storage::records::LockRecord;

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
        let refuse = |age: i64, in_grace| Verdict::Refuse {
            host: "other".to_owned(),
            age,
            free_in: 161 - age,
            in_grace,
        };
        let table = [
            ("absent", None, false, Verdict::Take),
            ("released", Some(record("other", 0, None)), false, Verdict::Take),
            (
                "ours by name, Python",
                Some(record("me", NOW - 5, None)),
                false,
                Verdict::TakeOver("left by an earlier run on this host"),
            ),
            (
                "ours by machine",
                Some(record("me", NOW - 5, Some("m1"))),
                false,
                Verdict::TakeOver("left by an earlier run on this machine"),
            ),
            (
                "same name, other machine",
                Some(record("me", NOW - 5, Some("m2"))),
                false,
                Verdict::Refuse { host: "me".to_owned(), age: 5, free_in: 156, in_grace: false },
            ),
            (
                "same name, other machine, stale",
                Some(record("me", NOW - 161, Some("m2"))),
                false,
                Verdict::TakeOver("stale"),
            ),
            ("foreign and young", Some(record("other", NOW - 99, None)), false, refuse(99, false)),
            (
                "foreign, forced",
                Some(record("other", NOW - 99, None)),
                true,
                Verdict::TakeOver("forced by FORCE_PUSH"),
            ),
            ("foreign at its TTL", Some(record("other", NOW - 100, None)), false, refuse(100, true)),
            ("foreign at the end of grace", Some(record("other", NOW - 160, None)), false, refuse(160, true)),
            ("foreign and stale", Some(record("other", NOW - 161, None)), false, Verdict::TakeOver("stale")),
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
                Verdict::TakeOver("stale"),
            ),
            (
                "foreign, promised for ever, just now",
                Some(absurd(5, i64::MAX)),
                false,
                Verdict::Refuse {
                    host: "other".to_owned(),
                    age: 5,
                    free_in: 86_400 + 60 - 5 + 1,
                    in_grace: false,
                },
            ),
            (
                "foreign, expired before all time",
                Some(absurd(161, i64::MIN)),
                false,
                Verdict::TakeOver("stale"),
            ),
            (
                "foreign, promised for longer than our TTL",
                Some(long),
                false,
                Verdict::Refuse { host: "other".to_owned(), age: 200, free_in: 361, in_grace: false },
            ),
            ("foreign, promised for less than our TTL", Some(short), false, refuse(90, false)),
        ];
        for (name, record, force, verdict) in table.into_iter().chain(more) {
            let situation = Situation {
                record: record.as_ref(),
                host: "me",
                machine: "m1",
                now: NOW,
                ttl: 100,
                grace: 60,
                force,
            };
            assert_eq!(decide(&situation), verdict, "{name}");
        }
    }
}
