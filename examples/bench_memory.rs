//! `make bench-memory`: peak resident memory of a push and a pull of a large database over S3, each under a limit.
//! Also what `make test-dist` runs each static binary with. Usage: bench_memory MEGABYTES LIMIT_MB, with the binary in
//! MEMBRIDGE_BIN. `bench_memory --measure PROGRAM…` runs one program and reports its peak on the last line.
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
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use support::claude_mem::{self, MemDb, Version};
use support::machine::Machine;
use support::s3::S3Server;

const LAST_LINE: &str = "peak_rss_kb: ";

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
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("start the program");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of the program");
    println!("{LAST_LINE}{}", usage.max_rss());
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What both commands take natively for a database of any size, in MB; measured on x86_64.
const NATIVELY: f64 = 16.0;

/// Each command under the limit. An emulator's own memory grows with the code that it has translated and is not the
/// program's, so under one the peak of the same command on a small database, less what that takes natively, is taken off.
fn bench(binary: &Path, megabytes: u64, limit: u64) -> ExitCode {
    let emulated = std::env::var_os("EMULATED").is_some();
    let small = emulated.then(|| peaks(binary, 2));
    let Some(large) = peaks(binary, megabytes) else {
        println!("rows DIFFER");
        return ExitCode::FAILURE;
    };
    let mut within = true;
    for (at, (command, peak)) in large.into_iter().enumerate() {
        let emulator = small
            .flatten()
            .map_or(0.0, |small| (small[at].1 - NATIVELY).max(0.0));
        let ok = peak - emulator <= limit as f64;
        let note = if emulated {
            format!(", {emulator:.1} MB of it the emulator's")
        } else {
            String::new()
        };
        let verdict = if ok { "ok" } else { "TOO MUCH" };
        println!(
            "{command:<12}{peak:>8.1} MB{note}, for a database of {megabytes} MB (limit {limit} MB): {verdict}"
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
    let outcome = machine
        .program(std::env::current_exe().expect("this program"))
        .arg("--measure")
        .arg(binary)
        .arg(command)
        .timeout(Duration::from_mins(20))
        .run();
    outcome.assert_code(0);
    let line = outcome.stdout.lines().last().expect("a last line");
    let kilobytes: u32 = line
        .strip_prefix(LAST_LINE)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no peak in {line:?}"));
    f64::from(kilobytes) * 1024.0 / 1e6
}
