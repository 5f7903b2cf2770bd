//! One writer at a time among several that push at once: sixteen machines or processes, two machines with the same
//! name, a Python node between two of our requests. What is in the bucket afterwards is always one push, whole.

use std::path::Path;
use std::time::Duration;

use crate::common::{memory, restored};
use crate::fencing::{bucket_is, lock_is_free, machine, push_stopped_at, two_in_step};
use crate::support::claude_mem::{self, Version};
use crate::support::machine::Machine;
use crate::support::process::{Outcome, Running};
use crate::support::python_node::{self, PythonNode};
use crate::support::s3::{Fault, Op, S3Server};

#[test]
fn f18_conflicts_are_tried_again() {
    let server = S3Server::start();
    let (alpha, _) = two_in_step(&server);
    let _conflict = server.fault(Fault::Conflict409.key("locks/").next(2));
    alpha.cmd("push_sqlite").run().assert_code(0);
    bucket_is(&server, &alpha);
}

#[test]
fn f18_two_machines_with_the_same_host_name_exclude_each_other() {
    let server = S3Server::start();
    let (mut alpha, mut beta) = two_in_step(&server);
    for machine in [&mut alpha, &mut beta] {
        machine.set("MEMBRIDGE_HOSTNAME", "raspberrypi");
    }
    let stopped = push_stopped_at(&alpha, "push.before-upload");
    beta.cmd("push_sqlite").run().assert_code(1).stdout_has("LOCK ACTIVE — held by raspberrypi for");
    stopped.sigcont();
    stopped.wait().assert_code(0);
    bucket_is(&server, &alpha);
}

#[test]
fn f20_what_changed_before_the_lock_was_held_is_seen_under_it() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_step(&server);
    let (handle, database) = (server.handle(), beta.db_path());
    server.before_next(Op::PutObject, "locks/active.lock", move || {
        PythonNode::new(&handle, "mem", "beta").write(
            &database,
            jiff::Timestamp::now().as_second() - 9000,
            python_node::Stop::Never,
        );
    });
    let theirs = claude_mem::titles(beta.db_path());
    alpha.cmd("push_sqlite").run().assert_code(0).stdout_has("the push of beta is taken in");
    // What came in between is memory of all, and a commit of its own.
    let here = claude_mem::titles(alpha.db_path());
    assert!(theirs.iter().all(|title| here.contains(title)), "{here:?}");
    assert_eq!(here.len(), 26);
    bucket_is(&server, &alpha);
    assert_eq!(restored(&alpha, 2), theirs);
}

#[test]
fn f20_a_machine_that_dies_behind_the_commit_of_a_python_push_holds_nobody_up() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_step(&server);
    let python = machine("python", &server);
    python.create_db(Version::V13_25_3).add_session("theirs").add_observations(4);
    PythonNode::new(&server, "mem", "python").write(
        &python.db_path(),
        jiff::Timestamp::now().as_second() - 9000,
        python_node::Stop::Never,
    );
    alpha.cmd("push_sqlite").env("MEMBRIDGE_FAILPOINT", "push.before-release").run().assert_code(137);
    server.set_clock_offset(7200 + 60 + 30);
    beta.cmd("push_sqlite").run().assert_code(0).stdout_lacks("archived first");
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 20 + 3 + 3 + 4);
}

#[test]
fn f47_a_python_push_just_before_our_commit_is_not_overwritten() {
    // Python forces its way: it neither asks for the lock nor writes it. The moments: before the last reading of the
    // manifest, and between that and the upload.
    for moment in ["manifest", "upload"] {
        let server = S3Server::start();
        let (alpha, beta) = two_in_step(&server);
        let (handle, database) = (server.handle(), beta.db_path());
        let mut manifests = 0;
        let mut done = false;
        server.on_request(move |op, key| {
            manifests += usize::from(op == Op::GetObject && key.ends_with("manifest.json"));
            let now = match moment {
                // 1: the first look; 2: under the lock; 3: the last look.
                "manifest" => manifests == 3,
                _ => op == Op::PutObject && key.ends_with("claude-mem.db"),
            };
            if now && !done {
                done = true;
                forced_python_push(&handle, &database);
            }
        });
        alpha.cmd("push_sqlite").run().assert_code(1);
        server.clear_hook();
        bucket_is(&server, &beta);
        lock_is_free(&server);
    }
}

fn forced_python_push(server: &crate::support::s3::Handle, database: &Path) {
    let lock = server.get(&python_node::key("mem", "locks/active.lock")).unwrap();
    let now = jiff::Timestamp::now().as_second();
    PythonNode::new(server, "mem", "beta").write(database, now, python_node::Stop::Never);
    server.put(&python_node::key("mem", "locks/active.lock"), lock);
}

/// All of them at once; each ends with success, a refusal or an error.
pub fn push_all(machines: &[Machine]) -> Vec<Outcome> {
    let runs: Vec<_> = machines
        .iter()
        .map(|machine| machine.cmd("push_sqlite").timeout(Duration::from_mins(3)).spawn())
        .collect();
    let ends: Vec<_> = runs.into_iter().map(Running::wait).collect();
    for end in &ends {
        assert!([0, 1].contains(&end.code), "{end:?}");
    }
    ends
}

#[test]
fn f18_sixteen_machines_pushing_at_once() {
    let server = S3Server::start();
    let machines: Vec<Machine> = (0..16)
        .map(|number| {
            let machine = machine(&format!("node-{number}"), &server);
            machine.create_db(Version::V13_25_3).add_session("one").add_observations(5 + number);
            machine
        })
        .collect();
    let ends = push_all(&machines);
    let won = ends.iter().filter(|end| end.code == 0).count();
    assert!(won >= 1, "{ends:#?}");
    lock_is_free(&server);
    // The archive is one machine's at a time; the rows are everybody's, whoever archived them.
    for machine in &machines {
        machine.cmd("sync --for turn").run().assert_code(0);
    }
    let all = memory(&machines[15].db_path());
    assert_eq!(claude_mem::counts(machines[15].db_path()).observations, (0..16).map(|n| 5 + n).sum::<i64>());
    for machine in &machines {
        machine.cmd("sync --for start").run().assert_code(0);
        assert_eq!(memory(&machine.db_path()), all, "{}", machine.name);
    }
    machines[3].cmd("push_sqlite").run().assert_code(0);
    bucket_is(&server, &machines[3]);
}

/// Sixteen processes of one machine: they wait for each other, one pushes, the others find nothing to do.
#[test]
fn f18_sixteen_processes_of_one_machine_pushing_at_once() {
    let server = S3Server::start();
    let alpha = machine("alpha", &server);
    alpha.create_db(Version::V13_25_3).add_session("one").add_observations(9);
    let runs: Vec<_> = (0..16).map(|_| alpha.cmd("push_sqlite").spawn()).collect();
    let ends: Vec<_> = runs.into_iter().map(Running::wait).collect();
    let pushed = ends.iter().filter(|end| end.assert_code(0).stdout.contains("PUSH COMPLETE")).count();
    assert_eq!(pushed, 1);
    bucket_is(&server, &alpha);
}
