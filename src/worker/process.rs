//! Processes of this machine: who a pid really is, waiting for it to vanish, signalling it and nobody else.
//! Knows /proc and pidfds; knows nothing of HTTP or of what the worker is for.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::facts::WORKER_WORD;

/// A process of this user, pinned: the pid with the moment it started, so that a successor with the same pid is
/// told apart, and a descriptor of the process where the kernel has them (5.3), so that no signal can go astray.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_ticks: u64,
    pidfd: Option<OwnedFd>,
}

impl Process {
    /// The living process with this pid, when it is ours: same user, not us, pid above 1.
    pub fn find(pid: i32) -> Option<Self> {
        if pid <= 1 || u32::try_from(pid).ok() == Some(std::process::id()) {
            return None;
        }
        // The descriptor comes first: what is read afterwards is about the process that it pins, or about nobody.
        let pidfd =
            rustix::process::Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        let start_ticks = start_ticks(pid)?;
        (owner == nix::unistd::geteuid().as_raw()).then_some(Self { pid, start_ticks, pidfd })
    }

    /// The process with this pid, when its command line names a claude-mem worker.
    pub fn find_worker(pid: i32) -> Option<Self> {
        Self::find(pid).filter(Self::is_worker)
    }

    /// All workers of this user that hold this file open, whatever their pid files say.
    pub fn workers_holding(file: &Path) -> Vec<Self> {
        let Ok(wanted) = std::fs::metadata(file) else {
            return Vec::new();
        };
        let holds = |process: &Self| {
            let open = std::fs::read_dir(process.proc("fd")).into_iter().flatten().flatten();
            open.filter_map(|entry| std::fs::metadata(entry.path()).ok())
                .any(|meta| meta.dev() == wanted.dev() && meta.ino() == wanted.ino())
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Self::find_worker)
            .filter(holds)
            .collect()
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started, in clock ticks since boot: claude-mem's `startToken`.
    pub fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// Whether it still runs. A zombie does not: its files are closed.
    pub fn alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Whether its command line names a claude-mem worker.
    pub fn is_worker(&self) -> bool {
        let arguments = std::fs::read(self.proc("cmdline")).unwrap_or_default();
        let named = String::from_utf8_lossy(&arguments).contains(WORKER_WORD);
        named && self.alive()
    }

    /// The program that it runs, unless it has been removed.
    pub fn program(&self) -> Option<PathBuf> {
        std::fs::read_link(self.proc("exe")).ok().filter(|path| path.is_file())
    }

    /// Its environment as it was started with.
    pub fn environment(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let raw = std::fs::read(self.proc("environ")).unwrap_or_default();
        raw.split(|byte| *byte == 0)
            .filter_map(|line| {
                let at = line.iter().position(|byte| *byte == b'=')?;
                let (name, value) = (line.get(..at)?, line.get(at + 1..)?);
                let text = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
                (!name.is_empty()).then(|| (text(name), text(value)))
            })
            .collect()
    }

    /// Waits until it has ended; `false` when it has not within that time.
    pub async fn ended(&self, within: Duration) -> bool {
        let gone = async {
            // tokio cannot take a descriptor safely, so a thread of its own waits; it ends with the process or the
            // time, whichever comes first.
            if let Some(Ok(pidfd)) = self.pidfd.as_ref().map(OwnedFd::try_clone) {
                let _ = tokio::task::spawn_blocking(move || wait_readable(&pidfd, within)).await;
            }
            // A kernel without pidfds gives us nothing to wait on.
            while self.alive() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(within, gone).await.is_ok()
    }

    /// Sends a signal, after one more look at who it is: only a process whose command line names a worker gets one.
    ///
    /// # Errors
    /// It is no worker, or not ours to signal. That it has ended meanwhile is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.alive() {
            return Ok(());
        }
        if !self.is_worker() {
            return Err(io::Error::other(format!("process {} is not a claude-mem worker", self.pid)));
        }
        let sent = match (&self.pidfd, signal) {
            (Some(pidfd), Signal::SIGKILL) => pidfd_send_signal(pidfd, rustix::process::Signal::KILL),
            (Some(pidfd), Signal::SIGTERM) => pidfd_send_signal(pidfd, rustix::process::Signal::TERM),
            _ => {
                return kill(Pid::from_raw(self.pid), signal).or_else(|error| self.unless_gone(error.into()));
            }
        };
        sent.or_else(|error| self.unless_gone(error.into()))
    }

    fn unless_gone(&self, error: io::Error) -> io::Result<()> {
        if self.alive() { Err(error) } else { Ok(()) }
    }

    fn proc(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.pid))
    }
}

/// A pidfd is readable once its process has ended, reaped or not.
fn wait_readable(pidfd: &OwnedFd, within: Duration) {
    let time = Timespec::try_from(within).ok();
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], time.as_ref());
}

/// Field 22 of /proc/PID/stat, when the process lives and is not a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

fn parse_stat(stat: &str) -> Option<u64> {
    // The name in brackets may hold anything, also brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Process, parse_stat};
    use nix::sys::signal::Signal;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};
    use std::time::Duration;

    fn sleeper(name: &str) -> Child {
        named(Command::new("/bin/sleep").arg0(name).arg("600").spawn().unwrap())
    }

    /// `spawn` returns when the new program takes over, a moment before the kernel knows its command line.
    fn named(child: Child) -> Child {
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap().is_empty() {
            assert!(std::time::Instant::now() < limit, "the program never starts");
            std::thread::yield_now();
        }
        child
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn the_start_of_a_process_is_read_whatever_its_name_is() {
        let tail = "S 1 2 2 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 155136 99 1";
        let table = [
            (format!("42 (bun) {tail}"), Some(155_136)),
            (format!("42 (a ) R 1 (b) {tail}"), Some(155_136)),
            (format!("42 (bun) {}", tail.replacen('S', "Z", 1)), None),
            ("42 (bun) S 1".to_owned(), None),
            (String::new(), None),
        ];
        for (stat, expected) in table {
            assert_eq!(parse_stat(&stat), expected, "{stat}");
        }
    }

    #[test]
    fn f34_only_a_worker_of_ours_is_found_and_signalled() {
        for pid in [i32::MIN, -1, 0, 1, i32::try_from(std::process::id()).unwrap(), i32::MAX] {
            assert!(Process::find(pid).is_none(), "{pid}");
        }
        let mut stranger = sleeper("stranger");
        let found = Process::find(pid(&stranger)).unwrap();
        assert!(Process::find_worker(pid(&stranger)).is_none());
        assert!(found.signal(Signal::SIGKILL).is_err());
        assert!(found.alive() && stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(!found.alive());
        assert!(found.signal(Signal::SIGTERM).is_ok());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed_before_it_is_reaped() {
        let mut child = sleeper("/x/worker-service.cjs");
        let worker = Process::find_worker(pid(&child)).unwrap();
        assert!(!worker.ended(Duration::from_millis(1)).await);
        worker.signal(Signal::SIGTERM).unwrap();
        assert!(worker.ended(Duration::from_secs(30)).await);
        assert!(!worker.alive());
        child.wait().unwrap();
    }

    #[test]
    fn a_worker_is_known_by_the_database_it_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Process::workers_holding(file.path()).is_empty());
        let mut child = named(
            Command::new("/bin/sleep")
                .arg0("worker-service.cjs")
                .arg("600")
                .stdin(file.reopen().unwrap())
                .spawn()
                .unwrap(),
        );
        let holders = Process::workers_holding(file.path());
        assert_eq!(holders.iter().map(Process::pid).collect::<Vec<_>>(), [pid(&child)]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
