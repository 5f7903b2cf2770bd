//! A program at a real terminal: a pseudoterminal of its own, keys that are typed, and the screen as bytes. Knows nothing
//! of membridge.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use super::process::{Output, reaper};

/// Which of the program's streams are the terminal. Standard input always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Standard output and standard error, as for a person.
    Both,
    /// Standard error only, as in `membridge … > file`.
    Stderr,
    /// Standard output only, as in `membridge … 2> file`.
    Stdout,
}

/// A program that runs at a terminal; dropping it kills it.
pub struct Terminal {
    pid: Pid,
    master: File,
    screen: Arc<Output>,
    aside: Option<Arc<Output>>,
    ended: Receiver<ExitStatus>,
    deadline: Instant,
    reaped: bool,
}

/// How a run at a terminal ended.
#[derive(Debug)]
pub struct Left {
    /// The exit code, or 128 + the signal's number.
    pub code: i32,
    /// Every byte that reached the terminal, typed keys that were echoed among them.
    pub screen: String,
    /// What went into the pipe beside it.
    pub aside: String,
    /// Whether the terminal showed typed keys again.
    pub echo: bool,
}

/// Control-C, as the keyboard sends it.
pub const CTRL_C: &str = "\u{3}";

impl Terminal {
    /// Starts `command` as the only program of a terminal with so many columns (0: of unknown size).
    pub fn start(command: &Command, columns: u16, shown: Shown, timeout: Duration) -> Terminal {
        let size = Winsize {
            ws_row: if columns == 0 { 0 } else { 24 },
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a pseudoterminal");
        let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("the terminal once more"));
        // A session of its own with this terminal, so that the kernel turns Control-C into a signal.
        let mut child = Command::new("setsid");
        child.arg("-c").arg(command.get_program()).args(command.get_args());
        child.env_clear();
        for (name, value) in command.get_envs() {
            child.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            child.current_dir(folder);
        }
        child.stdin(slave(&pty.slave));
        let pipe_or = |wanted: bool| {
            if wanted { slave(&pty.slave) } else { Stdio::piped() }
        };
        child.stdout(pipe_or(shown != Shown::Stderr));
        child.stderr(pipe_or(shown != Shown::Stdout));
        let mut running = child.spawn().expect("start setsid, of util-linux");
        // Only the program holds the terminal from here on: when it ends, the screen ends.
        drop(child);
        drop(pty.slave);
        let aside = match shown {
            Shown::Both => None,
            Shown::Stderr => running.stdout.take().map(Output::collect),
            Shown::Stdout => running.stderr.take().map(Output::collect),
        };
        let master = File::from(pty.master);
        let screen = Output::collect(master.try_clone().expect("the terminal once more"));
        Terminal {
            pid: Pid::from_raw(running.id() as i32),
            master,
            screen,
            aside,
            ended: reaper(running),
            deadline: Instant::now() + timeout,
            reaped: false,
        }
    }

    /// Types keys.
    pub fn type_keys(&mut self, keys: &str) -> &mut Terminal {
        self.master.write_all(keys.as_bytes()).expect("type");
        self
    }

    /// What the terminal has got so far.
    pub fn screen(&self) -> String {
        self.screen.text()
    }

    /// Sends SIGTERM, which no key does.
    pub fn terminate(&self) {
        let _ = kill(self.pid, Signal::SIGTERM);
    }

    /// Whether it shows what is typed.
    pub fn echo(&self) -> bool {
        let settings = tcgetattr(self.master.as_fd()).expect("the terminal's settings");
        settings.local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits until the screen holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> &mut Terminal {
        self.screen.wait(self.deadline, |seen| seen.contains(text));
        let seen = self.screen();
        assert!(seen.contains(text), "the screen never showed {text:?}:\n{seen:?}");
        self
    }

    /// The same, until the text stands there so many times.
    #[track_caller]
    pub fn wait_for_times(&mut self, text: &str, times: usize) -> &mut Terminal {
        self.screen.wait(self.deadline, |seen| seen.matches(text).count() >= times);
        let seen = self.screen();
        assert!(
            seen.matches(text).count() >= times,
            "the screen never showed {text:?} {times} times:\n{seen:?}"
        );
        self
    }

    /// Waits for the end; kills the program and panics at the deadline.
    #[track_caller]
    pub fn wait(mut self) -> Left {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Ok(status) = self.ended.recv_timeout(left) else {
            panic!("never ended; its screen:\n{:?}", self.screen());
        };
        self.reaped = true;
        self.screen.wait(self.deadline, |_| false);
        let aside = self.aside.as_ref().map_or(String::new(), |aside| {
            aside.wait(self.deadline, |_| false);
            aside.text()
        });
        Left {
            code: status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1),
            screen: self.screen(),
            aside,
            echo: self.echo(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}
