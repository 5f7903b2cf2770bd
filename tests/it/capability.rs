//! F46: what the probe finds out about a store, and that a bad moment is not taken for a bad store.

use membridge::context::Context;
use membridge::storage::keys::Keys;
use membridge::storage::probe::{self, Verdict};

use crate::stores::{self, Subject, unique};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Op, S3Server};

const BOTH: Verdict = Verdict { create: true, replace: true };

async fn verdict(subject: &Subject) -> Verdict {
    let keys = Keys::new(&unique("probe"));
    let store = subject.open();
    let verdict = probe::probe(&store, &keys, &Context::default()).await.unwrap();
    assert_eq!(store.list(&keys.root()).await.unwrap(), [], "the probe tidies up");
    verdict
}

#[tokio::test]
async fn f46_the_probe_knows_every_kind_of_server() {
    assert_eq!(verdict(&Subject::conforming()).await, BOTH);
    for subject in [Subject::ignoring(), Subject::refusing(), Subject::not_atomic()] {
        assert!(!verdict(&subject).await.atomic(), "{}", subject.name);
    }
}

#[tokio::test]
async fn f46_one_lost_answer_is_not_a_verdict() {
    for lost in [0, 1, 6, 12, 18, 24] {
        let server = S3Server::start();
        let _fault = server.fault(Fault::LostReply.on(Op::PutObject).after(lost).next(1));
        let store = stores::open(&(&server).into());
        let found = probe::probe(&store, &Keys::new("c"), &Context::default()).await;
        assert_eq!(found.unwrap(), BOTH, "answer {lost} was lost");
    }
}

/// Requests under the probe's own folder.
fn asked(server: &S3Server) -> usize {
    server.requests().iter().filter(|request| request.key.contains("membridge/probe/")).count()
}

fn two_rows_more(machine: &Machine) {
    machine.db().add_observations(2);
    machine.cmd("sync --for turn").run().assert_code(0);
}

#[test]
fn the_first_write_of_a_day_asks_little_and_that_of_a_week_what_its_reader_needs() {
    let server = S3Server::start();
    let [alpha, beta] = ["alpha", "beta"].map(|name| Machine::new(name, &server));
    for machine in [&alpha, &beta] {
        machine.create_db(Version::V13_25_3).add_session(&machine.name).add_observations(2);
    }
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(asked(&server), 33, "both kinds: the archive's lock needs them");
    server.reset_log();
    beta.cmd("sync").run().assert_code(0);
    assert_eq!(asked(&server), 16, "creation alone: rows need nothing else");
    server.reset_log();
    two_rows_more(&beta);
    assert_eq!(asked(&server), 0);
    age(&beta, 86_400);
    two_rows_more(&beta);
    assert_eq!(asked(&server), 3, "whether what must be refused is, and the object goes again");
    server.reset_log();
    two_rows_more(&beta);
    assert_eq!(asked(&server), 0);
    age(&beta, 6 * 86_400);
    two_rows_more(&beta);
    assert_eq!(asked(&server), 16);
    server.reset_log();
    // What ignores conditions since yesterday is found out today.
    age(&beta, 86_400);
    let _ignores = server.fault(Fault::IgnoresConditions);
    two_rows_more(&beta);
    assert!(server.count(Op::PutObject, "membridge/claims/") > 0);
}

#[test]
fn f46_a_store_that_stumbles_where_writers_meet_has_shown_enough() {
    // rclone: it ignores conditions, and answers 500 to some of those that write one name at once.
    let server = S3Server::start();
    let _ignores = server.fault(Fault::IgnoresConditions);
    let stumbles = Fault::Status(500, "InternalError").on(Op::PutObject).key("membridge/probe/").after(2);
    let _stumbles = server.fault(stumbles);
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(2);
    alpha.cmd("sync").run().assert_code(0);
    assert!(server.count(Op::PutObject, "membridge/claims/") > 0);
}

/// Lets the verdict that a machine remembers be so much older (seconds).
fn age(machine: &Machine, seconds: i64) {
    for file in std::fs::read_dir(machine.path(".membridge/probe")).unwrap() {
        let file = file.unwrap().path();
        let mut verdict: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for when in ["at", "asked"] {
            verdict[when] = (verdict[when].as_i64().unwrap() - seconds).into();
        }
        std::fs::write(&file, verdict.to_string()).unwrap();
    }
}

#[test]
fn f46_a_store_that_is_not_what_it_was_is_found_out_when_it_shows() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(2);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // The header is not known any more: the same sync goes on under a claim.
    server.fault(Fault::Conditions501).forever();
    server.reset_log();
    two_rows_more(&alpha);
    assert!(server.count(Op::PutObject, "membridge/claims/") > 0);
    server.clear_faults();
    // It refuses what nothing stands against: the next write asks, and goes under a claim.
    let _refuses = server
        .fault(Fault::Status(412, "PreconditionFailed").on(Op::PutObject).key("membridge/rows/").next(1));
    alpha.db().add_observations(1);
    alpha.cmd("sync --for turn").run().assert_code(1);
    server.reset_log();
    alpha.cmd("sync --for turn").run().assert_code(0);
    assert!(asked(&server) >= 14);
}
