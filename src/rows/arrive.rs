//! Takes noted records into claude-mem's database, beside its worker: short transactions with pauses between them, longer
//! ones where nobody else has it open. What is in one of them is written down before it is committed, so that after a crash
//! it can be told whether it was.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::RowsError;
use super::desk::{self, Desk};
use super::inserts;
use super::intake::{self, Queue};
use super::reception::{Outcome, Reception};
use super::record::Record;
use super::report::Collected;
use super::search;
use super::shadow::{Did, ShadowError};
use super::stamp::Stamp;
use super::vectors;
use crate::failpoint;

/// So many records are read ahead, so that nothing has to be read and told apart while the worker waits.
const AHEAD: usize = 200;
/// After so many rows a first sync writes down what it has done.
const LATER: usize = 5000;
/// Titles that a report names.
const TITLES: usize = 20;

/// How much one transaction takes in at most: whoever else wants to write waits for it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slice {
    rows: usize,
    /// Bytes of the records: they are in memory until the transaction ends, but for those of a first sync.
    bytes: usize,
    /// How long it lasts, but for its last statement; `None`: however long.
    time: Option<Duration>,
    /// The turn of the others before the next one.
    pause: Duration,
}

/// Beside a worker, which stands still meanwhile.
const BESIDE: Slice = Slice {
    rows: AHEAD,
    bytes: 4 << 20,
    time: Some(Duration::from_millis(20)),
    pause: Duration::from_millis(25),
};
/// Where nobody else has the database open. A worker that starts just then waits this second, and fails after five.
const ALONE: Slice =
    Slice { rows: 20_000, bytes: 32 << 20, time: Some(Duration::from_secs(1)), pause: Duration::ZERO };
/// The same where all that came has to be kept in memory.
const ALONE_BYTES: usize = 4 << 20;
/// Where a test sets the time: lives of few rows have several transactions too, and nobody waits.
const LIFE: Slice = Slice { rows: 8, bytes: usize::MAX, time: None, pause: Duration::ZERO };

/// A record, and what became of it.
struct Done {
    record: Record,
    line: Vec<u8>,
    outcome: Outcome,
}

/// Takes in everything that was noted.
///
/// # Errors
/// See [`RowsError`]; what was committed stays.
pub async fn arrive(desk: Desk<'_>, report: &mut Collected) -> Result<(), RowsError> {
    if intake::is_empty(desk)? {
        return Ok(());
    }
    desk::index_arrival(desk.shadow)?;
    // As one: each row that is found would make SQLite write the scratch tables' pages once more.
    desk.shadow.transaction(|| search::search(desk))?;
    let mut queue = Queue::default();
    queue.fill(desk, AHEAD)?;
    let mut pace = Pace::default();
    // A first sync that is cut off is a first sync again: it needs no notes, and what it enters may be entered later.
    let (mut later, mut entered) = (None, 0);
    let total = if desk.bars.are_drawn() { intake::count(desk)? } else { 0 };
    let progress = desk.bars.rows("taking in", total);
    while !queue.is_empty() {
        if desk.unnoted && later.is_none() {
            later = Some(desk.shadow.db.unchecked_transaction().map_err(ShadowError)?);
        }
        let (rows, slice) = transaction(desk, &mut queue, &mut pace, report)?;
        progress.add(rows as u64);
        entered += rows;
        queue.fill(desk, AHEAD)?;
        if queue.is_empty() || entered > LATER {
            entered = 0;
            later.take().map_or(Ok(()), rusqlite::Transaction::commit).map_err(ShadowError)?;
        }
        if slice.pause.is_zero() {
            tokio::task::yield_now().await;
        } else if !queue.is_empty() {
            tokio::time::sleep(slice.pause).await;
        }
    }
    progress.done();
    Ok(())
}

/// One transaction; how many records it dealt with, and how much it was allowed.
fn transaction(
    desk: Desk<'_>,
    queue: &mut Queue,
    pace: &mut Pace,
    report: &mut Collected,
) -> Result<(usize, Slice), RowsError> {
    let live = &desk.live.db;
    let transaction = rusqlite::Transaction::new_unchecked(live, rusqlite::TransactionBehavior::Immediate)?;
    let slice = slice(desk);
    desk.live.fit(slice.time == ALONE.time)?;
    pace.within(slice);
    let rest = fill(desk, queue, slice, pace, report)?;
    if !desk.unnoted && !failpoint::planted("arriving") {
        note(desk, &rest.done)?;
    }
    failpoint::reach("rows.arriving");
    transaction.commit()?;
    failpoint::reach("rows.arrived");
    if desk.unnoted {
        enter_all(desk, &rest.done)?;
    } else {
        desk.shadow.transaction(|| {
            enter_all(desk, &rest.done)?;
            desk.shadow.db.execute("DELETE FROM arriving", [])?;
            failpoint::reach("rows.entered");
            Ok::<_, ShadowError>(())
        })?;
    }
    count_all(report, &rest.done);
    Ok((rest.rows, slice))
}

/// How much the transaction that has just begun may take in.
fn slice(desk: Desk<'_>) -> Slice {
    let alone = desk.alone || desk.live.is_ours_alone();
    match (failpoint::set_time().is_some(), alone) {
        (true, _) => LIFE,
        (false, false) => BESIDE,
        (false, true) if desk.unnoted => ALONE,
        (false, true) => Slice { bytes: ALONE_BYTES, ..ALONE },
    }
}

/// What a transaction has done, and has not written down yet.
struct Rest {
    done: Vec<Done>,
    rows: usize,
}

/// Receives records until the slice is full.
fn fill(
    desk: Desk<'_>,
    queue: &mut Queue,
    slice: Slice,
    pace: &mut Pace,
    report: &mut Collected,
) -> Result<Rest, RowsError> {
    let began = Instant::now();
    let mut hand = Reception::new(desk);
    let (mut done, mut held): (Vec<Done>, Vec<usize>) = Default::default();
    let (mut rows, mut bytes) = (0, 0);
    while rows < slice.rows && bytes < slice.bytes && slice.time.is_none_or(|time| began.elapsed() < time) {
        if queue.is_empty() && slice.rows > AHEAD {
            queue.fill(desk, AHEAD)?;
        }
        let Some((record, line)) = queue.next() else {
            break;
        };
        if record.deleted || !hand.inserts.are_of(&record.table) {
            write_held(desk, &mut hand, &mut done, &mut held, report)?;
        }
        let before = hand.inserts.len();
        let outcome = hand.receive(&record, report)?;
        if hand.inserts.len() > before {
            held.push(done.len());
        }
        (rows, bytes) = (rows + 1, bytes + line.len());
        done.push(Done { record, line, outcome });
        if hand.inserts.are_enough(pace.rows) {
            let (count, statement) = (held.len(), Instant::now());
            write_held(desk, &mut hand, &mut done, &mut held, report)?;
            pace.took(count, statement.elapsed());
        }
        // What a first sync has done goes with its transaction, and need not be kept.
        if desk.unnoted && held.is_empty() && done.len() >= AHEAD {
            check(desk, &done, report)?;
            enter_all(desk, &done)?;
            count_all(report, &done);
            done.clear();
        }
    }
    write_held(desk, &mut hand, &mut done, &mut held, report)?;
    hand.names.check()?;
    check(desk, &done, report)?;
    Ok(Rest { done, rows })
}

/// Whether the search index knows the rows that are here now: a claude-mem that was put back to an older release may have
/// left a table without what keeps its index.
fn check(desk: Desk<'_>, done: &[Done], report: &mut Collected) -> Result<(), RowsError> {
    for Done { record, outcome, .. } in done {
        if let Outcome::Entered(Did::New | Did::Changed, entry) = outcome
            && let Some(lid) = entry.lid
            && desk.live.is_indexed(&record.table, lid)? == Some(false)
        {
            report.unindexed.add(&record.table);
        }
    }
    Ok(())
}

/// Writes the rows that are held; where the schema refuses one of them each is received once more, alone.
fn write_held(
    desk: Desk<'_>,
    hand: &mut Reception<'_>,
    done: &mut [Done],
    held: &mut Vec<usize>,
    report: &mut Collected,
) -> Result<(), RowsError> {
    if held.is_empty() {
        return Ok(());
    }
    let held = std::mem::take(held);
    if hand.inserts.write(desk.live)? {
        return Ok(());
    }
    hand.one_by_one = true;
    for at in held {
        let Some(done) = done.get_mut(at) else { continue };
        search::displaced(desk, &done.record.table, done.record.uid)?;
        done.outcome = hand.receive(&done.record, report)?;
    }
    hand.one_by_one = false;
    Ok(())
}

/// How many rows go in by one statement: so many that it takes about a quarter of the slice.
#[derive(Debug)]
struct Pace {
    rows: usize,
    slice: Slice,
}

/// The first statement of an arrival beside a worker; a board writes a row in some milliseconds.
const FIRST_ROWS: usize = 8;
/// In a life.
const LIFE_ROWS: usize = 3;

impl Default for Pace {
    fn default() -> Self {
        Self { rows: FIRST_ROWS, slice: BESIDE }
    }
}

impl Pace {
    /// Somebody came or went: it is found anew.
    fn within(&mut self, slice: Slice) {
        if self.slice.time != slice.time {
            let rows = if slice.time.is_none() { LIFE_ROWS } else { FIRST_ROWS };
            *self = Self { rows, slice };
        }
    }

    /// A statement with `rows` took so long.
    fn took(&mut self, rows: usize, time: Duration) {
        let Some(all) = self.slice.time else { return };
        if time > all / 2 {
            self.rows = (self.rows / 2).max(1);
        } else if time < all / 5 && rows >= self.rows {
            self.rows = (self.rows * 2).min(inserts::ROWS);
        }
    }
}

/// Writes down what is about to be committed.
fn note(desk: Desk<'_>, done: &[Done]) -> Result<(), ShadowError> {
    if !done.iter().any(|done| matches!(done.outcome, Outcome::Entered(..))) {
        return Ok(());
    }
    desk.shadow.transaction(|| {
        for done in done {
            if let Outcome::Entered(did, entry) = &done.outcome {
                desk.shadow.note_arriving(*did, entry)?;
            }
        }
        Ok(())
    })
}

fn enter_all(desk: Desk<'_>, done: &[Done]) -> Result<(), ShadowError> {
    for Done { record, line, outcome } in done {
        enter(desk, record, line, outcome)?;
    }
    Ok(())
}

fn count_all(report: &mut Collected, done: &[Done]) {
    for Done { record, outcome, .. } in done {
        count(report, record, outcome);
    }
}

/// Writes down in the shadow what became of a record.
fn enter(desk: Desk<'_>, record: &Record, line: &[u8], outcome: &Outcome) -> Result<(), ShadowError> {
    let shadow = desk.shadow;
    let (table, uid, Stamp(ms, counter, writer)) = (&record.table, record.uid, record.stamp);
    match outcome {
        Outcome::Entered(did, entry) => {
            shadow.enter(entry)?;
            vectors::note(shadow, *did, entry)?;
        }
        Outcome::Refused => shadow.raise(table, uid, record.stamp)?,
        Outcome::Waits(reason) => {
            shadow
                .db
                .prepare_cached(
                    "INSERT INTO waiting VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(uid, tab) DO UPDATE \
                     SET ms = ?3, counter = ?4, writer = ?5, reason = ?6, record = ?7 WHERE reason <> ?6 OR record <> ?7",
                )?
                .execute(params![table, uid, ms, counter, writer, reason, line])?;
            return Ok(());
        }
        Outcome::Old => {}
    }
    // What waited for this row was no newer: the newest was taken.
    shadow
        .db
        .prepare_cached("DELETE FROM waiting WHERE uid = ?1 AND tab = ?2")?
        .execute(params![uid, table])?;
    Ok(())
}

fn count(report: &mut Collected, record: &Record, outcome: &Outcome) {
    if let Outcome::Entered(did, _) = outcome {
        match did {
            Did::New => {
                report.new.add(&record.table);
                if report.titles.len() < TITLES {
                    report.titles.extend(record.title());
                }
            }
            Did::Changed => report.changed.add(&record.table),
            Did::Deleted => report.deleted.add(&record.table),
            Did::Nothing | Did::Kept => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALONE, BESIDE, LIFE, Pace};
    use std::time::Duration;

    #[test]
    fn statements_grow_as_long_as_they_are_quick() {
        let ms = Duration::from_millis;
        let table = [
            // rows of a full statement, what it took beside a worker → rows of the next one
            (8, 1, 16),
            (8, 5, 8),
            (8, 11, 4),
            (1, 50, 1),
            (400, 1, 512),
            (512, 3, 512),
        ];
        for (rows, took, next) in table {
            let mut pace = Pace { rows, ..Pace::default() };
            pace.took(rows, ms(took));
            assert_eq!(pace.rows, next, "{rows} rows in {took} ms");
            pace.rows = rows;
            pace.took(rows - 1, ms(1));
            assert_eq!(pace.rows, rows, "one that was not full says nothing");
        }
    }

    #[test]
    fn the_pace_is_found_anew_when_somebody_comes() {
        let mut pace = Pace::default();
        pace.within(ALONE);
        pace.took(8, Duration::from_millis(30));
        assert_eq!(pace.rows, 16);
        pace.within(ALONE);
        assert_eq!(pace.rows, 16);
        pace.within(BESIDE);
        assert_eq!(pace.rows, 8);
        pace.within(LIFE);
        pace.took(3, Duration::ZERO);
        assert_eq!(pace.rows, 3, "a life does not look at the clock");
    }
}
