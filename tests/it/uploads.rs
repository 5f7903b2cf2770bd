//! A large upload that is cut goes on where it was: in the same run, in the next one, and from its beginning where the store
//! has forgotten it. What is there already is not sent again. Bytes are counted on the wire.

use crate::common::{COMMITS, assert_no_leftovers, memory};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Op, RequestLog, S3Server};

const PACKS: &str = "projects/6fe2e0f6071ac2bb/membridge/packs/";
const ROWS: &str = "projects/6fe2e0f6071ac2bb/membridge/rows/";
const PART: u64 = 5 << 20;
const SIGKILL: i32 = 128 + 9;

/// Alpha has never pushed; its pack will have three parts, and its rows are few: tool calls travel in images only.
fn alpha(server: &S3Server) -> Machine {
    let alpha = Machine::new("alpha", server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(5).add_tool_uses(24);
    db.execute("UPDATE tool_uses SET tool_input = hex(randomblob(500000))");
    alpha.cmd("mirror off").run().assert_code(0);
    alpha
}

fn bytes(server: &S3Server, op: Op, part: &str) -> u64 {
    let counts = |seen: &&RequestLog| seen.op == op && seen.key.contains(part);
    server.requests().iter().filter(counts).map(|seen| seen.bytes_in).sum()
}

/// The only pack; its size.
fn pack(server: &S3Server) -> u64 {
    let keys = server.keys(PACKS);
    assert_eq!(keys.len(), 1, "{keys:?}");
    server.size(&keys[0]).unwrap()
}

/// Nothing is left half done, and another machine gets all of it.
#[track_caller]
fn assert_there(server: &S3Server, alpha: &Machine) {
    assert_eq!(server.open_uploads(), 0);
    assert_eq!(server.keys(COMMITS).len(), 1);
    assert_no_leftovers(alpha);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(memory(&beta.db_path()), memory(&alpha.db_path()));
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_was() {
    let server = S3Server::start();
    let alpha = alpha(&server);
    let cut = 2 << 20;
    server.fault(Fault::CutConnection(cut).on(Op::UploadPart).next(1).after(1)).forever();
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    let size = pack(&server);
    assert!(size > 2 * PART, "{size}");
    let sent = bytes(&server, Op::UploadPart, PACKS);
    assert!((size + cut..size + cut + (1 << 20)).contains(&sent), "{sent} of {size}");
    assert_eq!(server.count(Op::PutObject, PACKS), 0, "in parts only");
    assert_there(&server, &alpha);
}

#[test]
fn a_first_push_that_was_killed_sends_nothing_again_that_is_there() {
    let server = S3Server::start();
    let alpha = alpha(&server);
    alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "store.part-sent").run().assert_code(SIGKILL);
    assert_eq!(server.open_uploads(), 1);
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    let size = pack(&server);
    assert_eq!(bytes(&server, Op::UploadPart, PACKS), size - PART, "the first part was there");
    assert_eq!(server.count(Op::CreateMultipartUpload, ""), 0);
    assert_eq!(server.count(Op::PutObject, ROWS), 0, "and all rows");
    assert_there(&server, &alpha);
}

#[test]
fn a_pack_that_is_whole_is_not_sent_again_for_want_of_a_commit() {
    for point in ["store.parts-joined", "history.pack-sent"] {
        let server = S3Server::start();
        let alpha = alpha(&server);
        alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", point).run().assert_code(SIGKILL);
        server.reset_log();
        alpha.cmd("push_sqlite").run().assert_code(0);
        assert_eq!(bytes(&server, Op::UploadPart, ""), 0, "{point}");
        assert_eq!(server.count(Op::PutObject, PACKS), 0, "{point}");
        assert_there(&server, &alpha);
    }
}

#[test]
fn rows_that_are_there_are_not_sent_again() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(40);
    // More than one segment takes.
    db.execute("UPDATE observations SET narrative = hex(randomblob(250000))");
    alpha.cmd("sync").env("MEMBRIDGE_FAILPOINT", "rows.published-entered").run().assert_code(SIGKILL);
    let there = server.keys(ROWS);
    assert_eq!(there.len(), 1, "{there:?}");
    server.reset_log();
    alpha.cmd("sync").run().assert_code(0);
    assert_eq!(server.count(Op::PutObject, &there[0]), 0, "the first segment");
    let all: u64 = server.keys(ROWS).iter().filter_map(|key| server.size(key)).sum();
    let sent = bytes(&server, Op::PutObject, ROWS);
    assert_eq!(sent, all - server.size(&there[0]).unwrap());
    assert!(sent > 0);
}

#[test]
fn an_upload_that_the_store_forgot_or_that_is_not_wanted_any_more_begins_anew() {
    let server = S3Server::start();
    let alpha = alpha(&server);
    let kill = || alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "store.part-sent").run();
    kill().assert_code(SIGKILL);
    server.forget_uploads();
    kill().assert_code(SIGKILL);
    assert_eq!(server.open_uploads(), 1, "begun anew");
    // Another image: the parts of the first one are of no use.
    alpha.db().add_observations(1);
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(server.count(Op::AbortMultipartUpload, PACKS), 1);
    assert_eq!(bytes(&server, Op::UploadPart, PACKS), pack(&server));
    assert_there(&server, &alpha);
}

#[test]
fn a_store_that_takes_no_parts_gets_it_in_one_piece() {
    for (op, status, code) in [
        (Op::CreateMultipartUpload, 501, "NotImplemented"),
        (Op::UploadPart, 400, "InvalidRequest"),
        (Op::CompleteMultipartUpload, 400, "MalformedXML"),
    ] {
        let server = S3Server::start();
        let alpha = alpha(&server);
        server.fault(Fault::Status(status, code).on(op)).forever();
        server.reset_log();
        alpha.cmd("push_sqlite").run().assert_code(0);
        assert_eq!(bytes(&server, Op::PutObject, PACKS), pack(&server), "{code}");
        assert_there(&server, &alpha);
    }
}

/// moto names the document otherwise than S3 does.
#[test]
fn parts_that_were_joined_count_whatever_the_store_says_of_it() {
    let server = S3Server::start();
    let alpha = alpha(&server);
    server.fault(Fault::Unreadable.on(Op::CompleteMultipartUpload)).forever();
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(bytes(&server, Op::UploadPart, PACKS), pack(&server));
    assert_eq!(server.count(Op::PutObject, PACKS), 0);
    assert_there(&server, &alpha);
}

#[test]
fn an_answer_that_is_lost_when_parts_are_joined_costs_nothing() {
    let server = S3Server::start();
    let alpha = alpha(&server);
    server.fault(Fault::LostConnection.on(Op::CompleteMultipartUpload).next(1)).forever();
    server.reset_log();
    alpha.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(bytes(&server, Op::UploadPart, PACKS), pack(&server));
    assert_eq!(server.count(Op::CompleteMultipartUpload, PACKS), 2);
    assert_eq!(bytes(&server, Op::GetObject, PACKS), 0);
    assert_there(&server, &alpha);
}
