//! Who holds the lock, since when, and whether a push may take it: by the push's own rules.

use super::bucket::duration;
use super::evidence::Evidence;
use super::finding::{Check, Finding};
use super::questions::Asked;
use crate::config::LockConfig;
use crate::lock::decide::{Situation, Verdict, Why, decide};

pub(super) const CHECKS: &[Check] = &[Check {
    name: "lock",
    run: lock,
    remedy: "wait for that push; if its machine is dead: membridge push_sqlite --take-lock",
}];

fn lock(evidence: &Evidence) -> Finding {
    let sight = match &evidence.bucket.lock {
        Asked::Not(why) => return Finding::skipped(format!("lock: not asked ({why})")),
        Asked::Failed(failure) => return Finding::failed(failure),
        Asked::Got(None) => return Finding::ok("lock: free"),
        Asked::Got(Some(sight)) => sight,
    };
    let (host, age) = (&sight.record.hostname, sight.age(evidence.now));
    let verdict = decide(&Situation {
        sight: Some(sight),
        host: evidence.node.as_ref().map_or("", |node| &node.host),
        machine: &evidence.machine,
        now: evidence.now,
        times: evidence.config.as_ref().map_or_else(LockConfig::default, |config| config.lock),
        force: false,
    });
    match verdict {
        Verdict::Take => Finding::ok(format!("lock: free (last held by {host})")),
        Verdict::TakeOver(Why::EarlierRunOnHost | Why::EarlierRunOnMachine) => Finding::info(format!(
            "LOCK ACTIVE — held by {host} for {age}s: this machine, a push under way or an earlier one"
        )),
        Verdict::TakeOver(why) => Finding::info(format!(
            "lock: {why}, left by {host} {} ago; the next push takes it over",
            duration(age)
        )),
        Verdict::Refuse(held) => {
            let grace = if held.in_grace { ", in its grace period" } else { "" };
            Finding::warning(format!(
                "LOCK ACTIVE — held by {host} for {age}s (free in {}s{grace})",
                held.free_in
            ))
        }
    }
}
