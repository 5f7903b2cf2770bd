//! What one run of a program costs: peak memory, processor time, bytes written to the disk. A benchmark starts itself
//! once more with `--measure PROGRAM…`, and that copy starts the program: the kernel keeps, for a process, the peak of
//! whoever it was forked from until it has replaced itself, and the copy holds nothing.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::machine::Machine;
use super::process::Outcome;

/// Bytes, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub peak_rss: u64,
    /// `write_bytes` of /proc/PID/io: what it made the kernel write to disks, also for files that were removed soon.
    pub written: u64,
    pub cpu_us: u64,
}

/// The child's side: when the arguments say so, runs the program and prints what it cost as the last line.
pub fn measured() -> Option<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (first, program) = words.split_first()?;
    if first != "--measure" {
        return None;
    }
    let mut child = Command::new(&program[0])
        .args(&program[1..])
        .spawn()
        .expect("start the program");
    // Ended and not reaped yet: its accounts can still be read.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(child.id() as i32)), flags).expect("wait for the program");
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).expect("its /proc/PID/io");
    let written: u64 = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
        .expect("write_bytes");
    let status = child.wait().expect("reap the program");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the program");
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    println!("usage {} {written} {cpu}", usage.max_rss() as u64 * 1024);
    Some(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs `membridge WORDS` on a machine, to success.
#[track_caller]
pub fn of(machine: &Machine, binary: &Path, words: &str) -> (Usage, Outcome) {
    let mut run = machine
        .program(std::env::current_exe().expect("this program"))
        .arg("--measure")
        .arg(binary)
        .timeout(Duration::from_mins(20));
    for word in words.split_whitespace() {
        run = run.arg(word);
    }
    let outcome = run.run();
    outcome.assert_code(0);
    let line = outcome.stdout.lines().last().unwrap_or_default();
    let numbers: Vec<u64> = line
        .strip_prefix("usage ")
        .unwrap_or_default()
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [peak_rss, written, cpu_us] = numbers[..] else {
        panic!("no usage in {line:?}");
    };
    let usage = Usage {
        peak_rss,
        written,
        cpu_us,
    };
    (usage, outcome)
}
