//! The fleet's key and its passphrase stay in the process that asked for them: no program that membridge starts, itself
//! among them, gets them in its arguments or its environment, and no core holds them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::with_memory;
use crate::hooks::{START, log_has, runs, silent, until};
use crate::sealed::{holds, key_of, seal_it};
use crate::support::fake_worker::{Behaviour, FakeWorker};
use crate::support::fleet::Daemon;
use crate::support::machine::Machine;
use crate::support::s3::{Fault, Op, S3Server};

const PASSPHRASE: &str = "correct horse battery staple";
const BINARY: &str = env!("CARGO_BIN_EXE_membridge");

/// What a process was started with: its arguments, and its environment where the system lets us see it.
type Started = (String, Vec<u8>);

/// The processes of a machine that live now. Into one that has read the key only root can look: there all of ours count.
fn living(home: &Path) -> Vec<Started> {
    let home = format!("HOME={}\0", home.display()).into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let started = |folder: PathBuf| {
        let arguments = std::fs::read(folder.join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let environment = std::fs::read(folder.join("environ"));
        let ours = match &environment {
            Ok(environment) => environment.windows(home.len()).any(|window| window == home),
            Err(_) => arguments.starts_with("membridge ") || arguments.starts_with(BINARY),
        };
        ours.then(|| (arguments, environment.unwrap_or_default()))
    };
    processes.filter_map(|entry| started(entry.path())).collect()
}

/// A program that writes down what it was started with.
fn stand_in(machine: &Machine, program: &str) {
    let log = machine.path("started.log");
    let script =
        format!("#!/bin/sh\n{{ echo \"$0 $*\"; cat /proc/$$/environ; echo; }} >> '{}'\n", log.display());
    machine.write_program(program, script);
}

/// The texts under which the key of a machine could travel: as it is written, and its bytes as they are and in hex.
fn spellings(machine: &Machine) -> Vec<Vec<u8>> {
    let text = key_of(machine);
    let digits = text.trim_start_matches("mbkey1-");
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        bits = (bits << 5) | u32::from(if digit < b'a' { digit - b'2' + 26 } else { digit - b'a' });
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes.truncate(32);
    let hex = membridge::context::hex(&bytes);
    vec![digits.to_ascii_lowercase().into_bytes(), hex.into_bytes(), bytes]
}

fn has(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret))
}

#[test]
fn no_program_that_is_started_gets_the_key_or_its_passphrase() {
    let server = S3Server::start();
    let mut alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    for program in ["git", "claude", "ps", "hostname", "vi", "editor"] {
        stand_in(&alpha, &format!("bin/{program}"));
    }
    stand_in(&alpha, ".bun/bin/bun");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", alpha.path("bin").display());
    alpha.set("PATH", path).set("EDITOR", "editor").set("VISUAL", "vi").set("MEMBRIDGE_TEST_READY_MS", "200");
    alpha.set("MEMBRIDGE_PUSH_INTERVAL_SECONDS", "0");
    let script = alpha.write("plugin/scripts/worker-service.cjs", "");
    let worker = FakeWorker::start(Behaviour {
        database: Some(alpha.db_path()),
        worker_path: script.display().to_string(),
        ..Behaviour::default()
    });
    alpha.set("CLAUDE_MEM_WORKER_PORT", worker.port().to_string());
    // Whoever asks the store is looked at while it asks, and so is everybody who waits for it.
    let seen: Arc<Mutex<Vec<Started>>> = Arc::default();
    let (into, home) = (Arc::clone(&seen), alpha.home().to_owned());
    server.on_request(move |_, _| into.lock().unwrap().extend(living(&home)));

    seal_it(&alpha);
    let mut secrets = spellings(&alpha);
    secrets.push(PASSPHRASE.into());
    alpha.cmd("key passphrase").stdin(format!("{PASSPHRASE}\n")).run().assert_code(0);
    alpha.cmd("key import").stdin(format!("{PASSPHRASE}\n")).run().assert_code(0);
    alpha.cmd("push_sqlite").run().assert_code(0);
    for command in ["hooks install --write-settings", "doctor", "status"] {
        alpha.cmd(command).run();
    }
    alpha.db().add_session("two").add_observations(1);
    silent(&alpha, "hook stop", r#"{"session_id": "s", "hook_event_name": "Stop"}"#);
    until("the push of the hook", || log_has(&alpha, "event=stop") && !runs(&alpha));
    silent(&alpha, "hook session-start", START);
    until("the pull of the hook", || log_has(&alpha, "event=session-start") && !runs(&alpha));
    stand_in(&alpha, ".claude-mem-minio/bin/claude-mem-push");
    for scripts in ["0", "1"] {
        alpha.set("MEMBRIDGE_AGENT_SCRIPTS", scripts);
        let agent = Daemon::agent(&alpha, "--no-watch");
        agent.post("/sync/push", &json!({"project": "mem"})).expect(200);
        agent.stop();
    }
    // The worker is stopped and started again; that it does not get ready is not the matter here.
    alpha.cmd("restore 1 --yes").run();
    alpha.cmd("key rotate").run().assert_code(0);
    secrets.extend(spellings(&alpha));
    alpha.cmd("sync").run().assert_code(0);
    server.clear_hook();

    let log = std::fs::read(alpha.path("started.log")).unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let of_ours =
        ["key passphrase", "hook-work stop", "sync --for turn", "push_sqlite --project=mem", "key rotate"];
    for expected in of_ours {
        assert!(seen.iter().any(|(words, _)| words.contains(expected)), "nobody saw membridge {expected}");
    }
    for expected in ["worker-service.cjs --daemon", "claude-mem-push --project mem"] {
        assert!(holds(&log, expected), "nobody started {expected}");
    }
    for secret in &secrets {
        assert!(!has(&log, secret), "{}", String::from_utf8_lossy(&log));
        for (words, environment) in &seen {
            assert!(!has(words.as_bytes(), secret) && !has(environment, secret), "{words}");
        }
    }
}

/// Whether `doctor` leaves a core in the machine's home when it is ended in the middle of its questions.
fn leaves_a_core(server: &S3Server, machine: &Machine) -> bool {
    let _silent = server.fault(Fault::BlackHole.on(Op::GetObject).key("lease.json"));
    server.reset_log();
    let mut doctor = machine.bare(BINARY).arg("doctor").stdout(std::process::Stdio::null()).spawn().unwrap();
    until("a question to the bucket", || server.count(Op::GetObject, "lease.json") > 0);
    kill(Pid::from_raw(doctor.id().cast_signed()), Signal::SIGABRT).unwrap();
    let status = doctor.wait().unwrap();
    let left = machine.files().iter().any(|file| file.starts_with("core"));
    left || std::os::unix::process::ExitStatusExt::core_dumped(&status)
}

#[test]
fn a_core_of_doctor_that_would_hold_the_key_is_never_made() {
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    let server = S3Server::start();
    let alpha = Machine::new("alpha", &server);
    with_memory(&alpha);
    seal_it(&alpha);
    alpha.cmd("sync").run().assert_code(0);
    let other = S3Server::start();
    let clear = Machine::new("clear", &other);
    with_memory(&clear);
    clear.cmd("sync").run().assert_code(0);
    if !leaves_a_core(&other, &clear) {
        println!("no program leaves a core here: not tried");
    }
    assert!(!leaves_a_core(&server, &alpha));
}
