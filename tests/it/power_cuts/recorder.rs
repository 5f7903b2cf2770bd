//! What a run writes, call by call: the process and its children are traced, and each call that changes something below a
//! folder is noted once it has returned. Knows Linux on x86_64, and nothing of membridge.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What one call did.
#[derive(Debug)]
pub enum Deed {
    /// Opened for making or emptying what may be there.
    Open {
        path: PathBuf,
        makes: bool,
        empties: bool,
    },
    Write {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    /// The length was set; with `grows`, only if the file was shorter.
    Length {
        path: PathBuf,
        length: u64,
        grows: bool,
    },
    Folder {
        path: PathBuf,
    },
    Symlink {
        path: PathBuf,
        leads: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Swap {
        one: PathBuf,
        other: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    /// A file or a folder was told to be on the disk.
    Sync {
        path: PathBuf,
    },
}

/// A call that has not returned yet, with the paths that it named: they may be gone when it has.
struct Call {
    number: i64,
    args: [u64; 6],
    paths: Vec<PathBuf>,
}

/// A call that is traced from its entry to its return.
struct Recorder<'a> {
    root: &'a Path,
    calls: HashMap<Pid, Call>,
    deeds: Vec<Deed>,
}

/// Prepares a command that [`record`] may trace from its first call on: it waits for a line first.
pub fn waiting(shell: &mut Command, program: &Path, words: &str) {
    shell.args(["-c", "read go; exec \"$@\" < /dev/null", "sh"]).arg(program).args(words.split_whitespace());
}

/// Runs what [`waiting`] prepared to its end: what it did below `root`, and its exit code.
pub fn record(mut shell: Command, root: &Path) -> (Vec<Deed>, i32) {
    #[expect(clippy::zombie_processes, reason = "waited for with its whole group, below")]
    let mut child = shell.process_group(0).stdin(Stdio::piped()).spawn().expect("start the shell");
    let leader = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options).expect("trace a child of ours");
    ptrace::interrupt(leader).expect("stop it");
    let mut stdin = child.stdin.take();
    let mut recorder = Recorder { root, calls: HashMap::new(), deeds: Vec::new() };
    let mut code = None;
    // Its group alone: other tests have children of this process too.
    let group = Pid::from_raw(-leader.as_raw());
    loop {
        match waitpid(group, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceSyscall(pid)) => {
                recorder.stopped(pid);
                go_on(pid, None);
            }
            Ok(WaitStatus::PtraceEvent(pid, _, _)) => {
                go_on(pid, None);
                if let Some(mut stdin) = stdin.take_if(|_| pid == leader) {
                    stdin.write_all(b"go\n").expect("let it go");
                }
            }
            Ok(WaitStatus::Stopped(pid, signal)) => go_on(pid, Some(signal)),
            Ok(WaitStatus::Exited(pid, with)) if pid == leader => code = Some(with),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == leader => code = Some(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => break,
            Err(error) => panic!("waiting for what is traced: {error}"),
        }
    }
    (recorder.deeds, code.expect("the end of the leader"))
}

/// A process that was killed meanwhile has gone on already.
fn go_on(pid: Pid, signal: Option<nix::sys::signal::Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("let {pid} go on: {error}"),
    }
}

impl Recorder<'_> {
    fn stopped(&mut self, pid: Pid) {
        let Ok(registers) = ptrace::getregs(pid) else { return };
        let returned = registers.rax.cast_signed();
        if returned == -i64::from(libc::ENOSYS) {
            let number = registers.orig_rax.cast_signed();
            let args =
                [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
            let paths = named(pid, number, &args);
            self.calls.insert(pid, Call { number, args, paths });
        } else if let Some(call) = self.calls.remove(&pid)
            && returned >= 0
        {
            self.returned(pid, &call, returned.cast_unsigned());
        }
    }

    fn returned(&mut self, pid: Pid, call: &Call, value: u64) {
        let [first, second, third, fourth, fifth, _] = call.args;
        match call.number {
            libc::SYS_open | libc::SYS_openat | libc::SYS_openat2 | libc::SYS_creat => {
                let flags = match call.number {
                    libc::SYS_open => second,
                    libc::SYS_openat => third,
                    libc::SYS_openat2 => u64::from_ne_bytes(memory::<8>(pid, third)),
                    _ => (libc::O_CREAT | libc::O_TRUNC) as u64,
                };
                let (makes, empties) = (flags & libc::O_CREAT as u64 != 0, flags & libc::O_TRUNC as u64 != 0);
                if let Some(path) = self.opened(pid, value)
                    && (makes || empties)
                {
                    self.deeds.push(Deed::Open { path, makes, empties });
                }
            }
            libc::SYS_write | libc::SYS_writev => self.wrote(pid, first, None, value),
            libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => {
                self.wrote(pid, first, Some(fourth), value);
            }
            libc::SYS_sendfile => self.wrote(pid, first, None, value),
            libc::SYS_copy_file_range => {
                assert!(fourth == 0, "copy_file_range with an offset: teach the recorder to read it");
                self.wrote(pid, third, None, value);
            }
            libc::SYS_ftruncate => self.length(pid, first, second, false),
            libc::SYS_fallocate => {
                assert!(second == 0, "fallocate with mode {second}: teach the recorder what it does");
                self.length(pid, first, third + fourth, true);
            }
            libc::SYS_truncate => {
                let Some([path]) = self.below(call) else { return };
                self.deeds.push(Deed::Length { path, length: second, grows: false });
            }
            libc::SYS_fsync | libc::SYS_fdatasync => {
                if let Some(path) = self.opened(pid, first) {
                    self.deeds.push(Deed::Sync { path });
                }
            }
            libc::SYS_sync | libc::SYS_syncfs => panic!("everything is synced: teach the recorder"),
            libc::SYS_mkdir | libc::SYS_mkdirat => {
                let Some([path]) = self.below(call) else { return };
                self.deeds.push(Deed::Folder { path });
            }
            libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => {
                let Some([path]) = self.below(call) else { return };
                self.deeds.push(Deed::Remove { path });
            }
            libc::SYS_symlink | libc::SYS_symlinkat => {
                let [leads, path] = &call.paths[..] else { return };
                if path.starts_with(self.root) {
                    self.deeds.push(Deed::Symlink { path: path.clone(), leads: leads.clone() });
                }
            }
            libc::SYS_link | libc::SYS_linkat => {
                let Some([from, to]) = self.below(call) else { return };
                assert!(!from.starts_with("/proc"), "a file without a name gets one: teach the recorder");
                self.deeds.push(Deed::Link { from, to });
            }
            libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => {
                let swaps =
                    call.number == libc::SYS_renameat2 && fifth & u64::from(libc::RENAME_EXCHANGE) != 0;
                let Some([from, to]) = self.below(call) else { return };
                self.deeds.push(if swaps {
                    Deed::Swap { one: from, other: to }
                } else {
                    Deed::Rename { from, to }
                });
            }
            libc::SYS_mmap => {
                let shared = fourth & libc::MAP_SHARED as u64 != 0 && third & libc::PROT_WRITE as u64 != 0;
                // SQLite's index of the log is made anew by whoever comes first after a start.
                if shared
                    && fifth.cast_signed() >= 0
                    && let Some(path) = self.opened(pid, fifth)
                {
                    let path = path.display().to_string();
                    assert!(path.ends_with("-shm"), "{path} is written through memory");
                }
            }
            _ => {}
        }
    }

    /// The paths that a call named, if they concern the root.
    fn below<const N: usize>(&self, call: &Call) -> Option<[PathBuf; N]> {
        let concerned = call.paths.iter().any(|path| path.starts_with(self.root));
        concerned.then(|| call.paths.clone().try_into().expect("the paths of the call"))
    }

    /// What lies below the root under that descriptor, and has a name.
    fn opened(&self, pid: Pid, descriptor: u64) -> Option<PathBuf> {
        let path = fs::read_link(format!("/proc/{pid}/fd/{}", descriptor as i32)).ok()?;
        let gone = path.to_string_lossy().ends_with(" (deleted)");
        (path.starts_with(self.root) && !gone).then_some(path)
    }

    fn wrote(&mut self, pid: Pid, descriptor: u64, at: Option<u64>, length: u64) {
        let Some(path) = self.opened(pid, descriptor).filter(|path| path.is_file()) else { return };
        let at = at.unwrap_or_else(|| position(pid, descriptor) - length);
        let mut bytes = vec![0; usize::try_from(length).expect("a length")];
        File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, at)).expect("read what was written");
        self.deeds.push(Deed::Write { path, at, bytes });
    }

    fn length(&mut self, pid: Pid, descriptor: u64, length: u64, grows: bool) {
        if let Some(path) = self.opened(pid, descriptor) {
            self.deeds.push(Deed::Length { path, length, grows });
        }
    }
}

/// Where a descriptor stands after a call.
fn position(pid: Pid, descriptor: u64) -> u64 {
    let told = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", descriptor as i32)).expect("its state");
    told.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok()).expect("its position")
}

/// The paths that a call names.
fn named(pid: Pid, number: i64, args: &[u64; 6]) -> Vec<PathBuf> {
    let [first, second, third, fourth, ..] = *args;
    let here = |text: u64| resolved(pid, libc::AT_FDCWD, text);
    let at = |folder: u64, text: u64| resolved(pid, folder as i32, text);
    match number {
        libc::SYS_truncate | libc::SYS_mkdir | libc::SYS_unlink | libc::SYS_rmdir => vec![here(first)],
        libc::SYS_mkdirat | libc::SYS_unlinkat => vec![at(first, second)],
        libc::SYS_symlink => vec![text(pid, first), here(second)],
        libc::SYS_symlinkat => vec![text(pid, first), at(second, third)],
        libc::SYS_link | libc::SYS_rename => vec![here(first), here(second)],
        libc::SYS_linkat | libc::SYS_renameat | libc::SYS_renameat2 => {
            vec![at(first, second), at(third, fourth)]
        }
        _ => Vec::new(),
    }
}

/// An absolute path without `.` and `..`.
fn resolved(pid: Pid, folder: i32, address: u64) -> PathBuf {
    let path = text(pid, address);
    let from = if folder == libc::AT_FDCWD {
        fs::read_link(format!("/proc/{pid}/cwd"))
    } else {
        fs::read_link(format!("/proc/{pid}/fd/{folder}"))
    };
    let mut whole = PathBuf::new();
    for part in from.unwrap_or_default().join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}

/// The text that ends with a zero at an address; empty for a process that is gone.
fn text(pid: Pid, address: u64) -> PathBuf {
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return PathBuf::new() };
    let mut bytes = Vec::new();
    let mut byte = [0];
    while bytes.len() < 4096
        && memory.read_exact_at(&mut byte, address + bytes.len() as u64).is_ok()
        && byte != [0]
    {
        bytes.push(byte[0]);
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn memory<const N: usize>(pid: Pid, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    let read =
        File::open(format!("/proc/{pid}/mem")).and_then(|file| file.read_exact_at(&mut bytes, address));
    read.expect("the memory of what is traced");
    bytes
}
