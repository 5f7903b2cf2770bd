//! Places where tests kill, stop or delay the program. Compiled in with the `failpoints` feature only; in a
//! release each call is nothing.

/// A step of a protocol that a test may want to die at. `MEMBRIDGE_FAILPOINT=name` kills the process with
/// SIGKILL when it gets there, `name=stop` stops it with SIGSTOP, `name=wait` waits while the file that
/// `MEMBRIDGE_FAILPOINT_FILE` names is there. The names that are passed are appended to the file that
/// `MEMBRIDGE_FAILPOINT_LOG` names.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    if let Ok(file) = std::env::var("MEMBRIDGE_FAILPOINT_LOG") {
        use std::io::Write;
        if let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            let _ = writeln!(log, "{name}");
        }
    }
    let Ok(wanted) = std::env::var("MEMBRIDGE_FAILPOINT") else {
        return;
    };
    if wanted == name {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    } else if wanted.strip_suffix("=stop") == Some(name) {
        let _ = kill(Pid::this(), Signal::SIGSTOP);
    } else if wanted.strip_suffix("=wait") == Some(name)
        && let Ok(file) = std::env::var("MEMBRIDGE_FAILPOINT_FILE")
    {
        // The test says when to go on by removing the file; polling is what a test hook can afford.
        while std::path::Path::new(&file).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// See the other version: nothing in a release.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_name: &str) {}

/// Seconds that a test adds to the clock of this machine (`MEMBRIDGE_TEST_CLOCK_OFFSET`); 0 in a release.
#[cfg(feature = "failpoints")]
pub fn clock_offset() -> i64 {
    std::env::var("MEMBRIDGE_TEST_CLOCK_OFFSET").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// See the other version: 0 in a release.
#[cfg(not(feature = "failpoints"))]
pub fn clock_offset() -> i64 {
    0
}

/// How long the store may take to answer, where a test does not want to wait for the real limit
/// (`MEMBRIDGE_TEST_ANSWER_MS`); `None` in a release.
#[cfg(feature = "failpoints")]
pub fn answer_limit() -> Option<std::time::Duration> {
    let text = std::env::var("MEMBRIDGE_TEST_ANSWER_MS").ok()?;
    text.parse().ok().map(std::time::Duration::from_millis)
}

/// See the other version: `None` in a release.
#[cfg(not(feature = "failpoints"))]
pub fn answer_limit() -> Option<std::time::Duration> {
    None
}

/// How long a worker may take to get ready, where a test does not want to wait for the real limit
/// (`MEMBRIDGE_TEST_READY_MS`); `None` in a release.
#[cfg(feature = "failpoints")]
pub fn ready_limit() -> Option<std::time::Duration> {
    let text = std::env::var("MEMBRIDGE_TEST_READY_MS").ok()?;
    text.parse().ok().map(std::time::Duration::from_millis)
}

/// See the other version: `None` in a release.
#[cfg(not(feature = "failpoints"))]
pub fn ready_limit() -> Option<std::time::Duration> {
    None
}

/// How long ago this machine was booted, where a test says so (`MEMBRIDGE_TEST_BOOTED_SECONDS_AGO`); `None` in a
/// release.
#[cfg(feature = "failpoints")]
pub fn booted_ago() -> Option<std::time::Duration> {
    let text = std::env::var("MEMBRIDGE_TEST_BOOTED_SECONDS_AGO").ok()?;
    text.parse().ok().map(std::time::Duration::from_secs)
}

/// See the other version: `None` in a release.
#[cfg(not(feature = "failpoints"))]
pub fn booted_ago() -> Option<std::time::Duration> {
    None
}
