//! The row log: every installation writes what was recorded on it into its own folder of the bucket, in segments that
//! never change, and takes in what the others wrote. No lock, no winner to choose (docs/rows.md).
//!
//! One run is `begin`, `settle`, `collect`, `scan`, `publish`, in this order; see [`Rows`]. What the rules are is decided in pure
//! functions beside the step that needs them. Knows neither roles nor the archive.
//!
//! - [`segment`] is the format of rows on the wire, [`header`] what a segment says about itself;
//! - [`node`] is what a machine says about itself; [`wanted`] which segments are still to be read;
//! - [`fleet`] tells from them who is behind;
//! - [`fold`] decides when many small segments become one, [`merge`] is how;
//! - [`log`] is the place of all of them in the bucket, [`store_identity`] tells one bucket from another.

pub mod ahead;
mod arrive;
mod asked;
mod base;
mod childless;
mod compose;
mod conflict;
mod desk;
mod entry;
mod error;
mod exchange;
mod extras;
pub mod fleet;
pub mod fold;
mod gather;
pub mod glance;
pub mod header;
mod held;
mod holes;
mod image;
mod inserts;
mod intake;
mod lines;
mod live;
pub mod log;
mod marks;
pub mod merge;
mod news;
pub mod node;
mod outbox;
pub mod places;
mod publish;
mod reception;
pub mod record;
mod recover;
pub mod report;
mod restored;
mod run;
mod scan;
mod search;
pub mod segment;
mod shadow;
mod site;
pub mod stamp;
pub mod store_identity;
mod twins;
mod vectors;
mod verdict;
pub mod wanted;
mod went_back;
mod write;

use std::path::Path;

use crate::worker::watermarks::Foreign;

use ahead::Ahead;
use header::Covers;
use log::ListedNode;
use node::NodeRecord;
use shadow::ShadowError;

pub use desk::{Guest, Restoring};
pub use error::RowsError;
pub use record::Record;
pub use report::{
    Begun, Collected, Conflict, Folded, NewsNoted, Published, Scanned, Standing, TakenIn, Tally, WentBack,
    called,
};
pub use run::Rows;
pub use site::{Depth, Site};
pub use stamp::{Stamp, Writer};

impl Rows<'_> {
    /// This installation.
    pub fn writer(&self) -> Writer {
        self.me
    }

    /// Finishes what was begun: arriving rows are judged, the outbox is sent. Finds out whether the database went back,
    /// and whether this is a first sync; then `depth` becomes [`Depth::Whole`].
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn begin(&mut self, depth: Depth) -> Result<Begun, RowsError> {
        let began = self.try_begin(depth).await;
        began.map_err(|error| error.of(&self.site.database))
    }

    /// Whether [`Rows::settle`] has to write into the database.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub fn has_to_settle(&self) -> Result<bool, RowsError> {
        self.is_to_settle().map_err(|error| error.of(&self.site.database))
    }

    /// Does what an upgrade of claude-mem asks for, before anything is collected: columns that are there now get what was
    /// kept for them, and of twins that were merged the same one survives everywhere. The next run does what this one has not.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn settle(&mut self) -> Result<(), RowsError> {
        let settled = self.try_settle().await;
        settled.map_err(|error| error.of(&self.site.database))
    }

    /// Takes in what is new in the log, in short transactions beside the worker, and tries again what waits. `nodes`: the
    /// node records, where they were listed in this run already.
    ///
    /// # Errors
    /// See [`RowsError`]; what was taken in stays.
    pub async fn collect(&mut self, nodes: Option<Vec<ListedNode>>) -> Result<Collected, RowsError> {
        self.note_news(nodes).await?;
        self.take_in_news().await
    }

    /// The first half of [`Rows::collect`]: reads what is new, and writes nothing into the database. Left at that, it is read
    /// again by the next run.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn note_news(&mut self, nodes: Option<Vec<ListedNode>>) -> Result<NewsNoted, RowsError> {
        let noted = self.try_note_news(nodes).await;
        noted.map_err(|error| error.of(&self.site.database))
    }

    /// The same for segments that were asked for ahead: what they hold can be taken in before anything else is asked. `None`:
    /// they are of no use to this run.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub fn note_ahead(&mut self, ahead: Ahead) -> Result<Option<NewsNoted>, RowsError> {
        let noted = self.try_note_ahead(ahead);
        noted.map_err(|error| error.of(&self.site.database))
    }

    /// The second half: takes it in.
    ///
    /// # Errors
    /// See [`RowsError`]; what was taken in stays.
    pub async fn take_in_news(&mut self) -> Result<Collected, RowsError> {
        let taken = self.try_take_in_news().await;
        taken.map_err(|error| error.of(&self.site.database))
    }

    /// Whether the database keeps a log of writes (WAL).
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn keeps_a_log(&mut self) -> Result<bool, RowsError> {
        self.open_live()?;
        Ok(self.live.as_ref().is_none_or(live::Live::keeps_a_log))
    }

    /// In whose company rows arrive from now on; at first [`Guest::Beside`].
    pub fn come_as(&mut self, guest: Guest) {
        self.guest = guest;
    }

    /// Finds what changed here since the last scan, and writes nothing into the database. Where the log knows better
    /// ([`Scanned::asks`]), it is to be asked, and the scan made again; what is not asked is left out, and found again.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub fn scan(&mut self) -> Result<Scanned, RowsError> {
        self.try_scan().map_err(|error| error.of(&self.site.database))
    }

    /// Takes in what the log says of the rows that the scan wants to ask for, and removes the sessions that it found empty.
    ///
    /// # Errors
    /// See [`RowsError`]; what was taken in stays.
    pub async fn ask(&mut self) -> Result<(), RowsError> {
        let asked = self.try_ask().await;
        asked.map_err(|error| error.of(&self.site.database))
    }

    /// Publishes what [`Rows::scan`] found.
    ///
    /// # Errors
    /// See [`RowsError`]; what was published stays, the rest is found again.
    pub async fn publish(&mut self, scanned: Scanned) -> Result<Published, RowsError> {
        let published = self.try_publish(&scanned).await;
        published.map_err(|error| error.of(&self.site.database))
    }

    /// Takes in the image that a Python node pushed; `modified_ms`: its Last-Modified. After the own publish.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn take_image(&mut self, image: &Path, modified_ms: i64) -> Result<TakenIn, RowsError> {
        let taken = self.try_take_image(image, modified_ms).await;
        taken.map_err(|error| error.of(&self.site.database))
    }

    /// Folds segments where it is time. Only at the end of a whole sync.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn fold(&mut self) -> Result<Option<Folded>, RowsError> {
        if !self.may_fold()? {
            return Ok(None);
        }
        let published: u64 = self.shadow.get("published")?.unwrap_or(0);
        let (looked, looked_ms): (u64, i64) = self.shadow.get("fold_looked")?.unwrap_or_default();
        let now_ms = self.now_ms();
        let looked_lately = published < looked + fold::together() as u64
            && (0..fold::STAY * 1000).contains(&(now_ms - looked_ms));
        // What was published before the project was sealed waits for nothing.
        if looked_lately && !self.log().is_anew() {
            return Ok(None);
        }
        self.open_live()?;
        let (desk, about) = (self.desk()?, self.about()?);
        let folded = base::fold(desk, &self.log(), &about, &self.places.outbox).await;
        let folded = folded.map_err(|error| error.of(&self.site.database))?;
        self.shadow.set("fold_looked", &(published, now_ms))?;
        Ok(folded)
    }

    /// Makes a base of everything that is ours, whatever the sizes; not where nothing came since the last one.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn make_base(&mut self) -> Result<Option<Folded>, RowsError> {
        if !self.may_fold()? {
            return Ok(None);
        }
        let last: u64 = self.shadow.get("published")?.unwrap_or(0);
        let folds: Vec<node::Fold> = self.shadow.get("folds")?.unwrap_or_default();
        if last == 0 || folds.iter().any(|fold| fold.kind == header::Kind::Base && fold.number == last) {
            return Ok(None);
        }
        let covers = Covers { first: 1, last };
        self.open_live()?;
        let (desk, about) = (self.desk()?, self.about()?);
        let folded = base::base(desk, &self.log(), &about, &self.places.outbox, covers).await;
        folded.map_err(|error| error.of(&self.site.database))
    }

    /// Never from a shadow that is being rebuilt.
    fn may_fold(&self) -> Result<bool, RowsError> {
        let synced = self.shadow.flag("synced")? && !self.shadow.flag("went_back")?;
        Ok(synced && self.shadow.get::<outbox::Outbox>("outbox")?.is_none())
    }

    /// Puts this machine's node record: what `record` says, completed with what the log knows of this installation. From
    /// then on others learn of its segments by it: after each segment, else at most every fifteen minutes.
    ///
    /// # Errors
    /// The store's, the shadow's.
    pub async fn put_node(&mut self, mut record: NodeRecord) -> Result<(), RowsError> {
        let standing = self.standing()?;
        record.writer = self.me.to_string();
        record.last = standing.segment;
        record.seen = standing.seen.iter().map(|(writer, number)| (writer.to_string(), *number)).collect();
        record.waiting = standing.waiting.values().sum();
        record.held = standing.held.total();
        record.folds = standing.folds;
        let etag = Box::pin(self.log().put_node(&record)).await?;
        self.shadow.set("node_etag", &etag.0)?;
        self.shadow.set("node_record", &record)?;
        Ok(())
    }

    /// Rows that arrived here and that claude-mem's search may not find yet: it is told before its next start.
    ///
    /// # Errors
    /// The shadow's; the database cannot be read.
    pub fn unembedded(&self) -> Result<Vec<Foreign>, RowsError> {
        vectors::list(&self.shadow, &self.site.database)
    }

    /// claude-mem was told of all of them.
    ///
    /// # Errors
    /// The shadow's.
    pub fn told_of_unembedded(&mut self) -> Result<(), RowsError> {
        Ok(vectors::forget(&self.shadow)?)
    }

    /// The node record that was put last.
    ///
    /// # Errors
    /// The shadow's.
    pub fn last_node(&self) -> Result<Option<NodeRecord>, RowsError> {
        Ok(self.shadow.get("node_record")?)
    }

    /// What is known without asking the store or the database.
    ///
    /// # Errors
    /// The shadow's.
    pub fn standing(&self) -> Result<Standing, RowsError> {
        let standing = glance::standing(&self.shadow.db, &self.places).map_err(ShadowError)?;
        Ok(standing.unwrap_or_else(|| Standing { writer: Some(self.me), ..Standing::default() }))
    }

    /// The next scan publishes what vanished in mass as deleted. The last wish counts.
    ///
    /// # Errors
    /// The shadow's.
    pub fn accept_deletions(&mut self) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            held::release(&self.shadow)?;
            self.shadow.set("put_back", &false)?;
            self.shadow.set("accept", &true)
        })?;
        Ok(())
    }

    /// The next scan puts back what vanished in mass. The last wish counts.
    ///
    /// # Errors
    /// The shadow's.
    pub fn put_back(&mut self) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            self.shadow.set("accept", &false)?;
            self.shadow.set("put_back", &true)
        })?;
        Ok(())
    }

    /// A person has put an earlier state in place, and means it: the next run is a first sync in which the database is right
    /// and the log is told. Until it has ended, nothing of the log comes back by itself.
    ///
    /// # Errors
    /// The shadow's.
    pub fn restored(&mut self, restoring: Restoring) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            // What an addition has not brought back yet was removed by nobody's will.
            if self.shadow.get("restored")? == Some(Restoring::Adding) {
                restored::forget(&self.shadow)?;
                self.shadow.db.execute("DELETE FROM rows", [])?;
            }
            restored::note(&self.shadow)?;
            let sql = "DELETE FROM rows; DELETE FROM keys; DELETE FROM highs; DELETE FROM waiting; UPDATE writers SET number = 0;";
            self.shadow.db.execute_batch(sql)?;
            self.shadow.set("synced", &false)?;
            self.shadow.set("restored", &restoring)?;
            self.shadow.set("accept", &(restoring == Restoring::Exactly))?;
            // What was under way speaks of the ids of the database that was replaced.
            self.shadow.set("went_back", &true)?;
            for name in ["schema", "columns", "turn_print", "whole_print", holes::NAME] {
                self.shadow.unset(name)?;
            }
            Ok::<_, ShadowError>(())
        })?;
        Ok(())
    }
}
