//! A claude-mem worker as membridge meets it: its HTTP answers, and a harmless process
//! (`sleep` under the worker's name) behind the pid it reports, so that membridge may
//! signal that pid and never the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::claude_mem;

/// How the worker answers; change it at any time through `FakeWorker::behave`.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub version: String,
    /// `/api/readiness`: 200 or 503. Health stays 200.
    pub ready: bool,
    /// Depth of the queue; each look at processing-status takes one off.
    pub queue: usize,
    /// Whether the queue drains.
    pub drains: bool,
    /// The shutdown request ends the process. Otherwise it is answered and ignored.
    pub obeys_shutdown: bool,
    /// The process ignores SIGTERM; set it before `start`.
    pub ignores_sigterm: bool,
    /// The database whose rows `/api/stats` counts.
    pub database: Option<PathBuf>,
    /// Connections are taken and never answered.
    pub mute: bool,
    /// The path it reports as its script.
    pub worker_path: String,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            version: "13.25.3".to_owned(),
            ready: true,
            queue: 0,
            drains: true,
            obeys_shutdown: true,
            ignores_sigterm: false,
            database: None,
            mute: false,
            worker_path: "/nonexistent/plugin/scripts/worker-service.cjs".to_owned(),
        }
    }
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<String>>,
    pid: Pid,
    port: u16,
    gone: AtomicBool,
    closing: AtomicBool,
}

/// `spawn` returns when the new program takes over, a moment before the kernel knows its command line.
pub fn named(child: std::process::Child) -> std::process::Child {
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while std::fs::read(format!("/proc/{}/cmdline", child.id())).expect("the process").is_empty() {
        assert!(std::time::Instant::now() < limit, "the program never starts");
        std::thread::yield_now();
    }
    child
}

/// A running worker; dropping it ends the process and the server.
pub struct FakeWorker {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
    reaper: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeWorker {
    pub fn start(behaviour: Behaviour) -> FakeWorker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let port = listener.local_addr().expect("the port").port();
        let mut command = if behaviour.ignores_sigterm {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "trap '' TERM; echo up; while :; do sleep 1; done", "worker-service.cjs"]);
            shell
        } else {
            let mut sleep = Command::new("/bin/sleep");
            sleep.arg0("worker-service.cjs").arg("600");
            sleep
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = named(command.spawn().expect("start the worker's process"));
        if behaviour.ignores_sigterm {
            // The trap must be set before anybody signals.
            let mut line = String::new();
            let out = child.stdout.take().expect("a pipe");
            BufReader::new(out).read_line(&mut line).expect("the process is up");
        }
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            requests: Mutex::default(),
            pid: Pid::from_raw(child.id() as i32),
            port,
            gone: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let for_reaper = Arc::clone(&shared);
        let reaper = std::thread::spawn(move || {
            let _ = child.wait();
            for_reaper.gone.store(true, Ordering::SeqCst);
            // The port goes with the process: wake the server so that it closes.
            for_reaper.closing.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(("127.0.0.1", for_reaper.port));
        });
        let for_server = Arc::clone(&shared);
        let server = std::thread::spawn(move || serve(&listener, &for_server));
        FakeWorker { shared, server: Some(server), reaper: Some(reaper) }
    }

    pub fn port(&self) -> u16 {
        self.shared.port
    }

    pub fn pid(&self) -> i32 {
        self.shared.pid.as_raw()
    }

    pub fn alive(&self) -> bool {
        !self.shared.gone.load(Ordering::SeqCst)
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// Requests so far, as `GET /api/health`.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    pub fn was_asked(&self, request: &str) -> bool {
        self.requests().iter().any(|seen| seen == request)
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if self.alive() {
            let _ = kill(self.shared.pid, Signal::SIGKILL);
        }
        for thread in [self.reaper.take(), self.server.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || answer(stream, &shared));
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let request = format!("{} {}", words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    lock(&shared.requests).push(request.clone());
    if lock(&shared.behaviour).mute {
        // Holds the connection until the caller gives up.
        let _ = stream.read(&mut [0]);
        return None;
    }
    let (status, body) = reply(&request, shared);
    let reason = if status == 200 { "OK" } else { "Error" };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    stream.flush().ok()?;
    if request == "POST /api/admin/shutdown" && lock(&shared.behaviour).obeys_shutdown {
        let _ = kill(shared.pid, Signal::SIGKILL);
    }
    Some(())
}

fn reply(request: &str, shared: &Shared) -> (u16, serde_json::Value) {
    let mut behaviour = lock(&shared.behaviour);
    match request {
        "GET /api/health" => (
            200,
            json!({
                "status": "ok", "version": behaviour.version, "workerPath": behaviour.worker_path,
                "pid": shared.pid.as_raw(), "initialized": behaviour.ready, "mcpReady": behaviour.ready,
            }),
        ),
        "GET /api/readiness" if behaviour.ready => (200, json!({"status": "ready"})),
        "GET /api/readiness" => (503, json!({"status": "initializing"})),
        "GET /api/processing-status" => {
            let depth = behaviour.queue;
            if behaviour.drains {
                behaviour.queue = depth.saturating_sub(1);
            }
            (200, json!({"isProcessing": depth > 0, "queueDepth": depth}))
        }
        "GET /api/stats" => {
            let path = behaviour.database.as_ref();
            let counts = path.map(claude_mem::counts).unwrap_or_default();
            (
                200,
                json!({
                    "worker": {"version": behaviour.version, "port": shared.port},
                    "database": {
                        "path": path, "observations": counts.observations,
                        "sessions": counts.sdk_sessions, "summaries": counts.session_summaries,
                    },
                }),
            )
        }
        "POST /api/admin/shutdown" => (200, json!({"status": "shutting_down"})),
        _ => (404, json!({"error": "not found"})),
    }
}

impl FakeWorker {
    /// Waits until the process has ended.
    pub fn wait_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.alive() {
            assert!(Instant::now() < deadline, "the worker's process is still there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
