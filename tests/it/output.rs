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
    [2/6] Snapshot: 5 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [3/6] Lock
    [4/6] Decision: the bucket lacks what is here: upload
    [5/6] Upload: [SIZE]
    [6/6] Verified: commit 1 sha256 [SHORT]
    PUSH COMPLETE (5 observations, 1 summaries, 2 prompts, 1 sessions)
    alpha$ membridge push_sqlite
    [0/6] Leadership: role=primary (primary: alpha)
    already up to date (5 observations, 1 summaries, 2 prompts, 1 sessions)
    alpha$ membridge push_sqlite
    [0/6] Leadership: role=primary (primary: alpha)
    [1/6] Local database: [HOME]/.claude-mem/claude-mem.db
    [2/6] Snapshot: 7 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [3/6] Lock
    [4/6] Decision: the bucket lacks what is here: upload
    [5/6] Upload: [SIZE]
    [6/6] Verified: commit 2 sha256 [SHORT]
    PUSH COMPLETE (7 observations, 1 summaries, 2 prompts, 1 sessions)
    alpha$ membridge push_sqlite --quiet
    alpha$ membridge push_sqlite --json
    {
      "schema": 1,
      "command": "push_sqlite",
      "exit_code": 0,
      "outcome": "up_to_date",
      "observations": 7
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
    [1/7] Remote: 5 observations, pushed by alpha at [TIME]
    [2/7] Leadership: not asked, there is no local database
    [3/7] Fetched and checked: 5 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [4/7] Worker: not asked, it has no database to hold on to
    [5/7] Backup: none, there is nothing to save
    [6/7] Installed: [HOME]/.claude-mem/claude-mem.db
    [7/7] Worker: left as it is
    SYNC COMPLETE (5 observations, 1 summaries, 2 prompts, 1 sessions)
    beta$ membridge pull_sqlite
    already up to date (5 observations, 1 summaries, 2 prompts, 1 sessions)
    beta$ membridge pull_sqlite
    [1/7] Remote: 7 observations, pushed by alpha at [TIME]
    [2/7] Leadership: role=secondary
    [3/7] Fetched and checked: 7 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [4/7] Worker: not running
    [5/7] Backup: [HOME]/.claude-mem/backups/pull-overwrite/[TIME]/claude-mem.db (5 observations, 1 summaries, 2 prompts, 1 sessions)
    [6/7] Replaced: 7 observations, 1 summaries, 2 prompts, 1 sessions
    [7/7] Worker: left as it is
          the backup is removed again: all of it is in the bucket's history too
    SYNC COMPLETE (7 observations, 1 summaries, 2 prompts, 1 sessions)
    beta$ membridge restore-backup
    no backups in [HOME]/.claude-mem/backups/pull-overwrite
    beta$ membridge pull_sqlite --json
    {
      "schema": 1,
      "command": "pull_sqlite",
      "exit_code": 0,
      "outcome": "local_ahead",
      "observations": 8
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
    [0/6] Leadership: role=primary (primary: alpha)
    [1/6] Local database: [HOME]/.claude-mem/claude-mem.db
    [2/6] Snapshot: 5 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [3/6] Lock
    [4/6] Decision: the bucket lacks what is here: upload
    [5/6] Upload: [SIZE]
    [6/6] Verified: commit 1 sha256 [SHORT]
    PUSH COMPLETE (5 observations, 1 summaries, 2 prompts, 1 sessions)
    beta$ membridge sync
    [1/7] Remote: 5 observations, pushed by alpha at [TIME]
    [2/7] Leadership: not asked, there is no local database
    [3/7] Fetched and checked: 5 observations, 1 summaries, 2 prompts, 1 sessions ([SIZE])
    [4/7] Worker: not asked, it has no database to hold on to
    [5/7] Backup: none, there is nothing to save
    [6/7] Installed: [HOME]/.claude-mem/claude-mem.db
    [7/7] Worker: left as it is
    SYNC COMPLETE (5 observations, 1 summaries, 2 prompts, 1 sessions)
    [0/6] Leadership: role=secondary (primary: alpha)
    not pushed: push refused: this node (beta) is secondary, alpha is primary
    beta$ membridge sync --json
    {
      "schema": 1,
      "command": "sync",
      "exit_code": 0,
      "outcome": "synced",
      "pulled": "up_to_date",
      "pushed": "refused_secondary"
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
    assert_eq!(fleet.server.requests().len(), 6, "{:?}", fleet.server.requests());
    said += &told(&fleet.beta, &["status", "status --json"]);
    assert_told!(said, @r#"
    alpha$ membridge status
    project: mem (6fe2e0f6071ac2bb)
    node: alpha
    role: primary (no lease yet)
    sync: never pushed: 5 observations here, nothing in the bucket
      → membridge push_sqlite
    last push: none on record
    last pull: none on record
    lock: free
    head: nothing in the bucket
    alpha$ membridge status
    project: mem (6fe2e0f6071ac2bb)
    node: alpha
    role: primary (primary: alpha, epoch: 1)
    sync: in sync (5 observations)
    last push: [TIME]
    last pull: none on record
    lock: free
    head: [SHORT], pushed by alpha at [TIME]
    beta$ membridge status
    project: mem (6fe2e0f6071ac2bb)
    node: beta
    role: secondary (primary: alpha, epoch: 1)
    sync: never pulled: no database here, 5 observations in the bucket
      → membridge pull_sqlite
    last push: none on record
    last pull: none on record
    lock: free
    head: [SHORT], pushed by alpha at [TIME]
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
      "role": "secondary",
      "primary": "alpha",
      "sync": "only_there",
      "certain": true,
      "observations": null,
      "observations_in_bucket": 5,
      "last_push": null,
      "last_pull": null,
      "lock": null,
      "head": {
        "sha256": "[HASH]",
        "source_host": "alpha",
        "timestamp": "[TIME]"
      }
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
    primary: alpha
    epoch: 1
    expires_at: [TIME] (in [N]s)
    issued_by: alpha
    needs_ui_selection: true (nobody has chosen this primary: membridge promote NODE)
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
    primary: alpha
    epoch: 1
    expires_at: [TIME] (in [N]s)
    issued_by: alpha
    needs_ui_selection: true (nobody has chosen this primary: membridge promote NODE)
    "#);
}
