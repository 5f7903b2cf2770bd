//! `make bench-bytes`: what a push sends and a pull receives after one session and after ten, on a database of 100 MB,
//! beside the whole file, the whole file with zstd -3, and restic; what the push writes to the local disk; its processor
//! time as a ratio to a full push. Fails where a target is missed. Usage: bench_bytes MEGABYTES, with the binary in
//! MEMBRIDGE_BIN.

// A program for developers: panicking is how it reports that something is not as it should be.
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_imports
)]

mod others;
mod proxy;
#[path = "../../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use others::{Restic, whole_file};
use proxy::Proxy;
use support::claude_mem::{self, Version};
use support::machine::{Machine, Store};
use support::s3::{Handle, Op, S3Server};
use support::usage::{self, Usage};

/// Bytes that a push, and a pull, of one session may take with the mirror off.
const WIRE: u64 = 250_000;
/// Requests while the lock is held, from its confirmation to its return.
const AFTER_LOCK: usize = 3;
/// Bytes that a push of one session may write to the local disk.
const DISK: u64 = 2_000_000;

/// What went over the network.
#[derive(Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes with request lines, headers and framing.
    up: u64,
    down: u64,
    /// Bytes of bodies alone.
    up_bodies: u64,
    down_bodies: u64,
    requests: usize,
    after_lock: Option<usize>,
}

impl Traffic {
    fn since(proxy: &Proxy, server: &Handle) -> Traffic {
        let (up, down) = proxy.take();
        let log = server.requests();
        // The lock is ours once what was written has been read back and nobody claims it by other means; giving it back
        // is not counted, everything between is.
        let is_lock = |at: usize| log[at].key.ends_with("locks/active.lock");
        let acquiring =
            |at: usize| log[at].op != Op::PutObject && (is_lock(at) || log[at].key.ends_with("claims/lock/"));
        let taken = (0..log.len()).find(|at| is_lock(*at) && log[*at].op == Op::PutObject);
        let after_lock = taken.map(|at| {
            let ours = (at + 1..log.len()).take_while(|at| acquiring(*at)).count();
            let released = (at + 1..log.len()).rfind(|at| is_lock(*at) && log[*at].op == Op::PutObject);
            released.map_or(0, |release| release - at - 1 - ours)
                + released.map_or(0, |release| log.len() - 1 - release)
        });
        if std::env::var_os("SHOW_REQUESTS").is_some() {
            for request in &log {
                println!("    {} {} {}", request.op, request.key, request.status);
            }
        }
        Traffic {
            up,
            down,
            up_bodies: log.iter().map(|request| request.bytes_in).sum(),
            down_bodies: log.iter().map(|request| request.bytes_out).sum(),
            requests: log.len(),
            after_lock,
        }
    }
}

struct World {
    binary: PathBuf,
    server: S3Server,
    proxy: Proxy,
    desk: Machine,
    board: Machine,
}

impl World {
    fn new(binary: PathBuf) -> World {
        let server = S3Server::start();
        let proxy = Proxy::before(server.port());
        let store = Store::S3 {
            endpoint: format!("http://127.0.0.1:{}", proxy.port),
            bucket: server.bucket.clone(),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
        };
        let desk = Machine::with_binary(binary.clone(), "desk", &store);
        let board = Machine::with_binary(binary.clone(), "board", &store);
        World { binary, server, proxy, desk, board }
    }

    fn run(&self, machine: &Machine, words: &str) -> (Traffic, Usage) {
        self.proxy.take();
        self.server.reset_log();
        let (usage, _) = usage::of(machine, &self.binary, words);
        (Traffic::since(&self.proxy, &self.server), usage)
    }

    fn pull(&self) -> Traffic {
        let (traffic, _) = self.run(&self.board, "pull_sqlite");
        let counts = |machine: &Machine| claude_mem::counts(machine.db_path());
        assert_eq!(counts(&self.desk), counts(&self.board), "rows on both sides");
        traffic
    }
}

fn main() -> ExitCode {
    if let Some(exit) = usage::measured() {
        return exit;
    }
    let megabytes = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let binary = std::env::var_os("MEMBRIDGE_BIN").map(PathBuf::from);
    let (Some(megabytes), Some(binary)) = (megabytes, binary) else {
        eprintln!("usage: MEMBRIDGE_BIN=path bench_bytes MEGABYTES");
        return ExitCode::FAILURE;
    };
    bench(binary, megabytes)
}

/// One measured step, with what else could have been done.
struct Step {
    what: &'static str,
    push: Traffic,
    pull: Traffic,
    whole: (u64, u64),
    restic: Option<(Traffic, Traffic)>,
}

fn bench(binary: PathBuf, megabytes: u64) -> ExitCode {
    let world = World::new(binary);
    assert_on_a_disk(world.desk.home());
    let (desk, scratch) = (&world.desk, world.desk.home());
    println!("making a database of {megabytes} MB");
    desk.create_db(Version::V13_25_3).live_to_bytes(megabytes * 1_000_000);
    desk.cmd("mirror off").run().assert_code(0);
    let (first, full) = world.run(desk, "push_sqlite");
    world.pull();
    let restic = Restic::new(desk, &world.server, &world.proxy);
    let chunks = || {
        let restic = restic.as_ref()?;
        Some((restic.backup(&desk.db_path()), restic.restore()))
    };
    chunks();

    let step = |what, sessions, command: &str| {
        desk.db().live_sessions(sessions);
        let (push, usage) = world.run(desk, command);
        let step = Step {
            what,
            push,
            pull: world.pull(),
            whole: whole_file(&desk.db_path(), scratch),
            restic: chunks(),
        };
        (step, usage)
    };
    let (one, by_hand) = step("1 session, mirror off", 1, "push_sqlite");
    let (hook, by_hook) = step("1 session, mirror off, hook", 1, "push_sqlite --background");
    let (ten, _) = step("10 sessions, mirror off", 10, "push_sqlite");
    desk.cmd("mirror on").run().assert_code(0);
    world.run(desk, "push_sqlite");
    let (one_on, mirrored) = step("1 session, mirror on", 1, "push_sqlite");
    let (hook_on, _) = step("1 session, mirror on, hook", 1, "push_sqlite --background");
    let (ten_on, _) = step("10 sessions, mirror on", 10, "push_sqlite");

    let size = std::fs::metadata(desk.db_path()).expect("the database").len();
    println!("database: {size} bytes in the end; the first push, a full pack, sent {}", first.up);
    let steps = [one, hook, ten, one_on, hook_on, ten_on];
    tables(&steps);
    costs(full, by_hand, by_hook, mirrored);
    println!(
        "index pages kept on the local disk: {:.3} of the database\n",
        kept_pages(desk) as f64 / size as f64
    );
    verdict(&steps[0], by_hand, by_hook)
}

/// Bytes "written" to a file system in memory say nothing.
fn assert_on_a_disk(folder: &Path) {
    let kind = nix::sys::statfs::statfs(folder).expect("its file system").filesystem_type();
    let in_memory = kind == nix::sys::statfs::TMPFS_MAGIC;
    assert!(!in_memory, "{} is a tmpfs: set TMPDIR to a folder on a disk", folder.display());
}

fn tables(steps: &[Step]) {
    println!(
        "\nA push sends (bytes; × is how many times what membridge sends; hdr is request lines and headers)"
    );
    println!(
        "{:<28}{:>12}{:>8}{:>8}{:>5}{:>7} |{:>12}{:>7}{:>12}{:>7}{:>12}{:>7}",
        "after",
        "membridge",
        "hdr",
        "recvd",
        "req",
        "locked",
        "whole file",
        "×",
        "zstd -3",
        "×",
        "restic",
        "×"
    );
    for step in steps {
        let Traffic { up, up_bodies, down, .. } = step.push;
        let locked = step.push.after_lock.map_or("-".to_owned(), |count| count.to_string());
        let (whole, packed) = step.whole;
        print!(
            "{:<28}{up:>12}{:>8}{down:>8}{:>5}{locked:>7} |{whole:>12}{:>7}{packed:>12}{:>7}",
            step.what,
            up - up_bodies,
            step.push.requests,
            times(whole, up),
            times(packed, up)
        );
        println!("{}", restic_cells(step.restic.map(|(push, _)| push.up), up));
    }
    println!("\nA pull of it receives");
    println!(
        "{:<28}{:>12}{:>8}{:>8}{:>5} |{:>12}{:>7}{:>12}{:>7}{:>12}{:>7}",
        "after", "membridge", "hdr", "sent", "req", "whole file", "×", "zstd -3", "×", "restic", "×"
    );
    for step in steps {
        let Traffic { down, down_bodies, up, .. } = step.pull;
        let (whole, packed) = step.whole;
        print!(
            "{:<28}{down:>12}{:>8}{up:>8}{:>5} |{whole:>12}{:>7}{packed:>12}{:>7}",
            step.what,
            down - down_bodies,
            step.pull.requests,
            times(whole, down),
            times(packed, down)
        );
        println!("{}", restic_cells(step.restic.map(|(_, pull)| pull.down), down));
    }
    if steps.iter().any(|step| step.restic.is_none()) {
        println!("restic: skipped, it is not installed (apt-get install restic)");
    }
}

fn times(other: u64, ours: u64) -> String {
    format!("{:.0}", other as f64 / ours as f64)
}

fn restic_cells(bytes: Option<u64>, ours: u64) -> String {
    bytes.map_or_else(
        || format!("{:>12}{:>7}", "-", "-"),
        |bytes| format!("{bytes:>12}{:>7}", times(bytes, ours)),
    )
}

fn costs(full: Usage, by_hand: Usage, by_hook: Usage, mirrored: Usage) {
    println!("\nA push costs            written to disk   processor time   of a full push   peak memory");
    for (what, usage) in [
        ("full pack, mirror off", full),
        ("1 session, by hand", by_hand),
        ("1 session, hook", by_hook),
        ("1 session, mirror on", mirrored),
    ] {
        println!(
            "{what:<22}{:>15} B{:>14} ms{:>15.2} {:>13.1} MB",
            usage.written,
            usage.cpu_us / 1000,
            usage.cpu_us as f64 / full.cpu_us as f64,
            usage.peak_rss as f64 / 1e6
        );
    }
    println!();
}

/// Bytes that the index pages take on the disk; the holes between them take nothing.
fn kept_pages(machine: &Machine) -> u64 {
    let kept =
        machine.files().into_iter().filter(|file| Path::new(file).extension() == Some("pages".as_ref()));
    kept.map(|file| {
        let meta = std::fs::metadata(machine.path(&file)).expect("the file");
        std::os::unix::fs::MetadataExt::blocks(&meta) * 512
    })
    .sum()
}

fn verdict(one: &Step, by_hand: Usage, by_hook: Usage) -> ExitCode {
    let after_lock = one.push.after_lock.unwrap_or(usize::MAX);
    let targets = [
        ("push of one session, bytes sent", one.push.up, WIRE),
        ("pull of one session, bytes received", one.pull.down, WIRE),
        ("requests after the lock", after_lock as u64, AFTER_LOCK as u64),
        ("bytes written to disk, by hand", by_hand.written, DISK),
        ("bytes written to disk, hook", by_hook.written, DISK),
    ];
    let mut within = true;
    for (what, value, limit) in targets {
        let ok = value <= limit;
        println!("{what}: {value} (limit {limit}): {}", if ok { "ok" } else { "TOO MUCH" });
        within &= ok;
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
