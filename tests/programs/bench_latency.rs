//! `make bench-latency`: how long a person waits for `status`, and Claude Code for a hook. All cases run in turn, round
//! after round, so that a busy moment of this machine hits all of them alike; the fastest is what a command takes when
//! nobody disturbs it. Prints and asserts nothing. Usage: bench_latency ROUNDS MEGABYTES, the binary in MEMBRIDGE_BIN.

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

#[path = "../support/mod.rs"]
mod support;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use support::claude_mem::Version;
use support::machine::{Machine, Store};
use support::s3::{BUCKET, S3Server, SECRET_KEY};

const START: &str =
    r#"{"session_id": "s", "cwd": "/", "hook_event_name": "SessionStart", "source": "startup"}"#;
const STOP: &str = r#"{"session_id": "s", "hook_event_name": "Stop", "stop_hook_active": false}"#;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    if let ([rounds, megabytes], Some(binary)) = (numbers.as_slice(), binary) {
        bench(&binary, *rounds, *megabytes);
        ExitCode::SUCCESS
    } else {
        eprintln!("usage: MEMBRIDGE_BIN=path bench_latency ROUNDS MEGABYTES");
        ExitCode::FAILURE
    }
}

/// What one run took: by the clock, and of the processor.
type Took = (Duration, Duration);

/// The runs of one case.
struct Case {
    name: String,
    took: Vec<Took>,
}

impl Case {
    fn fastest(&self) -> Duration {
        self.took.iter().map(|(wall, _)| *wall).min().expect("a run")
    }

    fn median(&self, of: impl Fn(&Took) -> Duration) -> Duration {
        let mut all: Vec<_> = self.took.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    }
}

fn bench(binary: &Path, rounds: u64, megabytes: u64) {
    let server = S3Server::start();
    let desk = Machine::with_binary(binary.to_owned(), "desk", &server);
    desk.create_db(Version::V13_25_3).add_session("one").fill_to_bytes(megabytes * 1_000_000);
    let minutes = Duration::from_mins(10);
    desk.cmd("push_sqlite").timeout(minutes).run().assert_code(0);
    desk.cmd("status").run().assert_code(0).stdout_has("in sync");
    let python = interpreter();

    let mut cases: Vec<Case> = Vec::new();
    let mut note = |name: String, took: Took| match cases.iter_mut().find(|case| case.name == name) {
        Some(case) => case.took.push(took),
        None => cases.push(Case { name, took: vec![took] }),
    };
    for _ in 0..rounds {
        let run = |words: &str, input: &str| time(desk.bare(binary).args(words.split(' ')), input);
        note("print_project".into(), run("print_project", ""));
        note(format!("status, {megabytes} MB, in sync"), run("status", ""));
        note(format!("hook session-start, {megabytes} MB, nothing new"), run("hook session-start", START));
        for (name, took) in stops(binary) {
            note(name.into(), took);
        }
        if let Some(python) = &python {
            let took = time(Command::new(python).args(["-c", "pass"]), "");
            note("python3 -c pass, for comparison".into(), took);
        }
    }
    report(&cases, rounds);
}

/// The real Python interpreter, past any shim.
fn interpreter() -> Option<PathBuf> {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    let path = String::from_utf8(asked.stdout).ok()?;
    asked.status.success().then(|| PathBuf::from(path.trim()))
}

fn report(cases: &[Case], rounds: u64) {
    let unit = cases[0].fastest().as_secs_f64();
    println!("{rounds} rounds, milliseconds");
    println!("{:<44}{:>9}{:>9}{:>12}{:>17}", "", "fastest", "median", "CPU median", "× print_project");
    for case in cases {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{:<44}{:>9.1}{:>9.1}{:>12.1}{:>17.1}",
            case.name,
            ms(case.fastest()),
            ms(case.median(|took| took.0)),
            ms(case.median(|took| took.1)),
            case.fastest().as_secs_f64() / unit
        );
    }
}

/// A Stop hook that leaves a push behind, on a machine that has not pushed before, with three kinds of stores. What it
/// leaves behind has ended before this returns, so that it does not disturb the next.
fn stops(binary: &Path) -> [(&'static str, Took); 3] {
    let server = S3Server::start();
    let hole = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = {
        let once = TcpListener::bind("127.0.0.1:0").expect("a port");
        once.local_addr().expect("its address").port()
    };
    let silent = hole.local_addr().expect("its address").port();
    let one = |store: Store| {
        let machine = Machine::with_binary(binary.to_owned(), "board", store);
        machine.create_db(Version::V13_25_3).add_session("one").add_observations(5);
        let took = time(machine.bare(binary).args(["hook", "stop"]), STOP);
        (machine, took)
    };
    let (reachable, first) = one(Store::from(&server));
    idle(&reachable);
    let (refused, second) = one(at(closed));
    idle(&refused);
    let (swallowed, third) = one(at(silent));
    // The kernel took the connection for it; now it resets it.
    drop(hole);
    idle(&swallowed);
    [
        ("hook stop, store reachable", first),
        ("hook stop, connection refused", second),
        ("hook stop, store never answers", third),
    ]
}

fn at(port: u16) -> Store {
    Store::S3 {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: BUCKET.to_owned(),
        access_key: "TESTACCESSKEY".to_owned(),
        secret_key: SECRET_KEY.to_owned(),
    }
}

/// Waits until the push that a hook left behind has written its result.
fn idle(machine: &Machine) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !machine.path(".membridge/last-result.json").exists() {
        assert!(Instant::now() < deadline, "the push in the background never ended");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program to its end.
fn time(command: &mut Command, input: &str) -> Took {
    let before = children();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut child = command.spawn().expect("start it");
    let mut stdin = child.stdin.take().expect("its input");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let status = child.wait().expect("its end");
    let wall = started.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    (wall, children().saturating_sub(before))
}

/// Processor time of all children that were waited for.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the children");
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or(0))
}
