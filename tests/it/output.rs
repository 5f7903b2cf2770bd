//! What the commands that move memory print in their main situations, and those that say who may: stdout and stderr
//! together, in a home of its own. output_setup.rs: the commands about a machine and the program.

use std::fmt::Write;

use crate::common::with_memory;
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

/// Two machines and a bucket. alpha has memory, beta has none.
pub(super) struct Fleet {
    pub(super) alpha: Machine,
    pub(super) beta: Machine,
    pub(super) server: S3Server,
}

impl Fleet {
    pub(super) fn new() -> Fleet {
        let server = S3Server::start();
        let alpha = Machine::new("alpha", &server);
        with_memory(&alpha);
        let beta = Machine::new("beta", &server);
        Fleet { alpha, beta, server }
    }
}

/// Runs commands one after the other; what a person saw.
pub(super) fn told(machine: &Machine, commands: &[&str]) -> String {
    let mut all = String::new();
    for command in commands {
        let outcome = machine.cmd(command).run();
        write!(all, "{}$ membridge {command}\n{}", machine.name, outcome.stdout).unwrap();
        for line in outcome.stderr.lines() {
            writeln!(all, "(stderr) {line}").unwrap();
        }
        if outcome.code != 0 {
            writeln!(all, "[exit code {}]", outcome.code).unwrap();
        }
    }
    machine.normalise(&all)
}

macro_rules! assert_told {
    ($said:expr, @$wanted:literal) => {{
        let said = $said;
        insta::with_settings!({
            filters => vec![
                (r"(CLAUDE_MEM_WORKER_PORT='?)\d+", "$1[PORT]"),
                (r"\d+\.\d+\.\d+ (here|wrote)", "[VERSION] $1"),
                (r"for \d+s", "for [N]s"),
                (r"expires_at: [^(]+ \(", "expires_at: [TIME] ("),
                (r"in \d+s", "in [N]s"),
                (r"\d+\.\d+ [kMG]B", "[SIZE]"),
                (r"\b[0-9a-f]{12}\b", "[SHORT]"),
                (r"for another \d+ min", "for another [N] min"),
            ],
        }, { insta::assert_snapshot!(said, @$wanted); });
    }};
}
pub(super) use assert_told;

#[test]
fn push_first_again_and_after_new_memory() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["push_sqlite", "push_sqlite"]);
    fleet.alpha.db().add_observations(2);
    said += &told(&fleet.alpha, &["push_sqlite", "push_sqlite --quiet", "push_sqlite --json"]);
    assert_told!(said, @r#"
    alpha$ membridge push_sqlite
    [0/6] Leadership: role=primary (primary: alpha)
    [1/6] Local database: [HOME]/.claude-mem/claude-mem.db
    [2/6] sending: 5 observations, 1 summary, 2 prompts, 1 session
    [2/6] Snapshot: 5 observations, 1 summary, 2 prompts, 1 session ([SIZE])
    [3/6] Lock
    [5/6] Upload: [SIZE]; for Python nodes [SIZE] (none? membridge mirror off)
    [6/6] Verified: commit 1 sha256 [SHORT]
    PUSH COMPLETE (5 observations, 1 summary, 2 prompts, 1 session)
    alpha$ membridge push_sqlite
    [0/6] Leadership: role=primary (primary: alpha)
    [1/6] Local database: [HOME]/.claude-mem/claude-mem.db
    already up to date (5 observations, 1 summary, 2 prompts, 1 session)
    alpha$ membridge push_sqlite
    [0/6] Leadership: role=primary (primary: alpha)
    [1/6] Local database: [HOME]/.claude-mem/claude-mem.db
    [2/6] sending: 2 observations
    [2/6] Snapshot: 7 observations, 1 summary, 2 prompts, 1 session ([SIZE])
    [3/6] Lock
    [5/6] Upload: [SIZE]; for Python nodes [SIZE] (none? membridge mirror off)
    [6/6] Verified: commit 2 sha256 [SHORT]
    PUSH COMPLETE (7 observations, 1 summary, 2 prompts, 1 session)
    alpha$ membridge push_sqlite --quiet
    alpha$ membridge push_sqlite --json
    {
      "schema": 1,
      "command": "push_sqlite",
      "exit_code": 0,
      "outcome": "up_to_date",
      "observations": 7,
      "received": {},
      "changed": {},
      "deleted": {},
      "sent": {},
      "conflicts": 0,
      "moved": ""
    }
    "#);
}

#[test]
fn pull_first_again_and_after_somebody_pushed() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.beta, &["pull_sqlite"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.beta, &["pull_sqlite", "pull_sqlite"]);
    fleet.alpha.db().add_observations(2);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.beta, &["pull_sqlite", "restore-backup"]);
    fleet.beta.db().add_observations(1);
    said += &told(&fleet.beta, &["pull_sqlite --json"]);
    assert_told!(said, @r#"
    beta$ membridge pull_sqlite
    ERROR: nothing to pull: http://127.0.0.1:[PORT]/membridge-test holds no database for project mem (6fe2e0f6071ac2bb)
      → push from the machine that has the memory: membridge push_sqlite
      → check CLAUDE_PROJECT_ID: membridge print_project
    [exit code 1]
    beta$ membridge pull_sqlite
    [1/7] Remote: 5 observations, pushed by alpha [AGO]
    [2/7] Leadership: role=secondary (primary: alpha)
    [3/7] Fetched and checked: 5 observations, 1 summary, 2 prompts, 1 session ([SIZE])
    [6/7] Installed: [HOME]/.claude-mem/claude-mem.db
    [7/7] Here now: 5 observations, 1 summary, 2 prompts, 1 session
    SYNC COMPLETE (5 observations, 1 summary, 2 prompts, 1 session)
    beta$ membridge pull_sqlite
    [1/7] Remote: 5 observations, pushed by alpha [AGO]
    [2/7] Leadership: role=secondary (primary: alpha)
    already up to date (5 observations, 1 summary, 2 prompts, 1 session)
    beta$ membridge pull_sqlite
    [1/7] Remote: 7 observations, pushed by alpha [AGO]
    [2/7] Leadership: role=secondary (primary: alpha)
    [3/7] received: 2 observations
    [7/7] Here now: 7 observations, 1 summary, 2 prompts, 1 session
    SYNC COMPLETE (7 observations, 1 summary, 2 prompts, 1 session)
    beta$ membridge restore-backup
    no backups of [HOME]/.claude-mem/claude-mem.db in [HOME]/.claude-mem/backups/pull-overwrite
    beta$ membridge pull_sqlite --json
    {
      "schema": 1,
      "command": "pull_sqlite",
      "exit_code": 0,
      "outcome": "pulled",
      "observations": 8,
      "received": {},
      "changed": {},
      "deleted": {},
      "sent": {
        "observations": 1,
        "sdk_sessions": 1
      },
      "conflicts": 0,
      "moved": "sent 1 observation, 1 session",
      "sha256": "[HASH]"
    }
    "#);
}

#[test]
fn sync_on_both_sides() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["sync"]);
    said += &told(&fleet.beta, &["sync", "sync --json"]);
    assert_told!(said, @r#"
    alpha$ membridge sync
    [1/7] Leadership: role=primary (primary: alpha)
    [5/7] sending: 5 observations, 1 summary, 2 prompts, 1 session
    [6/7] Snapshot: 5 observations, 1 summary, 2 prompts, 1 session ([SIZE])
    [6/7] Lock
    [6/7] Upload: [SIZE]; for Python nodes [SIZE] (none? membridge mirror off)
    [7/7] Verified: commit 1 sha256 [SHORT]
    SYNC COMPLETE (5 observations, 1 summary, 2 prompts, 1 session)
    beta$ membridge sync
    [1/7] Leadership: role=secondary (primary: alpha)
    [3/7] Fetched and checked: 5 observations, 1 summary, 2 prompts, 1 session ([SIZE])
    [6/7] Installed: [HOME]/.claude-mem/claude-mem.db
    SYNC COMPLETE (5 observations, 1 summary, 2 prompts, 1 session)
    beta$ membridge sync --json
    {
      "schema": 1,
      "command": "sync",
      "exit_code": 0,
      "outcome": "up_to_date",
      "observations": 5,
      "received": {},
      "changed": {},
      "deleted": {},
      "sent": {},
      "conflicts": 0,
      "moved": "",
      "segment": 0
    }
    "#);
}

#[test]
fn status_before_and_after() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["status"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(&fleet.alpha, &["status"]);
    fleet.server.reset_log();
    fleet.alpha.cmd("status").run().assert_code(0);
    assert_eq!(fleet.server.requests().len(), 8, "{:?}", fleet.server.requests());
    said += &told(&fleet.beta, &["status", "status --json"]);
    assert_told!(said, @r#"
    alpha$ membridge status
    only here: 5 observations, never synced
      → membridge sync
      last sync:   never
      archive:     none yet
    alpha$ membridge status
    ok: safe: all 5 observations are in the store; no other machine has synced
      last sync:   [AGO]
      archive:     [AGO], kept by alpha (this machine)
    beta$ membridge status
    the memory of your other machines is in the store, and not here yet
      → membridge sync
      alpha  5 observations, seen [AGO]
      last sync:   never
      archive:     [AGO], kept by alpha
    beta$ membridge status --json
    {
      "schema": 1,
      "command": "status",
      "exit_code": 0,
      "outcome": "shown",
      "project_name": "mem",
      "canonical_project_id": "6fe2e0f6071ac2bb",
      "node_id": "beta",
      "store": "http://127.0.0.1:[PORT]/membridge-test",
      "sync": "only_there",
      "observations": null,
      "unsent": {},
      "machines": [
        {
          "node_id": "alpha",
          "host": "alpha",
          "observations": 5,
          "last_seen": "[TIME]",
          "behind": 0,
          "lacks": 0,
          "role": "primary"
        }
      ],
      "last_sync": null,
      "last_push": null,
      "role": "secondary",
      "primary": "alpha",
      "head": {
        "sha256": "[HASH]",
        "source_host": "alpha",
        "timestamp": "[TIME]"
      },
      "lock": null,
      "warnings": []
    }
    "#);
}

#[test]
fn leadership_and_project() {
    let fleet = Fleet::new();
    let mut said = told(&fleet.alpha, &["print_project", "leadership_info"]);
    fleet.alpha.cmd("push_sqlite").run().assert_code(0);
    said += &told(
        &fleet.beta,
        &["leadership_info", "print_project --json", "leadership_info --leadership-enabled 0"],
    );
    assert_told!(said, @r#"
    alpha$ membridge print_project
    project_name: mem
    canonical_project_id: 6fe2e0f6071ac2bb
    alpha$ membridge leadership_info
    project_name: mem
    canonical_project_id: 6fe2e0f6071ac2bb
    node_id: alpha
    role: primary
    primary: nobody yet (the first push makes a lease)
    beta$ membridge leadership_info
    project_name: mem
    canonical_project_id: 6fe2e0f6071ac2bb
    node_id: beta
    role: secondary
    primary: alpha, by default (to choose: membridge promote NODE)
    epoch: 1
    expires_at: [TIME] (in [N]s)
    issued_by: alpha
    beta$ membridge print_project --json
    {
      "schema": 1,
      "command": "print_project",
      "exit_code": 0,
      "outcome": "shown",
      "project_name": "mem",
      "canonical_project_id": "6fe2e0f6071ac2bb"
    }
    beta$ membridge leadership_info --leadership-enabled 0
    project_name: mem
    canonical_project_id: 6fe2e0f6071ac2bb
    node_id: beta
    role: off (LEADERSHIP_ENABLED=0)
    primary: alpha, by default (to choose: membridge promote NODE)
    epoch: 1
    expires_at: [TIME] (in [N]s)
    issued_by: alpha
    "#);
}
