//! What one run of a program costs: peak memory, processor time, bytes written to the disk. A benchmark starts itself
//! once more with `--measure PROGRAM…`, and that copy starts the program: the kernel keeps, for a process, the peak of
//! whoever it was forked from until it has replaced itself, and the copy holds nothing.
//!
//! Under qemu-user the kernel's peak is the emulator's and the program's together. There GUEST_BASE and GUEST_SIZE (hex)
//! say where the emulator was told to put the program's memory (qemu's -B and -R), and what is resident in that range is
//! sampled every few milliseconds from /proc/PID/smaps instead.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::machine::Machine;
use super::process::Outcome;

const SAMPLE_EVERY: Duration = Duration::from_millis(5);

/// Bytes, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub peak_rss: u64,
    /// `write_bytes` of /proc/PID/io: what it made the kernel write to disks, also for files that were removed soon.
    pub written: u64,
    pub cpu_us: u64,
    /// From its start to its end by the clock.
    pub wall_us: u64,
}

/// The child's side: when the arguments say so, runs the program and prints what it cost as the last line.
pub fn measured() -> Option<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (first, program) = words.split_first()?;
    if first != "--measure" {
        return None;
    }
    let started = Instant::now();
    let mut child = Command::new(&program[0]).args(&program[1..]).spawn().expect("start the program");
    // Ended and not reaped yet: its accounts can still be read.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let id = || Id::Pid(Pid::from_raw(child.id() as i32));
    let mut sampled = None;
    if let Some(range) = guest() {
        let mut peak = 0;
        while waitid(id(), flags | WaitPidFlag::WNOHANG).expect("look at the program")
            == WaitStatus::StillAlive
        {
            peak = peak.max(resident(child.id(), &range));
            std::thread::sleep(SAMPLE_EVERY);
        }
        sampled = Some(peak);
    } else {
        waitid(id(), flags).expect("wait for the program");
    }
    let wall = started.elapsed().as_micros();
    let io = std::fs::read_to_string(format!("/proc/{}/io", child.id())).expect("its /proc/PID/io");
    let written: u64 =
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).expect("write_bytes");
    let status = child.wait().expect("reap the program");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the program");
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let peak = sampled.unwrap_or(usage.max_rss() as u64 * 1024);
    println!("usage {peak} {written} {cpu} {wall}");
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where an emulator keeps the memory of the program that it runs.
pub fn guest() -> Option<Range<u64>> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number"))
    };
    let (base, size) = (number("GUEST_BASE")?, number("GUEST_SIZE")?);
    Some(base..base + size)
}

/// Resident bytes of a process in a range of its addresses; 0 once it has gone.
fn resident(process: u32, range: &Range<u64>) -> u64 {
    let Ok(smaps) = std::fs::read_to_string(format!("/proc/{process}/smaps")) else {
        return 0;
    };
    let (mut inside, mut kilobytes) = (false, 0_u64);
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((start, _)) = first.split_once('-') {
            inside = u64::from_str_radix(start, 16).is_ok_and(|start| range.contains(&start));
        } else if inside && first == "Rss:" {
            kilobytes += line.split_whitespace().nth(1).map_or(0, |number| number.parse().unwrap_or(0));
        }
    }
    kilobytes * 1024
}

/// Runs `membridge WORDS` on a machine, to success.
#[track_caller]
pub fn of(machine: &Machine, binary: &Path, words: &str) -> (Usage, Outcome) {
    let words: Vec<&str> = words.split_whitespace().collect();
    of_program(machine, binary, &words, &[])
}

/// Runs any program on a machine, to success, with more in its environment.
#[track_caller]
pub fn of_program(
    machine: &Machine,
    program: &Path,
    words: &[&str],
    environment: &[(&str, String)],
) -> (Usage, Outcome) {
    let mut run = machine
        .program(std::env::current_exe().expect("this program"))
        .arg("--measure")
        .arg(program)
        .timeout(Duration::from_mins(20));
    for name in ["GUEST_BASE", "GUEST_SIZE"] {
        if let Some(value) = std::env::var_os(name) {
            run = run.env(name, value);
        }
    }
    for (name, value) in environment {
        run = run.env(name, value);
    }
    for word in words {
        run = run.arg(*word);
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
    let [peak_rss, written, cpu_us, wall_us] = numbers[..] else {
        panic!("no usage in {line:?}");
    };
    (Usage { peak_rss, written, cpu_us, wall_us }, outcome)
}
