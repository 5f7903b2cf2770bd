//! `make bench-context`: in how many of the sessions that start is what another machine recorded a moment ago in the context
//! that claude-mem gives to the model? Its hook and ours start together, as Claude Code starts them; with a worker that runs, on
//! a fast line and on a slow one. Prints the share and how long each hook took; asserts nothing that time decides.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::real_worker::{RealMachine, alone, folder};
use crate::support::claude_mem::Version;
use crate::support::link::{Link, Speed};
use crate::support::machine::{Machine, Store};
use crate::support::s3::S3Server;

/// 300 kbit/s each way, 60 ms there and back.
const SLOW: Speed = Speed { up: Some(37_500), down: Some(37_500), delay: Duration::from_millis(30) };
const ROUNDS: usize = 10;

/// A hook and what it is told.
fn hook(command: &mut Command, machine: &Machine) -> (Duration, String) {
    let said = format!(
        r#"{{"session_id": "s", "cwd": "{}", "hook_event_name": "SessionStart", "source": "startup"}}"#,
        machine.path("p").display()
    );
    let started = Instant::now();
    let mut child =
        command.current_dir(machine.path("p")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), said.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (started.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn share(speed: Speed, place: &str) {
    let Some(folder) = folder() else { return };
    let _alone = alone();
    let server = S3Server::start();
    let link = Link::to(server.port(), speed);
    let slow = Store::S3 {
        endpoint: format!("http://127.0.0.1:{}", link.port),
        bucket: server.bucket.clone(),
        access_key: server.access_key.clone(),
        secret_key: server.secret_key.clone(),
    };
    let alpha = Machine::new("alpha", &server);
    let db = alpha.create_db(Version::V13_25_3);
    db.add_session("one").add_observations(200);
    alpha.cmd("push_sqlite").run().assert_code(0);
    let beta = RealMachine::new(&folder, "13.25.3", "beta", slow);
    std::fs::create_dir(beta.machine.path("p")).unwrap();
    beta.start();
    beta.machine.cmd("pull_sqlite").timeout(Duration::from_mins(5)).run().assert_code(0);

    let (mut known, mut ours, mut theirs) = (0, Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        db.add_observations(1).execute(&format!(
            "UPDATE observations SET title = 'fresh {round}', project = 'p', concepts = '[\"how-it-works\"]'
            WHERE id = (SELECT max(id) FROM observations)"
        ));
        alpha.cmd("sync --for turn").run().assert_code(0);
        let (took, (waited, context)) = std::thread::scope(|scope| {
            let collecting = scope.spawn(|| {
                let mut command = beta.machine.bare(env!("CARGO_BIN_EXE_membridge"));
                hook(command.args(["hook", "session-start"]), &beta.machine).0
            });
            let mut command = beta.machine.bare(&beta.bun);
            command.arg(&beta.script).args(["hook", "claude-code", "context"]);
            command.env("DO_NOT_TRACK", "1").env("CLAUDE_MEM_TELEMETRY", "0");
            let asked = hook(&mut command, &beta.machine);
            (collecting.join().unwrap(), asked)
        });
        assert!(context.contains("hookSpecificOutput"), "claude-mem's hook said: {context}");
        known += usize::from(context.contains(&format!("fresh {round}")));
        ours.push(took);
        theirs.push(waited);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_millis()
    };
    println!(
        "{place}: {known} of {ROUNDS} sessions knew it; our hook took {} ms, claude-mem's context hook {} ms (medians)",
        median(ours),
        median(theirs)
    );
}

#[test]
#[ignore = "measures; make bench-context"]
fn on_a_fast_line() {
    share(Speed::FULL, "loopback");
}

#[test]
#[ignore = "measures; make bench-context"]
fn on_a_slow_line() {
    share(SLOW, "300 kbit/s, 60 ms there and back");
}
