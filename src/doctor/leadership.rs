//! Who is primary, and what that makes this node. Only looks (F42).

use super::bucket::duration;
use super::evidence::Evidence;
use super::finding::{Check, Finding};
use super::questions::Asked;
use crate::leadership::LeaseRecord;
use crate::leadership::decide::decide;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "role",
        run: role,
        remedy: "see the store's finding above; to work without roles, set LEADERSHIP_ENABLED=0 on every node",
    },
    Check {
        name: "primary",
        run: primary,
        remedy: "give PRIMARY_NODE_ID the same value on all machines, or hand over: membridge promote NODE",
    },
    Check { name: "epoch", run: epoch, remedy: "see who is primary: membridge leadership_info" },
    Check {
        name: "lease",
        run: lease,
        remedy: "push from the primary, or make another node primary: membridge promote NODE",
    },
];

/// What can be said before any lease is looked at.
fn lease_of(evidence: &Evidence) -> Result<Option<&LeaseRecord>, &'static str> {
    match &evidence.bucket.lease {
        Asked::Got(lease) => Ok(lease.as_ref()),
        Asked::Not(why) => Err(why),
        Asked::Failed(_) => Err("the lease cannot be read"),
    }
}

fn role(evidence: &Evidence) -> Finding {
    let (Some(config), Some(node)) = (&evidence.config, &evidence.node) else {
        return Finding::skipped("role: unknown (the configuration is not complete)");
    };
    if !config.leadership.enabled {
        return Finding::info("role: off (LEADERSHIP_ENABLED=0)");
    }
    if let Asked::Failed(failure) = &evidence.bucket.lease {
        let mut finding = Finding::failed(failure);
        finding.text = format!("role: unknown: {}", failure.message);
        return finding;
    }
    match lease_of(evidence) {
        Err(why) => Finding::skipped(format!("role: unknown ({why})")),
        Ok(lease) => {
            let decision = decide(lease, &node.id, config.leadership.primary.as_deref(), evidence.now);
            let when = if lease.is_none() { " (once the first push makes the lease)" } else { "" };
            Finding::ok(format!("role: {}{when}", decision.role))
        }
    }
}

fn primary(evidence: &Evidence) -> Finding {
    let configured = evidence.settings.get("PRIMARY_NODE_ID");
    match lease_of(evidence) {
        Err(why) => Finding::skipped(format!("primary: unknown ({why})")),
        Ok(None) => Finding::ok(match configured {
            Some(name) => format!("primary: nobody yet, {name} by configuration"),
            None => "primary: nobody yet".to_owned(),
        }),
        Ok(Some(lease)) => {
            let line = format!("primary: {}", lease.primary_label());
            match configured {
                Some(name) if name != lease.primary_node_id => {
                    Finding::warning(format!("{line}, but PRIMARY_NODE_ID={name} here"))
                }
                _ if lease.needs_ui_selection => Finding::ok(format!("{line}, by default")),
                _ => Finding::ok(line),
            }
        }
    }
}

fn epoch(evidence: &Evidence) -> Finding {
    match lease_of(evidence) {
        Err(why) => Finding::skipped(format!("epoch: unknown ({why})")),
        Ok(None) => Finding::ok("epoch: none yet"),
        Ok(Some(lease)) => {
            let head = evidence.bucket.head.got().and_then(Option::as_ref);
            match head.and_then(crate::python::Head::epoch) {
                Some(written) if written > lease.epoch => Finding::error(format!(
                    "epoch: {}, but the bucket was written under epoch {written}: pushes are refused",
                    lease.epoch
                )),
                _ => Finding::ok(format!("epoch: {}", lease.epoch)),
            }
        }
    }
}

fn lease(evidence: &Evidence) -> Finding {
    let lease = match lease_of(evidence) {
        Err(why) => return Finding::skipped(format!("lease: {why}")),
        Ok(None) => return Finding::ok("lease: none yet; the first push makes it"),
        Ok(Some(lease)) => lease,
    };
    let ours = evidence.node.as_ref().is_some_and(|node| node.id == lease.primary_node_id);
    let left = lease.expires_at.saturating_sub(evidence.now);
    if left > 0 {
        return Finding::ok(format!("lease: valid for another {}", duration(left)));
    }
    let ago = duration(left.saturating_neg());
    if ours {
        return Finding::ok(format!("lease: ran out {ago} ago; this node's next push renews it"));
    }
    // An idle primary does not renew; nothing is wrong until this node has something to push.
    Finding::info(format!("lease: ran out {ago} ago; {} renews it with its next push", lease.primary_node_id))
}
