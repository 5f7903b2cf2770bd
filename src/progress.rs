//! A progress bar in the hands of whoever moves the bytes. Knows neither terminals nor what is counted: `Ui` makes the
//! visible ones.

use indicatif::ProgressBar;

/// A progress bar, cheap to clone into the task that moves the bytes. Cleared when the last clone goes.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar that draws nothing.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// `bytes` of the total are done.
    pub fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
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
