//! Questions to the person at the terminal, or to the lines of standard input. Knows no meaning.

use std::io::{BufRead, IsTerminal};

use nix::sys::termios::{self, LocalFlags, SetArg};

use crate::error::{Code, CommandResult, Failure};

/// Where answers come from: a person at a terminal, or the lines of stdin, one for each open question.
pub(super) struct Answers {
    /// Whether it is a person.
    pub(super) terminal: bool,
}

impl Answers {
    pub(super) fn open() -> Self {
        Self { terminal: std::io::stdin().is_terminal() }
    }

    /// The answer to one question; `None` where there is none, and no default either. A hidden one is not shown.
    pub(super) async fn ask(
        &self,
        text: &str,
        hidden: bool,
        default: Option<String>,
    ) -> CommandResult<Option<String>> {
        loop {
            let quiet = (self.terminal && hidden).then(EchoOff::start).flatten();
            if self.terminal {
                let shown = default.as_ref().map_or(String::new(), |default| format!(" [{default}]"));
                eprint!("{text}{shown}: ");
            }
            let line = self.line().await?;
            drop(quiet);
            let answer = line.as_deref().map(str::trim).filter(|answer| !answer.is_empty());
            match (answer, &default) {
                (Some(answer), _) => return Ok(Some(answer.to_owned())),
                (None, Some(default)) => return Ok(Some(default.clone())),
                (None, None) if line.is_some() && self.terminal => {}
                (None, None) => return Ok(None),
            }
        }
    }

    /// The next line; `None` at the end. Read aside, so that a signal is heard meanwhile.
    async fn line(&self) -> CommandResult<Option<String>> {
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
