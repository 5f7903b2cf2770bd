//! The network goes away at every request of a push and of a pull by delta, before the store has the request and after
//! it has carried it out. Readers see the old head or the new one; the next run finishes; every commit stays whole.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{COMMITS, assert_no_leftovers, assert_whole, rows};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Op, S3Server};

const PACKS: &str = "projects/6fe2e0f6071ac2bb/membridge/packs/";

/// Alpha and beta are in step; alpha has recorded more since.
fn world(server: &S3Server) -> (Machine, Machine) {
    let alpha = Machine::new("alpha", server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(150).add_prompts(3);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", server);
    beta.cmd("pull_sqlite").run().assert_code(0);
    alpha.db().add_session("two").add_observations(6).add_summaries(1);
    (alpha, beta)
}

fn newest_commit(server: &S3Server) -> serde_json::Value {
    serde_json::from_str(&server.text(server.keys(COMMITS).last().unwrap())).unwrap()
}

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The store never sees the request, nor any later one.
    BeforeIt,
    /// The store carries it out; the answer and everything later is lost.
    AfterIt,
    /// The answer is lost, and the network is there again at once.
    OnlyItsAnswer,
}

fn cut(server: &S3Server, at: usize, how: Cut) {
    match how {
        Cut::BeforeIt => server.fault(Fault::Disconnect.next(usize::MAX).after(at)).forever(),
        Cut::AfterIt => {
            server.fault(Fault::LostConnection.next(1).after(at)).forever();
            server.fault(Fault::Disconnect.next(usize::MAX).after(at + 1)).forever();
        }
        Cut::OnlyItsAnswer => server.fault(Fault::LostConnection.next(1).after(at)).forever(),
    }
}

/// Every request of what `run` does, cut in every way. Most of the time goes into waiting for retries, so several cases
/// run at once.
#[track_caller]
fn every_request(run: impl Fn(&S3Server) -> usize, case: impl Fn(usize, Cut) + Sync) {
    let count = run(&S3Server::start());
    assert!(count >= 4, "{count} requests");
    let cases: Vec<(usize, Cut)> = (0..count)
        .flat_map(|at| [Cut::BeforeIt, Cut::AfterIt, Cut::OnlyItsAnswer].map(|how| (at, how)))
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((at, how)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    case(*at, *how);
                }
            });
        }
    });
}

fn a_push_cut_anywhere(command: &'static str) {
    every_request(
        |server| {
            let (alpha, _) = world(server);
            server.reset_log();
            alpha.cmd(command).run().assert_code(0);
            server.requests().len()
        },
        |at, how| {
            let server = S3Server::start();
            let (alpha, beta) = world(&server);
            let (old, new) = (rows(&beta.db_path()), rows(&alpha.db_path()));

            cut(&server, at, how);
            let pushed = alpha.cmd(command).run();
            server.clear_faults();
            assert!(matches!(pushed.code, 0 | 1), "{how:?} {at}\n{pushed:?}");
            if how == Cut::OnlyItsAnswer {
                pushed.assert_code(0);
            }
            assert_eq!(rows(&alpha.db_path()), new, "{how:?} {at}");

            let reader = Machine::new("reader", &server);
            reader.cmd("pull_sqlite").run().assert_code(0);
            let seen = rows(&reader.db_path());
            let head = server.keys(COMMITS).len();
            assert_eq!(seen == new, head == 2, "{how:?} {at}: head {head}");
            assert!(seen == old || seen == new, "{how:?} {at}: neither old nor new");
            beta.cmd("pull_sqlite").run().assert_code(0);
            assert_eq!(rows(&beta.db_path()), seen, "{how:?} {at}");

            alpha.cmd("push_sqlite").run().assert_code(0);
            beta.cmd("pull_sqlite").run().assert_code(0);
            assert_eq!(rows(&beta.db_path()), new, "{how:?} {at}");
            assert_eq!(server.keys(COMMITS).len(), 2, "{how:?} {at}: one commit for one change");
            assert_eq!(newest_commit(&server)["kind"], "delta", "{how:?} {at}");
            alpha.cmd("verify --all").run().assert_code(0);
            alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("already up to date");
            assert_no_leftovers(&alpha);
        },
    );
}

#[test]
fn a_delta_push_cut_anywhere_leaves_the_old_or_the_new_head() {
    a_push_cut_anywhere("push_sqlite --background");
}

#[test]
#[ignore = "a hundred pushes, most of them waiting for retries; make soak"]
fn a_delta_push_with_the_copy_for_python_nodes_cut_anywhere_leaves_the_old_or_the_new_head() {
    a_push_cut_anywhere("push_sqlite");
}

#[test]
fn a_delta_pull_cut_anywhere_leaves_the_old_or_the_new_database() {
    let behind = |server: &S3Server| {
        let (alpha, beta) = world(server);
        alpha.cmd("push_sqlite --background").run().assert_code(0);
        assert_eq!(newest_commit(server)["kind"], "delta");
        (alpha, beta)
    };
    every_request(
        |server| {
            let (_, beta) = behind(server);
            server.reset_log();
            beta.cmd("pull_sqlite").run().assert_code(0);
            assert_eq!(server.count(Op::GetObject, PACKS), 1, "by delta");
            server.requests().len()
        },
        |at, how| {
            let server = S3Server::start();
            let (alpha, beta) = behind(&server);
            let (old, new) = (rows(&beta.db_path()), rows(&alpha.db_path()));
            cut(&server, at, how);
            let pulled = beta.cmd("pull_sqlite").run();
            server.clear_faults();
            let now = rows(&beta.db_path());
            match how {
                Cut::OnlyItsAnswer => assert!(pulled.code == 0 && now == new, "{how:?} {at}\n{pulled:?}"),
                _ => assert!(
                    (pulled.code == 1 && now == old) || (pulled.code == 0 && now == new),
                    "{how:?} {at}\n{pulled:?}"
                ),
            }
            assert_whole(&beta.db_path());
            beta.cmd("pull_sqlite").run().assert_code(0);
            assert_eq!(rows(&beta.db_path()), new, "{how:?} {at}");
            assert_whole(&beta.db_path());
            assert_no_leftovers(&beta);
        },
    );
}

#[test]
fn a_delta_that_is_cut_on_the_way_goes_on_where_it_was() {
    let server = S3Server::start();
    let (alpha, beta) = world(&server);
    alpha.cmd("push_sqlite --background").run().assert_code(0);
    let size = newest_commit(&server)["pack_size"].as_u64().unwrap();
    server.fault(Fault::CutConnection(size / 3).on(Op::GetObject).key(PACKS).next(2)).forever();
    server.reset_log();
    beta.cmd("pull_sqlite").run().assert_code(0);
    let packs: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.op == Op::GetObject && request.key.starts_with(PACKS))
        .collect();
    assert_eq!(packs.len(), 3, "{packs:?}");
    let received: u64 = packs.iter().map(|request| request.bytes_out).sum();
    assert_eq!(received, size, "no byte twice: {packs:?}");
    assert_eq!(packs[1].status, 206, "{packs:?}");
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
}

#[test]
fn where_the_delta_does_not_fit_the_whole_chain_is_taken_even_when_it_is_cut() {
    let server = S3Server::start();
    let (alpha, beta) = world(&server);
    alpha.cmd("push_sqlite --background").run().assert_code(0);
    // Every page is another, the rows are not.
    beta.db().vacuum();
    server.fault(Fault::CutConnection(2000).on(Op::GetObject).key(PACKS).next(1)).forever();
    server.reset_log();
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(server.count(Op::GetObject, PACKS), 4, "the delta and the rest of it, then both packs");
    assert_eq!(rows(&beta.db_path()), rows(&alpha.db_path()));
    assert_whole(&beta.db_path());
}
