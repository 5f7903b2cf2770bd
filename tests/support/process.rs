//! Child processes with a deadline: no run can hang a test, and every failure shows what
//! was run and what it printed.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a pipe may stay open after its process ended.
const PIPES_CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// What a finished run left.
#[derive(Clone)]
pub struct Outcome {
    pub command: String,
    /// The exit code, or 128 + the signal's number.
    pub code: i32,
    /// The signal that it died of.
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}\nexit code {} after {:?}", self.command, self.code, self.took)?;
        writeln!(f, "--- stdout\n{}\n--- stderr\n{}\n---", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

impl Outcome {
    #[track_caller]
    pub fn assert_code(&self, wanted: i32) -> &Outcome {
        assert!(self.code == wanted, "exit code {}, wanted {wanted}\n{self:?}", self.code);
        self
    }

    #[track_caller]
    pub fn success(&self) -> &Outcome {
        self.assert_code(0)
    }

    #[track_caller]
    pub fn stdout_has(&self, text: &str) -> &Outcome {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}\n{self:?}");
        self
    }

    #[track_caller]
    pub fn stdout_lacks(&self, text: &str) -> &Outcome {
        assert!(!self.stdout.contains(text), "stdout has {text:?}\n{self:?}");
        self
    }

    #[track_caller]
    pub fn stderr_has(&self, text: &str) -> &Outcome {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}\n{self:?}");
        self
    }

    #[track_caller]
    pub fn stderr_lacks(&self, text: &str) -> &Outcome {
        assert!(!self.stderr.contains(text), "stderr has {text:?}\n{self:?}");
        self
    }

    /// In stdout or stderr.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Outcome {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "neither stdout nor stderr has {text:?}\n{self:?}");
        self
    }

    #[track_caller]
    pub fn never_says(&self, text: &str) -> &Outcome {
        self.stdout_lacks(text).stderr_lacks(text)
    }

    /// The one JSON object that `--json` prints.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{self:?}"))
    }
}

/// What came out of a stream so far.
#[derive(Default)]
pub(super) struct Output {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Output {
    pub(super) fn collect(mut from: impl Read + Send + 'static) -> Arc<Output> {
        let output = Arc::new(Output::default());
        let fill = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = from.read(&mut chunk).unwrap_or(0);
                let mut state = fill.state.lock().expect("the output");
                state.0.extend_from_slice(&chunk[..read]);
                state.1 = read == 0;
                fill.changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        output
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().expect("the output").0).into_owned()
    }

    /// Waits until `done` likes the text so far, or the pipe closes; false when neither came.
    pub(super) fn wait(&self, deadline: Instant, done: impl Fn(&str) -> bool) -> bool {
        let mut state = self.state.lock().expect("the output");
        loop {
            if state.1 || done(&String::from_utf8_lossy(&state.0)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).expect("the output").0;
        }
    }
}

/// A process that runs; dropping it kills it.
pub struct Running {
    command: String,
    pid: Pid,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    ended: Receiver<ExitStatus>,
    started: Instant,
    deadline: Instant,
    reaped: bool,
}

impl Running {
    /// Starts `command`, feeds it `stdin` (None: /dev/null) and lets it run for `timeout`.
    pub fn start(mut command: Command, stdin: Option<Vec<u8>>, timeout: Duration) -> Running {
        let shown = describe(&command);
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        // A group of its own, so that a run which hangs is killed with its children.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        let started = Instant::now();
        if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
            // The child may end without reading; that is no fault of the test's.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = Output::collect(child.stdout.take().expect("a pipe"));
        let stderr = Output::collect(child.stderr.take().expect("a pipe"));
        let pid = Pid::from_raw(child.id() as i32);
        Running {
            command: shown,
            pid,
            stdout,
            stderr,
            ended: reaper(child),
            started,
            deadline: started + timeout,
            reaped: false,
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    fn signal(&self, signal: Signal) -> &Running {
        let _ = kill(self.pid, signal);
        self
    }

    pub fn kill9(&self) -> &Running {
        self.signal(Signal::SIGKILL)
    }

    pub fn sigterm(&self) -> &Running {
        self.signal(Signal::SIGTERM)
    }

    pub fn sigint(&self) -> &Running {
        self.signal(Signal::SIGINT)
    }

    pub fn sigstop(&self) -> &Running {
        self.signal(Signal::SIGSTOP)
    }

    /// Waits until the process is stopped, by SIGSTOP or by a failpoint that stops it.
    #[track_caller]
    pub fn wait_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        let limit = Instant::now() + Duration::from_secs(50);
        loop {
            let text = std::fs::read_to_string(&stat).unwrap();
            let (_, after_name) = text.rsplit_once(") ").unwrap();
            match after_name.chars().next() {
                Some('T') => return,
                Some('Z') => panic!("it ended instead: {}{}", self.stdout(), self.stderr()),
                _ => assert!(Instant::now() < limit, "never stopped"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it go on, again and again where it stops again, until it ends.
    #[track_caller]
    pub fn let_go(self) -> Outcome {
        let stat = format!("/proc/{}/stat", self.pid());
        let limit = Instant::now() + Duration::from_secs(50);
        loop {
            let text = std::fs::read_to_string(&stat).unwrap_or_default();
            match text.rsplit_once(") ").and_then(|(_, after_name)| after_name.chars().next()) {
                None | Some('Z') => return self.wait(),
                Some('T') => drop(self.sigcont()),
                Some(_) => assert!(Instant::now() < limit, "never ended"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn sigcont(&self) -> &Running {
        self.signal(Signal::SIGCONT)
    }

    /// Output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stdout holds `text`.
    #[track_caller]
    pub fn wait_for_stdout(&self, text: &str) {
        self.stdout.wait(self.deadline, |seen| seen.contains(text));
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let found = stdout.contains(text);
        assert!(found, "{} never printed {text:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.command);
    }

    /// True once the process has ended.
    pub fn ended(&self) -> bool {
        matches!(nix::sys::signal::kill(self.pid, None), Err(nix::errno::Errno::ESRCH))
    }

    /// Waits for the end; kills the process and panics at the deadline.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let status = match self.ended.recv_timeout(left) {
            Ok(status) => status,
            Err(RecvTimeoutError::Timeout) => {
                let _ = killpg(self.pid, Signal::SIGKILL);
                let status = self.ended.recv().expect("the reaper");
                self.reaped = true;
                panic!("killed at its deadline\n{:?}", self.outcome(status));
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the reaper of {} died", self.command),
        };
        self.reaped = true;
        let close = Instant::now() + PIPES_CLOSE_WITHIN;
        let closed = self.stdout.wait(close, |_| false) && self.stderr.wait(close, |_| false);
        let outcome = self.outcome(status);
        assert!(closed, "ended, but something it started keeps its stdout or stderr open\n{outcome:?}");
        outcome
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        Outcome {
            command: self.command.clone(),
            code: status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.ended.recv_timeout(Duration::from_secs(10));
        }
    }
}

/// Reaps at once, so that a killed process vanishes instead of staying as a zombie.
pub(super) fn reaper(mut child: Child) -> Receiver<ExitStatus> {
    let (send, ended) = channel();
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = send.send(status);
        }
    });
    ended
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
