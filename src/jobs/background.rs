//! Work that outlives us: started through a short-lived copy of this binary that leaves the session and closes
//! every inherited descriptor, so that nobody waits for it, no terminal signal reaches it, and it is nobody's
//! zombie. Knows nothing of what it starts.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::platform;

/// The hidden command that is the other half of [`start`].
pub const START_COMMAND: &str = "background-start";

/// Starts a program in a new session with the three standard streams on /dev/null, exactly this environment, and no
/// other descriptor of ours. Returns when it runs. Its arguments travel through a pipe, never through our own
/// arguments or environment.
///
/// # Errors
/// The program, or this binary once more, could not be started.
pub fn start(
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(OsString, OsString)],
    directory: &Path,
) -> io::Result<()> {
    let mut helper = Command::new(platform::own_program())
        .arg0("membridge")
        .arg(START_COMMAND)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut pipe) = helper.stdin.take() {
        let words = std::iter::once(program.as_os_str()).chain(arguments.iter().copied());
        for word in words {
            pipe.write_all(word.as_bytes())?;
            pipe.write_all(&[0])?;
        }
    }
    let output = helper.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let problem = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Err(io::Error::other(if problem.is_empty() { output.status.to_string() } else { problem }))
}

/// The other half: runs in the copy, before anything else has been opened. Prints what went wrong.
///
/// # Errors
/// The program could not be started.
pub fn run_helper() -> io::Result<()> {
    let mut words = Vec::new();
    io::stdin().lock().read_to_end(&mut words)?;
    let mut words = words
        .strip_suffix(&[0])
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()));
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    leave()?;
    // Not waited for: we end now, and the child belongs to init.
    let _child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// Leaves the session of whoever started us and lets go of every descriptor above the standard three. Only for a
/// process that has just started and has opened nothing yet.
///
/// # Errors
/// The system refuses a new session.
pub fn leave() -> io::Result<()> {
    for descriptor in platform::open_descriptors()?.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed the folder is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    match nix::unistd::setsid() {
        // A session leader, such as a child of setsid(1), has left already.
        Ok(_) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Starts this binary again with the standard streams on /dev/null and these variables beside our own, and does not
/// wait. The command that runs there calls [`leave`] first.
///
/// # Errors
/// It could not be started.
pub fn start_self(arguments: &[&str], variables: &[(&str, OsString)]) -> io::Result<Child> {
    Command::new(platform::own_program())
        .arg0("membridge")
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// [`be_humble`] for a child that has just been started. What it starts until then is not affected.
pub fn humble(child: u32) {
    let pid = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    if pid.is_some() {
        let _ = rustix::process::setpriority_process(pid, 19);
    }
}

/// Lowest priority for processor time, and with it for the disk: the kernel derives the I/O priority of a process
/// that never set one from its niceness. Refusal is no error: work at normal priority is still done.
pub fn be_humble() {
    let _ = rustix::process::setpriority_process(None, 19);
}
