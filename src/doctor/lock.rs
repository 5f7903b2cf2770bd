//! Who holds the lock, and since when.

use super::bucket::duration;
use super::evidence::Evidence;
use super::finding::{Check, Finding};
use super::questions::Asked;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "lock",
    run: lock,
    remedy: "wait for that push; if its machine is dead: FORCE_PUSH=1 membridge push_sqlite",
}];

fn lock(evidence: &Evidence) -> Finding {
    let record = match &evidence.bucket.lock {
        Asked::Not(why) => return Finding::skipped(format!("lock: not asked ({why})")),
        Asked::Failed(failure) => return Finding::failed(failure),
        Asked::Got(None) => return Finding::ok("lock: free"),
        Asked::Got(Some(record)) => record,
    };
    if record.timestamp <= 0 || record.state.as_deref() == Some("released") {
        return Finding::ok(format!("lock: free (last held by {})", record.hostname));
    }
    let age = evidence.now.saturating_sub(record.timestamp).max(0);
    let times = evidence.config.as_ref().map(|config| config.lock);
    let (ttl, grace) = times.map_or((7200, 60), |times| (times.ttl, times.grace));
    let free_in = ttl.saturating_add(grace).saturating_sub(age);
    let held = format!("LOCK ACTIVE — held by {} for {age}s", record.hostname);
    if evidence.node.as_ref().is_some_and(|node| node.host == record.hostname) {
        return Finding::info(format!("{held}: this machine, a push under way or an earlier one"));
    }
    if free_in < 0 {
        return Finding::info(format!(
            "lock: stale, left by {} {} ago; the next push takes it over",
            record.hostname,
            duration(age)
        ));
    }
    let grace = if age >= ttl { ", in its grace period" } else { "" };
    Finding::warning(format!("{held} (free in {free_in}s{grace})"))
}
