//! The lease: its life, what happens when it cannot be read, hand-overs, clocks that are wrong, epochs.

use crate::common::memory;
use crate::support::claude_mem::{self, Version};
use crate::support::machine::{Machine, Store};
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::{Fault, Op, S3Server};

fn key(name: &str) -> String {
    python_node::key("mem", name)
}

fn lease(server: &S3Server) -> serde_json::Value {
    serde_json::from_str(&server.text(&key("leadership/lease.json"))).unwrap()
}

fn with_memory(name: &str, store: impl Into<Store>) -> Machine {
    let machine = Machine::new(name, store);
    machine.create_db(Version::V13_25_3).add_session(name).add_observations(10);
    machine
}

/// Alpha is primary and has pushed; beta has pulled. Both have a row more since.
fn primary_and_secondary(server: &S3Server) -> (Machine, Machine) {
    let alpha = with_memory("alpha", server);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    (alpha, beta)
}

#[test]
fn f01_a_single_node_stays_primary_over_four_lease_periods() {
    let server = S3Server::start();
    let mut alpha = with_memory("alpha", &server);
    let mut epochs = Vec::new();
    // Quarters of a lease, then a night without any command, then the next morning.
    for quarter in [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16, 17, 60, 61] {
        let seconds = quarter * 900;
        server.set_clock_offset(seconds);
        alpha.set("MEMBRIDGE_TEST_CLOCK_OFFSET", seconds.to_string());
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("role=primary").stdout_has("PUSH COMPLETE");
        alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("already up to date");
        let lease = lease(&server);
        assert_eq!(lease["primary_node_id"], "alpha");
        epochs.push(lease["epoch"].as_i64().unwrap());
    }
    assert!(epochs.is_sorted(), "{epochs:?}");
    // Only the night ended a term; everything else was renewed in time.
    assert_eq!(epochs.last(), Some(&2), "{epochs:?}");
    let audits = server.keys(&key("leadership/audit/"));
    assert!(audits.len() >= 8, "each write leaves its record: {audits:?}");
}

#[test]
fn f06_f07_a_lease_that_cannot_be_read_stops_everything() {
    let garbage = ["[1,2]", "{}", "{\"primary_node_id\": \"beta\", \"epo", "", "null"];
    let faults = [
        Fault::Status(403, "AccessDenied"),
        Fault::Status(500, "InternalError"),
        Fault::BlackHole,
        Fault::Disconnect,
        Fault::TruncatedBody(40),
    ];
    let server = S3Server::start();
    let (alpha, beta) = primary_and_secondary(&server);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    let local_alpha = claude_mem::titles(alpha.db_path());
    let good = server.text(&key("leadership/lease.json"));
    let everything = || {
        let keys = server.keys("projects/");
        keys.into_iter()
            .filter(|key| {
                ["/sqlite/", "/commits/", "/packs/", "/leadership/"].iter().any(|part| key.contains(part))
            })
            .map(|key| (server.etag(&key), key))
            .collect::<Vec<_>>()
    };
    // The archive stops; rows travel all the same.
    let stops = |what: &str| {
        let before = everything();
        for (machine, command) in [(&alpha, "push_sqlite"), (&beta, "pull_sqlite"), (&beta, "push_sqlite")] {
            let end = machine.cmd(command).env("MEMBRIDGE_TEST_ANSWER_MS", "300").run();
            assert_eq!(end.code, 1, "{what}: {end:?}");
            end.stdout_has("leadership:");
        }
        assert_eq!(everything(), before, "{what}: nothing changed in the bucket");
        assert_eq!(claude_mem::titles(alpha.db_path()), local_alpha, "{what}");
        assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()), "{what}");
    };
    for text in garbage {
        server.put(&key("leadership/lease.json"), text);
        stops(text);
        alpha.cmd("push_sqlite").run().stdout_has("LEADERSHIP_ENABLED=0");
    }
    server.put(&key("leadership/lease.json"), &good);
    for fault in faults {
        let what = format!("{fault:?}");
        let _fault = server.fault(fault.on(Op::GetObject).key("leadership/lease.json"));
        stops(&what);
    }
    // The way out of a lease that nobody can read.
    server.put(&key("leadership/lease.json"), "{}");
    alpha.cmd("promote").run().assert_code(1).stdout_has("promote NODE --force");
    alpha.cmd("promote --force").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn f48_a_host_clock_that_is_hours_off_changes_no_decision() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start();
    for store in [Store::from(&server), Store::from(folder.path())] {
        let alpha = with_memory("alpha", &store);
        alpha.cmd("push_sqlite").run().assert_code(0);
        for offset in ["0", "7200", "-7200", "-100000000"] {
            let mut beta = Machine::new("beta", &store);
            beta.set("MEMBRIDGE_TEST_CLOCK_OFFSET", offset);
            // Configured as primary, it would take a lease that looks expired.
            beta.set("PRIMARY_NODE_ID", "beta");
            beta.cmd("pull_sqlite").run().assert_code(0);
            beta.db().add_observations(1);
            beta.cmd("push_sqlite").run().assert_code(3);
            let info = beta.cmd("leadership_info --json").run();
            let left = info.json()["expires_in"].as_i64().unwrap();
            assert!((3300..=3600).contains(&left), "{offset}: {left} s left");
        }
    }
}

#[test]
fn f48_the_age_of_a_lock_is_counted_by_the_servers_clock() {
    for (passed, free) in [(10, false), (7200 + 30, false), (7200 + 90, true)] {
        for offset in ["0", "7200", "-7200"] {
            let server = S3Server::start();
            let mut beta = with_memory("beta", &server);
            beta.set("MEMBRIDGE_TEST_CLOCK_OFFSET", offset);
            PythonNode::new(&server, "mem", "alpha").write_lock(jiff::Timestamp::now().as_second());
            server.set_clock_offset(passed);
            let end = beta.cmd("push_sqlite").run();
            if free {
                end.assert_code(0).stdout_has("the lock was taken over: stale");
            } else {
                end.assert_code(1).stdout_has("LOCK ACTIVE — held by alpha for");
                let seconds = end.stdout.split("alpha for ").nth(1).and_then(|rest| rest.split('s').next());
                let seconds: i64 = seconds.unwrap().parse().unwrap();
                assert!((passed - 2..passed + 60).contains(&seconds), "{offset}: {seconds} s of {passed}");
            }
        }
    }
}

#[test]
fn f24_a_push_of_an_older_term_is_refused() {
    let server = S3Server::start();
    let (alpha, beta) = primary_and_secondary(&server);
    let old_lease = server.text(&key("leadership/lease.json"));
    beta.cmd("promote").run().assert_code(0);
    beta.db().add_session("b").add_observations(1);
    beta.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    alpha.db().add_observations(1);
    // A lease from before comes back: a restored bucket, a Python node that wrote late.
    server.put(&key("leadership/lease.json"), old_lease);
    alpha.cmd("push_sqlite").run().assert_code(1).stdout_has("written under epoch 2");
    // And the way out.
    alpha.cmd("promote").run().assert_code(0).stdout_has("epoch: 3");
    alpha.cmd("push_sqlite").run().assert_code(0);
}

#[test]
fn f24_a_lease_that_was_lost_begins_above_the_last_push() {
    let server = S3Server::start();
    let (alpha, _) = primary_and_secondary(&server);
    for _ in 0..3 {
        alpha.cmd("promote").run().assert_code(0);
    }
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    server.remove(&key("leadership/lease.json"));
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(lease(&server)["epoch"], 5);
}

#[test]
fn f24_a_handover_during_a_push_ends_it() {
    let server = S3Server::start();
    let (alpha, beta) = primary_and_secondary(&server);
    alpha.db().add_observations(1);
    let before = server.etag(&key("sqlite/claude-mem.db"));
    let gate = alpha.write("gate", "");
    let push = alpha
        .cmd("push_sqlite")
        .env("MEMBRIDGE_FAILPOINT", "push.before-upload=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &gate)
        .spawn();
    push.wait_for_stdout("[5/6] Upload");
    beta.cmd("promote").run().assert_code(0).stdout_has("primary: beta (was: alpha)");
    std::fs::remove_file(gate).unwrap();
    push.wait().assert_code(1).stdout_has("the lease went to beta (epoch 2)");
    assert_eq!(server.etag(&key("sqlite/claude-mem.db")), before);
}

#[test]
fn promote_and_demote_hand_the_lease_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = S3Server::start();
    let _ignored = server.fault(Fault::IgnoresConditions);
    let conforming = S3Server::start();
    for store in [Store::from(folder.path()), Store::from(&conforming), Store::from(&server)] {
        let alpha = with_memory("alpha", &store);
        let mut beta = Machine::new("beta", &store);
        alpha.cmd("demote").run().assert_code(1).stdout_has("there is no lease");
        alpha.cmd("push_sqlite").run().assert_code(0);
        let info = alpha.cmd("leadership_info --json").run().json();
        assert_eq!(info["lease"]["needs_ui_selection"], true);

        let promoted = alpha.cmd("promote beta --lease-seconds 600 --json").run();
        promoted.assert_code(0);
        let json = promoted.json();
        assert_eq!(
            (&json["primary"], &json["was"], &json["epoch"]),
            (&"beta".into(), &"alpha".into(), &2.into())
        );
        let info = beta.cmd("leadership_info --json").run().json();
        assert_eq!(info["role"], "primary");
        assert_eq!(info["lease"]["lease_seconds"], 600);
        assert_eq!(info["lease"]["needs_ui_selection"], serde_json::Value::Null);
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(3).stdout_has("beta is primary");

        beta.cmd("demote beta").run().assert_code(1).stdout_has("beta is primary now");
        beta.cmd("demote alpha").run().assert_code(0).stdout_has("primary: alpha (was: beta)");
        alpha.cmd("push_sqlite").run().assert_code(0);

        // Nobody, until the configured primary comes.
        alpha.cmd("demote").run().assert_code(0).stdout_has("primary: nobody (was: alpha)");
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(3);
        beta.cmd("pull_sqlite").run().assert_code(0);
        beta.set("PRIMARY_NODE_ID", "beta");
        beta.db().add_session("b").add_observations(1);
        beta.cmd("push_sqlite").run().assert_code(0).stdout_has("role=primary");
        beta.cmd("demote").run().assert_code(1).stdout_has("PRIMARY_NODE_ID of this machine names this node");
    }
    let audits = conforming.keys(&key("leadership/audit/"));
    let reasons: Vec<String> = audits
        .iter()
        .map(|audit| {
            let record: serde_json::Value = serde_json::from_str(&conforming.text(audit)).unwrap();
            assert_eq!(record["event"], "lease_written");
            record["reason"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(reasons.iter().any(|reason| reason == "demoted"), "{reasons:?}");
}

#[test]
fn f24_two_promotions_at_once_leave_one_primary_and_two_terms() {
    let server = S3Server::start();
    let (alpha, beta) = primary_and_secondary(&server);
    let runs = [alpha.cmd("promote").spawn(), beta.cmd("promote").spawn()];
    let ends = runs.map(crate::support::process::Running::wait);
    for end in &ends {
        end.assert_code(0);
    }
    let lease = lease(&server);
    assert_eq!(lease["epoch"], 3, "neither was lost: {ends:?}");
}

#[test]
fn f32_a_store_that_cannot_be_reached_is_named_soon() {
    let mut alpha = with_memory("alpha", &S3Server::start());
    // Bound by nobody now; and the in-process server above is gone.
    let refused = alpha.cmd("push_sqlite").run();
    refused.assert_code(1).stdout_has("MINIO_ENDPOINT");
    assert!(refused.took.as_secs() < 30, "{refused:?}");

    let server = S3Server::start();
    alpha.use_store(&server);
    let _hole = server.fault(Fault::BlackHole);
    for command in ["push_sqlite", "pull_sqlite", "leadership_info"] {
        let end = alpha.cmd(command).env("MEMBRIDGE_TEST_ANSWER_MS", "200").run();
        end.assert_code(1).stdout_has(&server.endpoint());
        assert!(end.took.as_secs() < 30, "{end:?}");
    }
}

#[test]
fn a_push_without_a_database_takes_no_lease() {
    let server = S3Server::start();
    let board = Machine::new("board", &server);
    board.cmd("push_sqlite").run().assert_code(1).stdout_has("no database at");
    assert!(server.keys("").is_empty(), "{:?}", server.keys(""));
    // So the machine that has the memory is the one that becomes primary.
    let desk = Machine::new("desk", &server);
    desk.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    desk.cmd("push_sqlite").run().assert_code(0).stdout_has("role=primary (primary: desk)");
}

#[test]
fn f24_a_lease_that_was_deleted_does_not_lock_its_primary_out_where_the_manifest_is_behind() {
    for setting in ["on", "off"] {
        let server = S3Server::start();
        let alpha = with_memory("alpha", &server);
        alpha.cmd(&format!("mirror {setting}")).run().assert_code(0);
        alpha.cmd("push_sqlite").run().assert_code(0);
        for _ in 0..4 {
            alpha.cmd("promote").run().assert_code(0);
        }
        alpha.db().add_observations(1);
        alpha.cmd("push_sqlite").run().assert_code(0);
        alpha.db().add_observations(1);
        server.remove(&key("leadership/lease.json"));
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
    }
}
