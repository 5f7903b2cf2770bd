//! What the door is told and what it says: the image that comes and why, the backup that was kept. Plain values.

use std::path::{Path, PathBuf};

use super::backups::BackupManifest;
use super::image::Image;
use crate::config::Config;
use crate::database::Counts;
use crate::storage::{Bucket, records};
use crate::sum::Sum;
use crate::ui::Ui;
use crate::visible::shell_word;

/// The live database, and everything that holds on to it.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The project's place in the store: clock, signals, and what is proved to be elsewhere.
    pub bucket: &'a Bucket,
    /// The person.
    pub ui: &'a Ui,
    /// The real file of the database, links followed.
    pub database: &'a Path,
    /// Move the vector index away when the database is replaced (F17).
    pub reset_vectors: bool,
    /// For the report.
    pub steps: Steps,
}

/// Where the four steps of an installation stand among those of the command.
#[derive(Debug, Clone, Copy, Default)]
pub struct Steps {
    /// Number of the first.
    pub first: u8,
    /// How many the command has.
    pub of: u8,
}

impl Steps {
    pub(super) fn label(self, nth: u8) -> String {
        format!("{}/{}", self.first.saturating_add(nth), self.of)
    }
}

/// An earlier state that a person asked for: it takes the place of the local database.
#[derive(Debug)]
pub struct Incoming {
    /// The new one, checked.
    pub image: Image,
    /// Only when the local database still has this content digest.
    pub only_over: Option<Sum>,
    /// Number of the commit that held the same as the local database when both last agreed: a hint, looked into.
    pub base: Option<u64>,
}

/// The new database is in place.
#[derive(Debug)]
pub struct Installed {
    /// The backup of the old one, where there was one and it was kept.
    pub backup: Option<PathBuf>,
    /// Rows now.
    pub counts: Counts,
    /// Why the worker does not go on, where it should.
    pub trouble: Option<String>,
}

/// What to type to have this backup again.
pub(super) fn restore_backup(name: &str) -> String {
    format!("membridge restore-backup {}", shell_word(name))
}

impl Door<'_> {
    /// The manifest of a backup that is made for this image, without the facts of the copy.
    pub(super) fn manifest(&self, incoming: &Incoming) -> BackupManifest {
        BackupManifest {
            timestamp: records::iso(self.bucket.context.now()),
            hostname: self.config.node.host.clone(),
            reason: "pull-overwrite safety backup".to_owned(),
            local_sha: String::new(),
            remote_sha: incoming.image.sha256.map_or(String::new(), |sum| sum.to_string()),
            local_obs: 0,
            remote_obs: Some(incoming.image.facts.counts.observations),
            local_ahead: true,
            db_path: self.database.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;

    #[test]
    fn steps_are_counted_as_the_command_counts_them() {
        let of_a_pull = Steps { first: 4, of: 7 };
        assert_eq!([0, 3].map(|nth| of_a_pull.label(nth)), ["4/7", "7/7"]);
    }
}
