//! How a command, or a hook, went: the word in `outcome` of `--json` (docs/json.md) and in the journal of the hooks.
//! Values that programs compare; nobody compares the words.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::word::words;

words! {
    /// One word for how something ended. Words are added, never changed.
    Outcome:
    /// It was refused or failed; `code` says why.
    Error = "error",
    /// What was here went into the store.
    Pushed = "pushed",
    /// What is in the store came here.
    Pulled = "pulled",
    /// Both sides are the same.
    UpToDate = "up_to_date",
    /// Memory was exchanged.
    Synced = "synced",
    /// No memory on either side.
    NothingToSync = "nothing_to_sync",
    /// A backup, or a former push, was put back.
    Restored = "restored",
    /// What a restore would do.
    WouldRestore = "would_restore",
    /// Rows of a file were taken in.
    Imported = "imported",
    /// What an import would do.
    WouldImport = "would_import",
    /// A project was renamed.
    Renamed = "renamed",
    /// What a rename would do.
    WouldRename = "would_rename",
    /// A backup was deleted.
    Removed = "removed",
    /// What would be deleted.
    WouldRemove = "would_remove",
    /// A list was printed.
    Listed = "listed",
    /// What was asked for was printed.
    Shown = "shown",
    /// There is nothing to show.
    Empty = "empty",
    /// doctor has looked at everything.
    Checked = "checked",
    /// Two pushes hold the same.
    Same = "same",
    /// Two pushes differ.
    Different = "different",
    /// The history is sound.
    Verified = "verified",
    /// A setting in the bucket was written.
    Set = "set",
    /// A file was written.
    Written = "written",
    /// Scripts and entries are there.
    Installed = "installed",
    /// Scripts and entries are gone.
    Uninstalled = "uninstalled",
    /// A node is primary now.
    Promoted = "promoted",
    /// Nobody is primary until one comes.
    Demoted = "demoted",
    /// A long run was told to end.
    Stopped = "stopped",
    /// A job was left behind for later (journal).
    Queued = "queued",
    /// There was nothing to do for this call (journal).
    Skipped = "skipped",
    /// Another job waits that does this one's work too (journal).
    Coalesced = "coalesced",
    /// The job failed (journal).
    Failed = "failed",
    /// The job was refused because of this node's role (journal).
    Refused = "refused",
    /// A signal ended the job (journal).
    Interrupted = "interrupted",
    /// The job did what it is for, in a word that this release does not know (journal).
    Done = "done",
}

impl Default for Outcome {
    /// Nothing more is known.
    fn default() -> Self {
        Self::Done
    }
}

impl From<Outcome> for serde_json::Value {
    fn from(outcome: Outcome) -> Self {
        outcome.word().into()
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    /// A word that only another release knows is [`Outcome::Done`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Self::ALL.iter().copied().find(|outcome| outcome.word() == word).unwrap_or(Self::Done))
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn a_word_is_given_once_and_read_back() {
        for outcome in Outcome::ALL {
            let text = serde_json::to_string(outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), *outcome, "{text}");
        }
        assert_eq!(serde_json::from_str::<Outcome>("\"from_the_future\"").unwrap(), Outcome::Done);
    }
}
