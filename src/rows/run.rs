//! The row log of one database, and how a run begins: what an earlier one had begun is finished, and it is found out what happened to the database since.

use std::collections::BTreeMap;

use super::desk::{self, Desk, Guest, Restoring};
use super::error::RowsError;
use super::live::{Excluded, Live, Schema};
use super::log::{Attempt, RowLog};
use super::news::Noted;
use super::outbox::{self, About, Emptied};
use super::places::Places;
use super::report::{Begun, WentBack};
use super::shadow::{self, Shadow, ShadowError};
use super::site::{Depth, Site};
use super::stamp::{self, Writer};
use super::{extras, recover, restored, twins, went_back};
use crate::database::files::Fingerprint;
use crate::failpoint;
use crate::storage::records::iso;

/// Everything is read at least this often (milliseconds).
const WHOLE_EVERY: i64 = 60 * 60 * 1000;

/// What a run has found out about itself.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) depth: Depth,
    pub(super) first: bool,
    pub(super) migrated: bool,
    /// Nothing was written since the last scan of this depth.
    pub(super) untouched: bool,
    pub(super) accept: bool,
    pub(super) restoring: Option<Restoring>,
    pub(super) highs: BTreeMap<String, i64>,
    pub(super) print: Option<Fingerprint>,
}

/// The row log of one database. One run of `sync`: [`Rows::begin`], [`Rows::settle`], [`Rows::collect`], [`Rows::scan`],
/// [`Rows::publish`], in this order.
#[derive(Debug)]
pub struct Rows<'a> {
    pub(super) site: Site<'a>,
    pub(super) places: Places,
    pub(super) shadow: Shadow,
    pub(super) me: Writer,
    pub(super) excluded: Excluded,
    pub(super) live: Option<Live>,
    pub(super) run: Run,
    pub(super) guest: Guest,
    pub(super) noted: Option<Noted>,
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
        let excluded = Excluded::new(&site.excluded);
        let (guest, noted) = (Guest::Beside, None);
        Ok(Self { excluded, site, places, shadow, me, live: None, run, guest, noted })
    }

    pub(super) fn desk(&self) -> Result<Desk<'_>, RowsError> {
        let live =
            self.live.as_ref().ok_or_else(|| RowsError::Segment("the database is not open".to_owned()))?;
        Ok(Desk {
            live,
            shadow: &self.shadow,
            me: self.me,
            now_ms: self.now_ms(),
            first: self.run.first,
            unnoted: self.run.first,
            migrated: self.run.migrated,
            restoring: self.run.restoring,
            alone: self.guest == Guest::Alone,
            excluded: &self.excluded,
            conflicts: &self.places.conflicts,
            bars: &self.site.bars,
        })
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.site.bucket.context.server_now().as_millisecond()
    }

    pub(super) fn log(&self) -> RowLog<'a> {
        RowLog::new(self.site.bucket, &self.places.scratch).watched(&self.site.bars)
    }

    pub(super) fn about(&self) -> Result<About, RowsError> {
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

    pub(super) async fn try_begin(&mut self, depth: Depth) -> Result<Begun, RowsError> {
        desk::clear(&self.shadow)?;
        let wishes = self.shadow.flag("accept")? || self.shadow.flag("put_back")?;
        let whole_ms: Option<i64> = self.shadow.get("whole_ms")?;
        let since = whole_ms.map(|at| self.now_ms().saturating_sub(at));
        let due = since.is_none_or(|since| !(0..WHOLE_EVERY).contains(&since));
        // Rows of a project that no longer stays here lie among those that were scanned.
        let excluded: Vec<String> = self.shadow.get("excluded")?.unwrap_or_default();
        let wishes = wishes || excluded != self.site.excluded;
        let depth = if due || wishes { Depth::Whole } else { depth };
        let print = Fingerprint::take(&self.site.database);
        let known = |name: &str| -> Result<bool, RowsError> {
            Ok(print.is_some() && self.shadow.get::<Fingerprint>(name)? == print)
        };
        let same = known("whole_print")? || (depth == Depth::Turn && known("turn_print")?);
        let first = !self.shadow.flag("synced")?;
        let restoring = self.shadow.get("restored")?;
        if restoring.is_some() {
            restored::prepare(&self.shadow)?;
        }
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
        if self.shadow.get::<outbox::Outbox>("outbox")?.is_some() {
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
        Ok(report)
    }

    /// Whether an upgrade of claude-mem has left anything to write: columns that are there now, twins to unite.
    pub(super) fn is_to_settle(&self) -> Result<bool, RowsError> {
        if self.run.untouched || self.run.first {
            return Ok(false);
        }
        let desk = self.desk()?;
        let old: Option<extras::ColumnLists> = self.shadow.get("columns")?;
        let other = old.is_some_and(|old| old != extras::lists(&desk.live.shapes));
        Ok(other && extras::any_kept(desk.shadow)? || self.unites_twins() && twins::any(desk)?)
    }

    fn unites_twins(&self) -> bool {
        self.run.migrated && !failpoint::planted("twins")
    }

    pub(super) async fn try_settle(&self) -> Result<(), RowsError> {
        if self.run.untouched || self.run.first {
            return Ok(());
        }
        self.unpack_extras()?;
        if self.unites_twins() {
            Box::pin(twins::unite(self.desk()?, &self.log())).await?;
        }
        Ok(())
    }

    pub(super) fn open_live(&mut self) -> Result<(), RowsError> {
        if self.live.is_none() {
            self.live = Some(Live::open(&self.site.database, self.site.tool_uses)?);
        }
        Ok(())
    }

    /// Finds out what happened to the database since the last run: was it migrated, did it go back?
    pub(super) fn look_back(&mut self) -> Result<Option<WentBack>, RowsError> {
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
                let earlier: Vec<String> = shadow.get("excluded")?.unwrap_or_default();
                back = went_back::look(live, shadow, &self.excluded.with(&earlier), top_only)?;
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
    pub(super) async fn send_outbox(&mut self) -> Result<bool, RowsError> {
        if failpoint::planted("outbox") {
            outbox::drop_outbox(&self.shadow)?;
            return Ok(false);
        }
        let went_back = self.shadow.flag("went_back")?;
        let (log, file) = (self.log(), &self.places.outbox);
        let sent = Box::pin(outbox::empty(self.desk()?, &log, file, !went_back, Attempt::Again)).await?;
        if sent == Emptied::Taken {
            self.take_new_writer()?;
        }
        Ok(matches!(sent, Emptied::Sent(..)))
    }

    /// Our state was copied: whoever notices takes a new id. What was under way bears the old one, and goes.
    pub(super) fn take_new_writer(&mut self) -> Result<(), RowsError> {
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
            outbox::drop_outbox(&self.shadow)
        })?;
        failpoint::reach("rows.new-writer");
        let fail = |error| RowsError::Io { doing: "write", path: self.places.writer.clone(), error };
        shadow::write_writer(&self.places.writer, new).map_err(fail)?;
        self.me = new;
        Ok(())
    }

    pub(super) fn unpack_extras(&self) -> Result<(), RowsError> {
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
}

fn recover_arriving(desk: Desk<'_>) -> Result<(), RowsError> {
    if desk.shadow.flag("went_back")? {
        desk.shadow.db.execute("DELETE FROM arriving", []).map_err(ShadowError)?;
        return Ok(());
    }
    recover::recover(desk)
}

/// The id of this installation: the shadow's, or that of its file, or a new one.
pub(super) fn writer(site: &Site<'_>, places: &Places, shadow: &Shadow) -> Result<Writer, RowsError> {
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
