//! `make bench`: what membridge costs beside what people could use instead, in one run: by the clock, of the processor, of
//! memory, on the wire, on the disk; and beside the floor, which is reading, hashing, packing and moving the same bytes. Each
//! round begins anew; figures are medians of the rounds. Prints the page that docs/benchmarks.md is; with a folder as last
//! argument it writes it there, with its chart. Fails where a target is missed.
//! Usage: bench ROUNDS SIZES… [FOLDER], sizes in MB; the binary in MEMBRIDGE_BIN, tools in BENCH_TOOLS (scripts/bench.sh).

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

mod chart;
mod floor;
mod page;
mod peers;
mod samples;
#[path = "../../support/mod.rs"]
mod support;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use floor::Floor;
use peers::Peers;
use samples::{Cost, OURS, SEALED, Samples};
use support::claude_mem::{self, Version};
use support::link::{Link, Speed};
use support::machine::{Machine, Store};
use support::s3::{Handle, S3Server};
use support::usage;

/// What is measured, in the order in which it happens.
mod cases {
    pub const FIRST_PUSH: &str = "first machine, whole database up, with the copy for Python nodes";
    pub const FIRST_PUSH_ALONE: &str = "first machine, whole database up, without that copy";
    pub const FIRST_PULL: &str = "another machine, whole database down";
    pub const SESSION_UP: &str = "one session recorded, sent by the hook";
    pub const SESSION_DOWN: &str = "one session of another machine, taken in by the hook";
    pub const SESSIONS_UP: &str = "ten sessions recorded, sent by the hook";
    pub const ARCHIVE: &str = "one session recorded, push_sqlite with the copy for Python nodes";
    pub const ARCHIVE_ALONE: &str = "one session recorded, push_sqlite without that copy";
    pub const NOTHING: &str = "nothing new, sync of the hook";
    pub const NOTHING_BY_HAND: &str = "nothing new, push_sqlite";
    pub const RESTORE: &str = "restore of an earlier commit";
    pub const DOCTOR: &str = "doctor";
    pub const HOOK: &str = "hook stop, until Claude Code goes on";
    pub const SLOW_UP: &str = "slow line: one session sent by the hook";
    pub const SLOW_DOWN: &str = "slow line: one session taken in by the hook";
    pub const SLOW_NOTHING: &str = "slow line: nothing new";
}

/// A slow uplink: 1 Mbit/s, and 300 ms there and back.
const SLOW: Speed = Speed { up: Some(125_000), down: None, delay: Duration::from_millis(150) };

const TURN: &str = "sync --for turn";
const START: &str = "sync --for start";

/// A store behind a link, and how to get at it.
struct Bucket {
    server: S3Server,
    link: Link,
}

impl Bucket {
    fn new(speed: Speed) -> Self {
        let server = S3Server::start();
        let link = Link::to(server.port(), speed);
        Self { server, link }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.link.port)
    }

    fn store(&self) -> Store {
        let server: &Handle = &self.server;
        Store::S3 {
            endpoint: self.endpoint(),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
        }
    }

    /// Forgets what went over the link until now.
    fn reset(&self) {
        self.link.take();
        self.server.reset_log();
    }

    /// A run that has ended, with what it sent and received since the last reset.
    fn cost(&self, usage: usage::Usage) -> Cost {
        let (up, down) = self.link.take();
        Cost { usage, up, down, requests: self.server.requests().len() as u64 }
    }
}

fn main() -> ExitCode {
    if let Some(exit) = usage::measured() {
        return exit;
    }
    if let Some(exit) = Floor::measured() {
        return exit;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let folder = words.last().filter(|word| word.parse::<u64>().is_err()).map(PathBuf::from);
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    let (Some((rounds, sizes)), Some(binary)) = (numbers.split_first(), binary) else {
        eprintln!("usage: MEMBRIDGE_BIN=path bench ROUNDS SIZES… [FOLDER]");
        return ExitCode::FAILURE;
    };
    let peers = Peers::find();
    let mut samples = Samples::default();
    for megabytes in sizes {
        for round in 1..=*rounds {
            eprintln!("{megabytes} MB, round {round} of {rounds}");
            life(&binary, *megabytes, &peers, &mut samples);
        }
    }
    for round in 1..=*rounds {
        eprintln!("slow line, round {round} of {rounds}");
        slow(&binary, &peers, &mut samples);
    }
    let page = page::page(&samples, *rounds, sizes, &peers);
    println!("{page}");
    if let Some(folder) = folder {
        std::fs::write(folder.join("benchmarks.md"), &page).expect("write the page");
        let largest = sizes.iter().max().copied().unwrap_or_default();
        std::fs::write(folder.join("benchmarks.svg"), chart::chart(&samples, largest))
            .expect("write the chart");
    }
    let missed = targets::missed(&samples, sizes);
    for line in &missed {
        println!("MISSED {line}");
    }
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One machine of ours in a world of its own.
struct World<'a> {
    bucket: &'a Bucket,
    binary: &'a PathBuf,
    megabytes: u64,
    samples: &'a mut Samples,
}

impl World<'_> {
    fn ours(&mut self, case: &'static str, machine: &Machine, words: &str) {
        self.run(case, OURS, machine, words);
    }

    fn sealed(&mut self, case: &'static str, machine: &Machine, words: &str) {
        self.run(case, SEALED, machine, words);
    }

    fn run(&mut self, case: &'static str, who: &'static str, machine: &Machine, words: &str) {
        self.bucket.reset();
        let (usage, _) = usage::of(machine, self.binary, words);
        let cost = self.bucket.cost(usage);
        self.samples.add(self.megabytes, case, who, cost);
    }

    fn other(&mut self, case: &'static str, who: &'static str, cost: Option<Cost>) {
        if let Some(cost) = cost {
            self.samples.add(self.megabytes, case, who, cost);
        }
    }
}

fn life(binary: &PathBuf, megabytes: u64, peers: &Peers, samples: &mut Samples) {
    use cases::*;
    let bucket = Bucket::new(Speed::FULL);
    let machine = |name: &str| Machine::with_binary(binary.clone(), name, bucket.store());
    let (desk, board) = (machine("desk"), machine("board"));
    let (theirs, theirs_too) = (machine("theirs"), machine("theirs-too"));
    let of = |name: &str, project: &str| {
        let mut machine = machine(name);
        machine.set("CLAUDE_PROJECT_ID", project);
        machine
    };
    let alone = of("alone", "alone");
    let (sealed, sealed_too) = (of("sealed", "sealed"), of("sealed-too", "sealed"));
    assert_on_a_disk(&desk);
    desk.create_db(Version::V13_25_3).live_to_bytes(megabytes * 1_000_000);
    for other in [&theirs, &alone, &sealed] {
        copy(&desk, other);
    }
    alone.cmd("mirror off").run().assert_code(0);
    seal(&sealed, &sealed_too);

    let mut world = World { bucket: &bucket, binary, megabytes, samples };
    let floor = Floor::new(&bucket, &desk);
    world.other(FIRST_PUSH, floor::NAME, Some(floor.up()));
    world.ours(FIRST_PUSH, &desk, "push_sqlite");
    world.other(FIRST_PUSH, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
    world.other(FIRST_PUSH, peers::RCLONE, peers.rclone_up(&bucket, &theirs));
    peers.restic_init(&bucket, &theirs);
    world.other(FIRST_PUSH, peers::RESTIC, peers.restic_backup(&bucket, &theirs));
    world.ours(FIRST_PUSH_ALONE, &alone, "push_sqlite");
    world.sealed(FIRST_PUSH_ALONE, &sealed, "push_sqlite");

    world.other(FIRST_PULL, floor::NAME, Some(floor.down()));
    world.ours(FIRST_PULL, &board, "pull_sqlite");
    world.sealed(FIRST_PULL, &sealed_too, "pull_sqlite");
    world.other(FIRST_PULL, peers::PYTHON, peers.python(&bucket, &theirs_too, "pull"));
    world.other(FIRST_PULL, peers::RCLONE, peers.rclone_down(&bucket, &theirs_too));
    world.other(FIRST_PULL, peers::RESTIC, peers.restic_restore(&bucket, &theirs_too));

    for (sessions, up, down) in [(1, SESSION_UP, Some(SESSION_DOWN)), (10, SESSIONS_UP, None)] {
        for machine in [&desk, &theirs, &sealed] {
            machine.db().live_sessions(sessions);
        }
        world.ours(up, &desk, TURN);
        world.sealed(up, &sealed, TURN);
        world.other(up, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
        world.other(up, peers::RCLONE, peers.rclone_up(&bucket, &theirs));
        world.other(up, peers::RESTIC, peers.restic_backup(&bucket, &theirs));
        let Some(down) = down else { continue };
        world.ours(down, &board, START);
        world.sealed(down, &sealed_too, START);
        world.other(down, peers::PYTHON, peers.python(&bucket, &theirs_too, "pull"));
        world.other(down, peers::RCLONE, peers.rclone_down(&bucket, &theirs_too));
        world.other(down, peers::RESTIC, peers.restic_restore(&bucket, &theirs_too));
        for (from, to) in [(&desk, &board), (&sealed, &sealed_too)] {
            let [from, to] = [from, to].map(|machine| claude_mem::counts(machine.db_path()));
            assert_eq!(from, to, "rows on both sides");
        }
    }

    for machine in [&desk, &theirs, &alone] {
        machine.db().live_sessions(1);
    }
    world.ours(ARCHIVE, &desk, "push_sqlite");
    world.other(ARCHIVE, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
    world.ours(ARCHIVE_ALONE, &alone, "push_sqlite");

    world.ours(NOTHING, &desk, TURN);
    world.sealed(NOTHING, &sealed, TURN);
    world.other(NOTHING, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
    world.other(NOTHING, peers::RESTIC, peers.restic_backup(&bucket, &theirs));
    world.ours(NOTHING_BY_HAND, &desk, "push_sqlite");
    world.ours(DOCTOR, &desk, "doctor");
    world.ours(HOOK, &desk, "hook stop");
    world.ours(RESTORE, &board, "restore 1 --yes");
}

/// A database of 3 MB behind a slow uplink.
fn slow(binary: &PathBuf, peers: &Peers, samples: &mut Samples) {
    use cases::*;
    let megabytes = 3;
    let bucket = Bucket::new(Speed::FULL);
    let machine = |name: &str| Machine::with_binary(binary.clone(), name, bucket.store());
    let (mut desk, mut board, mut theirs) = (machine("desk"), machine("board"), machine("theirs"));
    desk.create_db(Version::V13_25_3).live_to_bytes(megabytes * 1_000_000);
    copy(&desk, &theirs);
    desk.cmd("push_sqlite").run().assert_code(0);
    board.cmd("pull_sqlite").run().assert_code(0);
    peers.restic_init(&bucket, &theirs);
    peers.python(&bucket, &theirs, "push");
    peers.restic_backup(&bucket, &theirs);
    // What was made over a fast line goes on over a slow one.
    let Bucket { server, .. } = bucket;
    let slow = Link::to(server.port(), SLOW);
    let bucket = Bucket { server, link: slow };
    for machine in [&mut desk, &mut board, &mut theirs] {
        machine.use_store(bucket.store());
    }
    for machine in [&desk, &board] {
        // The store has another name now: it is met once more.
        machine.cmd("sync").timeout(Duration::from_mins(5)).run().assert_code(0);
    }
    for machine in [&desk, &theirs] {
        machine.db().live_sessions(1);
    }
    let mut world = World { bucket: &bucket, binary, megabytes, samples };
    world.ours(SLOW_UP, &desk, TURN);
    world.other(SLOW_UP, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
    world.other(SLOW_UP, peers::RESTIC, peers.restic_backup(&bucket, &theirs));
    world.ours(SLOW_DOWN, &board, START);
    world.ours(SLOW_NOTHING, &board, START);
    world.other(SLOW_NOTHING, peers::PYTHON, peers.python(&bucket, &theirs, "push"));
}

/// Seals the project of two machines; no copy for Python nodes is kept from then on.
fn seal(first: &Machine, other: &Machine) {
    first.cmd("key init").run().assert_code(0);
    let key = std::fs::read_to_string(first.path(".claude-mem-minio/fleet.key")).expect("the key");
    other.cmd("key import").stdin(key).run().assert_code(0);
}

fn copy(from: &Machine, to: &Machine) {
    std::fs::create_dir_all(to.db_path().parent().expect("a folder")).expect("make the folder");
    // Whoever wrote it has closed it: nothing lies beside it.
    std::fs::copy(from.db_path(), to.db_path()).expect("copy the database");
}

/// Bytes "written" to a file system in memory say nothing.
fn assert_on_a_disk(machine: &Machine) {
    let kind = nix::sys::statfs::statfs(machine.home()).expect("its file system").filesystem_type();
    let in_memory = kind == nix::sys::statfs::TMPFS_MAGIC;
    assert!(!in_memory, "{} is a tmpfs: set TMPDIR to a folder on a disk", machine.home().display());
}
