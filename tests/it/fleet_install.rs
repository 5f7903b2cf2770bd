//! `install agent|server|all|migrate|cleanup` and `validate-install`: in a clean home, over an old installation, and
//! `--dry-run`, which writes nothing. Shims for callers that still name the Python modules.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::docs::{python, root};
use crate::common::with_memory;
use crate::support::fleet::{AGENT_KEY, Daemon};
use crate::support::machine::Machine;

fn machine() -> (tempfile::TempDir, Machine) {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    (store, machine)
}

/// What the Python product's installation leaves.
fn with_old_installation(machine: &Machine) {
    with_memory(machine);
    machine.write("membridge/.env.agent", "MEMBRIDGE_AGENT_KEY=old-agent-key\nMEMBRIDGE_AGENT_DRYRUN=0\n");
    machine
        .write("membridge/.env.server", "MEMBRIDGE_ADMIN_KEY=old-admin\nMEMBRIDGE_AGENT_KEY=old-agent-key\n");
    machine.write("membridge/agent/main.py", "print('old')\n");
    machine.write(".claude-mem-minio/config.env", "MINIO_ENDPOINT=http://minio:9000\nMINIO_BUCKET=b\n");
    machine.write(".claude-mem-minio/bin/claude-mem-push", "#!/bin/sh\n");
    machine.write(".claude/settings.json", "{}");
    machine.write(".claude/.credentials.json", "{\"secret\": 1}");
}

/// Every file with what it holds and when it was written.
fn everything(machine: &Machine) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let files = machine.files().into_iter();
    let look = |name: String| {
        let path = machine.path(&name);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        (name, (std::fs::read(path).unwrap(), modified))
    };
    files.map(look).collect()
}

#[test]
fn a_dry_run_of_each_mode_writes_nothing() {
    let (_store, clean) = machine();
    let (_other, old) = machine();
    with_old_installation(&old);
    for machine in [&clean, &old] {
        let before = everything(machine);
        for mode in ["agent", "server", "all", "migrate", "cleanup"] {
            let outcome = machine.cmd(&format!("install {mode} --dry-run")).run();
            outcome.assert_code(0);
            // Where all is there already, nothing would be done.
            if mode != "cleanup" && std::ptr::eq(machine, &raw const clean) {
                outcome.stdout_has("[DRY-RUN] would ");
            }
            assert_eq!(everything(machine), before, "{mode}");
        }
    }
}

#[test]
fn a_clean_home_gets_keys_and_a_second_run_changes_nothing() {
    let (_store, alpha) = machine();
    let outcome = alpha.cmd("install all").run();
    outcome.assert_code(0).stdout_has("never touched:").stdout_has("http://127.0.0.1:8001/health");
    let [server, agent] = [".env.server", ".env.agent"].map(|name| alpha.path(&format!("membridge/{name}")));
    for file in [&server, &agent] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let value = |file: &std::path::Path, name: &str| -> String {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap();
        line.to_owned()
    };
    let key = value(&server, "MEMBRIDGE_AGENT_KEY");
    assert_eq!((key.len(), value(&agent, "MEMBRIDGE_AGENT_KEY")), (48, key.clone()));
    assert_eq!(value(&server, "MEMBRIDGE_ADMIN_KEY").len(), 48);
    outcome.stdout_lacks(&key).stdout_lacks(&value(&server, "MEMBRIDGE_ADMIN_KEY"));
    let before = everything(&alpha);
    alpha.cmd("install all").run().assert_code(0).stdout_has("keep ");
    assert_eq!(everything(&alpha), before);
    // And what was written starts a daemon.
    let run = alpha.cmd("agent --listen 127.0.0.1:0 --no-watch --env-file membridge/.env.agent").spawn();
    let daemon = Daemon::start(run, None);
    daemon.raw("GET", "/status?project=mem", &[("X-MEMBRIDGE-AGENT", &key)], None).expect(200);
}

#[test]
fn an_old_installation_is_gone_on_with_and_nothing_of_it_is_touched() {
    let (_store, old) = machine();
    with_old_installation(&old);
    let before = everything(&old);
    for mode in ["migrate", "agent", "all", "cleanup"] {
        old.cmd(&format!("install {mode}")).run().assert_code(0);
    }
    let after = everything(&old);
    for (name, there) in &before {
        assert_eq!(after.get(name), Some(there), "{name} was touched");
    }
    let report = std::fs::read(old.path("membridge/migration-report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let found = &report["legacy_installation"];
    assert_eq!(found["sqlite_db"]["found"], true);
    assert!(found["sqlite_db"]["tables"].as_i64().unwrap() > 4, "{found}");
    assert_eq!(
        (&found["minio_config"]["found"], &found["legacy_hooks"]["found"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(report["migration_safe"], true);
    for field in ["generated_at", "hostname", "membridge_services", "preserved_paths", "notes"] {
        assert!(!report[field].is_null(), "{field}");
    }
}

#[test]
fn f23_of_the_fleet_cleanup_ends_nobodys_process() {
    use std::os::unix::process::CommandExt;
    let (_store, old) = machine();
    with_old_installation(&old);
    // What the Python product's pgrep took for its own.
    let names = ["bun worker-service.cjs --daemon", "vim notes about membridge agent.py"];
    let mut strangers: Vec<_> =
        names.map(|name| std::process::Command::new("sleep").arg0(name).arg("600").spawn().unwrap()).into();
    old.cmd("install cleanup").run().assert_code(0);
    for stranger in &mut strangers {
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger's process was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let (_store, alpha) = machine();
    assert_ne!(alpha.cmd("install everything").run().code, 0);
    assert_ne!(alpha.cmd("install").run().code, 0);
}

#[test]
fn validation_names_what_is_missing_and_ends_with_1() {
    let (_store, old) = machine();
    with_old_installation(&old);
    let outcome = old.cmd("validate-install").env("MEMBRIDGE_SERVER_PORT", "1").run();
    outcome.assert_code(1).stdout_has("[OK] sqlite_db: integrity ok");
    outcome.stdout_has("[!!] minio_config: not set: MINIO_ACCESS_KEY, MINIO_SECRET_KEY");
    let (_, json) = outcome.stdout.split_once("--- JSON Report ---\n").unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(report["overall"], "ISSUES_FOUND");
    let names: Vec<_> =
        report["checks"].as_array().unwrap().iter().map(|check| check["name"].clone()).collect();
    let expected =
        ["claude_cli", "claude_mem_plugin", "sqlite_db", "minio_config", "agent_running", "server_reachable"];
    assert_eq!(names, expected);
}

#[test]
fn python_modules_that_callers_name_are_there() {
    let Some(python) = python() else { return };
    let (_store, alpha) = machine();
    let shim = |code: &[&str]| {
        let mut run = alpha.program(&python).env("PYTHONPATH", root()).env("PYTHONDONTWRITEBYTECODE", "1");
        run = run.env("MEMBRIDGE_BIN", env!("CARGO_BIN_EXE_membridge"));
        for word in code {
            run = run.arg(*word);
        }
        run
    };
    let outcome = shim(&["-m", "membridge.validate_install"]).env("MEMBRIDGE_SERVER_PORT", "1").run();
    outcome.assert_code(1).stdout_has("--- JSON Report ---");
    let agent = Daemon::agent(&alpha, "--no-watch");
    let code =
        "import json; from membridge.compat import doctor_project; print(json.dumps(doctor_project('mem')))";
    let asked =
        shim(&["-c", code]).env("MEMBRIDGE_AGENT_URL", agent.url()).env("MEMBRIDGE_AGENT_KEY", AGENT_KEY);
    let answer: serde_json::Value = serde_json::from_str(&asked.run().success().stdout).unwrap();
    assert_eq!(answer["action"], "doctor");
    assert!(answer["started_at"].as_f64() < answer["finished_at"].as_f64(), "{answer}");
    let refused = shim(&["-c", code]).env("MEMBRIDGE_AGENT_URL", agent.url()).run();
    assert!(refused.success().stdout.contains("401"), "{refused:?}");
}
