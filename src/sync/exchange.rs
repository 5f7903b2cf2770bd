//! What a hand-over is told and what it tells: values only. Why a database is replaced says what its backup is worth.

use std::path::{Path, PathBuf};

use super::fetch::Image;
use crate::database::Counts;

/// Why the local database is replaced, which says what its backup is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The new one holds all of it.
    FastForward,
    /// It holds rows that the new one lacks.
    Diverged,
    /// A person asked for an earlier state.
    Restore,
}

impl Reason {
    /// Whether the backup may be the only copy of some rows; `in_history` says that a commit in the bucket holds the
    /// same.
    pub(super) fn local_ahead(self, in_history: bool) -> bool {
        match self {
            Self::FastForward => false,
            Self::Diverged => true,
            Self::Restore => !in_history,
        }
    }
}

/// Where the four steps of a hand-over stand among those of the command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    /// Number of the first.
    pub(super) first: u8,
    /// How many the command has.
    pub(super) of: u8,
}

impl Steps {
    pub(super) fn label(self, nth: u8) -> String {
        format!("{}/{}", self.first.saturating_add(nth), self.of)
    }
}

/// A database that is to take the place of the local one.
pub(super) struct Exchange<'a> {
    /// The new one, checked.
    pub(super) image: &'a Image,
    /// For the backup's manifest: the checksum of where it came from.
    pub(super) remote_sha256: &'a str,
    /// Only when the local database still has this content digest.
    pub(super) only_over: Option<String>,
    /// Why.
    pub(super) reason: Reason,
    /// See [`super::hand_over::in_history`].
    pub(super) in_history: Option<String>,
    /// For the report.
    pub(super) steps: Steps,
}

/// The new database is in place.
pub(super) struct HandedOver {
    /// The backup of the old one, where it was kept.
    pub(super) backup: Option<PathBuf>,
    /// The backup may be the only copy of some rows.
    pub(super) local_ahead: bool,
    /// Rows now.
    pub(super) counts: Counts,
    /// Why the worker does not go on, where it should.
    pub(super) trouble: Option<String>,
}

impl HandedOver {
    /// What to type to have the old one again.
    pub(super) fn way_back(&self) -> String {
        restore_backup(&self.backup.as_deref().map(name_of).unwrap_or_default())
    }
}

/// The name that `restore-backup` takes for the backup whose database this is.
pub(super) fn name_of(backup: &Path) -> String {
    let name = backup.parent().and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What to type to have this backup again.
pub(super) fn restore_backup(name: &str) -> String {
    format!("membridge restore-backup {name}")
}

#[cfg(test)]
mod tests {
    use super::{Reason, Steps};

    #[test]
    fn a_backup_says_whether_it_may_be_the_only_copy() {
        let table = [
            (Reason::FastForward, false, false),
            (Reason::FastForward, true, false),
            (Reason::Diverged, false, true),
            (Reason::Diverged, true, true),
            (Reason::Restore, false, true),
            (Reason::Restore, true, false),
        ];
        for (reason, in_history, local_ahead) in table {
            assert_eq!(reason.local_ahead(in_history), local_ahead, "{reason:?} {in_history}");
        }
    }

    #[test]
    fn steps_are_counted_as_the_command_counts_them() {
        let of_a_pull = Steps { first: 4, of: 7 };
        assert_eq!([0, 3].map(|nth| of_a_pull.label(nth)), ["4/7", "7/7"]);
    }
}
