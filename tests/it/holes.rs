//! Commits that somebody else removed from the middle of a history: the newest one stays the head for everybody, and the
//! hole is named.

use crate::common::{COMMITS, pushed, rows};
use crate::doctor::Said;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

fn commit(number: u64) -> String {
    format!("{COMMITS}{number:010}.json")
}

fn archive(machine: &Machine) -> crate::support::process::Outcome {
    machine.db().add_observations(1);
    machine.cmd("push_sqlite").run()
}

#[test]
fn f67_a_commit_that_vanished_from_the_middle_splits_nobody() {
    let server = S3Server::start();
    let alpha = pushed(&server, 6);
    let beta = Machine::new("beta", &server);
    archive(&alpha).assert_code(0);
    beta.cmd("pull_sqlite").run().assert_code(0);
    for _ in 3..=6 {
        archive(&alpha).assert_code(0);
    }
    assert!(server.remove(&commit(3)), "{:?}", server.keys(COMMITS));
    Said::by(&alpha, "").check("history", "warning", "commit 3 is missing between 2 and 4");
    alpha.cmd("verify --all").run().assert_code(1).stdout_has("commit 3 is missing between 2 and 4");
    // Beta knows commit 2 as the head, and none follows it: the newest is found all the same.
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    archive(&alpha).assert_code(0).stdout_has("commit 3 is missing between 2 and 4");
    assert!(
        server.get(&commit(7)).is_some() && server.get(&commit(3)).is_none(),
        "{:?}",
        server.keys(COMMITS)
    );
    let listed = alpha.cmd("history").run();
    listed.assert_code(0).stdout_has("#7 ").stdout_has("#4 ").stdout_has("#2 ").stdout_has("#1 ");
    alpha.cmd("restore 2").arg("--to").arg(alpha.path("second.db")).run().assert_code(0);
}

#[test]
fn f67_a_number_that_nothing_could_follow_is_no_commit() {
    let server = S3Server::start();
    let alpha = pushed(&server, 6);
    let text = server.text(&commit(1));
    for number in [9_007_199_254_740_993_u64, u64::MAX] {
        server.put(&commit(number), text.replace("\"number\":1,", &format!("\"number\":{number},")));
    }
    archive(&alpha).assert_code(0);
    assert!(server.get(&commit(2)).is_some());
    alpha.cmd("history").run().assert_code(0).stdout_has("#2 ");
}
