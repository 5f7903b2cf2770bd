//! `make bench-memory`: peak resident memory of a push and a pull of a large database over S3, full and by delta, each
//! under a limit; a delta may take the page map's 16 bytes a page more. Also what `make test-dist` runs each static
//! binary with. Usage: bench_memory MEGABYTES LIMIT_MB, with the binary in MEMBRIDGE_BIN.

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

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use support::claude_mem::{self, MemDb, Version};
use support::machine::Machine;
use support::s3::S3Server;
use support::usage;

fn main() -> ExitCode {
    if let Some(exit) = usage::measured() {
        return exit;
    }
    let number = |at: usize| -> Option<u64> { std::env::args().nth(at)?.parse().ok() };
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    let (Some(megabytes), Some(limit), Some(binary)) = (number(1), number(2), binary) else {
        eprintln!("usage: MEMBRIDGE_BIN=path bench_memory MEGABYTES LIMIT_MB");
        return ExitCode::FAILURE;
    };
    bench(&binary, megabytes, limit)
}

/// Peak in MB of one command.
struct Peak {
    command: &'static str,
    megabytes: f64,
    by_delta: bool,
}

/// Each command under the limit.
fn bench(binary: &Path, megabytes: u64, limit: u64) -> ExitCode {
    let how = if usage::guest().is_some() {
        "the program's own memory in the emulator, sampled from smaps"
    } else {
        "the kernel's peak"
    };
    let Some(peaks) = peaks(binary, megabytes) else {
        println!("rows DIFFER");
        return ExitCode::FAILURE;
    };
    let page_map = megabytes as f64 / 4096.0 * 16.0;
    let mut within = true;
    for peak in peaks {
        let allowed = limit as f64 + if peak.by_delta { page_map } else { 0.0 };
        // 0 would be a measurement that did not take place.
        let ok = peak.megabytes > 1.0 && peak.megabytes <= allowed;
        println!(
            "{:<24}{:>8.1} MB resident ({how}), for a database of {megabytes} MB (limit {allowed:.1} MB): {}",
            peak.command,
            peak.megabytes,
            if ok { "ok" } else { "NOT OK" }
        );
        within &= ok;
    }
    println!("rows are the same on both sides");
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Peaks of a push from one machine and a pull on another, over S3, with the copy for Python nodes; then of a session's
/// delta; then without that copy. `None`: the rows differ afterwards.
fn peaks(binary: &Path, megabytes: u64) -> Option<Vec<Peak>> {
    let server = S3Server::start();
    let desk = Machine::with_binary(binary.to_owned(), "desk", &server);
    let board = Machine::with_binary(binary.to_owned(), "board", &server);
    desk.cmd("print_project").run().assert_code(0);
    desk.create_db(Version::V13_25_3).add_session("one").fill_to_bytes(megabytes * 1_000_000);
    // So that the pull replaces a database: with a backup, the longest way.
    MemDb::create_as(board.db_path(), Version::V13_25_3, "desk").add_session("one");
    let measure = |machine: &Machine, words: &str, command, by_delta| Peak {
        command,
        megabytes: usage::of(machine, binary, words).0.peak_rss as f64 / 1e6,
        by_delta,
    };
    let mut peaks =
        vec![measure(&desk, "push_sqlite", "push", false), measure(&board, "pull_sqlite", "pull", false)];
    desk.db().live_sessions(1);
    peaks.push(measure(&desk, "sync --for end", "push of a delta, hook", true));
    peaks.push(measure(&board, "pull_sqlite", "pull of a delta", true));
    desk.cmd("mirror off").run().assert_code(0);
    desk.db().live_sessions(10);
    peaks.push(measure(&desk, "push_sqlite", "push of a larger delta", true));
    peaks.push(measure(&board, "pull_sqlite", "pull of a larger delta", true));
    (claude_mem::counts(desk.db_path()) == claude_mem::counts(board.db_path())).then_some(peaks)
}
