//! Machines: isolated environment, deadlines, signals.

use std::time::{Duration, Instant};

use crate::support::machine::Machine;
use crate::support::normalise::normalise;
use crate::support::s3::S3Server;

#[test]
fn a_machine_sees_only_its_own_environment() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let outcome = machine.program("/usr/bin/env").env("EXTRA", "1").env_remove("TZ").run();
    let names: Vec<&str> = outcome.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    let mut wanted = vec![
        "CLAUDE_MEM_DB",
        "CLAUDE_MEM_WORKER_PORT",
        "CLAUDE_PROJECT_ID",
        "EXTRA",
        "HOME",
        "MEMBRIDGE_HOSTNAME",
        "MEMBRIDGE_NODE_ID",
        "MINIO_ACCESS_KEY",
        "MINIO_BUCKET",
        "MINIO_ENDPOINT",
        "MINIO_SECRET_KEY",
        "PATH",
        "TMPDIR",
    ];
    wanted.extend(std::env::var_os("LLVM_PROFILE_FILE").map(|_| "LLVM_PROFILE_FILE"));
    wanted.sort_unstable();
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, wanted);
    outcome.success().stdout_has("MEMBRIDGE_NODE_ID=alpha").stdout_has(&server.endpoint());
    let port = outcome.stdout.lines().find_map(|line| line.strip_prefix("CLAUDE_MEM_WORKER_PORT="));
    let address = format!("127.0.0.1:{}", port.expect("a port"));
    let refused = std::net::TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(machine.files(), Vec::<String>::new());
}

#[test]
fn codes_input_and_signals_come_through() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let shell = |script: &str| machine.program("/bin/sh").arg("-c").arg(script);
    let outcome = shell("cat; echo oops >&2; exit 3").stdin("hello").run();
    outcome.assert_code(3).stdout_has("hello").stderr_has("oops").stdout_lacks("oops");
    let running = shell("echo ready; exec sleep 60").spawn();
    running.wait_for_stdout("ready");
    running.sigstop().sigcont().sigterm();
    running.wait().assert_code(143);
    let running = shell("echo ready; exec sleep 60").spawn();
    running.kill9();
    running.wait().assert_code(137);
}

#[test]
#[should_panic(expected = "killed at its deadline")]
fn a_run_that_hangs_fails() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let started = Instant::now();
    let run = machine.program("/bin/sleep").arg("60").timeout(Duration::from_millis(100));
    run.run();
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn output_is_normalised() {
    let text = "at 2026-01-02T03:04:05.678Z and 2026-01-02T03:04:05+00:00, backup 20260102-030405, \
                audit 20260102T030405Z, http://127.0.0.1:40123/x, epoch 1767322800, id 6fe2e0f6071ac2bb, \
                sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    assert_eq!(
        normalise(text),
        "at [TIME] and [TIME], backup [TIME], audit [TIME], http://127.0.0.1:[PORT]/x, epoch [EPOCH], \
         id 6fe2e0f6071ac2bb, sha [HASH]"
    );
}

#[test]
fn the_built_binary_runs_here() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let outcome = machine.cmd("print_project").env("CLAUDE_PROJECT_ID", "сад").run();
    outcome.success().stdout_has("canonical_project_id: e4b16ee4be9e8cde");
}
