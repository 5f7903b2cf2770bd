//! The middle and the end of a run: taking in what is new, finding what changed here, publishing it.

use std::path::Path;

use rusqlite::TransactionBehavior;

use super::ahead::{self, Ahead};
use super::asked;
use super::childless;
use super::desk::{self, Desk};
use super::gather::{self, After, Gathered};
use super::holes;
use super::log::ListedNode;
use super::news::{News, Noted};
use super::outbox::{Emptied, Outbox};
use super::publish;
use super::report::{Collected, NewsNoted, Published, Scanned, TakenIn};
use super::shadow::ShadowError;
use super::{Depth, Guest, Rows, RowsError, arrive, extras, image, intake, news, restored, scan};
use crate::database::files::Fingerprint;
use crate::failpoint;

/// How often what waits is tried again in one run, as long as something came of it.
const ROUNDS: u32 = 3;

impl Rows<'_> {
    pub(super) async fn try_note_news(
        &mut self,
        nodes: Option<Vec<ListedNode>>,
    ) -> Result<NewsNoted, RowsError> {
        let mut report = Collected::default();
        let log = self.log();
        let (me, first, now_ms) = (self.me, self.run.first, self.now_ms());
        let mut news = Box::pin(news::ask(&log, nodes, &self.shadow, (me, first, now_ms))).await?;
        let published: u64 = self.shadow.get("published")?.unwrap_or(0);
        if news.own == 0 && published == 0 && self.shadow.get::<Outbox>("outbox")?.is_none() {
            // Nothing of ours was ever there, so that nothing of it is older than the key.
            log.sealed_anew();
        }
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
        let mut noted = Noted { news, gathered: None, report };
        if any || !self.run.untouched {
            self.open_live()?;
            desk::clear_arrival(&self.shadow)?;
            self.gather(&mut noted).await?;
        }
        self.note(noted)
    }

    pub(super) fn try_note_ahead(&mut self, ahead: Ahead) -> Result<Option<NewsNoted>, RowsError> {
        // A first run reads everything, in order.
        if self.run.first || ahead.is_empty() {
            return Ok(None);
        }
        self.open_live()?;
        desk::clear_arrival(&self.shadow)?;
        let mut report = Collected::default();
        let gathered = gather::gather_ahead(self.desk()?, &self.log(), ahead, &mut report)?;
        self.note(Noted { news: News::default(), gathered: Some(gathered), report }).map(Some)
    }

    fn note(&mut self, noted: Noted) -> Result<NewsNoted, RowsError> {
        let is_anything = noted.gathered.is_some() && !intake::is_empty(self.desk()?)?;
        let waits = noted.gathered.is_some() && self.count_waiting()? > 0;
        let keeps_a_log = !is_anything && !waits || self.keeps_a_log()?;
        self.noted = Some(noted);
        let never = self.shadow.get::<i64>("whole_ms")?.is_none();
        Ok(NewsNoted { is_anything, waits, first: self.run.first, never, keeps_a_log })
    }

    async fn gather(&self, noted: &mut Noted) -> Result<(), RowsError> {
        let (desk, log, report) = (self.desk()?, self.log(), &mut noted.report);
        let after = if self.run.first { After::Everything } else { After::News };
        let mut gathered = Box::pin(gather::gather(desk, &log, &noted.news.listed, after, report)).await?;
        if gathered.absent && !noted.news.is_all() {
            // Folded meanwhile, or a record that ran ahead of its segment: what is there says it.
            noted.news = Box::pin(news::all(&log, self.me)).await?;
            report.refused.clear();
            gathered = Box::pin(gather::gather(desk, &log, &noted.news.listed, after, report)).await?;
        }
        noted.gathered = Some(gathered);
        Ok(())
    }

    pub(super) async fn try_take_in_news(&mut self) -> Result<Collected, RowsError> {
        let Some(Noted { news, gathered, mut report }) = self.noted.take() else {
            return Ok(Collected::default());
        };
        if let Some(gathered) = gathered {
            self.arrive(self.desk()?, &mut report).await?;
            self.keep_gathered(&gathered)?;
            if self.run.first {
                self.unpack_extras()?;
            }
        }
        news.done(&self.shadow, self.now_ms())?;
        report.waiting = self.count_waiting()?;
        Ok(report)
    }

    /// Takes in what was noted and what waits; again, as long as something came of it.
    pub(super) async fn arrive(&self, desk: Desk<'_>, report: &mut Collected) -> Result<(), RowsError> {
        if self.guest == Guest::Away {
            return Ok(());
        }
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

    pub(super) fn count_waiting(&self) -> Result<u64, RowsError> {
        let sql = "SELECT count(*) FROM waiting";
        Ok(self.shadow.db.query_row(sql, [], |row| row.get(0)).map_err(ShadowError)?)
    }

    fn keep_gathered(&self, gathered: &Gathered) -> Result<(), RowsError> {
        self.shadow.transaction(|| {
            self.shadow.set(holes::NAME, &gathered.holes)?;
            let mut heard = Vec::new();
            for (writer, number) in gathered.reached.iter().filter(|(writer, _)| **writer != self.me) {
                if *number > self.shadow.collected(*writer)? {
                    heard.push(*writer);
                }
                self.shadow.set_collected(*writer, *number)?;
            }
            ahead::note(&self.shadow, &heard)
        })?;
        Ok(())
    }

    pub(super) fn try_scan(&mut self) -> Result<Scanned, RowsError> {
        if self.run.untouched && self.live.is_none() {
            return Ok(Scanned { untouched: true, ..Scanned::default() });
        }
        self.run.print = Fingerprint::take(&self.site.database);
        let mut found = self.look_for_changes()?;
        if self.shadow.flag("put_back")? {
            let sql = "INSERT OR IGNORE INTO temp.asked SELECT tab, uid FROM rows WHERE held AND NOT dead";
            found.asks += self.shadow.db.execute(sql, []).map_err(ShadowError)? as u64;
        }
        found.asks += childless::list(self.desk()?)?.len() as u64;
        failpoint::reach("rows.scanned");
        Ok(found)
    }

    fn look_for_changes(&mut self) -> Result<Scanned, RowsError> {
        let desk = self.desk()?;
        // One moment of all tables.
        let moment = rusqlite::Transaction::new_unchecked(&desk.live.db, TransactionBehavior::Deferred)?;
        let highs = desk.live.sequences()?;
        let found = scan::scan(desk, self.run.depth, self.run.accept)?;
        moment.commit()?;
        self.run.highs = highs;
        Ok(found)
    }

    /// Rows of which the log knows better: they are forgotten here, and what the log says of them is taken in. One that vanished
    /// stays known and held until it is back: nothing else would ever ask for it again, when this run dies or a segment
    /// cannot be read.
    pub(super) async fn try_ask(&mut self) -> Result<(), RowsError> {
        childless::remove(self.desk()?)?;
        if !asked::is_any(self.desk()?)? {
            return Ok(());
        }
        self.shadow.transaction(|| {
            let asked = "EXISTS (SELECT 1 FROM temp.asked AS a WHERE a.uid = rows.uid AND a.tab = rows.tab)";
            let forgotten = if failpoint::planted("put back") { "1" } else { "NOT held" };
            let sql = format!(
                "DELETE FROM rows WHERE {forgotten} AND {asked}; UPDATE rows SET ms = -1, counter = 0 WHERE held AND {asked};"
            );
            self.shadow.db.execute_batch(&sql).map_err(ShadowError)
        })?;
        failpoint::reach("rows.asked");
        let log = self.log();
        let listed = gather::list(&log).await?;
        let mut report = Collected::default();
        // As in a first sync; but what arrives is noted, because the next run is none.
        let desk = Desk { first: true, ..self.desk()? };
        Box::pin(gather::gather(desk, &log, &listed, After::Asked, &mut report)).await?;
        self.arrive(desk, &mut report).await?;
        self.shadow.set("put_back", &false)?;
        Ok(())
    }

    pub(super) async fn try_publish(&mut self, scanned: &Scanned) -> Result<Published, RowsError> {
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
        if scanned.asks > 0 {
            // What was not asked is found again, also where nobody writes meanwhile.
            self.run.print = None;
        }
        self.finish_run()?;
        Ok(published)
    }

    pub(super) async fn try_take_image(
        &mut self,
        image: &Path,
        modified_ms: i64,
    ) -> Result<TakenIn, RowsError> {
        self.open_live()?;
        let mut sent = self.publish_image(image, modified_ms).await?;
        if sent == Emptied::Taken {
            self.take_new_writer()?;
            sent = self.publish_image(image, modified_ms).await?;
        }
        let mut report = Collected::default();
        if let Emptied::Sent(..) = sent {
            self.arrive(self.desk()?, &mut report).await?;
        }
        Ok(TakenIn { new: report.new, changed: report.changed })
    }

    async fn publish_image(&self, image: &Path, modified_ms: i64) -> Result<Emptied, RowsError> {
        let (desk, about, log) = (self.desk()?, self.about()?, self.log());
        let (outbox, tool_uses) = (&self.places.outbox, self.site.tool_uses);
        Box::pin(image::publish(desk, &log, &about, outbox, image, modified_ms, tool_uses)).await
    }

    /// Everything that was found is in the bucket: the next scan goes on from here.
    pub(super) fn finish_run(&mut self) -> Result<(), RowsError> {
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
            restored::forget(&self.shadow)?;
            self.keep_print("turn_print")?;
            if self.run.depth == Depth::Whole {
                self.shadow.set("whole_ms", &now_ms)?;
                self.keep_print("whole_print")?;
                self.shadow.set("excluded", &self.site.excluded)?;
            }
            Ok::<_, ShadowError>(())
        })?;
        failpoint::reach("rows.finished");
        self.rest()
    }

    /// What comes next is the archive's, and wants memory of its own.
    fn rest(&self) -> Result<(), RowsError> {
        let scratch = "DELETE FROM temp.leaving; DELETE FROM temp.gone; PRAGMA shrink_memory;";
        self.shadow.db.execute_batch(scratch).map_err(ShadowError)?;
        if let Some(live) = &self.live {
            live.db.execute_batch("PRAGMA shrink_memory")?;
        }
        Ok(())
    }

    /// Notes the state of the files that was scanned.
    fn keep_print(&self, name: &str) -> Result<(), ShadowError> {
        match &self.run.print {
            Some(print) => self.shadow.set(name, print),
            None => self.shadow.unset(name),
        }
    }
}
