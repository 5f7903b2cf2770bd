//! `make bench-memory`: peak resident memory of a push and a pull of a large database over S3, each under a limit.
//! Also what `make test-dist` runs each static binary with. Usage: bench_memory MEGABYTES LIMIT_MB, with the binary in
//! MEMBRIDGE_BIN. `bench_memory --measure PROGRAM…` runs one program and reports its peak on the last line.
//!
//! Under qemu-user the kernel's peak is the emulator's and the program's together. There GUEST_BASE and GUEST_SIZE (hex)
//! say where the emulator was told to put the program's memory (qemu's -B and -R), and what is resident in that range is
//! sampled every few milliseconds from /proc/PID/smaps instead.
//!
//! The kernel keeps, for a process, the peak of whoever it was forked from until it has replaced itself: this program
//! holds the whole bucket in memory, so a copy of it that holds nothing stands in between.

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_match_else,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use support::claude_mem::{self, MemDb, Version};
use support::machine::Machine;
use support::s3::S3Server;

const LAST_LINE: &str = "peak_rss_kb: ";
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "--measure") {
        return measure(&words[1..]);
    }
    let number = |at: usize| -> Option<u64> { words.get(at)?.to_str()?.parse().ok() };
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    match (number(0), number(1), binary) {
        (Some(megabytes), Some(limit), Some(binary)) => bench(&binary, megabytes, limit),
        _ => {
            eprintln!("usage: MEMBRIDGE_BIN=path bench_memory MEGABYTES LIMIT_MB");
            ExitCode::FAILURE
        }
    }
}

/// Runs one program to its end and prints its peak.
fn measure(words: &[OsString]) -> ExitCode {
    let (program, arguments) = words.split_first().expect("a program");
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .expect("start the program");
    let mut peak = 0;
    let status = match guest() {
        None => child.wait().expect("the end of the program"),
        Some(range) => loop {
            if let Some(status) = child.try_wait().expect("the state of the program") {
                break status;
            }
            peak = peak.max(resident(child.id(), &range));
            std::thread::sleep(SAMPLE_EVERY);
        },
    };
    if guest().is_none() {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the program");
        peak = u64::try_from(usage.max_rss()).expect("a size");
    }
    println!("{LAST_LINE}{peak}");
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where an emulator keeps the memory of the program that it runs.
fn guest() -> Option<Range<u64>> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number"))
    };
    let (base, size) = (number("GUEST_BASE")?, number("GUEST_SIZE")?);
    Some(base..base + size)
}

/// Resident kilobytes of a process in a range of its addresses; 0 once it has gone.
fn resident(process: u32, range: &Range<u64>) -> u64 {
    let Ok(smaps) = std::fs::read_to_string(format!("/proc/{process}/smaps")) else {
        return 0;
    };
    let (mut inside, mut kilobytes) = (false, 0);
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((start, _)) = first.split_once('-') {
            inside = u64::from_str_radix(start, 16).is_ok_and(|start| range.contains(&start));
        } else if inside && first == "Rss:" {
            kilobytes += line
                .split_whitespace()
                .nth(1)
                .map_or(0, |number| number.parse().unwrap_or(0));
        }
    }
    kilobytes
}

/// Each command under the limit.
fn bench(binary: &Path, megabytes: u64, limit: u64) -> ExitCode {
    let how = if guest().is_some() {
        "the program's own memory in the emulator, sampled from smaps"
    } else {
        "the kernel's peak"
    };
    let Some(peaks) = peaks(binary, megabytes) else {
        println!("rows DIFFER");
        return ExitCode::FAILURE;
    };
    let mut within = true;
    for (command, peak) in peaks {
        // 0 would be a measurement that did not take place.
        let ok = peak > 1.0 && peak <= limit as f64;
        let verdict = if ok { "ok" } else { "NOT OK" };
        println!(
            "{command:<12}{peak:>8.1} MB resident ({how}), for a database of {megabytes} MB (limit {limit} MB): {verdict}"
        );
        within &= ok;
    }
    println!("rows are the same on both sides");
    if within {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Peaks in MB of a push from one machine and a pull on another, over S3. `None`: the rows differ afterwards.
fn peaks(binary: &Path, megabytes: u64) -> Option<[(&'static str, f64); 2]> {
    let server = S3Server::start();
    let desk = Machine::with_binary(binary.to_owned(), "desk", &server);
    let board = Machine::with_binary(binary.to_owned(), "board", &server);
    desk.cmd("print_project").run().assert_code(0);
    desk.create_db(Version::V13_25_3)
        .add_session("one")
        .fill_to_bytes(megabytes * 1_000_000);
    // So that the pull replaces a database: with a backup, the longest way.
    MemDb::create_as(board.db_path(), Version::V13_25_3, "desk").add_session("one");
    let peaks = [
        ("push_sqlite", peak(&desk, binary, "push_sqlite")),
        ("pull_sqlite", peak(&board, binary, "pull_sqlite")),
    ];
    (claude_mem::counts(desk.db_path()) == claude_mem::counts(board.db_path())).then_some(peaks)
}

/// Peak resident memory in MB.
fn peak(machine: &Machine, binary: &Path, command: &str) -> f64 {
    let run = machine
        .program(std::env::current_exe().expect("this program"))
        .arg("--measure")
        .arg(binary)
        .arg(command)
        .timeout(Duration::from_mins(20));
    let outcome = ["GUEST_BASE", "GUEST_SIZE"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .fold(run, |run, (name, value)| run.env(name, value))
        .run();
    outcome.assert_code(0);
    let line = outcome.stdout.lines().last().expect("a last line");
    let kilobytes: u64 = line
        .strip_prefix(LAST_LINE)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no peak in {line:?}"));
    kilobytes as f64 * 1024.0 / 1e6
}
