//! doctor on a machine where all is well: what it says, what it exits with, and that it changes nothing.

use serde_json::Value;

use crate::common::with_memory;
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::machine::Machine;
use crate::support::process::Outcome;
use crate::support::s3::{Fault, S3Server};

/// A machine with memory, hooks and a worker, before its first push.
pub(super) fn equipped(name: &str, server: &S3Server) -> (Machine, FakeWorker) {
    let mut machine = Machine::new(name, server);
    let worker = FakeWorker::start(Behaviour { database: Some(machine.db_path()), ..Behaviour::default() });
    machine.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    machine.write(".claude/settings.json", "{}");
    machine.cmd("hooks install --write-settings").run().assert_code(0);
    (machine, worker)
}

/// What `doctor --json` says.
pub(super) struct Said(pub(super) Value, pub(super) Outcome);

impl Said {
    pub(super) fn by(machine: &Machine, flags: &str) -> Said {
        let outcome = machine.cmd(&format!("doctor --json {flags}")).run();
        Said(outcome.json(), outcome)
    }

    #[track_caller]
    pub(super) fn status(&self, wanted: &str) -> &Said {
        assert_eq!(self.0["status"], wanted, "{:?}", self.1);
        self
    }

    /// A check's result, and a part of its text.
    #[track_caller]
    pub(super) fn check(&self, name: &str, result: &str, text: &str) -> &Said {
        let checks = self.0["checks"].as_array().unwrap();
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("no check {name}: {:?}", self.1));
        assert_eq!(check["result"], result, "{check}");
        assert!(check["text"].as_str().unwrap().contains(text), "{check} lacks {text:?}");
        let needs_remedy = matches!(result, "warning" | "error");
        assert_eq!(check["remedy"].is_string(), needs_remedy, "{check}");
        self
    }
}

/// Everything on the machine, with its content.
fn snapshot(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let bytes = std::fs::read(machine.path(&name)).unwrap();
        (name, bytes)
    };
    machine.files().into_iter().map(read).collect()
}

#[test]
fn a_healthy_primary() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    Said::by(&alpha, "--strict")
        .status("ok")
        .check("project", "ok", "project_name: mem")
        .check("canonical_id", "ok", "canonical_project_id: 6fe2e0f6071ac2bb")
        .check("reach", "ok", "the bucket answers")
        .check("conditional_writes", "ok", "conditional writes work")
        .check("lock", "ok", "free (last held by alpha)")
        .check("observations", "ok", "observations: 5 (1 summary, 2 prompts, 1 session)")
        .check("schema", "ok", "version 52")
        .check("worker", "ok", "claude-mem 13.25.3")
        .check("hook_session_start", "ok", "claude-mem-hook-pull")
        .check("hook_stop", "ok", "claude-mem-hook-push")
        .check("role", "ok", "role: primary")
        .check("primary", "ok", "primary: alpha, by default")
        .check("epoch", "ok", "epoch: 1")
        .check("sync_state", "ok", "safe: all 5 observations are in the store")
        .check("free_space", "ok", "the next pull needs");
    let text = alpha.cmd("doctor").run();
    text.assert_code(0);
    let headings: Vec<_> = text.stdout.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(
        headings[..7],
        [
            "[1/5] Project identity",
            "[2/5] MinIO connectivity",
            "[3/5] Lock status",
            "[4/5] SQLite DB health",
            "[5/5] Worker health",
            "[+] Hooks",
            "[+] Leadership"
        ]
    );
    for label in ["role: ", "primary: ", "epoch: ", "observations: "] {
        text.stdout_has(label);
    }
    assert_eq!(text.stdout.lines().last(), Some("STATUS: OK — READY FOR PRODUCTION"));
}

#[test]
fn a_healthy_secondary() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let (mut beta, _worker) = equipped("beta", &server);
    beta.set("PRIMARY_NODE_ID", "alpha");
    beta.cmd("pull_sqlite").run().assert_code(0);
    Said::by(&beta, "--strict")
        .status("ok")
        .check("role", "ok", "role: secondary")
        .check("primary", "ok", "primary: alpha, by default")
        .check("sync_state", "ok", "safe: all 5 observations are in the store")
        .check("last_sync", "ok", "last sync: just now");
}

#[test]
fn f42_doctor_and_status_change_nothing_anywhere() {
    let server = S3Server::start();
    // No worker: the fake one opens the database too, and leaves SQLite's side files.
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let before = snapshot(&alpha);
    server.reset_log();
    for command in ["doctor", "doctor --json", "status", "status --oneline", "leadership_info", "config"] {
        alpha.cmd(command).run().assert_code(0);
    }
    assert!(server.keys("").is_empty(), "{:?}", server.keys(""));
    let wrote: Vec<_> = server.requests().into_iter().filter(|request| request.op.writes()).collect();
    assert!(wrote.is_empty(), "{wrote:?}");
    assert_eq!(snapshot(&alpha), before);

    alpha.cmd("push_sqlite").run().assert_code(0);
    let (before, objects) = (snapshot(&alpha), server.keys(""));
    server.reset_log();
    for command in ["doctor", "status", "status --oneline"] {
        alpha.cmd(command).run().assert_code(0);
    }
    assert!(!server.requests().iter().any(|request| request.op.writes()));
    assert_eq!((snapshot(&alpha), server.keys("")), (before, objects));
}

/// Not even the file that a directory store is asked for its time with; commands that show a lease need the time (F48).
#[test]
fn f42_commands_that_need_no_time_leave_no_trace_in_a_directory_store() {
    let store = tempfile::tempdir().unwrap();
    let alpha = Machine::new("alpha", store.path());
    with_memory(&alpha);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let before = folder_times(store.path());
    for command in ["history", "verify --all", "diff 1 1", "mirror status", "pull_sqlite --dry-run"] {
        alpha.cmd(command).run().assert_code(0);
        assert_eq!(folder_times(store.path()), before, "{command}");
    }
}

/// When something was last made or removed in each folder.
fn folder_times(folder: &std::path::Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut times = vec![(folder.to_owned(), std::fs::metadata(folder).unwrap().modified().unwrap())];
    let mut inside: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inside.sort();
    for path in inside.iter().filter(|path| path.is_dir()) {
        times.extend(folder_times(path));
    }
    times
}

#[test]
fn the_probe_is_made_only_when_it_is_asked_for() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    Said::by(&alpha, "").check("conditional_writes", "info", "not known yet");
    Said::by(&alpha, "--probe").check("conditional_writes", "ok", "conditional writes work");
    assert!(server.keys("").is_empty(), "the probe cleans up: {:?}", server.keys(""));
    let _ignores = server.fault(Fault::IgnoresConditions);
    Said::by(&alpha, "--probe").check("conditional_writes", "info", "claims are used instead");
}
