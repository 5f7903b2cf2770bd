//! `make bench-rows`: what the row log costs: the first publish of a database, one session published and collected, a sync
//! with nothing new; the same sealed, as ratios; and a year of five machines, by the rules of folding. Fails where a target is
//! missed.
//! Usage: bench_rows MEGABYTES, with the binary in MEMBRIDGE_BIN.

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

use std::path::PathBuf;
use std::process::ExitCode;

use membridge::rows::fold::{Decision, decide, named, spent};
use membridge::rows::header::Kind;
use membridge::rows::log::ListedSegment;
use membridge::rows::node::Fold;
use support::claude_mem::{self, Version};
use support::link::{Link, Speed};
use support::machine::{Machine, Store};
use support::s3::S3Server;
use support::usage::{self, Usage};

/// Bytes, both ways, of one session published, and of one collected.
const WIRE: u64 = 60_000;
/// Bytes that either may write to the local disk.
const DISK: u64 = 1_000_000;
/// Requests of a publish; of a collect, with the one record that changed; of a sync with nothing new.
const REQUESTS: [usize; 3] = [4, 4, 1];

/// What the hooks run when a turn has ended, and before a session starts.
const TURN: &str = "sync --for turn";
const START: &str = "sync --for start";

/// Bytes beside a hundredth that a sync may take more where the project is sealed.
const SEALED: u64 = 8_000;

struct World {
    binary: PathBuf,
    server: S3Server,
    proxy: Link,
    machines: [Machine; 4],
}

/// What one sync took.
struct Cost {
    what: &'static str,
    bytes: u64,
    requests: usize,
    usage: Usage,
}

impl World {
    fn new(binary: PathBuf) -> World {
        let server = S3Server::start();
        let proxy = Link::to(server.port(), Speed::FULL);
        let store = Store::S3 {
            endpoint: format!("http://127.0.0.1:{}", proxy.port),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
        };
        let machines =
            ["desk", "board", "pocket", "lap"].map(|name| Machine::with_binary(binary.clone(), name, &store));
        World { binary, server, proxy, machines }
    }

    /// What `membridge WORDS` takes.
    fn cost(&self, machine: &Machine, words: &str, what: &'static str) -> Cost {
        self.proxy.take();
        self.server.reset_log();
        let (usage, _) = usage::of(machine, &self.binary, words);
        let (up, down) = self.proxy.take();
        let log = self.server.requests();
        if std::env::var_os("SHOW_REQUESTS").is_some() {
            for request in &log {
                println!("    {} {} {}", request.op, request.key, request.status);
            }
        }
        Cost { what, bytes: up + down, requests: log.len(), usage }
    }

    /// Bytes and number of the segments in the bucket.
    fn segments(&self) -> (u64, usize) {
        let keys: Vec<_> =
            self.server.keys("").into_iter().filter(|key| key.contains("/membridge/rows/")).collect();
        (keys.iter().filter_map(|key| self.server.size(key)).sum(), keys.len())
    }
}

fn main() -> ExitCode {
    if let Some(exit) = usage::measured() {
        return exit;
    }
    let megabytes = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    let (Some(megabytes), Some(binary)) = (megabytes, binary) else {
        eprintln!("usage: MEMBRIDGE_BIN=path bench_rows MEGABYTES");
        return ExitCode::FAILURE;
    };
    bench(binary, megabytes)
}

/// Two machines and a third, in the clear or sealed: what each of their first syncs, and of later ones, takes; and the bytes
/// of the segment of one session.
fn story(binary: PathBuf, megabytes: u64, sealed: bool) -> (Vec<Cost>, u64) {
    let world = World::new(binary);
    let [desk, board, pocket, lap] = &world.machines;
    println!("making a database of {megabytes} MB");
    desk.create_db(Version::V13_25_3).live_to_bytes(megabytes * 1_000_000);
    desk.cmd("mirror off").run().assert_code(0);
    if sealed {
        desk.cmd("key init").run().assert_code(0);
        let key = std::fs::read_to_string(desk.path(".claude-mem-minio/fleet.key")).unwrap();
        for machine in [board, pocket, lap] {
            machine.cmd("key import").stdin(key.clone()).run().assert_code(0);
        }
    }
    // The archive's first full image goes up as well; the log's share is what lies there.
    let first = world.cost(desk, "sync", "first publish, with the archive's image");
    let (bytes, objects) = world.segments();
    println!("first publish of {megabytes} MB: {bytes} bytes in {objects} segments");
    let [join, _] =
        [board, pocket].map(|machine| world.cost(machine, "sync", "first sync of another machine"));
    // Where there is memory already, all of it arrives row by row.
    lap.create_db(Version::V13_25_3).live_sessions(1);
    let arrived = world.cost(lap, "sync", "first sync of a machine with memory");
    // The first write asks the store what its conditional writes are worth, once a day.
    board.db().live_sessions(1);
    world.cost(board, "sync", "settle");
    world.cost(pocket, "sync", "settle");

    let (before, _) = world.segments();
    board.db().live_sessions(1);
    let published = world.cost(board, TURN, "one session published by a hook");
    let session = world.segments().0 - before;
    let collected = world.cost(pocket, START, "one session collected by a hook");
    let nothing = world.cost(pocket, TURN, "nothing new, by a hook");
    let by_hand = world.cost(pocket, "sync", "nothing new, by hand");
    let counts = |machine: &Machine| claude_mem::counts(machine.db_path());
    assert_eq!(counts(board), counts(pocket), "rows on both sides");
    (vec![first, join, arrived, published, collected, nothing, by_hand], session)
}

fn bench(binary: PathBuf, megabytes: u64) -> ExitCode {
    let (costs, session) = story(binary.clone(), megabytes, false);
    println!("\n{:<44}{:>12}{:>6}{:>12}{:>10}{:>10}", "sync", "bytes", "req", "disk", "CPU ms", "peak MB");
    for cost in &costs {
        println!(
            "{:<44}{:>12}{:>6}{:>12}{:>10}{:>10.1}",
            cost.what,
            cost.bytes,
            cost.requests,
            cost.usage.written,
            cost.usage.cpu_us / 1000,
            cost.usage.peak_rss as f64 / 1e6
        );
    }
    println!("\nthe segment of one session: {session} bytes");
    let mut missed = against_the_clear(&costs, &story(binary, megabytes, true).0);
    year(session);
    let [.., published, collected, nothing, _] = costs.as_slice() else { panic!("seven syncs") };
    missed.extend(verdict([published, collected, nothing]));
    for line in &missed {
        println!("MISSED {line}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the same costs sealed, as ratios; what is missed.
fn against_the_clear(clear: &[Cost], sealed: &[Cost]) -> Vec<String> {
    println!(
        "\n{:<44}{:>10}{:>12}{:>10}{:>10}{:>10}",
        "the same sealed, × unsealed", "bytes", "requests", "disk", "CPU", "peak"
    );
    let mut missed = Vec::new();
    let ratio = |ours: u64, theirs: u64| ours as f64 / theirs.max(1) as f64;
    for (cost, clear) in sealed.iter().zip(clear) {
        let bytes = ratio(cost.bytes, clear.bytes);
        println!(
            "{:<44}{:>10.3}{:>7} / {:>2}{:>10.2}{:>10.2}{:>10.2}",
            cost.what,
            bytes,
            cost.requests,
            clear.requests,
            ratio(cost.usage.written, clear.usage.written),
            ratio(cost.usage.cpu_us, clear.usage.cpu_us),
            ratio(cost.usage.peak_rss, clear.usage.peak_rss)
        );
        if cost.requests > clear.requests + 1 {
            missed.push(format!(
                "{} sealed: {} requests, {} unsealed",
                cost.what, cost.requests, clear.requests
            ));
        }
        if cost.bytes > clear.bytes + clear.bytes / 100 + SEALED {
            missed.push(format!("{} sealed: {} bytes, {} unsealed", cost.what, cost.bytes, clear.bytes));
        }
    }
    missed
}

fn verdict(costs: [&Cost; 3]) -> Vec<String> {
    let mut missed = Vec::new();
    for (cost, requests) in costs.into_iter().zip(REQUESTS) {
        let Cost { what, bytes, usage, .. } = cost;
        if *bytes > WIRE {
            missed.push(format!("{what}: {bytes} bytes, at most {WIRE}"));
        }
        if cost.requests > requests {
            missed.push(format!("{what}: {} requests, at most {requests}", cost.requests));
        }
        if usage.written > DISK {
            missed.push(format!("{what}: {} bytes written, at most {DISK}", usage.written));
        }
    }
    missed
}

/// Five machines, 40 sessions a day on each, for a year, folded as one packs: nothing is taken to pack better in one than in
/// sixteen, so the real figures are lower.
fn year(session: u64) {
    const MACHINES: u64 = 5;
    const SESSIONS: i64 = 40 * 365;
    let (mut own, mut folds, mut sent, mut next) = (Vec::new(), Vec::new(), 0_u64, 1_u64);
    let mut most = 0;
    for at in 0..SESSIONS {
        let now = at * 86_400 / 40;
        let mut put = |own: &mut Vec<ListedSegment>, size: u64| {
            sent += size;
            own.push(ListedSegment { writer: String::new(), number: next, size, modified: now });
            next += 1;
            next - 1
        };
        put(&mut own, session);
        let (kind, size, covers) = match decide(&own, &folds) {
            Decision::Nothing => continue,
            Decision::Fold { numbers, covers } => {
                let folded = own.iter().filter(|segment| numbers.contains(&segment.number));
                (Kind::Fold, folded.map(|segment| segment.size).sum(), covers)
            }
            Decision::Base { covers } => (Kind::Base, session * (at.unsigned_abs() + 1), covers),
        };
        let number = put(&mut own, size);
        folds = named(&folds, Fold { kind, number, parts: 1, covers });
        let gone = spent(&own, &folds, now);
        own.retain(|segment| !gone.contains(&segment.number));
        most = most.max(own.len());
    }
    let kept: u64 = own.iter().map(|segment| segment.size).sum();
    let mb = |bytes: u64| bytes * MACHINES / 1_000_000;
    println!(
        "a year of {MACHINES} machines, 40 sessions a day each: recorded {} MB, sent {} MB, kept {} MB in {} objects (at most {})",
        mb(session * SESSIONS.unsigned_abs()),
        mb(sent),
        mb(kept),
        own.len() as u64 * MACHINES,
        most as u64 * MACHINES
    );
}
