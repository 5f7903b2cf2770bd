//! Linux: everything is read below /proc, and a descriptor holds a process (pidfds, since 5.3).

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, PidfdFlags, pidfd_open, pidfd_send_signal, set_dumpable_behavior};

use super::Memory;

/// A hold on a process: no signal through it reaches a successor with the same pid.
#[derive(Debug)]
pub struct Hold(OwnedFd);

impl Hold {
    /// On this process; `None` where the kernel has no such holds, or no such process.
    pub fn of(pid: i32) -> Option<Self> {
        let pid = rustix::process::Pid::from_raw(pid)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Another one on the same process.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The system's; a signal that is none of these two.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::SIGKILL => rustix::process::Signal::KILL,
            Signal::SIGTERM => rustix::process::Signal::TERM,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(pidfd_send_signal(&self.0, signal)?)
    }

    /// Blocks until the process has ended, reaped or not, or the time is over.
    pub fn wait(&self, within: Duration) {
        let time = Timespec::try_from(within).ok();
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], time.as_ref());
    }
}

/// This program, also after it was replaced on disk.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// What tells this boot of this machine from any other.
pub fn boot() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

/// The descriptors that this process has open; the one that listed them among them, closed already.
///
/// # Errors
/// The system does not say.
pub fn open_descriptors() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc/self/fd")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The kernel's list of file locks, as text.
///
/// # Errors
/// The system does not say.
pub fn locks() -> io::Result<String> {
    std::fs::read_to_string("/proc/locks")
}

/// The memory of this machine.
pub fn memory() -> Option<Memory> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<Memory> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: of("MemTotal")?, available: of("MemAvailable")?, free: of("MemFree")? })
}

/// All processes.
pub fn processes() -> Vec<i32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The user that a process belongs to.
pub fn owner(pid: i32) -> Option<u32> {
    Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// When a process started, in clock ticks since boot (claude-mem's `startToken`); `None` for one that has ended, a zombie
/// too: its files are closed.
pub fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read(of(pid, "stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

/// Field 22 of /proc/PID/stat.
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

/// Its arguments, in one text.
pub fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&std::fs::read(of(pid, "cmdline")).unwrap_or_default()).into_owned()
}

/// The program that it runs, unless it has been removed.
pub fn program(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(of(pid, "exe")).ok().filter(|path| path.is_file())
}

/// Its environment as it was started with.
pub fn environment(pid: i32) -> Vec<(OsString, OsString)> {
    let raw = std::fs::read(of(pid, "environ")).unwrap_or_default();
    raw.split(|byte| *byte == 0)
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (line.get(..at)?, line.get(at + 1..)?);
            let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            (!name.is_empty()).then(|| (text(name), text(value)))
        })
        .collect()
}

/// Whether it has a file open.
pub fn holds(pid: i32, file: &Path) -> bool {
    let Ok(wanted) = std::fs::metadata(file) else {
        return false;
    };
    let open = std::fs::read_dir(of(pid, "fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|meta| meta.dev() == wanted.dev() && meta.ino() == wanted.ino())
}

fn of(pid: i32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{what}"))
}

/// A core of this process would hold the secrets that it has read, and so would what a debugger of the same user sees: from
/// here on neither is to be had. What this process starts is free of it.
pub fn leave_no_core() {
    // A kernel that refuses it takes nothing away that was promised to work.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::{Memory, parse_memory, parse_stat};

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
    fn the_memory_is_read_in_bytes() {
        let text = "MemTotal:  512 kB\nMemFree:   100 kB\nMemAvailable: 200 kB\n";
        let wanted = Memory { total: 512 << 10, available: 200 << 10, free: 100 << 10 };
        assert_eq!(parse_memory(text), Some(wanted));
        assert_eq!(parse_memory("MemTotal: 512 kB\n"), None);
        assert_eq!(parse_memory("MemTotal: many\n"), None);
    }
}
