//! Claude Code's hooks from the outside: nothing to see, nothing to wait for, and the last state in the bucket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::claude_mem::{self, Version};
use crate::support::machine::{Machine, Store};
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};

pub const START: &str =
    r#"{"session_id": "s", "cwd": "/", "hook_event_name": "SessionStart", "source": "startup"}"#;
const STOP: &str = r#"{"session_id": "s", "hook_event_name": "Stop", "stop_hook_active": false}"#;

/// An endpoint that takes connections and never answers; it hangs up when dropped.
pub struct BlackHole(TcpListener);

impl BlackHole {
    pub fn new() -> BlackHole {
        // Nobody accepts: the kernel takes the connections, and resets them when the listener goes.
        BlackHole(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn store(&self) -> Store {
        s3_at(self.0.local_addr().unwrap().port())
    }
}

fn s3_at(port: u16) -> Store {
    Store::S3 {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: BUCKET.to_owned(),
        access_key: "TESTACCESSKEY".to_owned(),
        secret_key: SECRET_KEY.to_owned(),
    }
}

pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn log(machine: &Machine) -> String {
    std::fs::read_to_string(machine.path(".claude-mem-minio/hook.log")).unwrap_or_default()
}

pub fn log_has(machine: &Machine, part: &str) -> bool {
    log(machine).lines().any(|line| line.contains(part))
}

/// Whether a detached push or pull of this machine runs now.
pub fn runs(machine: &Machine) -> bool {
    let folder = std::fs::read_dir(machine.path(".membridge/hooks"));
    folder.into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|kind| kind == "running")
            && std::fs::File::open(&path).is_ok_and(|file| file.try_lock().is_err())
    })
}

pub fn silent(machine: &Machine, words: &str, input: &str) {
    let outcome = machine.cmd(words).stdin(input).run();
    outcome.assert_code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""), "{words}");
}

#[test]
fn f12_a_stop_leaves_a_push_behind_and_its_result() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    silent(&machine, "hook stop", STOP);
    until("the push", || log_has(&machine, "event=stop outcome=synced code=0"));
    let last: Value =
        serde_json::from_slice(&std::fs::read(machine.path(".membridge/last-result.json")).unwrap()).unwrap();
    assert_eq!((&last["stop"]["outcome"], &last["stop"]["code"]), (&"synced".into(), &0.into()));

    let beta = Machine::new("beta", store.path());
    beta.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(claude_mem::counts(beta.db_path()).observations, 5);
}

#[test]
fn f12_a_failure_is_remembered_and_the_session_does_not_notice() {
    let store = tempfile::tempdir().unwrap();
    let mut machine = Machine::new("alpha", store.path());
    machine.unset("CLAUDE_PROJECT_ID");
    silent(&machine, "hook stop", STOP);
    until("the failure", || log_has(&machine, "outcome=failed code=1"));
    assert!(log_has(&machine, "CLAUDE_PROJECT_ID not set"));
    // A configuration that cannot even be read.
    machine.write(".claude-mem-minio/config.env", "A=$(whoami)\n");
    silent(&machine, "hook session-end", STOP);
    until("the other failure", || log_has(&machine, "command substitution"));
    for garbage in ["", "[", "hello", "{\"source\": 1}"] {
        for hook in ["hook stop", "hook session-end", "hook session-start"] {
            silent(&machine, hook, garbage);
        }
    }
}

#[test]
fn no_hook_waits_for_the_store_or_for_its_input() {
    let reachable = tempfile::tempdir().unwrap();
    let hole = BlackHole::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let stores = [Store::from(reachable.path()), s3_at(closed), hole.store()];
    let machines = stores.map(|store| {
        let mut machine = Machine::new("alpha", &store);
        machine.create_db(Version::V13_25_3).add_session("one").add_observations(5);
        machine.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "3600");
        machine
    });
    // Side by side, so that a busy moment of this machine hits all of them; the fastest of several is what the
    // hook takes when nobody disturbs it.
    let mut best = [Duration::MAX; 4];
    for _ in 0..8 {
        for (machine, best) in machines.iter().zip(&mut best) {
            *best = (*best).min(time(machine, "hook stop"));
        }
        best[3] = best[3].min(time(&machines[0], "print_project"));
    }
    let [reached, refused, swallowed, nothing] = best;
    println!(
        "hook stop: reachable {reached:?}, refused {refused:?}, black hole {swallowed:?}; print_project {nothing:?}"
    );
    for took in [reached, refused, swallowed] {
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    assert!(swallowed < reached * 2 + Duration::from_millis(20), "{swallowed:?} against {reached:?}");
}

/// How long a run takes whose standard input is never closed.
fn time(machine: &Machine, words: &str) -> Duration {
    let mut child = machine
        .bare(env!("CARGO_BIN_EXE_membridge"))
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let started = Instant::now();
    let _ = pipe.write_all(STOP.as_bytes());
    assert!(child.wait().unwrap().success());
    started.elapsed()
}

#[test]
fn a_parent_that_waits_for_the_end_of_the_pipes_gets_it_while_the_push_goes_on() {
    let hole = BlackHole::new();
    let machine = Machine::new("alpha", hole.store());
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(5);
    // A third descriptor on the pipe, as a careless parent leaves it.
    let hook = format!("exec 3>&1; exec {} hook stop", env!("CARGO_BIN_EXE_membridge"));
    let script = machine.write("hook.sh", hook);
    let mut child = machine
        .bare("/bin/sh")
        .arg(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    // Returns at the end of the pipe and not before.
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    until("the push", || runs(&machine));
    assert!(!log_has(&machine, "event=stop outcome=failed"));
    assert!(child.wait().unwrap().success());

    f40_no_secret_is_in_any_argument();
    drop(hole);
    until("the end of the push", || log_has(&machine, "event=stop outcome=failed"));
    assert!(!log(&machine).contains(SECRET_KEY));
}

/// Looked at while a push runs.
fn f40_no_secret_is_in_any_argument() {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        assert!(!arguments.contains(SECRET_KEY), "{arguments}");
        if arguments.starts_with("membridge") {
            assert!(!arguments.contains("worker-service") && !arguments.contains("chroma-mcp"));
        }
    }
}

#[test]
fn twenty_turns_are_two_segments_and_the_last_row_is_in_the_bucket() {
    const INTERVAL: u64 = 12;
    let server = S3Server::start();
    let mut machine = Machine::new("alpha", &server);
    machine.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", INTERVAL.to_string());
    let db = machine.create_db(Version::V13_25_3);
    db.add_session("one");
    let started = Instant::now();
    for _ in 0..20 {
        db.add_observations(1);
        silent(&machine, "hook stop", STOP);
    }
    let took = started.elapsed().as_secs();
    let in_bucket = || {
        let record = server.keys("projects/").into_iter().find(|key| key.contains("membridge/nodes/"));
        let text = record.and_then(|key| server.get(&key)).unwrap_or_default();
        let record: Value = serde_json::from_slice(&text).unwrap_or_default();
        record["counts"]["observations"].as_u64()
    };
    until("the last state", || in_bucket() == Some(20));
    until("quiet", || !runs(&machine));
    let reader = Machine::new("beta", &server);
    reader.cmd("pull_sqlite").run().assert_code(0);
    assert_eq!(claude_mem::counts(reader.db_path()).observations, 20);
    let pushes = server.keys("projects/").iter().filter(|key| key.contains("membridge/rows/")).count();
    // Two, and one more for each interval that a busy machine needed for the twenty calls.
    assert!(pushes <= 2 + (took / INTERVAL) as usize, "{pushes} pushes\n{}", log(&machine));
}

#[test]
fn the_wrapper_scripts_work_on_every_small_shell() {
    let store = tempfile::tempdir().unwrap();
    let mut machine = Machine::new("alpha", store.path());
    machine.create_db(Version::V13_25_3).add_session("one").add_observations(3);
    machine.set("MEMBRIDGE_BIN", env!("CARGO_BIN_EXE_membridge"));
    machine.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "0");
    machine.cmd("hooks install").run().assert_code(0);
    let bin = machine.path(".claude-mem-minio/bin");
    let shells = [("/bin/dash", None), ("/bin/busybox", Some("ash")), ("/bin/bash", Some("--posix"))];
    for (shell, argument) in shells {
        if !Path::new(shell).exists() {
            println!("{shell} is not installed: not tried");
            continue;
        }
        let run = |script: &str, words: &[&str]| {
            let run = machine.program(shell);
            let run = argument.into_iter().fold(run, crate::support::machine::Run::arg).arg(bin.join(script));
            words.iter().fold(run, |run, word| run.arg(*word))
        };
        run("claude-mem-push", &["--project", "mem"]).run().assert_code(0);
        run("claude-mem-pull", &["--project", "mem", "--no-restart-worker"]).run().assert_code(0);
        run("claude-mem-doctor", &[]).run().assert_code(0).stdout_has("STATUS:");
        run("claude-mem-status", &["--project", "сад"])
            .run()
            .assert_code(0)
            .stdout_has("canonical_project_id: e4b16ee4be9e8cde")
            .stdout_has("STATUS:");
        for (script, input) in [("claude-mem-hook-push", STOP), ("claude-mem-hook-pull", START)] {
            let outcome = run(script, &[]).stdin(input).run();
            outcome.assert_code(0);
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
        }
        until("the push", || log_has(&machine, "event=stop outcome=up_to_date"));
        until("the pull", || log_has(&machine, "event=session-start outcome=up_to_date"));
        std::fs::remove_file(machine.path(".claude-mem-minio/hook.log")).unwrap();
        // A machine on which the binary is gone must not disturb a session either.
        let gone = run("claude-mem-hook-push", &[]).env("MEMBRIDGE_BIN", "/nonexistent").run();
        gone.assert_code(0);
        assert_eq!((gone.stdout.as_str(), gone.stderr.as_str()), ("", ""));
        assert!(log_has(&machine, "membridge not found"));
    }
}

#[test]
fn hooks_are_installed_shown_and_removed_without_a_trace() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    let text = "{\n    \"model\": \"opus\",\n    \"hooks\": {\"Stop\": [{\"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}]}\n}\n";
    let settings = machine.write(".claude/settings.json", text);
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let before = machine.files();

    machine.cmd("hooks install --write-settings --dry-run").run().assert_code(0).stdout_has("would write");
    assert_eq!((machine.files(), read(&settings).as_str()), (before.clone(), text));

    machine
        .cmd("hooks install")
        .run()
        .assert_code(0)
        .stdout_has("claude-mem-hook-pull")
        .stdout_has("SessionStart");
    assert_eq!(read(&settings), text);

    machine.cmd("hooks install --write-settings").run().assert_code(0).stdout_has("kept as");
    let edited = read(&settings);
    assert!(edited.contains("hook-pull") && edited.contains("say done"));
    machine.cmd("hooks install --write-settings").run().assert_code(0).stdout_has("unchanged");
    assert_eq!(read(&settings), edited);
    machine.cmd("hooks status").run().assert_code(0).stdout_has("SessionEnd: set").stdout_lacks("missing");

    // Entries that name scripts which are gone would make every hook fail.
    machine.cmd("hooks uninstall").run().assert_code(1).stdout_has("--write-settings");
    machine.cmd("hooks uninstall --write-settings").run().assert_code(0);
    assert_eq!(read(&settings), text);
    assert!(!machine.files().iter().any(|file| file.contains("claude-mem-hook")));
}

#[test]
fn doctor_and_install_have_one_answer_to_whether_our_hooks_are_there() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    let hook = |command: &str| serde_json::json!([{"hooks": [{"type": "command", "command": command}]}]);
    let text = serde_json::json!({"hooks": {
        "SessionStart": hook("membridge hook session-start"),
        "Stop": hook("membridge hook stop"),
        "SessionEnd": hook("membridge hook stop"),
    }});
    let settings = machine.write(".claude/settings.json", text.to_string());
    machine
        .cmd("doctor --no-network -v")
        .run()
        .stdout_has("ok       SessionStart: membridge hook session-start");
    machine.cmd("hooks status").run().assert_code(0).stdout_has("SessionStart: set");
    machine.cmd("hooks install --write-settings").run().assert_code(0).stdout_has("unchanged");
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), text.to_string(), "no second one is added");
}

#[test]
fn hooks_that_are_switched_off_are_named_wherever_a_person_looks() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    machine.write(".claude/settings.json", "{\"disableAllHooks\": true}");
    let install = machine.cmd("hooks install --write-settings").run();
    install
        .assert_code(0)
        .stdout_has("allows no hooks (disableAllHooks)")
        .stdout_has("take disableAllHooks out of");
    machine.cmd("hooks status").run().stdout_has("WARNING: ").stdout_has("disableAllHooks");
    let doctor = machine.cmd("doctor --no-network").run();
    doctor.stdout_has("WARNING  SessionStart: ").stdout_has("allows no hooks (disableAllHooks)");
}

#[test]
fn an_edit_of_another_program_and_a_link_that_leads_nowhere_survive_the_installer() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    let settings = machine.write(".claude/settings.json", "{}");
    let gate = machine.write("gate", "");
    let mut install = machine.cmd("hooks install --write-settings");
    install = install.env("MEMBRIDGE_FAILPOINT", "settings_before_swap=wait");
    install =
        install.env("MEMBRIDGE_FAILPOINT_FILE", &gate).env("MEMBRIDGE_FAILPOINT_LOG", machine.path("log"));
    let running = install.spawn();
    until("the swap", || {
        std::fs::read_to_string(machine.path("log")).is_ok_and(|log| log.contains("before_swap"))
    });
    std::fs::write(&settings, "{\"model\": \"opus\"}").unwrap();
    std::fs::remove_file(&gate).unwrap();
    running.wait().assert_code(0);
    let edited = std::fs::read_to_string(&settings).unwrap();
    assert!(edited.contains("opus") && edited.contains("hook-push"), "{edited}");

    std::fs::remove_file(&settings).unwrap();
    std::os::unix::fs::symlink("/nonexistent/claude.json", &settings).unwrap();
    let refused = machine.cmd("hooks install --write-settings").run();
    refused.assert_code(1).stdout_has("it is a link to /nonexistent/claude.json, and that is not there");
    assert!(settings.symlink_metadata().unwrap().is_symlink());
    machine.cmd("doctor --no-network").run().stdout_has("is a link to /nonexistent/claude.json");
}

#[test]
fn a_binary_that_the_project_brings_along_is_never_run() {
    let store = tempfile::tempdir().unwrap();
    let mut machine = Machine::new("alpha", store.path());
    machine.cmd("hooks install").run().assert_code(0);
    let trap = "#!/bin/sh\n: > \"$HOME/trapped\"\n";
    for place in [
        "project/membridge",
        "project/bin/membridge",
        "project/node_modules/.bin/membridge",
        "node_modules/.bin/membridge",
    ] {
        machine.write_program(place, trap);
    }
    let project = machine.path("project");
    let path = format!(
        ".:bin:{0}/bin:{0}/node_modules/.bin:{1}/node_modules/.bin:/usr/bin:/bin",
        project.display(),
        machine.home().display()
    );
    machine.set("PATH", path);
    let script = machine.path(".claude-mem-minio/bin/claude-mem-status");
    let status = |machine: &Machine| machine.program(&script).current_dir(&project).run();
    status(&machine).assert_code(1).stdout_has("membridge not found");
    assert!(!machine.path("trapped").exists());
    std::fs::create_dir_all(machine.path(".local/bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_membridge"), machine.path(".local/bin/membridge"))
        .unwrap();
    status(&machine).stdout_has("canonical_project_id");
    assert!(!machine.path("trapped").exists());
}

#[test]
fn hooks_of_a_home_that_was_moved_are_mended() {
    let store = tempfile::tempdir().unwrap();
    let machine = Machine::new("alpha", store.path());
    let settings = machine.path(".claude/settings.json");
    machine.cmd("hooks install --write-settings").run().assert_code(0);
    let written = std::fs::read_to_string(&settings).unwrap();
    assert_eq!(written.matches("\"$HOME/.claude-mem-minio/bin/claude-mem-hook-").count(), 3, "{written}");
    // What an earlier release wrote, for a home that is gone.
    machine.write(".claude/settings.json", written.replace("$HOME/", "/home/nobody-of-that-name/"));
    machine.cmd("doctor").run().stdout_has("/home/nobody-of-that-name/");
    let mended = machine.cmd("hooks install --write-settings").run();
    mended.assert_code(0).stdout_has("kept as");
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), written);
    machine.cmd("hooks install --write-settings").run().assert_code(0).stdout_has("unchanged");
}
