//! What each system has of its own: this program's file, the boot, who a process is, and a hold on one. Linux has /proc and
//! pidfds (platform/linux.rs); elsewhere `ps`, `lsof` and `sysctl` are asked (platform/ps.rs). Knows nothing of what for.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "compiled for its tests"))]
mod ps;

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

#[cfg(target_os = "linux")]
pub use linux::{
    Hold, boot, command_line, environment, holds, leave_no_core, locks, memory, open_descriptors,
    own_program, owner, processes, program, started,
};
#[cfg(not(target_os = "linux"))]
pub use ps::{
    Hold, boot, command_line, environment, holds, leave_no_core, locks, memory, open_descriptors,
    own_program, owner, processes, program, started,
};

/// The memory of this machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What a program could still get.
    pub available: u64,
    /// What nothing uses.
    pub free: u64,
}

/// The disk under a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What we may still write.
    pub free: u64,
}

/// The disk under a path that is there.
///
/// # Errors
/// The file system does not say.
pub fn disk(path: &Path) -> io::Result<Disk> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // The field widths differ between targets.
    #[allow(clippy::unnecessary_cast)]
    let [total, free, size] =
        [stat.blocks() as u64, stat.blocks_available() as u64, stat.fragment_size() as u64];
    Ok(Disk { total: total.saturating_mul(size), free: free.saturating_mul(size) })
}

/// Whether a process with this pid is there, whoever it belongs to; a zombie is.
pub fn is_there(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else {
        return false;
    };
    // Somebody else's may not be signalled, and is there.
    matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM))
}

#[cfg(test)]
mod tests {
    use super::is_there;

    #[test]
    fn a_process_is_there_until_it_has_been_reaped() {
        assert!(is_there(std::process::id()) && is_there(1));
        for nobody in [0, u32::MAX, i32::MAX.unsigned_abs()] {
            assert!(!is_there(nobody), "{nobody}");
        }
        let mut child = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        assert!(is_there(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_there(child.id()));
    }
}
