//! The row log: every installation writes what was recorded on it into its own folder of the bucket, in segments that
//! never change, and takes in what the others wrote. No lock, no winner to choose (docs/rows.md).
//!
//! One run is `begin`, `collect`, `scan`, `publish`, in this order; see [`Rows`]. What the rules are is decided in pure
//! functions beside the step that needs them. Knows neither roles nor the archive.
//!
//! - [`segment`] is the format of rows on the wire, [`header`] what a segment says about itself;
//! - [`node`] is what a machine says about itself; [`wanted`] which segments are still to be read;
//! - [`fleet`] tells from them who is behind;
//! - [`fold`] decides when many small segments become one, [`merge`] is how;
//! - [`log`] is the place of all of them in the bucket, [`store_identity`] tells one bucket from another.

mod arrive;
mod base;
mod compose;
mod conflict;
mod desk;
mod error;
mod extras;
pub mod fleet;
pub mod fold;
mod gather;
pub mod glance;
pub mod header;
mod held;
mod image;
mod intake;
mod live;
pub mod log;
pub mod merge;
mod news;
pub mod node;
pub mod places;
mod publish;
pub mod record;
mod recover;
pub mod report;
mod scan;
mod search;
pub mod segment;
mod shadow;
pub mod stamp;
pub mod store_identity;
mod twins;
pub mod wanted;
mod went_back;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::TransactionBehavior;

use crate::database::files::Fingerprint;
use crate::failpoint;
use crate::identity::Node;
use crate::storage::Bucket;
use crate::storage::records::iso;

use desk::Desk;
use gather::{After, Reached};
use header::Covers;
use live::{Excluded, Live, Schema};
use log::RowLog;
use node::NodeRecord;
use places::Places;
use publish::{About, Emptied};
use shadow::{Shadow, ShadowError};

pub use desk::Restoring;
pub use error::RowsError;
pub use record::Record;
pub use report::{
    Begun, Collected, Conflict, Folded, Published, Scanned, Standing, TakenIn, Tally, WentBack,
};
pub use stamp::{Stamp, Writer};

/// Everything is read at least this often (milliseconds).
const WHOLE_EVERY: i64 = 60 * 60 * 1000;
/// How often what waits is tried again in one run, as long as something came of it.
const ROUNDS: u32 = 3;

/// Where rows come from and go to.
#[derive(Debug)]
pub struct Site<'a> {
    /// The store.
    pub bucket: &'a Bucket,
    /// claude-mem's database, links followed.
    pub database: PathBuf,
    /// Our state directory (`~/.membridge`).
    pub state: PathBuf,
    /// This machine.
    pub node: &'a Node,
    /// Whether the raw log of tool calls travels (MEMBRIDGE_SYNC_TOOL_USES).
    pub tool_uses: bool,
    /// Projects that claude-mem keeps to itself, as globs: what is recorded in them does not leave.
    pub excluded: Vec<String>,
    /// The local claude-mem's version, where known: said in the header of segments.
    pub claude_mem: Option<String>,
}

/// How much of the database is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// After a turn: rows above the highest known id, and sessions.
    Turn,
    /// Everything, in one pass beside the shadow: at the end of a session, by hand, and at least once an hour.
    Whole,
}

/// What a run has found out about itself.
#[derive(Debug)]
struct Run {
    depth: Depth,
    first: bool,
    migrated: bool,
    /// Nothing was written since the last scan of this depth.
    untouched: bool,
    accept: bool,
    restoring: Option<Restoring>,
    highs: BTreeMap<String, i64>,
    print: Option<Fingerprint>,
}

/// The row log of one database. One run of `sync`: [`Rows::begin`], [`Rows::collect`], [`Rows::scan`],
/// [`Rows::publish`], in this order.
#[derive(Debug)]
pub struct Rows<'a> {
    site: Site<'a>,
    places: Places,
    shadow: Shadow,
    me: Writer,
    excluded: Excluded,
    live: Option<Live>,
    run: Run,
}

impl<'a> Rows<'a> {
    /// Opens the shadow, or makes it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(site: Site<'a>) -> Result<Self, RowsError> {
        let places =
            Places::new(&site.state, &site.bucket.store.name(), site.bucket.keys.project(), &site.database);
        let shadow = Shadow::open(&places.shadow)?;
        let me = writer(&site, &places, &shadow)?;
        let run = Run {
            depth: Depth::Whole,
            first: true,
            migrated: false,
            untouched: false,
            accept: false,
            restoring: None,
            highs: BTreeMap::new(),
            print: None,
        };
        Ok(Self { excluded: Excluded::new(&site.excluded), site, places, shadow, me, live: None, run })
    }

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

    /// Takes in what is new in the log, in short transactions beside the worker, and tries again what waits.
    ///
    /// # Errors
    /// See [`RowsError`]; what was taken in stays.
    pub async fn collect(&mut self) -> Result<Collected, RowsError> {
        let collected = self.try_collect().await;
        collected.map_err(|error| error.of(&self.site.database))
    }

    /// Finds what changed here since the last scan. Rows that turn out to be old ones are asked of the log.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn scan(&mut self) -> Result<Scanned, RowsError> {
        let scanned = self.try_scan().await;
        scanned.map_err(|error| error.of(&self.site.database))
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
        if published < looked + fold::TOGETHER as u64
            && (0..fold::STAY * 1000).contains(&(now_ms - looked_ms))
        {
            return Ok(None);
        }
        self.open_live()?;
        let (desk, about) = (self.desk()?, self.about()?);
        let folded = base::fold(desk, &self.log(), &about, &self.places.outbox).await;
        let folded = folded.map_err(|error| error.of(&self.site.database))?;
        self.shadow.set("fold_looked", &(published, now_ms))?;
        Ok(folded)
    }

    /// Makes a base of everything that is ours, whatever the sizes.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub async fn make_base(&mut self) -> Result<Option<Folded>, RowsError> {
        if !self.may_fold()? {
            return Ok(None);
        }
        let last: u64 = self.shadow.get("published")?.unwrap_or(0);
        let covers = Covers { first: 1, last };
        self.open_live()?;
        let (desk, about) = (self.desk()?, self.about()?);
        let folded = base::base(desk, &self.log(), &about, &self.places.outbox, covers).await;
        folded.map_err(|error| error.of(&self.site.database))
    }

    /// Never from a shadow that is being rebuilt.
    fn may_fold(&self) -> Result<bool, RowsError> {
        let synced = self.shadow.flag("synced")? && !self.shadow.flag("went_back")?;
        Ok(synced && self.shadow.get::<publish::Outbox>("outbox")?.is_none())
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
            let sql = "DELETE FROM rows; DELETE FROM keys; DELETE FROM highs; DELETE FROM waiting; UPDATE writers SET number = 0;";
            self.shadow.db.execute_batch(sql)?;
            self.shadow.set("synced", &false)?;
            self.shadow.set("restored", &restoring)?;
            self.shadow.set("accept", &(restoring == Restoring::Exactly))?;
            // What was under way speaks of the ids of the database that was replaced.
            self.shadow.set("went_back", &true)?;
            for name in ["schema", "columns", "turn_print", "whole_print"] {
                self.shadow.unset(name)?;
            }
            Ok::<_, ShadowError>(())
        })?;
        Ok(())
    }

    fn desk(&self) -> Result<Desk<'_>, RowsError> {
        let live =
            self.live.as_ref().ok_or_else(|| RowsError::Segment("the database is not open".to_owned()))?;
        Ok(Desk {
            live,
            shadow: &self.shadow,
            me: self.me,
            now_ms: self.now_ms(),
            first: self.run.first,
            migrated: self.run.migrated,
            restoring: self.run.restoring,
            excluded: &self.excluded,
            conflicts: &self.places.conflicts,
        })
    }

    fn now_ms(&self) -> i64 {
        self.site.bucket.context.server_now().as_millisecond()
    }

    fn log(&self) -> RowLog<'a> {
        RowLog::new(self.site.bucket, &self.places.scratch)
    }

    fn about(&self) -> Result<About, RowsError> {
        Ok(About {
            project: self.site.bucket.keys.project().to_owned(),
            node_id: self.site.node.id.clone(),
            host: self.site.node.host.clone(),
            claude_mem: self.site.claude_mem.clone(),
            time: iso(self.site.bucket.context.server_now()),
            token: self.site.bucket.context.token()?,
            scratch: self.places.scratch.clone(),
        })
    }

    async fn try_begin(&mut self, depth: Depth) -> Result<Begun, RowsError> {
        desk::clear(&self.shadow)?;
        let wishes = self.shadow.flag("accept")? || self.shadow.flag("put_back")?;
        let whole_ms: Option<i64> = self.shadow.get("whole_ms")?;
        let since = whole_ms.map(|at| self.now_ms().saturating_sub(at));
        let due = since.is_none_or(|since| !(0..WHOLE_EVERY).contains(&since));
        let depth = if due || wishes { Depth::Whole } else { depth };
        let print = Fingerprint::take(&self.site.database);
        let known = |name: &str| -> Result<bool, RowsError> {
            Ok(print.is_some() && self.shadow.get::<Fingerprint>(name)? == print)
        };
        let same = known("whole_print")? || (depth == Depth::Turn && known("turn_print")?);
        let first = !self.shadow.flag("synced")?;
        let restoring = self.shadow.get("restored")?;
        let begun = !self.shadow.arriving()?.is_empty() || self.shadow.flag("went_back")?;
        let untouched = same && !first && !begun && !wishes && !self.shadow.flag("migrated")?;
        self.run = Run {
            depth,
            first,
            migrated: false,
            untouched,
            accept: false,
            restoring,
            highs: BTreeMap::new(),
            print,
        };
        let mut report = Begun { depth, first, ..Begun::default() };
        if !untouched {
            self.open_live()?;
            report.went_back = self.look_back()?;
            recover_arriving(self.desk()?)?;
        }
        if self.shadow.get::<publish::Outbox>("outbox")?.is_some() {
            self.open_live()?;
            report.finished = self.send_outbox().await?;
        }
        self.shadow.set("went_back", &false)?;
        report.first = self.run.first;
        report.migrated = self.run.migrated;
        if self.run.first || self.run.migrated {
            self.run.depth = Depth::Whole;
        }
        report.depth = self.run.depth;
        if !self.run.untouched && !self.run.first {
            self.unpack_extras()?;
        }
        Ok(report)
    }

    fn open_live(&mut self) -> Result<(), RowsError> {
        if self.live.is_none() {
            self.live = Some(Live::open(&self.site.database, self.site.tool_uses)?);
        }
        Ok(())
    }

    /// Finds out what happened to the database since the last run: was it migrated, did it go back?
    fn look_back(&mut self) -> Result<Option<WentBack>, RowsError> {
        let desk = self.desk()?;
        let (live, shadow) = (desk.live, desk.shadow);
        let accept = shadow.flag("accept")?;
        let stored: Option<Schema> = shadow.get("schema")?;
        let lists: Option<extras::ColumnLists> = shadow.get("columns")?;
        let lower = stored.is_some_and(|stored| stored.version > live.schema.version)
            || lists.is_some_and(|lists| extras::any_gone(&lists, &live.shapes));
        let raised = stored
            .is_some_and(|old| live.schema.version > old.version || live.schema.cookie > old.cookie)
            && !lower;
        let migrated = (raised || shadow.flag("migrated")?) && !lower;
        let mut back = None;
        if !self.run.first && !accept {
            let there = live.sequences()?;
            let mut sequences = BTreeMap::new();
            for shape in &live.shapes.all {
                let seen = shadow.high(&shape.name)?;
                sequences.insert(shape.name.clone(), (seen, there.get(&shape.name).copied().unwrap_or(0)));
            }
            let signs = went_back::Signs { schema_lower: lower, migrated, sequences };
            back = went_back::judge(&signs);
            if back.is_none() {
                let top_only = self.run.depth == Depth::Turn && !migrated;
                back = went_back::look(live, shadow, &self.excluded, top_only)?;
            }
        }
        if let Some(why) = &back {
            tracing::warn!(?why, "rows: the database is an older one: the log knows better");
            went_back::forget(live, shadow)?;
        }
        shadow.transaction(|| {
            shadow.set("schema", &live.schema)?;
            shadow.set("migrated", &migrated)
        })?;
        self.run.first |= back.is_some();
        self.run.migrated = migrated;
        self.run.accept = accept;
        Ok(back)
    }

    /// Whether something was sent.
    async fn send_outbox(&mut self) -> Result<bool, RowsError> {
        let went_back = self.shadow.flag("went_back")?;
        let sent =
            Box::pin(publish::empty(self.desk()?, &self.log(), &self.places.outbox, !went_back)).await?;
        if sent == Emptied::Taken {
            self.take_new_writer()?;
        }
        Ok(matches!(sent, Emptied::Sent(..)))
    }

    /// Our state was copied: whoever notices takes a new id. What was under way bears the old one, and goes.
    fn take_new_writer(&mut self) -> Result<(), RowsError> {
        let new = new_writer(&self.site)?;
        let old = self.me;
        tracing::warn!(%old, %new, "rows: somebody else writes under our id: a new one is taken");
        self.shadow.transaction(|| {
            let published: u64 = self.shadow.get("published")?.unwrap_or(0);
            self.shadow.set_collected(old, published)?;
            // The state of sessions that were born under the old id is somebody else's now.
            self.shadow.db.execute(
                "UPDATE rows SET seen = bare WHERE tab = 'sdk_sessions' AND home = ?1 AND seen <> x''",
                [old],
            )?;
            self.shadow.set("published", &0)?;
            self.shadow.unset("published_sha256")?;
            self.shadow.unset("folds")?;
            self.shadow.unset("node_etag")?;
            self.shadow.unset("node_record")?;
            self.shadow.unset("fold_looked")?;
            self.shadow.set("writer", &new)?;
            publish::drop_outbox(&self.shadow)
        })?;
        failpoint::reach("rows.new-writer");
        let fail = |error| RowsError::Io { doing: "write", path: self.places.writer.clone(), error };
        shadow::write_writer(&self.places.writer, new).map_err(fail)?;
        self.me = new;
        Ok(())
    }

    fn unpack_extras(&self) -> Result<(), RowsError> {
        let desk = self.desk()?;
        let lists = extras::lists(&desk.live.shapes);
        let old: Option<extras::ColumnLists> = self.shadow.get("columns")?;
        match old {
            Some(old) if old == lists => return Ok(()),
            Some(old) => extras::unpack(desk, &old)?,
            None => {}
        }
        self.shadow.set("columns", &lists)?;
        Ok(())
    }

    async fn try_collect(&mut self) -> Result<Collected, RowsError> {
        let mut report = Collected::default();
        let log = self.log();
        let (me, first, now_ms) = (self.me, self.run.first, self.now_ms());
        let mut news = Box::pin(news::ask(&log, &self.shadow, me, first, now_ms)).await?;
        report.store_proved = news.proved;
        let published: u64 = self.shadow.get("published")?.unwrap_or(0);
        if news.own > published && self.run.first {
            // The shadow was lost; the folder is ours.
            self.shadow.set("published", &news.own)?;
        } else if news.own > published {
            self.open_live()?;
            self.take_new_writer()?;
            report.new_writer = true;
            news = Box::pin(news::all(&log, self.me)).await?;
        }
        let mut any = self.run.first;
        for (writer, numbers) in news.listed.iter().filter(|(writer, _)| **writer != self.me) {
            any |= numbers.last().copied().unwrap_or(0) > self.shadow.collected(*writer)?;
        }
        if any || !self.run.untouched {
            self.open_live()?;
            let desk = self.desk()?;
            desk::clear_arrival(&self.shadow)?;
            let after = if self.run.first { After::Everything } else { After::News };
            let mut reached = Box::pin(gather::gather(desk, &log, &news.listed, after, &mut report)).await?;
            if news.lacks(&reached) {
                // Folded meanwhile, or a record that ran ahead of its segment: what is there says it.
                news = Box::pin(news::all(&log, self.me)).await?;
                reached = Box::pin(gather::gather(desk, &log, &news.listed, after, &mut report)).await?;
            }
            self.arrive(desk, &mut report).await?;
            self.keep_reached(&reached)?;
            if self.run.first {
                self.unpack_extras()?;
            }
        }
        news.done(&self.shadow, self.now_ms())?;
        report.waiting = self.count_waiting()?;
        Ok(report)
    }

    /// Takes in what was noted and what waits; again, as long as something came of it.
    async fn arrive(&self, desk: Desk<'_>, report: &mut Collected) -> Result<(), RowsError> {
        for _ in 0..ROUNDS {
            let before = report.new.total() + report.changed.total() + report.deleted.total();
            self.shadow.transaction(|| intake::note_waiting(desk))?;
            arrive::arrive(desk, report).await?;
            desk::clear_arrival(&self.shadow)?;
            let done = report.new.total() + report.changed.total() + report.deleted.total();
            if done == before || self.count_waiting()? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn count_waiting(&self) -> Result<u64, RowsError> {
        let sql = "SELECT count(*) FROM waiting";
        Ok(self.shadow.db.query_row(sql, [], |row| row.get(0)).map_err(ShadowError)?)
    }

    fn keep_reached(&self, reached: &Reached) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            for (writer, number) in reached.iter().filter(|(writer, _)| **writer != self.me) {
                self.shadow.set_collected(*writer, *number)?;
            }
            Ok::<_, ShadowError>(())
        })?;
        Ok(())
    }

    async fn try_scan(&mut self) -> Result<Scanned, RowsError> {
        if self.run.untouched && self.live.is_none() {
            return Ok(Scanned { untouched: true, ..Scanned::default() });
        }
        self.run.print = Fingerprint::take(&self.site.database);
        let mut found = self.look_for_changes()?;
        if self.shadow.flag("put_back")? {
            let sql = "INSERT OR IGNORE INTO temp.asked SELECT tab, uid FROM rows WHERE held AND NOT dead";
            found.asked += self.shadow.db.execute(sql, []).map_err(ShadowError)? as u64;
        }
        if found.asked > 0 {
            self.ask_the_log().await?;
            found = self.look_for_changes()?;
        }
        failpoint::reach("rows.scanned");
        Ok(found.report)
    }

    fn look_for_changes(&mut self) -> Result<scan::Found, RowsError> {
        let desk = self.desk()?;
        scan::drop_childless(desk)?;
        // One moment of all tables.
        let moment = rusqlite::Transaction::new_unchecked(&desk.live.db, TransactionBehavior::Deferred)?;
        let highs = desk.live.sequences()?;
        let found = scan::scan(desk, self.run.depth, self.run.accept)?;
        moment.commit()?;
        self.run.highs = highs;
        Ok(found)
    }

    /// Rows of which the log knows better: they are forgotten here, and what the log says of them is taken in.
    async fn ask_the_log(&mut self) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            self.shadow
                .db
                .execute("DELETE FROM rows WHERE EXISTS (SELECT 1 FROM temp.asked AS a WHERE a.uid = rows.uid AND a.tab = rows.tab)", [])
                .map_err(ShadowError)
        })?;
        failpoint::reach("rows.asked");
        let log = self.log();
        let listed = gather::list(&log).await?;
        let mut report = Collected::default();
        let desk = Desk { first: true, ..self.desk()? };
        Box::pin(gather::gather(desk, &log, &listed, After::Asked, &mut report)).await?;
        self.arrive(desk, &mut report).await?;
        self.shadow.set("put_back", &false)?;
        Ok(())
    }

    async fn try_publish(&mut self, scanned: &Scanned) -> Result<Published, RowsError> {
        if scanned.untouched {
            return Ok(Published::default());
        }
        failpoint::reach("rows.publish");
        let (desk, about) = (self.desk()?, self.about()?);
        let published = Box::pin(publish::publish(desk, &self.log(), &about, &self.places.outbox)).await?;
        if published.new_writer {
            self.take_new_writer()?;
            return Ok(published);
        }
        self.finish_run()?;
        Ok(published)
    }

    async fn try_take_image(&mut self, image: &Path, modified_ms: i64) -> Result<TakenIn, RowsError> {
        self.open_live()?;
        let (desk, about, log) = (self.desk()?, self.about()?, self.log());
        let (outbox, tool_uses) = (&self.places.outbox, self.site.tool_uses);
        let sent = image::publish(desk, &log, &about, outbox, image, modified_ms, tool_uses).await?;
        let mut report = Collected::default();
        match sent {
            Emptied::Nothing => {}
            Emptied::Sent(..) => self.arrive(desk, &mut report).await?,
            Emptied::Taken => self.take_new_writer()?,
        }
        Ok(TakenIn { new: report.new, changed: report.changed })
    }

    /// Everything that was found is in the bucket: the next scan goes on from here.
    fn finish_run(&mut self) -> Result<(), RowsError> {
        let lists = extras::lists(&self.desk()?.live.shapes);
        let now_ms = self.now_ms();
        self.shadow.transaction(|| {
            for (table, high) in &self.run.highs {
                self.shadow.set_high(table, *high)?;
            }
            self.shadow.set("columns", &lists)?;
            self.shadow.set("synced", &true)?;
            self.shadow.set("migrated", &false)?;
            self.shadow.set("accept", &false)?;
            self.shadow.unset("restored")?;
            self.shadow.set("turn_print", &self.run.print)?;
            if self.run.depth == Depth::Whole {
                self.shadow.set("whole_ms", &now_ms)?;
                self.shadow.set("whole_print", &self.run.print)?;
            }
            Ok::<_, ShadowError>(())
        })?;
        failpoint::reach("rows.finished");
        Ok(())
    }
}

fn recover_arriving(desk: Desk<'_>) -> Result<(), RowsError> {
    if desk.shadow.flag("went_back")? {
        desk.shadow.db.execute("DELETE FROM arriving", []).map_err(ShadowError)?;
        return Ok(());
    }
    recover::recover(desk)
}

/// The id of this installation: the shadow's, or that of its file, or a new one.
fn writer(site: &Site<'_>, places: &Places, shadow: &Shadow) -> Result<Writer, RowsError> {
    let fail = |error| RowsError::Io { doing: "write", path: places.writer.clone(), error };
    let kept: Option<Writer> = shadow.get("writer")?;
    let file = shadow::read_writer(&places.writer);
    let me = match kept.or(file) {
        Some(me) => me,
        None => new_writer(site)?,
    };
    if kept != Some(me) {
        shadow.set("writer", &me)?;
    }
    if file != Some(me) {
        shadow::write_writer(&places.writer, me).map_err(fail)?;
    }
    Ok(me)
}

fn new_writer(site: &Site<'_>) -> Result<Writer, RowsError> {
    let token = site.bucket.context.token()?;
    token.parse().map_err(|error: stamp::NotAWriter| RowsError::Segment(error.to_string()))
}
