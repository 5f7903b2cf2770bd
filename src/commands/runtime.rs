//! The runtime that every command works on, made so that the limits of this process are errors and not its end.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Helper threads at most: for files, SQLite and names of hosts.
const HELPERS: usize = 4;

/// Descriptors that must be left: the runtime takes eight.
const DESCRIPTORS: usize = 16;

/// Longer than any command: the helper that was there at the beginning is there at the end.
const KEPT: Duration = Duration::from_hours(24 * 365);

/// Starts it.
///
/// # Errors
/// No more descriptors, no more threads.
pub(super) fn start() -> io::Result<Runtime> {
    // Where `ulimit -f` forbids a write, the write says so; without a handler the process would die of it.
    signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default())?;
    // tokio panics when it gets no descriptor for signals. No command can do with so few in any case.
    let room: Vec<_> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect::<io::Result<_>>()?;
    drop(room);
    // It panics when it gets no first helper, too, and makes do with what it has later on.
    let first = std::thread::Builder::new().spawn(|| {})?;
    let _ = first.join();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HELPERS)
        .thread_keep_alive(KEPT)
        .build()?;
    drop(runtime.spawn_blocking(|| {}));
    Ok(runtime)
}
