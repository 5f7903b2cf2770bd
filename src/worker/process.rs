//! Processes of this machine: who a pid really is, waiting for it to vanish, signalling it and nobody else.
//! Knows nothing of HTTP or of what the worker is for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::facts::WORKER_WORD;
use crate::platform::{self, Hold};

/// A process of this user, pinned: the pid with the moment it started, so that a successor with the same pid is
/// told apart, and a hold on the process where the system has them, so that no signal can go astray.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_ticks: u64,
    hold: Option<Hold>,
}

impl Process {
    /// The living process with this pid, when it is ours: same user, not us, pid above 1.
    pub fn find(pid: i32) -> Option<Self> {
        if pid <= 1 || u32::try_from(pid).ok() == Some(std::process::id()) {
            return None;
        }
        // The hold comes first: what is read afterwards is about the process that it pins, or about nobody.
        let hold = Hold::of(pid);
        let owner = platform::owner(pid)?;
        let start_ticks = platform::started(pid)?;
        (owner == nix::unistd::geteuid().as_raw()).then_some(Self { pid, start_ticks, hold })
    }

    /// The process with this pid, when its command line names a claude-mem worker.
    pub fn find_worker(pid: i32) -> Option<Self> {
        Self::find(pid).filter(Self::is_worker)
    }

    /// All workers of this user that hold this file open, whatever their pid files say.
    pub fn workers_holding(file: &Path) -> Vec<Self> {
        let workers = platform::processes().into_iter().filter_map(Self::find_worker);
        workers.filter(|process| platform::holds(process.pid, file)).collect()
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
        platform::started(self.pid) == Some(self.start_ticks)
    }

    /// Whether its command line names a claude-mem worker.
    pub fn is_worker(&self) -> bool {
        platform::command_line(self.pid).contains(WORKER_WORD) && self.alive()
    }

    /// The program that it runs, unless it has been removed.
    pub fn program(&self) -> Option<PathBuf> {
        platform::program(self.pid)
    }

    /// Its environment as it was started with.
    pub fn environment(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        platform::environment(self.pid)
    }

    /// Waits until it has ended; `false` when it has not within that time.
    pub async fn ended(&self, within: Duration) -> bool {
        let gone = async {
            // tokio cannot take a descriptor safely, so a thread of its own waits; it ends with the process or the
            // time, whichever comes first.
            if let Some(Ok(hold)) = self.hold.as_ref().map(Hold::again) {
                let _ = tokio::task::spawn_blocking(move || hold.wait(within)).await;
            }
            // A system without holds gives us nothing to wait on.
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
        let sent = match &self.hold {
            Some(hold) => hold.signal(signal),
            None => kill(Pid::from_raw(self.pid), signal).map_err(io::Error::from),
        };
        sent.or_else(|error| self.unless_gone(error))
    }

    fn unless_gone(&self, error: io::Error) -> io::Result<()> {
        if self.alive() { Err(error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Process;
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
