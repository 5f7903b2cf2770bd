//! What `membridge server` bears: `make load-fleet`. 1,000 heartbeats a second, 10,000 jobs listed, 10,000 connections
//! that say nothing while /health is asked. LOAD_SECONDS says for how long (30).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::fleet::{AGENT_KEY, Daemon};
use crate::support::machine::Machine;

/// Connections over which the beats come.
const CLIENTS: u32 = 4;

/// Beats a second, all together.
const RATE: u32 = 1_000;

/// Resident memory at most, kB.
const MEMORY: u64 = 16 * 1024;

#[test]
#[ignore = "takes a minute and the whole machine: make load-fleet"]
fn a_server_bears_a_thousand_beats_a_second_in_16_mb() {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    // A development build is twice as large in memory before it has done anything.
    let binary = std::env::var_os("MEMBRIDGE_BIN").expect("a release: make load-fleet");
    let store = tempfile::tempdir().unwrap();
    let desk = Machine::with_binary(binary.into(), "desk", store.path());
    fill_jobs(&desk.path("membridge/server/data/jobs.db"));
    let server = Daemon::server(&desk, "");
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let at = server.at;
            std::thread::spawn(move || beats(at, client, seconds))
        })
        .collect();
    let slowest = clients.into_iter().map(|client| client.join().unwrap()).max().unwrap_or_default();
    let rate = f64::from(RATE) * f64::from(seconds) / began.elapsed().as_secs_f64();
    let memory = resident(server.pid());
    println!("{rate:.0} heartbeats a second for {seconds} s, the slowest {slowest:?}; {memory} kB resident");
    let began = Instant::now();
    let listed = server.get("/jobs?limit=200").expect(200);
    let listing = began.elapsed();
    assert_eq!(listed.as_array().map(Vec::len), Some(200));
    let (asked, health) = silent_connections(&server);
    let after = resident(server.pid());
    let peak = peak(server.pid());
    println!(
        "200 of 10,000 jobs in {listing:?}; {asked} times /health beside 10,000 silent connections, the slowest \
         {health:?}; {after} kB resident, at most {peak}"
    );
    assert!(rate >= f64::from(RATE) * 0.95, "{rate}");
    assert!(peak <= MEMORY, "{memory} and {after} kB, at most {peak}");
    assert!(listing < Duration::from_secs(1) && health < Duration::from_secs(2));
}

/// Ten thousand jobs of somebody's past.
fn fill_jobs(path: &Path) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
    let jobs = rusqlite::Connection::open(path).expect("jobs.db");
    jobs.execute_batch(
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, action TEXT, project TEXT, agent TEXT, canonical_id TEXT,
         status TEXT DEFAULT 'pending', detail TEXT, stdout TEXT, stderr TEXT, returncode INTEGER, dryrun INTEGER,
         created_at REAL, finished_at REAL, request_id TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO jobs SELECT printf('%016x', i), 'push', 'mem', 'a1', '6fe2e0f6071ac2bb', 'completed',
         'push completed', printf('%.*c', 4000, 'x'), NULL, 0, 0, i, i + 1, 'r' FROM n;",
    )
    .expect("fill it");
}

/// Beats over one connection, evenly; returns the longest wait for an answer.
fn beats(at: SocketAddr, client: u32, seconds: u32) -> Duration {
    let mut stream = TcpStream::connect(at).expect("connect");
    stream.set_nodelay(true).expect("no delay");
    let each = Duration::from_secs(1) * CLIENTS / RATE;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for n in 0..seconds * RATE / CLIENTS {
        let due = began + each * n;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = format!(
            r#"{{"node_id":"node-{}","canonical_id":"6fe2e0f6071ac2bb","project_id":"mem","obs_count":{n}}}"#,
            client * 25 + n % 25
        );
        let request = format!(
            "POST /agent/heartbeat HTTP/1.1\r\nHost: x\r\nX-MEMBRIDGE-AGENT: {AGENT_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = [0; 2048];
        let count = stream.read(&mut answer).expect("an answer");
        assert!(
            answer[..count].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..count])
        );
        slowest = slowest.max(asked.elapsed());
    }
    slowest
}

/// Four at once open ten thousand connections that send the beginning of a request, and keep what they are left; asks
/// for /health all the while. Returns how often, and the longest wait.
fn silent_connections(server: &Daemon) -> (u32, Duration) {
    let at = server.at;
    let attempts = Arc::new(AtomicU32::new(0));
    let silent: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let attempts = Arc::clone(&attempts);
            std::thread::spawn(move || {
                let mut open = Vec::new();
                while attempts.fetch_add(1, Ordering::Relaxed) < 10_000 {
                    let Ok(mut stream) = TcpStream::connect(at) else { continue };
                    let _ = stream.write_all(b"GET /projects HTTP/1.1\r\nX-Slow: ");
                    open.push(stream);
                    // What this process may have open at once.
                    if open.len() > 200 {
                        open.drain(..100);
                    }
                }
            })
        })
        .collect();
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while silent.iter().any(|thread| !thread.is_finished()) {
        let began = Instant::now();
        server.raw("GET", "/health", &[], None).expect(200);
        slowest = slowest.max(began.elapsed());
        asked += 1;
    }
    for thread in silent {
        thread.join().expect("ten thousand connections");
    }
    (asked, slowest)
}

fn resident(pid: i32) -> u64 {
    kilobytes(pid, "VmRSS:")
}

fn peak(pid: i32) -> u64 {
    kilobytes(pid, "VmHWM:")
}

fn kilobytes(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
