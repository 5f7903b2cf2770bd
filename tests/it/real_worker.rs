//! The worker that people run: claude-mem of three releases, from npm, under bun. Needs the folder that
//! tests/claude-mem/setup.sh makes, in MEMBRIDGE_TEST_CLAUDE_MEM; without it these tests say so and pass.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::claude_mem;
use crate::support::machine::{Machine, Store};

/// One at a time: a 10.6.3 worker that boots kills every other worker that it can see. That is also why
/// tests/claude-mem/run.sh runs these tests alone, in a process namespace of their own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by whoever runs workers.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder, or a word about its absence.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("MEMBRIDGE_TEST_CLAUDE_MEM").map(PathBuf::from);
    if folder.is_none() {
        println!(
            "SKIPPED: MEMBRIDGE_TEST_CLAUDE_MEM is not set (tests/claude-mem/setup.sh makes the folder)"
        );
    }
    folder
}

/// A machine whose claude-mem is this release.
pub struct RealMachine {
    pub machine: Machine,
    port: u16,
    pub bun: PathBuf,
    pub script: PathBuf,
}

impl RealMachine {
    pub fn new(folder: &Path, release: &str, name: &str, store: impl Into<Store>) -> RealMachine {
        let mut machine = Machine::new(name, store);
        // Free now; a worker that cannot bind it fails the test by never getting ready.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bun = folder.join("bun/node_modules/.bin/bun");
        machine.set("CLAUDE_MEM_WORKER_PORT", port.to_string());
        machine.set("BUN", bun.as_os_str());
        let cache = machine.path(".claude/plugins/cache/thedotmack/claude-mem");
        std::fs::create_dir_all(&cache).unwrap();
        let plugin = cache.join(release);
        std::os::unix::fs::symlink(folder.join(format!("claude-mem-{release}/package/plugin")), &plugin)
            .unwrap();
        // Neither a vector store nor anything else that would be fetched.
        machine.write(".claude-mem/settings.json", "{\"CLAUDE_MEM_CHROMA_ENABLED\": \"false\"}");
        let script = plugin.join("scripts/worker-service.cjs");
        assert!(script.is_file(), "{}", script.display());
        RealMachine { machine, port, bun, script }
    }

    /// Starts it as claude-mem's hooks do, with the secrets of an old installation in its environment.
    pub fn start(&self) {
        let child = self
            .machine
            .bare("setsid")
            .args([&self.bun, &self.script])
            .arg("--daemon")
            .env("DO_NOT_TRACK", "1")
            .env("CLAUDE_MEM_TELEMETRY", "0")
            .env("MINIO_SECRET_KEY", "hunter22")
            .env("AWS_SECRET_ACCESS_KEY", "hunter22")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Reaped when it ends, as init would do it.
        let mut child = child;
        std::thread::spawn(move || child.wait());
        self.until_ready();
    }

    fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.ask("GET", "/api/readiness", None).is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < deadline, "the worker does not get ready: {}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the worker wrote, for a test that fails.
    fn logs(&self) -> String {
        let folder = std::fs::read_dir(self.machine.path(".claude-mem/logs"));
        let files = folder.into_iter().flatten().flatten();
        let texts = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        format!(
            "port {} {:?}\n{}",
            self.port,
            self.ask("GET", "/api/health", None),
            texts.collect::<String>()
        )
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn stats(&self, what: &str) -> i64 {
        self.get("/api/stats")["database"][what].as_i64().unwrap()
    }

    fn pid(&self) -> i64 {
        self.get("/api/health")["pid"].as_i64().unwrap()
    }

    /// Observations named `PREFIX-number`, in through the worker.
    fn import(&self, prefix: &str, numbers: std::ops::Range<i64>) {
        let time = |number: i64| 1_767_225_600_000 + number;
        let iso = "2026-01-01T00:00:00.000Z";
        let observations: Vec<Value> = numbers
            .map(|number| {
                json!({
                    "memory_session_id": format!("m-{prefix}"), "project": "p", "type": "discovery",
                    "title": format!("{prefix}-{number}"), "subtitle": "s", "narrative": format!("{prefix} tells {number}"),
                    "text": null, "facts": "[]", "concepts": "[]", "files_read": "[]", "files_modified": "[]",
                    "prompt_number": 1, "discovery_tokens": 0, "created_at": iso, "created_at_epoch": time(number),
                })
            })
            .collect();
        let body = json!({
            "sessions": [{
                "content_session_id": format!("c-{prefix}"), "memory_session_id": format!("m-{prefix}"),
                "project": "p", "user_prompt": "u", "started_at": iso, "started_at_epoch": time(0),
                "status": "completed", "completed_at": null, "completed_at_epoch": null,
            }],
            "observations": observations, "summaries": [], "prompts": [],
        });
        let (status, answer) = self.ask("POST", "/api/import", Some(body.to_string())).expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }

    fn ask(&self, method: &str, path: &str, body: Option<String>) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        // A connection that is held blocks the worker's boot.
        let patience = Duration::from_secs(if method == "GET" { 2 } else { 20 });
        stream.set_read_timeout(Some(patience)).ok()?;
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        // bun leaves the connection open whatever it was asked, so the length says where the answer ends.
        let mut answer = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length").then_some(value)
                });
                if body.len() >= length?.parse().ok()? {
                    return Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()));
                }
            }
            match stream.read(&mut chunk).ok()? {
                0 => return None,
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

impl Drop for RealMachine {
    fn drop(&mut self) {
        let _ = self.ask("POST", "/api/admin/shutdown", None);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ask("GET", "/api/health", None).is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Push while the worker writes, rows into a machine whose worker runs and back, and what these workers say of it; then a
/// restore, which stops one and starts it again.
fn round_trip(release: &str) {
    let Some(folder) = folder() else { return };
    let _alone = alone();
    let store = tempfile::tempdir().unwrap();
    let alpha = RealMachine::new(&folder, release, "alpha", store.path());
    alpha.start();
    alpha.import("alpaca", 0..20);
    let pid = alpha.pid();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for batch in 1..10 {
                alpha.import("alpaca", batch * 20..(batch + 1) * 20);
            }
        });
        alpha.machine.cmd("push_sqlite").run().assert_code(0).stdout_has("PUSH COMPLETE");
        writer.join().unwrap();
    });
    // A push never stops the worker (F14).
    assert_eq!(alpha.pid(), pid);
    alpha.machine.cmd("push_sqlite").run().assert_code(0);
    assert_eq!(alpha.stats("observations"), 200);

    let beta = RealMachine::new(&folder, release, "beta", store.path());
    beta.start();
    let before = beta.pid();
    beta.machine.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    // Rows arrive beside it, where it can stand that; 10.6.3 was stopped for them and runs again.
    assert_eq!(beta.pid() == before, release != "10.6.3");
    assert_eq!(beta.stats("observations"), 200);
    assert_eq!(beta.get("/api/health")["version"], release);
    let newest = beta.get("/api/observations?limit=5&offset=0");
    assert_eq!(newest["items"][0]["title"], "alpaca-199");
    let searched = beta.ask("GET", "/api/search/observations?query=alpaca-7&limit=5", None);
    // 10.6.3 searches with its vector store only, which is switched off here.
    if release != "10.6.3" {
        let (status, body) = searched.expect("an answer");
        assert!(status == 200 && body.contains("alpaca-7"), "{status} {body}");
    }
    // And back, out of a worker that goes on taking writes.
    beta.import("beaver", 0..5);
    assert_eq!(beta.stats("observations"), 205);
    beta.machine.cmd("sync").run().assert_code(0).stdout_has("sending: 5 observations");
    alpha.machine.cmd("sync").run().assert_code(0).stdout_has("received: 5 observations");
    assert_eq!(observations(&alpha), 205);
    // 10.6.3 ends the workers of others when it starts: alpha's is gone since beta's came.
    if release != "10.6.3" {
        assert_eq!((alpha.pid(), alpha.stats("observations")), (pid, 205));
    }

    beta.machine.cmd("restore head --yes").run().assert_code(0).stdout_has("RESTORE COMPLETE");
    beta.until_ready();
    assert_ne!(beta.pid(), before);
    assert_eq!(beta.stats("observations"), 205);
    nothing_of_ours_is_in_its_environment(&beta);
    assert!(!beta.machine.path(".claude-mem/spawn.lock").exists());
    beta.import("beaver", 5..7);
    assert_eq!(beta.stats("observations"), 207);
}

fn observations(machine: &RealMachine) -> i64 {
    claude_mem::counts(machine.machine.db_path()).observations
}

fn nothing_of_ours_is_in_its_environment(machine: &RealMachine) {
    let process = PathBuf::from(format!("/proc/{}", machine.pid()));
    let environment = std::fs::read(process.join("environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let names: Vec<&str> = environment.split('\0').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    assert!(names.contains(&"HOME") && names.contains(&"CLAUDE_MEM_WORKER_PORT"), "{names:?}");
    for name in &names {
        let ours = ["MINIO_", "AWS_", "MEMBRIDGE_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(!ours && *name != "CLAUDE_PROJECT_ID", "{name}");
    }
    assert!(!environment.contains("hunter22"));
    // A session of its own, and no descriptor of ours.
    for descriptor in 0..3 {
        let target = std::fs::read_link(process.join(format!("fd/{descriptor}"))).unwrap();
        assert_eq!(target, Path::new("/dev/null"));
    }
    let stat = std::fs::read_to_string(process.join("stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    let ours = nix::unistd::getsid(None).unwrap().to_string();
    assert_ne!(session, ours);
}

/// Rows of a long life arrive while somebody works: a person's save waits for one slice, and never fails.
#[test]
fn a_save_waits_a_fifth_of_a_second_at_most_while_twenty_thousand_rows_arrive() {
    let Some(folder) = folder() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let store = tempfile::tempdir().unwrap();
    let alpha = Machine::new("alpha", store.path());
    alpha.create_db(claude_mem::Version::V13_25_3).live_sessions(400);
    alpha.cmd("sync").timeout(Duration::from_mins(5)).run().assert_code(0);
    let rows = claude_mem::counts(alpha.db_path());
    assert!(rows.observations + rows.user_prompts > 19_000, "{rows:?}");
    let beta = RealMachine::new(&folder, "13.25.3", "beta", store.path());
    beta.start();
    beta.import("beaver", 0..1);
    let pid = beta.pid();
    let save = |number: usize| {
        let body =
            json!({"text": format!("saved {number}"), "title": format!("saved {number}"), "project": "p"});
        let began = Instant::now();
        let (status, answer) =
            beta.ask("POST", "/api/memory/save", Some(body.to_string())).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        began.elapsed()
    };
    // What a save takes on this machine while nothing arrives and something else keeps it as busy.
    let quiet = (0..20).map(&save).max().unwrap();
    let mut waits = Vec::new();
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| {
            beta.machine.cmd("sync").timeout(Duration::from_mins(5)).run().assert_code(0);
        });
        while !sync.is_finished() {
            waits.push(save(20 + waits.len()));
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{} saves during the arrival: median {median:?}, longest {longest:?}, before it {quiet:?}",
        waits.len()
    );
    assert!(waits.len() > 50, "the rows came too quickly to tell anything: {waits:?}");
    assert!(longest < Duration::from_millis(200) + quiet, "{waits:?}");
    assert_eq!(beta.pid(), pid);
    let saved = i64::try_from(waits.len() + 20).unwrap();
    assert_eq!(beta.stats("observations"), rows.observations + 1 + saved);
}

#[test]
fn claude_mem_13_25_3_goes_on_after_a_push_and_a_pull() {
    round_trip("13.25.3");
}

#[test]
fn claude_mem_13_15_3_goes_on_after_a_push_and_a_pull() {
    round_trip("13.15.3");
}

#[test]
fn claude_mem_10_6_3_goes_on_after_a_push_and_a_pull() {
    round_trip("10.6.3");
}

#[test]
fn f44_an_old_claude_mem_gets_the_rows_of_a_newer_one_and_not_its_database() {
    let Some(folder) = folder() else { return };
    let _alone = alone();
    let store = tempfile::tempdir().unwrap();
    let alpha = RealMachine::new(&folder, "13.25.3", "alpha", store.path());
    alpha.start();
    alpha.import("alpaca", 0..20);
    alpha.machine.cmd("push_sqlite").run().assert_code(0);

    let beta = RealMachine::new(&folder, "10.6.3", "beta", store.path());
    beta.start();
    beta.import("beaver", 0..3);
    let pid = beta.pid();
    beta.machine.cmd("restore head --yes").run().assert_code(1).stdout_has("10.6.3");
    assert_eq!(beta.pid(), pid);
    beta.machine.cmd("pull_sqlite").run().assert_code(0).stdout_has("SYNC COMPLETE");
    assert_eq!(beta.stats("observations"), 23);
    assert_ne!(beta.pid(), pid, "stopped for the rows, and started again");
    alpha.machine.cmd("sync").run().assert_code(0);
    assert_eq!(observations(&alpha), 23);
}

#[test]
fn an_export_is_what_claude_mem_imports_and_an_import_what_it_knows() {
    let Some(folder) = folder() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let store = tempfile::tempdir().unwrap();
    let release = "13.25.3";
    let alpha = RealMachine::new(&folder, release, "alpha", store.path());
    alpha.start();
    alpha.import("alpaca", 0..20);
    alpha
        .machine
        .cmd("export memory.json")
        .run()
        .assert_code(0)
        .stdout_has("exported 20 observations, 1 session");
    let export = std::fs::read_to_string(alpha.machine.path("memory.json")).unwrap();

    // Into claude-mem by its own import, and then there is nothing that ours would add.
    let beta = RealMachine::new(&folder, release, "beta", store.path());
    beta.start();
    let (status, answer) = beta.ask("POST", "/api/import", Some(export.clone())).expect("an answer");
    assert_eq!((status, beta.stats("observations")), (200, 20), "{answer}");
    beta.machine.write("memory.json", &export);
    beta.machine.cmd("import memory.json").run().assert_code(0).stdout_has("imported nothing new");

    // Into another one by ours, beside its worker, which shows the rows and finds nothing to add.
    let gamma = RealMachine::new(&folder, release, "gamma", store.path());
    gamma.start();
    gamma.machine.write("memory.json", &export);
    gamma
        .machine
        .cmd("import memory.json")
        .run()
        .assert_code(0)
        .stdout_has("imported 20 observations, 1 session");
    assert_eq!(gamma.stats("observations"), 20);
    let (status, answer) = gamma.ask("POST", "/api/import", Some(export)).expect("an answer");
    assert_eq!((status, gamma.stats("observations")), (200, 20), "{answer}");
    assert_eq!(claude_mem::integrity(gamma.machine.db_path()), "ok");
}
