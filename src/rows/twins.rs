//! claude-mem merges observations of one session, title and narrative, once, and keeps the lowest local id: another one on
//! each machine. So that not all of them go everywhere, the smallest uid survives: it takes over the row that stayed, with
//! what the log says of it. This is done before anything is collected: what others did about the same twins would
//! otherwise take away the row that stayed.

use std::collections::HashMap;

use rusqlite::{Transaction, TransactionBehavior, params};

use super::RowsError;
use super::asked;
use super::compose;
use super::desk::{Desk, clear_arrival};
use super::gather::{self, After};
use super::intake::Queue;
use super::live::Names;
use super::log::RowLog;
use super::record::Record;
use super::report::Collected;
use super::shadow::ShadowError;
use super::write::{Draft, Manner, Written};
use crate::database::content::Uid;
use crate::database::rows::{one, view};
use crate::database::shape::Shape;

/// The table.
const TABLE: &str = "observations";

/// One union of twins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The uid that survives, of a row that vanished.
    uid: Uid,
    /// The local id of the row that stayed.
    lid: i64,
    /// The uid that the row had, and that goes.
    other: Uid,
}

/// Lets the uids that have to survive take over the rows that stayed.
///
/// # Errors
/// See [`RowsError`]; the next run does it again.
pub async fn unite(desk: Desk<'_>, log: &RowLog<'_>) -> Result<(), RowsError> {
    let Some(shape) = desk.live.shapes.get(TABLE) else {
        return Ok(());
    };
    list_lost(desk, shape)?;
    let steps: HashMap<Uid, Step> = find(desk)?.into_iter().map(|step| (step.uid, step)).collect();
    if steps.is_empty() {
        return Ok(());
    }
    clear_arrival(desk.shadow)?;
    for uid in steps.keys() {
        asked::note(desk, TABLE, *uid)?;
    }
    let listed = gather::list(log).await?;
    gather::gather(desk, log, &listed, After::Asked, &mut Collected::default()).await?;
    let mut queue = Queue::default();
    loop {
        queue.fill(desk, 100)?;
        let Some((record, _)) = queue.next() else {
            break;
        };
        if let Some(step) = steps.get(&record.uid) {
            take_over(desk, shape, step, &record)?;
        }
    }
    clear_arrival(desk.shadow)?;
    Ok(())
}

/// Whether any uid has to take over a row.
///
/// # Errors
/// See [`RowsError`].
pub fn any(desk: Desk<'_>) -> Result<bool, RowsError> {
    let Some(shape) = desk.live.shapes.get(TABLE) else {
        return Ok(false);
    };
    list_lost(desk, shape)?;
    Ok(!find(desk)?.is_empty())
}

/// Lists the observations that the shadow knows and the database lacks.
fn list_lost(desk: Desk<'_>, shape: &Shape) -> Result<(), RowsError> {
    desk.shadow.db.execute("DELETE FROM temp.gone", []).map_err(ShadowError)?;
    let mut walk = desk.shadow.walk(TABLE, 0)?;
    for known in walk.rows()? {
        let entry = known.map_err(ShadowError)?.entry;
        let there = entry.lid.map_or(Ok(None), |lid| one(&desk.live.db, shape, lid, |_| Ok(())))?;
        if there.is_none() {
            let sql = "INSERT OR IGNORE INTO temp.gone VALUES (?1, ?2, ?3)";
            let mut insert = desk.shadow.db.prepare_cached(sql).map_err(ShadowError)?;
            insert.execute(params![TABLE, entry.uid, entry.twin]).map_err(ShadowError)?;
        }
    }
    Ok(())
}

/// Finds, among the observations that are gone, those whose uid has to survive in a twin that stayed. The others are plain
/// deletions.
fn find(desk: Desk<'_>) -> Result<Vec<Step>, ShadowError> {
    let mut statement = desk.shadow.db.prepare(
        "SELECT g.uid, min(r.lid), r.uid FROM (SELECT min(uid) AS uid, twin FROM temp.gone \
           WHERE tab = 'observations' AND twin IS NOT NULL GROUP BY twin) AS g \
         JOIN rows AS r ON r.tab = 'observations' AND r.twin = g.twin AND r.lid > 0 AND NOT r.dead \
           AND NOT EXISTS (SELECT 1 FROM temp.gone AS o WHERE o.uid = r.uid AND o.tab = r.tab) \
         GROUP BY g.twin ORDER BY 2",
    )?;
    let rows =
        statement.query_map([], |row| Ok(Step { uid: row.get(0)?, lid: row.get(1)?, other: row.get(2)? }))?;
    let steps: Vec<Step> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(steps.into_iter().filter(|step| step.uid < step.other).collect())
}

/// The row that stayed becomes the one of the record. A uid that was deleted meanwhile takes nothing over.
fn take_over(desk: Desk<'_>, shape: &Shape, step: &Step, record: &Record) -> Result<(), RowsError> {
    let Some(content) = &record.content else {
        return Ok(());
    };
    let names = Names::new(desk.shadow);
    let transaction = Transaction::new_unchecked(&desk.live.db, TransactionBehavior::Immediate)?;
    let here = one(&desk.live.db, shape, step.lid, |row| row.content(&|table, id| names.get(table, id)))?;
    names.check()?;
    let Some(here) = here else {
        return Ok(());
    };
    let (wanted, manner) = (view(shape, content), Manner { complete: true, state: false });
    let draft = Draft { shape, record, content: &wanted, at: Some((step.lid, &here)), manner };
    let Written::At(lid) = draft.write(desk.live, desk.shadow)? else {
        return Ok(());
    };
    transaction.commit()?;
    desk.shadow.transaction(|| {
        // No row has such an id: the scan finds the other uid gone.
        desk.shadow.relink(TABLE, step.other, Some(-lid))?;
        desk.shadow.enter(&compose::entry(Some(shape), record, Some(lid), desk.me))
    })?;
    Ok(())
}
