//! One job as a process of its own: a group of its own, a time limit, the last lines of what it prints. Knows not what
//! it runs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::platform;

/// How long a job may take to give back its lock after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// How long a pipe may stay open after the job's end: what it started may hold it for ever.
const PIPES: Duration = Duration::from_millis(500);

/// Lines that are kept of what a job prints.
const LINES: usize = 200;

/// Bytes that are kept of a line.
const LINE: usize = 4096;

/// What to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside our own.
    pub set: Vec<(String, String)>,
    /// Variables of ours that it must not have.
    pub unset: &'static [&'static str],
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its exit code; as shells say it where a signal ended it.
    pub code: i32,
    /// It was told to end because its time was over.
    pub timed_out: bool,
    /// The end of what it printed.
    pub stdout: String,
    /// The same of stderr.
    pub stderr: String,
}

/// Runs a job to its end, or to the end of its time.
///
/// # Errors
/// It cannot be started.
pub async fn run(job: &Job, limit: Duration) -> io::Result<Done> {
    let mut command = Command::new(&job.program);
    if job.program == platform::own_program() {
        command.arg0("membridge");
    }
    command.args(&job.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in job.unset {
        command.env_remove(name);
    }
    command.envs(job.set.iter().map(|(name, value)| (name, value))).process_group(0);
    let mut child = command.spawn()?;
    let stdout = keep(child.stdout.take());
    let stderr = keep(child.stderr.take());
    let (status, timed_out) = match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) => (status?, false),
        Err(_) => (end(&mut child).await?, true),
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = status.code().or_else(|| signal.map(|number| 128 + number)).unwrap_or(-1);
    Ok(Done { code, timed_out, stdout: stdout.text().await, stderr: stderr.text().await })
}

/// Tells the whole group to end, and makes it.
async fn end(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let tell = |signal| {
        // Its leader is ours and not yet waited for: the number is nobody else's.
        let _ = group.map(|group| killpg(group, signal));
    };
    tell(Signal::SIGTERM);
    if let Ok(status) = tokio::time::timeout(GRACE, child.wait()).await {
        return status;
    }
    tell(Signal::SIGKILL);
    child.wait().await
}

/// A pipe that is read to its end.
struct Kept {
    tail: Arc<Mutex<Tail>>,
    reader: tokio::task::JoinHandle<()>,
}

fn keep(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Kept {
    let tail = Arc::new(Mutex::new(Tail::default()));
    let into = Arc::clone(&tail);
    let reader = tokio::spawn(async move {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = [0_u8; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            into.lock().unwrap_or_else(PoisonError::into_inner).add(chunk.get(..count).unwrap_or_default());
        }
    });
    Kept { tail, reader }
}

impl Kept {
    async fn text(mut self) -> String {
        if tokio::time::timeout(PIPES, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

/// The last lines of a stream, in memory that does not grow with it.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    last: Vec<u8>,
    left_out: usize,
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.last.len());
            self.last.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.last);
                self.push(line);
            }
        }
    }

    fn push(&mut self, mut line: Vec<u8>) {
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
            self.left_out += 1;
        }
    }

    /// Bytes that are no UTF-8 are shown as such: a push that ran is not lost for a file name [17].
    fn text(&mut self) -> String {
        let mut open = None;
        if !self.last.is_empty() {
            let last = std::mem::take(&mut self.last);
            self.push(last);
            open = Some(());
        }
        let mut text = match self.left_out {
            0 => String::new(),
            count => format!("... ({count} lines truncated)\n"),
        };
        for line in &self.lines {
            text.push_str(&String::from_utf8_lossy(line));
        }
        if open.is_some() {
            text.pop();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, Job, LINE, Tail, run};
    use std::time::{Duration, Instant};

    fn tail(chunks: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        for chunk in chunks {
            tail.add(chunk);
        }
        tail.text()
    }

    #[test]
    fn the_last_lines_stay() {
        let many: Vec<u8> = (1..=302).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let text = tail(&[&many]);
        assert!(text.starts_with("... (102 lines truncated)\n103\n") && text.ends_with("\n302\n"), "{text}");
        let long = vec![b'x'; 3 * LINE];
        assert_eq!(tail(&[&long, b"\ny"]).len(), LINE + 2);
        let table: [(&[&[u8]], &str); 4] = [
            (&[], ""),
            (&[b"a", b"b\nc"], "ab\nc"),
            (&[b"a\n", b"\n"], "a\n\n"),
            (&[b"\xff\n"], "\u{fffd}\n"),
        ];
        for (chunks, expected) in table {
            assert_eq!(tail(chunks), expected);
        }
    }

    async fn shell(script: &str, limit: Duration) -> Done {
        let job = Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            set: vec![("GIVEN".to_owned(), "yes".to_owned())],
            unset: &["PATH"],
        };
        run(&job, limit).await.unwrap()
    }

    #[tokio::test]
    async fn a_job_ends_with_its_code_and_its_output() {
        let done = shell("echo $GIVEN ${PATH-none}; echo oops >&2; exit 3", Duration::from_secs(30)).await;
        // A shell without PATH gives itself one.
        assert!(done.stdout.starts_with("yes "), "{done:?}");
        assert_eq!((done.code, done.timed_out, done.stderr.as_str()), (3, false, "oops\n"));
        assert_eq!(shell("kill -9 $$", Duration::from_secs(30)).await.code, 137);
    }

    #[tokio::test]
    async fn a_job_that_takes_too_long_is_told_to_end_with_all_it_started() {
        let started = Instant::now();
        let script = "trap 'echo told; exit 7' TERM; /bin/sleep 600 & wait";
        let done = shell(script, Duration::from_millis(300)).await;
        assert_eq!((done.code, done.timed_out, done.stdout.as_str()), (7, true, "told\n"));
        assert!(started.elapsed() < Duration::from_mins(1));
    }

    #[tokio::test]
    async fn what_a_job_leaves_behind_does_not_hold_its_result() {
        let done = shell("echo out; exec 2>&-; (exec /bin/sleep 5) & exit 0", Duration::from_secs(30)).await;
        assert_eq!((done.code, done.stdout.as_str()), (0, "out\n"));
    }
}
