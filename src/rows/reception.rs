//! Receives one record: looks where it wants to go, lets the rules decide what becomes of it, and does that in claude-mem's
//! database, as a part of the transaction at hand. What the shadow is told of it comes later.

use std::borrow::Cow;

use super::RowsError;
use super::compose;
use super::conflict;
use super::desk::Desk;
use super::inserts::Inserts;
use super::live::Names;
use super::record::Record;
use super::report::Collected;
use super::restored;
use super::search;
use super::shadow::{Did, Entry, Known, Mark, Seen};
use super::verdict::{Place, Verdict, decide, decide_restoring};
use super::write::{self, Draft, Manner, Told, Written};
use crate::database::content::{Content, Print, Printer, Uid};
use crate::database::rows::{one, view};
use crate::database::shape::Shape;
use crate::failpoint;

/// The id of a row that the log has and a restored database lacks.
const NOWHERE: i64 = -1;
/// Columns that only ever go from NULL to a value: a value beats NULL, whichever is newer.
const ONLY_SET: [&str; 2] = ["merged_into_project", "custom_title"];

/// What became of one record.
pub enum Outcome {
    /// The shadow is to say this of it.
    Entered(Did, Box<Entry>),
    /// Ours stays.
    Refused,
    /// It waits, for this reason.
    Waits(String),
    /// What is here is as new.
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

/// What the records of one transaction have in common.
pub struct Reception<'r> {
    desk: Desk<'r>,
    /// Which row is which.
    pub names: Names<'r>,
    /// New rows that are not written yet.
    pub inserts: Inserts,
    /// Each row is written at once, so that it is known which one cannot be.
    pub one_by_one: bool,
}

impl<'r> Reception<'r> {
    /// Nothing was received yet.
    pub fn new(desk: Desk<'r>) -> Self {
        Self { desk, names: Names::new(desk.shadow), inserts: Inserts::default(), one_by_one: false }
    }

    /// Receives a record. A new row may be held in `inserts`.
    ///
    /// # Errors
    /// See [`RowsError`].
    pub fn receive(&mut self, record: &Record, report: &mut Collected) -> Result<Outcome, RowsError> {
        take_in(self, record, report)
    }

    /// A row is at this local id.
    fn put_at(&self, shape: &Shape, uid: Uid, lid: i64) -> Result<(), RowsError> {
        search::placed(self.desk, &shape.name, uid, lid)?;
        if shape.is_named {
            self.names.set(&shape.name, lid, uid);
        }
        Ok(())
    }
}

fn take_in(hand: &mut Reception<'_>, record: &Record, report: &mut Collected) -> Result<Outcome, RowsError> {
    let desk = hand.desk;
    let known = desk.shadow.by_uid(&record.table, record.uid)?;
    if known.as_ref().is_some_and(|known| known.entry.stamp >= record.stamp) {
        return Ok(Outcome::Old);
    }
    let Some(shape) = desk.live.shapes.get(&record.table) else {
        return Ok(Outcome::Waits(format!("there is no table {} here", record.table)));
    };
    let alive = known.as_ref().filter(|known| !known.entry.dead);
    let here = look(desk, &hand.names, shape, record, alive)?;
    let place = place(desk, shape, alive, here.as_ref());
    let wanted = record.content.as_ref().map(|content| view(shape, content));
    // A session's state is its home's business, and no difference here.
    let same =
        wanted.as_ref().zip(here.as_ref()).is_some_and(|(wanted, here)| wanted.print(false) == here.bare);
    let (verdict, conflict) = match desk.restoring {
        Some(restoring) => {
            let says = here.as_ref().map(|here| (here.bare, here.print));
            let heard = restored::heard(desk, record, says)?;
            decide_restoring(place, record.deleted, same, restoring, heard)
        }
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
            if let Some(here) = &here {
                search::returns(desk, &shape.name, record.uid, here.lid)?;
            }
            Ok(Outcome::Entered(Did::Nothing, Box::new(dead(record, alive))))
        }
        (Verdict::Note, _) => {
            // No row has such an id: the scan finds it gone.
            let lid = here.map_or(NOWHERE, |here| here.lid);
            hand.put_at(shape, record.uid, lid)?;
            let entry = compose::entry(Some(shape), record, Some(lid), desk.me);
            Ok(Outcome::Entered(Did::Nothing, Box::new(entry)))
        }
        (Verdict::Forget, _) | (_, None) if here.is_none() => {
            Ok(Outcome::Entered(Did::Nothing, Box::new(dead(record, alive))))
        }
        (Verdict::Delete | Verdict::Forget, _) | (_, None) => {
            remove(desk, shape, record, known.as_ref(), here, report)
        }
        (verdict, Some(wanted)) => put(hand, shape, record, verdict, wanted, here.as_ref(), alive),
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
    report: &mut Collected,
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
    if let Some(reason) = write::delete(desk.live, shape, here.lid)? {
        return Ok(Outcome::Waits(reason));
    }
    if desk.live.is_indexed(&shape.name, here.lid)? == Some(true) {
        report.unindexed.add(&shape.name);
    }
    Ok(Outcome::Entered(Did::Deleted, Box::new(dead(record, alive))))
}

fn put(
    hand: &mut Reception<'_>,
    shape: &Shape,
    record: &Record,
    verdict: Verdict,
    mut wanted: Cow<'_, Content>,
    here: Option<&Here>,
    alive: Option<&Known>,
) -> Result<Outcome, RowsError> {
    let desk = hand.desk;
    let mut mark = if verdict == Verdict::Complete { Mark::Filled } else { Mark::None };
    if let Some(here) = here {
        let stays = here.content.columns.iter().filter(|(name, _)| {
            let only_set = ONLY_SET.contains(&name.as_str());
            !wanted.columns.contains_key(*name) && (verdict == Verdict::Complete || only_set)
        });
        let stays: Vec<_> = stays.map(|(name, value)| (name.clone(), value.clone())).collect();
        if !stays.is_empty() {
            mark = Mark::Filled;
            wanted.to_mut().columns.extend(stays);
        }
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
        match write(hand, shape, record, &wanted, here, manner)? {
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
        hand.put_at(shape, record.uid, lid)?;
    }
    let mut entry = compose::entry(Some(shape), record, lid, desk.me);
    entry.mark = mark;
    entry.before = here.filter(|_| verdict == Verdict::Complete).map(|here| here.print.0);
    Ok(Outcome::Entered(did, Box::new(entry)))
}

/// Writes a row, or holds it where it is new. Sessions are what others look up, and are written at once.
fn write(
    hand: &mut Reception<'_>,
    shape: &Shape,
    record: &Record,
    wanted: &Content,
    here: Option<&Here>,
    manner: Manner,
) -> Result<Written, RowsError> {
    let (live, shadow) = (hand.desk.live, hand.desk.shadow);
    let at = here.map(|here| (here.lid, &here.content));
    let draft = Draft { shape, record, content: wanted, at, manner };
    if here.is_some() || hand.one_by_one || shape.is_sessions() {
        return draft.write(live, shadow);
    }
    match draft.tell(live, shadow, Some(&hand.inserts))? {
        Told::Values(values) => Ok(Written::At(hand.inserts.hold(live, &shape.name, values)?)),
        Told::Waits(reason) => Ok(Written::Waits(reason)),
    }
}
