//! Takes noted records into claude-mem's database, beside its worker: short transactions with pauses between them. What is
//! in one of them is written down before it is committed, so that after a crash it can be told whether it was.

use std::time::{Duration, Instant};

use rusqlite::params;

use super::RowsError;
use super::compose;
use super::conflict;
use super::desk::Desk;
use super::intake::{self, Queue};
use super::live::Names;
use super::record::Record;
use super::report::Collected;
use super::search;
use super::shadow::{Did, Entry, Known, Mark, Seen, ShadowError};
use super::stamp::Stamp;
use super::vectors;
use super::verdict::{Place, Verdict, decide, decide_restoring};
use super::write::{self, Manner, Written};
use crate::database::content::{Content, Print, Printer};
use crate::database::rows::{one, view};
use crate::database::shape::Shape;
use crate::failpoint;

/// The most rows, and the longest time, of one transaction: the worker stands still while it lasts.
const ROWS: usize = 200;
const TIME: Duration = Duration::from_millis(20);
/// The most rows where a test sets the time: lives of few rows have several transactions too.
const ROWS_WHERE_TIME_IS_SET: usize = 8;
/// The worker's turn between two.
const PAUSE: Duration = Duration::from_millis(25);
/// The id of a row that the log has and a restored database lacks.
const NOWHERE: i64 = -1;
/// After so many rows a first sync writes down what it has done.
const LATER: usize = 5000;
/// Titles that a report names.
const TITLES: usize = 20;
/// Columns that only ever go from NULL to a value: a value beats NULL, whichever is newer.
const ONLY_SET: [&str; 2] = ["merged_into_project", "custom_title"];

/// What became of one record.
enum Outcome {
    Entered(Did, Box<Entry>),
    Refused,
    Waits(String),
    Old,
}

/// The row where a record wants to go.
struct Here {
    lid: i64,
    content: Content,
    bare: Print,
    print: Print,
    birth: i64,
}

/// Takes in everything that was noted.
///
/// # Errors
/// See [`RowsError`]; what was committed stays.
pub async fn arrive(desk: Desk<'_>, report: &mut Collected) -> Result<(), RowsError> {
    if intake::is_empty(desk)? {
        return Ok(());
    }
    search::search(desk)?;
    let mut queue = Queue::default();
    queue.fill(desk, ROWS)?;
    // A first sync that is cut off is a first sync again: it needs no notes, and what it enters may be entered later.
    let (mut later, mut entered) = (None, 0);
    while !queue.is_empty() {
        if desk.first && later.is_none() {
            later = Some(desk.shadow.db.unchecked_transaction().map_err(ShadowError)?);
        }
        entered += batch(desk, &mut queue, report)?;
        queue.fill(desk, ROWS)?;
        if queue.is_empty() || entered > LATER {
            entered = 0;
            later.take().map_or(Ok(()), rusqlite::Transaction::commit).map_err(ShadowError)?;
        }
        // In a life whose time a test sets nobody waits.
        if !queue.is_empty() && failpoint::set_time().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// One transaction; how many records it dealt with.
fn batch(desk: Desk<'_>, queue: &mut Queue, report: &mut Collected) -> Result<usize, RowsError> {
    let live = &desk.live.db;
    let transaction = rusqlite::Transaction::new_unchecked(live, rusqlite::TransactionBehavior::Immediate)?;
    let (began, mut done) = (Instant::now(), Vec::new());
    let names = Names::new(desk.shadow);
    let set = failpoint::set_time().is_some();
    let rows = if set { ROWS_WHERE_TIME_IS_SET } else { ROWS };
    while done.len() < rows && (set || began.elapsed() < TIME) {
        let Some((record, bytes)) = queue.next() else {
            break;
        };
        let outcome = take_in(desk, &names, &record, report)?;
        done.push((record, bytes, outcome));
    }
    names.check()?;
    if !desk.first && !failpoint::planted("arriving") {
        note(desk, &done)?;
    }
    failpoint::reach("rows.arriving");
    transaction.commit()?;
    failpoint::reach("rows.arrived");
    if desk.first {
        enter_all(desk, &done)?;
    } else {
        desk.shadow.transaction(|| {
            enter_all(desk, &done)?;
            desk.shadow.db.execute("DELETE FROM arriving", [])?;
            failpoint::reach("rows.entered");
            Ok::<_, ShadowError>(())
        })?;
    }
    for (record, _, outcome) in &done {
        count(report, record, outcome);
    }
    Ok(done.len())
}

/// Writes down what is about to be committed.
fn note(desk: Desk<'_>, done: &[(Record, Vec<u8>, Outcome)]) -> Result<(), ShadowError> {
    if !done.iter().any(|(_, _, outcome)| matches!(outcome, Outcome::Entered(..))) {
        return Ok(());
    }
    desk.shadow.transaction(|| {
        for (_, _, outcome) in done {
            if let Outcome::Entered(did, entry) = outcome {
                desk.shadow.note_arriving(*did, entry)?;
            }
        }
        Ok(())
    })
}

fn enter_all(desk: Desk<'_>, done: &[(Record, Vec<u8>, Outcome)]) -> Result<(), ShadowError> {
    for (record, line, outcome) in done {
        enter(desk, record, line, outcome)?;
    }
    Ok(())
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

fn take_in(
    desk: Desk<'_>,
    names: &Names<'_>,
    record: &Record,
    report: &mut Collected,
) -> Result<Outcome, RowsError> {
    let known = desk.shadow.by_uid(&record.table, record.uid)?;
    if known.as_ref().is_some_and(|known| known.entry.stamp >= record.stamp) {
        return Ok(Outcome::Old);
    }
    let Some(shape) = desk.live.shapes.get(&record.table) else {
        return Ok(Outcome::Waits(format!("there is no table {} here", record.table)));
    };
    let alive = known.as_ref().filter(|known| !known.entry.dead);
    let here = look(desk, names, shape, record, alive)?;
    let place = place(desk, shape, alive, here.as_ref());
    let wanted = record.content.as_ref().map(|content| view(shape, content));
    // A session's state is its home's business, and no difference here.
    let same =
        wanted.as_ref().zip(here.as_ref()).is_some_and(|(wanted, here)| wanted.print(false) == here.bare);
    let (verdict, conflict) = match desk.restoring {
        Some(restoring) => (decide_restoring(place, record.deleted, same, restoring), None),
        None => decide(place, record.deleted, same, desk.migrated),
    };
    if let Some(kept) = conflict {
        conflict::keep(
            desk,
            shape,
            record,
            known.as_ref(),
            here.as_ref().map(|here| &here.content),
            kept,
            report,
        )?;
    }
    match (verdict, wanted) {
        (Verdict::Refuse, _) => Ok(Outcome::Refused),
        (Verdict::Note, _) if record.deleted => {
            Ok(Outcome::Entered(Did::Nothing, Box::new(dead(record, alive))))
        }
        (Verdict::Note, _) => {
            // No row has such an id: the scan finds it gone.
            let lid = here.map_or(NOWHERE, |here| here.lid);
            search::placed(desk, &shape.name, record.uid, lid)?;
            names.set(&shape.name, lid, record.uid);
            let entry = compose::entry(Some(shape), record, Some(lid), desk.me);
            Ok(Outcome::Entered(Did::Nothing, Box::new(entry)))
        }
        (Verdict::Forget, _) | (_, None) if here.is_none() => {
            Ok(Outcome::Entered(Did::Nothing, Box::new(dead(record, alive))))
        }
        (Verdict::Delete | Verdict::Forget, _) | (_, None) => {
            remove(desk, shape, record, known.as_ref(), here)
        }
        (verdict, Some(wanted)) => put(desk, names, shape, record, verdict, wanted, here.as_ref(), alive),
    }
}

/// The row where the record wants to go.
fn look(
    desk: Desk<'_>,
    names: &Names<'_>,
    shape: &Shape,
    record: &Record,
    alive: Option<&Known>,
) -> Result<Option<Here>, RowsError> {
    let found = search::place_of(desk, &shape.name, record.uid)?;
    let Some(lid) = alive.and_then(|known| known.entry.lid).or(found) else {
        return Ok(None);
    };
    let at_home = alive.is_some_and(|known| shape.is_sessions() && known.entry.home == Some(desk.me));
    let resolve = |table: &str, id: i64| names.get(table, id);
    let here = one(&desk.live.db, shape, lid, |row| {
        let (bare, print) = row.prints(&resolve, at_home, &mut Printer::default())?;
        Ok(Here { lid, content: row.content(&resolve)?, bare, print, birth: row.birth()? })
    })?;
    let known = alive.filter(|known| known.entry.lid == Some(lid));
    // The id was given to another row.
    Ok(here.filter(|here| known.is_none_or(|known| known.entry.birth == here.birth)))
}

fn place(desk: Desk<'_>, shape: &Shape, alive: Option<&Known>, here: Option<&Here>) -> Place {
    match (alive.map(|known| &known.entry), here) {
        (Some(entry), None) if entry.lid.is_some() && !desk.first => {
            let taken = entry.lid.is_some_and(|lid| is_there(desk, shape, lid));
            if taken { Place::Empty } else { Place::Vanished }
        }
        (_, None) => Place::Empty,
        (None, Some(_)) => Place::Found,
        (Some(entry), Some(here)) => match entry.seen {
            _ if entry.lid != Some(here.lid) => Place::Found,
            Seen::Unknown => Place::Unsure,
            seen if seen.is(here.print) => Place::AsSeen,
            _ if shape.is_sessions() && entry.bare == Some(here.bare.0) => Place::AsSeen,
            // What a first sync made of both is nobody's change.
            _ if entry.mark == Mark::Filled => Place::Unsure,
            _ => Place::Changed,
        },
    }
}

/// Whether any row has this id.
fn is_there(desk: Desk<'_>, shape: &Shape, lid: i64) -> bool {
    matches!(one(&desk.live.db, shape, lid, |_| Ok(())), Ok(Some(())))
}

/// What the shadow says of a deleted row; what the record does not say is as it was.
fn dead(record: &Record, alive: Option<&Known>) -> Entry {
    let mut entry = compose::entry(None, record, None, record.stamp.2);
    if entry.of.is_none() {
        entry.of = alive.and_then(|known| known.entry.of.clone());
    }
    entry
}

fn remove(
    desk: Desk<'_>,
    shape: &Shape,
    record: &Record,
    known: Option<&Known>,
    here: Option<Here>,
) -> Result<Outcome, RowsError> {
    let alive = known.filter(|known| !known.entry.dead);
    let Some(here) = here else {
        return Ok(Outcome::Entered(Did::Nothing, Box::new(dead(record, alive))));
    };
    let hangs = shape.is_sessions()
        && !failpoint::planted("no cascade")
        && compose::has_children(desk.live, here.lid)?;
    if hangs {
        // Somebody recorded in it what the deleter did not know.
        let kept = compose::record(
            shape,
            record.uid,
            record.stamp,
            here.birth,
            here.content,
            alive,
            record.keys.clone(),
            desk.me,
        );
        let mut entry = compose::entry(Some(shape), &kept, Some(here.lid), desk.me);
        entry.mark = Mark::Kept;
        return Ok(Outcome::Entered(Did::Kept, Box::new(entry)));
    }
    match write::delete(desk.live, shape, here.lid)? {
        Some(reason) => Ok(Outcome::Waits(reason)),
        None => Ok(Outcome::Entered(Did::Deleted, Box::new(dead(record, alive)))),
    }
}

#[expect(clippy::too_many_arguments, reason = "a record, its place, and what is known of both")]
fn put(
    desk: Desk<'_>,
    names: &Names<'_>,
    shape: &Shape,
    record: &Record,
    verdict: Verdict,
    mut wanted: Content,
    here: Option<&Here>,
    alive: Option<&Known>,
) -> Result<Outcome, RowsError> {
    let mut mark = if verdict == Verdict::Complete { Mark::Filled } else { Mark::None };
    if let Some(here) = here {
        let stays = here.content.columns.iter().filter(|(name, _)| {
            let only_set = ONLY_SET.contains(&name.as_str());
            !wanted.columns.contains_key(*name) && (verdict == Verdict::Complete || only_set)
        });
        let stays: Vec<_> = stays.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !stays.is_empty() {
            mark = Mark::Filled;
        }
        wanted.columns.extend(stays);
    }
    let at_home = alive.is_some_and(|known| known.entry.home == Some(desk.me));
    let (same, state) = match here {
        None => (false, true),
        Some(here) => (
            wanted.print(false) == here.bare,
            shape.is_sessions() && !at_home && wanted.state != here.content.state,
        ),
    };
    let nameless = here.is_some_and(|here| {
        wanted.carried.keys().any(|name| name != "content_hash" && !here.content.carried.contains_key(name))
    });
    let lid = if same && !state && !nameless {
        here.map(|here| here.lid)
    } else {
        let manner = Manner { complete: verdict != Verdict::Complete, state };
        let at = here.map(|here| (here.lid, &here.content));
        match write::write(desk.live, desk.shadow, shape, record, &wanted, at, manner)? {
            Written::At(lid) => Some(lid),
            Written::Waits(reason) => return Ok(Outcome::Waits(reason)),
        }
    };
    let did = match here {
        None => Did::New,
        Some(_) if same => Did::Nothing,
        Some(_) => Did::Changed,
    };
    if let Some(lid) = lid {
        search::placed(desk, &shape.name, record.uid, lid)?;
        names.set(&shape.name, lid, record.uid);
    }
    let mut entry = compose::entry(Some(shape), record, lid, desk.me);
    entry.mark = mark;
    entry.before = here.filter(|_| verdict == Verdict::Complete).map(|here| here.print.0);
    Ok(Outcome::Entered(did, Box::new(entry)))
}
