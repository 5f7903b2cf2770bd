//! The one door through which a whole image comes into the live database: the first one, an earlier state, a safety
//! backup. It is told what comes and why; who asked, and what the bucket holds now, it does not know.
//!
//! Killed at any instant, the database is the old one or the new one, whole; on any failure it is the old one.

pub mod backups;
mod door;
mod exchange;
pub mod image;
pub mod precaution;
mod proof;
mod way_back;

use crate::database::{self, files, install};
use crate::error::CommandResult;

pub use door::{Door, Incoming, Installed, Steps};
pub use image::Image;

impl Door<'_> {
    /// Lets the image in: over the database that is here, which is backed up first, or where there is none.
    ///
    /// # Errors
    /// Whatever failed; the old database is in place.
    pub async fn install(&self, incoming: Incoming) -> CommandResult<Installed> {
        if files::has_content(self.database) {
            return exchange::exchange(self, incoming).await;
        }
        self.place(incoming.image).await
    }

    /// Puts a first database in place (F36). What lies about of a lost one goes into a folder of its own each time.
    ///
    /// # Errors
    /// Whatever failed; a database that appeared here meanwhile is left alone.
    pub async fn place(&self, image: Image) -> CommandResult<Installed> {
        let counts = image.facts.counts;
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
        Ok(Installed { backup: None, counts, trouble: None })
    }
}
