//! What `make test-dist` takes each static binary through, besides the measurement: every command that a person meets in
//! the first days, over the in-process S3 server, on two machines. Usage: MEMBRIDGE_BIN=path tour

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use support::claude_mem::{self, Version};
use support::machine::Machine;
use support::process::Outcome;
use support::s3::S3Server;

/// Under an emulator everything is slow.
const PATIENCE: Duration = Duration::from_mins(5);

fn run(machine: &Machine, words: &str) -> Outcome {
    let outcome = machine.cmd(words).timeout(PATIENCE).run();
    outcome.assert_code(0);
    println!("  {}: {words}: ok", machine.name);
    outcome
}

fn main() {
    let binary = PathBuf::from(std::env::var_os("MEMBRIDGE_BIN").expect("MEMBRIDGE_BIN: the binary to try"));
    let server = S3Server::start();
    let desk = Machine::with_binary(binary.clone(), "desk", &server);
    let board = Machine::with_binary(binary, "board", &server);
    desk.create_db(Version::V13_25_3).add_session("one").add_observations(50).add_prompts(5);

    let version = run(&desk, "--version");
    version.stdout_has("linux-musl").stdout_has("SQLite");
    print!("  {}", version.stdout.lines().next().unwrap_or_default());
    println!();
    run(&desk, "print_project").stdout_has("canonical_project_id: 6fe2e0f6071ac2bb");
    run(&desk, "push_sqlite --dry-run").stdout_has("would upload");
    run(&desk, "push_sqlite").stdout_has("PUSH COMPLETE");
    run(&board, "pull_sqlite").stdout_has("SYNC COMPLETE");
    assert_eq!(
        claude_mem::counts(desk.db_path()),
        claude_mem::counts(board.db_path()),
        "the same rows on both machines"
    );
    desk.db().add_observations(5);
    run(&desk, "push_sqlite").stdout_has("commit 2");
    run(&board, "pull_sqlite").stdout_has("SYNC COMPLETE");
    run(&board, "sync");
    run(&board, "history").stdout_has("#2").stdout_has("#1");
    run(&board, "diff 1 2").stdout_has("observations: 5 added");
    run(&board, "verify --all").stdout_has("verified: 2 commits");
    run(&board, "restore 1 --to before.db").stdout_has("50 observations");
    run(&board, "doctor").stdout_has("[5/5] Worker health");
    run(&board, "doctor --no-network").stdout_has("[1/5] Project identity");
    run(&board, "leadership_info").stdout_has("role: secondary");
    run(&board, "status");
    run(&board, "config");

    // As Claude Code calls it: JSON on standard input, nothing on standard output, whatever happens.
    let hook = desk
        .cmd("hook stop")
        .stdin(r#"{"session_id":"one","hook_event_name":"Stop","stop_hook_active":false}"#)
        .timeout(PATIENCE)
        .run();
    hook.assert_code(0);
    assert!(hook.stdout.is_empty(), "a hook must print nothing: {hook:?}");
    let log = std::fs::read_to_string(desk.path(".claude-mem-minio/hook.log")).expect("hook.log");
    assert!(log.contains("event=stop"), "{log}");
    println!("  desk: hook stop: ok, nothing printed");
}
