//! The one door through which a whole image comes into the live database: the first one, an earlier state, a safety
//! backup. It is told what comes and why; who asked, and what the bucket holds now, it does not know.
//!
//! Killed at any instant, the database is the old one or the new one, whole; on any failure it is the old one.

pub mod backups;
mod exchange;
pub mod image;
mod proof;
mod way_back;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::database::{self, Counts, files, install};
use crate::error::{CommandResult, Failure};
use crate::storage::Bucket;
use crate::ui::Ui;

pub use image::Image;

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
    fn label(self, nth: u8) -> String {
        format!("{}/{}", self.first.saturating_add(nth), self.of)
    }
}

/// Why an image comes, which says what the backup of the old database is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is none here yet.
    First,
    /// A person asked for an earlier state.
    Restore,
}

impl Why {
    /// Whether the backup may be the only copy of some rows; `in_history` says that a commit in the bucket holds the
    /// same.
    fn local_ahead(self, in_history: bool) -> bool {
        match self {
            Self::First => false,
            Self::Restore => !in_history,
        }
    }
}

/// A database that is to take the place of the local one.
#[derive(Debug)]
pub struct Incoming {
    /// The new one, checked.
    pub image: Image,
    /// Why.
    pub why: Why,
    /// Only when the local database still has this content digest.
    pub only_over: Option<String>,
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

impl Installed {
    /// What to type to have the old one again.
    pub fn way_back(&self) -> String {
        restore_backup(&self.backup.as_deref().map(backups::name_of).unwrap_or_default())
    }
}

/// What to type to have this backup again.
fn restore_backup(name: &str) -> String {
    format!("membridge restore-backup {name}")
}

/// The old database is in place.
#[derive(Debug)]
pub struct NotInstalled {
    /// Why.
    pub failure: Failure,
    /// Nothing was written to it; otherwise it was put back.
    pub untouched: bool,
}

impl From<NotInstalled> for Failure {
    fn from(not: NotInstalled) -> Self {
        not.failure
    }
}

impl Door<'_> {
    /// Lets the image in: over the database that is here, which is backed up first, or where there is none.
    ///
    /// # Errors
    /// See [`NotInstalled`].
    pub async fn install(&self, incoming: Incoming) -> Result<Installed, NotInstalled> {
        if files::has_content(self.database) {
            return exchange::exchange(self, incoming).await;
        }
        let counts = incoming.image.facts.counts;
        match self.place(incoming.image).await {
            Ok(()) => Ok(Installed { backup: None, counts, trouble: None }),
            Err(failure) => Err(NotInstalled { failure, untouched: true }),
        }
    }

    /// Puts a first database in place (F36). What lies about of a lost one goes into a folder of its own each time.
    async fn place(&self, image: Image) -> CommandResult {
        let live = self.database.to_owned();
        let orphans = self.config.paths.state.join("orphans");
        let aside = orphans.join(self.bucket.context.now().as_second().to_string());
        let kept = database::blocking(move || install::place(image.path, &live, &aside)).await?;
        if let Some(folder) = kept {
            self.ui.warn(format!(
                "an old log without its database lay here; it is kept in {}",
                folder.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Steps, Why};

    #[test]
    fn a_backup_says_whether_it_may_be_the_only_copy() {
        let table = [
            (Why::First, false, false),
            (Why::First, true, false),
            (Why::Restore, false, true),
            (Why::Restore, true, false),
        ];
        for (why, in_history, local_ahead) in table {
            assert_eq!(why.local_ahead(in_history), local_ahead, "{why:?} {in_history}");
        }
    }

    #[test]
    fn steps_are_counted_as_the_command_counts_them() {
        let of_a_pull = Steps { first: 4, of: 7 };
        assert_eq!([0, 3].map(|nth| of_a_pull.label(nth)), ["4/7", "7/7"]);
    }
}
