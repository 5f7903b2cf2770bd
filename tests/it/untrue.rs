//! Locks, leases and claims with times and numbers that cannot be true: doctor, status and a dry run say what a push is
//! told, nobody is locked out for ever, and what is in the way is named.

use serde_json::json;

use crate::common::{now, with_memory};
use crate::doctor::Said;
use crate::support::machine::Machine;
use crate::support::python_node::key;
use crate::support::s3::{Fault, S3Server};

const DAY: i64 = 86_400;

fn alpha(server: &S3Server) -> Machine {
    let mut alpha = Machine::new("alpha", server);
    alpha.set("LEADERSHIP_ENABLED", "0").set("LOCK_TTL_SECONDS", "7200");
    with_memory(&alpha);
    alpha
}

#[test]
fn whether_the_lock_may_be_had_is_said_by_all_as_the_push_is_told() {
    // The lock's own time and end, how long ago the store got it → doctor's level and word, status's word, exit code.
    let table = [
        ("free", now(), None, 0, Some("released"), ("ok", "free (last held by far)", 0)),
        ("young", now(), None, 0, None, ("warning", "LOCK ACTIVE — held by far", 1)),
        ("old", now() - 8000, None, 0, None, ("info", "lock: stale, left by far", 0)),
        // Its holder said that it holds for a day: the push is told so, and so is whoever asks.
        ("promised", now() - 8000, Some(now() + DAY), 8000, None, ("warning", "(free in 784", 1)),
        ("from the future", now() + 900 * DAY, None, 10, None, ("warning", "(free in 72", 1)),
        ("from the future, old", now() + 900 * DAY, None, 8000, None, ("info", "lock: stale", 0)),
        ("at the end of time", i64::MAX, Some(i64::MAX), 8000, None, ("info", "lock: stale", 0)),
    ];
    for (name, timestamp, expires_at, stored, state, (level, doctor, exit)) in table {
        let server = S3Server::start();
        let alpha = alpha(&server);
        let lock =
            json!({"hostname": "far", "timestamp": timestamp, "expires_at": expires_at, "state": state});
        server.put(&key("mem", "locks/active.lock"), lock.to_string());
        server.age(stored);
        Said::by(&alpha, "").check("lock", level, doctor);
        alpha.cmd("push_sqlite --dry-run").run().assert_code(exit);
        let pushed = alpha.cmd("push_sqlite").run();
        pushed.assert_code(exit).stdout_has(if exit == 0 {
            "PUSH COMPLETE"
        } else {
            "LOCK ACTIVE — held by far"
        });
        eprintln!("{name}: as it should be");
    }
}

#[test]
fn f68_a_claim_that_is_in_the_way_is_named_and_does_not_count_for_ever() {
    let server = S3Server::start();
    server.fault(Fault::IgnoresConditions).forever();
    let alpha = alpha(&server);
    let claim = key("mem", "membridge/claims/lock/far-0123.1.9223372036854775807");
    server.put(&claim, "{}");
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has(&claim).stdout_has("membridge push_sqlite --take-lock");
    alpha.cmd("push_sqlite --take-lock").run().assert_code(0).stdout_has("PUSH COMPLETE");
    // It says that it lives for ever; a day is what anybody believes.
    server.put(&claim, "{}");
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(1);
    server.age(DAY.unsigned_abs() + 10);
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert_eq!(server.keys(&key("mem", "membridge/claims/")), [""; 0]);
}

#[test]
fn f68_a_claim_that_is_in_the_way_of_a_segment_is_named_for_what_it_is() {
    let server = S3Server::start();
    server.fault(Fault::IgnoresConditions).forever();
    let alpha = alpha(&server);
    alpha.cmd("sync").run().assert_code(0);
    let segments = server.keys(&key("mem", "membridge/rows/"));
    let [first] = &segments[..] else { panic!("{segments:?}") };
    let writer = first.rsplit('/').nth(1).unwrap();
    // As a run leaves it that was killed while it put the next one.
    let claim = key("mem", &format!("membridge/claims/{writer}-0000000002/far-0123.1.9223372036854775807"));
    server.put(&claim, "{}");
    alpha.db().add_observations(1);
    let refused = alpha.cmd("sync").run();
    refused.assert_code(1).stdout_has("0000000002.seg could not be put").stdout_has("try again in a minute");
    server.age(DAY.unsigned_abs() + 10);
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(server.keys(&key("mem", "membridge/rows/")).len(), 2);
}

#[test]
fn f68_a_lease_from_the_future_ends_as_if_it_began_when_it_came() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let lease = |issued: i64, seconds: i64| {
        let lease = json!({
            "canonical_id": "6fe2e0f6071ac2bb", "primary_node_id": "far", "issued_at": issued,
            "expires_at": issued.saturating_add(seconds), "lease_seconds": seconds, "epoch": 3,
            "policy": "primary_authoritative", "issued_by": "far",
        });
        server.put(&key("mem", "leadership/lease.json"), lease.to_string());
    };
    lease(now() + 900 * DAY, 3600);
    alpha.cmd("push_sqlite").run().assert_code(3);
    alpha.set("PRIMARY_NODE_ID", "alpha");
    alpha.cmd("push_sqlite").run().assert_code(3);
    alpha.db().add_observations(1);
    // An hour after the store got it, its term is over.
    server.age(3700);
    Said::by(&alpha, "").check("lease", "info", "ran out");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    assert!(server.text(&key("mem", "leadership/lease.json")).contains("\"epoch\": 4"));
}

#[test]
fn f68_an_epoch_that_nothing_could_follow_is_refused_with_the_way_out() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let lease = json!({
        "canonical_id": "6fe2e0f6071ac2bb", "primary_node_id": "alpha", "issued_at": now(), "expires_at": now() + 3600,
        "lease_seconds": 3600, "epoch": i64::MAX, "policy": "primary_authoritative", "issued_by": "far",
    });
    server.put(&key("mem", "leadership/lease.json"), lease.to_string());
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has("is beyond 2^53").stdout_has("membridge promote NODE --force");
    alpha.cmd("promote alpha --force").run().assert_code(0).stdout_has("epoch: 1");
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
}
