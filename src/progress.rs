//! A progress bar in the hands of whoever moves the bytes or the rows. Knows neither terminals nor what is counted: `Ui`
//! makes the visible ones.

use std::sync::Arc;

use indicatif::ProgressBar;

/// Transfers of fewer bytes, and work on fewer rows, are over before anybody could read a bar.
const LARGE_BYTES: u64 = 1 << 20;
const MANY_ROWS: u64 = 1000;

/// A progress bar, cheap to clone into the task that moves the bytes. Cleared when the last clone goes.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that draws nothing.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// `count` more are done.
    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// `count` of the total are done.
    pub fn set(&self, count: u64) {
        self.0.set_position(count);
    }

    /// Takes the bar off the screen.
    pub fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl From<ProgressBar> for Progress {
    fn from(bar: ProgressBar) -> Self {
        Self(bar)
    }
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Rows.
    Rows,
}

/// Makes a bar of so many.
type Draw = dyn Fn(&'static str, Unit, u64) -> Progress + Send + Sync;

/// Makes bars, for whoever finds out on the way that something will take long.
#[derive(Clone, Default)]
pub struct Bars(Option<Arc<Draw>>);

impl Bars {
    /// Bars that `draw` makes.
    pub fn new(draw: impl Fn(&'static str, Unit, u64) -> Progress + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(draw)))
    }

    /// A bar over a transfer, drawn when it is a large one.
    pub fn bytes(&self, what: &'static str, total: u64) -> Progress {
        self.over(what, Unit::Bytes, total, LARGE_BYTES)
    }

    /// A bar over rows, drawn when they are many.
    pub fn rows(&self, what: &'static str, total: u64) -> Progress {
        self.over(what, Unit::Rows, total, MANY_ROWS)
    }

    fn over(&self, what: &'static str, unit: Unit, total: u64, from: u64) -> Progress {
        match &self.0 {
            Some(draw) if total >= from => draw(what, unit, total),
            _ => Progress::hidden(),
        }
    }

    /// Whether anybody would see one: what only a bar needs to know is not asked otherwise.
    pub fn are_drawn(&self) -> bool {
        self.0.is_some()
    }
}

impl std::fmt::Debug for Bars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.are_drawn() { "bars" } else { "no bars" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Bars, Progress};

    #[test]
    fn only_what_takes_long_has_a_bar() {
        let drawn = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&drawn);
        let bars = Bars::new(move |_, _, total| {
            seen.fetch_add(total, Ordering::Relaxed);
            Progress::hidden()
        });
        bars.bytes("upload", (1 << 20) - 1).done();
        bars.rows("reading", 999).done();
        assert_eq!(drawn.load(Ordering::Relaxed), 0);
        bars.bytes("upload", 1 << 20).done();
        bars.rows("reading", 1000).done();
        assert_eq!(drawn.load(Ordering::Relaxed), (1 << 20) + 1000);
        Bars::default().bytes("upload", 1 << 30).done();
    }
}
