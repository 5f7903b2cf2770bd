//! F18: many processes after the lock at once. Each holder writes begin and end into one shared log; nobody may begin
//! while another holds. The processes are this test binary, started again as `holder_process`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use membridge::config::{Config, Environment, Settings};
use membridge::context::Context;
use membridge::error::Failure;
use membridge::lock::{self, Lock, LockError};
use membridge::storage::{Bucket, Store};

use crate::stores::{Subject, unique};
use crate::support::machine::Machine;
use crate::support::s3::S3Server;

const RACERS: usize = 24;

/// One process of a race: waits for the start, then asks for the lock HOLDER_ROUNDS times.
#[test]
#[ignore = "a process that the races start, not a test"]
fn holder_process() {
    let read = |name: &str| std::env::var(name).expect(name);
    let rounds: usize = read("HOLDER_ROUNDS").parse().unwrap();
    let start = std::path::PathBuf::from(read("HOLDER_START"));
    let log = std::fs::OpenOptions::new().append(true).open(read("HOLDER_LOG")).unwrap();
    let say = |what: &str| {
        // One write to a file opened for appending: lines of several processes do not mix.
        (&log).write_all(format!("{what} {}\n", std::process::id()).as_bytes()).unwrap();
    };
    let settings = Settings::load(&BTreeMap::new(), &Environment::capture(), None).unwrap();
    let config = Config::new(&settings).unwrap();
    let context = std::sync::Arc::new(Context::default());
    let store = Store::open(&config.store, &context).unwrap();
    let bucket = Bucket::new(store, &config.project.cid, context, &config.paths.state);
    let machine = lock::local::machine_token(&config.paths.state, &bucket.context).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The probe of 24 processes is not what is raced here.
    runtime.block_on(bucket.verdict()).unwrap();
    say("ready");
    while !start.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    for _ in 0..rounds {
        let end = runtime.block_on(async {
            let mut guard = Lock::of(&config, &bucket, &machine).acquire().await?;
            say("begin");
            let verifier = guard.verifier();
            let work = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                verifier.verify().await?;
                Ok::<_, Failure>(())
            };
            let end = guard.hold(work).await;
            say("end");
            end.expect("a holder is not defeated by those who ask");
            guard.release().await
        });
        match end {
            Ok(()) => {}
            Err(LockError::Held(_) | LockError::Claimed(_) | LockError::Contended { .. }) => {
                say("refused");
                // About as long as a holder holds: rounds that all fall into one hold would race for nothing.
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// How many times the lock was held.
///
/// # Panics
/// Two held it at the same time.
fn holds(log: &str) -> usize {
    let (mut holder, mut holds) = (None, 0);
    for line in log.lines() {
        match line.split_once(' ').expect("a whole line") {
            ("begin", who) => {
                assert_eq!(holder, None, "{who} began while another one held\n{log}");
                holder = Some(who);
                holds += 1;
            }
            ("end", who) => assert_eq!(holder.take(), Some(who), "{log}"),
            _ => {}
        }
    }
    assert_eq!(holder, None, "somebody never ended\n{log}");
    holds
}

#[test]
fn the_log_tells_an_overlap() {
    assert_eq!(holds("begin 1\nend 1\nrefused 2\nbegin 2\nend 2\n"), 2);
    let overlap = std::panic::catch_unwind(|| holds("begin 1\nbegin 2\nend 1\nend 2\n"));
    assert!(overlap.is_err());
}

/// Lets the machines race; returns how often the lock was held.
fn race(machines: &[&Machine], project: &str, rounds: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, "").unwrap();
    let start = folder.path().join("start");
    let this = std::env::current_exe().unwrap();
    let racers: Vec<_> = machines
        .iter()
        .enumerate()
        .map(|(number, machine)| {
            machine
                .program(&this)
                .arg("lock_race::holder_process")
                .arg("--exact")
                .arg("--ignored")
                .arg("--nocapture")
                .env("HOLDER_LOG", &log)
                .env("HOLDER_START", &start)
                .env("HOLDER_ROUNDS", rounds.to_string())
                .env("CLAUDE_PROJECT_ID", project)
                .env("CLAUDE_MEM_DB", machine.path(&format!("database-{number}.db")))
                .timeout(Duration::from_mins(5))
                .spawn()
        })
        .collect();
    wait_until(|| {
        let ended = racers.iter().find(|racer| racer.ended());
        if let Some(racer) = ended {
            panic!("a racer never got to the start: {}\n{}", racer.stdout(), racer.stderr());
        }
        std::fs::read_to_string(&log).unwrap().matches("ready").count() == racers.len()
    });
    std::fs::write(&start, "").unwrap();
    for racer in racers {
        racer.wait().assert_code(0);
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("begin").count() + log.matches("refused").count(), machines.len() * rounds);
    holds(&log)
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_mins(2);
    while !done() {
        assert!(Instant::now() < limit, "the racers are not at the start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 24 machines, every other one with the same host name.
pub fn race_over(subject: &Subject, rounds: usize) -> usize {
    let machines: Vec<Machine> = (0..RACERS)
        .map(|number| {
            let mut machine = Machine::new(&format!("racer-{number}"), &subject.store);
            if number % 2 == 0 {
                machine.set("MEMBRIDGE_HOSTNAME", "raspberrypi");
            }
            machine
        })
        .collect();
    let held = race(&machines.iter().collect::<Vec<_>>(), &unique("race"), rounds);
    assert!(held >= 1, "{}: nobody ever got the lock", subject.name);
    held
}

#[test]
fn f18_24_processes_at_once_on_a_conforming_server() {
    race_over(&Subject::conforming(), 3);
}

#[test]
fn f18_24_processes_at_once_in_a_directory() {
    race_over(&Subject::directory(), 3);
}

#[test]
fn f18_24_processes_at_once_where_conditions_are_ignored() {
    race_over(&Subject::ignoring(), 2);
}

#[test]
fn f18_24_processes_at_once_where_conditions_are_refused() {
    race_over(&Subject::refusing(), 1);
}

#[test]
fn f18_24_processes_at_once_where_conditions_are_not_atomic() {
    race_over(&Subject::not_atomic(), 1);
}

#[test]
fn f18_processes_of_one_machine_take_turns_whatever_database_they_work_on() {
    let server = S3Server::start();
    let machine = Machine::new("alpha", &server);
    let held = race(&[&machine; 8], &unique("turns"), 3);
    assert_eq!(held, 24, "they wait for each other, nobody is refused");
}

#[test]
fn f46_machines_that_judge_the_store_differently_exclude_each_other() {
    let server = S3Server::start();
    let machines: Vec<Machine> =
        (0..12).map(|number| Machine::new(&format!("racer-{number}"), &server)).collect();
    for (number, machine) in machines.iter().enumerate() {
        let atomic = number % 2 == 0;
        remember(machine, &server, atomic);
    }
    let held = race(&machines.iter().collect::<Vec<_>>(), &unique("mixed"), 3);
    assert!(held >= 1);
}

/// Leaves a verdict as the probe would.
fn remember(machine: &Machine, server: &S3Server, atomic: bool) {
    use sha2::Digest;
    let name = format!("{}/{}", server.endpoint(), server.bucket);
    let digest = membridge::context::hex(&sha2::Sha256::digest(&name)[..8]);
    let verdict = serde_json::json!({
        "store": name,
        "at": jiff::Timestamp::now().as_second(),
        "create": atomic,
        "replace": atomic,
    });
    let file = machine.write(&format!(".membridge/probe/{digest}.json"), verdict.to_string());
    assert!(Path::new(&file).exists());
}
