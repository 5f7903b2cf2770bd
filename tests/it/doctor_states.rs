//! doctor in each state in which something is wrong: the check that finds it, and the status of the whole.

use crate::common::with_memory;
use crate::doctor::{Said, equipped};
use crate::support::claude_mem::{MemDb, Version};
use crate::support::machine::{Machine, Store};
use crate::support::s3::{Fault, Op, S3Server};

#[test]
fn nothing_configured() {
    let mut machine = Machine::new("alpha", Store::Dir("/nonexistent".into()));
    for name in ["MINIO_ENDPOINT", "MINIO_BUCKET", "CLAUDE_PROJECT_ID", "CLAUDE_MEM_DB"] {
        machine.unset(name);
    }
    let said = Said::by(&machine, "");
    said.1.assert_code(0);
    said.status("error")
        .check("project", "error", "CLAUDE_PROJECT_ID not set")
        .check("endpoint", "error", "MINIO_ENDPOINT not set")
        .check("database", "error", "CLAUDE_MEM_DB not set")
        .check("settings", "error", "MINIO_ENDPOINT not set; MINIO_ACCESS_KEY not set")
        .check("role", "skipped", "role: unknown");
    Said::by(&machine, "--strict").1.assert_code(1);
    assert_eq!(machine.cmd("doctor").run().stdout.lines().last(), Some("STATUS: ERROR"));
}

#[test]
fn a_config_env_that_cannot_be_read_is_a_finding() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    machine.write(".claude-mem-minio/config.env", "# mine\nMINIO_REGION=$(hostname)\n");
    let said = Said::by(&machine, "");
    said.1.assert_code(0);
    said.status("error")
        .check("config_file", "error", "line 2: command substitution")
        .check("reach", "ok", "answers");
    machine.write(".claude-mem-minio/config.env", "LOCK_TTL_SECONDS=soon\n");
    Said::by(&machine, "")
        .check("settings", "error", "LOCK_TTL_SECONDS='soon' is not a whole number")
        .check("reach", "ok", "answers")
        .check("role", "skipped", "the configuration is not complete");
}

#[test]
fn the_store_is_down() {
    let server = S3Server::start();
    let (mut alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    drop(server);
    alpha.set("MEMBRIDGE_LOG", "off");
    let said = Said::by(&alpha, "");
    said.1.assert_code(0);
    said.status("error")
        .check("reach", "error", "refused")
        .check("lock", "skipped", "the store cannot be used")
        .check("observations", "ok", "observations: 5")
        .check("role", "skipped", "role: unknown")
        .check("sync_state", "skipped", "sync: unknown");
    Said::by(&alpha, "--no-network").status("ok").check("reach", "skipped", "--no-network").check(
        "conditional_writes",
        "ok",
        "conditional writes work",
    );
}

#[test]
fn a_wrong_key_a_missing_bucket_and_a_forbidden_one() {
    let server = S3Server::start();
    let (mut alpha, _worker) = equipped("alpha", &server);
    alpha.set("MINIO_SECRET_KEY", "wrong");
    Said::by(&alpha, "")
        .status("error")
        .check("reach", "error", "SignatureDoesNotMatch")
        .check("lease", "skipped", "");
    alpha.use_store(&server);
    alpha.set("MINIO_BUCKET", "elsewhere");
    Said::by(&alpha, "").status("error").check("reach", "error", "NoSuchBucket");
    alpha.use_store(&server);
    let _denied = server.fault(Fault::Status(403, "AccessDenied").on(Op::GetObject).key("lease.json"));
    Said::by(&alpha, "")
        .status("error")
        .check("reach", "ok", "answers")
        .check("role", "error", "AccessDenied")
        .check("lock", "ok", "free");
}

#[test]
fn a_damaged_database_and_a_missing_one() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let mut bytes = std::fs::read(alpha.db_path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 6000].fill(0xAA);
    std::fs::write(alpha.db_path(), &bytes).unwrap();
    Said::by(&alpha, "")
        .status("error")
        .check("database", "error", "is not a readable SQLite database")
        .check("observations", "skipped", "cannot be read")
        .check("sync_state", "skipped", "cannot be read");
    assert_eq!(std::fs::read(alpha.db_path()).unwrap(), bytes);
    std::fs::write(alpha.db_path(), "hello").unwrap();
    Said::by(&alpha, "").check("database", "error", "file is not a database");

    std::fs::remove_file(alpha.db_path()).unwrap();
    Said::by(&alpha, "").status("degraded").check("database", "warning", "there is none").check(
        "sync_state",
        "warning",
        "the memory of your other machines is in the store, and not here yet",
    );
}

#[test]
fn the_worker_is_down_not_ready_or_of_another_database() {
    let server = S3Server::start();
    let (mut alpha, worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    worker.behave(|worker| worker.ready = false);
    Said::by(&alpha, "").status("error").check("worker", "error", "is not ready");
    let elsewhere = alpha.path("elsewhere/claude-mem.db");
    MemDb::create(&elsewhere, Version::V13_25_3);
    worker.behave(|worker| {
        worker.ready = true;
        worker.database = Some(elsewhere);
    });
    Said::by(&alpha, "").check("worker", "warning", "works on another database");
    drop(worker);
    let down = Machine::new("down", &server);
    alpha.set("CLAUDE_MEM_WORKER_PORT", "1");
    // No session is open: nothing is wrong.
    Said::by(&alpha, "--strict").status("ok").check("worker", "info", "not running");
    Said::by(&down, "").check("worker", "info", "not running");
}

#[test]
fn hooks_missing_scripts_missing_and_a_hook_that_failed() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    std::fs::remove_file(alpha.path(".claude-mem-minio/bin/claude-mem-hook-push")).unwrap();
    Said::by(&alpha, "").status("error").check("hook_stop", "error", "is not there");
    alpha.write(".claude/settings.json", "{\"hooks\": {\"Stop\": []}}");
    Said::by(&alpha, "")
        .status("degraded")
        .check("hook_session_start", "warning", "no hook command containing hook-pull")
        .check("hook_stop", "warning", "no hook command containing hook-push");
    alpha.write(
        ".membridge/last-result.json",
        r#"{"stop": {"time": "t", "event": "stop", "outcome": "failed", "code": 1, "duration_ms": 1, "pid": 2, "message": "no route"}}"#,
    );
    Said::by(&alpha, "").check("last_hooks", "warning", "stop failed, exit code 1, t: no route");
    alpha.cmd("status").run().stdout_has("WARNING: the last stop hook failed t: no route");
}

#[test]
fn what_is_sent_what_is_not_and_who_is_behind() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);

    alpha.db().add_observations(3);
    Said::by(&alpha, "").status("ok").check("sync_state", "info", "3 observations not sent yet");
    alpha.cmd("push_sqlite").run().assert_code(0);
    let behind = "are in the store; not yet on another machine";
    Said::by(&alpha, "").status("ok").check("sync_state", "ok", behind);
    alpha.cmd("status").run().assert_code(0).stdout_has(behind).stdout_has("1 sync behind");
    beta.cmd("sync").run().assert_code(0);
    Said::by(&alpha, "").check("sync_state", "ok", "are in the store and on the other machine");
}

#[test]
fn f26_f05_two_names_and_a_pinned_id() {
    let server = S3Server::start();
    let (mut alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    alpha.set("MEMBRIDGE_NODE_ID", "kitchen");
    alpha.set("CLAUDE_CANONICAL_PROJECT_ID", "0123456789abcdef");
    Said::by(&alpha, "")
        .status("degraded")
        .check("node", "warning", "kitchen for leadership, but alpha in locks")
        .check("pinned_id", "warning", "CLAUDE_CANONICAL_PROJECT_ID=0123456789abcdef is ignored");
    alpha.set("CLAUDE_PROJECT_ID", "Mem");
    Said::by(&alpha, "").check("canonical_id", "warning", "but one under 6fe2e0f6071ac2bb");
}

#[test]
fn f40_files_that_others_can_read_are_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    let file = alpha.write(".claude-mem-minio/config.env", "MINIO_REGION=eu\n");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    Said::by(&alpha, "").check("file_modes", "warning", "can be read by others (644)");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    Said::by(&alpha, "").check("file_modes", "ok", "private");
}

#[test]
fn f62_doctor_says_what_the_pull_will_do_about_a_schema() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    // No claude-mem says its version here: the database tells how far it has come.
    let beta = Machine::new("beta", &server);
    beta.create_db(Version::V10_6_3).add_session("old").add_observations(3);
    Said::by(&beta, "").check("claude_mem_version", "info", "rows come all the same");
    beta.cmd("pull_sqlite").run().assert_code(0).stdout_has("received: 5 observations");
    let gamma = Machine::new("gamma", &server);
    gamma.create_db(Version::V13_25_3);
    Said::by(&gamma, "").check("claude_mem_version", "ok", "as far as the bucket's (schema 52)");
    gamma.cmd("pull_sqlite").run().assert_code(0);
}

#[test]
fn f62_doctor_measures_the_room_for_what_a_pull_fetches() {
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha).cmd("mirror off --force").run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    // There is no copy for Python nodes; the pull fetches the commit.
    Said::by(&Machine::new("beta", &server), "").check("free_space", "ok", "the next pull needs");
}
