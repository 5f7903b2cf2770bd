//! Columns that this claude-mem did not have and has now: what was kept beside a row for them goes into the database, before
//! anything is compared. A row that nobody touched meanwhile counts as untouched.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, ToSql};

use super::RowsError;
use super::desk::Desk;
use super::live::Names;
use super::shadow::{Known, Seen, Shadow, ShadowError};
use crate::database::content::{self, Columns, Printer, Uid};
use crate::database::rows::one;
use crate::database::shape::{Shape, Shapes};
use crate::database::tables::quote;

/// The columns that were digested, by table.
pub type ColumnLists = BTreeMap<String, Vec<String>>;

/// The lists of a database.
pub fn lists(shapes: &Shapes) -> ColumnLists {
    shapes
        .all
        .iter()
        .map(|shape| (shape.name.clone(), shape.digested().map(str::to_owned).collect()))
        .collect()
}

/// Whether a column of the old lists is gone: what was in it is lost here, and nobody deleted it.
pub fn any_gone(old: &ColumnLists, shapes: &Shapes) -> bool {
    shapes.all.iter().any(|shape| {
        let old = old.get(&shape.name);
        old.is_some_and(|columns| columns.iter().any(|column| shape.column(column).is_none()))
    })
}

/// Whether anything is kept beside a row.
///
/// # Errors
/// The shadow's.
pub fn any_kept(shadow: &Shadow) -> Result<bool, ShadowError> {
    let sql = "SELECT 1 FROM rows WHERE extra IS NOT NULL AND NOT dead AND lid IS NOT NULL LIMIT 1";
    Ok(shadow.db.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}

/// Fills new columns with what was kept for them.
///
/// # Errors
/// See [`RowsError`].
pub fn unpack(desk: Desk<'_>, old: &ColumnLists) -> Result<(), RowsError> {
    let sql = "SELECT tab, uid FROM rows WHERE extra IS NOT NULL AND NOT dead AND lid IS NOT NULL";
    let kept: Vec<(String, Uid)> = {
        let mut statement = desk.shadow.db.prepare(sql).map_err(ShadowError)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(ShadowError)?;
        rows.collect::<rusqlite::Result<_>>().map_err(ShadowError)?
    };
    for some in kept.chunks(100) {
        let transaction =
            rusqlite::Transaction::new_unchecked(&desk.live.db, rusqlite::TransactionBehavior::Immediate)?;
        for (table, uid) in some {
            let known = desk.shadow.by_uid(table, *uid)?;
            if let (Some(shape), Some(known)) = (desk.live.shapes.get(table), known) {
                fill(desk, shape, &known)?;
            }
        }
        transaction.commit()?;
        desk.shadow.transaction(|| {
            for (table, uid) in some {
                let known = desk.shadow.by_uid(table, *uid)?;
                if let (Some(shape), Some(known)) = (desk.live.shapes.get(table), known) {
                    digest_anew(desk, shape, &known, old)?;
                }
            }
            Ok::<_, RowsError>(())
        })?;
    }
    Ok(())
}

/// What is kept of a row for columns that are there now.
fn fitting(shape: &Shape, known: &Known) -> Columns {
    let extra = known.entry.extra.clone().unwrap_or_default();
    extra.into_iter().filter(|(name, _)| shape.digests(name)).collect()
}

fn fill(desk: Desk<'_>, shape: &Shape, known: &Known) -> Result<(), RowsError> {
    let Some(lid) = known.entry.lid else {
        return Ok(());
    };
    let names = Names::new(desk.shadow);
    let here = one(&desk.live.db, shape, lid, |row| row.content(&|table, id| names.get(table, id)))?;
    let Some(here) = here else {
        return Ok(());
    };
    let mut values = fitting(shape, known);
    values.retain(|name, _| !here.columns.contains_key(name));
    if values.is_empty() {
        return Ok(());
    }
    let sets: Vec<String> = values.keys().map(|name| format!("{} = ?", quote(name))).collect();
    let sql = format!("UPDATE main.{} SET {} WHERE rowid = ?", quote(&shape.name), sets.join(", "));
    let mut bound: Vec<&dyn ToSql> = values.values().map(|value| value as &dyn ToSql).collect();
    bound.push(&lid);
    match desk.live.db.execute(&sql, bound.as_slice()) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(()),
        other => other.map(|_| ()).map_err(RowsError::from),
    }
}

fn digest_anew(desk: Desk<'_>, shape: &Shape, known: &Known, old: &ColumnLists) -> Result<(), RowsError> {
    let fits = fitting(shape, known);
    let (Some(lid), false) = (known.entry.lid, fits.is_empty()) else {
        return Ok(());
    };
    let names = Names::new(desk.shadow);
    let resolve = |table: &str, id: i64| names.get(table, id);
    let had = old.get(&shape.name);
    let counted = |column: &str| had.is_none_or(|list| list.iter().any(|name| name == column));
    let at_home = shape.is_sessions() && known.entry.home == Some(desk.me);
    let looked = one(&desk.live.db, shape, lid, |row| {
        let mut printer = Printer::default();
        let before = row.print_of(&counted, &resolve, &mut printer)?;
        let (bare, print) = row.prints(&resolve, at_home, &mut printer)?;
        Ok((before, bare, print, row.content(&resolve)?))
    })?;
    names.check()?;
    let Some((before, bare, print, content)) = looked else {
        return Ok(());
    };
    let mut entry = known.entry.clone();
    let was = entry.bare.map_or(entry.seen, Seen::Print);
    if entry.seen != Seen::Unknown {
        entry.seen = if was.is(before) { print.into() } else { Seen::Stale };
    }
    if shape.is_sessions() {
        entry.bare = Some(bare.0);
    }
    entry.key = content::key(&shape.name, &content, &shape.key);
    entry.extra = entry.extra.take().map(|mut extra| {
        extra.retain(|name, _| !fits.contains_key(name));
        extra
    });
    entry.extra = entry.extra.filter(|extra| !extra.is_empty());
    entry.keys = vec![known.entry.key];
    desk.shadow.enter(&entry)?;
    Ok(())
}
