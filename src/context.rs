//! The clock, the random numbers and the signals of one run. Everything below `commands` takes time and
//! chance from here, so that tests can move the clock and nothing else has to know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::amount::Clock;
use crate::failpoint;

/// What a run needs from the outside world besides files and the store.
#[derive(Debug)]
pub struct Context {
    clock_offset: SignedDuration,
    /// What a test takes off the time since boot, so that this machine seems to have been booted a moment ago.
    boot_offset: Duration,
    /// Seconds that the store's clock is ahead of ours, as last seen in a `Date` header.
    server_skew: AtomicI64,
    signal: watch::Sender<Option<i32>>,
    critical: AtomicUsize,
    asked: Mutex<BTreeMap<u64, (Duration, String)>>,
}

impl Default for Context {
    fn default() -> Self {
        Self::new(SignedDuration::ZERO)
    }
}

impl Context {
    /// A context whose clock is the system's plus `clock_offset` (zero outside tests).
    pub fn new(clock_offset: SignedDuration) -> Self {
        Self {
            clock_offset,
            boot_offset: failpoint::booted_ago()
                .map_or(Duration::ZERO, |ago| since_boot().saturating_sub(ago)),
            server_skew: AtomicI64::new(0),
            signal: watch::Sender::new(None),
            critical: AtomicUsize::new(0),
            asked: Mutex::default(),
        }
    }

    /// This machine's idea of the time.
    pub fn now(&self) -> Timestamp {
        let set = failpoint::set_time().and_then(|time| Timestamp::from_millisecond(time).ok());
        let now = set.unwrap_or_else(Timestamp::now);
        now.checked_add(self.clock_offset).unwrap_or(now)
    }

    /// Time since some fixed moment, by a clock that neither steps when the time is set nor stands still while this
    /// process is stopped or the machine sleeps: how long something of ours has been alive.
    pub fn uptime(&self) -> Duration {
        since_boot().saturating_sub(self.boot_offset)
    }

    /// The time by the store's clock: ours, corrected by the last `Date` that the store sent.
    /// Ages of locks and leases are computed with it, because the clocks of boards are wrong (F48).
    pub fn server_now(&self) -> Timestamp {
        let now = self.now();
        now.checked_add(SignedDuration::from_secs(self.skew_seconds())).unwrap_or(now)
    }

    /// The time by the store's clock, for a person who lives where this machine says it stands.
    pub fn clock(&self) -> Clock {
        Clock::new(self.server_now(), TimeZone::system())
    }

    /// Seconds that the store's clock is ahead of ours; negative when it is behind. 0 until it has answered.
    pub fn skew_seconds(&self) -> i64 {
        self.server_skew.load(Ordering::Relaxed)
    }

    /// Remembers what the store said the time is. Differences of up to a second are the header's resolution.
    pub fn learn_server_time(&self, server: Timestamp) {
        let skew = server.as_second() - self.now().as_second();
        self.server_skew.store(if skew.abs() <= 1 { 0 } else { skew }, Ordering::Relaxed);
    }

    /// Random bytes for keys and salts, always the operating system's.
    ///
    /// # Errors
    /// When it has none to give.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], getrandom::Error> {
        let mut bytes = [0_u8; N];
        getrandom::fill(&mut bytes)?;
        Ok(bytes)
    }

    /// 32 random hex digits: an owner token, a claim, a part of a temporary file's name.
    ///
    /// # Errors
    /// When the operating system has no random numbers to give.
    pub fn token(&self) -> Result<String, getrandom::Error> {
        if let Some(bytes) = failpoint::set_chance() {
            return Ok(hex(&bytes));
        }
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes)?;
        Ok(hex(&bytes))
    }

    /// Announces a signal to everything that waits in [`Context::interrupted`].
    pub fn interrupt(&self, signal: i32) {
        self.signal.send_replace(Some(signal));
    }

    /// Waits until a signal has come; returns its number.
    pub async fn interrupted(&self) -> i32 {
        let mut watch = self.signal.subscribe();
        loop {
            if let Some(signal) = *watch.borrow_and_update() {
                return signal;
            }
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a signal has come.
    pub fn was_interrupted(&self) -> bool {
        self.signal.borrow().is_some()
    }

    /// While the returned guard lives, a signal does not drop the running command: it has a lock to give back
    /// or a database half way between old and new, and ends by itself.
    pub fn critical(&self) -> Critical<'_> {
        self.critical.fetch_add(1, Ordering::SeqCst);
        Critical(self)
    }

    /// Notes that something is asked of somebody else, until the returned guard goes.
    pub fn asks(&self, what: String) -> Asking<'_> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let number = asked.last_key_value().map_or(0, |(number, _)| number.saturating_add(1));
        asked.insert(number, (self.uptime(), what));
        Asking { context: self, number }
    }

    /// What was asked first of all that has had no answer for so long.
    pub fn waits_for(&self, long: Duration) -> Option<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, what) = asked.first_key_value()?.1;
        (self.uptime().saturating_sub(*since) >= long).then(|| what.clone())
    }

    /// Whether a [`Critical`] guard is alive.
    pub fn in_critical(&self) -> bool {
        self.critical.load(Ordering::SeqCst) > 0
    }
}

/// The operating system's own answer to [`Context::uptime`].
fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    // The call fails for clocks that do not exist only; then nothing ever looks old, and the store's clock decides.
    clock_gettime(CLOCK).map_or(Duration::ZERO, Duration::from)
}

/// See [`Context::critical`].
#[derive(Debug)]
pub struct Critical<'a>(&'a Context);

impl Drop for Critical<'_> {
    fn drop(&mut self) {
        self.0.critical.fetch_sub(1, Ordering::SeqCst);
    }
}

/// See [`Context::asks`].
#[derive(Debug)]
pub struct Asking<'a> {
    context: &'a Context,
    number: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.context.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Lower-case hex digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 16 bytes as exactly 32 lower-case hex digits.
pub fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 16 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0_u8; 16];
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}
