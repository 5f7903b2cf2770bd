//! What a person sees: report lines and steps on stdout, progress on stderr, one JSON object with `--json`.
//! The only file that prints. It may not know what the lines mean.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::exit::ExitCode;

use crate::outcome::Outcome;

pub use crate::amount::human_bytes;
pub use crate::progress::Progress;
use crate::progress::{Bars, Unit};
pub use crate::visible::clean;
use crate::visible::is_invisible;

/// The number in every JSON object we print; raised when a field changes its meaning.
pub const JSON_SCHEMA: u32 = 1;

/// How a command ends when it did what was asked: an exit code, and the facts for `--json`.
#[derive(Debug)]
pub struct Report {
    /// The exit code.
    pub exit: ExitCode,
    /// One word for how it ended.
    pub outcome: Outcome,
    /// The facts, by name.
    pub facts: Map<String, Value>,
}

impl Report {
    /// A success.
    pub fn ok(outcome: Outcome) -> Self {
        Self { exit: ExitCode::Ok, outcome, facts: Map::new() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }
}

/// The person at the other end.
#[derive(Clone, Default)]
pub struct Ui {
    /// One JSON object instead of lines.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    /// Colours on stdout.
    pub color: bool,
    /// The bar on the screen, for the last word: work that a signal left behind keeps it alive.
    bar: Arc<Mutex<WeakProgressBar>>,
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Nothing special.
    Plain,
    /// Somebody should look at it.
    Caution,
    /// Does not work.
    Bad,
    /// Of little interest.
    Faint,
}

impl Tone {
    /// The terminal's code for it.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Good => Some("32"),
            Self::Plain => None,
            Self::Caution => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }
}

impl Ui {
    /// What the person asked for; `color` is the decision, not the wish.
    pub fn new(json: bool, quiet: bool, color: bool) -> Self {
        Self { json, quiet, color, bar: Arc::default() }
    }

    /// One line of the report.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.beside_the_bar(|| print_line(text.as_ref()));
        }
    }

    /// One line of the report that opens with a coloured label.
    pub fn toned(&self, tone: Tone, label: &str, text: &str) {
        if self.json || self.quiet {
            return;
        }
        let line = format!("{}{}", self.paint(tone, &clean(label)), clean(text));
        self.beside_the_bar(|| print_clean(&line));
    }

    /// The answer to a yes-or-no question, with a mark before it: ✓ or ✗ on a terminal, a word without one.
    pub fn verdict(&self, tone: Tone, text: &str) {
        let mark = match (tone, self.color) {
            (Tone::Good, true) => "✓ ",
            (Tone::Bad, true) => "✗ ",
            (_, true) => "· ",
            (Tone::Good, false) => "ok: ",
            (Tone::Bad, false) => "NOT SAFE: ",
            (_, false) => "",
        };
        self.toned(tone, mark, text);
    }

    /// Asks for a yes on the terminal; `None` where nobody is there to ask.
    pub fn confirm(&self, question: &str) -> Option<bool> {
        if self.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        let mut line = String::new();
        self.beside_the_bar(|| {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "{} [y/N] ", clean(question)).and_then(|()| err.flush());
            let _ = std::io::stdin().lock().read_line(&mut line);
        });
        Some(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// One line of a daemon's log, which is JSON already.
    pub fn log(line: &str) {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{}", escape_invisible(line));
    }

    /// Text as it is, for other programs: completions, the manual page.
    pub fn verbatim(&self, text: &str) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.color) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }

    /// A numbered step: `[1/7] text`.
    pub fn step(&self, number: &str, text: impl AsRef<str>) {
        self.line(format!("[{number}] {}", text.as_ref()));
    }

    /// Something that is not an error but must be seen.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.toned(Tone::Caution, "WARNING: ", text.as_ref());
    }

    /// Prints how the command ended, as lines or as the one JSON object.
    pub fn finish(&self, command: &str, end: &Result<Report, Failure>) {
        if let Some(bar) = self.shown().upgrade() {
            bar.finish_and_clear();
        }
        match end {
            Ok(report) if self.json => {
                let mut facts = report.facts.clone();
                facts.shift_insert(0, "schema".into(), JSON_SCHEMA.into());
                facts.shift_insert(1, "command".into(), command.into());
                facts.shift_insert(2, "exit_code".into(), report.exit.code().into());
                facts.shift_insert(3, "outcome".into(), report.outcome.into());
                print_json(&Value::Object(facts));
            }
            Ok(_) => {}
            Err(failure) if self.json => print_json(&serde_json::json!({
                "schema": JSON_SCHEMA,
                "command": command,
                "exit_code": failure.exit.code(),
                "outcome": Outcome::Error,
                "code": failure.code.word(),
                "error": failure.message,
                "hints": failure.hints,
            })),
            Err(failure) => {
                // Callers of the Python script read errors on stdout; so do ours.
                print_clean(&format!("{}{}", self.paint(Tone::Bad, "ERROR: "), clean(&failure.message)));
                for hint in &failure.hints {
                    print_line(&format!("  → {hint}"));
                }
            }
        }
    }

    /// A progress bar over `total` bytes on stderr; it draws nothing unless stderr is a terminal.
    pub fn progress(&self, what: &'static str, total: u64) -> Progress {
        self.draw(what, Unit::Bytes, total)
    }

    /// Bars for whoever stands below and finds out that something takes long.
    pub fn bars(&self) -> Bars {
        if !self.draws() {
            return Bars::default();
        }
        let ui = self.clone();
        Bars::new(move |what, unit, total| ui.draw(what, unit, total))
    }

    fn draws(&self) -> bool {
        !self.json && !self.quiet && std::io::stderr().is_terminal()
    }

    fn draw(&self, what: &'static str, unit: Unit, total: u64) -> Progress {
        let visible = self.draws();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template(unit)) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        if visible {
            // Seen from the start on, however slow the first byte.
            bar.tick();
            bar.enable_steady_tick(Duration::from_millis(250));
            *self.shown() = bar.downgrade();
        }
        Progress::from(bar)
    }

    /// Prints while the bar is off the screen, so that the two never share a line.
    fn beside_the_bar(&self, print: impl FnOnce()) {
        let bar = self.shown().upgrade();
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, WeakProgressBar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a bar is drawn: at most 80 columns.
fn template(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => {
            "{prefix:>10} [{bar:24}] {percent:>3}% {decimal_bytes}/{decimal_total_bytes}, {eta} left"
        }
        Unit::Rows => "{prefix:>10} [{bar:24}] {percent:>3}% {pos}/{len} rows, {eta} left",
    }
}

fn print_line(text: &str) {
    print_clean(&clean(text));
}

fn print_clean(text: &str) {
    // A closed pipe is the reader's wish, not an error of ours.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn print_json(value: &Value) {
    let text =
        serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", escape_invisible(&text));
    let _ = out.flush();
}

/// JSON text whose strings hold no character that a terminal would obey: those that serde leaves as they are.
fn escape_invisible(json: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_invisible(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape_invisible;

    #[test]
    fn json_carries_remote_text_without_obeying_it() {
        let json =
            serde_json::to_string_pretty(&serde_json::json!({"host": "a\u{9b}2J\n\u{202e}сад"})).unwrap();
        let shown = escape_invisible(&json);
        assert_eq!(shown, "{\n  \"host\": \"a\\u009b2J\\n\\u202eсад\"\n}");
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["host"], "a\u{9b}2J\n\u{202e}сад");
    }
}
