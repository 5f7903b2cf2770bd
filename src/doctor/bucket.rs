//! Whether the store can be used, and what it is worth.

use super::evidence::Evidence;
use super::finding::{Check, Finding};
use super::questions::Asked;
use crate::error::Code;
use crate::worker::facts;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "endpoint", run: endpoint, remedy: "say where the memory is kept: membridge config init" },
    Check { name: "reach", run: reach, remedy: "look at the store's own log" },
    Check {
        name: "clock",
        run: clock,
        remedy: "set this machine's clock: timedatectl set-ntp true (or: ntpd -q)",
    },
    Check {
        name: "conditional_writes",
        run: conditional_writes,
        remedy: "try again: membridge doctor --probe",
    },
    Check { name: "versions", run: versions, remedy: "update membridge on this machine" },
];

fn endpoint(evidence: &Evidence) -> Finding {
    match (&evidence.bucket.name, &evidence.bucket.reach) {
        (Some(name), _) => match &evidence.exposed {
            None => Finding::ok(format!("endpoint: {name}")),
            Some(exposed) => {
                Finding::warning(format!("endpoint: {name}: {}", exposed.why)).remedy(&exposed.remedy)
            }
        },
        (None, Asked::Failed(failure)) => Finding::failed(failure),
        (None, _) => {
            let missing = ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_BUCKET"];
            let problem = missing
                .into_iter()
                .find(|name| evidence.settings.get(name).is_none())
                .map_or("MINIO_ENDPOINT is malformed".to_owned(), |name| format!("{name} not set"));
            Finding::error(format!("endpoint: {problem}"))
        }
    }
}

fn reach(evidence: &Evidence) -> Finding {
    match &evidence.bucket.reach {
        Asked::Got(()) => match &evidence.bucket.sealing {
            Asked::Failed(failure) => Finding::failed(failure),
            Asked::Got(Some(key)) => match &evidence.bucket.head {
                Asked::Failed(failure) if failure.code == Code::NotAuthentic => Finding::failed(failure),
                _ if !evidence.bucket.ignored.is_empty() => forged(&evidence.bucket.ignored),
                _ => Finding::ok(format!("reachable: yes; sealed with key {key}")),
            },
            Asked::Got(None) | Asked::Not(_) => Finding::ok("reachable: yes, the bucket answers"),
        },
        Asked::Failed(failure) => {
            let mut finding = Finding::failed(failure);
            finding.text = format!("reachable: no: {}", failure.message);
            finding
        }
        Asked::Not(why) => Finding::skipped(format!("reachable: not asked ({why})")),
    }
}

/// What nobody with the key wrote, in a sealed project.
fn forged(ignored: &[String]) -> Finding {
    let mut finding = Finding::warning(format!("reachable: yes; ignored: {}", ignored.join("; ")));
    let remedy = "somebody else writes in this bucket, or it is damaged: change the bucket's keys; what is ignored is written anew by the machine whose it is, or by the next push";
    finding.remedy = Some(remedy.to_owned());
    finding
}

/// F48. Servers refuse signatures that are 15 minutes off; some look the other way.
fn clock(evidence: &Evidence) -> Finding {
    const NOTICEABLE: i64 = 60;
    let skew = evidence.bucket.skew;
    // A server that refuses us because of the time has told us its own.
    if evidence.bucket.reach.got().is_none() && skew == 0 {
        return Finding::skipped("clock: not compared");
    }
    if evidence.bucket.directory {
        return Finding::ok("clock: a directory store has this machine's clock");
    }
    if skew.abs() <= NOTICEABLE {
        return Finding::ok(format!("clock: within {} s of the store's", skew.abs().max(1)));
    }
    let direction = if skew > 0 { "behind" } else { "ahead of" };
    Finding::warning(format!("clock: this machine is {} {direction} the store", duration(skew.abs())))
}

fn conditional_writes(evidence: &Evidence) -> Finding {
    if evidence.bucket.directory {
        return Finding::ok("conditional writes: a directory store has them");
    }
    match &evidence.bucket.verdict {
        Asked::Got(Some(verdict)) if verdict.atomic() => Finding::ok(verdict.describe()),
        Asked::Got(Some(verdict)) => Finding::info(verdict.describe()),
        Asked::Got(None) => Finding::info(
            "conditional writes: not known yet; the first push tries them, or: membridge doctor --probe",
        ),
        Asked::Failed(failure) => Finding::failed(failure),
        Asked::Not(why) => Finding::skipped(format!("conditional writes: {why}")),
    }
}

fn versions(evidence: &Evidence) -> Finding {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    let head = match &evidence.bucket.head {
        Asked::Got(head) => head.as_ref(),
        Asked::Failed(_) | Asked::Not(_) => {
            return Finding::skipped(format!("membridge: {OURS} here; the bucket was not asked"));
        }
    };
    // Where nobody announces an object, nobody says who wrote it.
    let Some(head) = head.filter(|head| head.host().is_some()) else {
        return Finding::ok(format!("membridge: {OURS} here"));
    };
    match head.membridge_version() {
        None => {
            Finding::info(format!("membridge: {OURS} here; the bucket was last written by a Python node"))
        }
        Some(theirs) if facts::version(theirs) > facts::version(OURS) => {
            Finding::warning(format!("membridge: {OURS} here, {theirs} wrote to the bucket last"))
        }
        Some(theirs) => Finding::ok(format!("membridge: {OURS} here, {theirs} wrote to the bucket last")),
    }
}

/// Seconds as people say them, to the nearest unit: what is a second short of two hours is two hours.
pub(super) fn duration(seconds: i64) -> String {
    let nearest = |unit: i64| seconds.saturating_add(unit / 2) / unit;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_170 => format!("{} min", nearest(60)),
        7_170..171_000 => format!("{} h", nearest(3_600)),
        _ => format!("{} days", nearest(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_rounded_and_never_jump_by_a_second() {
        let table = [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (599, "10 min"),
            (600, "10 min"),
            (3_599, "60 min"),
            (7_169, "119 min"),
            (7_170, "2 h"),
            (7_199, "2 h"),
            (7_201, "2 h"),
            (170_999, "47 h"),
            (171_000, "2 days"),
            (172_799, "2 days"),
            (i64::MAX, "106751991167300 days"),
        ];
        for (seconds, words) in table {
            assert_eq!(duration(seconds), words, "{seconds}");
        }
    }
}
