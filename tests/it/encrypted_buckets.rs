//! Buckets that encrypt with keys of their own (SSE-KMS): their etags are 32 hex digits and the MD5 of nothing. What lies
//! there is what was sent all the same, and what is not is still found.

use crate::common::{assert_no_leftovers, rows, with_memory};
use crate::support::machine::Machine;
use crate::support::python_node::{self, key};
use crate::support::s3::{Op, S3Server};

#[test]
fn f22_etags_that_are_no_checksums_are_no_damage() {
    let server = S3Server::start();
    server.encrypt();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    for round in 0..3 {
        alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
        assert_eq!(python_node::read(&server, "mem").map(drop), Ok(()), "round {round}");
        alpha.db().add_observations(2);
    }
    assert_eq!(
        server.keys(&key("mem", "membridge/overwritten/")),
        [""; 0],
        "nothing unknown was overwritten"
    );
    // A segment that is read back tells each push what the etags are worth; nothing larger comes back for it.
    assert_eq!(
        server.count(Op::GetObject, "sqlite/claude-mem.db.sha256"),
        server.count(Op::GetObject, "claude-mem.db")
    );
    assert_eq!(server.count(Op::GetObject, "membridge/rows/"), 3);
    assert_eq!(server.count(Op::GetObject, "membridge/packs/"), 0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    assert_no_leftovers(&alpha);
}

#[test]
fn f22_damage_is_found_whatever_the_etags_are() {
    for (encrypts, part, words) in [
        (true, "membridge/packs/", "is not what it should be: it has another checksum"),
        (true, "sqlite/claude-mem.db", "claude-mem.db"),
        (false, "sqlite/claude-mem.db", "claude-mem.db"),
    ] {
        let server = S3Server::start();
        if encrypts {
            server.encrypt();
        }
        let alpha = Machine::new("alpha", &server);
        with_memory(&alpha);
        // Between the put and the first look at it, other bytes of the same size come to lie there.
        let (handle, mut done) = (server.handle(), false);
        server.on_request(move |op, seen| {
            if let (Op::HeadObject, false, true, Some(size)) =
                (op, done, seen.contains(part), handle.size(seen))
            {
                handle.put(seen, vec![b'x'; usize::try_from(size).unwrap()]);
                done = true;
            }
        });
        let pushed = alpha.cmd("push_sqlite").run();
        pushed.assert_code(1).stdout_has(words);
        assert_ne!(python_node::read(&server, "mem").map(drop), Ok(()), "nothing announces {part}");
    }
}
