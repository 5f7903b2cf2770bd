//! The page: docs/benchmarks.md, all of it, so that nothing in it is older than its figures.

use std::fmt::Write;

use super::peers::Peers;
use super::samples::{Measure, OURS, Samples};
use super::{cases, targets};

const HEAD: &str = "# What it costs

Written by `make bench` (`tests/programs/bench`), which measures all of it in one run and fails where a target is missed. Whole
processes, medians of the rounds; bytes on the wire are those of both ways, with headers. Milliseconds differ from machine to
machine: read the ratios, which are theirs to ours.

- *membridge, sealed*: the same in a project that `membridge key init` sealed; no copy for Python nodes is kept there.
- *Python, whole files*: boto3 and sqlite3 with the steps of the old script, without its pauses.
- *rclone, whole file* and *restic*: of the database as it lies there, with nobody writing.
- *the floor*: reading, SHA-256, zstd and a socket, or the way back; nothing else.

";

pub fn page(samples: &Samples, rounds: u64, sizes: &[u64], peers: &Peers) -> String {
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "{}\n\n{rounds} rounds.\n", machine());
    for name in peers.missing() {
        let _ = writeln!(page, "{name}: not installed here, left out.\n");
    }
    page.push_str("![Bytes on the wire and time, each case beside the others](benchmarks.svg)\n\n");
    for size in sizes {
        let _ = writeln!(page, "## A database of {size} MB\n");
        table(&mut page, samples, *size, |case| !case.starts_with("slow line"));
    }
    page.push_str("## A slow line: 1 Mbit/s up, 300 ms there and back, a database of 3 MB\n\n");
    table(&mut page, samples, 3, |case| case.starts_with("slow line"));
    let missed = targets::missed(samples, sizes);
    page.push_str("## Targets that are missed\n\n");
    if missed.is_empty() {
        page.push_str("None.\n");
    }
    for line in missed {
        let _ = writeln!(page, "- {line}");
    }
    page
}

fn table(page: &mut String, samples: &Samples, size: u64, wanted: impl Fn(&str) -> bool) {
    page.push_str(
        "| | wall ms | CPU ms | peak MB | wire kB | disk kB | requests |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for case in samples.cases(size).filter(|case| wanted(case)) {
        let _ = writeln!(page, "| **{case}** | | | | | | |");
        for who in samples.who(size, case) {
            let _ = write!(page, "| {who} |");
            for what in [
                Measure::Wall,
                Measure::Cpu,
                Measure::Memory,
                Measure::Wire,
                Measure::Disk,
                Measure::Requests,
            ] {
                let value = samples.median(size, case, who, what).unwrap_or_default();
                let ours = samples.median(size, case, OURS, what).unwrap_or_default();
                let _ = write!(page, " {}{} |", number(value), ratio(who, what, value, ours));
            }
            page.push('\n');
        }
    }
    page.push('\n');
}

fn ratio(who: &str, what: Measure, value: f64, ours: f64) -> String {
    if who == OURS || what == Measure::Requests || ours <= 0.0 || value <= 0.0 {
        return String::new();
    }
    format!(" (×{})", number(value / ours))
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// What it ran on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value).trim().to_owned()
    };
    let count = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let sha = if field("flags").contains("sha_ni") { "with" } else { "without" };
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "Machine: {}, {count} cores, {sha} SHA instructions; Linux {}; {}.",
        field("model name"),
        kernel.trim(),
        std::env::consts::ARCH
    )
}

/// What the chart shows.
pub const SHOWN: [&str; 6] = [
    cases::FIRST_PUSH,
    cases::FIRST_PULL,
    cases::SESSION_UP,
    cases::SESSION_DOWN,
    cases::ARCHIVE,
    cases::NOTHING,
];
