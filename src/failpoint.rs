//! Places where tests kill, stop or delay the program. Compiled in with the `failpoints` feature only; in a
//! release each call is nothing.

#[cfg(feature = "failpoints")]
use std::sync::OnceLock;
#[cfg(feature = "failpoints")]
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps that this process has reached, where it is to do something at one of them.
#[cfg(feature = "failpoints")]
static REACHED: AtomicU64 = AtomicU64::new(0);

/// The fault that a test has planted into this process.
#[cfg(feature = "failpoints")]
static PLANTED: OnceLock<Option<String>> = OnceLock::new();

/// A step of a protocol that a test may want to die at. `MEMBRIDGE_FAILPOINT=name` kills the process with
/// SIGKILL when it gets there, `name=stop` stops it with SIGSTOP, `name=wait` waits while the file that
/// `MEMBRIDGE_FAILPOINT_FILE` names is there. A number in the place of the name means the step that is reached as
/// that one, from 1. The names that are passed are appended to the file that `MEMBRIDGE_FAILPOINT_LOG` names.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    script::step(name);
    if let Ok(file) = std::env::var("MEMBRIDGE_FAILPOINT_LOG") {
        use std::io::Write;
        if let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            let _ = writeln!(log, "{name}");
        }
    }
    let Ok(wanted) = std::env::var("MEMBRIDGE_FAILPOINT") else {
        return;
    };
    let (wanted, deed) = wanted.split_once('=').unwrap_or((&wanted, "kill"));
    let reached = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if wanted != name && wanted.parse() != Ok(reached) {
        return;
    }
    if deed == "kill" {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    } else if deed == "stop" {
        let _ = kill(Pid::this(), Signal::SIGSTOP);
    } else if deed == "wait"
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

/// Whether a test has planted the fault `name` into this thread, or into this process (`MEMBRIDGE_TEST_PLANTED`): a rule
/// that does not hold, to show that the tests would notice. Never in a release.
#[cfg(feature = "failpoints")]
pub fn planted(name: &str) -> bool {
    let process = PLANTED.get_or_init(|| std::env::var("MEMBRIDGE_TEST_PLANTED").ok());
    process.as_deref() == Some(name) || script::planted(name)
}

/// See the other version: never in a release.
#[cfg(not(feature = "failpoints"))]
pub fn planted(_name: &str) -> bool {
    false
}

/// The time in milliseconds since 1970 that a test has set for this thread; `None` in a release.
#[cfg(feature = "failpoints")]
pub fn set_time() -> Option<i64> {
    script::time()
}

/// See the other version: `None` in a release.
#[cfg(not(feature = "failpoints"))]
pub fn set_time() -> Option<i64> {
    None
}

/// The next bytes of the chance that a test has set for this thread; `None` in a release.
#[cfg(feature = "failpoints")]
pub fn set_chance() -> Option<[u8; 16]> {
    script::chance()
}

/// See the other version: `None` in a release.
#[cfg(not(feature = "failpoints"))]
pub fn set_chance() -> Option<[u8; 16]> {
    None
}

/// What a test that runs many lives in its own process sets for the thread of one life: the step at which it dies,
/// the faults of its rules, its clock and its chance.
#[cfg(feature = "failpoints")]
pub mod script {
    use std::cell::RefCell;

    use sha2::{Digest, Sha256};

    /// What a thread unwinds with that dies at a failpoint; the name of the failpoint.
    #[derive(Debug)]
    pub struct Crash(pub String);

    #[derive(Default)]
    struct Script {
        steps_left: Option<u64>,
        fault: Option<&'static str>,
        time: Option<i64>,
        chance: Option<(u64, u64)>,
    }

    thread_local! {
        static SCRIPT: RefCell<Script> = RefCell::default();
    }

    /// This thread unwinds with [`Crash`] at the failpoint after `steps` others (0: at the next); `None`: at none.
    /// Returns what was set before.
    pub fn crash_after(steps: Option<u64>) -> Option<u64> {
        SCRIPT.with_borrow_mut(|script| std::mem::replace(&mut script.steps_left, steps))
    }

    /// Plants one fault into this thread, or none.
    pub fn plant(fault: Option<&'static str>) {
        SCRIPT.with_borrow_mut(|script| script.fault = fault);
    }

    /// Sets this thread's clock, in milliseconds since 1970.
    pub fn set_time(time: Option<i64>) {
        SCRIPT.with_borrow_mut(|script| script.time = time);
    }

    /// Sets this thread's chance.
    pub fn set_chance(seed: Option<u64>) {
        SCRIPT.with_borrow_mut(|script| script.chance = seed.map(|seed| (seed, 0)));
    }

    pub(super) fn step(name: &str) {
        let dies = SCRIPT.with_borrow_mut(|script| match script.steps_left {
            Some(0) => script.steps_left.take().is_some(),
            Some(left) => {
                script.steps_left = Some(left - 1);
                false
            }
            None => false,
        });
        if dies {
            std::panic::resume_unwind(Box::new(Crash(name.to_owned())));
        }
    }

    pub(super) fn planted(name: &str) -> bool {
        SCRIPT.with_borrow(|script| script.fault == Some(name))
    }

    pub(super) fn time() -> Option<i64> {
        SCRIPT.with_borrow(|script| script.time)
    }

    pub(super) fn chance() -> Option<[u8; 16]> {
        SCRIPT.with_borrow_mut(|script| {
            let (seed, number) = script.chance.as_mut()?;
            *number += 1;
            let mut hasher = Sha256::new();
            hasher.update(seed.to_le_bytes());
            hasher.update(number.to_le_bytes());
            hasher.finalize().first_chunk().copied()
        })
    }
}

/// How often a random test runs, and where it keeps what it has found.
#[cfg(test)]
pub(crate) fn cases(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, FileFailurePersistence};
    let found = FileFailurePersistence::SourceParallel("tests/proptest-regressions");
    Config { failure_persistence: Some(Box::new(found)), ..Config::with_cases(cases) }
}
