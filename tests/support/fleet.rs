//! Agent and server under test, and who talks to them: a plain HTTP client that sees every byte, and a stand-in for the
//! server of the Python product.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::machine::Machine;
use super::process::Running;

/// The keys that daemons of the tests have.
pub const ADMIN_KEY: &str = "admin-key-of-the-tests";
pub const AGENT_KEY: &str = "agent-key-of-the-tests";

const PATIENCE: Duration = Duration::from_mins(1);

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, when the status is the wanted one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// One request on a connection of its own.
pub fn ask(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Answer, std::io::Error> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {at}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{text}\r\n{}", body.unwrap_or_default()).as_bytes())?;
    let raw = read_answer(&mut stream)?;
    parse(&raw)
        .ok_or_else(|| std::io::Error::other(format!("no answer: {:?}", String::from_utf8_lossy(&raw))))
}

/// Reads to the end of the connection, or of the body where its length is told: not everybody closes.
fn read_answer(stream: &mut TcpStream) -> Result<Vec<u8>, std::io::Error> {
    let mut raw = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        raw.extend_from_slice(&chunk[..count]);
        let head_end = raw.windows(4).position(|window| window == b"\r\n\r\n");
        let length = head_end.and_then(|end| {
            let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
            let line = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
            Some(end + 4 + line.trim().parse::<usize>().ok()?)
        });
        if count == 0 || length.is_some_and(|length| raw.len() >= length) {
            return Ok(raw);
        }
    }
}

/// An answer that has come to its end.
fn parse(raw: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(raw);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Some(Answer { status, headers, body })
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        body += &after[..size];
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

/// A daemon that runs.
pub struct Daemon {
    pub at: SocketAddr,
    key: Option<(&'static str, &'static str)>,
    running: Running,
}

impl Daemon {
    /// `membridge agent` on a free port. Its key is [`AGENT_KEY`] unless the machine says otherwise.
    pub fn agent(machine: &Machine, options: &str) -> Daemon {
        let run = machine.cmd(&format!("agent --listen 127.0.0.1:0 {options}"));
        Daemon::start(
            run.env("MEMBRIDGE_AGENT_KEY", AGENT_KEY).timeout(Duration::from_mins(10)).spawn(),
            Some(("X-MEMBRIDGE-AGENT", AGENT_KEY)),
        )
    }

    /// `membridge server` on a free port, with both keys.
    pub fn server(machine: &Machine, options: &str) -> Daemon {
        let run = machine.cmd(&format!("server --listen 127.0.0.1:0 {options}"));
        let run = run.env("MEMBRIDGE_ADMIN_KEY", ADMIN_KEY).env("MEMBRIDGE_AGENT_KEY", AGENT_KEY);
        Daemon::start(run.timeout(Duration::from_mins(10)).spawn(), Some(("X-MEMBRIDGE-ADMIN", ADMIN_KEY)))
    }

    /// Any other run of a daemon; requests carry this key.
    pub fn start(running: Running, key: Option<(&'static str, &'static str)>) -> Daemon {
        running.wait_for_stdout("listening on http://");
        let stdout = running.stdout();
        let rest = stdout.split("listening on http://").nth(1).expect("the address");
        let at = rest.lines().next().expect("a line").trim().parse().expect("an address");
        Daemon { at, key, running }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    fn keyed(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let text = body.map(Value::to_string);
        let mut headers: Vec<(&str, &str)> = self.key.into_iter().collect();
        if text.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        self.raw(method, path, &headers, text.as_deref())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.keyed("GET", path, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.keyed("POST", path, Some(body))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.keyed("DELETE", path, None)
    }

    /// A request with just these headers.
    #[track_caller]
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        ask(self.at, method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// What it has logged so far: one JSON object a line.
    pub fn log(&self) -> Vec<Value> {
        self.running.stderr().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Ends it as systemd would.
    pub fn stop(self) {
        self.running.sigterm();
        self.running.wait().assert_code(0);
    }

    /// Tells it to end, without waiting.
    pub fn tell_to_stop(&self) {
        self.running.sigterm();
    }

    /// Waits for its end.
    pub fn wait(self) {
        self.running.wait().assert_code(0);
    }

    /// Ends it as a power cut would; its children live on.
    pub fn kill(self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.running.pid()),
            nix::sys::signal::Signal::SIGKILL,
        );
        drop(self.running);
    }
}

/// Waits for something to come true.
#[track_caller]
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a stand-in was sent: method and path, headers, body.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub head: String,
    pub body: Value,
}

/// Somebody else's server, or agent, that answers all requests alike.
pub struct StandIn {
    pub at: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl StandIn {
    /// Answers with this status and body.
    pub fn answering(status: u16, body: &Value) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("the port");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (into, body) = (Arc::clone(&seen), body.to_string());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = answer(stream, status, &body) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        });
        StandIn { at, seen }
    }

    /// The Python product's server, to an agent.
    pub fn old_server() -> StandIn {
        StandIn::answering(200, &json!({"ok": true, "role": "unknown", "canonical_id": "x"}))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: TcpStream, status: u16, body: &str) -> Option<Seen> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut raw = Vec::new();
    let mut chunk = [0; 4096];
    let (head, length) = loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        raw.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        if raw.len() >= head.len() + 4 + length {
            break (head.to_owned(), length);
        }
    };
    let sent = &raw[head.len() + 4..head.len() + 4 + length];
    let reply = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(reply.as_bytes()).ok()?;
    Some(Seen {
        line: head.lines().next().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(sent).unwrap_or(Value::Null),
        head,
    })
}
