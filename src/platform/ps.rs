//! Where there is no /proc (macOS, the BSDs): the system's own programs are asked. They cost some milliseconds each, and
//! nobody can be held: a signal goes by pid.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Memory;

/// A hold on a process: there is none here.
#[derive(Debug)]
pub enum Hold {}

impl Hold {
    /// Never.
    pub fn of(_: i32) -> Option<Self> {
        None
    }

    /// Never.
    ///
    /// # Errors
    /// None.
    pub fn again(&self) -> io::Result<Self> {
        match *self {}
    }

    /// Never.
    ///
    /// # Errors
    /// None.
    pub fn signal(&self, _: Signal) -> io::Result<()> {
        match *self {}
    }

    /// Never.
    pub fn wait(&self, _: Duration) {
        match *self {}
    }
}

/// This program; the one of that name in PATH where the system does not say.
pub fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("membridge"))
}

/// What tells this boot of this machine from any other.
pub fn boot() -> Option<String> {
    asked("sysctl", &["-n", "kern.bootsessionuuid"]).filter(|text| !text.trim().is_empty())
}

/// The descriptors that this process has open; the one that listed them among them, closed already.
///
/// # Errors
/// The system does not say.
pub fn open_descriptors() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/dev/fd")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The kernel's list of file locks: not known here.
///
/// # Errors
/// Always.
pub fn locks() -> io::Result<String> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The memory of this machine: not known here.
pub fn memory() -> Option<Memory> {
    None
}

/// All processes.
pub fn processes() -> Vec<i32> {
    let all = asked("ps", &["-A", "-o", "pid="]).unwrap_or_default();
    all.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// The user that a process belongs to.
pub fn owner(pid: i32) -> Option<u32> {
    about(pid, "uid=")?.trim().parse().ok()
}

/// A number for the moment in which a process started, good for comparing only; `None` for one that has ended, a zombie too.
pub fn started(pid: i32) -> Option<u64> {
    parse_started(&about(pid, "stat=,lstart=")?)
}

fn parse_started(line: &str) -> Option<u64> {
    let (state, at) = line.trim().split_once(' ')?;
    if state.starts_with('Z') || at.trim().is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    at.trim().hash(&mut hasher);
    Some(hasher.finish())
}

/// Its arguments, in one text.
pub fn command_line(pid: i32) -> String {
    about(pid, "command=").unwrap_or_default().trim_end().to_owned()
}

/// The program that it runs, where the system says its whole path.
pub fn program(pid: i32) -> Option<PathBuf> {
    let path = PathBuf::from(about(pid, "comm=")?.trim_end());
    (path.is_absolute() && path.is_file()).then_some(path)
}

/// Its environment as it was started with, as far as it can be told from its arguments.
pub fn environment(pid: i32) -> Vec<(OsString, OsString)> {
    let both = asked("ps", &["-E", "-ww", "-o", "command=", "-p", &pid.to_string()]);
    let both = both.unwrap_or_default();
    both.strip_prefix(command_line(pid).as_str()).map(variables).unwrap_or_default()
}

/// `NAME=value NAME=value`: a word that is no assignment belongs to the value before it.
fn variables(text: &str) -> Vec<(OsString, OsString)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for word in text.trim_end_matches('\n').split(' ') {
        let named = word.split_once('=').filter(|(name, _)| is_name(name));
        match (named, found.last_mut()) {
            (Some((name, value)), _) => found.push((name.to_owned(), value.to_owned())),
            (None, Some((_, value))) => *value = format!("{value} {word}"),
            (None, None) => {}
        }
    }
    found.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn is_name(word: &str) -> bool {
    let begins = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether it has a file open.
pub fn holds(pid: i32, file: &Path) -> bool {
    let ours = [OsString::from("-t"), OsString::from("--"), file.as_os_str().to_owned()];
    let holders = output(Command::new("lsof").args(ours)).unwrap_or_default();
    holders.lines().any(|line| line.trim().parse() == Ok(pid))
}

fn about(pid: i32, fields: &str) -> Option<String> {
    let said = asked("ps", &["-ww", "-o", fields, "-p", &pid.to_string()])?;
    (!said.trim().is_empty()).then_some(said)
}

fn asked(program: &str, arguments: &[&str]) -> Option<String> {
    output(Command::new(program).args(arguments))
}

/// What a program says; in English, whatever the person speaks.
fn output(command: &mut Command) -> Option<String> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// From here on this process leaves no core. What it starts leaves none either, unless it asks for one.
pub fn leave_no_core() {
    let most = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    let none = rustix::process::Rlimit { current: Some(0), maximum: most };
    // A system that refuses it takes nothing away that was promised to work.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

#[cfg(test)]
mod tests {
    use super::{command_line, owner, parse_started, processes, program, started, variables};

    #[test]
    fn a_process_is_described_by_the_programs_of_the_system() {
        if std::process::Command::new("ps").arg("-A").output().is_err() {
            eprintln!("skipped: there is no ps here");
            return;
        }
        let mut child = std::process::Command::new("/bin/sleep").arg("654321").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // The new program takes over a moment after it was started.
        while !command_line(pid).ends_with("sleep 654321") {
            assert!(std::time::Instant::now() < limit, "{}", command_line(pid));
            std::thread::yield_now();
        }
        assert_eq!(owner(pid), Some(nix::unistd::geteuid().as_raw()));
        assert!(processes().contains(&pid));
        assert!(program(pid).is_none_or(|path| path.ends_with("sleep")));
        let first = started(pid);
        assert!(first.is_some() && first == started(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((started(pid), owner(pid)), (None, None));
    }

    #[test]
    fn the_start_of_a_process_is_told_from_another() {
        let monday = parse_started("S    Mon Nov 23 10:00:01 2026\n");
        assert!(monday.is_some());
        assert_eq!(monday, parse_started("R+ Mon Nov 23 10:00:01 2026"), "whatever it does just now");
        assert_ne!(monday, parse_started("S    Mon Nov 23 10:00:02 2026\n"));
        for gone in ["", "Z+ Mon Nov 23 10:00:01 2026", "S"] {
            assert_eq!(parse_started(gone), None, "{gone}");
        }
    }

    #[test]
    fn an_environment_is_read_off_a_line() {
        let found = variables(" HOME=/Users/ann NAME=Ann B C=d _X=1=2 9=no\n");
        let text = |(name, value): &(std::ffi::OsString, std::ffi::OsString)| {
            format!("{}={}", name.display(), value.display())
        };
        let found: Vec<_> = found.iter().map(text).collect();
        assert_eq!(found, ["HOME=/Users/ann", "NAME=Ann B", "C=d", "_X=1=2 9=no"]);
        assert!(variables("no assignment at all").is_empty());
    }
}
