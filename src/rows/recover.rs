//! After a crash: was the batch that was arriving committed? One row that only the batch can have made proves all of it.

use super::RowsError;
use super::desk::Desk;
use super::live::Names;
use super::shadow::{Did, Entry, ShadowError};
use super::vectors;
use crate::database::content::Printer;
use crate::database::rows::one;

/// Judges what was arriving, and enters it where it was committed. Without proof it is forgotten, and collected again.
///
/// # Errors
/// See [`RowsError`].
pub fn recover(desk: Desk<'_>) -> Result<(), RowsError> {
    let batch = desk.shadow.arriving()?;
    if batch.is_empty() {
        return Ok(());
    }
    let committed = proved(desk, &batch)?;
    tracing::info!(rows = batch.len(), committed, "rows: a batch was arriving when a run was cut off");
    desk.shadow.transaction(|| {
        for (did, entry) in batch.iter().filter(|_| committed) {
            let known = desk.shadow.by_uid(&entry.table, entry.uid)?;
            if known.is_none_or(|known| known.entry.stamp < entry.stamp) {
                desk.shadow.enter(entry)?;
                vectors::note(desk.shadow, *did, entry)?;
            }
        }
        desk.shadow.db.execute("DELETE FROM arriving", [])?;
        Ok::<_, ShadowError>(())
    })?;
    Ok(())
}

fn proved(desk: Desk<'_>, batch: &[(Did, Entry)]) -> Result<bool, RowsError> {
    let names = Names::new(desk.shadow);
    for (_, entry) in batch {
        if let Some(lid) = entry.lid {
            names.set(&entry.table, lid, entry.uid);
        }
    }
    let resolve = |table: &str, id: i64| names.get(table, id);
    for (did, entry) in batch {
        let (Some(shape), Some(lid)) = (desk.live.shapes.get(&entry.table), entry.lid) else {
            continue;
        };
        let at_home = shape.is_sessions() && entry.home == Some(desk.me);
        let here = one(&desk.live.db, shape, lid, |row| {
            let (bare, print) = row.prints(&resolve, at_home, &mut Printer::default())?;
            Ok((row.birth()?, bare, print))
        })?;
        let Some((birth, bare, print)) = here else {
            continue;
        };
        let before = desk.shadow.by_uid(&entry.table, entry.uid)?;
        let proof = match did {
            Did::New => birth == entry.birth,
            Did::Changed => {
                let says = entry.seen.is(print) || entry.bare == Some(bare.0);
                let said = before.is_some_and(|known| known.entry.seen == entry.seen);
                says && !said
            }
            Did::Nothing | Did::Deleted | Did::Kept => false,
        };
        names.check()?;
        if proof {
            return Ok(true);
        }
    }
    Ok(false)
}
