//! What changed here since the last look: one pass over the rows beside the shadow, both in the order of local ids. Finds,
//! and gives stamps; the records themselves are made when they are published.

use rusqlite::{OptionalExtension, params};

use super::asked;
use super::compose;
use super::desk::Desk;
use super::live::Names;
use super::report::Scanned;
use super::search;
use super::shadow::{Known, Mark, ShadowError};
use super::stamp::{Clock, Stamp};
use super::{Depth, RowsError, held, went_back};
use crate::database::content::{self, Content, Printer, Uid, key};
use crate::database::rows::{Lying, for_each, one};
use crate::database::shape::Shape;
use crate::database::tables::quote;
use crate::failpoint;
use crate::progress::Progress;

/// Titles that a report names.
const TITLES: usize = 20;

/// One scan.
pub struct Scan<'r> {
    desk: Desk<'r>,
    depth: Depth,
    names: Names<'r>,
    printer: Printer,
    clock: Clock,
    /// Uids that rows of the table at hand were given, or given back, in this pass.
    relinked: Vec<(Uid, Option<i64>)>,
    /// What vanished in mass goes all the same.
    accept: bool,
    report: Scanned,
    progress: Progress,
}

/// Looks for changes, and notes what is to leave.
///
/// # Errors
/// See [`RowsError`].
pub fn scan(desk: Desk<'_>, depth: Depth, accept: bool) -> Result<Scanned, RowsError> {
    // As one: by itself each row that is noted would make SQLite write the scratch tables' pages once more.
    desk.shadow.transaction(|| look(desk, depth, accept))
}

fn look(desk: Desk<'_>, depth: Depth, accept: bool) -> Result<Scanned, RowsError> {
    let clock = desk.shadow.clock()?;
    desk.shadow
        .db
        .execute_batch("DELETE FROM temp.leaving; DELETE FROM temp.gone; DELETE FROM temp.asked;")
        .map_err(ShadowError)?;
    let mut scan = Scan {
        desk,
        depth,
        names: Names::new(desk.shadow),
        printer: Printer::default(),
        clock,
        relinked: Vec::new(),
        accept,
        progress: desk.bars.rows("reading", to_read(desk, depth)?),
        report: Scanned { images_only: desk.live.shapes.images_only.clone(), ..Scanned::default() },
    };
    for shape in &desk.live.shapes.all {
        scan.table(shape)?;
    }
    scan.progress.done();
    scan.names.check()?;
    desk.shadow.set_clock(scan.clock)?;
    let sql = "SELECT count(*) FROM temp.asked";
    scan.report.asks = desk.shadow.db.query_row(sql, [], |row| row.get(0)).map_err(ShadowError)?;
    Ok(scan.report)
}

/// How many rows a whole scan reads, where anybody watches.
fn to_read(desk: Desk<'_>, depth: Depth) -> Result<u64, RowsError> {
    let mut total = 0_u64;
    if desk.bars.are_drawn() && depth == Depth::Whole {
        for shape in &desk.live.shapes.all {
            let sql = format!("SELECT count(*) FROM {}", quote(&shape.name));
            total += desk.live.db.query_row(&sql, [], |row| row.get::<_, u64>(0))?;
        }
    }
    Ok(total)
}

impl Scan<'_> {
    fn table(&mut self, shape: &Shape) -> Result<(), RowsError> {
        let whole = self.depth == Depth::Whole;
        let above = match (whole || shape.is_sessions(), failpoint::planted("quick scan")) {
            (true, _) => i64::MIN,
            (false, false) => self.desk.shadow.high(&shape.name)?,
            (false, true) => known_high(self.desk, &shape.name)?,
        };
        // What came since the last scan says nothing about those that were here then.
        let high = self.desk.shadow.high(&shape.name)?;
        let (mut left, mut lost) = (0_u64, Vec::new());
        let mut walk = self.desk.shadow.walk(&shape.name, above)?;
        let mut known = walk.rows()?.peekable();
        for_each(&self.desk.live.db, shape, above, |row| {
            let id = row.id()?;
            self.progress.add(1);
            let mut mine = None;
            while let Some(next) =
                known.next_if(|next| next.as_ref().is_ok_and(|next| next.entry.lid <= Some(id)))
            {
                let next = next.map_err(ShadowError)?;
                if next.entry.lid == Some(id) {
                    mine = Some(next);
                } else {
                    lost.push(next);
                }
            }
            if let Some(Err(error)) = known.next_if(Result::is_err) {
                return Err(ShadowError(error).into());
            }
            match mine {
                Some(known) if self.is_same(&known, shape, &row)? => {
                    left += u64::from(id <= high);
                    self.compare(shape, &row, &known)
                }
                mine => {
                    lost.extend(mine);
                    self.unknown(shape, &row, id)
                }
            }?;
            // What is gone is written down in passing: memory stays flat.
            if whole && lost.len() > 100 {
                note_gone(self.desk, &mut lost)?;
            }
            Ok::<_, RowsError>(())
        })?;
        for rest in known {
            lost.push(rest.map_err(ShadowError)?);
            if whole && lost.len() > 100 {
                note_gone(self.desk, &mut lost)?;
            }
        }
        for (uid, lid) in self.relinked.drain(..) {
            self.desk.shadow.relink(&shape.name, uid, lid)?;
            remove_gone(self.desk, &shape.name, uid)?;
        }
        if whole {
            note_gone(self.desk, &mut lost)?;
            self.gone(shape, left)?;
        }
        Ok(())
    }

    /// A row is the same as long as its local id and its birth instant are.
    fn is_same(&self, known: &Known, shape: &Shape, row: &Lying<'_, '_>) -> rusqlite::Result<bool> {
        if failpoint::planted("birth identity") {
            let content = row.content(&|table, id| self.names.get(table, id))?;
            return Ok(known.entry.key == key(&shape.name, &content, &shape.key));
        }
        Ok(known.entry.birth == row.birth()?)
    }

    /// A row that the shadow knows.
    fn compare(&mut self, shape: &Shape, row: &Lying<'_, '_>, known: &Known) -> Result<(), RowsError> {
        let entry = &known.entry;
        let at_home = shape.is_sessions() && entry.home == Some(self.desk.me);
        let resolve = |table: &str, id: i64| self.names.get(table, id);
        let (bare, print) = row.prints(&resolve, at_home, &mut self.printer)?;
        if known.held {
            self.relinked.push((entry.uid, entry.lid));
        }
        if entry.seen.is(print) && entry.mark != Mark::Kept {
            return Ok(());
        }
        if entry.mark == Mark::Kept && !compose::has_children(self.desk.live, row.id()?)? {
            return Ok(());
        }
        if known.once_said(print) && entry.stamp.2 != self.desk.me && !failpoint::planted("went back") {
            return asked::note(self.desk, &shape.name, entry.uid);
        }
        // What was shared before its project was named stays shared as it was.
        if !self.desk.excluded.is_empty() {
            let id = row.id()?;
            if went_back::stays_here(self.desk.live, self.desk.excluded, shape, id)? {
                return Ok(());
            }
        }
        let only_state = shape.is_sessions() && entry.bare == Some(bare.0);
        let stamp = match entry.mark {
            Mark::None if !(self.desk.first || self.desk.migrated || only_state) => {
                self.stamp(Some(entry.stamp))
            }
            Mark::Kept => self.stamp(Some(entry.stamp)),
            // Nobody's change: it gets no new time.
            Mark::None | Mark::Filled => entry.stamp.one_higher(self.desk.me),
        };
        self.report.changed.add(&shape.name);
        self.leave(shape, entry.uid, entry.lid, stamp)
    }

    /// A row that the shadow does not know.
    fn unknown(&mut self, shape: &Shape, row: &Lying<'_, '_>, id: i64) -> Result<(), RowsError> {
        if went_back::stays_here(self.desk.live, self.desk.excluded, shape, id)? {
            return Ok(());
        }
        let content = row.content(&|table, id| self.names.get(table, id))?;
        let (uid, known) = self.choose(shape, &content, id)?;
        if shape.is_named {
            self.names.set(&shape.name, id, uid);
        }
        let known = known.map(|known| known.entry);
        let at_home =
            known.as_ref().is_some_and(|entry| shape.is_sessions() && entry.home == Some(self.desk.me));
        if known.as_ref().is_some_and(|entry| !entry.dead && entry.seen.is(content.print(at_home))) {
            self.relinked.push((uid, Some(id)));
            return Ok(());
        }
        let stamp = match &known {
            None if self.desk.first => Stamp::without_history(self.desk.me),
            known => self.stamp(known.as_ref().map(|entry| entry.stamp)),
        };
        if self.report.titles.len() < TITLES {
            self.report.titles.extend(content.title());
        }
        self.report.new.add(&shape.name);
        self.leave(shape, uid, Some(id), stamp)
    }

    /// The uid of a row that has none: that of the deleted one that it is, its key, or where another row has that, the key
    /// extended by the content.
    fn choose(&self, shape: &Shape, content: &Content, id: i64) -> Result<(Uid, Option<Known>), RowsError> {
        let (desk, table) = (self.desk, shape.name.as_str());
        if let Some(uid) = search::returned_as(desk, table, id)? {
            return Ok((uid, desk.shadow.by_uid(table, uid)?));
        }
        let key = key(&shape.name, content, &shape.key);
        let mut attempt = 0;
        let mut uid = key;
        loop {
            let known = self.desk.shadow.by_uid(&shape.name, uid)?;
            if !self.taken(shape, uid, known.as_ref())? {
                return Ok((uid, known));
            }
            uid = content::extended(&shape.name, key, content, attempt);
            attempt += 1;
        }
    }

    fn taken(&self, shape: &Shape, uid: Uid, known: Option<&Known>) -> Result<bool, RowsError> {
        if self.relinked.iter().any(|(other, _)| *other == uid)
            || leaves(self.desk, &shape.name, uid)?
            || search::is_back(self.desk, &shape.name, uid)?
        {
            return Ok(true);
        }
        let Some((lid, birth)) = known
            .filter(|known| !known.entry.dead)
            .and_then(|known| Some((known.entry.lid?, known.entry.birth)))
        else {
            return Ok(false);
        };
        let there = one(&self.desk.live.db, shape, lid, |row| row.birth())?;
        Ok(there == Some(birth))
    }

    /// Rows that the shadow knows and the database lacks.
    fn gone(&mut self, shape: &Shape, left: u64) -> Result<(), RowsError> {
        let desk = self.desk;
        let sql = "SELECT count(*) FROM temp.gone WHERE tab = ?1";
        let gone: u64 = desk
            .shadow
            .db
            .prepare_cached(sql)
            .and_then(|mut count| count.query_row([&shape.name], |row| row.get(0)))
            .map_err(ShadowError)?;
        if gone == 0 {
            return Ok(());
        }
        let sql = "SELECT count(*) FROM rows WHERE tab = ?1 AND NOT dead AND lid IS NOT NULL";
        let known: u64 = desk
            .shadow
            .db
            .prepare_cached(sql)
            .and_then(|mut count| count.query_row([&shape.name], |row| row.get(0)))
            .map_err(ShadowError)?;
        if held::in_mass(gone, known, left) && !self.accept && !failpoint::planted("held") {
            held::hold(desk, &shape.name)?;
            self.report.held.add_many(&shape.name, gone);
            return Ok(());
        }
        let mut statement = desk
            .shadow
            .db
            .prepare("SELECT uid FROM temp.gone WHERE tab = ?1 ORDER BY uid")
            .map_err(ShadowError)?;
        let mut rows = statement.query([&shape.name]).map_err(ShadowError)?;
        while let Some(row) = rows.next().map_err(ShadowError)? {
            let uid = row.get(0).map_err(ShadowError)?;
            let stamp = desk.shadow.by_uid(&shape.name, uid)?.map(|known| known.entry.stamp);
            let stamp = self.stamp(stamp);
            self.report.deleted.add(&shape.name);
            self.leave(shape, uid, None, stamp)?;
        }
        Ok(())
    }

    fn stamp(&mut self, old: Option<Stamp>) -> Stamp {
        if failpoint::planted("stamps") {
            return Stamp(self.desk.now_ms, 0, self.desk.me);
        }
        self.clock.stamp(self.desk.now_ms, old, self.desk.me)
    }

    fn leave(&self, shape: &Shape, uid: Uid, lid: Option<i64>, stamp: Stamp) -> Result<(), RowsError> {
        let rank = i64::try_from(shape.rank).unwrap_or(i64::MAX);
        let sql = "INSERT OR REPLACE INTO temp.leaving(tab, uid, lid, rank, ms, counter, writer) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.desk
            .shadow
            .db
            .prepare_cached(sql)
            .and_then(|mut insert| {
                insert.execute(params![shape.name, uid, lid, rank, stamp.0, stamp.1, stamp.2])
            })
            .map_err(ShadowError)?;
        Ok(())
    }
}

/// The highest id that the shadow knows: what a quick scan must not go by, for rows came since it looked.
fn known_high(desk: Desk<'_>, table: &str) -> Result<i64, ShadowError> {
    let sql = "SELECT coalesce(max(lid), 0) FROM rows WHERE tab = ?1";
    Ok(desk.shadow.db.query_row(sql, [table], |row| row.get(0))?)
}

fn leaves(desk: Desk<'_>, table: &str, uid: Uid) -> Result<bool, ShadowError> {
    let sql = "SELECT 1 FROM temp.leaving WHERE uid = ?1 AND tab = ?2";
    Ok(desk.shadow.db.prepare_cached(sql)?.query_row(params![uid, table], |_| Ok(())).optional()?.is_some())
}

fn note_gone(desk: Desk<'_>, lost: &mut Vec<Known>) -> Result<(), RowsError> {
    for known in lost.drain(..).filter(|known| !known.held) {
        let sql = "INSERT OR IGNORE INTO temp.gone VALUES (?1, ?2, ?3)";
        let entry = known.entry;
        desk.shadow
            .db
            .prepare_cached(sql)
            .and_then(|mut insert| insert.execute(params![entry.table, entry.uid, entry.twin]))
            .map_err(ShadowError)?;
    }
    Ok(())
}

fn remove_gone(desk: Desk<'_>, table: &str, uid: Uid) -> Result<(), ShadowError> {
    desk.shadow
        .db
        .prepare_cached("DELETE FROM temp.gone WHERE uid = ?1 AND tab = ?2")?
        .execute(params![uid, table])?;
    Ok(())
}
