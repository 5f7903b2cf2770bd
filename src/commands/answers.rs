//! Questions to the person at the terminal, or to the lines of standard input, one for each open question. Judges no answer.

use std::io::{BufRead, IsTerminal};

use nix::sys::termios::{self, LocalFlags, SetArg};

use crate::error::{Code, CommandResult, Failure};
use crate::exit::ExitCode;
use crate::outcome::Outcome;
use crate::ui::{Report, Ui};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The words, without a colon.
    pub(super) text: &'a str,
    /// What is typed is not shown.
    pub(super) hidden: bool,
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// This.
    Said(String),
    /// Nothing but Enter.
    Nothing,
    /// That there is no more: Control-D, the end of the file.
    End,
}

/// The source of answers.
pub(super) struct Answers {
    /// Somebody is there, who can be told what was wrong and asked again.
    pub(super) terminal: bool,
}

impl Answers {
    pub(super) fn open() -> Self {
        Self { terminal: std::io::stdin().is_terminal() }
    }

    /// Asks; `present` is what Enter alone stands for.
    pub(super) async fn ask(&self, question: Question<'_>, present: Option<&str>) -> CommandResult<Answer> {
        let quiet = (self.terminal && question.hidden).then(EchoOff::start).flatten();
        if self.terminal {
            let shown = match present {
                Some(_) if question.hidden => " [as it is]".to_owned(),
                Some(present) => format!(" [{present}]"),
                None => String::new(),
            };
            eprint!("{}{shown}: ", question.text);
        }
        let line = line().await?;
        drop(quiet);
        Ok(match line.as_deref().map(str::trim) {
            None => Answer::End,
            Some("") => Answer::Nothing,
            Some(answer) => Answer::Said(answer.to_owned()),
        })
    }

    /// Asks for what is not shown, until somebody says it. `None`: there is no more.
    pub(super) async fn secret(&self, text: &str) -> CommandResult<Option<String>> {
        loop {
            match self.ask(Question { text, hidden: true }, None).await? {
                Answer::Said(answer) => return Ok(Some(answer)),
                Answer::Nothing if self.terminal => {}
                Answer::Nothing | Answer::End => return Ok(None),
            }
        }
    }

    /// Tells a person what was wrong with an answer.
    pub(super) fn tell(&self, text: &str) {
        if self.terminal {
            eprintln!("  {}", crate::ui::clean(text));
        }
    }

    /// The same for a failure that another answer may mend.
    pub(super) fn tell_why(&self, failure: &Failure) {
        self.tell(&failure.message);
        for hint in &failure.hints {
            self.tell(&format!("→ {hint}"));
        }
    }

    /// Ends the line on which somebody typed Control-D.
    pub(super) fn end_line(&self) {
        self.tell("");
    }
}

/// The report of a command whose person left at a question; `what` was done.
pub(super) fn stopped(ui: &Ui, what: &str) -> Report {
    ui.line(format!("stopped: {what}"));
    Report { exit: ExitCode::Error, ..Report::ok(Outcome::Stopped) }
}

/// The next line; `None` at the end. Read aside, so that a signal is heard meanwhile.
async fn line() -> CommandResult<Option<String>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|count| (count > 0).then_some(line))
    });
    match read.await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(error)) => Err(Failure::of(Code::LocalFile, format!("cannot read the answer: {error}"))),
        Err(error) => Err(Failure::of(Code::Internal, format!("cannot read the answer: {error}"))),
    }
}

/// While it lives, the terminal does not show what is typed; dropped on every way out, also on Ctrl-C.
struct EchoOff(termios::Termios);

impl EchoOff {
    fn start() -> Option<Self> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
        // The Enter, or the Control-C, was not shown either.
        eprintln!();
    }
}
