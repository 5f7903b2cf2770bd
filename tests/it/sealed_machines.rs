//! Machines that were there before the project was sealed, or sealed anew: none of them writes anything that others can read
//! without the key, and none of their rows is lost.

use crate::common::{COMMITS, memory, with_memory};
use crate::sealed::{ROOT, everything, joined, key_of, rows_of, seal_it};
use crate::support::claude_mem::Version;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Op, S3Server};

/// Alpha and beta in the clear, both synced, no copy for Python nodes.
fn two_in_the_clear(server: &S3Server) -> (Machine, Machine) {
    let (alpha, beta) = (Machine::new("alpha", server), Machine::new("beta", server));
    with_memory(&alpha);
    alpha.cmd("sync").run().assert_code(0);
    beta.cmd("sync").run().assert_code(0);
    alpha.cmd("mirror off").run().assert_code(0);
    (alpha, beta)
}

/// Objects that hold memory and are not sealed.
fn in_the_clear(server: &S3Server) -> Vec<String> {
    let memory = [format!("{ROOT}membridge/rows/"), COMMITS.to_owned(), format!("{ROOT}membridge/packs/")];
    let mut clear: Vec<String> = everything(server)
        .into_iter()
        .filter(|(key, _)| memory.iter().any(|folder| key.starts_with(folder)))
        .filter(|(_, bytes)| !bytes.starts_with(b"MBSEAL") && !bytes.starts_with(b"{\"schema\":2"))
        .map(|(key, _)| key)
        .collect();
    clear.sort();
    clear
}

/// All have the same memory after each has synced twice.
#[track_caller]
fn settled(machines: &[&Machine]) {
    for _ in 0..2 {
        for machine in machines {
            machine.cmd("sync").run().assert_code(0);
        }
    }
    for machine in machines {
        let same = memory(&machine.db_path()) == memory(&machines[0].db_path());
        assert!(same, "{}: {} observations", machine.name, rows_of(machine, "observations"));
    }
}

/// What a person types on `machine`, with the key that `other` has.
fn gets_the_key(machine: &Machine, other: &Machine) {
    machine.cmd("key import").stdin(format!("{}\n", key_of(other))).run().assert_code(0);
}

/// From the moment it has the key, everything that it sends is sealed, and nothing of it is lost.
#[track_caller]
fn joins_sealed(server: &S3Server, machine: &Machine, other: &Machine) {
    let clear = in_the_clear(server);
    gets_the_key(machine, other);
    settled(&[machine, other]);
    let now = in_the_clear(server);
    assert!(now.iter().all(|key| clear.contains(key)), "{now:?}");
}

/// Alpha with memory, sealed from the start, and beta, which was given the key; both have synced.
fn two_sealed(server: &S3Server) -> (Machine, Machine) {
    let alpha = Machine::new("alpha", server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("sync").run().assert_code(0);
    let beta = joined(server, "beta", &key_of(&alpha));
    beta.cmd("sync").run().assert_code(0);
    (alpha, beta)
}

#[test]
fn a_machine_that_knew_the_project_in_the_clear_writes_nothing_into_it_once_it_is_sealed() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_the_clear(&server);
    seal_it(&alpha);
    beta.db().add_session("beta").add_observations(3);
    // Before alpha has synced, and after.
    for _ in 0..2 {
        let before = everything(&server);
        for command in ["sync", "push_sqlite", "pull_sqlite", "sync --for turn", "sync --for start"] {
            let refused = beta.cmd(command).run().assert_code(1).stdout.clone();
            assert!(
                refused.contains("is sealed with key") && refused.contains("key import"),
                "{command}: {refused}"
            );
        }
        assert_eq!(everything(&server), before);
        alpha.cmd("sync").run().assert_code(0);
    }
    joins_sealed(&server, &beta, &alpha);
    assert_eq!(rows_of(&alpha, "observations"), 8);
}

#[test]
fn a_segment_that_was_to_leave_in_the_clear_stays_and_its_rows_leave_sealed() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_the_clear(&server);
    beta.db().add_session("beta").add_observations(3);
    beta.cmd("sync").env("MEMBRIDGE_FAILPOINT", "rows.outbox").run();
    seal_it(&alpha);
    alpha.cmd("sync").run().assert_code(0);
    joins_sealed(&server, &beta, &alpha);
    assert_eq!(rows_of(&alpha, "observations"), 8);
}

#[test]
fn what_was_under_way_in_the_clear_while_the_project_was_sealed_is_not_lost() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_the_clear(&server);
    beta.db().add_session("beta").add_observations(3);
    // Beta has looked, and publishes after alpha has sealed.
    let wait = beta.write("wait", "");
    let run = beta
        .cmd("sync")
        .env("MEMBRIDGE_FAILPOINT", "rows.outbox=wait")
        .env("MEMBRIDGE_FAILPOINT_FILE", &wait)
        .env("MEMBRIDGE_FAILPOINT_LOG", beta.path("passed"))
        .spawn();
    while !std::fs::read_to_string(beta.path("passed")).unwrap_or_default().contains("rows.outbox") {
        assert!(!run.ended());
        std::thread::yield_now();
    }
    seal_it(&alpha);
    std::fs::remove_file(wait).unwrap();
    run.wait();
    // Nobody takes it for memory, and beta is told.
    alpha.cmd("sync").run();
    assert_eq!(rows_of(&alpha, "observations"), 5);
    beta.cmd("sync").run().assert_code(1);
    gets_the_key(&beta, &alpha);
    // A push that beta made in the clear stands where the next one belongs.
    if alpha.cmd("push_sqlite").run().code != 0 {
        let listed = alpha.cmd("key init --purge").run().assert_code(0).stdout.clone();
        assert!(listed.contains("accepted by nobody") && listed.contains("would go:"), "{listed}");
        alpha.cmd("key init --purge --yes").run().assert_code(0);
    }
    settled(&[&beta, &alpha]);
    assert_eq!(rows_of(&alpha, "observations"), 8);
    let gamma = joined(&server, "gamma", &key_of(&alpha));
    gamma.cmd("sync").run().assert_code(0);
    assert_eq!(rows_of(&gamma, "observations"), 8);
}

#[test]
fn a_seal_that_was_cut_off_leaves_nothing_unreadable_and_is_made_by_the_same_command() {
    let server = S3Server::start();
    let (alpha, beta) = two_in_the_clear(&server);
    // The note is the moment.
    let end = alpha.cmd("key init").env("MEMBRIDGE_FAILPOINT", "key.sealed").run();
    assert_ne!(end.code, 0);
    assert!(alpha.path(".claude-mem-minio/fleet.key").exists(), "the key of a sealed project never goes");
    alpha.cmd("sync").run().assert_code(0);
    beta.cmd("sync").run().assert_code(1);
    // Before it: nobody writes in the clear any more, and the same command goes on.
    let server = S3Server::start();
    let (alpha, beta) = two_in_the_clear(&server);
    let fault = server.fault(Fault::Status(403, "AccessDenied").on(Op::PutObject).key("membridge/key.json"));
    let refused = alpha.cmd("key init").run();
    assert_ne!(refused.code, 0);
    drop(fault);
    let before = everything(&server);
    let said = alpha.cmd("sync").run().assert_code(1).stdout.clone();
    assert!(said.contains("membridge key init"), "{said}");
    beta.cmd("sync").run().assert_code(1);
    assert_eq!(everything(&server).len(), before.len());
    let key = key_of(&alpha);
    alpha.cmd("key init").run().assert_code(0);
    assert_eq!(key_of(&alpha), key);
    alpha.cmd("sync").run().assert_code(0);
}

#[test]
fn after_a_rotation_a_machine_with_the_old_key_waits_for_the_new_one() {
    let server = S3Server::start();
    let (alpha, beta) = two_sealed(&server);
    alpha.cmd("key passphrase").stdin("correct horse battery staple\n").run().assert_code(0);
    alpha.cmd("key rotate").run().assert_code(0);
    // The passphrase brought the old key.
    assert!(server.keys(&format!("{ROOT}membridge/keys/")).is_empty());
    beta.db().add_session("beta").add_observations(3);
    let before = everything(&server);
    let refused = beta.cmd("sync").run().assert_code(1).stdout.clone();
    assert!(refused.contains("key import"), "{refused}");
    assert_eq!(everything(&server), before, "nothing is sealed with a key that somebody else may have");
    gets_the_key(&beta, &alpha);
    settled(&[&alpha, &beta]);
    assert_eq!(rows_of(&alpha, "observations"), 8);
    // Everything that is there from now on can be read with the new key alone.
    alpha.db().add_session("more").add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let listed = alpha.cmd("key init --purge --yes").run().assert_code(0).stdout.clone();
    assert!(listed.contains("deleted:"), "{listed}");
    server.age(2 * 86_400);
    settled(&[&alpha, &beta]);
    let gamma = joined(&server, "gamma", &key_of(&alpha));
    gamma.cmd("sync").run().assert_code(0);
    assert_eq!(memory(&gamma.db_path()), memory(&alpha.db_path()));
    alpha.cmd("verify --all").run().assert_code(0);
}

/// The lock that it left is its own, although its name looks otherwise under the new key.
#[test]
fn a_change_of_the_key_that_was_cut_off_keeps_nobody_waiting() {
    let server = S3Server::start();
    let (alpha, beta) = two_sealed(&server);
    alpha.cmd("key rotate").env("MEMBRIDGE_FAILPOINT", "key.sealed").run();
    beta.cmd("key import").stdin(format!("{}\n", key_of(&alpha))).run().assert_code(0);
    // Whose it is everybody sees.
    beta.cmd("key rotate").run().assert_code(1).says("held by alpha");
    alpha.cmd("push_sqlite").run().assert_code(0);
    alpha.cmd("key rotate").run().assert_code(0);
    beta.cmd("key import").stdin(format!("{}\n", key_of(&alpha))).run().assert_code(0);
    settled(&[&alpha, &beta]);
}

#[test]
fn a_lost_key_costs_the_bucket_and_no_memory() {
    let server = S3Server::start();
    let (alpha, beta) = two_sealed(&server);
    beta.db().add_session("beta").add_observations(2);
    for machine in [&alpha, &beta] {
        std::fs::remove_file(machine.path(".claude-mem-minio/fleet.key")).unwrap();
        let said = machine.cmd("sync").run().assert_code(1).stdout.clone();
        assert!(said.contains("has no key"), "{said}");
    }
    // As DEPLOYMENT.md says: another project name, a new key, everybody comes again.
    let again =
        |machine: &Machine, command: &str| machine.cmd(command).env("CLAUDE_PROJECT_ID", "mem-2").run();
    again(&alpha, "key init").assert_code(0);
    again(&alpha, "sync").assert_code(0);
    let key = key_of(&alpha);
    let import = beta.cmd("key import").env("CLAUDE_PROJECT_ID", "mem-2").stdin(format!("{key}\n")).run();
    import.assert_code(0);
    for machine in [&beta, &alpha] {
        again(machine, "sync").assert_code(0);
    }
    assert_eq!(rows_of(&alpha, "observations"), 7);
    assert_eq!(memory(&alpha.db_path()), memory(&beta.db_path()));
}

#[test]
fn a_machine_with_a_key_writes_nothing_into_a_project_in_the_clear() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    alpha.cmd("sync").run().assert_code(0);
    let other = S3Server::start();
    let beta = Machine::new("beta", &other);
    beta.create_db(Version::V13_25_3).add_session("beta").add_observations(2);
    seal_it(&beta);
    // The same machine, pointed to the other bucket.
    let mut beta = beta;
    beta.use_store(&server);
    let before = everything(&server);
    let said = beta.cmd("sync").run().assert_code(1).stdout.clone();
    assert!(said.contains("is not sealed"), "{said}");
    assert_eq!(everything(&server), before);
}

#[test]
fn a_sealed_project_begins_anew_in_a_store_that_was_emptied() {
    let server = S3Server::start();
    let (alpha, beta) = two_sealed(&server);
    beta.db().add_session("beta").add_observations(2);
    server.clear();
    alpha.cmd("sync").run().assert_code(1).says("--new-store");
    assert!(everything(&server).is_empty());
    alpha.cmd("sync --new-store").run().assert_code(0);
    beta.cmd("sync --new-store").run().assert_code(0);
    settled(&[&alpha, &beta]);
    assert_eq!(rows_of(&alpha, "observations"), 7);
    assert!(in_the_clear(&server).is_empty());
    let stranger = Machine::new("stranger", &server);
    with_memory(&stranger);
    stranger.cmd("sync").run().assert_code(1).says("is sealed with key");
    let gamma = joined(&server, "gamma", &key_of(&alpha));
    gamma.cmd("sync").run().assert_code(0);
    assert_eq!(rows_of(&gamma, "observations"), 7);
}
