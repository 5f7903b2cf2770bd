//! Exit codes: the numbers that scripts and hooks test, and the end of the process. Knows nothing of what came before.

/// How a run of the binary ends, as the shell sees it.
///
/// 0 to 3 are those of the Python script (tests/it/contract.rs, contract_settings.rs); 4 was both sides changed, which is no state any more, and stays reserved; new numbers start at 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done, or nothing to do.
    Ok,
    /// Any error: configuration, storage, SQLite, a lock held by another host.
    Error,
    /// Pull refused: this node is primary, has a database, and the remote differs.
    PrimaryRefusesPull,
    /// Push refused: this node is secondary.
    SecondaryRefusesPush,
    /// Stopped by a signal (its number).
    Interrupted(i32),
}

impl ExitCode {
    /// Ends the process. One that a signal stopped dies of that signal, so that a shell does not go on with the next
    /// command of a script; the shell's number for it is [`ExitCode::code`].
    pub fn end(self) -> ! {
        if let Self::Interrupted(signal) = self
            // The first process of a container is not killed by signals without a handler.
            && std::process::id() != 1
        {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        std::process::exit(self.code())
    }

    /// The number as the shell sees it.
    pub fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::PrimaryRefusesPull => 2,
            Self::SecondaryRefusesPush => 3,
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let table = [
            (ExitCode::Ok, 0),
            (ExitCode::Error, 1),
            (ExitCode::PrimaryRefusesPull, 2),
            (ExitCode::SecondaryRefusesPush, 3),
            (ExitCode::Interrupted(2), 130),
            (ExitCode::Interrupted(15), 143),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
