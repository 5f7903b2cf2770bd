//! doctor in each state that a machine can be in: what it says, what it exits with, and that it changes nothing.

use serde_json::Value;

use crate::support::claude_mem::{MemDb, Version};
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::machine::{Machine, Store};
use crate::support::process::Outcome;
use crate::support::s3::{Fault, Op, S3Server};

/// A machine with memory, hooks and a worker, before its first push.
fn equipped(name: &str, server: &S3Server) -> (Machine, FakeWorker) {
    let mut machine = Machine::new(name, server);
    let worker = FakeWorker::start(Behaviour {
        database: Some(machine.db_path()),
        ..Behaviour::default()
    });
    machine.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    machine.write(".claude/settings.json", "{}");
    machine.cmd("hooks install --write-settings").run().assert_code(0);
    (machine, worker)
}

fn with_memory(machine: &Machine) -> &Machine {
    machine
        .create_db(Version::V13_25_3)
        .add_session("one")
        .add_observations(5)
        .add_summaries(1)
        .add_prompts(2);
    machine
}

/// What `doctor --json` says.
struct Said(Value, Outcome);

impl Said {
    fn by(machine: &Machine, flags: &str) -> Said {
        let outcome = machine.cmd(&format!("doctor --json {flags}")).run();
        Said(outcome.json(), outcome)
    }

    #[track_caller]
    fn status(&self, wanted: &str) -> &Said {
        assert_eq!(self.0["status"], wanted, "{:?}", self.1);
        self
    }

    /// A check's result, and a part of its text.
    #[track_caller]
    fn check(&self, name: &str, result: &str, text: &str) -> &Said {
        let checks = self.0["checks"].as_array().unwrap();
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap_or_else(|| panic!("no check {name}: {:?}", self.1));
        assert_eq!(check["result"], result, "{check}");
        assert!(
            check["text"].as_str().unwrap().contains(text),
            "{check} lacks {text:?}"
        );
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
        .check(
            "observations",
            "ok",
            "observations: 5 (1 summaries, 2 prompts, 1 sessions)",
        )
        .check("schema", "ok", "version 52")
        .check("worker", "ok", "claude-mem 13.25.3")
        .check("hook_session_start", "ok", "claude-mem-hook-pull")
        .check("hook_stop", "ok", "claude-mem-hook-push")
        .check("role", "ok", "role: primary")
        .check("primary", "info", "primary: alpha")
        .check("epoch", "ok", "epoch: 1")
        .check("sync_state", "ok", "in sync (5 observations)")
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
    assert_eq!(
        text.stdout.lines().last(),
        Some("STATUS: OK — READY FOR PRODUCTION")
    );
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
        .check("primary", "info", "primary: alpha")
        .check("sync_state", "ok", "in sync (5 observations)")
        .check("last_pull", "info", "last pull to here: 20");
}

#[test]
fn f42_doctor_and_status_change_nothing_anywhere() {
    let server = S3Server::start();
    // No worker: the fake one opens the database too, and leaves SQLite's side files.
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    let before = snapshot(&alpha);
    server.reset_log();
    for command in ["doctor", "doctor --json", "status", "leadership_info", "config"] {
        alpha.cmd(command).run().assert_code(0);
    }
    assert!(server.keys("").is_empty(), "{:?}", server.keys(""));
    let wrote: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.op.writes())
        .collect();
    assert!(wrote.is_empty(), "{wrote:?}");
    assert_eq!(snapshot(&alpha), before);

    alpha.cmd("push_sqlite").run().assert_code(0);
    let (before, objects) = (snapshot(&alpha), server.keys(""));
    server.reset_log();
    for command in ["doctor", "status"] {
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
    for command in [
        "history",
        "verify --all",
        "diff 1 1",
        "mirror status",
        "pull_sqlite --dry-run",
    ] {
        alpha.cmd(command).run().assert_code(0);
        assert_eq!(folder_times(store.path()), before, "{command}");
    }
}

/// When something was last made or removed in each folder.
fn folder_times(folder: &std::path::Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut times = vec![(
        folder.to_owned(),
        std::fs::metadata(folder).unwrap().modified().unwrap(),
    )];
    let mut inside: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
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
    assert!(
        server.keys("").is_empty(),
        "the probe cleans up: {:?}",
        server.keys("")
    );
    let _ignores = server.fault(Fault::IgnoresConditions);
    Said::by(&alpha, "--probe").check("conditional_writes", "info", "claims are used instead");
}

#[test]
fn nothing_configured() {
    let mut machine = Machine::new("alpha", Store::Dir("/nonexistent".into()));
    for name in [
        "MINIO_ENDPOINT",
        "MINIO_BUCKET",
        "CLAUDE_PROJECT_ID",
        "CLAUDE_MEM_DB",
    ] {
        machine.unset(name);
    }
    let said = Said::by(&machine, "");
    said.1.assert_code(0);
    said.status("error")
        .check("project", "error", "CLAUDE_PROJECT_ID not set")
        .check("endpoint", "error", "MINIO_ENDPOINT not set")
        .check("database", "error", "CLAUDE_MEM_DB not set")
        .check(
            "settings",
            "error",
            "MINIO_ENDPOINT not set; MINIO_ACCESS_KEY not set",
        )
        .check("role", "skipped", "role: unknown");
    Said::by(&machine, "--strict").1.assert_code(1);
    assert_eq!(
        machine.cmd("doctor").run().stdout.lines().last(),
        Some("STATUS: ERROR")
    );
}

#[test]
fn a_config_env_that_cannot_be_read_is_a_finding() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    machine.write(
        ".claude-mem-minio/config.env",
        "# mine\nMINIO_REGION=$(hostname)\n",
    );
    let said = Said::by(&machine, "");
    said.1.assert_code(0);
    said.status("error")
        .check("config_file", "error", "line 2: command substitution")
        .check("reach", "ok", "answers");
    machine.write(".claude-mem-minio/config.env", "LOCK_TTL_SECONDS=soon\n");
    Said::by(&machine, "")
        .check(
            "settings",
            "error",
            "LOCK_TTL_SECONDS='soon' is not a whole number",
        )
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
    Said::by(&alpha, "--no-network")
        .status("ok")
        .check("reach", "skipped", "--no-network")
        .check("conditional_writes", "ok", "conditional writes work");
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
    Said::by(&alpha, "")
        .status("error")
        .check("reach", "error", "NoSuchBucket");
    alpha.use_store(&server);
    let _denied = server.fault(
        Fault::Status(403, "AccessDenied")
            .on(Op::GetObject)
            .key("lease.json"),
    );
    Said::by(&alpha, "")
        .status("error")
        .check("reach", "ok", "answers")
        .check("role", "error", "AccessDenied")
        .check("lock", "ok", "free");
}

/// What doctor prints, without what differs from run to run.
fn report(machine: &Machine) -> String {
    let said = machine.cmd("doctor").run();
    said.assert_code(0);
    assert_eq!(said.stderr, "");
    machine.normalise(&said.stdout)
}

macro_rules! assert_report {
    ($said:expr, @$wanted:literal) => {{
        let said = $said;
        insta::with_settings!({
            filters => vec![
                (r"\d+(\.\d+)? [kMG]?B\b", "[SIZE]"),
                (r"\b[0-9a-f]{12}\b", "[SHORT]"),
                (r"(another|ago;) \d+ (min|h)", "$1 [N] $2"),
                (r"\d+\.\d+\.\d+ (here|wrote)", "[VERSION] $1"),
            ],
        }, { insta::assert_snapshot!(said, @$wanted); });
    }};
}

#[test]
fn f48_a_clock_ten_minutes_off_is_a_warning() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(600);
    Said::by(&alpha, "")
        .status("degraded")
        .check("reach", "ok", "answers")
        .check("clock", "warning", "this machine is 10 min behind the store");
}

/// The store refuses the first request, says what time it is, and takes the next.
#[test]
fn f48_a_clock_two_hours_behind_the_store() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(7200);
    assert_report!(report(&alpha), @r"
    [1/5] Project identity
      ok       project_name: mem
      ok       canonical_project_id: 6fe2e0f6071ac2bb
      ok       pinned id: none
      ok       node_id: alpha
    [2/5] MinIO connectivity
      ok       endpoint: http://127.0.0.1:[PORT]/membridge-test
      ok       reachable: yes, the bucket answers
      WARNING  clock: this machine is 2 h behind the store
               → set this machine's clock: timedatectl set-ntp true (or: ntpd -q)
      ok       conditional writes work (create and replace)
      ok       membridge: [VERSION] here, [VERSION] wrote to the bucket last
    [3/5] Lock status
      ok       lock: free (last held by alpha)
    [4/5] SQLite DB health
      ok       database: [HOME]/.claude-mem/claude-mem.db ([SIZE]), integrity ok
      ok       observations: 5 (1 summaries, 2 prompts, 1 sessions)
      ok       schema: version 52
      ok       free space: [SIZE], the next pull needs [SIZE]
      ok       temporary files: none left over
    [5/5] Worker health
      ok       worker: claude-mem 13.25.3 on 127.0.0.1:[PORT], ready
      ok       claude-mem: 13.25.3 knows the bucket's schema 52
      ok       Cloud Sync: off, SQLite is the store
      ok       vector store: none
    [+] Hooks
      ok       SessionStart: [HOME]/.claude-mem-minio/bin/claude-mem-hook-pull
      ok       Stop: [HOME]/.claude-mem-minio/bin/claude-mem-hook-push
      info     last hooks: none has run yet
    [+] Leadership
      ok       role: primary
      info     primary: alpha (the first to come; to choose: membridge promote NODE)
      ok       epoch: 1
      ok       lease: ran out 60 min ago; this node's next push renews it
    [+] Sync
      ok       sync: in sync (5 observations)
      info     last push from here: [TIME]
      info     last pull to here: none on record
      ok       interrupted: nothing
      ok       backups: none (no pull has replaced anything)
      ok       history: 1 pushes can be restored ([SIZE] in packs)
      ok       bucket: 8 objects, [SIZE]
    [+] Configuration
      ok       config.env: none (0 settings from it, 9 from the environment, 0 from flags)
      ok       settings: complete
      ok       file modes: private
    STATUS: DEGRADED — 1 warning above
    ");
}

#[test]
fn f48_a_clock_two_hours_ahead_of_the_store() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(-7200);
    assert_report!(report(&alpha), @r"
    [1/5] Project identity
      ok       project_name: mem
      ok       canonical_project_id: 6fe2e0f6071ac2bb
      ok       pinned id: none
      ok       node_id: alpha
    [2/5] MinIO connectivity
      ok       endpoint: http://127.0.0.1:[PORT]/membridge-test
      ok       reachable: yes, the bucket answers
      WARNING  clock: this machine is 2 h ahead of the store
               → set this machine's clock: timedatectl set-ntp true (or: ntpd -q)
      ok       conditional writes work (create and replace)
      ok       membridge: [VERSION] here, [VERSION] wrote to the bucket last
    [3/5] Lock status
      ok       lock: free (last held by alpha)
    [4/5] SQLite DB health
      ok       database: [HOME]/.claude-mem/claude-mem.db ([SIZE]), integrity ok
      ok       observations: 5 (1 summaries, 2 prompts, 1 sessions)
      ok       schema: version 52
      ok       free space: [SIZE], the next pull needs [SIZE]
      ok       temporary files: none left over
    [5/5] Worker health
      ok       worker: claude-mem 13.25.3 on 127.0.0.1:[PORT], ready
      ok       claude-mem: 13.25.3 knows the bucket's schema 52
      ok       Cloud Sync: off, SQLite is the store
      ok       vector store: none
    [+] Hooks
      ok       SessionStart: [HOME]/.claude-mem-minio/bin/claude-mem-hook-pull
      ok       Stop: [HOME]/.claude-mem-minio/bin/claude-mem-hook-push
      info     last hooks: none has run yet
    [+] Leadership
      ok       role: primary
      info     primary: alpha (the first to come; to choose: membridge promote NODE)
      ok       epoch: 1
      ok       lease: valid for another [N] h
    [+] Sync
      ok       sync: in sync (5 observations)
      info     last push from here: [TIME]
      info     last pull to here: none on record
      ok       interrupted: nothing
      ok       backups: none (no pull has replaced anything)
      ok       history: 1 pushes can be restored ([SIZE] in packs)
      ok       bucket: 8 objects, [SIZE]
    [+] Configuration
      ok       config.env: none (0 settings from it, 9 from the environment, 0 from flags)
      ok       settings: complete
      ok       file modes: private
    STATUS: DEGRADED — 1 warning above
    ");
}

/// A store that goes on refusing: the remedy is the clock's.
#[test]
fn f48_a_store_that_refuses_the_time_for_good() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    server.set_clock_offset(-7200);
    server.fault(Fault::Status(403, "RequestTimeTooSkewed")).forever();
    let said = Said::by(&alpha, "");
    said.1.assert_code(0).stdout_has("timedatectl set-ntp true");
    said.status("error")
        .check("reach", "error", "RequestTimeTooSkewed")
        .check("clock", "warning", "2 h ahead");
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
    Said::by(&alpha, "")
        .status("degraded")
        .check("database", "warning", "there is none")
        .check(
            "sync_state",
            "warning",
            "never pulled: no database here, 5 observations in the bucket",
        );
}

#[test]
fn the_worker_is_down_not_ready_or_of_another_database() {
    let server = S3Server::start();
    let (mut alpha, worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    worker.behave(|worker| worker.ready = false);
    Said::by(&alpha, "")
        .status("error")
        .check("worker", "error", "is not ready");
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
    Said::by(&alpha, "")
        .status("degraded")
        .check("worker", "warning", "none is running");
    Said::by(&down, "").check("worker", "warning", "none is running");
}

#[test]
fn hooks_missing_scripts_missing_and_a_hook_that_failed() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    std::fs::remove_file(alpha.path(".claude-mem-minio/bin/claude-mem-hook-push")).unwrap();
    Said::by(&alpha, "")
        .status("error")
        .check("hook_stop", "error", "is not there");
    alpha.write(".claude/settings.json", "{\"hooks\": {\"Stop\": []}}");
    Said::by(&alpha, "")
        .status("degraded")
        .check(
            "hook_session_start",
            "warning",
            "no hook command containing hook-pull",
        )
        .check("hook_stop", "warning", "no hook command containing hook-push");
    alpha.write(
        ".membridge/last-result.json",
        r#"{"stop": {"time": "t", "event": "stop", "outcome": "failed", "code": 1, "duration_ms": 1, "pid": 2, "message": "no route"}}"#,
    );
    Said::by(&alpha, "").check("last_hooks", "warning", "stop failed, exit code 1 at t: no route");
    alpha
        .cmd("status")
        .run()
        .stdout_has("WARNING: the last stop hook failed at t: no route");
}

#[test]
fn ahead_behind_and_diverged_with_rows() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let beta = Machine::new("beta", &server);
    beta.cmd("pull_sqlite").run().assert_code(0);

    alpha.db().add_observations(3);
    Said::by(&alpha, "")
        .status("ok")
        .check("sync_state", "info", "ahead: 3 more observations here");
    alpha.cmd("push_sqlite").run().assert_code(0);
    Said::by(&beta, "").check("sync_state", "info", "behind: 3 more observations in the bucket");
    beta.db().add_observations(2);
    let said = Said::by(&beta, "");
    said.status("degraded").check(
        "sync_state",
        "warning",
        "diverged: since the last sync 2 more observations here and 3 more observations in the bucket",
    );
    beta.cmd("status")
        .run()
        .assert_code(0)
        .stdout_has("sync: diverged")
        .stdout_has("→ membridge sync");
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
        .check(
            "pinned_id",
            "warning",
            "CLAUDE_CANONICAL_PROJECT_ID=0123456789abcdef is ignored",
        );
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
fn remote_text_cannot_forge_a_status() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    let evil = "pi\nSTATUS: OK — READY FOR PRODUCTION\u{1b}[2J\u{9b}1m\u{202e}";
    let lock = serde_json::json!({"hostname": evil, "timestamp": 4_000_000_000_i64, "project": "mem", "canonical_id": "x"});
    server.put("projects/6fe2e0f6071ac2bb/locks/active.lock", lock.to_string());
    for command in [
        "doctor",
        "status",
        "push_sqlite",
        "doctor --json",
        "status --json",
    ] {
        let outcome = alpha.cmd(command).run();
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{outcome:?}");
        assert!(!text.contains('\u{202e}'), "{outcome:?}");
        let forged = |line: &str| line.trim_start().starts_with("STATUS: OK");
        assert!(!outcome.stdout.lines().any(forged), "{outcome:?}");
    }
}

/// Host and node names of other machines, as somebody could have put them into the bucket: they can neither move the
/// cursor, nor turn the line around, nor forge one, nor flood the screen.
#[test]
fn names_from_the_bucket_are_cleaned_and_cut_in_every_output() {
    let server = S3Server::start();
    let (alpha, _worker) = equipped("alpha", &server);
    with_memory(&alpha).cmd("push_sqlite").run().assert_code(0);
    alpha.db().add_observations(1);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let root = "projects/6fe2e0f6071ac2bb";
    let evil = format!(
        "pi\r\nSTATUS: OK — READY FOR PRODUCTION\u{1b}[2J\u{9b}1m\u{202e}\u{2066}\u{200b}\u{7}{}",
        "x".repeat(5000)
    );
    let change = |key: String, fields: &[&str]| {
        let mut object: Value = serde_json::from_slice(&server.get(&key).unwrap()).unwrap();
        for field in fields {
            assert!(object[*field].is_string(), "{key} has no {field}: {object}");
            object[*field] = evil.clone().into();
        }
        server.put(&key, object.to_string());
    };
    for number in ["0000000001", "0000000002"] {
        change(
            format!("{root}/membridge/commits/{number}.json"),
            &["node_id", "host"],
        );
    }
    change(
        format!("{root}/sqlite/manifest.json"),
        &["source_host", "timestamp"],
    );
    change(
        format!("{root}/leadership/lease.json"),
        &["primary_node_id", "issued_by"],
    );
    let now = jiff::Timestamp::now().as_second();
    let lock = serde_json::json!({"hostname": evil, "timestamp": now, "project": evil, "canonical_id": evil});
    server.put(&format!("{root}/locks/active.lock"), lock.to_string());
    let mut seen = 0;
    for command in [
        "doctor",
        "status",
        "history",
        "diff 1 2",
        "leadership_info",
        "push_sqlite",
        "push_sqlite --dry-run",
        "pull_sqlite",
        "pull_sqlite --dry-run",
        "sync",
        "restore 1 --dry-run",
        "promote alpha",
    ] {
        for flags in ["", "--json"] {
            let run = alpha
                .cmd(&format!("{command} {flags}"))
                .env("ALLOW_SECONDARY_PUSH", "1");
            let outcome = run.run();
            let text = format!("{}{}", outcome.stdout, outcome.stderr);
            let hostile = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(c);
            assert!(!text.contains(hostile), "{command} {flags}: {outcome:?}");
            let forged = |line: &str| line.trim_start().starts_with("STATUS: OK");
            assert!(!text.lines().any(forged), "{command} {flags}: {outcome:?}");
            if flags.is_empty() {
                let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
                assert!(longest < 1000, "{command}: a line of {longest} characters");
                seen += usize::from(text.contains("pi\u{fffd}"));
            }
        }
    }
    assert!(seen >= 5, "the names were shown by {seen} commands only");
}
